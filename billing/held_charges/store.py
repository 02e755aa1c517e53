"""The SQL that reads held charges."""

from collections.abc import Sequence
from typing import Final
from uuid import UUID

import asyncpg

from kit.database.postgres import Database
from kit.web.paging import Cursor, Micros, from_micros

# The condition on the status is that of the index cdr_odd, so that it serves.
_MANY: Final = """
SELECT id AS cdr_id, status, kind, CASE WHEN kind = 'session' THEN subject_id END AS session_id, reservation_id,
       driver_id, station_id, started_at, ended_at, version, revision, tariff_version, currency, total_excl_micros,
       total_incl_micros, stream_excl_micros, stream_incl_micros, created_at
FROM billing.cdr
WHERE current AND status IN ('drift', 'review', 'unpriced') AND status = ANY ($1::text[])
  AND ($2::timestamptz IS NULL OR (created_at, id) < ($2, $3::uuid))
ORDER BY created_at DESC, id DESC LIMIT $4
"""


class HeldChargeCursor(Cursor, frozen=True, tag="c"):
    """The last charge seen."""

    created_us: Micros
    id: UUID


class HeldChargeStore:
    """Reads held charges. Raises Unavailable where the database does not answer."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def list_held_charges(
        self, statuses: Sequence[str], after: HeldChargeCursor | None, rows_max: int
    ) -> Sequence[asyncpg.Record]:
        """Up to rows_max current CDRs in one of these statuses, newest first."""
        key = (None, None) if after is None else (from_micros(after.created_us), after.id)
        return await self._database.fetch(_MANY, list(statuses), *key, rows_max)
