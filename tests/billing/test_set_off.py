"""Laws of set-off: what credit notes owe a payer pays their next invoices, once, and every form says so."""

import asyncio
import random
from collections import defaultdict
from datetime import timedelta
from decimal import Decimal
from typing import Any, Final
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.currency import format_minor
from billing.documents import InvoiceStatus
from billing.einvoices.validation import broken_rules
from billing.invoices.store import InvoiceStore
from billing.readings_store import ReadingsStore
from billing.reconcile import Reconciler
from billing.setoffs import store
from billing.setoffs.allocation import Credit, Due, note_status, refundable_minor, set_offs
from kit.errors import Unavailable
from tests.billing.customers_wanted import wanted
from tests.billing.making import START, assigned, session
from tests.billing.running import open_running
from tests.billing.serving import CANCEL, CHARGE, INVOICES, PAYMENTS, Service
from tests.billing.set_off_checks import check_set_offs

BALANCE: Final = "/api/v1/billing/balance"
CUSTOMERS: Final = "/api/v1/billing/customers"
EXPORT: Final = "/api/v1/billing/export"
_PAID_BY_HAND: Final = """
WITH paid AS (UPDATE billing.invoice SET status = 'paid' RETURNING *)
INSERT INTO billing.payment
SELECT gen_random_uuid(), id, 1, 'charge', 'manual', 'by hand', 'succeeded', currency, payable_minor, '', now(), now()
FROM paid RETURNING 1
"""
CENTS = st.integers(0, 12)


# -- pure --------------------------------------------------------------------------------------------------------------


@given(st.lists(CENTS, max_size=6), st.lists(CENTS, max_size=6))
def test_as_much_as_there_is_pays_as_much_as_is_due_and_the_oldest_first(owed: list[int], due: list[int]) -> None:
    credits = [Credit(UUID(int=place), left) for place, left in enumerate(owed)]
    invoices = [Due(UUID(int=place), amount) for place, amount in enumerate(due)]
    found = set_offs(credits, invoices)
    used, paid = [0] * len(owed), [0] * len(due)
    for one in found:
        assert one.amount_minor > 0
        used[one.credit_note_id.int] += one.amount_minor
        paid[one.invoice_id.int] += one.amount_minor
    assert sum(used) == sum(paid) == min(sum(owed), sum(due))
    for amounts, bounds in ((used, owed), (paid, due)):
        assert all(amount <= bound for amount, bound in zip(amounts, bounds, strict=True))
        first = next((place for place, amount in enumerate(amounts) if amount < bounds[place]), len(amounts))
        assert not any(amounts[first + 1 :])
    assert len({(one.invoice_id, one.credit_note_id) for one in found}) == len(found)


_STEPS = st.lists(
    st.tuples(st.sampled_from(["invoice", "credit", "pay", "refund"]), st.integers(0, 9), CENTS), max_size=40
)


