"""Laws of rating, for any tariff and any session."""

from dataclasses import replace
from itertools import pairwise
from math import gcd
from typing import Any
from zoneinfo import ZoneInfo

from hypothesis import assume, event, given
from hypothesis import strategies as st

from billing.rating import (
    Adjustment,
    ComponentUsage,
    PriceLine,
    StoredReading,
    Usage,
    rate_readings,
    rate_usage,
    reservation_usage,
    usage_of,
)
from billing.rating.allocate import allocate_usage
from billing.rating.price import MAX_PRICE
from billing.rating.tariffs import PreparedTariff, RestrictionContext
from billing.rating.usage import EnergyStretch, TimeStretch, UsageInterval
from schemas.session import UsageKind
from schemas.tariff import Dimension, Tariff
from tests.billing.rating.making import component, tariff, utc_ms
from tests.billing.rating.strategies import MOMENTS, Session, sessions, tariffs


@given(tariffs(), sessions())
def test_totals_are_the_sums_of_lines_and_never_negative(priced: Tariff, session: Session) -> None:
    consumption, rated = rate_readings(priced, session.zone, session.readings, session.before)
    parts: list[PriceLine | Adjustment] = [*rated.lines, *rated.adjustments]
    assert rated.total_excl_micros == sum(part.amount_excl_micros for part in parts)
    assert rated.total_incl_micros - rated.total_excl_micros == sum(part.vat_micros for part in parts)
    assert 0 <= rated.total_excl_micros <= rated.total_incl_micros
    assert all(one.volume > 0 for one in consumption)
    assert all(line.amount_excl_micros >= 0 and line.vat_micros >= 0 and line.added >= 0 for line in rated.lines)
    for one in consumption:
        event(one.dimension)


@given(tariffs(), sessions())
def test_totals_keep_within_the_bounds(priced: Tariff, session: Session) -> None:
    _, rated = rate_readings(priced, session.zone, session.readings, session.before)
    if priced.max_price is not None:
        assert rated.total_excl_micros <= priced.max_price.excl_vat.scaleb(6)
        if priced.max_price.incl_vat is not None:
            assert rated.total_incl_micros <= priced.max_price.incl_vat.scaleb(6)
    elif priced.min_price is not None:
        assert rated.total_excl_micros >= priced.min_price.excl_vat.scaleb(6)
        assert rated.total_incl_micros >= (priced.min_price.incl_vat or priced.min_price.excl_vat).scaleb(6)


@given(tariffs(), sessions(), st.randoms(use_true_random=False))
def test_the_order_in_which_readings_came_changes_nothing(priced: Tariff, session: Session, random: Any) -> None:
    shuffled = list(session.readings)
    random.shuffle(shuffled)
    once = rate_readings(priced, session.zone, session.readings, session.before)
    assert rate_readings(priced, session.zone, shuffled, session.before) == once


@given(tariffs(), sessions())
def test_what_everybody_pays_for_is_consumed_whole(priced: Tariff, session: Session) -> None:
    """With a last element that prices everything always, no mWh and no ms of charging or parking is lost or doubled."""
    everything = tariff({"price_components": [component(name) for name in ("ENERGY", "TIME", "PARKING_TIME", "FLAT")]})
    whole = priced.model_copy(update={"elements": [*priced.elements, *everything.elements]})
    used, _ = usage_of(session.readings, session.before)
    expected = dict.fromkeys(Dimension, 0) | {Dimension.FLAT: 1}
    for interval in used.intervals:
        if interval.energy is not None:
            expected[Dimension.ENERGY] += interval.energy.energy_mwh
        if interval.time is not None and interval.time.kind is not UsageKind.IDLE:
            dimension = Dimension.TIME if interval.time.kind is UsageKind.CHARGING else Dimension.PARKING_TIME
            expected[dimension] += interval.time.end_ms - interval.time.start_ms
    found = dict.fromkeys(Dimension, 0)
    for one in allocate_usage(whole, session.zone, used):
        found[one.dimension] += one.volume
    assert found == expected


@given(tariffs(), sessions(), st.data())
def test_cutting_a_stretch_changes_nothing(priced: Tariff, session: Session, data: st.DataObject) -> None:
    """Anywhere where its energy is a whole mWh."""
    used, _ = usage_of(session.readings, session.before)
    intervals: list[UsageInterval] = []
    for interval in used.intervals:
        intervals += _cut(interval, data) if data.draw(st.booleans()) else [interval]
    cut = replace(used, intervals=tuple(intervals))
    assert allocate_usage(priced, session.zone, cut) == allocate_usage(priced, session.zone, used)


def _cut(interval: UsageInterval, data: st.DataObject) -> list[UsageInterval]:
    time, energy = interval.time, interval.energy
    if energy is None:
        if time is None or time.start_ms == time.end_ms:
            return [interval]
        at_ms = data.draw(st.integers(time.start_ms, time.end_ms))
        return [UsageInterval(replace(time, end_ms=at_ms), None), UsageInterval(replace(time, start_ms=at_ms), None)]
    length_ms = energy.end_ms - energy.start_ms
    parts = gcd(length_ms, energy.energy_mwh)
    if not length_ms or not parts:
        return [interval]
    part = data.draw(st.integers(0, parts))
    at_ms, before_mwh = energy.start_ms + length_ms // parts * part, energy.energy_mwh // parts * part
    early = replace(energy, end_ms=at_ms, energy_mwh=before_mwh)
    late = replace(energy, start_ms=at_ms, energy_mwh=energy.energy_mwh - before_mwh)
    if time is None or at_ms <= time.start_ms:
        return [UsageInterval(None, early), UsageInterval(time, late)]
    return [UsageInterval(replace(time, end_ms=at_ms), early), UsageInterval(replace(time, start_ms=at_ms), late)]


