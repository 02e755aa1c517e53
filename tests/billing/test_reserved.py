"""A session and the reservation that it used are within the tariff's bounds together, whatever comes first."""

import random
from datetime import timedelta
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.currency import to_minor
from billing.documents import CdrStatus
from billing.invoices.store import InvoiceStore
from billing.invoicing.amounts import price_consumption, rate_reservation
from billing.invoicing.drafts import session_draft
from billing.invoicing.reserved import beside, reserved_amount
from billing.invoicing.rules import InvoicingRules
from billing.invoicing.tariffs import parse_tariff
from billing.readings_store import ReadingsStore
from billing.reconcile import Finding, Reconciler
from schemas.events import ReservationConfirmed, SessionAssigned
from tests.billing.making import START, TARIFF, assigned, consumption, reservation, session
from tests.billing.running import open_running
from tests.billing.serving import INVOICES, Service, served
from tests.billing.sessions import completed, later, readings

CAPPED_VERSION: Final = UUID("55555555-5555-4555-8555-555555555555")
CAPPED: Final[dict[str, Any]] = {**TARIFF, "max_price": {"excl_vat": 2.5, "incl_vat": 3}}
MAX_MINOR: Final = 300
RESERVED_MINOR: Final = 182  # half an hour at 3.00, and 21 %
CHARGES: Final = "/api/v1/billing/charges"


def used_reservation(minutes: int = 30, *, expired: bool = False) -> ReservationConfirmed:
    one = reservation("R-1", minutes=minutes)
    return msgspec.structs.replace(one, tariff=CAPPED, version=CAPPED_VERSION, expired=expired)


def assignment(session_id: UUID, *, withdrawn: bool = False, revision: int = 1) -> SessionAssigned:
    one = assigned(session_id, "driver-1", revision, withdrawn=withdrawn)
    return msgspec.structs.replace(one, reservation_id="R-1")


async def check_explained_and_reconciled(service: Service) -> None:
    source = ReadingsStore(service.billing.database)
    report = await Reconciler(InvoiceStore(service.billing.database), source).run(
        START, START + timedelta(days=1), lambda _done, _expected: None
    )
    assert (report.drifts, set(report.outcomes)) == ([], {Finding.AGREES})
    for invoice in service.billing.documents():
        assert (await service.get(f"{INVOICES}/{invoice['id']}/explain"))["differences"] == []


@pytest.mark.parametrize("order", [(0, 1, 2), (1, 0, 2)])
async def test_a_used_reservation_and_its_session_cost_the_maximum_at_most(
    service: Service, seed: int, order: tuple[int, ...]
) -> None:
    stored = readings(random.Random(seed))
    event = completed(service.telemetry, stored, tariff=CAPPED, version=CAPPED_VERSION)
    payloads = (used_reservation(), assignment(event.id), event)
    await service.billing.deliver(*(payloads[place] for place in order))
    assert {row["payable_minor"] for row in service.billing.documents()} == {RESERVED_MINOR, MAX_MINOR - RESERVED_MINOR}
    assert service.billing.cdrs(event.id)[-1]["total_excl_micros"] == 1_000_000
    revised = completed(service.telemetry, later(stored), event.id, 2, tariff=CAPPED, version=CAPPED_VERSION)
    await service.billing.deliver(revised)
    assert len(service.billing.documents()) == 2  # it comes to the same
    await check_explained_and_reconciled(service)


@pytest.mark.parametrize("order", [(0, 1, 2), (0, 2, 1), (2, 1, 0), (1, 2, 0)])
async def test_while_a_charge_settles_its_reservation_may_become_known(
    billing_url: str, seed: int, order: tuple[int, ...]
) -> None:
    async with (
        open_running(billing_url, invoice_settle_s=60, invoice_settle_max_s=60) as billing,
        served(billing) as service,
    ):
        event = completed(service.telemetry, readings(random.Random(seed)), tariff=CAPPED, version=CAPPED_VERSION)
        payloads = (used_reservation(), assignment(event.id), event)
        await billing.deliver(*(payloads[place] for place in order))
        billing.clock.advance(60)
        await billing.components.poster.invoice_due()
        assert sum(row["payable_minor"] for row in billing.documents()) == MAX_MINOR
        await check_explained_and_reconciled(service)