@given(_STEPS)
def test_no_euro_is_used_twice_in_any_interleaving(steps: list[tuple[str, int, int]]) -> None:
    """Of one payer: invoices that are set off at issue, credits of parts, payments and refunds of what is left."""
    payable: list[int] = []
    paid: list[int] = []
    onto: list[int] = []
    notes: dict[int, list[int]] = defaultdict(list)  # of each invoice, what its notes credit
    used: dict[tuple[int, int], int] = defaultdict(int)  # of each note: refunded and set off
    cash = 0

    def owed_by(invoice: int) -> list[int]:
        return refundable_minor(payable[invoice], paid[invoice] + onto[invoice], notes[invoice])

    for step, which, cents in steps:
        place = which % max(len(payable), 1)
        before = {(one, note): part for one in range(len(payable)) for note, part in enumerate(owed_by(one))}
        left = {key: part - used[key] for key, part in before.items()}
        if step == "invoice":
            ids = {UUID(int=number): key for number, key in enumerate(left)}
            found = set_offs([Credit(id_, left[key]) for id_, key in ids.items()], [Due(UUID(int=0), cents)])
            payable.append(cents)
            paid.append(0)
            onto.append(sum(one.amount_minor for one in found))
            for one in found:
                used[ids[one.credit_note_id]] += one.amount_minor
        elif step == "credit" and payable:
            requested = payable[place] - sum(notes[place])
            if 0 < cents <= requested:
                notes[place].append(cents)
        elif step == "pay" and payable:
            due = payable[place] - sum(notes[place]) - paid[place] - onto[place]
            if due > 0 and not paid[place]:
                paid[place] += due
                cash += due
        elif step == "refund" and left:
            key = list(left)[which % len(left)]
            used[key] += left[key]
            cash -= left[key]
        after = {(one, note): part for one in range(len(payable)) for note, part in enumerate(owed_by(one))}
        assert all(after[key] >= part for key, part in before.items()), "what a note owes never falls"
        for key, part in after.items():
            assert 0 <= used[key] <= part
            assert (note_status(part, used[key]) is InvoiceStatus.OPEN) == (used[key] < part)
        requested_all = [payable[one] - sum(notes[one]) for one in range(len(payable))]
        consumed = sum(min(requested_all[one], paid[one] + onto[one]) for one in range(len(payable)))
        assert cash == consumed + sum(part - used[key] for key, part in after.items())


# -- a running service -------------------------------------------------------------------------------------------------


async def charged(service: Service, energy_mwh: int = 12_345_678, driver: str = "ann", day: int = 0) -> dict[str, Any]:
    """A new invoice of that driver, whole."""
    one = session(uuid4(), energy_mwh=energy_mwh, start=START + timedelta(days=day))
    await service.billing.deliver(assigned(one.id, driver), one)
    found: dict[str, Any] = await service.get(f"{INVOICES}/{service.billing.documents(one.id)[-1]['id']}")
    return found


async def pay(service: Service, document: dict[str, Any], provider: str = "manual") -> dict[str, Any]:
    payment: dict[str, Any] = await service.post(CHARGE, {"invoice_id": document["id"], "provider": provider})
    if provider == "manual":
        await service.post(f"{PAYMENTS}/manual/webhook", {"payment_id": payment["id"], "status": "succeeded"}, 200)
    else:
        await service.stripe_says(
            "payment_intent.succeeded", service.stripe.pay(payment["reference"]), f"evt_{uuid4()}"
        )
    return payment


async def credited(service: Service, document: dict[str, Any], amount: str) -> dict[str, Any]:
    note: dict[str, Any] = await service.post(
        f"{INVOICES}/{document['id']}/credit", {"amount": amount, "reason": "blocked"}
    )
    return note


