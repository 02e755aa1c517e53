"""The SQL of demand rules and of connectors' activity."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final, NamedTuple
from uuid import UUID

import asyncpg

from api.pricing.demand.models import DemandRule
from api.pricing.models import TariffTarget
from kit.database.postgres import Database
from kit.messaging.outbox import Transaction

# A minute is published up to a few minutes after its end; a connector without a newer one does not count as charging.
FRESH: Final = timedelta(minutes=15)
KEEP: Final = timedelta(hours=24)  # a connector without readings for that long is no longer counted among the target's

# Of each row of `rules`: the operators' version that is moved, the tariff in force for the target, and the connectors
# of the stations that the target decides for; one that is reserved now counts as charging. $1: now, $2: since when a
# connector counts as charging.
_STATE: Final = """
WITH rules AS (
    SELECT target_kind, target, rule, base_version, level, level_of, changed_at FROM pricing.demand_rule
    WHERE (target_kind, target) IN (SELECT * FROM unnest($3::text[], $4::text[]))
)
SELECT rules.*, base.version_key AS base_key, base.id AS base_id, base.time_zone, base.tariff AS base_tariff,
       current.tariff AS current_tariff, demand.connectors, demand.charging,
       (SELECT g.organisation FROM pricing.station_group AS g
        WHERE rules.target_kind = 'station' AND g.station_id = upper(rules.target) AND g.registered) AS organisation
FROM rules
LEFT JOIN LATERAL (
    SELECT v.version_key, v.id, v.time_zone, v.tariff FROM pricing.version AS v
    WHERE v.target_kind = rules.target_kind AND v.target = rules.target AND v.reason = 'operator'
      AND v.effective_from <= $1 AND coalesce(v.starts_at <= $1, true) AND coalesce(v.ends_at > $1, true)
      AND (rules.base_version IS NULL OR v.id = rules.base_version)
    ORDER BY v.effective_from DESC, v.version_key DESC LIMIT 1
) AS base ON true
LEFT JOIN LATERAL (
    SELECT v.tariff FROM pricing.version AS v
    WHERE v.target_kind = rules.target_kind AND v.target = rules.target
      AND v.effective_from <= $1 AND coalesce(v.starts_at <= $1, true) AND coalesce(v.ends_at > $1, true)
    ORDER BY v.effective_from DESC, v.version_key DESC LIMIT 1
) AS current ON true
CROSS JOIN LATERAL (
    SELECT count(*) AS connectors,
           count(*) FILTER (
               WHERE charging AND window_start >= $2 OR EXISTS (
                   SELECT FROM pricing.booking AS b
                   WHERE b.station_id = of_target.station_id AND b.connector_id = of_target.connector_id
                     AND b.open AND b.starts_at <= $1 AND b.ends_at > $1
               )
           ) AS charging
    FROM (
        SELECT a.* FROM pricing.connector_activity AS a
        WHERE rules.target_kind = 'station' AND a.station_id = rules.target
        UNION ALL
        SELECT a.*
        FROM pricing.station_group AS g JOIN pricing.connector_activity AS a USING (station_id)
        WHERE rules.target_kind = 'group' AND g.group_name = rules.target
          AND NOT EXISTS (SELECT FROM pricing.version AS v WHERE v.target_kind = 'station' AND v.target = a.station_id)
        UNION ALL
        SELECT a.* FROM pricing.connector_activity AS a
        WHERE rules.target_kind = 'default'
          AND NOT EXISTS (SELECT FROM pricing.version AS v WHERE v.target_kind = 'station' AND v.target = a.station_id)
          AND NOT EXISTS (
              SELECT FROM pricing.station_group AS g
              JOIN pricing.version AS v ON v.target_kind = 'group' AND v.target = g.group_name
              WHERE g.station_id = a.station_id
          )
    ) AS of_target
) AS demand
ORDER BY rules.target_kind, rules.target
"""
# Two statements: what is read after the lock is what was committed before it. Operators' publishing locks the rule too,
# so no rule moves a price that an operator has just set. A rule that is locked is skipped: another transaction decides.
_LOCK_DUE: Final = """
SELECT target_kind, target FROM pricing.demand_rule
WHERE (changed_at IS NULL OR changed_at + make_interval(secs => (rule ->> 'hold_s')::int) <= $1)
  AND (
      target_kind = 'default'
      OR target_kind = 'station' AND target = ANY ($2::text[])
      OR target_kind = 'group'
         AND target IN (SELECT group_name FROM pricing.station_group WHERE station_id = ANY ($2::text[]))
  )