@pytest.mark.parametrize("order", [(2, 0, 1), (2, 1, 0), (0, 2, 1), (1, 2, 0)])
async def test_a_reservation_that_becomes_known_after_the_invoice_changes_it(
    service: Service, seed: int, order: tuple[int, ...]
) -> None:
    event = completed(service.telemetry, readings(random.Random(seed)), tariff=CAPPED, version=CAPPED_VERSION)
    payloads = (used_reservation(), assignment(event.id), event)
    await service.billing.deliver(*(payloads[place] for place in order))
    documents = service.billing.documents()
    assert sum(row["payable_minor"] for row in documents) == MAX_MINOR
    invoice, note, replacing = service.billing.documents(event.id)
    assert (invoice["status"], note["reason"]) == ("credited", "the reservation of this session changed the amount")
    assert (replacing["replaces"], replacing["payable_minor"]) == (invoice["id"], MAX_MINOR - RESERVED_MINOR)
    revisions = [(row["version"], row["revision"]) for row in service.billing.cdrs(event.id)]
    assert revisions == [(1, event.revision), (2, event.revision)]
    await service.billing.deliver(*payloads)
    assert service.billing.documents() == documents, "nothing is new"
    report = await Reconciler(InvoiceStore(service.billing.database), ReadingsStore(service.billing.database)).run(
        START, START + timedelta(days=1), lambda _done, _expected: None
    )
    assert (report.drifts, set(report.outcomes)) == ([], {Finding.AGREES})
    assert (await service.get(f"{INVOICES}/{replacing['id']}/explain"))["differences"] == []


async def test_an_assignment_that_is_withdrawn_after_the_invoice_takes_the_reservation_with_it(
    service: Service, seed: int
) -> None:
    event = completed(service.telemetry, readings(random.Random(seed)), tariff=CAPPED, version=CAPPED_VERSION)
    await service.billing.deliver(used_reservation(), assignment(event.id), event)
    await service.billing.deliver(assignment(event.id, withdrawn=True, revision=2))
    assert sum(row["payable_minor"] for row in service.billing.documents(event.id)) == MAX_MINOR
    assert service.billing.cdrs(event.id)[-1]["reserved_incl_micros"] is None


@pytest.mark.parametrize("late", [0, 1])
async def test_a_charge_that_waits_is_priced_again_and_keeps_its_reasons(service: Service, late: int) -> None:
    held = msgspec.structs.replace(session(tariff=CAPPED, version=CAPPED_VERSION), held=("register_leapt",))
    payloads: list[ReservationConfirmed | SessionAssigned] = [used_reservation(), assignment(held.id)]
    await service.billing.deliver(payloads[1 - late], held)
    (before,) = service.billing.cdrs(held.id)
    await service.billing.deliver(payloads[late])
    cdr = service.billing.cdrs(held.id)[-1]
    assert (cdr["status"], cdr["reasons"]) == ("held", before["reasons"])
    assert cdr["total_incl_micros"] == (MAX_MINOR - RESERVED_MINOR) * 10_000
    await service.post(f"{CHARGES}/{before['id']}/approve", {"why": "x"}, 409)
    await service.post(f"{CHARGES}/{held.id}/approve", {"why": "x"})
    assert sum(row["payable_minor"] for row in service.billing.documents()) == MAX_MINOR


@pytest.mark.parametrize("settle_s", [0, 60])
async def test_a_reservation_at_the_maximum_leaves_nothing_for_its_session(
    billing_url: str, seed: int, settle_s: int
) -> None:
    async with (
        open_running(billing_url, invoice_settle_s=settle_s, invoice_settle_max_s=60) as billing,
        served(billing) as service,
    ):
        event = completed(service.telemetry, readings(random.Random(seed)), tariff=CAPPED, version=CAPPED_VERSION)
        await billing.deliver(event if settle_s else assignment(event.id), used_reservation(minutes=600))
        await billing.deliver(assignment(event.id) if settle_s else event)
        billing.clock.advance(60)
        await billing.components.poster.invoice_due()
        (only,) = billing.documents()
        assert (only["reservation_id"], only["payable_minor"]) == ("R-1", MAX_MINOR)
        (cdr,) = billing.cdrs(event.id)
        assert (cdr["status"], cdr["total_incl_micros"]) == ("nothing_owed", 0)


