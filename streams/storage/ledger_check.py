"""Whether both ledgers close over what is stored: the readings in the tables and in the lake's files, the windows, and
the ledger's own figures, all as of one moment.

Readings past their retention are gone, so days that may have lost some are left out; of those the windows remain.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any, Final

import numpy as np
import psycopg
import pyarrow as pa
from psycopg import sql

from kit.clock import from_ms
from kit.lake.folder import LakeFolder, LakeUnavailable
from kit.lake.parquet import read_parts
from schemas.energy import ENERGY_SHARES
from streams.effects import NULL_I64
from streams.storage.lake_rows import READINGS, WINDOWS, Digest, Rows, from_arrow

Connection = psycopg.Connection[tuple[Any, ...]]
Day = tuple[int, date]  # partition, and the day (UTC) of event time

_DAY_MS: Final = 86_400_000
_SHARES: Final = tuple(ENERGY_SHARES)
_FAULTS_MAX: Final = 1_000  # listed of a kind, ~150 B each
_FIGURES: Final = 1 + len(_SHARES)  # of a day: readings, and each share of the energy
_FILES: Final = """
SELECT path, kind, partition, rows, bytes, content_hash FROM telemetry.lake_file ORDER BY path
"""


def _sums(names: Iterable[str]) -> sql.Composed:
    return sql.SQL(", ").join(sql.SQL("coalesce(sum({}), 0)::bigint").format(sql.Identifier(name)) for name in names)


_READINGS: Final = sql.SQL("""
SELECT c.partition, (r.ts AT TIME ZONE 'UTC')::date, count(*), {shares}
FROM telemetry.reading AS r JOIN telemetry.connector AS c USING (connector_key) GROUP BY 1, 2
""").format(shares=_sums(_SHARES))
_WINDOWS: Final = sql.SQL("""
SELECT c.partition, (w.bucket AT TIME ZONE 'UTC')::date, sum(w.readings)::bigint, {shares}
FROM telemetry.window_1d AS w JOIN telemetry.connector AS c USING (connector_key) GROUP BY 1, 2
""").format(shares=_sums(f"{name}_sum" for name in _SHARES))
_LEDGER: Final = """
SELECT l.partition, l.stored, l.duplicate, l.quarantined, l.in_windows,
    coalesce(sum(s.items_total), 0)::bigint, coalesce(sum(s.items_received), 0)::bigint
