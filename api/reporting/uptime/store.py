"""The SQL of uptime: what the registry and the stream know of ports, in columns of epoch milliseconds."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

import asyncpg

from api.reporting.uptime.uptime import UP_STATUSES
from kit.auth.station_filter import StationFilter, visible
from kit.database.postgres import Database
from kit.messaging.outbox import Transaction
from schemas.reading import Status
from schemas.session import EndReason

_REGISTER: Final = """
INSERT INTO reporting.registration (station_id, revision, since, connectors) VALUES ($1, $2, $3, $4)
ON CONFLICT DO NOTHING
"""
# Once: later on a station without a row is one whose event is on its way, which says since when it is there.
_SEED: Final = """
WITH first AS (INSERT INTO reporting.seeded DEFAULT VALUES ON CONFLICT DO NOTHING RETURNING true)
INSERT INTO reporting.registration (station_id, revision, since, connectors)
SELECT c.station_id, 0, NULL, array_agg(c.connector_id ORDER BY c.connector_id)
FROM stations.connector_overview AS c
WHERE c.connector_id > 0 AND EXISTS (SELECT FROM first)
  AND NOT EXISTS (SELECT FROM reporting.registration AS r WHERE r.station_id = c.station_id COLLATE "C")
GROUP BY c.station_id
ON CONFLICT DO NOTHING
"""
_STATIONS: Final = f"""
SELECT DISTINCT station_id FROM reporting.registration
WHERE station_id > $1 AND ($2::text[] IS NULL OR station_id = ANY ($2)) AND cardinality(connectors) > 0
  AND {visible("station_id", 4)}
ORDER BY station_id LIMIT $3
"""  # noqa: S608  # our own names
# Spans of one revision of the registry each; those of one port that touch are one to whoever merges them.
_SERVICE: Final = """
SELECT station_id, connector_id, floor(extract(epoch FROM since) * 1000)::bigint AS start_ms,
       floor(extract(epoch FROM until) * 1000)::bigint AS end_ms
FROM (
    SELECT station_id, connectors, since, lead(since) OVER (PARTITION BY station_id ORDER BY revision) AS until
    FROM reporting.registration WHERE station_id = ANY ($1)
) AS registered CROSS JOIN LATERAL unnest(connectors) AS connector_id
WHERE (since IS NULL OR since < $3) AND (until IS NULL OR until > $2)
ORDER BY station_id, connector_id, since NULLS FIRST
"""
# Neighbouring intervals in which a port is up as one: a year of a busy port is thousands of statuses and few outages.
_UP: Final = """
WITH stated AS (
    SELECT station_id, connector_id, since, place, coalesce(until, $3) AS until, status = ANY ($4::smallint[]) AS is_up
    FROM telemetry.status_intervals($1, $2, $3)
), compared AS (
    SELECT *, is_up IS DISTINCT FROM lag(is_up) OVER o OR since IS DISTINCT FROM lag(until) OVER o AS begins
    FROM stated WINDOW o AS (PARTITION BY station_id, connector_id ORDER BY since, place)
), numbered AS (
    SELECT *, count(*) FILTER (WHERE begins) OVER (
        PARTITION BY station_id, connector_id ORDER BY since, place ROWS UNBOUNDED PRECEDING
    ) AS run FROM compared
)
SELECT station_id, connector_id, floor(extract(epoch FROM min(since)) * 1000)::bigint AS start_ms,
       floor(extract(epoch FROM max(until)) * 1000)::bigint AS end_ms
FROM numbered WHERE is_up GROUP BY station_id, connector_id, run
"""
_FIRST_STATUS: Final = """
SELECT station_id, connector_id, floor(extract(epoch FROM min(since)) * 1000)::bigint AS start_ms
FROM telemetry.status_intervals($1, $2, $3) GROUP BY station_id, connector_id
"""
_NOTABLE: Final = """
SELECT station_id, connector_id, floor(extract(epoch FROM since) * 1000)::bigint AS start_ms,
       floor(extract(epoch FROM coalesce(until, $3)) * 1000)::bigint AS end_ms, status, error_code, vendor_error_code
