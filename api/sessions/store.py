"""The SQL of the session queries, by the contracts that telemetry publishes."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

import asyncpg

from api.sessions.models import SessionState
from kit.auth.station_filter import EVERY_STATION, StationFilter, sees, visible
from kit.database.postgres import Database
from kit.messaging.outbox import Transaction
from kit.web.paging import Cursor, Int64, Micros, from_micros, to_micros
from schemas.session import EndReason

_SELECT: Final = "SELECT * FROM telemetry.session_overview"
_BY_ID: Final = f"{_SELECT} WHERE id = $1"
_BY_IDS: Final = f"{_SELECT} WHERE id = ANY($1::uuid[])"
# A connector's open session is its newest: another one that begins there ends it.
_KEPT: Final = f"end_reason <> {int(EndReason.WITHDRAWN)}"  # else its readings are other sessions'
_OPEN_AT: Final = f"""
SELECT s.id FROM (
    SELECT id, end_reason FROM telemetry.session_overview
    WHERE station_id = $1 AND connector_id = $2 AND {_KEPT}
    ORDER BY started_at DESC, session_key DESC LIMIT 1
) AS s WHERE s.end_reason = 0
"""  # noqa: S608  # our own number
_BY_NAME: Final = f"""{_SELECT}
WHERE session_id = $1 AND ($2::text IS NULL OR station_id = $2) AND {_KEPT} AND {visible("station_id", 4)}
ORDER BY started_at DESC, session_key DESC LIMIT $3
"""
_LIST: Final = f"""{_SELECT}
WHERE ($1::text IS NULL OR station_id = $1)
  AND ($2::timestamptz IS NULL OR started_at >= $2) AND ($3::timestamptz IS NULL OR started_at < $3)
  AND {_KEPT}
  AND ($4::text IS NULL OR CASE WHEN end_reason = 0 THEN 'open' WHEN hold <> 0 THEN 'held' WHEN void = 1 THEN 'void'
                                ELSE 'completed' END = $4)
  AND ($5::timestamptz IS NULL OR (started_at, session_key) < ($5, $6::bigint))
  AND {visible("station_id", 8)}
ORDER BY started_at DESC, session_key DESC LIMIT $7
"""


class SessionCursor(Cursor, frozen=True, tag="s"):
    """The last session seen."""

    started_us: Micros
    session_key: Int64


def session_cursor(row: asyncpg.Record) -> SessionCursor:
    """The cursor key of a row of `list_sessions`."""
    return SessionCursor(to_micros(row["started_at"]), row["session_key"])


_TARIFF: Final = """
SELECT d.tariff::text FROM pricing.tariffs_at(ARRAY[$1::text], ARRAY[$2::bigint]) AS t
CROSS JOIN LATERAL pricing.documents(ARRAY[t.version_key]) AS d
"""


@dataclass(frozen=True, slots=True)
class SessionFilter:
    """A filter of sessions; None: any. They started in [start, end)."""

    station_id: str | None
    start: datetime | None
    end: datetime | None
    state: SessionState | None
    only: StationFilter = EVERY_STATION


class SessionStore:
    """Reads sessions. Every method raises Unavailable where the database does not answer."""

    def __init__(self, database: Database | Transaction) -> None:
        """A transaction reads by its own connection: waiting for another one while holding it could last for ever."""
        self._database = database

    async def by_id(self, session: UUID) -> asyncpg.Record | None:
        """The session with this id of voltstream's, if it is stored."""
        return await self._database.fetchrow(_BY_ID, session)

    async def by_ids(self, sessions: Sequence[UUID]) -> dict[UUID, asyncpg.Record]:
        """The rows of these sessions by id; sessions that are not stored are left out."""
        return {row["id"]: row for row in await self._database.fetch(_BY_IDS, sessions)}

    async def open_at(self, station_id: str, connector_id: int) -> UUID | None:
        """voltstream's id of the session that runs at this connector, if one does."""
        found: UUID | None = await self._database.fetchval(_OPEN_AT, station_id, connector_id)
        return found

    async def tariff_at(self, station_id: str, moment_ms: int) -> str | None:
        """The JSON of the tariff in force at the station then, if any."""
        found: str | None = await self._database.fetchval(_TARIFF, station_id, moment_ms)
        return found

    async def sees(self, only: StationFilter, station_id: str) -> bool:
        """Whether the station passes the filter now."""
        return await sees(self._database, only, station_id)

    async def by_name(
        self, session_id: str, station_id: str | None, only: StationFilter, rows_max: int
    ) -> list[asyncpg.Record]:
        """Up to rows_max sessions that devices of these stations gave this id, newest first."""
        return await self._database.fetch(_BY_NAME, session_id, station_id, rows_max, *only.values)

    async def list_sessions(
        self, selected: SessionFilter, after: SessionCursor | None, rows_max: int
    ) -> list[asyncpg.Record]:
        """Up to rows_max sessions, newest first."""
        state = None if selected.state is None else str(selected.state)
        behind = (None, None) if after is None else (from_micros(after.started_us), after.session_key)
        span = (selected.station_id, selected.start, selected.end)
        return await self._database.fetch(_LIST, *span, state, *behind, rows_max, *selected.only.values)
