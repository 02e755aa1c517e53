"""Demand rules: set by operators, moved by what connectors do. The decision itself is in demand.py."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from api.pricing.demand.rule import Demand, energy_prices, moved, next_level
from api.pricing.demand.store import Activity, DemandStore
from api.pricing.documents.tariff import tariff_of
from api.pricing.models import DemandRule, DemandState, Target, target_answer
from api.pricing.store import NewTariff, hold_rule, publish, publisher, target_of
from kit.auth.token_store import Principal
from kit.clock import Clock, from_ms, parse_rfc3339
from kit.messaging.outbox import Transaction
from kit.web.errors import BadQuery, NotFound
from schemas.events import Event, TelemetryAggregated, WindowAggregate

_BY_RULE: Final = "demand rule"


class DemandService:
    """The use cases, one method each."""

    def __init__(self, store: DemandStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def state(self, target: Target) -> DemandState:
        """The rule of a target and where it stands. Raises NotFound."""
        row = await self._store.look(target, self._now())
        if row is None:
            raise _no_rule(target)
        return _state_of(row)

    async def put(self, target: Target, rule: DemandRule) -> DemandState:
        """Make it the target's rule; the next minute known of its connectors may move the price. Raises BadQuery."""
        async with self._store.database.transaction() as connection:
            # Before it is put, which no unknown version can be. That a version is there, is so for ever.
            if rule.base_version is not None and not await self._store.has_version(connection, rule.base_version):
                raise _no_base(target)
            await self._store.put(connection, target, rule)
            row = await self._store.one(connection, target, self._now())
            if row is None:
                raise AssertionError("the rule was put in this transaction")
            _check_base(target, rule, row)
            return _state_of(row)

    async def delete(self, target: Target, operator: Principal) -> None:
        """End the rule, and have the operators' tariff in force again. Raises NotFound."""
        async with self._store.database.transaction() as connection:
            await hold_rule(connection, target)
            now = self._now()
            row = await self._store.one(connection, target, now)
            if row is None:
                raise _no_rule(target)
            await self._store.delete(connection, target)
            if row["base_key"] is not None:
                base = tariff_of(row["base_tariff"])
                if base != tariff_of(row["current_tariff"]):
                    again = NewTariff(target, row["time_zone"], now, base, "operator", publisher(operator))
                    await publish(connection, again, now)

    async def handle(self, connection: Transaction, event: Event[TelemetryAggregated]) -> None:
        """telemetry.aggregated.v1: note what connectors do, and let each rule that it concerns decide."""
        if not event.payload.windows or not await self._store.any_rules(connection):
            return
        now = self._now()
        seen = newest(event.payload.windows)
        await self._store.observe(connection, seen, now)
        stations = sorted({activity.station_id for activity in seen})
        for row in await self._store.due(connection, stations, now):
            await self._decide(connection, row, now)

    async def _decide(self, connection: Transaction, row: Mapping[str, Any], now: datetime) -> None:
        """A step of one rule, where it is to be taken, and the version that comes of it, where there is one."""
        if row["base_key"] is None:
            return
        target, rule, base = target_of(row), _rule_of(row), tariff_of(row["base_tariff"])
        level = level_of(row)
        wanted = next_level(rule, base, level, Demand(row["connectors"], row["charging"]))
        tariff = moved(rule, base, wanted)
        changes = tariff != tariff_of(row["current_tariff"])
        if changes:
            await publish(connection, NewTariff(target, row["time_zone"], now, tariff, "demand", _BY_RULE), now)
        if changes or wanted != level:
            await self._store.step(connection, target, wanted, row["base_key"], now)

    def _now(self) -> datetime:
        return from_ms(self._clock.now_ms())


def newest(windows: Sequence[WindowAggregate]) -> list[Activity]:
    """What each connector did in the newest of its windows."""
    found: dict[tuple[str, int], Activity] = {}
    for window in windows:
        start = parse_rfc3339(window.window_start)
        key = (window.station_id, window.connector_id)
        activity = Activity(*key, start, window.revision, _charges(window))
        if key not in found or found[key][2:4] < activity[2:4]:
            found[key] = activity
    return list(found.values())


def level_of(row: Mapping[str, Any]) -> int:
    """The rule's level; 0 where the operators have another base in force since it was counted."""
    level: int = row["level"]
    return level if row["level_of"] == row["base_key"] else 0


def _charges(window: WindowAggregate) -> bool:
    if window.power_w_avg is not None and window.power_w_avg > 0:
        return True
    first, last = window.energy_wh_first, window.energy_wh_last
    return first is not None and last is not None and last > first


def _check_base(target: Target, rule: DemandRule, row: Mapping[str, Any]) -> None:
    if row["base_key"] is None and rule.base_version is not None:
        raise _no_base(target)
    if row["base_key"] is None:
        raise BadQuery(f"operators have no tariff in force for {target}: publish one with POST /api/v1/pricing first")
    if not energy_prices(tariff_of(row["base_tariff"])):
        raise BadQuery(f"version {row['base_id']}, the base, has no ENERGY price that demand could move")


def _no_base(target: Target) -> BadQuery:
    return BadQuery(
        f"body/base_version: is no version that operators have published for {target} and that is in force by now"
    )


def _no_rule(target: Target) -> NotFound:
    return NotFound(f"no demand rule for {target}: set one with PUT")


def _rule_of(row: Mapping[str, Any]) -> DemandRule:
    return DemandRule.model_validate_json(row["rule"])


def _state_of(row: Mapping[str, Any]) -> DemandState:
    return DemandState(
        target=target_answer(target_of(row)),
        rule=_rule_of(row),
        base=row["base_id"],
        level=level_of(row),
        changed_at=row["changed_at"],
        connectors=row["connectors"],
        charging=row["charging"],
    )
