"""Laws of charges that are collected: they settle, are held, decided on, credited and cancelled as others are."""

import random
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

import msgspec
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from billing.documents import DocumentLine
from billing.einvoices.validation import broken_rules
from billing.invoices.store import InvoiceStore
from billing.readings_store import ReadingsStore
from billing.reconcile import Finding, Reconciler, Report
from billing.statements.given_back import given_back
from tests.billing.customers_wanted import wanted
from tests.billing.making import ENERGY, ENERGY_VERSION, START, assigned, free_session, session
from tests.billing.running import open_running
from tests.billing.serving import CANCEL, CHARGE, INVOICES, PAYMENTS, Service, served
from tests.billing.sessions import completed, readings

CHARGES: Final = "/api/v1/billing/charges"
CUSTOMERS: Final = "/api/v1/billing/customers"
BALANCE: Final = "/api/v1/billing/balance"
SETTLE_S: Final = 60
MONTHS: Final = [datetime(2026, month, 1, 12, tzinfo=UTC) for month in range(4, 9)]


@pytest.fixture
async def monthly(billing_url: str) -> AsyncIterator[Service]:
    """Billing whose charges settle, with a customer of ann who wants one invoice a month."""
    async with (
        open_running(billing_url, invoice_settle_s=SETTLE_S, invoice_settle_max_s=SETTLE_S) as billing,
        served(billing) as service,
    ):
        await service.post(CUSTOMERS, wanted("Monthly GmbH", "ann", billing="monthly", time_zone="Europe/Berlin"))
        yield service


async def deliver(service: Service, *charged: Any) -> None:
    for one in charged:
        await service.billing.deliver(assigned(one.id, "ann"), one)


async def settle(service: Service, *charged: Any) -> None:
    """Deliver these, and let them settle."""
    await deliver(service, *charged)
    service.billing.clock.advance(SETTLE_S)
    await service.billing.components.poster.invoice_due()


async def issue(service: Service, month: int) -> dict[str, Any] | None:
    """The collective invoice that is issued on that month's first day, if there is one."""
    known = {row["id"] for row in service.billing.documents()}
    service.billing.clock.advance((MONTHS[month] - service.billing.clock.now()).total_seconds())
    await service.billing.components.statements.issue_due()
    new = [row for row in service.billing.documents() if row["id"] not in known]
    assert len(new) <= 1
    return await service.get(f"{INVOICES}/{new[0]['id']}") if new else None


async def issued(service: Service, month: int) -> dict[str, Any]:
    found = await issue(service, month)
    assert found is not None
    return found


def status(service: Service, own_id: UUID) -> str:
    return str(service.billing.cdrs(own_id)[-1]["status"])


def booked(service: Service) -> Decimal:
    """The sum of all documents."""
    return sum((Decimal(row["payable_minor"]) for row in service.billing.documents()), Decimal()) / 100


async def reconciled(service: Service) -> Report:
    reconciler = Reconciler(InvoiceStore(service.billing.database), ReadingsStore(service.billing.database))
    return await reconciler.run(START - timedelta(days=1), START + timedelta(days=40), lambda *_: None)


async def test_a_charge_settles_and_is_then_collected_and_not_invoiced(monthly: Service) -> None:
    one = session(energy_mwh=5_000_000)
    await deliver(monthly, one)
    assert status(monthly, one.id) == "settling"
    assert await issue(monthly, 0) is None, "it settles"
    await settle(monthly, session(one.id, revision=2, energy_mwh=6_000_000))
    assert (status(monthly, one.id), monthly.billing.documents()) == ("invoiced", [])
    invoice = await issued(monthly, 1)
    assert Decimal(invoice["total_incl_vat"]) * 1_000_000 == monthly.billing.cdrs(one.id)[-1]["total_incl_micros"]
    assert (await monthly.get(f"{CHARGES}/{one.id}"))["invoice_id"] == invoice["id"]


async def test_revisions_that_come_to_the_same_are_collected_once(monthly: Service) -> None:
    one, again = session(), session(energy_mwh=1_000_000)
    await settle(monthly, one, again)
    await settle(
        monthly, session(again.id, revision=2), session(one.id, revision=2, start=START + timedelta(seconds=1))
    )
    await settle(monthly, session(again.id, revision=3, energy_mwh=1_000_000))
    invoice = await issued(monthly, 0)
    newest = [monthly.billing.cdrs(own_id)[-1]["total_incl_micros"] for own_id in (one.id, again.id)]
    assert Decimal(invoice["total_incl_vat"]) * 1_000_000 == sum(newest)
    await settle(monthly, session(one.id, revision=3, start=START + timedelta(seconds=2)))
    assert await issue(monthly, 1) is None