@given(tariffs(), sessions(), st.data())
def test_a_reading_that_says_nothing_new_changes_nothing_of_time(
    priced: Tariff, session: Session, data: st.DataObject
) -> None:
    """By a tariff without kWh in its restrictions: what is known of energy in between may be another matter."""
    moments_ms = sorted({reading.ts_ms for reading in session.readings})
    wide = [(low, high) for low, high in pairwise(moments_ms) if high - low > 1]
    assume(wide)
    low, high = data.draw(st.sampled_from(wide))
    mute = StoredReading(data.draw(st.integers(low + 1, high - 1)))
    blind = _without_kwh(priced)
    before = allocate_usage(blind, session.zone, usage_of(session.readings, session.before)[0])
    after = allocate_usage(blind, session.zone, usage_of([mute, *session.readings], session.before)[0])
    assert [one for one in after if one.dimension != Dimension.ENERGY] == [
        one for one in before if one.dimension != Dimension.ENERGY
    ]


def _without_kwh(priced: Tariff) -> Tariff:
    document = priced.model_dump(exclude_none=True)
    for one in document["elements"]:
        for name in ("min_kwh", "max_kwh"):
            one.get("restrictions", {}).pop(name, None)
    return Tariff.model_validate(document)


@st.composite
def short_usages(draw: st.DrawFn) -> tuple[ZoneInfo, Usage]:
    """Some tenths of a second around a moment at which a clock does something."""
    name = draw(st.sampled_from(sorted(MOMENTS)))
    start_ms = at_ms = utc_ms(draw(st.sampled_from(MOMENTS[name]))) - draw(st.integers(0, 300))
    intervals = []
    for _ in range(draw(st.integers(1, 4))):
        end_ms = at_ms + draw(st.integers(0, 150))
        kind = draw(st.sampled_from([UsageKind.CHARGING, UsageKind.PARKING, UsageKind.IDLE]))
        power_mw, current_ma = draw(st.sampled_from([0, 11_000_000])), draw(st.sampled_from([0, 16_000]))
        energy = EnergyStretch(at_ms, end_ms, draw(st.sampled_from([1, 7, 1_000, 600_000])), power_mw, current_ma)
        intervals.append(
            UsageInterval(TimeStretch(at_ms, end_ms, kind, power_mw, current_ma), energy if end_ms > at_ms else None)
        )
        at_ms = end_ms
    return ZoneInfo(name), Usage(start_ms, 0, 0, tuple(intervals))


@given(tariffs(), short_usages())
def test_judging_every_millisecond_comes_to_the_same(priced: Tariff, zoned: tuple[ZoneInfo, Usage]) -> None:
    """Where no kWh cut the energy inside a millisecond."""
    zone, used = zoned
    blind = _without_kwh(priced)
    ready, found, before_mwh = PreparedTariff(blind, None), dict[tuple[int, Dimension], int](), 0
    dimensions = {UsageKind.CHARGING: Dimension.TIME, UsageKind.PARKING: Dimension.PARKING_TIME}

    def add(dimension: Dimension | None, at_ms: int, part: TimeStretch, quantity: int) -> None:
        context = RestrictionContext(at_ms, zone, at_ms - used.start_ms, before_mwh, part.power_mw, part.current_ma)
        active = ready.active(dimension, context) if dimension is not None else None
        if active is not None and quantity:
            place = (active.element, active.dimension)
            found[place] = found.get(place, 0) + quantity

    for interval in used.intervals:
        assert interval.time is not None
        for at_ms in range(interval.time.start_ms, interval.time.end_ms):
            add(dimensions.get(interval.time.kind), at_ms, interval.time, 1)
            if interval.energy is not None:
                part_mwh = interval.energy.energy_until_mwh(at_ms + 1) - interval.energy.energy_until_mwh(at_ms)
                add(Dimension.ENERGY, at_ms, interval.time, part_mwh)
    volumes = {(one.element, one.dimension): one.volume for one in allocate_usage(blind, zone, used)}
    assert {place: volume for place, volume in volumes.items() if place[1] != Dimension.FLAT} == found


@given(tariffs(), sessions(), st.integers(0, 3 * 86_400_000), st.booleans())
def test_a_reservation_never_touches_the_elements_of_charging(
    priced: Tariff, session: Session, length_ms: int, expired: bool
) -> None:
    def reserved(consumption: list[ComponentUsage]) -> list[bool]:
        restrictions = [priced.elements[one.element].restrictions for one in consumption]
        return [one is not None and one.reservation is not None for one in restrictions]

    start_ms = session.readings[0].ts_ms
    booked, rated = rate_usage(priced, session.zone, reservation_usage(start_ms, start_ms + length_ms, expired=expired))
    assert all(reserved(booked))
    assert {one.bound for one in rated.adjustments} <= ({MAX_PRICE} if not expired else set())
    assert not any(reserved(rate_readings(priced, session.zone, session.readings)[0]))
