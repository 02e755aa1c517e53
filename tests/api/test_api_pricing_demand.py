"""The demand rule: within its bounds, monotone, patient, and silent where nothing changes."""

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Any
from uuid import UUID, uuid4

import msgspec
import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.pricing.demand.models import Bounds, DemandRule
from api.pricing.demand.rule import Demand, energy_prices, moved, moved_price, next_level, price_bounds
from api.pricing.demand.service import newest
from api.pricing.demand.store import FRESH, KEEP
from kit.clock import format_rfc3339
from kit.config.values import ConfigSnapshot
from kit.messaging.bus import DIRECT, InProcessBus, Message
from kit.retry import RetryPolicy
from schemas.events import Envelope, EventMetadata, TelemetryAggregated, WindowAggregate
from schemas.tariff import Dimension, Tariff
from schemas.topics import RESERVATION_CANCELLED, RESERVATION_CREATED, STATION_CREATED, STATION_UPDATED
from tests.api.pricing_app import NOW, STATION, PricingApp, tariff
from tests.api.station_events import reservation_event, station_event
from tests.waiting import eventually

HOLD_S = 900
RULE: dict[str, Any] = {
    "raise_above_pct": 80,
    "lower_below_pct": 30,
    "bounds": {"min_factor": 0.9, "max_factor": 1.2},
    "step_pct": 10,
    "hold_s": HOLD_S,
}

# The decision, pure.


def _digits(places: int, highest: int) -> st.SearchStrategy[Decimal]:
    return st.decimals(0, highest, places=places)


BOUNDS = st.one_of(
    st.builds(lambda low, high: Bounds(min_factor=low, max_factor=high), _digits(4, 1), st.decimals(1, 10, places=4)),
    st.tuples(_digits(4, 2), _digits(4, 2)).map(lambda pair: Bounds(min_price=min(pair), max_price=max(pair))),
)
RULES = st.builds(
    lambda bounds, thresholds, step: DemandRule(
        raise_above_pct=Decimal(thresholds[1]),
        lower_below_pct=Decimal(thresholds[0]),
        bounds=bounds,
        step_pct=step,
        hold_s=60,
    ),
    BOUNDS,
    st.lists(st.integers(0, 100), min_size=2, max_size=2, unique=True).map(sorted),
    st.decimals("0.01", 50, places=2),
)
LEVELS = st.integers(-60, 60)
DEMANDS = st.integers(0, 50).flatmap(lambda n: st.builds(Demand, st.just(n), st.integers(0, n)))


def _tariff(prices: Sequence[Decimal]) -> Tariff:
    """Of several ENERGY prices, each with a price that demand has nothing to do with."""
    other = {"type": "PARKING_TIME", "price": Decimal("1.23456"), "step_size": 60}
    elements = [
        {"price_components": [{"type": "ENERGY", "price": price, "vat": 21, "step_size": 1}, other]} for price in prices
    ]
    return Tariff.model_validate({"currency": "EUR", "elements": elements, "min_price": {"excl_vat": 1}})


TARIFFS = st.lists(_digits(6, 2) | _digits(2, 2), min_size=1, max_size=4).map(_tariff)


@given(RULES, TARIFFS, LEVELS)
def test_prices_stay_within_the_bounds(rule: DemandRule, base: Tariff, level: int) -> None:
    """Told apart from the code: of four digits inwards, or the base price itself."""
    for before, after in zip(energy_prices(base), energy_prices(moved(rule, base, level)), strict=True):
        bounds = rule.bounds
        if bounds.min_price is not None and bounds.max_price is not None:
            assert bounds.min_price <= after <= bounds.max_price
        else:
            assert bounds.min_factor is not None
            assert bounds.max_factor is not None
            assert before * bounds.min_factor <= after <= before * bounds.max_factor
        assert after == before or after == round(after, 4)


