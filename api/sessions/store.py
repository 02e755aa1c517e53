"""The SQL of the session queries. Reads the tables of streams/ through a role that may only read."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

import asyncpg

from api.sessions.models import SessionState
from kit.database.postgres import Database
from kit.web.paging import Cursor, Int64, Micros, from_micros, to_micros

_COLUMNS: Final = """
SELECT s.session_key, s.id, c.station_id, c.connector_id, s.session_id, s.started_at, s.last_at, s.ended_at,
       s.end_reason, s.energy_uj, s.integrated_uj, s.register_first_mwh, s.readings, s.flagged, s.revision,
       s.tariff_version, s.currency, s.cost_excl_micros, s.cost_incl_micros,
       s.cost_energy_micros, s.cost_time_micros, s.cost_parking_micros, s.cost_flat_micros
FROM telemetry.session AS s JOIN telemetry.connector AS c USING (connector_key)
"""
_BY_ID: Final = f"{_COLUMNS} WHERE s.id = $1"
_BY_IDS: Final = f"{_COLUMNS} WHERE s.id = ANY($1::uuid[])"
# A connector's open session is its newest: another one that begins there ends it.
_OPEN_AT: Final = """
SELECT s.id FROM (
    SELECT s.id, s.end_reason
    FROM telemetry.session AS s JOIN telemetry.connector AS c USING (connector_key)
    WHERE c.station_id = $1 AND c.connector_id = $2
    ORDER BY s.started_at DESC, s.session_key DESC LIMIT 1
) AS s WHERE s.end_reason = 0
"""
_BY_NAME: Final = f"""{_COLUMNS}
WHERE s.session_id = $1 AND ($2::text IS NULL OR c.station_id = $2)
ORDER BY s.started_at DESC, s.session_key DESC LIMIT $3
"""
_LIST: Final = f"""{_COLUMNS}
WHERE ($1::text IS NULL OR c.station_id = $1)
  AND ($2::timestamptz IS NULL OR s.started_at >= $2) AND ($3::timestamptz IS NULL OR s.started_at < $3)
  AND ($4::boolean IS NULL OR (s.end_reason = 0) = $4)
  AND ($5::timestamptz IS NULL OR (s.started_at, s.session_key) < ($5, $6::bigint))
ORDER BY s.started_at DESC, s.session_key DESC LIMIT $7
"""


# Bounds as streams' own: a reading that names a session may be a day older than its start, or than its end newer.
_READINGS: Final = """
SELECT (extract(epoch FROM r.ts) * 1000)::bigint AS ts_ms, r.boot, r.seq, r.energy_mwh, r.power_mw, r.current_ma,
       r.status, r.session_event, r.flags
FROM telemetry.session AS s CROSS JOIN LATERAL (
    SELECT * FROM telemetry.reading
    WHERE connector_key = s.connector_key AND session_key = s.session_key
      AND ts >= s.started_at - interval '1 day' AND ts <= coalesce(s.ended_at + interval '1 day', 'infinity') OFFSET 0
) AS r
WHERE s.id = $1 ORDER BY r.ts, r.seq, r.boot LIMIT $2
"""


class SessionCursor(Cursor, frozen=True, tag="s"):
    """The last session seen."""

    started_us: Micros
    session_key: Int64


def session_cursor(row: asyncpg.Record) -> SessionCursor:
    """The key of a row of `many`."""
    return SessionCursor(to_micros(row["started_at"]), row["session_key"])


@dataclass(frozen=True, slots=True)
class SessionFilter:
    """Which sessions; None: whichever. They started in [start, end)."""

    station_id: str | None
    start: datetime | None
    end: datetime | None
    state: SessionState | None


class SessionStore:
    """The session table, read. Every method raises Unavailable where the database does not answer."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def by_id(self, session: UUID) -> asyncpg.Record | None:
        """The session of voltstream's id."""
        return await self._database.fetchrow(_BY_ID, session)

    async def by_ids(self, sessions: Sequence[UUID]) -> dict[UUID, asyncpg.Record]:
        """Those of these sessions that there are."""
        return {row["id"]: row for row in await self._database.fetch(_BY_IDS, sessions)}

    async def open_at(self, station_id: str, connector_id: int) -> UUID | None:
        """voltstream's id of the session that runs at this connector, if one does."""
        found: UUID | None = await self._database.fetchval(_OPEN_AT, station_id, connector_id)
        return found

    async def by_name(self, session_id: str, station_id: str | None, rows_max: int) -> list[asyncpg.Record]:
        """Up to rows_max sessions that devices gave this id, newest first."""
        return await self._database.fetch(_BY_NAME, session_id, station_id, rows_max)

    async def readings(self, session: UUID, rows_max: int) -> list[asyncpg.Record]:
        """Up to rows_max stored readings of the session, in order of event time."""
        return await self._database.fetch(_READINGS, session, rows_max)

    async def many(self, wanted: SessionFilter, after: SessionCursor | None, rows_max: int) -> list[asyncpg.Record]:
        """Up to rows_max sessions, newest first."""
        is_open = None if wanted.state is None else wanted.state is SessionState.OPEN
        behind = (None, None) if after is None else (from_micros(after.started_us), after.session_key)
        return await self._database.fetch(
            _LIST, wanted.station_id, wanted.start, wanted.end, is_open, *behind, rows_max
        )
