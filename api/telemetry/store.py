"""The SQL of the telemetry queries. Its role reads the tables of streams/ and changes nothing, but by one function."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Final, NamedTuple
from uuid import UUID

import asyncpg
import msgspec

from api.telemetry.history.store import STORED_WINDOWS, Connector, Span
from kit.auth.station_filter import EVERY_STATION, StationFilter, visible
from kit.database.postgres import Database
from kit.web.paging import Cursor, Int16, Int32, Int64, Micros, from_micros, to_micros
from schemas.energy import ENERGY_SHARES
from schemas.quality import REGISTER_UNUSABLE
from schemas.reading import STATION_ID_CHARS_MAX

_INT64_MAX: Final = 2**63 - 1


_CONNECTORS: Final = """
SELECT station_id, connector_key, connector_id FROM telemetry.connector
WHERE station_id = ANY($1::text[]) ORDER BY station_id, connector_id
"""


def _of_windows(column: str, connector: str, where: str, order: str) -> str:
    """SQL: the column of a connector's first (`order` DESC: last) row in each table of windows."""
    return " UNION ALL ".join(
        f"(SELECT {column} FROM telemetry.{table} WHERE connector_key = {connector}.connector_key AND {where} "  # noqa: S608  # our own names
        f"ORDER BY bucket {order} LIMIT 1)"
        for table in STORED_WINDOWS
    )


# Newest first.
_STATUS_INTERVALS: Final = """
SELECT k.connector_id, i.since, i.place, i.until, i.status, i.error_code, i.vendor_error_code
FROM telemetry.status_intervals_of($1::int[], $3, $4) AS i
JOIN unnest($1::int[], $2::int[]) AS k (connector_key, connector_id) USING (connector_key)
WHERE (i.since, k.connector_id, i.place) < ($5, $6, $7)
ORDER BY i.since DESC, k.connector_id DESC, i.place DESC LIMIT $8
"""
# Windows are merged seconds later than readings are stored: the last one says from when on these are looked at.
_NEWEST_REGISTERS: Final = f"""
SELECT c.station_id, c.connector_id, r.energy_mwh FROM telemetry.connector AS c
JOIN LATERAL (SELECT max(bucket) AS bucket FROM ({_of_windows("bucket", "c", "energy_last_mwh IS NOT NULL", "DESC")})
    AS newest) AS w ON true
JOIN LATERAL (
    SELECT energy_mwh FROM telemetry.reading
    WHERE connector_key = c.connector_key AND ts >= w.bucket AND energy_mwh IS NOT NULL ORDER BY ts DESC LIMIT 1
) AS r ON true
WHERE c.station_id = ANY ($1::text[])
"""  # noqa: S608  # our own names
# By status, the time that it lasted between the two moments.
_STATUS_TIMES: Final = """
SELECT k.connector_id, i.status, sum(
    (extract(epoch FROM least(coalesce(i.until, $4), $4)) * 1000)::bigint
    - (extract(epoch FROM greatest(i.since, $3)) * 1000)::bigint
)::bigint AS time_ms
FROM unnest($1::int[], $2::int[]) AS k (connector_key, connector_id)
LEFT JOIN telemetry.status_intervals_of($1::int[], $3, $4) AS i USING (connector_key)
GROUP BY k.connector_id, i.status ORDER BY k.connector_id, i.status
"""
# What each has sent is looked up for the stations of the page only; their first minute, their last and those of a day.
_UNCLAIMED: Final = f"""
WITH unclaimed AS (
    SELECT c.station_id, array_agg(c.connector_key) AS keys, array_agg(c.connector_id ORDER BY c.connector_id) AS ids
    FROM telemetry.connector AS c
    WHERE c.station_id > $1
      AND NOT EXISTS (SELECT FROM stations.station_overview AS s WHERE s.station_id = c.station_id)
    GROUP BY c.station_id ORDER BY c.station_id LIMIT $2
)
SELECT u.station_id, u.ids AS connectors, min(first.first_ts) AS first_ts, max(last.last_ts) AS last_ts,
       coalesce(sum(day.readings), 0)::bigint AS readings,
       (SELECT q.received_at FROM telemetry.quarantine AS q WHERE q.station_id = u.station_id AND q.reason = 'unclaimed'
        ORDER BY q.id DESC LIMIT 1) AS quarantined_at
FROM unclaimed AS u CROSS JOIN LATERAL unnest(u.keys) AS k (connector_key)
LEFT JOIN LATERAL (
    SELECT min(first_ts) AS first_ts FROM ({_of_windows("first_ts", "k", "true", "")}) AS earliest
) AS first ON true
LEFT JOIN LATERAL (
    SELECT max(last_ts) AS last_ts FROM ({_of_windows("last_ts", "k", "true", "DESC")}) AS newest
) AS last ON true
LEFT JOIN LATERAL (
    SELECT sum(readings) AS readings FROM telemetry.window_1m
    WHERE connector_key = k.connector_key AND bucket >= $3 AND bucket < $4
) AS day ON true
GROUP BY u.station_id, u.ids ORDER BY u.station_id
"""  # noqa: S608  # our own names
_LEDGER: Final = "SELECT partition, stored, duplicate, quarantined, replayed, in_windows FROM telemetry.ledger"
_SOURCES: Final = "SELECT partition, source, items_total FROM telemetry.ledger_source"

