"""A Faust worker as a process of its own, with five arguments: database URL, Kafka, topic, group, folder."""

import asyncio
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from prometheus_client import CollectorRegistry

from kit.clock import SystemClock
from kit.live.audience import Audience
from kit.live.view import InProcessLive
from kit.observability.logs import setup_logging
from streams.effects import StepParams
from streams.storage.connections import Connections, open_writer
from streams.storage.store import Store
from streams.worker.kafka_worker import KafkaSource, KafkaWorker
from streams.worker.live_documents import CpuBudget
from streams.worker.metrics import WorkerMetrics
from streams.worker.processor import WorkerContext


def make_worker(url: str, executor: ThreadPoolExecutor) -> WorkerContext:
    """On the real clock, with the real step."""
    return WorkerContext(
        store=Store(Connections(partial(open_writer, url), 4)),
        live=InProcessLive(),
        audience=Audience(),
        live_budget=CpuBudget(SystemClock(), 1.0),
        clock=SystemClock(),
        metrics=WorkerMetrics(CollectorRegistry()),
        executor=executor,
        params=StepParams,
        readings_max=10_000,
        interval_s=0.02,
        interval_unwatched_s=0.0,
    )


async def main(url: str, kafka: str, topic: str, group: str, folder: str) -> None:
    """Until SIGTERM."""
    setup_logging("second", "info")
    with ThreadPoolExecutor(2) as executor:
        worker = KafkaWorker(KafkaSource(kafka, topic, Path(folder), group), make_worker(url, executor))
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, worker.stop)
        await worker.run()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
