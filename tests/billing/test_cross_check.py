"""Laws of the check before an invoice: only the quantities and the cost that follow from the stored readings are
invoiced, whatever else an event says."""

from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import uuid4

import msgspec
import pytest
from hypothesis import event as note
from hypothesis import given
from hypothesis import strategies as st

from billing.documents import CdrStatus, ChargeDraft
from billing.invoicing.amounts import price_consumption, to_consumption
from billing.invoicing.cross_check import PricedSession, check_session
from billing.invoicing.rules import OTHERS, InvoicingRules
from billing.rating import MeterBefore, rate_readings
from billing.readings_source import SessionSnapshot, StoredReadings
from kit.clock import format_rfc3339, parse_rfc3339
from schemas.events import Consumption, Money, SessionCompleted
from schemas.tariff import Tariff
from tests.billing.making import VERSION, session
from tests.billing.rating.strategies import Session, sessions, tariffs
from tests.billing.telemetry import plain_readings

RULES = InvoicingRules({OTHERS: 1_000_000_000}, zero_invoices=True)


def priced(tariff: Tariff, zone: str, used: list[Consumption], readings: int = 1) -> PricedSession:
    """The event of a session with this consumption, its cost by the same prices."""
    amount = price_consumption(tariff, used)
    completed = session(tariff=tariff.model_dump(mode="json", exclude_none=True), used=used, readings=readings)
    assert completed.pricing is not None
    cost = Money(currency=amount.currency, excl_vat_micros=amount.excl_micros, incl_vat_micros=amount.incl_micros)
    pricing = msgspec.structs.replace(completed.pricing, time_zone=zone, cost=cost)
    return PricedSession.of(msgspec.structs.replace(completed, pricing=pricing), pricing, tariff)


def stored_of(one: Session, revision: int = 1, **changes: Any) -> SessionSnapshot:
    """What telemetry stores of it."""
    readings = StoredReadings(one.readings, [0] * len(one.readings), one.before)
    return replace(SessionSnapshot(uuid4(), revision, True, VERSION, readings), **changes)


def honest(tariff: Tariff, one: Session) -> list[Consumption]:
    """The consumption that follows from the readings."""
    return list(to_consumption(rate_readings(tariff, one.zone, one.readings, one.before)[0]))


def check(session: PricedSession, stored: SessionSnapshot | None) -> ChargeDraft:
    draft = check_session(session, stored, RULES)
    assert draft is not None
    return draft


@st.composite
def corruptions(draw: st.DrawFn, used: list[Consumption]) -> list[Consumption]:
    """The same consumption but for one thing."""
    place = draw(st.integers(0, len(used) - 1))
    one = used[place]
    kind = draw(st.sampled_from(["more", "less", "since", "last", "left out", "twice"]))
    if kind == "left out":
        return used[:place] + used[place + 1 :]
    if kind == "twice":
        return [*used, one]
    moved = format_rfc3339(parse_rfc3339(one.since) + timedelta(milliseconds=draw(st.sampled_from([-1, 1, 60_000]))))
    changes: dict[str, dict[str, Any]] = {
        "more": {"volume": one.volume + draw(st.sampled_from([1, 1_000, 10**9]))},
        "less": {"volume": draw(st.integers(0, one.volume - 1))},
        "since": {"since": moved},
        "last": {"last": not one.last},
    }
    return [*used[:place], msgspec.structs.replace(one, **changes[kind]), *used[place + 1 :]]


@given(tariffs(), sessions(), st.data())
def test_what_follows_from_the_readings_is_invoiced_and_nothing_else(
    tariff: Tariff, one: Session, data: st.DataObject
) -> None:
    used = honest(tariff, one)
    draft = check(priced(tariff, one.zone.key, used), stored_of(one))
    assert (draft.status, draft.reason) == (CdrStatus.INVOICED, "")
    assert draft.consumption == tuple(used)
    if not used:
        note("no consumption")
        return
    corrupted = data.draw(corruptions(used))
    note(f"{len(used)} components")
    wrong = check(priced(tariff, one.zone.key, corrupted), stored_of(one))
    assert wrong.status is CdrStatus.DRIFT, "the price of a wrong quantity is right, and the quantity is not"
    assert wrong.reason
    assert wrong.amount == draft.amount, "the total by billing follows from the readings"