FROM telemetry.ledger AS l LEFT JOIN telemetry.ledger_source AS s USING (partition)
GROUP BY l.partition ORDER BY l.partition
"""


@dataclass(frozen=True, slots=True)
class FileOfLake:
    """A file that the catalogue has."""

    path: str
    kind: str
    partition: int
    rows: int
    file_bytes: int
    content_hash: bytes


@dataclass(slots=True)
class LedgerCheck:
    """What was looked at, and what is wrong."""

    stored: int = 0  # readings, by the ledger
    in_flight: int = 0  # accepted, and in the log or lost with it
    days: int = 0  # partitions and days that were compared
    files: int = 0
    file_bytes: int = 0
    reading_faults: list[str] = field(default_factory=list)
    energy_faults: list[str] = field(default_factory=list)
    lake_faults: list[str] = field(default_factory=list)


Progress = Callable[[int, int], None]
"""Takes how many files were read, and of how many."""


def catalogue(connection: Connection) -> list[FileOfLake]:
    """The files that count."""
    return [FileOfLake(*row) for row in connection.execute(_FILES)]


def check_ledgers(
    connection: Connection, folder: LakeFolder | None, now: datetime, retention_days: int, progress: Progress
) -> LedgerCheck:
    """Within the connection's transaction, which has to be of one snapshot. `retention_days`: of raw readings; 0: all
    are kept. Blocks: reads every reading."""
    found = LedgerCheck()
    there = _days(connection.execute(_READINGS))
    files = catalogue(connection)
    if files and folder is None:
        found.lake_faults.append(f"{len(files)} files are in the catalogue, and VOLTSTREAM_LAKE_URL is not set")
    for number, file in enumerate(files if folder else (), 1):
        assert folder is not None  # noqa: S101  # as above
        try:
            _check_file(folder, file, there)
        except (LakeUnavailable, ValueError) as error:
            found.lake_faults.append(str(error))
        found.files, found.file_bytes = number, found.file_bytes + file.file_bytes
        progress(number, len(files))
    _compare(connection, found, there, now, retention_days)
    del found.lake_faults[_FAULTS_MAX:], found.reading_faults[_FAULTS_MAX:], found.energy_faults[_FAULTS_MAX:]
    return found


def _check_file(folder: LakeFolder, file: FileOfLake, there: dict[Day, list[int]]) -> None:
    """Add its readings to those that are there. Raises LakeUnavailable, ValueError."""
    days: dict[Day, list[int]] = defaultdict(lambda: [0] * _FIGURES)
    reading = file.kind == READINGS.kind
    check_file(folder, file, (lambda rows: _add_by_day(rows, file.partition, days)) if reading else lambda _: None)
    for day, figures in days.items():
        there[day] = [a + b for a, b in zip(there[day], figures, strict=True)]


def check_file(folder: LakeFolder, file: FileOfLake, take: Callable[[Rows], None] = lambda _: None) -> None:
    """Read a file of the folder. `take`: takes its rows, in parts. Raises ValueError where it is not as it was written,
    which is said with its path; LakeUnavailable where it cannot be read."""
    table = next(one for one in (READINGS, WINDOWS) if one.kind == file.kind)
    if (size := folder.size(file.path)) != file.file_bytes:
        raise ValueError(f"{file.path} has {size:,} bytes, the catalogue says {file.file_bytes:,}")
    digest = Digest(table)
    try:
        for part in read_parts(folder, file.path, table.schema.names):
            if part.schema.types != table.schema.types:
                raise ValueError("a column is of another type")
            rows = from_arrow(table, part)
            digest.add(rows)
            take(rows)
    except KeyError as error:
        raise ValueError(f"{file.path} lacks a column: {error}") from None
    except (ValueError, ArithmeticError, pa.ArrowException) as error:  # of what is no file of ours, or no moment
        raise ValueError(f"{file.path} does not have the rows that were written to it: {error}") from None
    if (digest.rows, digest.content_hash) != (file.rows, file.content_hash):
        raise ValueError(f"{file.path} does not have the rows that were written to it")


def _add_by_day(rows: Rows, partition: int, days: dict[Day, list[int]]) -> None:
    numbers, place = np.unique(rows.columns["ts"] // _DAY_MS, return_inverse=True)
    for at, number in enumerate(numbers.tolist()):
        mine = place == at
        figures = [int(mine.sum())]
        for name in _SHARES:
            values = rows.columns[name][mine]
            figures.append(int(values[values != NULL_I64].sum()))
        day = days[partition, from_ms(number * _DAY_MS).date()]
        day[:] = [a + b for a, b in zip(day, figures, strict=True)]


def _days(rows: Any) -> dict[Day, list[int]]:
    days: dict[Day, list[int]] = defaultdict(lambda: [0] * _FIGURES)
    for partition, day, *figures in rows:
        days[partition, day] = [int(value) for value in figures]
    return days


def _compare(
    connection: Connection, found: LedgerCheck, there: dict[Day, list[int]], now: datetime, retention_days: int
) -> None:
    """Readings with windows, day by day, and both with the ledger."""
    windows = _days(connection.execute(_WINDOWS))
    oldest = date.min if not retention_days else _oldest(now, retention_days)
    missing: dict[int, int] = defaultdict(int)  # by partition, readings that are in no window
    unchecked = {partition for partition, day in {*there, *windows} if day < oldest}
    for partition, day in sorted({*there, *windows}):
        if day < oldest:
            continue
        found.days += 1
        readings, *energy = there[partition, day]
        counted, *accounted = windows[partition, day]
        missing[partition] += readings - counted
        if readings < counted:
            found.reading_faults.append(
                f"{day}, partition {partition}: {readings:,} readings, windows have {counted:,}"
            )
        if readings == counted and energy != accounted:
            said = f"{_shares(energy)} by readings, {_shares(accounted)} by windows"
            found.energy_faults.append(f"{day}, partition {partition}: {said}")
    in_windows: dict[int, int] = defaultdict(int)
    for (partition, _), (counted, *_) in windows.items():
        in_windows[partition] += counted
    for partition, stored, duplicate, quarantined, merged, accepted, received in connection.execute(_LEDGER):
        found.stored += stored
        found.in_flight += accepted - received
        laws = {
            f"stored {stored:,} + duplicate {duplicate:,} + quarantined {quarantined:,} = received {received:,}":
                stored + duplicate + quarantined == received,
            f"received {received:,} <= accepted {accepted:,}": received <= accepted,
            f"readings in windows by the ledger {merged:,} = by the windows {in_windows[partition]:,}":
                merged == in_windows[partition],
            f"readings in no window yet {stored - merged:,} = {missing[partition]:,} by day":
                stored - merged == missing[partition] or partition in unchecked,
        }  # fmt: skip
        found.reading_faults += [f"partition {partition}: not {law}" for law, holds in laws.items() if not holds]


def _oldest(now: datetime, retention_days: int) -> date:
    """The first day of which no reading can be past its retention. Tables and files are dropped by weeks and days."""
    return from_ms(int(now.astimezone(UTC).timestamp() * 1_000) - (retention_days - 1) * _DAY_MS).date()


def _shares(energy_mwh: Sequence[int]) -> str:
    return ", ".join(f"{name} {value:,}" for name, value in zip(_SHARES, energy_mwh, strict=True))