async def test_a_month_that_comes_to_nothing_uses_no_number_and_is_carried_over(monthly: Service) -> None:
    one, equal = (session(start=START + timedelta(days=day), energy_mwh=9_000_000) for day in (0, 9))
    await settle(monthly, one)
    first = await issued(monthly, 0)
    await settle(monthly, equal)
    await deliver(monthly, msgspec.structs.replace(session(one.id, revision=2), void=True))
    assert await issue(monthly, 1) is None
    more = session(start=START + timedelta(days=70))
    await settle(monthly, more)
    second = await issued(monthly, 3)
    assert second["number"] == "2026-0000002"
    newest = [monthly.billing.cdrs(own_id)[-1]["total_incl_micros"] for own_id in (equal.id, more.id)]
    total = sum(Decimal(invoice["total_incl_vat"]) for invoice in (first, second))
    assert total * 1_000_000 == sum(newest)


async def test_charges_that_a_person_decided_on_stand_on_the_collective_invoice(monthly: Service) -> None:
    approved, corrected, void = (msgspec.structs.replace(session(), held=("silent",)) for _ in range(3))
    await deliver(monthly, approved, corrected, void)
    assert {status(monthly, one.id) for one in (approved, corrected, void)} == {"held"}
    await monthly.post(f"{CHARGES}/{approved.id}/approve", {"why": "seen"})
    await monthly.post(f"{CHARGES}/{corrected.id}/correct", {"why": "display", "energy_wh": "2000"})
    await monthly.post(f"{CHARGES}/{void.id}/void", {"why": "test"})
    assert monthly.billing.documents() == []
    invoice = await issued(monthly, 0)
    groups = {line["group"] for line in invoice["payable_lines"]}
    assert len(groups) == 2
    assert [group for group in groups if group.endswith("corrected: display")]
    newest = [monthly.billing.cdrs(one.id)[-1]["total_incl_micros"] for one in (approved, corrected)]
    assert Decimal(invoice["total_incl_vat"]) * 1_000_000 == sum(newest)
    xml = await monthly.ask("GET", f"{INVOICES}/{invoice['id']}/xml", 200)
    assert broken_rules(xml.content) == []


@pytest.mark.parametrize("void", [True, False])
async def test_what_owes_nothing_any_more_is_taken_back(monthly: Service, void: bool) -> None:
    one = session(tariff=ENERGY, version=ENERGY_VERSION, used=session().pricing.consumption[:1])  # type: ignore[union-attr]
    await settle(monthly, one)
    first = await issued(monthly, 0)
    await settle(monthly, session(energy_mwh=40_000_000, start=START + timedelta(days=9)))
    nothing = msgspec.structs.replace(free_session(one.id), revision=2, void=void)
    await deliver(monthly, nothing)
    assert status(monthly, one.id) == ("void" if void else "nothing_owed")
    second = await issued(monthly, 1)
    assert Decimal(second["payable"]) + Decimal(first["payable"]) == booked(monthly)
    taken_back = [line for line in second["payable_lines"] if "taken back" in line["group"]]
    assert [Decimal(line["net"]) for line in taken_back] == [-Decimal(first["payable_excl_vat"])]
    assert await issue(monthly, 2) is None


async def test_a_part_of_a_collective_invoice_is_credited_and_its_charges_are_held_if_they_change(
    monthly: Service,
) -> None:
    one, other = session(), session(start=START + timedelta(hours=9))
    await settle(monthly, one, other)
    invoice = await issued(monthly, 0)
    payment = await monthly.post(CHARGE, {"invoice_id": invoice["id"], "provider": "manual"})
    await monthly.post(f"{PAYMENTS}/manual/webhook", {"payment_id": payment["id"], "status": "succeeded"}, 200)
    note = await monthly.post(f"{INVOICES}/{invoice['id']}/credit", {"amount": "2.50", "reason": "blocked"})
    whole = await monthly.get(f"{INVOICES}/{note['id']}")
    assert (whole["payable"], {line["group"] for line in whole["payable_lines"]}) == ("-2.50", {""})
    assert (whole["customer"], whole["credits_number"]) == (invoice["customer"], invoice["number"])
    for syntax in ("ubl", "cii"):
        xml = await monthly.ask("GET", f"{INVOICES}/{note['id']}/xml", 200, params={"format": syntax})
        assert broken_rules(xml.content) == []
    await monthly.ask("GET", f"{INVOICES}/{note['id']}/pdf", 200)
    await settle(monthly, session(one.id, revision=2, energy_mwh=1_000_000))
    (charge,) = (await monthly.get(CHARGES, reason="partly_credited"))["charges"]
    assert charge["session_id"] == str(one.id)
    assert await issue(monthly, 1) is None
    rest = await monthly.post(CANCEL, {"invoice_id": invoice["id"], "reason": "x"})
    assert booked(monthly) == 0
    assert rest["status"] == "open"
    xml = await monthly.ask("GET", f"{INVOICES}/{rest['id']}/xml", 200)
    assert broken_rules(xml.content) == []