async def test_a_reservation_that_expired_or_is_anothers_lowers_nothing(service: Service) -> None:
    one, other = (session(tariff=CAPPED, version=CAPPED_VERSION) for _ in range(2))
    await service.billing.deliver(used_reservation(minutes=600, expired=True), assignment(one.id), one)
    await service.billing.deliver(assignment(other.id), assignment(other.id, withdrawn=True, revision=2), other)
    amounts = {one_of["subject_id"]: one_of["payable_minor"] for one_of in service.billing.documents()}
    assert amounts[one.id] == amounts[other.id] == MAX_MINOR


async def test_a_correction_and_an_approval_keep_the_maximum_of_both(service: Service) -> None:
    for number, decision in enumerate(({"energy_wh": "20000"}, {})):
        held = msgspec.structs.replace(session(tariff=CAPPED, version=CAPPED_VERSION), held=("register_leapt",))
        reserved = msgspec.structs.replace(used_reservation(), reservation_id=f"R-{number}")
        known = msgspec.structs.replace(assignment(held.id), reservation_id=f"R-{number}")
        await service.billing.deliver(reserved, known, held)
        kind = "correct" if decision else "approve"
        await service.post(f"{CHARGES}/{held.id}/{kind}", {"why": "x", **decision}, key=kind)
        (invoice,) = service.billing.documents(held.id)
        assert invoice["payable_minor"] == MAX_MINOR - RESERVED_MINOR
        if kind == "correct":  # of the other the readings, which the test has none of, are explained
            assert (await service.get(f"{INVOICES}/{invoice['id']}/explain"))["differences"] == []


_ENCODER = msgspec.json.Encoder(decimal_format="number")


def _price(excl_micros: int, vat_micros: int | None) -> dict[str, Decimal]:
    price = {"excl_vat": Decimal(excl_micros).scaleb(-6)}
    return price if vat_micros is None else {**price, "incl_vat": Decimal(excl_micros + vat_micros).scaleb(-6)}


_PRICES = st.builds(_price, st.integers(0, 20_000_000), st.none() | st.integers(0, 4_000_000))


@given(
    minutes=st.integers(0, 300),
    energy_mwh=st.integers(0, 40_000_000),
    time_ms=st.integers(1, 10_000_000),
    bounds=st.fixed_dictionaries(
        {},
        optional={
            "min_price": _PRICES,
            "max_price": _PRICES,
        },
    ),
)
def test_what_is_paid_for_both_is_within_the_bounds(
    minutes: int, energy_mwh: int, time_ms: int, bounds: dict[str, Any]
) -> None:
    tariff = parse_tariff(_ENCODER.encode({**TARIFF, **bounds}).decode())
    _, kept = rate_reservation(tariff, used_reservation(minutes))
    reserved = reserved_amount(kept.excl_micros, kept.incl_micros, "EUR")
    alone = price_consumption(tariff, consumption(energy_mwh, time_ms))
    draft = session_draft(session(energy_mwh=energy_mwh, time_ms=time_ms), alone, CdrStatus.INVOICED)
    beside_it = beside(draft, tariff, reserved, InvoicingRules()).amount
    assert beside_it is not None
    assert 0 <= beside_it.excl_micros <= beside_it.incl_micros
    assert sum(line.incl_micros for line in beside_it.lines) == beside_it.incl_micros
    assert sum(line.excl_micros for line in beside_it.lines) == beside_it.excl_micros
    excl_micros = kept.excl_micros + beside_it.excl_micros
    if "max_price" in bounds:
        assert excl_micros <= int(bounds["max_price"]["excl_vat"].scaleb(6))
        assert kept.incl_micros + beside_it.incl_micros <= int(
            bounds["max_price"].get("incl_vat", Decimal(10**6)).scaleb(6)
        )
    else:
        assert beside_it.incl_micros <= alone.incl_micros or "min_price" in bounds
    if not bounds:
        assert beside_it == alone


def test_with_a_maximum_of_whole_coins_no_coin_more_is_asked_for() -> None:
    tariff = parse_tariff(msgspec.json.encode(CAPPED).decode())
    alone = price_consumption(tariff, consumption(12_345_678, 5_400_123))
    draft = session_draft(session(), alone, CdrStatus.INVOICED)
    for minutes in range(200):
        _, kept = rate_reservation(tariff, used_reservation(minutes))
        reserved = reserved_amount(kept.excl_micros, kept.incl_micros, "EUR")
        rest = beside(draft, tariff, reserved, InvoicingRules()).amount
        assert rest is not None
        assert to_minor(kept.incl_micros, "EUR") + to_minor(rest.incl_micros, "EUR") == MAX_MINOR
