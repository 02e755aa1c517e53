"""The SQL of settings and their changes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import asyncpg
import msgspec

from kit.config.values import EMPTY, ConfigSnapshot
from kit.database.postgres import Database
from kit.messaging.outbox import Transaction
from kit.web.paging import Cursor, Int64

SCHEMA: Final = "config"
_SNAPSHOT: Final = "SELECT revision, settings FROM config.snapshot"
_SETTINGS: Final = "SELECT name, version, changed_at, changed_by, reason FROM config.setting"
_LOCK: Final = "SELECT revision FROM config.revision FOR UPDATE"
_PUT: Final = """
INSERT INTO config.setting (name, document, version, changed_at, changed_by, reason)
VALUES ($1, $2::jsonb, $3, $4, $5, $6)
ON CONFLICT (name) DO UPDATE SET (document, version, changed_at, changed_by, reason) = ($2::jsonb, $3, $4, $5, $6)
"""
_ADD_CHANGE: Final = """
INSERT INTO config.change (revision, name, version, before, after, changed_at, changed_by, reason)
VALUES ($1, $2, $3, $4::jsonb, $5::jsonb, $6, $7, $8)
"""
_CHANGES: Final = """
SELECT revision, name, version, before, after, changed_at, changed_by, reason FROM config.change
WHERE ($1::text[] IS NULL OR name = ANY ($1)) AND ($2::bigint IS NULL OR revision < $2)
ORDER BY revision DESC LIMIT $3
"""
_STATIONS: Final = "SELECT station_id FROM stations.station_overview ORDER BY station_id LIMIT $1"

Document = Mapping[str, Any]


class ChangeCursor(Cursor, frozen=True, tag="cf"):
    """The last change seen."""

    revision: Int64


@dataclass(frozen=True, slots=True)
class StoredChange:
    """A change of a setting, to be recorded."""

    revision: int
    name: str
    version: int
    before: Document | None
    after: Document | None
    changed_at: datetime
    changed_by: str
    reason: str


class ConfigStore:
    """Every method raises Unavailable where the database does not answer."""

    def __init__(self, database: Database) -> None:
        self.database = database

    async def snapshot(self) -> ConfigSnapshot:
        """All that is set."""
        return _snapshot(await self.database.fetchrow(_SNAPSHOT))

    async def settings(self) -> dict[str, asyncpg.Record]:
        """The last change of each setting that was ever set, by name."""
        return {row["name"]: row for row in await self.database.fetch(_SETTINGS)}

    async def changes(self, names: Sequence[str], after: ChangeCursor | None, rows_max: int) -> list[StoredChange]:
        """Up to rows_max changes of these settings, newest first."""
        rows = await self.database.fetch(_CHANGES, list(names), after and after.revision, rows_max)
        return [_change(row) for row in rows]


async def stations(connection: Transaction, rows_max: int) -> list[str]:
    """Registered stations, by their ids."""
    return [row["station_id"] for row in await connection.fetch(_STATIONS, rows_max)]


async def current(connection: Transaction, *, lock: bool) -> tuple[ConfigSnapshot, dict[str, asyncpg.Record]]:
    """All that is set, and the last change of each setting that was ever set. `lock`: nobody else changes anything
    until the transaction ends."""
    if lock:
        await connection.fetchval(_LOCK)
    snapshot = _snapshot(await connection.fetchrow(_SNAPSHOT))
    return snapshot, {row["name"]: row for row in await connection.fetch(_SETTINGS)}


async def record(connection: Transaction, change: StoredChange) -> None:
    """Store the change, in the transaction that has locked."""
    author = (change.changed_at, change.changed_by, change.reason)
    before, after = _json(change.before), _json(change.after)
    await connection.execute(_PUT, change.name, after, change.version, *author)
    await connection.execute(_ADD_CHANGE, change.revision, change.name, change.version, before, after, *author)
    await connection.execute("UPDATE config.revision SET revision = $1", change.revision)


def _snapshot(row: asyncpg.Record | None) -> ConfigSnapshot:
    return EMPTY if row is None else ConfigSnapshot(row["revision"], msgspec.json.decode(row["settings"]))


def _change(row: asyncpg.Record) -> StoredChange:
    columns: dict[str, Any] = dict(row)
    for name in ("before", "after"):
        columns[name] = None if columns[name] is None else msgspec.json.decode(columns[name])
    return StoredChange(**columns)


def _json(document: Document | None) -> str | None:
    return None if document is None else msgspec.json.encode(document).decode()