@given(tariffs(), sessions(), st.sampled_from(["excl_vat_micros", "incl_vat_micros"]), st.sampled_from([-1, 1]))
def test_another_cost_of_the_right_quantities_is_not_invoiced(
    tariff: Tariff, one: Session, name: str, off_micros: int
) -> None:
    right = priced(tariff, one.zone.key, honest(tariff, one))
    cost = msgspec.structs.replace(right.pricing.cost, **{name: getattr(right.pricing.cost, name) + off_micros})
    pricing = msgspec.structs.replace(right.pricing, cost=cost)
    wrong = PricedSession.of(msgspec.structs.replace(right.event, pricing=pricing), pricing, tariff)
    assert check(wrong, stored_of(one)).status is CdrStatus.DRIFT
    assert check(right, stored_of(one, tariff_version=uuid4())).status is CdrStatus.DRIFT


@given(tariffs(), sessions(), st.data())
def test_readings_that_retention_has_dropped_are_never_guessed(
    tariff: Tariff, one: Session, data: st.DataObject
) -> None:
    used = honest(tariff, one)
    session = priced(tariff, one.zone.key, used, readings=len(one.readings))
    left = data.draw(st.lists(st.sampled_from(one.readings), max_size=len(one.readings) - 1, unique_by=id))
    readings = StoredReadings(left, [0] * len(left), one.before)
    draft = check(session, stored_of(one, readings=readings))
    if draft.status is CdrStatus.INVOICED:
        again = honest(tariff, Session(one.zone, left, one.before))
        assert again == used, "the rest says the same to the last unit"
    else:
        assert draft.status is CdrStatus.REVIEW
        assert draft.reason == f"{len(left)} of its {len(one.readings)} readings are still stored"
    note(draft.status)


CASES = {
    "unknown": (None, "telemetry does not know the session"),
    "older": ({"revision": 1}, "telemetry has revision 1 of the session only"),
    "too large": ({"readings": None}, "too many readings"),
    "none left": ({"readings": StoredReadings((), (), MeterBefore())}, "0 of its 2 readings are still stored"),
}


@pytest.mark.parametrize("case", sorted(CASES))
def test_without_independent_quantities_a_charge_is_put_to_review(case: str) -> None:
    changes, reason = CASES[case]
    priced_session, stored = plain(revision=2)
    draft = check(priced_session, None if changes is None else replace(stored, **changes))
    assert draft.status is CdrStatus.REVIEW
    assert reason in draft.reason
    assert draft.amount is not None
    assert draft.amount.excl_micros == draft.stream_excl_micros, "by the event's quantities"


def test_of_a_session_whose_readings_are_all_another_sessions_nothing_is_owed() -> None:
    priced_session, stored = plain(revision=2)
    event = msgspec.structs.replace(priced_session.event, end_reason="withdrawn", readings=0, void=True)
    withdrawn, nothing = replace(priced_session, event=event), StoredReadings((), (), MeterBefore())
    draft = check(withdrawn, replace(stored, readings=nothing))
    assert (draft.status, draft.reasons, draft.reason) == (CdrStatus.VOID, (), "")
    assert check_session(withdrawn, replace(stored, revision=3, readings=nothing), RULES) is None
    lost = check(priced_session, replace(stored, readings=nothing))
    assert lost.status is CdrStatus.REVIEW, "retention has dropped its readings: that is another matter"


@pytest.mark.parametrize("changes", [{"revision": 3}, {"completed": False}, {"revision": 3, "completed": False}])
def test_an_event_that_telemetry_has_replaced_already_is_neither_invoiced_nor_doubted(changes: dict[str, Any]) -> None:
    priced_session, stored = plain(revision=2)
    assert check(priced_session, stored).status is CdrStatus.INVOICED
    assert check_session(priced_session, replace(stored, **changes), RULES) is None


def plain(revision: int) -> tuple[PricedSession, SessionSnapshot]:
    """A session of two readings."""
    completed: SessionCompleted = session(revision=revision)
    assert completed.pricing is not None
    tariff = Tariff.model_validate(completed.pricing.tariff)
    priced_session = PricedSession.of(completed, completed.pricing, tariff)
    return priced_session, SessionSnapshot(completed.id, revision, True, VERSION, plain_readings(completed))
