"""The SQL of histories: windows, readings and the energy of a time, wherever they are."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import asyncpg

from api.telemetry.history.lake import (
    FILES,
    INT64_MIN,
    READING_FIELDS,
    READINGS,
    WINDOWS,
    MovedFile,
    MovedReadings,
    MovedWindows,
    place_of,
)
from api.telemetry.history.retained import Retained
from api.telemetry.history.tables import REGISTER_LOOKBACK, Register, Registers, Row
from api.telemetry.models import Interval
from kit.clock import from_ms
from kit.database.postgres import Database
from kit.instants import floor_to
from kit.lake.reader import LakeReader
from kit.web.paging import Cursor, Int16, Int64, Micros, from_micros, to_micros
from schemas.energy import ENERGY_SHARES

_NULL_KEY: Final = f"'{INT64_MIN}'::bigint"

_BEFORE_ALL: Final = (-1, INT64_MIN, INT64_MIN, -1)  # connector, boot, seq, part: less than of any reading
_MINUTE: Final = timedelta(minutes=1)
_DAY: Final = timedelta(days=1)

_QUANTITIES: Final = ("power_mw", "voltage_mv", "current_ma", "temperature_mc", "soc_mpct")
_AGGREGATES: Final = ", ".join(
    f"w.{name}_n, w.{name}_sum::bigint AS {name}_sum, w.{name}_min, w.{name}_max" for name in _QUANTITIES
)
_EXPORTS: Final = "w.energy_export_first_mwh, w.energy_export_last_ts, w.energy_export_last_mwh"
_SHARES: Final = ", ".join(f"w.{name}_sum" for name in ENERGY_SHARES)
_RELATIONS: Final = {
    Interval.MINUTE: ("telemetry.window_1m", "w.revision"),
    Interval.QUARTER: ("telemetry.window_15m_of(k.connector_key, $3, $4)", "NULL::int"),
    Interval.HOUR: ("telemetry.window_1h_of(k.connector_key, $3, $4)", "NULL::int"),
    Interval.DAY: ("telemetry.window_1d_of(k.connector_key, $3, $4)", "NULL::int"),
}

# The next rows of each connector come from its own index and are merged, so that a page of n windows reads at most n of
# each connector, however long the history is.
_WINDOWS: Final = {
    interval: f"""
SELECT k.connector_id, w.* FROM unnest($1::int[], $2::int[]) AS k (connector_key, connector_id)
CROSS JOIN LATERAL (
    SELECT w.bucket, w.readings, w.flagged, {_AGGREGATES},
           w.energy_first_mwh, w.energy_last_ts, w.energy_last_mwh, {_EXPORTS}, {_SHARES}, {revision} AS revision
    FROM {relation} AS w
    WHERE w.connector_key = k.connector_key AND w.bucket >= $3 AND w.bucket < $4
      AND (w.bucket > $3 OR k.connector_id > $5)
    ORDER BY w.bucket LIMIT $6
) AS w
ORDER BY w.bucket, k.connector_id LIMIT $6
"""  # noqa: S608  # the names come from the table above
    for interval, (relation, revision) in _RELATIONS.items()
}

# The columns of these rows.
_WINDOW_FIELDS: Final = (
    "connector_id", "bucket", "readings", "flagged",
    *(f"{name}_{part}" for name in _QUANTITIES for part in ("n", "sum", "min", "max")),
    "energy_first_mwh", "energy_last_ts", "energy_last_mwh",
    "energy_export_first_mwh", "energy_export_last_ts", "energy_export_last_mwh",
    *(f"{name}_sum" for name in ENERGY_SHARES), "revision",
)  # fmt: skip
# Windows of a minute, and coarse ones whose minutes were dropped.
STORED_WINDOWS: Final = {
    "window_1m": "1 minute", "window_15m_kept": "15 minutes", "window_1h_kept": "1 hour", "window_1d_kept": "1 day",
}  # fmt: skip
_READING_SOURCE: Final = {
    "connector_id": "k.connector_id", "session": "s.id::text AS session", "session_id": "s.session_id",
}  # fmt: skip
_READINGS: Final = f"""
SELECT {", ".join(_READING_SOURCE.get(name, f"r.{name}") for name in READING_FIELDS)}
FROM unnest($1::int[], $2::int[]) AS k (connector_key, connector_id)
CROSS JOIN LATERAL (
    SELECT r.*, coalesce(r.boot, {_NULL_KEY}) AS boot_key, coalesce(r.seq, {_NULL_KEY}) AS seq_key
    FROM telemetry.reading AS r
    WHERE r.connector_key = k.connector_key AND r.ts >= $3 AND r.ts < $4
      AND (r.ts, k.connector_id, coalesce(r.boot, {_NULL_KEY}), coalesce(r.seq, {_NULL_KEY}), r.part)
          > ($3, $5, $6, $7, $8)
      AND ($9::int = 0 OR r.flags & $9 <> 0)
    ORDER BY r.ts, boot_key, seq_key, r.part LIMIT $10
) AS r
LEFT JOIN telemetry.session AS s USING (session_key)
ORDER BY r.ts, k.connector_id, r.boot_key, r.seq_key, r.part LIMIT $10
"""  # noqa: S608  # our own names, and a number

# Raw readings have no index in order of time. A page therefore reads slices of time, each twice as long as the one
# before, and begins at the next window: it reads about twice the rows that it returns, and five years without readings
# are 16 slices.
_FIRST_SLICE: Final = timedelta(hours=1)
_EARLIEST_WINDOWS: Final = " UNION ALL ".join(
    f"(SELECT bucket FROM telemetry.{table} WHERE connector_key = k.connector_key "  # noqa: S608  # our own names
    f"AND bucket > $2::timestamptz - interval '{width}' AND bucket < $3 ORDER BY bucket LIMIT 1)"
    for table, width in STORED_WINDOWS.items()
)
_NEXT_WINDOW: Final = f"""
SELECT min(w.bucket) FROM unnest($1::int[]) AS k (connector_key) CROSS JOIN LATERAL ({_EARLIEST_WINDOWS}) AS w
"""  # noqa: S608  # our own names


def _registers_before(name: str) -> str:
    """SQL: the last register of connectors before moments. `name`: of Registers."""
    newest = " UNION ALL ".join(
        f"(SELECT {name}_last_ts, {name}_last_mwh FROM telemetry.{table} WHERE connector_key = k.connector_key "  # noqa: S608  # our own names
        f"AND bucket < k.before AND bucket >= k.before - $4::interval AND {name}_last_ts < k.before "
        f"AND {name}_last_mwh IS NOT NULL ORDER BY bucket DESC LIMIT 1)"
        for table in STORED_WINDOWS
    )
    return f"""
