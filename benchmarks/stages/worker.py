"""Hypothesis: a committed reading costs what PostgreSQL needs to COPY it (~1.5 us of one core) and as much again in
Python and numpy, on two cores side by side; windows, sessions and state are paid once a flush, not once a reading.

Measured: `voltstream worker` (Faust, real Kafka, real PostgreSQL, Redis) drains a prefilled topic: frames of 1,000,
each of 10,000 connectors says something once a second, 4 partitions. Sessions are open before the clock starts.
Readings a second from the first to the last commit: raw rows, 1-minute windows, sessions, state, offsets, outbox,
ledger. Limit: the same rows, ready encoded, by as many connections into an equal empty table. Rival: stock Faust with a
windowed table that counts and sums reading by reading (benchmarks/rivals/stock_faust.py).
"""

import asyncio
from typing import Final

from benchmarks.bare_copy import bare_copy
from benchmarks.committed import check_rows, drain
from benchmarks.processes import CpuMeter, metric, running, told
from benchmarks.readings import Fleet
from benchmarks.report import Result, phase
from benchmarks.rivals.stock_faust import measure as measure_stock_faust
from benchmarks.session import PARTITIONS, Session
from kit.clock import SystemClock
from kit.log.kafka import idempotent_producer
from schemas.topics import READINGS_TOPIC

CONNECTORS, CONNECTORS_QUICK = 10_000, 400
SECONDS, SECONDS_QUICK = 300, 30
STOCK_READINGS, STOCK_READINGS_QUICK = 60_000, 2_000
_BEFORE_S: Final = 60  # the last reading's age: no clock runs ahead, no session has timed out
_SECONDS_AT_ONCE: Final = 10  # encoded at once: 100 k readings, 10 MB


def run(session: Session) -> list[Result]:
    """The worker's stage."""
    connectors, seconds = session.pick(CONNECTORS, CONNECTORS_QUICK), session.pick(SECONDS, SECONDS_QUICK)
    start_ms = SystemClock().now_ms() - (seconds + _BEFORE_S) * 1_000
    fleets = [Fleet(connectors // PARTITIONS, partition, start_ms=start_ms) for partition in range(PARTITIONS)]
    with session.database() as url:
        kafka = session.fresh_log()
        environment = session.environment(url)
        asyncio.run(produce(kafka, fleets, 1))
        with running("voltstream", "worker", "--json", "--port", "0", environment=environment):
            drain(url, connectors)  # slots and sessions open once
        with phase(session.console, "worker: filling Kafka"):
            asyncio.run(produce(kafka, fleets, seconds))
        with (
            phase(session.console, "worker: draining"),
            running("voltstream", "worker", "--json", "--port", "0", environment=environment) as worker,
        ):
            meter = CpuMeter({"worker": worker.pid, **session.pids("postgres", "kafka", "redis")})
            rate = drain(url, connectors * (seconds + 1))
            spent_s = meter.spent_s()
            flushes = metric(worker, "streams_flush_seconds_count", stage="commit")
            windows = metric(worker, "streams_windows_merged_total")
        check_rows(url, connectors * (seconds + 1))
        with phase(session.console, "worker: bare COPY"):
            bare = bare_copy(session, url)
    with phase(session.console, "worker: stock Faust"):
        stock = measure_stock_faust(kafka, session.pick(STOCK_READINGS, STOCK_READINGS_QUICK))
    per_core = connectors * seconds / sum(spent_s.values())
    note = (
        f"{flushes:.0f} flushes of {windows / flushes:.0f} windows; processor seconds: {told(spent_s)}; "
        f"{per_core / 1e3:.0f} k readings/s of all processor time spent"
    )
    return [
        Result("worker: Kafka to committed", rate, "readings/s", 300e3, note=note)
        .compare("bare COPY of the same rows", bare)
        .compare("stock Faust, windowed count and sum", stock)
    ]


async def produce(kafka: str, fleets: list[Fleet], seconds: int) -> None:
    """`seconds` of the fleets into Kafka, each fleet into its partition, a second after the other."""
    producer = idempotent_producer(kafka, linger_ms=5)
    await producer.start()
    try:
        for start in range(0, seconds, _SECONDS_AT_ONCE):
            for fleet in fleets:
                for frame in fleet.encoded(min(_SECONDS_AT_ONCE, seconds - start)):
                    await producer.send(READINGS_TOPIC, frame, partition=fleet.partition)
        await producer.flush()
    finally:
        await producer.stop()
