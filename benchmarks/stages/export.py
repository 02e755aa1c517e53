"""Hypothesis: PostgreSQL writes the rows of an export itself (COPY), so an export costs the formatting of two dozen
columns there, a few times a bare COPY of the table, and hardly anything in this process; Parquet is also parsed and
compressed here. An OCPI CDR contains the tariff, the sums of the lines and the periods, ~2 kB, and is assembled here
by column: the lines are as much to read as the documents, and its bytes are copied a few times.

Measured: all documents of a database by `billing.exports.service`, as the API serves them: documents per second by the
clock, and by the processor time of this process and PostgreSQL together, so on one core. The memory of `voltstream
billing export` must not grow with their number. Every file is read back: it must have all documents, and the totals of
its header.
Limit: COPY billing.invoice TO STDOUT.
"""

import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Final

import msgspec
import psutil
import psycopg
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv, json, parquet

from benchmarks.completed_sessions import completed, store_readings
from benchmarks.processes import TimeMeter, TimeSpent
from benchmarks.report import Result, phase
from benchmarks.run import BenchmarkRun
from benchmarks.stages.invoices import in_process
from billing.declaration import SERVICE
from billing.exports.ocpi import Party
from billing.exports.service import ExportFormat, ExportService
from billing.exports.store import ExportFilter
from billing.exports.totals import Totals
from kit.database.postgres import Database, open_database

SESSIONS, SESSIONS_QUICK = 1_000, 20
TIMES, TIMES_QUICK = 100, 2  # every document
TARGET: Final = 50e3
REPEATS, REPEATS_QUICK = 3, 1
_FORMATS: Final = (ExportFormat.CSV, ExportFormat.JSONL, ExportFormat.PARQUET, ExportFormat.OCPI)
_LOOK_S: Final = 0.005
_STATION: Final = "CS-0-00000"
_PAYABLE: Final = pa.decimal128(23, 4)
# Copies each document, with ids and numbers of its own, in the order in which billing writes: document after document.
_MULTIPLY: Final = (
    """INSERT INTO billing.cdr SELECT r.* FROM billing.cdr AS t, generate_series(1, %(more)s) AS k,
       jsonb_populate_record(t, jsonb_build_object('id', md5(k || t.id::text)::uuid,
           'subject_id', md5(k || t.subject_id::text)::uuid)) AS r ORDER BY k, t.ctid""",
    """INSERT INTO billing.invoice SELECT r.* FROM billing.invoice AS t, generate_series(1, %(more)s) AS k,
       jsonb_populate_record(t, jsonb_build_object('id', md5(k || t.id::text)::uuid,
           'cdr_id', md5(k || t.cdr_id::text)::uuid, 'subject_id', md5(k || t.subject_id::text)::uuid,
           'session_id', md5(k || t.session_id::text)::uuid, 'sequence', t.sequence + k * %(count)s,
           'number', t.year || '-' || lpad((t.sequence + k * %(count)s)::text, 7, '0'))) AS r ORDER BY k, t.ctid""",
    """INSERT INTO billing.invoice_line SELECT r.* FROM billing.invoice_line AS t, generate_series(1, %(more)s) AS k,
       jsonb_populate_record(t, jsonb_build_object('invoice_id', md5(k || t.invoice_id::text)::uuid)) AS r
       ORDER BY k, t.ctid""",
)

_REGISTER: Final = (
    """INSERT INTO stations.station (station_id, name, address, city, postal_code, country, latitude_udeg,
           longitude_udeg, changed_at)
       SELECT DISTINCT station_id, station_id, 'Damrak 1', 'Amsterdam', '1012 LG', 'NLD', 52376000, 4898000, now()
       FROM billing.cdr""",
    """INSERT INTO stations.connector (station_id, connector_id, standard, format, power_type, evse_id, changed_at)
       SELECT DISTINCT station_id, connector_id, 'IEC_62196_T2_COMBO', 'CABLE', 'DC',
           'NL*VST*E' || replace(station_id, '-', '') || '*' || connector_id, now()
       FROM billing.cdr""",
    "VACUUM ANALYZE",
)


def run(bench: BenchmarkRun) -> list[Result]:
    """The `export` stage."""
    sessions, times = bench.pick(SESSIONS, SESSIONS_QUICK), bench.pick(TIMES, TIMES_QUICK)
    with bench.database() as url:
        with phase(bench.console, "export: making documents"):
            messages, _ = completed(sessions, min(sessions, 100))
            store_readings(url, messages)
            asyncio.run(in_process(bench, url, messages))
            _multiply(url, sessions, times)
            _register(url)
        return asyncio.run(_measure(bench, url, sessions * times))


def _multiply(url: str, count: int, times: int) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in _MULTIPLY:
            connection.execute(statement.encode(), {"more": times - 1, "count": count})
        connection.execute("VACUUM ANALYZE")


def _register(url: str) -> None:
    """The stations of the documents with their connectors, whole: else OCPI's CDRs would leave them out."""
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in _REGISTER:
            connection.execute(statement.encode())