SELECT k.connector_id, w.*
FROM unnest($1::int[], $2::int[], $3::timestamptz[]) AS k (connector_key, connector_id, before)
CROSS JOIN LATERAL (SELECT * FROM ({newest}) AS found ORDER BY {name}_last_ts DESC LIMIT 1) AS w
"""  # noqa: S608  # our own names


_REGISTERS_BEFORE: Final = {name: _registers_before(name) for name in Registers._fields}

_ENERGY_SUMS: Final = ", ".join(f"sum({name}_sum)::bigint AS {name}" for name in ENERGY_SHARES)
_ENERGY: Final[dict[Interval, str]] = {
    Interval.MINUTE: f"""
SELECT connector_key, {_ENERGY_SUMS}
FROM telemetry.window_1m WHERE connector_key = ANY($1::int[]) AND bucket >= $2 AND bucket < $3 GROUP BY connector_key
""",  # noqa: S608  # our own names
    **{
        interval: f"""
SELECT k.connector_key, {_ENERGY_SUMS} FROM unnest($1::int[]) AS k (connector_key)
CROSS JOIN LATERAL {relation.replace("$3, $4", "$2, $3")} AS w GROUP BY k.connector_key
"""  # noqa: S608  # our own names
        for interval, (relation, _) in _RELATIONS.items()
        if interval is not Interval.MINUTE
    },
}
_RETAINED: Final = "SELECT width, since_ms FROM telemetry.window_retained"


@dataclass(frozen=True, slots=True)
class Connector:
    """A connector as the tables know it."""

    station_id: str
    connector_key: int
    connector_id: int


@dataclass(frozen=True, slots=True)
class Span:
    """The connectors of one station whose rows are read, in [start, end), at most `rows_max` of them."""

    connectors: Sequence[Connector]
    start: datetime
    end: datetime
    rows_max: int

    @property
    def keys(self) -> tuple[list[int], list[int]]:
        """The connectors as two columns."""
        return [c.connector_key for c in self.connectors], [c.connector_id for c in self.connectors]


class WindowCursor(Cursor, frozen=True, tag="w"):
    """The last window seen."""

    bucket_us: Micros
    connector_id: Int16


class ReadingCursor(Cursor, frozen=True, tag="r"):
    """The last reading seen: its identity in the order of the answer."""

    ts_us: Micros
    connector_id: Int16
    boot: Int64
    seq: Int64
    part: Int16


def reading_cursor(row: Row) -> ReadingCursor:
    """The key of a row of `readings`."""
    moment, *key = place_of(row)
    return ReadingCursor(to_micros(moment), *key)


def window_cursor(row: Row) -> WindowCursor:
    """The key of a row of `windows`."""
    return WindowCursor(to_micros(row["bucket"]), row["connector_id"])


class HistoryStore:
    """Reads windows and readings. Every method raises Unavailable where the database does not answer."""

    def __init__(self, database: Database, lake: LakeReader) -> None:
        self._database = database
        self._moved = MovedReadings(database, lake)
        self._moved_windows = MovedWindows(lake, _WINDOW_FIELDS)

    async def readings(self, span: Span, after: ReadingCursor | None, flags: int) -> list[Row]:
        """Up to rows_max readings with any of these flags (0: all), by ts, connector, boot, seq and part.

        Those in the database and those in the lake alike. Raises LakeUnavailable too.
        """
        start, key = span.start, _BEFORE_ALL
        if after is not None and from_micros(after.ts_us) >= span.start:
            start, key = from_micros(after.ts_us), (after.connector_id, after.boot, after.seq, after.part)
        rows: list[Row] = []
        length = _FIRST_SLICE
        while start < span.end and len(rows) < span.rows_max:
            most = span.rows_max - len(rows)
            async with self._database.snapshot() as connection:  # a move takes rows and notes their files at once
                window = await connection.fetchval(_NEXT_WINDOW, span.keys[0], floor_to(start, _MINUTE), span.end)
                if window is None:
                    break
                if window > start:
                    start, key = window, _BEFORE_ALL
                end = min(start + length, span.end)
                stored = await connection.fetch(_READINGS, *span.keys, start, end, *key, flags, most)
                files = await connection.fetch(FILES, span.keys[0], start, end, READINGS)
            if files:
                paths = [row["path"] for row in files]
                moved = await self._moved.rows(paths, span.keys[0], end, (start, *key), flags, most)
                stored = sorted([*stored, *moved], key=place_of)[:most]
            rows += stored
            start, key, length = end, _BEFORE_ALL, 2 * length
        return rows

    async def windows(self, interval: Interval, span: Span, after: WindowCursor | None) -> tuple[list[Row], Registers]:
        """Up to rows_max windows, ordered by bucket and connector, and the registers before these.

        Those in the database and those in the lake alike. Raises LakeUnavailable too.
        """
        start, connector_id = span.start, -1
        if after is not None and from_micros(after.bucket_us) >= span.start:
            start, connector_id = from_micros(after.bucket_us), after.connector_id
        # A register in the same day may be in a minute that was moved: what is kept of the day tells its last only.
        day, place = floor_to(start, _DAY), (start, connector_id)
        files: list[MovedFile] = []
        moved: list[Row] = []  # of these files
        while True:  # once more where there are files, which are read without a connection; and after each move
            async with self._database.snapshot() as connection:
                found = interval is Interval.MINUTE and await connection.fetch(
                    FILES, span.keys[0], day, span.end, WINDOWS
                )
                noted = [MovedFile(*row) for row in found or ()]
                if noted == files:
                    arguments = (*span.keys, start, span.end, connector_id, span.rows_max)
                    stored = await connection.fetch(_WINDOWS[interval], *arguments)
                    earlier = [row for row in moved if _window_place(row) <= place]
                    rows = sorted([*moved[len(earlier) :], *stored], key=_window_place)[: span.rows_max]
                    before = [await _before(connection, span, rows, name) for name in Registers._fields]
                    break
            files = noted
            moved = await self._moved_windows.rows(files, span.keys[0], day, span.end, place, span.rows_max)
        for name, registers in zip(Registers._fields, before, strict=True):
            _prefer_later(registers, earlier, name)
        return rows, Registers(*before)

    async def energy(
        self, connectors: Sequence[Connector], start: datetime, end: datetime
    ) -> tuple[datetime, dict[int, Counter[str]]]:
        """By connector_key, the sum of each of ENERGY_SHARES in a time, in the finest windows that there are; the time
        begins where the first of these does."""
        keys = [connector.connector_key for connector in connectors]
        sums: dict[int, Counter[str]] = defaultdict(Counter)
        async with self._database.snapshot() as connection:  # retention takes windows and notes it at once
            found = await connection.fetch(_RETAINED)
            retained = Retained({row["width"]: from_ms(row["since_ms"]) for row in found})
            start = retained.start_of(start)
            for interval, since, until in retained.parts(start, end):
                for row in await connection.fetch(_ENERGY[interval], keys, since, until):
                    sums[row["connector_key"]].update({name: row[name] or 0 for name in ENERGY_SHARES})
        return start, sums


def _window_place(row: Row) -> tuple[datetime, int]:
    return row["bucket"], row["connector_id"]


def _prefer_later(registers: dict[int, Register], rows: Sequence[Row], name: str) -> None:
    """Replace registers by those of these windows, in order, that are later. `name`: of Registers."""
    for row in rows:
        at, known = row[f"{name}_last_ts"], registers.get(row["connector_id"])
        if at is not None and (known is None or at > known.at):
            registers[row["connector_id"]] = Register(at, row[f"{name}_last_mwh"])


async def _before(connection: asyncpg.Connection, span: Span, rows: Sequence[Row], name: str) -> dict[int, Register]:
    """By connector_id, the register before the first of these windows that has one. `name`: of Registers."""
    first_seen = {row["connector_id"]: row["bucket"] for row in reversed(rows) if row[f"{name}_last_mwh"] is not None}
    firsts = [
        (c.connector_key, c.connector_id, first_seen[c.connector_id])
        for c in span.connectors
        if c.connector_id in first_seen
    ]
    if not firsts:
        return {}
    found = await connection.fetch(_REGISTERS_BEFORE[name], *zip(*firsts, strict=True), REGISTER_LOOKBACK)
    return {row["connector_id"]: Register(row[f"{name}_last_ts"], row[f"{name}_last_mwh"]) for row in found}
