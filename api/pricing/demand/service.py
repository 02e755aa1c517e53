"""Demand rules: set by operators, applied as connectors charge. The decision itself is in rule.py."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from api.pricing.demand.models import DemandRule, DemandState
from api.pricing.demand.rule import Demand, energy_prices, moved, next_level
from api.pricing.demand.store import Activity, Booking, DemandStore
from api.pricing.models import TariffTarget, target_json
from api.pricing.store import NewTariff, lock_rule, publish, target_of
from kit.audit.recording import record
from kit.auth.token_store import Principal
from kit.clock import Clock, from_ms
from kit.config.flags import FlagSubject
from kit.messaging.consumer import Delivered, moment_of
from kit.messaging.outbox import Transaction
from kit.web.errors import BadQuery, NotFound
from schemas.events import RESERVING, Event, ReservationChanged, TelemetryAggregated, WindowAggregate
from schemas.tariff import exact_tariff

_BY_RULE: Final = "demand rule"


class DemandService:
    """The use cases, one method each."""

    def __init__(self, store: DemandStore, clock: Clock, moves: Callable[[FlagSubject], bool]) -> None:
        """`moves`: whether demand may move the prices of a subject now; otherwise they return to the base price."""
        self._store = store
        self._clock = clock
        self._moves = moves

    async def state(self, target: TariffTarget) -> DemandState:
        """A target's rule with its state. Raises NotFound."""
        row = await self._store.state(target, self._now())
        if row is None:
            raise _no_rule(target)
        return _state_of(row)

    async def put(self, target: TariffTarget, rule: DemandRule) -> DemandState:
        """Make it the target's rule; the next minute of its connectors may move the price. Raises BadQuery."""
        async with self._store.database.transaction() as connection:
            # Before the rule is stored, because a foreign key forbids an unknown version. Versions are never deleted.
            if rule.base_version is not None and not await self._store.has_version(connection, rule.base_version):
                raise _no_base(target)
            await lock_rule(connection, target)
            before = await self._store.state_within(connection, target, self._now())
            await self._store.put(connection, target, rule)
            row = await self._store.state_within(connection, target, self._now())
            if row is None:
                raise AssertionError("the rule was put in this transaction")
            _check_base(target, rule, row)
            if before is None or _rule_of(before) != rule:
                was = None if before is None else _audited(before)
                await record(connection, "demand_rule.set", _entity(target), before=was, after=_audited(row))
            return _state_of(row)

    async def delete(self, target: TariffTarget, operator: Principal) -> None:
        """End the rule, and have the operators' tariff in force again. Raises NotFound."""
        async with self._store.database.transaction() as connection:
            await lock_rule(connection, target)
            now = self._now()
            row = await self._store.state_within(connection, target, now)
            if row is None:
                raise _no_rule(target)
            await self._store.delete(connection, target)
            await record(connection, "demand_rule.ended", _entity(target), before=_audited(row))
            if row["base_key"] is not None:
                base = exact_tariff(row["base_tariff"])
                if base != exact_tariff(row["current_tariff"]):
                    again = NewTariff(target, row["time_zone"], now, base, "operator", operator.name)
                    await publish(connection, again, now)

    async def handle(self, connection: Transaction, event: Event[TelemetryAggregated]) -> None:
        """telemetry.aggregated.v1: store the connectors' activity, and let each rule that it concerns decide."""
        if not event.payload.windows or not await self._store.any_rules(connection):
            return
        now = self._now()
        activities = newest(event.payload.windows)
        await self._store.record(connection, activities, now)
        stations = sorted({activity.station_id for activity in activities})
        for row in await self._store.due(connection, stations, now):
            await self._decide(connection, row, now)

    async def reservations_changed(
        self, connection: Transaction, events: Sequence[Delivered[Event[ReservationChanged]]]
    ) -> None:
        """reservation.created.v1, .cancelled.v1, .expired.v1 and .no_show.v1: a connector that is reserved is in demand
        for as long as it is."""
        await self._store.put_bookings(connection, [_booking(one.event.payload) for one in events], self._now())

    async def _decide(self, connection: Transaction, row: Mapping[str, Any], now: datetime) -> None:
        """Take a step of one rule if one is due, and publish the version that it causes, if any."""
        if row["base_key"] is None:
            return
        target, rule, base = target_of(row), _rule_of(row), exact_tariff(row["base_tariff"])
        level = level_of(row)
        demand = Demand(row["connectors"], row["charging"])
        moves = self._moves(_subject(target, row["organisation"] or ""))
        decided = next_level(rule, base, level, demand) if moves else 0
        tariff = moved(rule, base, decided) if moves else base
        changes = tariff != exact_tariff(row["current_tariff"])
        if changes:
            new = NewTariff(target, row["time_zone"], now, tariff, "demand", _BY_RULE, row["base_id"])
            await publish(connection, new, now)
        if changes or decided != level:
            await self._store.step(connection, target, decided, row["base_key"], now)

    def _now(self) -> datetime:
        return from_ms(self._clock.now_ms())


def _entity(target: TariffTarget) -> str:
    return f"demand-rule/{target.kind}/{target.name}"


def _audited(row: Mapping[str, Any]) -> dict[str, Any]:
    return _rule_of(row).model_dump(mode="json")


def _subject(target: TariffTarget, organisation: str) -> FlagSubject:
    """Of a station's rule the station and its organisation; a group's or the default's is one of those that a
    percentage divides."""
    if target.kind == "station":
        return FlagSubject(station_id=target.name.upper(), organisation=organisation)
    return FlagSubject(key=f"{target.kind} {target.name}".strip())


def _booking(reservation: ReservationChanged) -> Booking:
    return Booking(
        reservation.reservation_id,
        reservation.revision,
        reservation.station_id.upper(),
        reservation.connector_id,
        moment_of(reservation.starts_at),
        moment_of(reservation.ends_at),
        reservation.status in RESERVING,
    )


def newest(windows: Sequence[WindowAggregate]) -> list[Activity]:
    """Each connector's activity in the newest of its windows."""
    found: dict[tuple[str, int], Activity] = {}
    for window in windows:
        start = moment_of(window.window_start)
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


def _check_base(target: TariffTarget, rule: DemandRule, row: Mapping[str, Any]) -> None:
    if row["base_key"] is None and rule.base_version is not None:
        raise _no_base(target)
    if row["base_key"] is None:
        raise BadQuery(f"operators have no tariff in force for {target}: publish one with POST /api/v1/pricing first")
    if not energy_prices(exact_tariff(row["base_tariff"])):
        raise BadQuery(f"version {row['base_id']}, the base, has no ENERGY price that demand could move")


def _no_base(target: TariffTarget) -> BadQuery:
    return BadQuery(
        f"body/base_version: is no version that operators have published for {target} and that is in force by now"
    )


def _no_rule(target: TariffTarget) -> NotFound:
    return NotFound(f"no demand rule for {target}: set one with PUT")


def _rule_of(row: Mapping[str, Any]) -> DemandRule:
    return DemandRule.model_validate_json(row["rule"])


def _state_of(row: Mapping[str, Any]) -> DemandState:
    return DemandState(
        target=target_json(target_of(row)),
        rule=_rule_of(row),
        base=row["base_id"],
        level=level_of(row),
        changed_at=row["changed_at"],
        connectors=row["connectors"],
        charging=row["charging"],
    )
