"""The SQL of versions and the tariff in force."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, cast
from uuid import UUID, uuid4

import asyncpg
import msgspec

from api.pricing.documents.tariff import document_of
from api.pricing.events import pricing_updated
from api.pricing.models import DEFAULT, Reason, TariffTarget
from kit.audit.recording import record
from kit.clock import format_rfc3339
from kit.database.postgres import Database
from kit.messaging.outbox import Transaction, insert_async
from kit.web.paging import Cursor, Int64
from schemas.tariff import Tariff

SCHEMA: Final = "pricing"
# Future moments that are examined for the next change. Operators plan a handful; 200 questions take 5 ms.
CHANGES_MAX: Final = 200

COLUMNS: Final = """version_key, id, target_kind, target, time_zone, currency, tariff, effective_from, published_at,
reason, published_by, base_version"""
_INSERT: Final = f"""
INSERT INTO pricing.version
    (id, target_kind, target, time_zone, currency, tariff, effective_from, published_at, reason, published_by,
     base_version)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) RETURNING {COLUMNS}
"""  # noqa: S608  # the names above
_BY_ID: Final = f"SELECT {COLUMNS} FROM pricing.version WHERE id = $1"  # noqa: S608  # our own names
_LIST: Final = f"""
SELECT {COLUMNS} FROM pricing.version
WHERE ($1::text IS NULL OR (target_kind, target) = ($1, $2::text)) AND ($3::bigint IS NULL OR version_key < $3)
ORDER BY version_key DESC LIMIT $4
"""  # noqa: S608  # our own names
_NEWEST: Final = """
SELECT id, tariff, effective_from FROM pricing.version WHERE (target_kind, target) = ($1, $2)
ORDER BY version_key DESC LIMIT 1
"""
_IN_FORCE: Final = f"""
SELECT {COLUMNS}
FROM pricing.version
WHERE version_key = (SELECT version_key FROM pricing.tariffs_at(ARRAY[$1], ARRAY[$2::bigint]))
"""  # noqa: S608  # our own names
# While a version of a more specific target is in force, those of less specific ones change nothing.
_NEXT: Final = """
WITH target AS (
    SELECT 1 AS rank, 'station' AS target_kind, $1::text COLLATE "C" AS target
    UNION ALL SELECT 2, 'group', group_name FROM pricing.station_group WHERE station_id = $1
    UNION ALL SELECT 3, 'default', ''
), ahead AS (
    SELECT DISTINCT moment
    FROM target
    CROSS JOIN LATERAL (
        (SELECT DISTINCT effective_from FROM pricing.version AS v
         WHERE (v.target_kind, v.target) = (target.target_kind, target.target) AND v.effective_from > $3
         ORDER BY effective_from LIMIT $5)
        UNION ALL
        (SELECT DISTINCT starts_at FROM pricing.version AS v
         WHERE (v.target_kind, v.target) = (target.target_kind, target.target) AND v.starts_at > $3
         ORDER BY starts_at LIMIT $5)
        UNION ALL
        (SELECT DISTINCT ends_at FROM pricing.version AS v
         WHERE (v.target_kind, v.target) = (target.target_kind, target.target) AND v.ends_at > $3
         ORDER BY ends_at LIMIT $5)
    ) AS change (moment)
    WHERE target.rank <= coalesce((SELECT rank FROM target WHERE target_kind = $2), 3)
    ORDER BY moment LIMIT $5
), asked AS (
    SELECT ceil(extract(epoch FROM moment) * 1000)::bigint AS moment_ms, row_number() OVER (ORDER BY moment) AS place
    FROM ahead
), answered AS (
    SELECT place, version_key
    FROM pricing.tariffs_at(
        (SELECT array_agg($1::text) FROM asked), (SELECT array_agg(moment_ms ORDER BY place) FROM asked)
    )
)
SELECT asked.moment_ms, v.id
FROM asked LEFT JOIN answered USING (place) LEFT JOIN pricing.version AS v USING (version_key)
WHERE version_key IS DISTINCT FROM $4
ORDER BY place LIMIT 1
"""
_LOCK_RULE: Final = "SELECT FROM pricing.demand_rule WHERE (target_kind, target) = ($1, $2) FOR UPDATE"
_LOCK: Final = "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))"
_DEFAULT_LOCK: Final = "voltstream pricing default"


class VersionCursor(Cursor, frozen=True, tag="pv"):
    """The last version seen."""

    version_key: Int64


@dataclass(frozen=True, slots=True)
class NewTariff:
    """A version to be published."""

    target: TariffTarget
    time_zone: str
    effective_from: datetime
    tariff: Tariff
    reason: Reason
    published_by: str
    base_version: UUID | None = None  # of a demand rule's version: the one that it moved


async def lock_rule(connection: Transaction, target: TariffTarget) -> None:
    """Until the transaction ends no demand rule moves the target's price, and nobody changes its rule or makes one."""
    await connection.execute(_LOCK, f"voltstream demand rule {target.kind} {target.name}")
    await connection.execute(_LOCK_RULE, target.kind, target.name)


