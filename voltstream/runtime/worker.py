"""The worker's part of a process: what turns frames into rows, over the in-process log or over Kafka."""

import asyncio
import os
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from typing import Final

import pyarrow as pa

from kit.errors import Unavailable
from kit.live.view import LiveView
from kit.log.kafka import ensure_topic
from kit.log.partitioned_log import InProcessLog
from kit.settings import Settings
from schemas.topics import READINGS_TOPIC
from streams.effects import StepParams
from streams.storage.connections import Connections, open_writer
from streams.storage.schema import check_partitions
from streams.storage.store import Store
from streams.worker.embedded_worker import EmbeddedWorker
from streams.worker.kafka_worker import KafkaSource, KafkaWorker
from streams.worker.live_documents import Allowance
from streams.worker.metrics import WorkerMetrics
from streams.worker.processor import LIVE_SHARE_MAX, Worker
from voltstream.runtime.memory import keep_memory, trim_regularly
from voltstream.runtime.process import Lifespan
from voltstream.runtime.web import Web

# Flushes at once: one computes while another waits for the database, which has as much to do for a row as we have.
THREADS_MAX: Final = 2 * (os.cpu_count() or 1)


@asynccontextmanager
async def running_worker(
    settings: Settings, url: str, log: InProcessLog, live: LiveView, lifespan: Lifespan, web: Web
) -> AsyncIterator[None]:
    """The embedded worker reads `log` within the block; at its end what was appended is committed."""
    # Every 202 waits for its commit: what arrives during one makes the next, nothing is gained by waiting longer.
    async with _open_worker(settings, url, live, web, interval_s=0.0) as worker:
        runner = EmbeddedWorker(log, worker, settings.partitions, retention_days=settings.raw_retention_days)
        running = lifespan.spawn(runner.run(), "worker")
        try:
            yield
        finally:
            await runner.stop()
            await asyncio.wait((running,))


@asynccontextmanager
async def group_member(
    settings: Settings, url: str, live: LiveView, lifespan: Lifespan, web: Web
) -> AsyncIterator[None]:
    """The worker over Kafka is a member of the consumer group within the block."""
    await ensure_topic(settings.kafka_url, READINGS_TOPIC, settings.partitions)
    interval_s = settings.flush_interval_ms / 1_000
    async with _open_worker(settings, url, live, web, interval_s=interval_s) as worker:
        source = KafkaSource(settings.kafka_url, READINGS_TOPIC, settings.data_dir)
        member = KafkaWorker(source, worker, retention_days=settings.raw_retention_days)

        async def check() -> None:
            if not member.partitions:
                raise Unavailable("no partition is assigned: Kafka is away, or there are more workers than partitions")

        web.ready["partitions"] = check
        running = lifespan.spawn(member.run(), "worker")
        try:
            yield
        finally:
            member.stop()
            await asyncio.wait((running,))


@asynccontextmanager
async def _open_worker(
    settings: Settings, url: str, live: LiveView, web: Web, *, interval_s: float
) -> AsyncIterator[Worker]:
    """What the partitions of this process share. Raises ConfigError where the database is not prepared for them."""
    keep_memory()
    pa.set_memory_pool(pa.system_memory_pool())  # its own pools keep as much again of what was freed
    threads = min(THREADS_MAX, settings.partitions)
    # A step's question is asked while its thread holds no other connection; one more is for maintenance.
    connections = Connections(partial(open_writer, url), threads + 1)
    store = Store(connections, priced=True)
    executor = ThreadPoolExecutor(threads, thread_name_prefix="flush")
    trimming = asyncio.create_task(trim_regularly(), name="trim")
    try:
        check_partitions(await asyncio.to_thread(store.partitions), settings.partitions)
        yield Worker(
            store=store,
            live=live,
            live_time=Allowance(web.clock, LIVE_SHARE_MAX),
            clock=web.clock,
            metrics=WorkerMetrics(web.registry),
            executor=executor,
            params=StepParams(
                lateness_ms=settings.lateness_s * 1_000, session_timeout_ms=settings.session_timeout_s * 1_000
            ),
            readings_max=settings.flush_readings_max,
            interval_s=interval_s,
        )
    finally:
        trimming.cancel()
        executor.shutdown(wait=False, cancel_futures=True)
        connections.close()