FOR UPDATE SKIP LOCKED
"""
# The same rule again changes nothing; another one begins at the base price, its hold counted from the last step.
_PUT: Final = """
INSERT INTO pricing.demand_rule AS r (target_kind, target, rule, base_version) VALUES ($1, $2, $3, $4)
ON CONFLICT (target_kind, target) DO UPDATE
SET rule = excluded.rule, base_version = excluded.base_version, level = 0, level_of = NULL
WHERE (r.rule, r.base_version) IS DISTINCT FROM (excluded.rule, excluded.base_version)
"""
_RECORD: Final = """
INSERT INTO pricing.connector_activity AS a (station_id, connector_id, window_start, revision, charging)
SELECT s, c, w, r, charging
FROM unnest($1::text[], $2::int[], $3::timestamptz[], $4::int[], $5::boolean[]) AS seen (s, c, w, r, charging)
ORDER BY s, c
ON CONFLICT (station_id, connector_id) DO UPDATE
SET window_start = excluded.window_start, revision = excluded.revision, charging = excluded.charging
WHERE (a.window_start, a.revision) < (excluded.window_start, excluded.revision)
"""  # ordered, so that two events of the same connectors wait for each other in one order


_BOOK: Final = """
INSERT INTO pricing.booking AS b (reservation_id, revision, station_id, connector_id, starts_at, ends_at, open)
SELECT * FROM unnest($1::text[], $2::int[], $3::text[], $4::int[], $5::timestamptz[], $6::timestamptz[], $7::boolean[])
    AS seen (reservation_id, revision, station_id, connector_id, starts_at, ends_at, open)
ORDER BY reservation_id
ON CONFLICT (reservation_id) DO UPDATE
SET (revision, station_id, connector_id, starts_at, ends_at, open) =
    (excluded.revision, excluded.station_id, excluded.connector_id, excluded.starts_at, excluded.ends_at, excluded.open)
WHERE b.revision < excluded.revision
"""


class Booking(NamedTuple):
    """A reservation, as an event has it."""

    reservation_id: str
    revision: int
    station_id: str
    connector_id: int | None
    starts_at: datetime
    ends_at: datetime
    open: bool


class Activity(NamedTuple):
    """A connector's activity in a window."""

    station_id: str
    connector_id: int
    window_start: datetime
    revision: int
    charging: bool


class DemandStore:
    """The rules. Methods with a connection work in its open transaction; all raise Unavailable without a database."""

    def __init__(self, database: Database) -> None:
        self.database = database

    async def state(self, target: TariffTarget, now: datetime) -> asyncpg.Record | None:
        """A target's rule with its state."""
        return await self.database.fetchrow(_STATE, now, now - FRESH, [target.kind], [target.name])

    async def state_within(self, connection: Transaction, target: TariffTarget, now: datetime) -> asyncpg.Record | None:
        """As `state`, within a transaction that has locked the rule."""
        return await connection.fetchrow(_STATE, now, now - FRESH, [target.kind], [target.name])

    async def due(self, connection: Transaction, stations: Sequence[str], now: datetime) -> list[asyncpg.Record]:
        """The rules that concern these stations and may take a step now, locked."""
        locked = await connection.fetch(_LOCK_DUE, now, stations)
        if not locked:
            return []
        targets = [list(column) for column in zip(*locked, strict=True)]
        rows: list[asyncpg.Record] = await connection.fetch(_STATE, now, now - FRESH, *targets)
        return rows

    async def has_version(self, connection: Transaction, version: UUID) -> bool:
        """Whether there is such a version, of any target."""
        found: bool = await connection.fetchval("SELECT EXISTS (SELECT FROM pricing.version WHERE id = $1)", version)
        return found

    async def put(self, connection: Transaction, target: TariffTarget, rule: DemandRule) -> None:
        """Make it the target's rule."""
        base = rule.base_version
        await connection.execute(_PUT, target.kind, target.name, rule.model_dump_json(), base)

    async def delete(self, connection: Transaction, target: TariffTarget) -> None:
        """Delete the target's rule."""
        await connection.execute(
            "DELETE FROM pricing.demand_rule WHERE (target_kind, target) = ($1, $2)", target.kind, target.name
        )

    async def step(
        self, connection: Transaction, target: TariffTarget, level: int, base_key: int, now: datetime
    ) -> None:
        """Store that the rule is at `level`, counted from that base, since now."""
        await connection.execute(
            "UPDATE pricing.demand_rule SET level = $3, level_of = $4, changed_at = $5 "
            "WHERE (target_kind, target) = ($1, $2)",
            *(target.kind, target.name, level, base_key, now),
        )

    async def any_rules(self, connection: Transaction) -> bool:
        """Whether there is any rule at all."""
        found: bool = await connection.fetchval("SELECT EXISTS (SELECT FROM pricing.demand_rule)")
        return found

    async def put_bookings(self, connection: Transaction, bookings: Sequence[Booking], now: datetime) -> None:
        """Store these reservations, one each, where nothing newer is known, and delete those that ended KEEP ago."""
        await connection.execute(_BOOK, *map(list, zip(*bookings, strict=True)))
        await connection.execute("DELETE FROM pricing.booking WHERE ends_at < $1", now - KEEP)

    async def record(self, connection: Transaction, activities: Sequence[Activity], now: datetime) -> None:
        """Store the newest window of each connector, one each, and delete connectors without one for KEEP."""
        await connection.execute(_RECORD, *map(list, zip(*activities, strict=True)))
        await connection.execute("DELETE FROM pricing.connector_activity WHERE window_start < $1", now - KEEP)