@given(RULES, TARIFFS, LEVELS)
def test_nothing_but_the_energy_price_moves(rule: DemandRule, base: Tariff, level: int) -> None:
    after = moved(rule, base, level)

    def without(one: Tariff) -> Any:
        document = one.model_dump()
        for element in document["elements"]:
            for component in element["price_components"]:
                if component["type"] is Dimension.ENERGY:
                    del component["price"]
        return document

    assert without(after) == without(base)
    assert Tariff.model_validate(after.model_dump()) == after


@given(RULES, TARIFFS, LEVELS, DEMANDS, DEMANDS)
def test_more_demand_never_makes_it_cheaper(
    rule: DemandRule, base: Tariff, level: int, one: Demand, other: Demand
) -> None:
    if one.connectors == 0 or other.connectors == 0:
        return
    low, high = sorted((one, other), key=lambda demand: Decimal(demand.charging) / demand.connectors)
    cheap = energy_prices(moved(rule, base, next_level(rule, base, level, low)))
    dear = energy_prices(moved(rule, base, next_level(rule, base, level, high)))
    assert all(one <= other for one, other in zip(cheap, dear, strict=True))


@given(RULES, _digits(6, 2), LEVELS)
def test_a_price_rises_with_the_level(rule: DemandRule, base: Decimal, level: int) -> None:
    assert moved_price(rule, base, level) <= moved_price(rule, base, level + 1)


@given(RULES, TARIFFS, LEVELS, DEMANDS)
def test_a_rule_takes_one_step_or_none_and_none_that_can_never_show(
    rule: DemandRule, base: Tariff, level: int, demand: Demand
) -> None:
    after = next_level(rule, base, level, demand)
    assert abs(after - level) <= 1
    if demand.connectors == 0:
        assert after == level
    if after > level:
        assert any(
            price and moved_price(rule, price, level) < price_bounds(rule.bounds, price)[1]
            for price in energy_prices(base)
        )


ROUGH_RULES = RULES.map(lambda rule: rule.model_copy(update={"step_pct": max(rule.step_pct, Decimal(5))}))
CENTS = st.lists(st.sampled_from([Decimal(0), *(Decimal(n) / 100 for n in range(10, 200))]), min_size=1, max_size=3)


@given(ROUGH_RULES, CENTS.map(_tariff), DEMANDS)
def test_the_same_demand_leads_to_rest(rule: DemandRule, base: Tariff, demand: Demand) -> None:
    """However long it lasts, only so many steps are counted: they are undone as soon as demand is.

    From 0.10 to the highest bound, 10, are 1,980 steps of 5 %.
    """
    level = 0
    for _ in range(2_000):
        after = next_level(rule, base, level, demand)
        if after == level:
            return
        level = after
    pytest.fail("it never rests")


# The rule at work.


@pytest.fixture
async def bus(pricing: PricingApp) -> AsyncIterator[InProcessBus]:
    """The bus that brings what connectors do."""
    bus = InProcessBus(RetryPolicy.model_validate({"default": {"first_s": 0.01, "attempts_max": 1}}))
    await pricing.service.consume(bus)
    yield bus
    await bus.close()


def window(
    station: str, connector: int, start: datetime, *, charging: bool, revision: int = 1, by_register: bool = False
) -> WindowAggregate:
    """A connector's minute."""
    power_w = 11_000.0 if charging else 0.0
    return WindowAggregate(
        station_id=station,
        connector_id=connector,
        window_start=format_rfc3339(start),
        revision=revision,
        readings=6,
        flagged=0,
        power_w_avg=None if by_register else power_w,
        power_w_min=None,
        power_w_max=None,
        voltage_v_avg=None,
        current_a_avg=None,
        temperature_c_max=None,
        energy_wh_first=1_000.0 if by_register else None,
        energy_wh_last=1_000.0 + power_w / 60 if by_register else None,
    )


