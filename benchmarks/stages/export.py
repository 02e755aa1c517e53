"""Hypothesis: PostgreSQL writes the rows of an export itself (COPY), so an export costs what formatting two dozen
columns costs there, a few times a bare COPY of the table, and hardly anything here; Parquet is parsed and compressed
here besides. An OCPI CDR holds the tariff, the lines' sums and the periods, ~2 kB, and is put together here by the
column: the lines are as much to read again as the documents, and its bytes are copied a few times.

Measured: all documents of a database by `billing.exports.service`, as the API serves them: documents a second by the
clock, and of processor time of this process and of PostgreSQL together, so by one core alone. The memory of
`voltstream billing export` must not grow with their number. Every file is read again: as many documents as there are,
with the totals that the header says.
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

from benchmarks.completed import completed
from benchmarks.processes import Meter, Spent
from benchmarks.report import Result, phase
from benchmarks.session import Session
from benchmarks.stages.invoices import in_process
from billing.composition import ROLE
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
# Each as often again, under ids and numbers of its own, and on the disk as billing writes it: document after document.
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


def run(session: Session) -> list[Result]:
    """The export's stage."""
    sessions, times = session.pick(SESSIONS, SESSIONS_QUICK), session.pick(TIMES, TIMES_QUICK)
    with session.database() as url:
        with phase(session.console, "export: filling the books"):
            messages, _ = completed(sessions, min(sessions, 100))
            asyncio.run(in_process(session, url, messages))
            _multiply(url, sessions, times)
        return asyncio.run(_measure(session, url, sessions * times))


def _multiply(url: str, count: int, times: int) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in _MULTIPLY:
            connection.execute(statement.encode(), {"more": times - 1, "count": count})
        connection.execute("VACUUM ANALYZE")


async def _measure(session: Session, url: str, documents: int) -> list[Result]:
    database = await open_database(url, name="benchmarks", role=ROLE)
    service = ExportService(database, Party("NL", "VST"))
    repeats = session.pick(REPEATS, REPEATS_QUICK)
    meter = Meter(session.pids("postgres"))
    try:
        with phase(session.console, "export: bare COPY"):
            bare = await _median(meter, lambda: _copy(database), repeats)
        results = []
        with tempfile.TemporaryDirectory() as folder:
            for format_ in _FORMATS:
                with phase(session.console, f"export: {format_}"):
                    work = partial(_export, service, format_, Path(folder) / format_)
                    grown_bytes = _growth(url, format_, Path(folder), session.alone())
                    spent = await _median(meter, work, repeats)
                    totals = await work()
                    _check(format_, Path(folder) / format_, totals, documents)
                size_bytes = (Path(folder) / format_).stat().st_size
                results.append(_result(format_, documents, spent, bare, grown_bytes, size_bytes))
        return results
    finally:
        await database.close()


def _result(
    format_: ExportFormat, documents: int, spent: Spent, bare: Spent, grown_bytes: int, size_bytes: int
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
    """How many bytes `voltstream billing export` holds for all documents beyond those for one station's, at most."""
    command = [sys.executable, "-m", "voltstream", "billing", "export", "--json", "--out", str(folder / "command")]
    environment = os.environ | dict(alone) | {"VOLTSTREAM_DATABASE_URL": url}
    few = _memory([*command, "--format", format_, "--station", _STATION], environment)
    return _memory([*command, "--format", format_], environment) - few


def _memory(command: Sequence[str], environment: Mapping[str, str]) -> int:
    """The most that the process of a command holds while it runs, bytes. Raises CalledProcessError."""
    most = 0
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) as child:  # noqa: S603  # our own module
        process = psutil.Process(child.pid)
        while child.poll() is None:
            most = max(most, process.memory_info().rss)  # of one that has just ended: 0
            time.sleep(_LOOK_S)
    if child.returncode:
        raise subprocess.CalledProcessError(child.returncode, command)
    return most


async def _median(meter: Meter, work: Callable[[], Awaitable[object]], repeats: int) -> Spent:
    """By the clock."""
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
    """Everything into a file; the totals that were said before."""
    async with service.export(ExportFilter(), format_) as export:
        with path.open("wb") as file:  # a local file, as a client's socket would be
            async for chunk in export.chunks:
                file.write(chunk)
        return export.totals


def _check(format_: ExportFormat, path: Path, totals: Totals, documents: int) -> None:
    """The file holds all documents, and their totals are those that were said."""
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
    said = totals.currencies["EUR"]
    assert totals.documents == said.documents == table.num_rows == documents, f"{table.num_rows} of {documents}"
    assert len(set(table.column("number").to_pylist())) == documents
    assert payable == Decimal(said.payable)


class _Cost(msgspec.Struct):
    incl_vat: Decimal


class _Cdr(msgspec.Struct):
    invoice_reference_id: str
    total_cost: _Cost


def _check_cdrs(path: Path, totals: Totals, documents: int) -> None:
    cdrs = msgspec.json.decode(path.read_bytes(), type=list[_Cdr])
    said = totals.currencies["EUR"]
    assert totals.documents == said.documents == len(cdrs) == documents, f"{len(cdrs)} of {documents}"
    assert len({cdr.invoice_reference_id for cdr in cdrs}) == documents
    assert sum(cdr.total_cost.incl_vat for cdr in cdrs) == Decimal(said.total_incl_vat)
