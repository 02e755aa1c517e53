"""A Faust worker as a process of its own, with five arguments: database URL, Kafka, topic, group, folder."""

import asyncio
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from prometheus_client import CollectorRegistry

from kit.clock import SystemClock
from kit.live import InProcessLive
from kit.observability import setup_logging
from streams.agents import FaustWorker, KafkaSource
from streams.allowance import Allowance
from streams.connections import Connections, open_writer
from streams.effects import StepParams
from streams.metrics import WorkerMetrics
from streams.processor import Worker
from streams.store import Store


def make_worker(url: str, executor: ThreadPoolExecutor) -> Worker:
    """On the real clock, with the real step."""
    return Worker(
        store=Store(Connections(partial(open_writer, url), 4)),
        live=InProcessLive(),
        live_time=Allowance(SystemClock(), 1.0),
        clock=SystemClock(),
        metrics=WorkerMetrics(CollectorRegistry()),
        executor=executor,
        params=StepParams(),
        readings_max=10_000,
        interval_s=0.02,
    )


async def main(url: str, kafka: str, topic: str, group: str, folder: str) -> None:
    """Until SIGTERM."""
    setup_logging("second", "info")
    with ThreadPoolExecutor(2) as executor:
        worker = FaustWorker(KafkaSource(kafka, topic, Path(folder), group), make_worker(url, executor))
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, worker.stop)
        await worker.run()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
