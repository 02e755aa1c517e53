"""Hypothesis: a committed reading costs what PostgreSQL needs to COPY it (~1.5 us of one core) and as much again in
Python and numpy, on two cores side by side; windows, sessions and state are paid once a flush, not once a reading.

Measured: `voltstream worker` (Faust, real Kafka, real PostgreSQL, Redis) drains a prefilled topic: frames of 1,000, each
of 10,000 connectors says something once a second, 4 partitions. Sessions are open before the clock starts. Readings a
second from the first to the last commit: raw rows, 1-minute windows, sessions, state, offsets, outbox, ledger. Limit:
the same rows, ready encoded, by as many connections into an equal empty table. Rival: stock Faust with a windowed
table that counts and sums reading by reading (benchmarks/rivals/stock_faust.py).
"""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import psycopg

from benchmarks.committed import check_rows, drain
from benchmarks.processes import CpuMeter, running, told
from benchmarks.readings import Fleet
from benchmarks.report import Result, phase
from benchmarks.rivals.stock_faust import measure as measure_stock_faust
from benchmarks.session import PARTITIONS, Session
from kit.kafka import idempotent_producer
from schemas.topics import READINGS_TOPIC

CONNECTORS, CONNECTORS_QUICK = 10_000, 400
SECONDS, SECONDS_QUICK = 300, 30
STOCK_READINGS, STOCK_READINGS_QUICK = 60_000, 2_000
_SECONDS_AT_ONCE: Final = 10  # encoded at once: 100 k readings, 10 MB
_COPY_BYTES: Final = 64 << 10  # of one write


def run(session: Session) -> list[Result]:
    """The worker's stage."""
    connectors, seconds = session.pick(CONNECTORS, CONNECTORS_QUICK), session.pick(SECONDS, SECONDS_QUICK)
    fleets = [Fleet(connectors // PARTITIONS, partition) for partition in range(PARTITIONS)]
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
        check_rows(url, connectors * (seconds + 1))
        with phase(session.console, "worker: bare COPY"):
            bare = bare_copy(session, url)
    with phase(session.console, "worker: stock Faust"):
        stock = measure_stock_faust(kafka, session.pick(STOCK_READINGS, STOCK_READINGS_QUICK))
    per_core = connectors * seconds / sum(spent_s.values())
    note = f"processor seconds: {told(spent_s)}; {per_core / 1e3:.0f} k readings/s of all processor time spent"
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


def bare_copy(session: Session, url: str) -> float:
    """Rows a second: the raw readings of this database into the equal empty table of another one."""
    with psycopg.connect(url) as source, session.database() as target:
        source.execute("SET max_parallel_workers_per_gather = 0")
        weeks = source.execute(
            "SELECT array_agg(DISTINCT floor(extract(epoch FROM ts) / 604800)::int) FROM telemetry.reading"
        ).fetchone()
        parts = [_rows_of(source, partition) for partition in range(PARTITIONS)]
        rows = source.execute("SELECT count(*) FROM telemetry.reading").fetchone()
        with psycopg.connect(target) as connection:
            connection.execute("SELECT telemetry.ensure_weeks(%s)", (weeks[0] if weeks else [],))
        with ThreadPoolExecutor(PARTITIONS) as pool:
            began_s = time.perf_counter()
            list(pool.map(lambda part: _copy_in(target, part), parts))
            elapsed_s = time.perf_counter() - began_s
        with psycopg.connect(target) as connection:
            copied = connection.execute("SELECT count(*) FROM telemetry.reading").fetchone()
        assert copied == rows, "every row must be there"
        return (rows[0] if rows else 0) / elapsed_s


def _rows_of(source: "psycopg.Connection[tuple[object, ...]]", partition: int) -> list[bytes]:
    """Binary COPY data, header and trailer included."""
    query = (
        "COPY (SELECT r.* FROM telemetry.reading AS r JOIN telemetry.connector USING (connector_key) "
        "WHERE partition = %s) TO STDOUT (FORMAT binary)"
    )
    with source.cursor() as cursor, cursor.copy(query, (partition,)) as copy:
        whole = b"".join(bytes(part) for part in copy)
    return [whole[at : at + _COPY_BYTES] for at in range(0, len(whole), _COPY_BYTES)]


def _copy_in(url: str, parts: list[bytes]) -> None:
    with psycopg.connect(url) as connection, connection.cursor() as cursor:
        with cursor.copy("COPY telemetry.reading FROM STDIN (FORMAT binary)") as copy:
            for part in parts:
                copy.write(part)