_CONNECTORS_AFTER: Final = (
    "SELECT connector_key FROM telemetry.connector WHERE connector_key > $1 ORDER BY connector_key LIMIT $2"
)
# Of a meter that fell, leapt or said something unusable within the time it is not known what it rose by.
_ENERGY_BALANCES: Final = f"""
WITH steps AS (
    SELECT connector_key, flags, coalesce(rejected_mwh, 0) AS rejected_mwh,
        {" + ".join(f"coalesce({name}, 0)" for name in ENERGY_SHARES)} AS accounted_mwh,
        energy_mwh - lag(energy_mwh) OVER (PARTITION BY connector_key, energy_mwh IS NULL ORDER BY ts, seq) AS step_mwh
    FROM telemetry.reading WHERE connector_key = ANY ($1::int[]) AND ts >= $2 AND ts < $3
), sums AS (
    SELECT connector_key, sum(accounted_mwh)::bigint AS accounted_mwh,
        CASE WHEN bool_or(step_mwh < 0 OR rejected_mwh <> 0 OR flags & {int(REGISTER_UNUSABLE)} <> 0) THEN NULL
            ELSE coalesce(sum(step_mwh), 0) END::bigint AS rise_mwh,
        coalesce(sum(accounted_mwh) FILTER (WHERE step_mwh IS NOT NULL), 0)::bigint AS accounted_of_rise_mwh
    FROM steps GROUP BY 1
)
SELECT k.connector_key, coalesce(s.accounted_mwh, 0), coalesce(w.windows_mwh, 0)::bigint, s.rise_mwh,
    coalesce(s.accounted_of_rise_mwh, 0)
FROM unnest($1::int[]) AS k (connector_key) LEFT JOIN sums AS s USING (connector_key) LEFT JOIN (
    SELECT connector_key, sum({" + ".join(f"{name}_sum" for name in ENERGY_SHARES)}) AS windows_mwh
    FROM telemetry.window_1m WHERE connector_key = ANY ($1::int[]) AND bucket >= $2 AND bucket < $3 GROUP BY 1
) AS w USING (connector_key)
"""  # noqa: S608  # our own names

