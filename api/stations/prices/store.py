"""The SQL of tariff versions and of the prices that follow from them."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

from api.stations.prices.price import Price, TariffVersion
from kit.messaging.outbox import Transaction
from schemas.tariff import exact_tariff

Target = tuple[str, str]
"""Kind (station, group, default) and name."""

_LOCK: Final = "SELECT pg_advisory_xact_lock(hashtextextended('voltstream prices ' || $1 || ' ' || $2, 0))"
_ADD: Final = """
INSERT INTO stations.tariff (version, target_kind, target, time_zone, effective_from, published_at, tariff)
VALUES ($1, $2, $3, $4, $5, $6, $7::jsonb) ON CONFLICT DO NOTHING
"""
_VERSIONS: Final = """
SELECT version, time_zone, effective_from, published_at, tariff FROM stations.tariff
WHERE (target_kind, target) = ($1, $2)
"""
_FORGET: Final = "DELETE FROM stations.tariff WHERE (target_kind, target) = ($1, $2) AND version <> ALL ($3::uuid[])"
_CLEAR: Final = "DELETE FROM stations.price WHERE (target_kind, target) = ($1, $2)"
_PUT: Final = """
INSERT INTO stations.price (target_kind, target, starts_at, ends_at, micros, currency)
SELECT $1, $2, b, e, m, c FROM unnest($3::timestamptz[], $4::timestamptz[], $5::bigint[], $6::text[]) AS p (b, e, m, c)
"""
_COMPUTED: Final = """
INSERT INTO stations.price_target (target_kind, target, computed_to) VALUES ($1, $2, $3)
ON CONFLICT (target_kind, target) DO UPDATE SET computed_to = excluded.computed_to
"""
_DUE: Final = """
SELECT target_kind, target FROM stations.price_target WHERE computed_to < $1
ORDER BY target_kind, target LIMIT $2 FOR UPDATE SKIP LOCKED
"""


async def lock(connection: Transaction, target: Target) -> None:
    """Until the transaction ends nobody else changes the target's prices."""
    await connection.execute(_LOCK, *target)


async def add(connection: Transaction, target: Target, version: TariffVersion, document: str) -> None:
    """Store a version."""
    times = (version.effective_from, version.published_at)
    await connection.execute(_ADD, version.version, *target, version.time_zone, *times, document)


async def versions(connection: Transaction, target: Target) -> list[TariffVersion]:
    """The target's versions that are stored."""
    return [
        TariffVersion(
            row["version"], row["time_zone"], row["effective_from"], row["published_at"], exact_tariff(row["tariff"])
        )
        for row in await connection.fetch(_VERSIONS, *target)
    ]


async def replace(
    connection: Transaction, target: Target, kept: Sequence[UUID], prices: Sequence[Price], until: datetime
) -> None:
    """Make these the target's prices, which are known until then, and forget all other versions."""
    await connection.execute(_FORGET, *target, list(kept))
    await connection.execute(_CLEAR, *target)
    columns = ([getattr(one, name) for one in prices] for name in ("starts_at", "ends_at", "micros", "currency"))
    await connection.execute(_PUT, *target, *columns)
    await connection.execute(_COMPUTED, *target, until)


async def due(connection: Transaction, before: datetime, rows_max: int) -> list[Target]:
    """Up to rows_max targets whose prices are known until then only, locked."""
    return [(row[0], row[1]) for row in await connection.fetch(_DUE, before, rows_max)]
