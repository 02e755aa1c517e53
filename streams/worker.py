"""Putting a worker together from the settings."""

import os
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from typing import Final

from prometheus_client import CollectorRegistry

from kit.clock import Clock, SystemClock
from kit.live import LiveView
from kit.settings import Settings
from schemas.topics import READINGS_TOPIC
from streams.agents import FaustWorker, KafkaSource
from streams.connections import Connections, open_writer
from streams.effects import StepParams
from streams.metrics import WorkerMetrics
from streams.processor import Worker
from streams.storage import check_partitions
from streams.store import Store

# Flushes at once: one computes while another waits for the database, which has as much to do for a row as we have.
THREADS_MAX: Final = 2 * (os.cpu_count() or 1)


@asynccontextmanager
async def open_worker(
    settings: Settings,
    database_url: str,
    live: LiveView,
    registry: CollectorRegistry,
    *,
    clock: Clock | None = None,
    interval_s: float | None = None,
) -> AsyncIterator[Worker]:
    """What processors share, until the end of the block. `interval_s`: by default the settings' flush interval.

    Raises ConfigError where the database is not prepared for `settings.partitions`, Unavailable.
    """
    threads = min(THREADS_MAX, settings.partitions)
    # A step's question is asked while its thread holds no other connection; one more is for maintenance.
    connections = Connections(partial(open_writer, database_url), threads + 1)
    store = Store(connections)
    executor = ThreadPoolExecutor(threads, thread_name_prefix="flush")
    try:
        check_partitions(store.partitions(), settings.partitions)
        yield Worker(
            store=store,
            live=live,
            clock=clock or SystemClock(),
            metrics=WorkerMetrics(registry),
            executor=executor,
            params=StepParams(
                lateness_ms=settings.lateness_s * 1_000, session_timeout_ms=settings.session_timeout_s * 1_000
            ),
            readings_max=settings.flush_readings_max,
            interval_s=settings.flush_interval_ms / 1_000 if interval_s is None else interval_s,
        )
    finally:
        executor.shutdown(wait=False, cancel_futures=True)
        connections.close()


def faust_worker(settings: Settings, worker: Worker) -> FaustWorker:
    """The distributed run's worker: `run()` it, `stop()` it."""
    return FaustWorker(KafkaSource(settings.kafka_url, READINGS_TOPIC, settings.data_dir), worker)
