"""The SQL of exclusions."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

import asyncpg

from kit.auth.station_filter import EVERY_STATION, StationFilter, visible
from kit.database.postgres import Database
from kit.messaging.outbox import Transaction
from kit.web.paging import Cursor, Micros, from_micros

_COLUMNS: Final = (
    "id, station_id, connector_id, since, until, reason, note, made_at, made_by, withdrawn_at, withdrawn_by"
)
_ADD: Final = f"""
INSERT INTO reporting.exclusion (id, station_id, connector_id, since, until, reason, note, made_at, made_by)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
RETURNING {_COLUMNS}
"""  # noqa: S608 - constants
_WITHDRAW: Final = f"""
UPDATE reporting.exclusion
SET withdrawn_at = coalesce(withdrawn_at, $2), withdrawn_by = coalesce(withdrawn_by, $3)
WHERE id = $1 AND {visible("station_id", 4)} RETURNING {_COLUMNS}
"""  # noqa: S608  # our own names
_PAGE: Final = f"""
SELECT {_COLUMNS} FROM reporting.exclusion
WHERE ($1::text IS NULL OR station_id = $1) AND ($2::timestamptz IS NULL OR until > $2)
  AND ($3::timestamptz IS NULL OR since < $3)
  AND ($4::timestamptz IS NULL OR (made_at, id) < ($4, $5::uuid)) AND {visible("station_id", 7)}
ORDER BY made_at DESC, id DESC LIMIT $6
"""  # noqa: S608  # our own names
_IN_FORCE: Final = f"""
SELECT {_COLUMNS} FROM reporting.exclusion
WHERE withdrawn_at IS NULL AND station_id = ANY ($1) AND until > $2 AND since < $3
ORDER BY station_id, since, id LIMIT $4
"""  # noqa: S608  # our own names


class ExclusionCursor(Cursor, frozen=True, tag="xc"):
    """The last exclusion seen."""

    made_us: Micros
    id: UUID


@dataclass(frozen=True, slots=True)
class ExclusionFilter:
    """Which ones are wanted: all fields None, all."""

    station_id: str | None = None
    start: datetime | None = None
    end: datetime | None = None
    only: StationFilter = EVERY_STATION


class ExclusionStore:
    """Every method raises Unavailable where the database does not answer."""

    def __init__(self, database: Database | Transaction) -> None:
        self._database = database

    async def page(self, wanted: ExclusionFilter, after: ExclusionCursor | None, rows_max: int) -> list[asyncpg.Record]:
        """Up to rows_max exclusions, newest first."""
        key = (from_micros(after.made_us), after.id) if after else (None, None)
        chosen = (wanted.station_id, wanted.start, wanted.end)
        return await self._database.fetch(_PAGE, *chosen, *key, rows_max, *wanted.only.values)

    async def in_force(
        self, stations: Sequence[str], start: datetime, end: datetime, rows_max: int
    ) -> list[asyncpg.Record]:
        """Those of these stations in a time that are not withdrawn."""
        return await self._database.fetch(_IN_FORCE, list(stations), start, end, rows_max)


async def add(
    connection: Transaction,
    place: tuple[str, int | None],
    times: tuple[datetime, datetime],
    why: tuple[str, str],
    made: tuple[datetime, str],
    exclusion_id: UUID,
) -> asyncpg.Record:
    """Store an exclusion: (station, port), (from, to), (reason, note), (when, by whom) it was made."""
    row = await connection.fetchrow(_ADD, exclusion_id, *place, *times, *why, *made)
    assert row is not None  # noqa: S101 - RETURNING
    return row


async def withdraw(
    connection: Transaction, exclusion_id: UUID, now: datetime, by: str, only: StationFilter
) -> asyncpg.Record | None:
    """Withdraw it; one that is withdrawn stays as it is. None: there is none of these stations."""
    return await connection.fetchrow(_WITHDRAW, exclusion_id, now, by, *only.values)