@pytest.mark.parametrize("decision", ["void", "correct", "approve"])
async def test_what_was_credited_of_a_charge_is_not_repaid_when_it_is_taken_back(
    monthly: Service, decision: str
) -> None:
    one = session()
    await settle(monthly, one)
    invoice = await issued(monthly, 0)
    await monthly.post(f"{INVOICES}/{invoice['id']}/credit", {"amount": "2.50", "reason": "blocked"})
    await settle(monthly, session(one.id, revision=2, energy_mwh=13_000_000))
    energy = {"energy_wh": "5000"} if decision == "correct" else {}
    await monthly.post(f"{CHARGES}/{one.id}/{decision}", {"why": "x", **energy}, key=decision)
    other = session(start=START + timedelta(days=9), energy_mwh=40_000_000)
    await settle(monthly, other)
    (customer,) = (await monthly.get(CUSTOMERS))["customers"]
    (balance,) = (await monthly.get(BALANCE, customer_id=customer["id"]))["balances"]
    second = await issued(monthly, 1)
    assert Decimal(balance["collected"]) == Decimal(second["total_incl_vat"])
    counted = [other] if decision == "void" else [one, other]
    owed = sum(monthly.billing.cdrs(charged.id)[-1]["total_incl_micros"] for charged in counted)
    assert sum(row["total_incl_micros"] for row in monthly.billing.documents()) == owed
    assert [line["description"] for line in second["payable_lines"] if not line["group"]] == ["Credited before"] * 2
    for syntax in ("ubl", "cii"):
        xml = await monthly.ask("GET", f"{INVOICES}/{second['id']}/xml", 200, params={"format": syntax})
        assert broken_rules(xml.content) == []
    await monthly.ask("GET", f"{INVOICES}/{second['id']}/pdf", 200)
    await monthly.post(CANCEL, {"invoice_id": second["id"], "reason": "x"})
    assert booked(monthly) == Decimal(invoice["payable"]) - Decimal("2.50")


async def test_what_was_credited_stays_so_while_enough_of_the_invoice_stands(monthly: Service) -> None:
    one, other = session(), session(start=START + timedelta(hours=9))
    await settle(monthly, one, other)
    invoice = await issued(monthly, 0)
    await monthly.post(f"{INVOICES}/{invoice['id']}/credit", {"amount": "2.50", "reason": "blocked"})
    await settle(monthly, session(one.id, revision=2, energy_mwh=1_000_000))
    await monthly.post(f"{CHARGES}/{one.id}/void", {"why": "x"}, key="void")
    later = session(start=START + timedelta(days=9), energy_mwh=40_000_000)
    await settle(monthly, later)
    (customer,) = (await monthly.get(CUSTOMERS))["customers"]
    (balance,) = (await monthly.get(BALANCE, customer_id=customer["id"]))["balances"]
    second = await issued(monthly, 1)
    assert Decimal(balance["collected"]) == Decimal(second["total_incl_vat"])
    owed = sum(monthly.billing.cdrs(charged.id)[-1]["total_incl_micros"] for charged in (other, later))
    assert sum(row["total_incl_micros"] for row in monthly.billing.documents()) == owed - 2_500_000


async def test_of_what_was_taken_back_nothing_is_credited(monthly: Service) -> None:
    one, other = session(energy_mwh=5_000_000), session(start=START + timedelta(hours=9))
    await settle(monthly, one, other)
    invoice = await issued(monthly, 0)
    path = f"{INVOICES}/{invoice['id']}/credit"
    await monthly.post(path, {"amount": "1.00", "reason": "x"})
    held = msgspec.structs.replace(session(other.id, revision=2), held=("register_leapt",))
    await deliver(monthly, held)
    await monthly.post(f"{CHARGES}/{other.id}/void", {"why": "x"}, key="void")
    await settle(monthly, session(start=START + timedelta(days=9), energy_mwh=40_000_000))
    await issued(monthly, 1)
    standing = monthly.billing.cdrs(one.id)[-1]["total_incl_micros"] // 10_000 - 100
    problem = await monthly.post(path, {"amount": f"{Decimal(standing + 1) / 100}", "reason": "x"}, 409)
    assert f"{Decimal(standing) / 100} EUR is left" in problem["detail"]
    await monthly.post(path, {"amount": f"{Decimal(standing) / 100}", "reason": "x"})