_ITEM: Final = (
    "id, partition, received_at, station_id, connector_id, reason, detail, raw, replayed_at, replayed_by, "
    "replay_correlation_id"
)
_QUARANTINE: Final = f"""
SELECT {_ITEM} FROM telemetry.quarantine
WHERE id < $1 AND ($2::text IS NULL OR reason = $2) AND ($3::text IS NULL OR station_id = $3)
  AND ($4::timestamptz IS NULL OR received_at >= $4) AND ($5::timestamptz IS NULL OR received_at < $5)
  AND ($6 IS NOT TRUE OR replayed_at IS NULL) AND {visible("station_id", 8)}
ORDER BY id DESC LIMIT $7
"""  # noqa: S608  # our own names
_QUARANTINED: Final = f"SELECT {_ITEM} FROM telemetry.quarantine WHERE id = $1 AND {visible('station_id', 2)}"  # noqa: S608  # our own names
_OF_ORGANISATION: Final = """
SELECT station_id FROM stations.station_overview
WHERE organisation = $1 AND ($2::text[] IS NULL OR station_id = ANY ($2::text[]))
"""
_WAITING: Final = "station_id = $1 AND reason = 'unclaimed' AND replayed_at IS NULL"
_UNCLAIMED_ITEMS: Final = f"SELECT id, raw FROM telemetry.quarantine WHERE {_WAITING} ORDER BY id LIMIT $2"  # noqa: S608  # our own text
_UNCLAIMED_LEFT: Final = f"SELECT count(*) FROM telemetry.quarantine WHERE {_WAITING}"  # noqa: S608  # our own text
_WAS_SET_APART: Final = (
    "SELECT EXISTS (SELECT FROM telemetry.quarantine WHERE station_id = $1 AND reason = 'unclaimed')"
)
_IS_REGISTERED: Final = "SELECT EXISTS (SELECT FROM stations.station_overview WHERE station_id = $1)"
_RELEASE: Final = "SELECT telemetry.release_unclaimed($1::bigint[], $2::uuid, $3, $4, $5::bytea)"


@dataclass(frozen=True, slots=True)
class Unclaimed:
    """A reading that was set apart, as JSON."""

    id: int
    raw: bytes


@dataclass(frozen=True, slots=True)
class QuarantineFilter:
    """Which items of the quarantine; None excludes nothing."""

    reason: str | None = None
    station_id: str | None = None
    start: datetime | None = None  # received at or after
    end: datetime | None = None  # received before
    waiting: bool = False  # only those that were not replayed
    only: StationFilter = EVERY_STATION


class QuarantineCursor(Cursor, frozen=True, tag="q"):
    """The last quarantined item seen."""

    id: Int64


class StatusCursor(Cursor, frozen=True, tag="s"):
    """The last status interval seen."""

    since_us: Micros
    connector_id: Int16
    place: Int32


class StationCursor(Cursor, frozen=True, tag="u"):
    """The last station seen."""

    station_id: Annotated[str, msgspec.Meta(max_length=STATION_ID_CHARS_MAX)]


def status_cursor(row: asyncpg.Record) -> StatusCursor:
    """The key of a row of `status_intervals`."""
    return StatusCursor(to_micros(row["since"]), row["connector_id"], row["place"])


class EnergyBalance(NamedTuple):
    """A connector's ledger of energy over a time, mWh."""

    connector_key: int
    accounted_mwh: int  # by its readings
    windows_mwh: int  # by its windows
    rise_mwh: int | None  # of its register from the first reading of the time to the last; None: not known
    accounted_of_rise_mwh: int  # by the readings after the first

    @property
    def closes(self) -> bool:
        """Whether readings, windows and register agree."""
        return self.accounted_mwh == self.windows_mwh and self.rise_mwh in (None, self.accounted_of_rise_mwh)