async def publish(connection: Transaction, new: NewTariff, now: datetime) -> asyncpg.Record:
    """A version and its event, in the open transaction; the row as stored."""
    document = document_of(new.tariff)
    before = await connection.fetchrow(_NEWEST, new.target.kind, new.target.name)
    row = await connection.fetchrow(
        _INSERT,
        uuid4(),
        new.target.kind,
        new.target.name,
        new.time_zone,
        new.tariff.currency,
        document.decode(),
        new.effective_from,
        now,
        new.reason,
        new.published_by,
        new.base_version,
    )
    event = pricing_updated(row["id"], new.target, new.effective_from, new.time_zone, document, new.reason, now)
    await insert_async(connection, SCHEMA, [event])
    if new.reason == "operator":  # a demand rule's moves are its own versions, many a day
        await record(
            connection,
            "tariff.published",
            f"tariff/{new.target.kind}/{new.target.name}",
            before=None if before is None else _audited(before["id"], before["tariff"], before["effective_from"]),
            after=_audited(row["id"], document, new.effective_from),
        )
    return row


def _audited(version: UUID, document: str | bytes, effective_from: datetime) -> dict[str, Any]:
    return {
        "version": str(version),
        "effective_from": format_rfc3339(effective_from),
        "tariff": msgspec.Raw(document),  # as it is written
    }


class PricingStore:
    """Versions. Every method raises Unavailable where the database does not answer."""

    def __init__(self, database: Database) -> None:
        self.database = database

    async def by_id(self, version: UUID) -> asyncpg.Record | None:
        """The version of that id."""
        return await self.database.fetchrow(_BY_ID, version)

    async def list_versions(
        self, target: TariffTarget | None, after: VersionCursor | None, rows_max: int
    ) -> list[asyncpg.Record]:
        """Up to rows_max versions of a target or of all, published last first."""
        kind, name = (None, None) if target is None else (target.kind, target.name)
        return await self.database.fetch(_LIST, kind, name, after and after.version_key, rows_max)

    async def in_force(self, station_id: str, moment_ms: int) -> asyncpg.Record | None:
        """The version that prices sessions that begin there then."""
        return await self.database.fetchrow(_IN_FORCE, station_id, moment_ms)

    async def next_change(
        self, station_id: str, moment: datetime, current: asyncpg.Record | None
    ) -> tuple[int, UUID | None] | None:
        """When another version than `current`, in force at `moment`, comes in force (ms), and which; None: unknown."""
        kind, key = (None, None) if current is None else (current["target_kind"], current["version_key"])
        row = await self.database.fetchrow(_NEXT, station_id, kind, moment, key, CHANGES_MAX)
        return None if row is None else cast("tuple[int, UUID | None]", tuple(row))

    async def publish_first(self, new: NewTariff, now: datetime) -> bool:
        """Publish it if there is no version of any target; whether it was."""
        async with self.database.transaction() as connection:
            await connection.execute(_LOCK, _DEFAULT_LOCK)
            if await connection.fetchval("SELECT EXISTS (SELECT FROM pricing.version)"):
                return False
            await publish(connection, new, now)
            return True


def target_of(row: asyncpg.Record) -> TariffTarget:
    """The target of a version's row."""
    return DEFAULT if row["target_kind"] == DEFAULT.kind else TariffTarget(row["target_kind"], row["target"])