async def _measure(bench: BenchmarkRun, url: str, documents: int) -> list[Result]:
    database = await open_database(url, name="benchmarks", role=SERVICE.role)
    service = ExportService(database, Party("NL", "VST"))
    repeats = bench.pick(REPEATS, REPEATS_QUICK)
    meter = TimeMeter(bench.pids("postgres"))
    try:
        with phase(bench.console, "export: bare COPY"):
            bare = await _median(meter, lambda: _copy(database), repeats)
        results = []
        with tempfile.TemporaryDirectory() as folder:
            for format_ in _FORMATS:
                with phase(bench.console, f"export: {format_}"):
                    work = partial(_export, service, format_, Path(folder) / format_)
                    grown_bytes = _growth(url, format_, Path(folder), bench.alone())
                    spent = await _median(meter, work, repeats)
                    totals = await work()
                    _check(format_, Path(folder) / format_, totals, documents)
                size_bytes = (Path(folder) / format_).stat().st_size
                results.append(_result(format_, documents, spent, bare, grown_bytes, size_bytes))
        return results
    finally:
        await database.close()


def _result(
    format_: ExportFormat, documents: int, spent: TimeSpent, bare: TimeSpent, grown_bytes: int, size_bytes: int
) -> Result:
    note = (
        f"{documents:,} documents, {size_bytes / 1e6:.1f} MB; microseconds a document: here "
        f"{spent.own_s / documents * 1e6:.1f}, PostgreSQL {spent.others_s / documents * 1e6:.1f}; "
        f"{documents / (spent.own_s + spent.others_s) / 1e3:.0f} k/s a core (bare: "
        f"{documents / (bare.own_s + bare.others_s) / 1e3:.0f}); "
        f"{grown_bytes / 1e6:.0f} MB more memory than for one station's"
    )
    return Result(f"export: {format_}", documents / spent.elapsed_s, "documents/s", TARGET, note=note).compare(
        "bare COPY billing.invoice", documents / bare.elapsed_s
    )


def _growth(url: str, format_: ExportFormat, folder: Path, alone: Mapping[str, str]) -> int:
    """Peak memory of `voltstream billing export` of all documents, less that of one station's, bytes."""
    command = [sys.executable, "-m", "voltstream", "billing", "export", "--json", "--out", str(folder / "command")]
    environment = os.environ | dict(alone) | {"VOLTSTREAM_DATABASE_URL": url}
    few = _memory([*command, "--format", format_, "--station", _STATION], environment)
    return _memory([*command, "--format", format_], environment) - few


def _memory(command: Sequence[str], environment: Mapping[str, str]) -> int:
    """Peak resident memory of a command, bytes. Raises CalledProcessError."""
    most = 0
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) as child:  # noqa: S603  # our own module
        process = psutil.Process(child.pid)
        while child.poll() is None:
            most = max(most, process.memory_info().rss)  # 0 if it has just ended
            time.sleep(_LOOK_S)
    if child.returncode:
        raise subprocess.CalledProcessError(child.returncode, command)
    return most


async def _median(meter: TimeMeter, work: Callable[[], Awaitable[object]], repeats: int) -> TimeSpent:
    """The run whose duration by the clock is the median."""
    spent = []
    for _ in range(repeats):
        meter.begin()
        await work()
        spent.append(meter.end())
    return sorted(spent, key=lambda one: one.elapsed_s)[len(spent) // 2]


async def _copy(database: Database) -> None:
    async def drop(data: bytes) -> None: ...

    async with database.snapshot() as connection:
        await connection.copy_from_query("SELECT * FROM billing.invoice", output=drop)


async def _export(service: ExportService, format_: ExportFormat, path: Path) -> Totals:
    """Export everything into a file; the totals of the header."""
    async with service.export(ExportFilter(), format_) as export:
        with path.open("wb") as file:  # a local file, as a client's socket would be
            async for chunk in export.chunks:
                file.write(chunk)
        return export.totals


def _check(format_: ExportFormat, path: Path, totals: Totals, documents: int) -> None:
    """The file has all documents, and their totals are those of the header."""
    if format_ is ExportFormat.OCPI:
        _check_cdrs(path, totals, documents)
        return
    if format_ is ExportFormat.CSV:
        table = csv.read_csv(path, convert_options=csv.ConvertOptions(column_types={"payable": _PAYABLE}))
    elif format_ is ExportFormat.JSONL:
        table = json.read_json(path)
    else:
        table = parquet.read_table(path)
    payable = pc.sum(table.column("payable").cast(_PAYABLE)).as_py()
    header = totals.currencies["EUR"]
    assert totals.documents == header.documents == table.num_rows == documents, f"{table.num_rows} of {documents}"
    assert len(set(table.column("number").to_pylist())) == documents
    assert payable == Decimal(header.payable)


class _Cost(msgspec.Struct):
    incl_vat: Decimal


class _Cdr(msgspec.Struct):
    invoice_reference_id: str
    total_cost: _Cost


def _check_cdrs(path: Path, totals: Totals, documents: int) -> None:
    cdrs = msgspec.json.decode(path.read_bytes(), type=list[_Cdr])
    header = totals.currencies["EUR"]
    assert totals.documents == header.documents == len(cdrs) == documents, f"{len(cdrs)} of {documents}"
    assert len({cdr.invoice_reference_id for cdr in cdrs}) == documents
    assert sum(cdr.total_cost.incl_vat for cdr in cdrs) == Decimal(header.total_incl_vat)
