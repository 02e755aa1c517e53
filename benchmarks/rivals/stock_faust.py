"""Stock faust-streaming, as in its manual: one JSON message per reading, an agent, a table with one-minute windows that
counts readings and sums power. In-memory store; no dedupe, flags, sessions, raw rows or database.

`python -m benchmarks.rivals.stock_faust KAFKA READINGS TOPIC` consumes the topic and prints {"readings_per_s"}.
"""

import asyncio
import json
import sys
import tempfile
import time
from typing import Any, Final
from uuid import uuid4

import faust

from benchmarks.rivals.messages import PARTITIONS, create_topics, fill
from benchmarks.rivals.rate import rate_of

WINDOW_S: Final = 60


class Reading(faust.Record, serializer="json"):
    """A reading as its JSON message has it."""

    station_id: str
    connector_id: int
    session_id: str
    seq: int
    ts: float
    energy_wh: float
    power_w: float
    voltage_v: float
    current_a: float
    status: str


def measure(kafka: str, readings: int) -> float:
    """Readings per second of one worker process. Raises CalledProcessError."""
    topic = f"stock-{uuid4().hex[:8]}"
    asyncio.run(fill(kafka, topic, readings))
    asyncio.run(create_topics(kafka, changelog(topic)))
    return rate_of("stock_faust", kafka, str(readings), topic)


def changelog(topic: str) -> str:
    """The topic with every change of its table."""
    return f"{topic}-app-power-changelog"


def main(kafka: str, readings: int, topic: str) -> None:
    """Count and sum until all readings are consumed."""
    with tempfile.TemporaryDirectory() as folder:
        app = faust.App(
            f"{topic}-app", broker=f"aiokafka://{kafka}", store="memory://", web_enabled=False, datadir=folder,
            topic_allow_declare=False, topic_disable_leader=True, topic_partitions=PARTITIONS,
            consumer_auto_offset_reset="earliest",
        )  # fmt: skip
        source = app.topic(topic, value_type=Reading)
        table = (
            app.Table("power", default=float, partitions=PARTITIONS).tumbling(WINDOW_S).relative_to_field(Reading.ts)  # type: ignore[arg-type]  # on the class it is a descriptor
        )
        seen = {"count": 0, "began_s": 0.0}

        async def count(stream: Any) -> None:
            async for reading in stream:
                key = f"{reading.station_id}/{reading.connector_id}"
                table[f"{key}/n"] += 1
                table[f"{key}/sum"] += reading.power_w
                seen["began_s"] = seen["began_s"] or time.perf_counter()
                seen["count"] += 1
                if seen["count"] == readings:
                    rate = readings / (time.perf_counter() - seen["began_s"])
                    print(json.dumps({"readings_per_s": rate}), flush=True)
                    done.set()

        done = asyncio.Event()
        app.agent(source)(count)

        async def work() -> None:
            app.finalize()
            await app.start()
            await done.wait()
            await app.stop()

        asyncio.run(work())


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