async def again(service: Service, document: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = await service.get(f"{INVOICES}/{document['id']}")
    return found


async def test_a_credit_of_what_was_paid_pays_the_next_invoice_of_its_driver_alone(service: Service) -> None:
    first = await charged(service)
    await pay(service, first)
    note = await credited(service, first, "5.00")
    other = await charged(service, driver="bob")
    assert (other["set_off"], other["amount_due"]) == ("0.00", "7.77")
    second = await charged(service)
    assert (second["payable"], second["set_off"], second["amount_due"]) == ("7.77", "5.00", "2.77")
    assert second["status"] == "open"
    assert [(one["number"], one["amount"]) for one in second["set_offs"]] == [(note["number"], "5.00")]
    note = await again(service, note)
    assert (note["status"], note["set_off"], note["refundable"]) == ("paid", "-5.00", "-5.00")
    assert [one["number"] for one in note["set_offs"]] == [second["number"]]
    (balance,) = (await service.get(BALANCE, driver_id="ann"))["balances"]
    assert (balance["open_amount"], balance["paid_by_credit_notes"], balance["set_off"]) == ("2.77", "5.00", "5.00")
    await service.post(CHARGE, {"invoice_id": note["id"], "provider": "manual"}, 409)
    payment = await pay(service, second, "stripe")
    assert payment["amount"] == "2.77"
    assert (await again(service, second))["status"] == "paid"
    events = [
        event["payload"] for event in service.billing.events() if event["metadata"]["type"].startswith("invoice.")
    ]
    assert [(one["number"], one["set_off_minor"]) for one in events if one["set_off_minor"]] == [
        *((second["number"], 500), (note["number"], -500), (second["number"], 500)),
    ]
    check_set_offs(service.billing)


async def test_a_late_reading_after_the_payment_is_paid_by_the_credit_of_what_it_replaces(service: Service) -> None:
    one = session(uuid4())
    await service.billing.deliver(assigned(one.id, "ann"), one)
    await pay(service, {"id": str(service.billing.documents()[0]["id"])})
    await service.billing.deliver(session(one.id, revision=2, energy_mwh=6_000_000))
    _, note, invoice = [await again(service, {"id": row["id"]}) for row in service.billing.documents()]
    assert (invoice["status"], invoice["amount_due"], invoice["due_on"]) == ("paid", "0.00", None)
    assert (note["status"], note["set_off"]) == ("open", f"-{invoice['payable']}")
    refund = await pay(service, note)
    assert Decimal(refund["amount"]) == Decimal("7.77") - Decimal(invoice["payable"])
    check_set_offs(service.billing)


async def test_an_invoice_that_credit_notes_paid_owes_that_when_it_is_credited(service: Service) -> None:
    first = await charged(service)
    await pay(service, first, "stripe")
    await credited(service, first, "5.00")
    second = await charged(service)
    part = await credited(service, second, "2.77")
    assert (await again(service, second))["status"] == "paid", "nothing is left to pay"
    assert part["status"] == "settled", "that much was not paid"
    rest = await service.post(CANCEL, {"invoice_id": second["id"], "reason": "x"})
    assert (rest["status"], (await again(service, rest))["refundable"]) == ("open", "-5.00")
    refund = await service.post(CHARGE, {"invoice_id": rest["id"], "provider": "stripe"})
    assert (refund["amount"], refund["kind"]) == ("5.00", "refund"), "by the payment from which it came"
    check_set_offs(service.billing)


async def test_a_partly_covered_invoice_that_is_credited_gives_back_what_covered_it(service: Service) -> None:
    first = await charged(service)
    await pay(service, first)
    await credited(service, first, "5.00")
    second = await charged(service)
    note = await service.post(CANCEL, {"invoice_id": second["id"], "reason": "x"})
    assert (note["status"], note["payable"]) == ("open", "-7.77")
    assert (await again(service, note))["refundable"] == "-5.00"
    third = await charged(service)
    assert (third["set_off"], third["amount_due"]) == ("5.00", "2.77")
    assert (await again(service, note))["status"] == "paid"
    check_set_offs(service.billing)


async def test_a_refund_under_way_is_not_set_off_and_one_that_failed_is(service: Service) -> None:
    first = await charged(service)
    await pay(service, first)
    note = await credited(service, first, "5.00")
    refund = await service.post(CHARGE, {"invoice_id": note["id"], "provider": "manual"})
    assert (await charged(service))["set_off"] == "0.00"
    says = {"payment_id": refund["id"], "status": "failed"}
    await service.post(f"{PAYMENTS}/manual/webhook", says, 200)
    assert (await charged(service))["set_off"] == "5.00"
    await service.post(f"{PAYMENTS}/manual/webhook", {**says, "status": "succeeded"}, 409)
    check_set_offs(service.billing)


async def test_a_refund_that_nobody_answered_is_not_set_off_either(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = await charged(service)
    await pay(service, first, "stripe")
    note = await credited(service, first, "5.00")

    async def no_answer(*_: object) -> None:
        raise Unavailable("stripe does not answer")

    with monkeypatch.context() as away:
        away.setattr(service.billing.providers["stripe"], "refund", no_answer)
        await service.post(CHARGE, {"invoice_id": note["id"], "provider": "stripe"}, 503)
    assert (await charged(service))["set_off"] == "0.00", "it may have been refunded"
    await service.post(CHARGE, {"invoice_id": note["id"], "provider": "manual"}, 409)
    refund = await service.post(CHARGE, {"invoice_id": note["id"], "provider": "stripe"})
    assert (refund["amount"], len(service.billing.rows("SELECT FROM billing.payment WHERE kind = 'refund'"))) == (
        "5.00",
        1,
    )
    check_set_offs(service.billing)


async def test_a_refund_that_was_refused_leaves_nothing_and_is_set_off(service: Service) -> None:
    first = await charged(service)
    await pay(service, first, "stripe")
    note = await credited(service, first, "5.00")
    service.stripe.faults.append("402")
    await service.post(CHARGE, {"invoice_id": note["id"], "provider": "stripe"}, 402)
    assert (await charged(service))["set_off"] == "5.00"
    check_set_offs(service.billing)


async def test_a_customer_s_credit_pays_what_any_of_its_drivers_charge(service: Service) -> None:
    customer = await service.post(CUSTOMERS, wanted("Hafenlogistik GmbH", "ann", "bob"))
    first = await charged(service)
    await pay(service, first)
    await credited(service, first, "5.00")
    assert (await charged(service, driver="bob"))["set_off"] == "5.00"
    (balance,) = (await service.get(BALANCE, customer_id=customer["id"]))["balances"]
    assert balance["open_amount"] == "2.77"
    for driver, open_amount in (("ann", "0.00"), ("bob", "2.77")):
        assert (await service.get(BALANCE, driver_id=driver))["balances"][0]["open_amount"] == open_amount
    check_set_offs(service.billing)


async def test_a_collective_invoice_is_paid_by_the_customer_s_credit_too(service: Service) -> None:
    customer = await service.post(CUSTOMERS, wanted("Monthly GmbH", "ann", billing="monthly"))
    await charged_for_month(service)
    first = await issue(service, 3)
    await pay(service, first)
    await credited(service, first, "5.00")
    await charged_for_month(service, day=10)
    second = await issue(service, 34)
    assert (second["set_off"], second["amount_due"], second["status"]) == ("5.00", "2.77", "open")
    assert (await service.get(BALANCE, customer_id=customer["id"]))["balances"][0]["open_amount"] == "2.77"
    for syntax in ("ubl", "cii"):
        xml = await service.ask("GET", f"{INVOICES}/{second['id']}/xml", 200, params={"format": syntax})
        assert broken_rules(xml.content) == []
        assert b"5.00" in xml.content
    check_set_offs(service.billing)


async def charged_for_month(service: Service, day: int = 0) -> None:
    one = session(uuid4(), start=START + timedelta(days=day))
    await service.billing.deliver(assigned(one.id, "ann"), one)


async def issue(service: Service, day: int) -> dict[str, Any]:
    service.billing.clock.advance((START + timedelta(days=day, hours=16) - service.billing.clock.now()).total_seconds())
    (invoice,) = await service.billing.components.statements.issue_due()
    stored = await again(service, {"id": invoice.id})
    assert (stored["status"], stored["amount_due"]) == (invoice.status, format_minor(invoice.due_minor, 2))
    return stored


async def test_every_form_of_a_document_says_what_was_set_off(service: Service) -> None:
    await service.post(CUSTOMERS, wanted("Hafenlogistik GmbH", "ann"))
    first = await charged(service)
    await pay(service, first)
    await credited(service, first, "5.00")
    second = await charged(service)
    for syntax, names in (
        ("ubl", ("PrepaidAmount", "PayableAmount")),
        ("cii", ("TotalPrepaidAmount", "DuePayableAmount")),
    ):
        xml = await service.ask("GET", f"{INVOICES}/{second['id']}/xml", 200, params={"format": syntax})
        assert broken_rules(xml.content) == []
        for name, amount in zip(names, ("5.00", "2.77"), strict=True):
            assert f'{name} currencyID="EUR">{amount}<' in xml.text or f"{name}>{amount}<" in xml.text
    await service.ask("GET", f"{INVOICES}/{second['id']}/pdf", 200, params={"format": "facturx"})
    lines = (await service.ask("GET", EXPORT, 200, params={"format": "csv"})).text.splitlines()
    place = lines[0].split(",").index("set_off")
    assert sorted(Decimal(line.split(",")[place]) for line in lines[1:]) == [Decimal(-5), Decimal(0), Decimal(5)]
    totals = (await service.ask("GET", EXPORT, 200, params={"format": "jsonl"})).headers["Voltstream-Totals"]
    assert '"set_off":"0.00"' in totals


async def test_where_it_is_turned_off_nothing_is_set_off(billing_url: str) -> None:
    async with open_running(billing_url, invoice_set_off=False) as billing:
        one = session(uuid4())
        await billing.deliver(assigned(one.id, "ann"), one)
        billing.rows(_PAID_BY_HAND)
        await billing.deliver(session(one.id, revision=2, energy_mwh=6_000_000))
        assert [row["status"] for row in billing.documents()] == ["credited", "open", "open"]
        assert billing.rows("SELECT * FROM billing.set_off") == []


async def test_a_crash_leaves_an_invoice_with_its_set_off_or_neither(
    billing_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_running(billing_url, invoice_settle_s=60) as billing:
        one = session(uuid4())
        await billing.deliver(assigned(one.id, "ann"), one)
        billing.clock.advance(60)
        await billing.components.poster.invoice_due()
        billing.rows(_PAID_BY_HAND)
        await billing.deliver(session(one.id, revision=2, energy_mwh=6_000_000))
        billing.clock.advance(60)

        async def crash(*_: object) -> None:
            raise Unavailable("the database is gone")

        for name in ("credits", "add", "move", "nothing_due"):
            with monkeypatch.context() as crashing:
                crashing.setattr(store, name, crash)
                with pytest.raises(Unavailable):
                    await billing.components.poster.invoice_due()
            assert [row["status"] for row in billing.documents()] == ["paid"]
            assert billing.rows("SELECT * FROM billing.set_off") == []
            check_set_offs(billing)
        await billing.components.poster.invoice_due()
        assert [row["status"] for row in billing.documents()] == ["credited", "open", "paid"]
        check_set_offs(billing)


async def test_invoices_issued_at_once_share_a_credit_and_use_it_once(service: Service, seed: int) -> None:
    rng = random.Random(seed)
    first = await charged(service)
    await pay(service, first)
    await credited(service, first, "5.00")
    others = [session(uuid4(), energy_mwh=rng.randrange(1, 9) * 500_000) for _ in range(5)]
    await service.billing.deliver(*(assigned(one.id, "ann") for one in others))
    await asyncio.gather(*(service.billing.deliver(one) for one in others))
    used = [row["amount_minor"] for row in service.billing.rows("SELECT amount_minor FROM billing.set_off")]
    assert sum(used) == 500
    check_set_offs(service.billing)


async def test_reconciliation_finds_a_euro_that_is_used_twice(service: Service) -> None:
    first = await charged(service)
    await pay(service, first)
    note = await credited(service, first, "5.00")
    second = await charged(service)
    reconciler = Reconciler(InvoiceStore(service.billing.database), ReadingsStore(service.billing.database))

    async def found() -> list[str]:
        report = await reconciler.run(START, START + timedelta(days=1), lambda _done, _of: None)
        assert report.agrees == (not report.money)
        return report.money

    assert await found() == []
    service.billing.rows("UPDATE billing.set_off SET amount_minor = 499 RETURNING 1")
    assert sorted(await found()) == [
        f"{note['number']}: set off -500, by its set-offs -499 minor units",
        f"{second['number']}: set off 500, by its set-offs 499 minor units",
    ]
    service.billing.rows("UPDATE billing.set_off SET amount_minor = 500 RETURNING 1")
    service.billing.rows(
        "INSERT INTO billing.payment SELECT gen_random_uuid(), id, 1, 'refund', 'manual', 'x', 'succeeded', currency, "
        "100, '', now(), now() FROM billing.invoice WHERE id = %s RETURNING 1",
        note["id"],
    )
    assert await found() == [f"{note['number']}: refunded and set off are 100 minor units more than was paid of it"]