@given(
    charges=st.lists(st.integers(1, 10_000_000), min_size=1, max_size=8),
    credited=st.lists(st.integers(1, 3_000_000), max_size=3),
    by=st.integers(1, 4),
)
def test_of_charges_that_are_all_taken_back_everything_credited_is_given_back(
    charges: list[int], credited: list[int], by: int
) -> None:
    assume(sum(credited) <= sum(charges))
    parts = [DocumentLine("CREDIT", None, 0, 0, None, place % 2, -one // 2, -one) for place, one in enumerate(credited)]
    standing, back = sum(charges), 0
    for place in range(0, len(charges), by):
        taken = sum(charges[place : place + by])
        back += sum(line.incl_micros for line in given_back(parts, standing, taken))
        standing -= taken
        assert back == max(sum(credited) - standing, 0)  # what stays credited is what stands at the most
    assert back == sum(credited)


async def test_a_cancelled_collective_invoice_cancels_its_charges(monthly: Service) -> None:
    one, other = session(), session(start=START + timedelta(hours=9))
    await settle(monthly, one, other)
    invoice = await issued(monthly, 0)
    await monthly.post(CANCEL, {"invoice_id": invoice["id"], "reason": "x"})
    assert {status(monthly, charged.id) for charged in (one, other)} == {"cancelled"}
    await settle(monthly, session(one.id, revision=2, energy_mwh=1_000_000))
    assert await issue(monthly, 1) is None
    assert booked(monthly) == 0


async def test_collective_invoices_that_correct_each_other_are_cancelled_the_last_one_first(monthly: Service) -> None:
    one = session(energy_mwh=5_000_000)
    await settle(monthly, one)
    first = await issued(monthly, 0)
    await settle(monthly, session(one.id, revision=2, energy_mwh=9_000_000))
    second = await issued(monthly, 1)
    problem = await monthly.post(CANCEL, {"invoice_id": first["id"], "reason": "x"}, 409)
    assert second["number"] in problem["detail"]
    await monthly.post(CANCEL, {"invoice_id": second["id"], "reason": "x"})
    assert await issue(monthly, 2) is None, "less than nothing is carried over"
    other = session(start=START + timedelta(days=70), energy_mwh=90_000_000)
    await settle(monthly, other)
    await issued(monthly, 3)
    assert booked(monthly) * 1_000_000 == round(monthly.billing.cdrs(other.id)[-1]["total_incl_micros"], -4)


async def test_collected_charges_agree_with_their_readings_before_and_after_their_invoice(
    monthly: Service, seed: int
) -> None:
    rng = random.Random(seed)
    events = [completed(monthly.telemetry, readings(rng, START + timedelta(minutes=n))) for n in range(6)]
    await deliver(monthly, *events)
    assert (await reconciled(monthly)).outcomes == {Finding.SETTLING: 6}
    await settle(monthly)
    for _ in range(2):
        report = await reconciled(monthly)
        assert (report.drifts, report.outcomes) == ([], {Finding.AGREES: 6})
        assert report.booked_micros == report.derived_micros != {}
        await issue(monthly, 0)


async def test_a_customers_balance_is_of_the_documents_that_name_it_and_of_what_is_collected(monthly: Service) -> None:
    (customer,) = (await monthly.get(CUSTOMERS))["customers"]
    charged = session()
    await settle(monthly, charged)
    (waiting,) = (await monthly.get(BALANCE, customer_id=customer["id"]))["balances"]
    assert waiting["documents"] == Decimal(waiting["open_amount"]) == 0
    assert Decimal(waiting["collected"]) * 1_000_000 == monthly.billing.cdrs(charged.id)[-1]["total_incl_micros"]
    invoice = await issued(monthly, 0)
    await monthly.post(f"{INVOICES}/{invoice['id']}/credit", {"amount": "1.00", "reason": "x"})
    (balance,) = (await monthly.get(BALANCE, customer_id=customer["id"]))["balances"]
    assert Decimal(balance["open_amount"]) == Decimal(invoice["payable"]) - 1
    assert Decimal(balance["collected"]) == 0
    assert (await monthly.get(BALANCE, driver_id="ann"))["balances"] == []
    assert (await monthly.get(BALANCE, who="ann", customer_id=customer["id"]))["balances"] == []
    await monthly.get(BALANCE, 422, customer_id=customer["id"], driver_id="ann")
