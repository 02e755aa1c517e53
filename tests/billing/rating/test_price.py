"""From consumption to money: steps, lines, bounds."""

from dataclasses import dataclass
from typing import Any

import pytest

from billing.rating import Adjustment, PriceLine, RatedUsage, price, rate_visit, reservation_usage
from billing.rating.price import half_up
from schemas.events import Consumption
from tests.billing.rating.making import (
    HOUR_MS,
    KWH,
    MINUTE_MS,
    UTC_ZONE,
    component,
    element,
    stretch,
    tariff,
    usage,
    utc_ms,
)

T0 = utc_ms("2026-06-01T09:00")


@dataclass(frozen=True)
class Part:
    """Something consumed."""

    dimension: str
    volume: int
    last: bool = False
    element: int = 0


def totals(rated: RatedUsage) -> tuple[int, int]:
    return rated.total_excl_micros, rated.total_incl_micros


def flat(excl: str, vat: str | None = None, **bounds: Any) -> tuple[int, int]:
    """Totals of a tariff that is flat, within these bounds."""
    more: dict[str, Any] = {} if vat is None else {"vat": vat}
    priced = tariff({"price_components": [component("FLAT", excl, **more)]}, **bounds)
    return totals(price(priced, [Part("FLAT", 1)]))


def test_amounts_and_vat_are_rounded_half_up_to_the_micro_unit_each_once() -> None:
    priced = tariff({"price_components": [component("ENERGY", "0.000001", 0, vat="10")]})
    assert totals(price(priced, [Part("ENERGY", KWH // 2)])) == (1, 1)
    assert totals(price(priced, [Part("ENERGY", KWH // 2 - 1)])) == (0, 0)
    rated = price(priced, [Part("ENERGY", 5 * KWH)])
    assert totals(rated) == (5, 6)
    vat = rated.roundings[-1]
    assert (vat.what, vat.numerator, vat.denominator, vat.result) == ("0 ENERGY vat", 500_000, 1_000_000, 1)


def test_exact_amounts_are_not_among_the_roundings() -> None:
    priced = tariff({"price_components": [component("ENERGY", "0.25", 0, vat="21"), component("TIME", "3", 0)]})
    assert price(priced, [Part("ENERGY", 20 * KWH), Part("TIME", HOUR_MS)]).roundings == ()


def test_a_step_rounds_the_dimension_up_once_and_adds_to_the_last_component() -> None:
    parts = [{"price_components": [component("TIME", amount, 600)]} for amount in ("5", "7")]
    consumption = [Part("TIME", 6 * MINUTE_MS, element=0), Part("TIME", 22 * MINUTE_MS, last=True, element=1)]
    rated = price(tariff(*parts), consumption)
    assert [(line.volume, line.added) for line in rated.lines] == [(6 * MINUTE_MS, 0), (24 * MINUTE_MS, 2 * MINUTE_MS)]
    assert rated.total_excl_micros == 3_300_000
    assert [(r.what, r.numerator // r.denominator, r.result, r.unit) for r in rated.roundings] == [
        ("1 TIME step_size", 1_680, 1_800, "s")
    ]


@pytest.mark.parametrize(
    ("step_size", "volume", "billed"),
    [
        (0, 1, 1),
        (1, 1, 1_000),
        (1, 1_000, 1_000),
        (1, 1_001, 2_000),
        (25, 115_200, 125_000),
        (100, 20_450_000, 20_500_000),
        (500, 0, 0),
    ],
)
def test_step_sizes(step_size: int, volume: int, billed: int) -> None:
    priced = tariff({"price_components": [component("ENERGY", "1", step_size)]})
    assert price(priced, [Part("ENERGY", volume, last=True)]).lines[0].volume == billed


def test_times_are_stepped_apart_and_only_the_one_used_last() -> None:
    priced = tariff({"price_components": [component("TIME", "1", 300), component("PARKING_TIME", "1", 300)]})
    consumption = [Part("TIME", 21 * MINUTE_MS), Part("PARKING_TIME", 7 * MINUTE_MS, last=True)]
    assert [line.volume for line in price(priced, consumption).lines] == [21 * MINUTE_MS, 10 * MINUTE_MS]


def test_what_is_flat_has_no_steps() -> None:
    priced = tariff({"price_components": [component("FLAT", "1", 5)]})
    assert price(priced, [Part("FLAT", 1, last=True)]).lines[0].volume == 1


def test_no_vat_is_not_a_vat_of_nothing() -> None:
    priced = tariff({"price_components": [component("FLAT", "1"), component("TIME", "1", 0, vat="0")]})
    lines = price(priced, [Part("FLAT", 1), Part("TIME", HOUR_MS)]).lines
    assert [line.vat_millionths for line in lines] == [None, 0]


@pytest.mark.parametrize(
    ("excl", "vat", "bounds", "expected"),
    [
        # within
        ("1", "20", {"min_price": {"excl_vat": 1}, "max_price": {"excl_vat": 1}}, (1_000_000, 1_200_000)),
        # raised: incl. VAT as the bound says, or in proportion, or from nothing
        ("0.3", "10", {"min_price": {"excl_vat": "0.5", "incl_vat": "0.55"}}, (500_000, 550_000)),
        ("0.3", "20", {"min_price": {"excl_vat": "0.5"}}, (500_000, 600_000)),
        ("0.000003", "33.3333", {"min_price": {"excl_vat": "0.00001"}}, (10, 13)),
        ("0", "20", {"min_price": {"excl_vat": "0.5"}}, (500_000, 500_000)),
        ("0", None, {"min_price": {"excl_vat": "0.5", "incl_vat": "0.6"}}, (500_000, 600_000)),
        # excl. and incl. VAT each for itself
        ("1", "20", {"min_price": {"excl_vat": "1.1", "incl_vat": "1.15"}}, (1_100_000, 1_200_000)),
        ("1", None, {"min_price": {"excl_vat": "0.9", "incl_vat": "1.1"}}, (1_000_000, 1_100_000)),
        # lowered
        ("20", "10", {"max_price": {"excl_vat": 10, "incl_vat": 11}}, (10_000_000, 11_000_000)),
        ("20", "10", {"max_price": {"excl_vat": 10}}, (10_000_000, 11_000_000)),
        ("20", "10", {"max_price": {"excl_vat": 21, "incl_vat": 21}}, (20_000_000, 21_000_000)),
        ("20", "10", {"max_price": {"excl_vat": 0}}, (0, 0)),
        # the maximum has the last word
        ("1", None, {"min_price": {"excl_vat": 5}, "max_price": {"excl_vat": 3}}, (3_000_000, 3_000_000)),
    ],
)
def test_minimum_and_maximum_price(
    excl: str, vat: str | None, bounds: dict[str, Any], expected: tuple[int, int]
) -> None:
    assert flat(excl, vat, **bounds) == expected


def test_what_a_bound_changes_is_a_line_of_its_own() -> None:
    bounds: dict[str, Any] = {"min_price": {"excl_vat": 5}, "max_price": {"excl_vat": 3}}
    priced = tariff({"price_components": [component("FLAT", "1", vat="10")]}, **bounds)
    rated = price(priced, [Part("FLAT", 1)])
    assert rated.adjustments == (
        Adjustment("MIN_PRICE", 4_000_000, 400_000),
        Adjustment("MAX_PRICE", -2_000_000, -200_000),
    )


def test_a_minimum_is_due_although_nothing_was_used() -> None:
    priced = tariff({"price_components": [component("ENERGY")]}, min_price={"excl_vat": 1})
    assert totals(price(priced, [])) == (1_000_000, 1_000_000)


def test_a_reservation_knows_no_bounds() -> None:
    bounds: dict[str, Any] = {"min_price": {"excl_vat": 5}}
    priced = tariff({"price_components": [component("FLAT", "1")]}, **bounds)
    assert totals(price(priced, [Part("FLAT", 1)], bounds=())) == (1_000_000, 1_000_000)


def test_the_consumption_of_an_event_is_priced_as_it_is() -> None:
    priced = tariff({"price_components": [component("ENERGY", "0.25", 100, vat="10")]})
    event = Consumption(element=0, dimension="ENERGY", volume=20_450_000, since="2026-01-01T00:00:00.000Z", last=True)
    assert totals(price(priced, [event])) == (5_125_000, 5_637_500)


def test_a_consumption_of_another_tariff_is_refused() -> None:
    priced = tariff({"price_components": [component("ENERGY")]})
    for part in (Part("TIME", 1), Part("ENERGY", 1, element=1), Part("ENERGY", 1, element=-1)):
        with pytest.raises(ValueError, match="the tariff has no"):
            price(priced, [part])


def test_the_largest_bill_is_exact() -> None:
    priced = tariff({"price_components": [component("ENERGY", "999999.999999", 0, vat="99.9999")]})
    assert totals(price(priced, [Part("ENERGY", 10**13 + 1)])) == (
        half_up((10**13 + 1) * 999_999_999_999, 10**6),
        half_up((10**13 + 1) * 999_999_999_999, 10**6)
        + half_up(half_up((10**13 + 1) * 999_999_999_999, 10**6) * 999_999, 10**6),
    )


@pytest.mark.parametrize(("numerator", "denominator", "whole"), [(0, 2, 0), (1, 2, 1), (3, 2, 2), (4, 3, 1), (5, 3, 2)])
def test_half_up(numerator: int, denominator: int, whole: int) -> None:
    assert half_up(numerator, denominator) == whole


def test_a_minimum_and_a_maximum_are_of_the_reservation_and_the_charging_that_it_was_for() -> None:
    elements = [element("TIME", reservation="RESERVATION"), element("ENERGY")]
    reservation = reservation_usage(T0, T0 + 2 * HOUR_MS, expired=False)
    charging = usage(stretch(T0 + 2 * HOUR_MS, 60, energy_mwh=3 * KWH))
    for bounds, total in (
        ({}, 5),
        ({"max_price": {"excl_vat": 4}}, 4),
        ({"max_price": {"excl_vat": 1}}, 1),
        ({"min_price": {"excl_vat": 4}}, 5),
        ({"min_price": {"excl_vat": 6}}, 6),
    ):
        _, rated = rate_visit(tariff(*elements, **bounds), UTC_ZONE, reservation, charging)
        assert rated.total_excl_micros == total * 1_000_000
        parts: list[PriceLine | Adjustment] = [*rated.lines, *rated.adjustments]
        assert rated.total_excl_micros == sum(part.amount_excl_micros for part in parts)


def test_an_expired_reservation_has_neither_minimum_nor_maximum() -> None:
    expired = reservation_usage(T0, T0 + 2 * HOUR_MS, expired=True)
    for bounds in ({"min_price": {"excl_vat": 5}}, {"max_price": {"excl_vat": 1}}):
        priced = tariff(element("TIME", reservation="RESERVATION_EXPIRES"), **bounds)
        assert rate_visit(priced, UTC_ZONE, expired, None)[1].total_excl_micros == 2_000_000
