"""Hypothesis: where little waits, a flush costs what is fixed about it: some hundred numpy calls of the step, a dozen
statements in one pipeline, a patch of the state. That should be a few milliseconds of all processes.

Measured: one partition with 5,000 known connectors, sessions open; flushes of 1 to 1,000 readings, each of another
connector, one after the other: decode, step, patch, the transaction, and the live documents of an operator who looks.
Processor time of this process and of PostgreSQL together. Limit: the same process committing a transaction that stores
as many bare rows by COPY and nothing else.
"""

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Final

import psycopg
from prometheus_client import CollectorRegistry

from benchmarks.processes import TimeMeter
from benchmarks.readings import FrameGenerator
from benchmarks.report import Result, phase
from benchmarks.run import BenchmarkRun
from kit.clock import SystemClock
from kit.live.audience import Audience
from kit.live.view import InProcessLive
from kit.memory_tuning import tune_malloc
from streams.effects import StepParams
from streams.storage.connections import Connections, open_writer
from streams.storage.store import Store
from streams.worker.live_documents import CpuBudget
from streams.worker.metrics import WorkerMetrics
from streams.worker.processor import PartitionProcessor, WorkerContext

CONNECTORS, CONNECTORS_QUICK = 5_000, 200
SIZES: Final = (1, 16, 100, 1_000)
FLUSHES, FLUSHES_QUICK = 200, 3
TARGET_MS: Final = 3.0  # of a flush of 16
_BEFORE_S: Final = 600


def run(bench: BenchmarkRun) -> list[Result]:
    """The `flush` stage."""
    tune_malloc()
    connectors, flushes = bench.pick(CONNECTORS, CONNECTORS_QUICK), bench.pick(FLUSHES, FLUSHES_QUICK)
    with bench.database() as url, _context(url) as context:
        spent = asyncio.run(_measure(bench, context, url, connectors, flushes))
    return [
        Result(
            f"flush of {size} readings: processor time",
            own_ms + others_ms,
            "ms",
            TARGET_MS if size == 16 else None,
            higher_is_better=False,
            note=f"{own_ms:.2f} ms of the worker, {others_ms:.2f} of PostgreSQL",
        ).compare("a transaction of as many bare rows", bare_ms)
        for size, (own_ms, others_ms, bare_ms) in spent.items()
    ]


@contextmanager
def _context(url: str) -> Iterator[WorkerContext]:
    connections = Connections(partial(open_writer, url), 3)
    clock = SystemClock()
    with ThreadPoolExecutor(1) as executor:
        yield WorkerContext(
            store=Store(connections, priced=True, registered=True),
            live=InProcessLive(),
            audience=Audience(),
            live_budget=CpuBudget(clock, 1.0),
            clock=clock,
            metrics=WorkerMetrics(CollectorRegistry()),
            executor=executor,
            params=StepParams,
            readings_max=100_000,
            interval_s=0.0,
            interval_unwatched_s=0.0,
        )
    connections.close()


async def _measure(
    bench: BenchmarkRun, context: WorkerContext, url: str, connectors: int, flushes: int
) -> dict[int, tuple[float, float, float]]:
    """By readings: ms of this process, of PostgreSQL, and of both for bare rows."""
    processor = PartitionProcessor(0, context)
    await processor.acquire()
    start_ms = context.clock.now_ms() - _BEFORE_S * 1_000
    generator = FrameGenerator(connectors, 0, start_ms=start_ms)
    offset = 0
    spent: dict[int, tuple[float, float, float]] = {}
    for size in (connectors, *SIZES):
        generator.frame_readings = size
        with phase(bench.console, f"flush: {size} readings"):
            rounds = -(-flushes * size // connectors)
            frames = list(generator.encoded(1 if size == connectors else rounds))[:flushes]
            meter = TimeMeter(bench.pids("postgres"))
            for frame in frames:
                processor.offer(offset, frame)
                offset += 1
                await processor.flush()
                context.audience.looked()
                await processor.publish()
            time = meter.end()
            bare_ms = _bare_ms(bench, url, size, len(frames))
            spent[size] = (time.own_s / len(frames) * 1e3, time.others_s / len(frames) * 1e3, bare_ms)
    await processor.release()
    del spent[connectors]
    return spent


def _bare_ms(bench: BenchmarkRun, url: str, size: int, flushes: int) -> float:
    """Processor time of a transaction that stores `size` readings and nothing else, in ms."""
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TEMP TABLE bare (LIKE telemetry.reading)")
        copy = "COPY (SELECT * FROM telemetry.reading LIMIT %s) TO STDOUT (FORMAT binary)"
        with connection.cursor() as cursor, cursor.copy(copy, (size,)) as source:
            rows = b"".join(bytes(part) for part in source)
        connection.commit()
        meter = TimeMeter(bench.pids("postgres"))
        for _ in range(flushes):
            with connection.cursor() as cursor, cursor.copy("COPY bare FROM STDIN (FORMAT binary)") as target:
                target.write(rows)
            connection.commit()
        time = meter.end()
    return (time.own_s + time.others_s) / flushes * 1e3
