"""Laws of rating, for any tariff and any session."""

from hypothesis import event, given

from billing.rating import Adjustment, Line, rate_readings
from schemas.tariff import Tariff
from tests.billing.rating.strategies import Session, sessions, tariffs


@given(tariffs(), sessions())
def test_totals_are_the_sums_of_lines_and_never_negative(tariff: Tariff, session: Session) -> None:
    consumption, rated = rate_readings(tariff, session.zone, session.readings, session.end_ms)
    parts: list[Line | Adjustment] = [*rated.lines, *rated.adjustments]
    assert rated.total_excl_micros == sum(part.amount_excl_micros for part in parts)
    assert rated.total_incl_micros - rated.total_excl_micros == sum(part.vat_micros for part in parts)
    assert 0 <= rated.total_excl_micros <= rated.total_incl_micros
    assert all(one.volume > 0 for one in consumption)
    event(f"{len(consumption)} components")
    for one in consumption:
        event(one.dimension)