def message(windows: Sequence[WindowAggregate], event_id: UUID | None = None) -> Message:
    """telemetry.aggregated.v1"""
    metadata = EventMetadata(
        event_id=event_id or uuid4(),
        timestamp=format_rfc3339(NOW),
        source="streams",
        correlation_id="c",
        type="telemetry.aggregated.v1",
        version=1,
    )
    payload = msgspec.to_builtins(TelemetryAggregated(partition=0, windows=list(windows)))
    return Message(DIRECT, "telemetry.aggregated", msgspec.json.encode(Envelope(metadata, payload)))


def minute(pricing: PricingApp, charging: int, idle: int, station: str = "ST-1") -> list[WindowAggregate]:
    """The last minute of a station of which so many connectors charge."""
    start = pricing.clock.now() - timedelta(minutes=1)
    return [window(station, n + 1, start, charging=n < charging) for n in range(charging + idle)]


async def price(pricing: PricingApp, station: str = "ST-1") -> Decimal:
    """The ENERGY price in force at the station."""
    answer = await pricing.get(f"/{station}")
    found: Decimal = answer["version"]["tariff"]["elements"][0]["price_components"][0]["price"]
    return found


def versions(pricing: PricingApp, reason: str = "demand") -> int:
    """How many there are of that reason."""
    return int(pricing.rows("SELECT count(*) FROM pricing.version WHERE reason = %s", reason)[0][0])


async def test_demand_moves_the_price_step_by_step_within_the_bounds_and_back(
    pricing: PricingApp, bus: InProcessBus
) -> None:
    await pricing.publish(STATION, 0.30)
    state = await pricing.send("PUT", "/demand/stations/st-1", RULE, 200)
    assert (state["target"], state["level"], state["changed_at"], state["connectors"]) == (STATION, 0, None, 0)
    seen = []
    for charging in (4, 4, 4, 2, 0, 0, 0, 0, 0):
        await bus.publish(message(minute(pricing, charging, 4 - charging)))
        seen.append(await price(pricing))
        pricing.clock.advance(HOLD_S)
    assert seen == [Decimal(text) for text in ["0.33", "0.36", "0.36", "0.36", "0.33", "0.30", "0.27", "0.27", "0.27"]]
    assert versions(pricing) == 5
    answer = await pricing.get("/ST-1")
    assert (answer["version"]["reason"], answer["next"]) == ("demand", None)
    assert await pricing.get("/demand/stations/ST-1") == {
        **state,
        "level": -1,
        "changed_at": "2026-03-29T10:30:00Z",
        "connectors": 4,
    }
    events = pricing.rows("SELECT convert_from(body, 'utf8')::json #>> '{payload,reason}' FROM pricing.outbox")
    assert [event[0] for event in events].count("demand") == 5


async def test_where_operators_turn_it_off_prices_are_those_of_the_operators(
    pricing: PricingApp, bus: InProcessBus
) -> None:
    for station in ("ST-1", "ST-2"):
        await pricing.publish({"station_id": station}, 0.90)
        rule = {**RULE, "bounds": {"min_price": "0.2", "max_price": "0.6"}}
        await pricing.send("PUT", f"/demand/stations/{station}", rule, 200)
        await bus.publish(message(minute(pricing, 4, 0, station)))
        assert await price(pricing, station) == Decimal("0.6")
    only_first = {"enabled": True, "percentage": 0, "targets": {"stations": ["ST-1"]}}
    pricing.config.apply_snapshot(ConfigSnapshot(1, {"pricing.demand": {"rule": only_first, "version": 1}}))
    pricing.clock.advance(HOLD_S)
    for station, expected in (("ST-1", "0.6"), ("ST-2", "0.9")):
        await bus.publish(message(minute(pricing, 4, 0, station)))
        assert await price(pricing, station) == Decimal(expected)


