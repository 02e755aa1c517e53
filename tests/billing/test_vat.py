"""Laws of a document's amounts in minor units: EN 16931's business rules hold, and what is to be paid never changes."""

from decimal import ROUND_HALF_UP, Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.currency import to_minor
from billing.documents import DocumentLine
from billing.vat import BOUNDS, payable_amounts, vat_of
from tests.billing.charged_lines import DIGITS, RATES, amounts_of, bound, component, documents


@given(documents(), st.sampled_from(list(DIGITS)))
def test_lines_rates_and_totals_add_up_to_what_is_to_be_paid(lines: list[DocumentLine], currency: str) -> None:
    amounts = amounts_of(lines, currency)
    for rate in amounts.rates:
        of_rate = [line.net_minor for line in amounts.lines if line.vat_ppm == rate.vat_ppm]
        assert sum(of_rate) == rate.net_minor
        exact = Decimal(rate.net_minor) * (rate.vat_ppm or 0) / 1_000_000
        assert rate.vat_minor == exact.quantize(Decimal(1), ROUND_HALF_UP)
    assert sum(line.net_minor for line in amounts.lines) == amounts.net_minor
    gross = sum(rate.gross_minor for rate in amounts.rates)
    assert gross + amounts.rounding_minor == amounts.payable_minor
    assert amounts.payable_minor == to_minor(sum(line.incl_micros for line in lines), currency)


@given(documents(), st.sampled_from(list(DIGITS)))
def test_the_rounding_is_at_most_a_coin_a_rate_and_a_line_moves_by_less_than_a_coin(
    lines: list[DocumentLine], currency: str
) -> None:
    amounts = amounts_of(lines, currency)
    assert abs(amounts.rounding_minor) <= len(amounts.rates)
    unit = 10 ** (6 - DIGITS[currency])
    for one in amounts.lines:
        if not one.is_adjustment:
            assert abs(one.net_minor * unit - one.line.excl_micros) < unit


@given(st.integers(0, 10**9), RATES)
def test_one_rate_is_rounded_away_only_where_no_net_amount_gives_the_price(excl_micros: int, rate: int | None) -> None:
    amounts = amounts_of([component(excl_micros, rate)])
    if amounts.rounding_minor:
        nearby = range(amounts.net_minor - 1, amounts.net_minor + 2)
        reached = [net for net in nearby if net + vat_of(net, rate) == amounts.payable_minor]
        assert all(abs(net * 10_000 - excl_micros) >= 10_000 for net in reached)


@given(documents())
def test_a_credit_note_has_the_amounts_of_its_invoice_with_the_sign_reversed(lines: list[DocumentLine]) -> None:
    amounts = amounts_of(lines)
    credited = payable_amounts([line.negated() for line in lines], -amounts.payable_minor, 2)
    assert [line.net_minor for line in credited.lines] == [-line.net_minor for line in amounts.lines]
    assert [(r.vat_ppm, r.net_minor, r.vat_minor) for r in credited.rates] == [
        (r.vat_ppm, -r.net_minor, -r.vat_minor) for r in amounts.rates
    ]


@given(documents())
def test_every_adjustment_has_the_rates_of_what_it_adjusts(lines: list[DocumentLine]) -> None:
    amounts = amounts_of(lines)
    used = {line.vat_ppm for line in lines if line.dimension not in BOUNDS}
    adjusting = {one.vat_ppm for one in amounts.lines if one.is_adjustment}
    assert adjusting <= used


@pytest.mark.parametrize(
    ("excl", "incl", "rate"),
    [(20_000_000, 24_200_000, 210_000), (20_000_000, 20_000_000, None), (5_000_000, 5_350_000, 70_000)],
)
def test_a_minimum_price_of_nothing_used_has_the_rate_that_it_implies(excl: int, incl: int, rate: int | None) -> None:
    amounts = amounts_of([bound("MIN_PRICE", excl, incl)])
    assert [(one.vat_ppm, one.net_minor, one.vat_minor) for one in amounts.rates] == [
        (rate, excl // 10_000, (incl - excl) // 10_000)
    ]


def test_a_maximum_of_ten_euros_is_ten_euros() -> None:
    lines = [component(20_000_000, 210_000), bound("MAX_PRICE", -11_735_537, -14_200_000)]
    amounts = amounts_of(lines)
    assert amounts.payable_minor == 1_000
    assert (amounts.net_minor, amounts.vat_minor, amounts.rounding_minor) in {(826, 173, 1), (827, 174, -1)}
    assert amounts.lines[0].net_minor == 2_000


def test_yen_have_no_digits() -> None:
    amounts = amounts_of([component(55_555_500, 190_000)], "JPY")
    assert (amounts.payable_minor, amounts.net_minor, amounts.vat_minor, amounts.rounding_minor) == (66, 56, 11, -1)
