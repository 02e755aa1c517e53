"""The SQL of chargers' credentials."""

from datetime import datetime
from typing import Final

import asyncpg

from kit.database.postgres import Database
from kit.messaging.outbox import Transaction
from kit.web.errors import Conflict

_PUT: Final = """
INSERT INTO stations.credential (station_id, password_hash, certificate_subject, changed_at, changed_by)
SELECT station_id, $2, $3, $4, $5 FROM stations.station WHERE station_id = $1
ON CONFLICT (station_id) DO UPDATE SET (password_hash, certificate_subject, changed_at, changed_by) = ($2, $3, $4, $5),
    certificate_shared = false
RETURNING true
"""
_SHOW: Final = """
SELECT station_id, password_hash IS NOT NULL AS has_password, certificate_subject, changed_at, changed_by
FROM stations.credential WHERE station_id = $1
"""
_LOCK: Final = "SELECT pg_advisory_xact_lock(hashtextextended('voltstream credentials ' || $1, 0))"
_DELETE: Final = "DELETE FROM stations.credential WHERE station_id = $1"


class CredentialStore:
    """Every method raises Unavailable where the database does not answer."""

    def __init__(self, database: Database) -> None:
        self.database = database

    async def credentials(self, station_id: str) -> asyncpg.Record | None:
        """Which ones there are."""
        return await self.database.fetchrow(_SHOW, station_id)


async def lock(connection: Transaction, station_id: str) -> asyncpg.Record | None:
    """Which ones there are; nobody else changes them until the transaction ends."""
    await connection.execute(_LOCK, station_id)
    return await connection.fetchrow(_SHOW, station_id)


async def put(
    connection: Transaction,
    station_id: str,
    password_hash: str | None,
    subject: str | None,
    now: datetime,
    changed_by: str,
) -> bool:
    """Store these in place of whatever there was; False: the station is not registered. Raises Conflict where the
    certificate is another station's."""
    try:
        return bool(await connection.fetchval(_PUT, station_id, password_hash, subject, now, changed_by))
    except asyncpg.UniqueViolationError:
        raise Conflict(f"certificate_subject {subject} is another station's: take it away from there first") from None


async def delete(connection: Transaction, station_id: str) -> None:
    """Delete whatever there is."""
    await connection.execute(_DELETE, station_id)