async def test_a_flag_for_an_organisation_is_on_for_its_stations(pricing: PricingApp, bus: InProcessBus) -> None:
    only_nord = {"enabled": True, "percentage": 0, "targets": {"organisations": ["Nord"]}}
    pricing.config.apply_snapshot(ConfigSnapshot(1, {"pricing.demand": {"rule": only_nord, "version": 1}}))
    for station, organisation in (("ST-1", "Nord"), ("ST-2", "Sued"), ("ST-3", None)):
        await bus.publish(station_event(STATION_CREATED, station, organisation=organisation))
        await pricing.publish({"station_id": station}, 0.30)
        await pricing.send("PUT", f"/demand/stations/{station}", RULE, 200)
    for station, expected in (("ST-1", "0.33"), ("ST-2", "0.3"), ("ST-3", "0.3")):
        await bus.publish(message(minute(pricing, 4, 0, station)))
        assert await price(pricing, station) == Decimal(expected)
    await bus.publish(station_event(STATION_UPDATED, "ST-2", 2, organisation="Nord"))
    await bus.publish(message(minute(pricing, 4, 0, "ST-2")))
    assert await price(pricing, "ST-2") == Decimal("0.33")


async def test_prices_stay_as_long_as_the_rule_says(pricing: PricingApp, bus: InProcessBus) -> None:
    await pricing.publish(STATION, 0.30)
    await pricing.send("PUT", "/demand/stations/ST-1", RULE, 200)
    for _ in range(HOLD_S // 60):
        await bus.publish(message(minute(pricing, 4, 0)))
        assert await price(pricing) == Decimal("0.33")
        pricing.clock.advance(59)
    changed = {**RULE, "step_pct": 5}
    await pricing.send("PUT", "/demand/stations/ST-1", changed, 200)  # no way around the hold
    await bus.publish(message(minute(pricing, 4, 0)))
    assert versions(pricing) == 1
    pricing.clock.advance(HOLD_S)
    await bus.publish(message(minute(pricing, 4, 0)))
    assert await price(pricing) == Decimal("0.315")


async def test_the_same_event_again_is_no_second_step(pricing: PricingApp, bus: InProcessBus) -> None:
    await pricing.publish(STATION, 0.30)
    await pricing.send("PUT", "/demand/stations/ST-1", RULE, 200)
    event = message(minute(pricing, 4, 0))
    await bus.publish(event)
    pricing.clock.advance(HOLD_S)
    await bus.publish(event)
    assert versions(pricing) == 1


async def test_no_version_where_nothing_changes(pricing: PricingApp, bus: InProcessBus) -> None:
    await pricing.publish(STATION, 0.30)
    await pricing.send("PUT", "/demand/stations/ST-1", RULE, 200)
    await bus.publish(message([]))
    for charging in (2, 2):
        await bus.publish(message(minute(pricing, charging, 2)))
        pricing.clock.advance(HOLD_S)
    await bus.publish(message(minute(pricing, 4, 0, station="ST-2")))  # not the rule's
    assert versions(pricing) == 0
    assert (await pricing.get("/demand/stations/ST-1"))["changed_at"] is None


async def test_a_price_outside_of_absolute_bounds_is_brought_in(pricing: PricingApp, bus: InProcessBus) -> None:
    await pricing.publish(STATION, 0.90)
    rule = {**RULE, "bounds": {"min_price": "0.2", "max_price": "0.6"}}
    await pricing.send("PUT", "/demand/stations/ST-1", rule, 200)
    await bus.publish(message(minute(pricing, 2, 2)))
    assert await price(pricing) == Decimal("0.6")


async def test_demand_begins_anew_from_what_operators_publish(pricing: PricingApp, bus: InProcessBus) -> None:
    await pricing.publish(STATION, 0.30)
    await pricing.send("PUT", "/demand/stations/ST-1", RULE, 200)
    for _ in range(2):
        await bus.publish(message(minute(pricing, 4, 0)))
        pricing.clock.advance(HOLD_S)
    await pricing.publish(STATION, 0.50)
    await bus.publish(message(minute(pricing, 2, 2)))
    assert await price(pricing) == Decimal("0.5")
    pricing.clock.advance(60)
    await bus.publish(message(minute(pricing, 4, 0)))
    assert await price(pricing) == Decimal("0.55")


async def test_a_rule_may_hold_to_one_base(pricing: PricingApp, bus: InProcessBus) -> None:
    base = await pricing.publish(STATION, 0.30)
    other = await pricing.publish({"station_id": "ST-2"}, 0.40)
    await pricing.send("PUT", "/demand/stations/ST-1", {**RULE, "base_version": other["id"]}, 422)
    unknown = await pricing.send("PUT", "/demand/stations/ST-1", {**RULE, "base_version": str(uuid4())}, 422)
    assert unknown["detail"].startswith("body/base_version: is no version")
    await pricing.publish(STATION, 0.50)
    state = await pricing.send("PUT", "/demand/stations/ST-1", {**RULE, "base_version": base["id"]}, 200)
    assert state["base"] == base["id"]
    await bus.publish(message(minute(pricing, 4, 0)))
    assert await price(pricing) == Decimal("0.33")


async def test_a_rule_that_ends_leaves_the_operators_tariff(pricing: PricingApp, bus: InProcessBus) -> None:
    await pricing.publish(STATION, 0.30)
    await pricing.send("PUT", "/demand/stations/ST-1", RULE, 200)
    await bus.publish(message(minute(pricing, 4, 0)))
    await pricing.send("PUT", "/demand/stations/ST-1", RULE, 200)
    assert (await pricing.get("/demand/stations/ST-1"))["level"] == 1  # the same rule again
    await pricing.send("DELETE", "/demand/stations/ST-1", None, 204)
    assert await price(pricing) == Decimal("0.3")
    assert versions(pricing, "operator") == 2
    await pricing.get("/demand/stations/ST-1", 404)
    await pricing.send("DELETE", "/demand/stations/ST-1", None, 404)
    pricing.clock.advance(HOLD_S)
    await bus.publish(message(minute(pricing, 4, 0)))
    assert versions(pricing) == 1


async def test_each_target_has_the_demand_of_the_stations_it_decides_for(
    pricing: PricingApp, bus: InProcessBus
) -> None:
    for group, members in {"g": ("OWN", "G-1", "G-2"), "bare": ("B-1",)}.items():
        for member in members:
            await bus.publish(station_event(STATION_CREATED, member, group=group))
    for target in ("default", {"group": "g"}, {"station_id": "OWN"}):
        await pricing.publish(target, 0.30)
    rules = {"default": (2, 1), "groups/g": (2, 0), "stations/OWN": (3, 3)}
    for name in rules:
        await pricing.send("PUT", f"/demand/{name}", RULE, 200)
    await bus.publish(
        message(
            [
                *minute(pricing, 3, 0, "OWN"),
                *minute(pricing, 0, 1, "G-1"),
                *minute(pricing, 0, 1, "G-2"),
                *minute(pricing, 1, 0, "B-1"),  # in a group without a tariff: the default's
                *minute(pricing, 0, 1, "ELSE"),
            ]
        )
    )
    for name, demand in rules.items():
        state = await pricing.get(f"/demand/{name}")
        assert (state["connectors"], state["charging"]) == demand, name
    prices = [await price(pricing, station) for station in ("ELSE", "B-1", "G-1", "OWN")]
    assert prices == [Decimal(text) for text in ("0.3", "0.3", "0.27", "0.33")]


async def test_a_connector_that_is_reserved_now_is_in_demand(pricing: PricingApp, bus: InProcessBus) -> None:
    await pricing.publish(STATION, 0.30)
    await pricing.send("PUT", "/demand/stations/ST-1", RULE, 200)
    await bus.publish(message(minute(pricing, 1, 2)))  # connector 1 charges, 2 and 3 do not

    async def charging() -> int:
        return int((await pricing.get("/demand/stations/ST-1"))["charging"])

    hour = timedelta(hours=1)
    slots = {"R1": (1, -hour / 2), "R2": (2, -hour / 2), "R3": (3, hour), "R4": (3, -2 * hour)}
    for name, (connector, begins) in slots.items():
        starts = NOW + begins
        await bus.publish(reservation_event(RESERVATION_CREATED, name, 1, connector, starts, starts + hour))
    assert await charging() == 2  # 1 charges and is reserved; of 3 one reservation is over, and one is to come
    starts = NOW - hour / 2
    await bus.publish(reservation_event(RESERVATION_CANCELLED, "R2", 3, 2, starts, starts + hour, "cancelled"))
    await bus.publish(reservation_event(RESERVATION_CREATED, "R2", 2, 2, starts, starts + hour))  # late
    assert await charging() == 1


async def test_the_newest_window_counts_and_silence_is_not_charging(pricing: PricingApp, bus: InProcessBus) -> None:
    await pricing.publish(STATION, 0.30)
    await pricing.send("PUT", "/demand/stations/ST-1", RULE, 200)
    start = NOW - timedelta(minutes=5)

    async def demand() -> tuple[int, int]:
        state = await pricing.get("/demand/stations/ST-1")
        return state["connectors"], state["charging"]

    await bus.publish(message([window("ST-1", 1, start, charging=True, by_register=True)]))
    assert await demand() == (1, 1)
    await bus.publish(message([window("ST-1", 1, start - timedelta(minutes=1), charging=False, revision=9)]))
    assert await demand() == (1, 1)
    await bus.publish(message([window("ST-1", 1, start, charging=False, revision=2)]))
    assert await demand() == (1, 0)
    await bus.publish(message([window("ST-1", 2, start, charging=True)]))
    assert await demand() == (2, 1)
    pricing.clock.advance((FRESH - timedelta(minutes=4)).total_seconds())
    assert await demand() == (2, 0)
    pricing.clock.advance(KEEP.total_seconds())
    await bus.publish(message(minute(pricing, 0, 1, "ST-2")))
    assert await demand() == (0, 0)
    assert pricing.rows("SELECT DISTINCT station_id FROM pricing.connector_activity") == [("ST-2",)]


async def test_what_operators_publish_while_a_rule_decides_comes_after_it(pricing: PricingApp) -> None:
    """A rule decides on what was in force before; were its version the later one, it would stay for the whole hold."""
    await pricing.publish(STATION, 0.30)
    await pricing.send("PUT", "/demand/stations/ST-1", RULE, 200)
    with psycopg.connect(pricing.url) as deciding:
        deciding.execute("SELECT FROM pricing.demand_rule FOR UPDATE")
        publishing = asyncio.create_task(pricing.publish(STATION, 0.50))
        await eventually(lambda: pricing.waiting() == 1)
        pricing.clock.advance(1)
    assert (await publishing)["effective_from"] == format_rfc3339(NOW + timedelta(seconds=1))


async def test_whatever_happens_the_rule_keeps_its_word(pricing: PricingApp, bus: InProcessBus, seed: int) -> None:
    """Its versions: within the bounds, hold_s apart, each another than what was in force before it."""
    rng = random.Random(seed)
    rule = {**RULE, "bounds": {"min_price": 0.25, "max_price": 0.45}, "hold_s": 120}
    await pricing.publish(STATION, 0.30)
    await pricing.send("PUT", "/demand/stations/ST-1", rule, 200)
    for _ in range(120):
        pricing.clock.advance(rng.choice([1, 30, 60, 120, 600]))
        if rng.random() < 0.1:
            await pricing.publish(STATION, rng.randrange(20, 60) / 100)
        charging = rng.randrange(5)
        await bus.publish(message(minute(pricing, charging, 4 - charging)))
    history = pricing.rows(
        "SELECT reason, effective_from, tariff #>> '{elements,0,price_components,0,price}' FROM pricing.version "
        "ORDER BY effective_from, version_key"
    )
    assert history == pricing.rows(
        "SELECT reason, effective_from, tariff #>> '{elements,0,price_components,0,price}' FROM pricing.version "
        "ORDER BY version_key"
    )
    by_rule = [row for row in history if row[0] == "demand"]
    assert len(by_rule) > 10
    assert all(Decimal("0.25") <= Decimal(row[2]) <= Decimal("0.45") for row in by_rule)
    assert all(later[1] - earlier[1] >= timedelta(seconds=120) for earlier, later in pairwise(by_rule))
    for before, after in pairwise(history):
        assert after[0] == "operator" or Decimal(after[2]) != Decimal(before[2])


async def test_without_rules_nothing_is_kept(pricing: PricingApp, bus: InProcessBus) -> None:
    await bus.publish(message(minute(pricing, 4, 0)))
    assert pricing.rows("SELECT * FROM pricing.connector_activity") == []


@given(st.lists(st.tuples(st.integers(1, 3), st.integers(0, 3), st.integers(1, 3), st.booleans())))
def test_of_several_windows_of_a_connector_the_newest_is_taken(seen: list[tuple[int, int, int, bool]]) -> None:
    windows = [
        window("S", connector, NOW + timedelta(minutes=at), charging=charging, revision=revision)
        for connector, at, revision, charging in seen
    ]
    found = {activity.connector_id: activity for activity in newest(windows)}
    assert set(found) == {connector for connector, *_ in seen}
    for connector, activity in found.items():
        last = max((at, revision) for c, at, revision, _ in seen if c == connector)
        assert (activity.window_start, activity.revision) == (NOW + timedelta(minutes=last[0]), last[1])
        assert activity.charging in [
            charges for c, at, revision, charges in seen if (c, at, revision) == (connector, *last)
        ]


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"bounds": {"min_factor": 1.1, "max_factor": 1.2}}, "body/bounds"),
        ({"bounds": {"min_factor": 0.9, "max_price": 1}}, "body/bounds"),
        ({"bounds": {"min_factor": 0.9, "max_factor": 1.1, "min_price": 0, "max_price": 1}}, "body/bounds"),
        ({"bounds": {"min_price": 0.5, "max_price": 0.4}}, "body/bounds"),
        ({"bounds": {"min_price": 0.12345, "max_price": 0.4}}, "body/bounds/min_price"),
        ({"bounds": {}}, "body/bounds"),
        ({"lower_below_pct": 80}, "body"),
        ({"raise_above_pct": 101}, "body/raise_above_pct"),
        ({"step_pct": 0}, "body/step_pct"),
        ({"hold_s": 59}, "body/hold_s"),
        ({"max_price": 1}, "body/max_price"),
    ],
)
async def test_a_wrong_rule_is_refused_with_the_path_of_its_mistake(
    pricing: PricingApp, change: dict[str, Any], path: str
) -> None:
    await pricing.publish("default")
    detail = (await pricing.send("PUT", "/demand/default", {**RULE, **change}, 422))["detail"]
    assert detail.startswith(path)
    await pricing.get("/demand/default", 404)


