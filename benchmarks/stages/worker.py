"""Hypothesis: a committed reading costs what PostgreSQL needs to COPY it (~1.5 us of one core) and as much again in
Python and numpy, on two cores side by side; windows, sessions and state are paid once a flush, not once a reading.

Measured: `voltstream worker` (Faust, real Kafka, real PostgreSQL, Redis) drains a prefilled topic: frames of 1,000,
a reading per second of each of 10,000 connectors, 4 partitions. Sessions are open before the clock starts.
Readings per second from the first to the last commit: raw rows, 1-minute windows, sessions, state, offsets, outbox,
ledger. Limit: the same rows, already encoded, by as many connections into the same, empty table. Rival: stock Faust
with a windowed table that counts and sums reading by reading (benchmarks/rivals/stock_faust.py).
"""

import asyncio
from collections.abc import Iterator
from typing import Final

from benchmarks.bare_copy import bare_copy
from benchmarks.committed import check_rows, drain
from benchmarks.processes import CpuMeter, format_times, metric, running
from benchmarks.readings import FrameGenerator
from benchmarks.report import Result, phase
from benchmarks.rivals.stock_faust import measure as measure_stock_faust
from benchmarks.run import PARTITIONS, BenchmarkRun
from ingest.bridge import PREFETCH
from ingest.forwarding import RECORD_BYTES_MAX
from kit.clock import SystemClock
from kit.log.kafka import idempotent_producer
from schemas.frame import join_frames
from schemas.topics import READINGS_TOPIC

CONNECTORS, CONNECTORS_QUICK = 10_000, 400
SECONDS, SECONDS_QUICK = 300, 30
STOCK_READINGS, STOCK_READINGS_QUICK = 60_000, 2_000
_BEFORE_S: Final = 60  # the last reading's age: no clock skew, no session time-out
_SECONDS_AT_ONCE: Final = 10  # encoded at once: 100 k readings, 10 MB


def run(bench: BenchmarkRun) -> list[Result]:
    """The `worker` stage."""
    connectors, seconds = bench.pick(CONNECTORS, CONNECTORS_QUICK), bench.pick(SECONDS, SECONDS_QUICK)
    start_ms = SystemClock().now_ms() - (seconds + _BEFORE_S) * 1_000
    generators = [
        FrameGenerator(connectors // PARTITIONS, partition, start_ms=start_ms) for partition in range(PARTITIONS)
    ]
    with bench.database() as url:
        kafka = bench.fresh_log()
        environment = bench.environment(url)
        asyncio.run(produce(kafka, generators, 1))
        with running("voltstream", "worker", "--json", "--port", "0", environment=environment):
            drain(url, connectors)  # slots and sessions open once
        with phase(bench.console, "worker: filling Kafka"):
            asyncio.run(produce(kafka, generators, seconds))
        with (
            phase(bench.console, "worker: draining"),
            running("voltstream", "worker", "--json", "--port", "0", environment=environment) as worker,
        ):
            meter = CpuMeter({"worker": worker.pid, **bench.pids("postgres", "kafka", "redis")})
            rate = drain(url, connectors * (seconds + 1))
            spent_s = meter.spent_s()
            flushes = metric(worker, "streams_flush_seconds_count", stage="commit")
            windows = metric(worker, "streams_windows_merged_total")
        check_rows(url, connectors * (seconds + 1))
        with phase(bench.console, "worker: bare COPY"):
            bare = bare_copy(bench, url)
    with phase(bench.console, "worker: stock Faust"):
        stock = measure_stock_faust(kafka, bench.pick(STOCK_READINGS, STOCK_READINGS_QUICK))
    per_core = connectors * seconds / sum(spent_s.values())
    note = (
        f"{flushes:.0f} flushes of {windows / flushes:.0f} windows; processor seconds: {format_times(spent_s)}; "
        f"{per_core / 1e3:.0f} k readings/s of all processor time spent"
    )
    return [
        Result("worker: Kafka to committed", rate, "readings/s", 300e3, note=note)
        .compare("bare COPY of the same rows", bare)
        .compare("stock Faust, windowed count and sum", stock)
    ]


async def produce(kafka: str, generators: list[FrameGenerator], seconds: int) -> None:
    """Send `seconds` of the generators to Kafka, each to its partition, in order of time."""
    producer = idempotent_producer(kafka, linger_ms=5)
    await producer.start()
    try:
        for start in range(0, seconds, _SECONDS_AT_ONCE):
            for generator in generators:
                for record in _records(generator.encoded(min(_SECONDS_AT_ONCE, seconds - start))):
                    await producer.send(READINGS_TOPIC, record, partition=generator.partition)
        await producer.flush()
    finally:
        await producer.stop()


def _records(frames: Iterator[bytes]) -> Iterator[bytes]:
    """Small frames share records, as the bridge has them do with PREFETCH of them waiting."""
    waiting: list[bytes] = []
    for frame in frames:
        if waiting and (len(waiting) == PREFETCH or sum(map(len, waiting)) + len(frame) > RECORD_BYTES_MAX):
            yield join_frames(waiting)
            waiting = []
        waiting.append(frame)
    if waiting:
        yield join_frames(waiting)
