"""Laws of settling: a charge is invoiced once no later revision came for a while, once, whatever happens meanwhile."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from uuid import uuid4

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.documents import CdrStatus, ChargeAmount
from billing.invoicing import poster
from billing.invoicing.rules import InvoicingRules
from kit.errors import ConfigError
from tests.billing.making import assigned, reservation, session
from tests.billing.running import NOW, RunningBilling, open_running
from voltstream.settings import load_settings

SETTLE_S, SETTLE_MAX_S = 60, 150


@pytest.fixture
async def settling(billing_url: str) -> AsyncIterator[RunningBilling]:
    """Billing whose charges settle."""
    async with open_running(billing_url, invoice_settle_s=SETTLE_S, invoice_settle_max_s=SETTLE_MAX_S) as opened:
        yield opened


async def after(billing: RunningBilling, seconds: int) -> list[str]:
    """The statuses of all documents so long after the last call, when the job has run."""
    billing.clock.advance(seconds)
    await billing.components.poster.invoice_due()
    return [document["status"] for document in billing.documents()]


async def test_a_charge_is_invoiced_when_it_has_settled_and_not_before(settling: RunningBilling) -> None:
    done = session()
    await settling.deliver(done)
    assert [cdr["status"] for cdr in settling.cdrs(done.id)] == ["settling"]
    assert await after(settling, SETTLE_S - 1) == []
    assert await after(settling, 1) == ["open"]
    (invoice,), (cdr,) = settling.documents(), settling.cdrs(done.id)
    assert done.pricing is not None
    assert invoice["total_incl_micros"] == done.pricing.cost.incl_vat_micros
    assert (invoice["cdr_id"], cdr["status"], cdr["due_at"], cdr["lines"]) == (cdr["id"], "invoiced", None, None)
    lines = settling.rows("SELECT dimension FROM billing.invoice_line ORDER BY line")
    assert [line["dimension"] for line in lines] == ["FLAT", "ENERGY", "TIME"]
    (event,) = settling.events()
    assert event["metadata"]["correlationId"].startswith("test-"), "of the event that brought the charge"
    assert await after(settling, SETTLE_S) == ["open"]


async def test_late_readings_within_the_time_make_one_document_of_the_newest(settling: RunningBilling) -> None:
    own_id = uuid4()
    for revision in (1, 2, 3):
        await settling.deliver(session(own_id, revision=revision, energy_mwh=revision * 1_000_000))
        assert await after(settling, SETTLE_S // 2) == []
    assert await after(settling, SETTLE_S // 2) == ["open"]
    newest = session(own_id, revision=3, energy_mwh=3_000_000).pricing
    assert newest is not None
    assert settling.documents()[0]["total_incl_micros"] == newest.cost.incl_vat_micros


async def test_however_much_comes_a_charge_is_invoiced_in_the_end(settling: RunningBilling) -> None:
    own_id, elapsed_s = uuid4(), 0
    for revision in range(1, 20):
        await settling.deliver(session(own_id, revision=revision, energy_mwh=revision * 1_000_000))
        if await after(settling, SETTLE_S // 2):
            break
        elapsed_s += SETTLE_S // 2
    assert elapsed_s == SETTLE_MAX_S - SETTLE_S // 2


async def test_the_correction_of_an_invoice_settles_too_and_may_become_unnecessary(settling: RunningBilling) -> None:
    own_id = uuid4()
    await settling.deliver(session(own_id))
    assert await after(settling, SETTLE_S) == ["open"]
    await settling.deliver(session(own_id, revision=2, energy_mwh=5_000_000))
    assert await after(settling, SETTLE_S - 1) == ["open"]
    await settling.deliver(session(own_id, revision=3))
    assert await after(settling, SETTLE_MAX_S) == ["open"], "it comes to what is requested already"
    await settling.deliver(session(own_id, revision=4, energy_mwh=5_000_000))
    assert await after(settling, SETTLE_S) == ["credited", "settled", "open"]


async def test_what_becomes_held_void_or_cancelled_while_it_settles_is_not_invoiced(settling: RunningBilling) -> None:
    doubted, nothing = uuid4(), uuid4()
    await settling.deliver(session(doubted), session(nothing))
    await settling.deliver(msgspec.structs.replace(session(doubted, revision=2, energy_mwh=5), held=("silent",)))
    await settling.deliver(msgspec.structs.replace(session(nothing, revision=2, energy_mwh=5), void=True))
    assert await after(settling, SETTLE_MAX_S) == []
    assert [cdr["status"] for cdr in settling.cdrs(doubted)] == ["settling", "held"]
    assert [cdr["current"] for cdr in settling.cdrs(doubted)] == [False, True]


async def test_a_driver_who_is_named_while_it_settles_is_on_the_invoice(settling: RunningBilling) -> None:
    own_id = uuid4()
    await settling.deliver(session(own_id), assigned(own_id, "ann"))
    await after(settling, SETTLE_S)
    assert [document["driver_id"] for document in settling.documents()] == ["ann"]


async def test_a_reservation_has_no_later_revision_and_is_invoiced_at_once(settling: RunningBilling) -> None:
    await settling.deliver(reservation("R-1"))
    assert [document["status"] for document in settling.documents()] == ["open"]


async def test_a_charge_outlives_the_process_that_settled_it(billing_url: str, settling: RunningBilling) -> None:
    events = [session(energy_mwh=1_000 + n) for n in range(20)]
    await settling.deliver_at_once(events)
    async with open_running(billing_url, settling.clock) as next_process:  # which would invoice at once
        assert await after(next_process, 1) == []
        assert await after(next_process, SETTLE_S) == ["open"] * len(events)


async def test_a_crash_while_invoices_are_issued_leaves_none_or_all(
    settling: RunningBilling, monkeypatch: pytest.MonkeyPatch
) -> None:
    await settling.deliver_at_once(session(energy_mwh=1_000 + n) for n in range(5))
    settling.clock.advance(SETTLE_S)

    async def crash(*_: object) -> None:
        raise ConnectionResetError("the process ends between its last statement and the commit")

    with monkeypatch.context() as crashing:
        crashing.setattr(poster, "insert_async", crash)
        with pytest.raises(Exception, match="the process ends"):
            await settling.components.poster.invoice_due()
    assert settling.documents() == []
    assert settling.events() == []
    assert await after(settling, 0) == ["open"] * 5
    assert [document["sequence"] for document in settling.documents()] == [1, 2, 3, 4, 5]


async def test_of_several_processes_one_issues_each_invoice(
    billing_url: str, settling: RunningBilling, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(poster, "DUE_AT_ONCE", 7)
    await settling.deliver_at_once(session(energy_mwh=1_000 + n) for n in range(60))
    settling.clock.advance(SETTLE_S)
    async with open_running(billing_url, settling.clock) as other:
        await asyncio.gather(*(one.components.poster.invoice_due() for one in (settling, other, settling, other)))
    assert [document["sequence"] for document in settling.documents()] == list(range(1, 61))
    assert len({document["subject_id"] for document in settling.documents()}) == 60


@given(st.integers(0, 600), st.integers(0, 600), st.lists(st.integers(0, 100), max_size=20))
def test_the_moment_of_invoicing_is_bounded_by_both_settings(settle_s: int, more_s: int, pauses_s: list[int]) -> None:
    rules = InvoicingRules(settle_s=settle_s, settle_max_s=settle_s + more_s)
    now = NOW
    for pause_s in [0, *pauses_s]:
        now += timedelta(seconds=pause_s)
        due_at = rules.due_at(now, NOW)
        assert due_at <= now + timedelta(seconds=settle_s)
        assert due_at <= NOW + timedelta(seconds=settle_s + more_s)
        assert due_at in (now + timedelta(seconds=settle_s), NOW + timedelta(seconds=settle_s + more_s))


def test_a_bound_below_the_time_is_refused() -> None:
    with pytest.raises(ConfigError, match="SETTLE_MAX_S"):
        load_settings(invoice_settle_s=60, invoice_settle_max_s=30)


@pytest.mark.parametrize(
    ("value", "currency", "bound"),
    [('{"EUR": 5}', "EUR", 5), ('{"EUR": 5}', "SEK", 1_000_000), ('{"*": 7}', "SEK", 7), ("9", "EUR", 9)],
)
def test_the_bound_of_totals_is_by_currency_or_one_for_all(
    monkeypatch: pytest.MonkeyPatch, value: str, currency: str, bound: int
) -> None:
    monkeypatch.setenv("VOLTSTREAM_INVOICE_TOTAL_MAX", value)
    settings = load_settings()
    assert InvoicingRules(settings.invoice_total_max).total_max_of(currency) == bound  # type: ignore[attr-defined]


@pytest.mark.parametrize("value", ['{"euro": 5}', '{"EUR": 0}', "0", '{"EUR": "a lot"}'])
def test_a_bound_that_cannot_be_is_refused(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("VOLTSTREAM_INVOICE_TOTAL_MAX", value)
    with pytest.raises(ConfigError, match="INVOICE_TOTAL_MAX"):
        load_settings()


def test_released_charges_of_nothing_are_not_invoiced_unless_wanted() -> None:
    nothing = ChargeAmount("EUR", (), 4_000, 4_999)
    assert InvoicingRules().outcome_of(nothing) == (CdrStatus.NOTHING_OWED, ())
    assert InvoicingRules(zero_invoices=True).outcome_of(nothing) == (CdrStatus.INVOICED, ())