async def test_a_rule_needs_a_price_to_move(pricing: PricingApp) -> None:
    assert "publish one" in (await pricing.send("PUT", "/demand/groups/g", RULE, 422))["detail"]
    flat = tariff()
    flat["elements"][0]["price_components"][0]["type"] = "FLAT"
    await pricing.publish({"group": "g"}, tariff=flat)
    assert "ENERGY" in (await pricing.send("PUT", "/demand/groups/g", RULE, 422))["detail"]
    await pricing.get("/demand/groups/g", 404)


async def test_a_version_of_demand_names_the_operators_version_that_it_moved(
    pricing: PricingApp, bus: InProcessBus
) -> None:
    bases = []
    await pricing.publish({"group": "elsewhere"}, 0.99)
    for number, cost in enumerate((0.30, 0.50)):
        bases.append((await pricing.publish(STATION, cost))["id"])
        if number == 0:
            await pricing.send("PUT", "/demand/stations/ST-1", RULE, 200)
        for charging in (4, 4, 0):
            await bus.publish(message(minute(pricing, charging, 4 - charging)))
            pricing.clock.advance(HOLD_S)
    await pricing.send("DELETE", "/demand/stations/ST-1", None, 204)
    versions_of = (await pricing.get("/versions", station_id="ST-1"))["versions"]
    found = [(one["reason"], one["base_version"]) for one in reversed(versions_of)]
    demand = [[("operator", None), *[("demand", base)] * 3] for base in bases]
    assert found == [*demand[0], *demand[1], ("operator", None)]
    for one in versions_of:
        assert await pricing.get(f"/versions/{one['id']}") == one


