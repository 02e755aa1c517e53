"""The physical limit of storing readings: the same rows, already encoded, by binary COPY.

Without the columns of which no row has any, as a commit leaves them out.
"""

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import psycopg

from benchmarks.run import PARTITIONS, BenchmarkRun
from streams.storage.tables import READING, WEEK_MS

_COPY_BYTES: Final = 64 << 10  # of one write
_CONNECTIONS: Final = PARTITIONS  # as many as a worker's flushes
_COUNT: Final = "SELECT count(*) FROM telemetry.reading"
_WEEKS: Final = "SELECT array_agg(DISTINCT floor(extract(epoch FROM ts) * 1000 / %s)::int) FROM telemetry.reading"
_SENT: Final = "SELECT {} FROM telemetry.reading".format(  # noqa: S608  # our own names
    ", ".join(
        f"bool_or({field.name} IS DISTINCT FROM {'NULL' if field.default is None else field.default})"
        for field in READING.fields
    )
)
_ROWS: Final = """
COPY (SELECT {} FROM telemetry.reading JOIN telemetry.connector USING (connector_key) WHERE partition = %s)
TO STDOUT (FORMAT binary)
"""


def bare_copy(bench: BenchmarkRun, url: str) -> float:
    """Rows per second: copy the raw readings of this database into the same, empty table of another one."""
    with psycopg.connect(url) as source, bench.database() as target:
        source.execute("SET max_parallel_workers_per_gather = 0")
        weeks = source.execute(_WEEKS, (WEEK_MS,)).fetchone()
        sent = source.execute(_SENT.encode()).fetchone() or ()
        columns = ", ".join(field.name for field, is_sent in zip(READING.fields, sent, strict=True) if is_sent)
        parts = [_rows_of(source, columns, partition) for partition in range(PARTITIONS)]
        rows = source.execute(_COUNT).fetchone()
        with psycopg.connect(target) as connection:
            connection.execute("SELECT telemetry.ensure_weeks(%s)", (weeks[0] if weeks else [],))
        with ThreadPoolExecutor(_CONNECTIONS) as pool:
            began_s = time.perf_counter()
            list(pool.map(lambda part: _copy_in(target, columns, part), parts))
            elapsed_s = time.perf_counter() - began_s
        with psycopg.connect(target) as connection:
            copied = connection.execute(_COUNT).fetchone()
        assert copied == rows, "every row must be copied"
        return (rows[0] if rows else 0) / elapsed_s


def _rows_of(source: "psycopg.Connection[tuple[object, ...]]", columns: str, partition: int) -> list[bytes]:
    """Binary COPY data, header and trailer included."""
    with source.cursor() as cursor, cursor.copy(_ROWS.format(columns).encode(), (partition,)) as copy:
        whole = b"".join(bytes(part) for part in copy)
    return [whole[at : at + _COPY_BYTES] for at in range(0, len(whole), _COPY_BYTES)]


def _copy_in(url: str, columns: str, parts: list[bytes]) -> None:
    statement = f"COPY telemetry.reading ({columns}) FROM STDIN (FORMAT binary)".encode()
    with psycopg.connect(url) as connection, connection.cursor() as cursor, cursor.copy(statement) as copy:
        for part in parts:
            copy.write(part)