class TelemetryStore:
    """Reads the tables, but for histories. Every method raises Unavailable where the database does not answer."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def connectors(self, station_ids: Sequence[str]) -> list[Connector]:
        """The known connectors of those stations, ordered by station and connector."""
        return [Connector(*row) for row in await self._database.fetch(_CONNECTORS, station_ids)]

    async def status_intervals(self, span: Span, after: StatusCursor | None) -> list[asyncpg.Record]:
        """Up to rows_max intervals that are not over at the start and begin before the end, newest first."""
        key = (span.end, 0, 0) if after is None else (from_micros(after.since_us), after.connector_id, after.place)
        return await self._database.fetch(_STATUS_INTERVALS, *span.keys, span.start, span.end, *key, span.rows_max)

    async def status_times(
        self, connectors: Sequence[Connector], start: datetime, end: datetime
    ) -> list[asyncpg.Record]:
        """By connector_id and status, how long it lasted, ms; a row without status of one that never said any."""
        keys, numbers = [one.connector_key for one in connectors], [one.connector_id for one in connectors]
        return await self._database.fetch(_STATUS_TIMES, keys, numbers, start, end)

    async def unclaimed(
        self, after: StationCursor | None, start: datetime, end: datetime, rows_max: int
    ) -> list[asyncpg.Record]:
        """Up to rows_max stations that are not registered, by id, with their readings of the time."""
        return await self._database.fetch(_UNCLAIMED, "" if after is None else after.station_id, rows_max, start, end)

    async def newest_registers(self, station_ids: Sequence[str]) -> list[asyncpg.Record]:
        """station_id, connector_id and energy_mwh of each connector's newest stored reading that has a register."""
        return await self._database.fetch(_NEWEST_REGISTERS, station_ids)

    async def was_set_apart(self, station_id: str) -> bool:
        """Whether any reading of the station ever was, released or not."""
        return bool(await self._database.fetchval(_WAS_SET_APART, station_id))

    async def is_registered(self, station_id: str) -> bool:
        """Whether the registry has the station."""
        return bool(await self._database.fetchval(_IS_REGISTERED, station_id))

    async def unclaimed_items(self, station_id: str, items_max: int) -> list[Unclaimed]:
        """The station's readings that were set apart and wait, the oldest first."""
        rows = await self._database.fetch(_UNCLAIMED_ITEMS, station_id, items_max)
        return [Unclaimed(row["id"], row["raw"]) for row in rows]

    async def unclaimed_left(self, station_id: str) -> int:
        """How many of the station's wait."""
        return int(await self._database.fetchval(_UNCLAIMED_LEFT, station_id))

    async def release(self, items: Sequence[int], event_id: UUID, exchange: str, key: str, body: bytes) -> bool:
        """Mark these as released and publish the event with their readings; False: not all of them wait any more, and
        nothing was done."""
        return bool(await self._database.fetchval(_RELEASE, items, event_id, exchange, key, body))

    async def ledger(self) -> tuple[list[asyncpg.Record], list[asyncpg.Record]]:
        """The ledger's rows and the sources' rows, from one snapshot."""
        async with self._database.snapshot() as connection:
            rows = await connection.fetch(_LEDGER)
            return rows, await connection.fetch(_SOURCES)

    async def connectors_after(self, connector_key: int, rows_max: int) -> list[int]:
        """Keys of the next connectors, in their order."""
        return [row[0] for row in await self._database.fetch(_CONNECTORS_AFTER, connector_key, rows_max)]

    async def energy_balances(
        self, connector_keys: Sequence[int], start: datetime, end: datetime
    ) -> list[EnergyBalance]:
        """The ledger of energy of each of them, between two whole minutes."""
        rows = await self._database.fetch(_ENERGY_BALANCES, connector_keys, start, end)
        return [EnergyBalance(*row) for row in rows]

    async def quarantine(
        self, wanted: QuarantineFilter, after: QuarantineCursor | None, rows_max: int
    ) -> list[asyncpg.Record]:
        """Up to rows_max quarantined items, newest first."""
        before = _INT64_MAX if after is None else after.id
        bounds = (wanted.start, wanted.end, wanted.waiting)
        return await self._database.fetch(
            _QUARANTINE, before, wanted.reason, wanted.station_id, *bounds, rows_max, *wanted.only.values
        )

    async def quarantined(self, item_id: int, only: StationFilter) -> asyncpg.Record | None:
        """One of them."""
        return await self._database.fetchrow(_QUARANTINED, item_id, *only.values)

    async def stations_of(self, organisation: str, named: Sequence[str] | None) -> frozenset[str]:
        """The organisation's stations as they are registered now, of those that are named."""
        return frozenset(row[0] for row in await self._database.fetch(_OF_ORGANISATION, organisation, named))