async def test_the_contract_has_the_base_of_a_version_or_says_that_it_is_not_known(
    pricing: PricingApp, bus: InProcessBus
) -> None:
    own = (await pricing.publish(STATION, 0.30))["id"]
    await pricing.send("PUT", "/demand/stations/ST-1", RULE, 200)
    await bus.publish(message(minute(pricing, 4, 0)))
    (moved_one,) = pricing.rows("SELECT id FROM pricing.version WHERE reason = 'demand'")
    before = uuid4()  # as if published before bases were stored
    with psycopg.connect(pricing.url) as connection:
        copied = """
            INSERT INTO pricing.version (id, target_kind, target, time_zone, currency, tariff, effective_from, reason,
                published_by)
            SELECT %s, target_kind, target, time_zone, currency, tariff, effective_from, %s, published_by
            FROM pricing.version WHERE id = %s
        """
        connection.execute(copied, (before, "demand", moved_one[0]))
    asked = [UUID(own), moved_one[0], before, uuid4()]
    query = "SELECT id, by_demand, base_id, base_tariff::text FROM pricing.bases(%s)"
    answered = {row[0]: row[1:] for row in pricing.rows(query, asked)}
    ((tariff_of_base,),) = pricing.rows("SELECT tariff::text FROM pricing.version WHERE id = %s", own)
    assert answered == {
        UUID(own): (False, None, None),
        moved_one[0]: (True, UUID(own), tariff_of_base),
        before: (True, None, None),
    }
    refused = "UPDATE pricing.version SET base_version = id"
    with psycopg.connect(pricing.url) as connection, pytest.raises(psycopg.errors.RestrictViolation):
        connection.execute(refused)


async def test_a_rule_is_audited_with_what_was_before(pricing: PricingApp) -> None:
    await pricing.publish(STATION, 0.30)
    other = {**RULE, "step_pct": 5}
    for rule in (RULE, RULE, other):
        await pricing.send("PUT", "/demand/stations/ST-1", rule, 200)
    await pricing.send("DELETE", "/demand/stations/ST-1", None, 204)
    query = "SELECT action, entity, actor, before, after FROM audit.entry WHERE action ~ '^demand_rule' ORDER BY id"
    first, changed, ended = pricing.rows(query)
    assert [one[0] for one in (first, changed, ended)] == ["demand_rule.set", "demand_rule.set", "demand_rule.ended"]
    assert {one[1] for one in (first, changed, ended)} == {"demand-rule/station/ST-1"}
    assert all(one[2].startswith("operator/") for one in (first, changed, ended))
    assert (first[3], ended[4]) == (None, None)
    assert first[4] == changed[3]
    assert changed[4] == ended[3]
    assert (changed[3]["step_pct"], changed[4]["step_pct"]) == ("10", "5")
