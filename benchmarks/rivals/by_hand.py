"""A loop written by hand: what a good engineer writes in an afternoon. One JSON message a reading, raw rows and
one-minute windows, exactly once by offsets in the same transaction. No dedupe, flags, sessions, money or state.

`python -m benchmarks.rivals.by_hand KAFKA DATABASE READINGS TOPIC` consumes the topic and prints {"readings_per_s"}.
"""

import asyncio
import json
import sys
import time
from collections.abc import Iterable
from typing import Final
from uuid import uuid4

import asyncpg
import msgspec
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from benchmarks.rivals.messages import PARTITIONS, fill
from benchmarks.rivals.rate import rate_of

_MESSAGES_MAX: Final = 20_000  # of one transaction
_TABLES: Final = """
CREATE TABLE IF NOT EXISTS reading (station_id text, connector_id int2, session_id text, seq int8, ts float8,
    energy_wh float8, power_w float8, voltage_v float8, current_a float8, status text);
CREATE TABLE IF NOT EXISTS window_1m (station_id text, connector_id int2, minute int8, readings int8, power_w float8,
    PRIMARY KEY (station_id, connector_id, minute));
CREATE TABLE IF NOT EXISTS position (partition int PRIMARY KEY, next int8);
"""
_WINDOWS: Final = """
INSERT INTO window_1m SELECT * FROM unnest($1::text[], $2::int2[], $3::int8[], $4::int8[], $5::float8[])
ON CONFLICT (station_id, connector_id, minute) DO UPDATE
SET readings = window_1m.readings + excluded.readings, power_w = window_1m.power_w + excluded.power_w
"""
_POSITIONS: Final = """
INSERT INTO position SELECT * FROM unnest($1::int[], $2::int8[])
ON CONFLICT (partition) DO UPDATE SET next = excluded.next
"""


class Reading(msgspec.Struct, gc=False):
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


def measure(kafka: str, database: str, readings: int) -> float:
    """Readings per second of one process, into this empty database. Raises CalledProcessError."""
    topic = f"by-hand-{uuid4().hex[:8]}"
    asyncio.run(fill(kafka, topic, readings))
    return rate_of("by_hand", kafka, database, str(readings), topic)


async def work(kafka: str, database: str, readings: int, topic: str) -> float:
    """Store the topic's readings; readings per second after the first transaction."""
    connection = await asyncpg.connect(database)
    await connection.execute(_TABLES)
    consumer = AIOKafkaConsumer(bootstrap_servers=kafka, enable_auto_commit=False, auto_offset_reset="earliest")
    await consumer.start()
    consumer.assign([TopicPartition(topic, partition) for partition in range(PARTITIONS)])
    stored = first = 0
    for row in await connection.fetch("SELECT partition, next FROM position"):
        consumer.seek(TopicPartition(topic, row["partition"]), row["next"])
        stored += row["next"]
    began_s = time.perf_counter()
    while stored < readings:
        batches = await consumer.getmany(timeout_ms=200, max_records=_MESSAGES_MAX)
        if not batches:
            continue
        stored += await store(connection, batches)
        if not first:
            first, began_s = stored, time.perf_counter()
    rate = (stored - first) / (time.perf_counter() - began_s)
    await consumer.stop()
    await connection.close()
    return rate


async def store(
    connection: "asyncpg.Connection[asyncpg.Record]", batches: dict[TopicPartition, list[ConsumerRecord]]
) -> int:
    """Raw rows, windows and offsets of these messages in one transaction; how many they are."""
    decode = msgspec.json.Decoder(Reading).decode
    found = [decode(message.value) for messages in batches.values() for message in messages]
    ends = [(partition.partition, messages[-1].offset + 1) for partition, messages in batches.items()]
    async with connection.transaction():
        await connection.copy_records_to_table("reading", records=map(msgspec.structs.astuple, found))
        await connection.execute(_WINDOWS, *zip(*windows(found), strict=True))
        await connection.execute(_POSITIONS, *zip(*ends, strict=True))
    return len(found)


def windows(found: Iterable[Reading]) -> list[tuple[str, int, int, int, float]]:
    """Number of readings and sum of power by connector and minute."""
    sums: dict[tuple[str, int, int], list[float]] = {}
    for reading in found:
        key = (reading.station_id, reading.connector_id, int(reading.ts) // 60)
        window = sums.get(key)
        if window is None:
            window = sums[key] = [0, 0.0]
        window[0] += 1
        window[1] += reading.power_w
    return [(*key, int(count), power_w) for key, (count, power_w) in sums.items()]


if __name__ == "__main__":
    per_s = asyncio.run(work(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]))
    print(json.dumps({"readings_per_s": per_s}))
