"""The worker's part: what turns frames into rows, in this process, over the in-process log or over Kafka."""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager

from kit.live import LiveView
from kit.log import InProcessLog
from kit.settings import Settings
from streams.connections import Connections, open_writer
from streams.effects import StepParams
from streams.metrics import WorkerMetrics
from streams.processor import Worker
from streams.runner import Runner
from streams.store import Store
from voltstream.process import Life
from voltstream.web import Web

_CONNECTIONS_BESIDE: int = 2  # those of flushes: one for maintenance, one for taking a partition over


@asynccontextmanager
async def open_runner(
    settings: Settings, url: str, log: InProcessLog, live: LiveView, life: Life, web: Web
) -> AsyncIterator[None]:
    """The embedded worker, reading `log` within the block; at its end what was appended is committed."""
    # Every 202 waits for its commit: what arrives during one makes the next, nothing is gained by waiting longer.
    with _worker(settings, url, live, web, interval_s=0.0) as worker:
        runner = Runner(log, worker, settings.partitions, retention_days=settings.raw_retention_days)
        running = life.spawn(runner.run(), "worker")
        try:
            yield
        finally:
            await runner.stop()
            await asyncio.wait((running,))


@contextmanager
def _worker(settings: Settings, url: str, live: LiveView, web: Web, *, interval_s: float) -> Iterator[Worker]:
    """What the partitions of this process share."""
    threads = min(settings.partitions, os.cpu_count() or 1)
    connections = Connections(lambda: open_writer(url), threads + _CONNECTIONS_BESIDE)
    executor = ThreadPoolExecutor(threads, thread_name_prefix="flush")
    try:
        yield Worker(
            store=Store(connections),
            live=live,
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
        executor.shutdown()
        connections.close()


@asynccontextmanager
async def open_worker(settings: Settings, url: str, live: LiveView, life: Life, web: Web) -> AsyncIterator[None]:
    """The worker over Kafka, a member of the group within the block."""
    raise NotImplementedError
    yield
