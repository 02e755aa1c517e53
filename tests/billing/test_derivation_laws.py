"""Laws of comparing a document with its derivation: a right one agrees, in whatever order its parts were written."""

from hypothesis import event, given
from hypothesis import strategies as st
from msgspec.structs import replace

from billing.invoicing.amounts import price_consumption
from billing.invoicing.derivation import derive_session, differences, line_differences
from billing.readings_source import StoredReadings
from schemas.tariff import Tariff
from tests.billing.rating.strategies import Session, sessions, tariffs


def stored(session: Session) -> StoredReadings:
    return StoredReadings(session.readings, [0] * len(session.readings), session.before)


@given(tariffs(), sessions(), st.data())
def test_a_right_document_agrees_whatever_the_order_of_components(
    tariff: Tariff, session: Session, data: st.DataObject
) -> None:
    derived = derive_session(tariff, session.zone, stored(session))
    consumption = data.draw(st.permutations(derived.consumption))
    amount = price_consumption(tariff, consumption)
    assert (amount.excl_micros, amount.incl_micros) == (derived.amount.excl_micros, derived.amount.incl_micros)
    assert amount.lines == derived.amount.lines, "documents have their lines in the order of the tariff"
    totals = (derived.amount.currency, amount.excl_micros, amount.incl_micros)
    assert differences(derived, consumption, *totals) == []
    lines = data.draw(st.permutations(amount.lines))
    assert line_differences(derived, lines) == []
    assert line_differences(derived.negated(), [line.negated() for line in lines]) == []
    event(f"{len(lines)} lines")


@given(tariffs(), sessions(), st.data())
def test_a_wrong_line_is_named_and_only_that(tariff: Tariff, session: Session, data: st.DataObject) -> None:
    derived = derive_session(tariff, session.zone, stored(session))
    lines = list(derived.amount.lines)
    if not lines:
        return
    place = data.draw(st.integers(0, len(lines) - 1))
    wrong = replace(lines[place], excl_micros=lines[place].excl_micros + 1)
    (changed,) = line_differences(derived, [*lines[:place], wrong, *lines[place + 1 :]])
    assert changed.startswith(f"line {place + 1}: stored {wrong.dimension}")
    (missing,) = line_differences(derived, [*lines[:place], *lines[place + 1 :]])
    assert missing.startswith(f"no line: stored nothing, computed {wrong.dimension}")
    (twice,) = line_differences(derived, [*lines, lines[place]])
    assert twice.startswith(f"line {len(lines) + 1}: stored {wrong.dimension}")
    assert twice.endswith("computed nothing")