FROM telemetry.status_intervals($1, $2, $3)
WHERE status = $4 OR error_code IS NOT NULL OR vendor_error_code IS NOT NULL
ORDER BY station_id, connector_id, since, place LIMIT $5
"""
_SESSIONS: Final = """
SELECT id, station_id, connector_id, floor(extract(epoch FROM started_at) * 1000)::bigint AS start_ms,
       floor(extract(epoch FROM ended_at) * 1000)::bigint AS end_ms, end_reason, energy_uj
FROM telemetry.session_overview
WHERE station_id = ANY ($1) AND ended_at >= $2 AND ended_at < $3 AND end_reason <> $5
ORDER BY station_id, connector_id, ended_at, id LIMIT $4
"""
_PEAKS: Final = "SELECT id, power_mw FROM telemetry.session_peaks($1)"
_PEAKS_AT_ONCE: Final = 5_000  # sessions: of an hour each 300,000 windows


class UptimeStore:
    """Every method raises Unavailable where the database does not answer."""

    def __init__(self, database: Database | Transaction) -> None:
        self._database = database

    async def stations(self, after: str, named: Sequence[str] | None, only: StationFilter, rows_max: int) -> list[str]:
        """Up to rows_max of these stations that had a connector at some time, behind that one, by id."""
        rows = await self._database.fetch(
            _STATIONS, after, None if named is None else list(named), rows_max, *only.values
        )
        return [row["station_id"] for row in rows]

    async def service(self, stations: Sequence[str], start: datetime, end: datetime) -> list[asyncpg.Record]:
        """When each connector of these stations was registered, within that time. start_ms is null where it was
        registered before this service was there, end_ms where it still is."""
        return await self._database.fetch(_SERVICE, list(stations), start, end)

    async def up(self, stations: Sequence[str], start: datetime, end: datetime) -> list[asyncpg.Record]:
        """When each connector was up."""
        return await self._database.fetch(_UP, list(stations), start, end, [int(status) for status in UP_STATUSES])

    async def first_status(self, stations: Sequence[str], start: datetime, end: datetime) -> list[asyncpg.Record]:
        """When each connector had a status first, of those that are in force in that time."""
        return await self._database.fetch(_FIRST_STATUS, list(stations), start, end)

    async def notable(
        self, stations: Sequence[str], start: datetime, end: datetime, rows_max: int
    ) -> list[asyncpg.Record]:
        """Status intervals with a fault or an error code."""
        return await self._database.fetch(_NOTABLE, list(stations), start, end, int(Status.FAULTED), rows_max)

    async def sessions(
        self, stations: Sequence[str], start: datetime, end: datetime, rows_max: int
    ) -> list[asyncpg.Record]:
        """Sessions that ended in that time, without those that late readings withdrew."""
        withdrawn = int(EndReason.WITHDRAWN)
        return await self._database.fetch(_SESSIONS, list(stations), start, end, rows_max, withdrawn)

    async def peaks(self, sessions: Sequence[UUID]) -> dict[UUID, int | None]:
        """The highest power of each of these sessions, in mW."""
        found: dict[UUID, int | None] = {}
        for start in range(0, len(sessions), _PEAKS_AT_ONCE):
            rows = await self._database.fetch(_PEAKS, list(sessions[start : start + _PEAKS_AT_ONCE]))
            found |= {row["id"]: row["power_mw"] for row in rows}
        return found

    async def seed(self) -> None:
        """Take over stations that the registry had before this service was there, once."""
        await self._database.execute(_SEED)


async def register(
    connection: Transaction, station_id: str, revision: int, since: datetime, connectors: Sequence[int]
) -> None:
    """Store a revision of a station's connectors; one that is stored already stays as it is."""
    await connection.execute(_REGISTER, station_id, revision, since, list(connectors))
