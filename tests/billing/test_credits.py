"""Laws of credits of a part: exact sums, never more than was invoiced, and one balance of documents and payments."""

import random
from collections.abc import Sequence
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from billing.balances.models import Balance
from billing.documents import CREDIT, Document, DocumentLine, InvoiceKind, Number, make_credit_note
from billing.invoicing.credit import ADJUSTMENTS, CreditedInvoice, by_rate, split_in_proportion
from billing.vat import PayableAmounts, payable_amounts
from kit.errors import Unavailable
from kit.web.errors import BadQuery, Conflict
from tests.billing.invoices_made import invoice_of_lines
from tests.billing.making import assigned, session
from tests.billing.running import NOW
from tests.billing.serving import CANCEL, CHARGE, INVOICES, PAYMENTS, Service
from tests.billing.set_off_checks import check_set_offs

BALANCE = "/api/v1/billing/balance"
CHARGES = "/api/v1/billing/charges"


# -- pure --------------------------------------------------------------------------------------------------------------


@given(st.integers(0, 10**12), st.lists(st.integers(-(10**6), 10**9), min_size=1, max_size=12))
def test_a_split_is_exact_and_each_part_is_within_a_unit_of_its_share(amount: int, weights: list[int]) -> None:
    total = sum(weights)
    if total <= 0:
        with pytest.raises(ValueError, match="weights"):
            split_in_proportion(amount, weights)
        return
    parts = split_in_proportion(amount, weights)
    assert sum(parts) == amount
    for part, weight in zip(parts, weights, strict=True):
        assert abs(part * total - amount * weight) < total


@st.composite
def invoices(draw: st.DrawFn) -> CreditedInvoice:
    """An invoice of some lines, whose total a maximum or minimum price may have moved, with any VAT."""
    rates = st.sampled_from([None, 210_000, 100_000, 70_000])
    lines = []
    for element in range(draw(st.integers(1, 5))):
        rate, excl = draw(rates), draw(st.integers(1 if element else 10**7, 10**9))
        incl = excl + (2 * excl * (rate or 0) + 10**6) // (2 * 10**6)
        lines.append(DocumentLine("ENERGY", element, 5, 5, 1, rate, excl, incl))
    excl, incl = sum(line.excl_micros for line in lines), sum(line.incl_micros for line in lines)
    if draw(st.booleans()):
        change = draw(st.integers(-excl // 2, excl))
        bound = "MAX_PRICE" if change < 0 else "MIN_PRICE"
        vat = draw(st.sampled_from([(incl - excl) * change // excl, 0, change // 5]))
        lines.append(DocumentLine(bound, None, 1, 1, None, None, change, change + max(vat, excl - incl)))
    invoice = invoice_of_lines(lines, draw(st.sampled_from(["EUR", "JPY", "KWD"])))
    margin_micros = draw(st.none() | st.integers(-(10**9), 10**9))
    return CreditedInvoice(replace(invoice, demand_margin_micros=margin_micros), lines)


def credited(before: CreditedInvoice, part: Any) -> CreditedInvoice:
    """The invoice after one more credit note."""
    margin_micros = before.demand_margin_of(part[0])
    note = make_credit_note(
        uuid4(), Number(2026, 2, NOW), before.invoice, part[0], "", paid=False, demand_margin_micros=margin_micros
    )
    return CreditedInvoice(before.invoice, before.lines, [*before.notes, note], [*before.note_lines, *part[1]])


def notes_add_up(one: CreditedInvoice) -> None:
    """What a credit note says is what its lines say; all of them are at most the invoice."""
    left = one.left
    lines = [*one.lines, *one.note_lines]
    assert left.excl_micros == sum(line.excl_micros for line in lines)
    assert left.incl_micros == sum(line.incl_micros for line in lines)
    assert 0 <= left.incl_micros <= one.invoice.total_incl_micros
    assert 0 <= left.excl_micros <= one.invoice.total_excl_micros
    assert 0 <= left.payable_excl_minor <= one.invoice.payable_excl_minor
    assert 0 <= left.payable_minor <= one.invoice.payable_minor
    unit = one.unit_micros
    assert (2 * left.incl_micros + unit) // (2 * unit) == left.payable_minor, "both say the same rest"


@given(invoices(), st.lists(st.integers(1, 10**12), max_size=8))
def test_any_sequence_of_credits_is_exact_and_never_more_than_was_invoiced(
    one: CreditedInvoice, amounts: list[int]
) -> None:
    for amount in amounts:
        left = one.left
        if left.payable_minor == 0:
            break
        amount_minor = amount % left.payable_minor + 1
        part = one.part(amount_minor, one.left_by_rate())
        assert part[0].payable_minor == amount_minor
        margin, margin_left = one.demand_margin_of(part[0]), one.demand_margin_of(left)
        assert (margin is None) == (margin_left is None) == (one.invoice.demand_margin_micros is None)
        if margin is not None and margin_left is not None:
            share = margin * left.excl_micros - margin_left * part[0].excl_micros
            assert abs(share) < max(left.excl_micros, 1)
        if amount_minor < left.payable_minor:
            assert part[0].incl_micros == amount_minor * one.unit_micros
            for rate, (net, vat) in by_rate(part[1]).items():
                net_left, vat_left = one.left_by_rate()[rate]
                for credit, whole in ((-net, net_left), (-vat, vat_left)):
                    assert abs(credit * left.incl_micros - part[0].incl_micros * whole) < left.incl_micros
        one = credited(one, part)
        notes_add_up(one)
    with pytest.raises(Conflict):
        one.part(one.left.payable_minor + 1, one.left_by_rate())
    if one.left.payable_minor:
        one = credited(one, one.rest())
        notes_add_up(one)
    assert one.left == (0, 0, 0, 0)
    assert by_rate([*one.lines, *one.note_lines]) == {}
    margins = [document.demand_margin_micros for document in (one.invoice, *one.notes)]
    known = [margin for margin in margins if margin is not None]
    assert (sum(known), len(known)) == (0, 0 if one.invoice.demand_margin_micros is None else len(margins))


def on_paper(document: Document, lines: Sequence[DocumentLine]) -> PayableAmounts:
    """As the PDF and the e-invoice have it."""
    return payable_amounts(lines, document.payable_minor, document.minor_digits, document.payable_excl_minor)


@given(invoices(), st.lists(st.integers(1, 10**12), max_size=8))
def test_on_paper_credit_notes_have_their_invoices_rates_and_sum_to_its_net_amount(
    one: CreditedInvoice, amounts: list[int]
) -> None:
    of_invoice = on_paper(one.invoice, one.lines)
    nets = []
    for amount in [*amounts, 0]:
        left = one.left.payable_minor
        if left == 0:
            break
        amounts_of_part, lines = one.part(amount % left + 1, one.left_by_rate()) if amount else one.rest()
        one = credited(one, (amounts_of_part, lines))
        note = on_paper(one.notes[-1], lines)
        assert note.net_minor == one.notes[-1].payable_excl_minor
        assert note.net_minor == sum(line.net_minor for line in note.lines)
        assert {rate.vat_ppm for rate in note.rates} <= {rate.vat_ppm for rate in of_invoice.rates}
        assert abs(note.rounding_minor) <= 2 * len(of_invoice.rates)
        nets.append(note.net_minor)
    assert sum(nets) == -one.invoice.payable_excl_minor


@given(invoices(), st.data())
def test_lines_are_credited_at_their_own_rates(one: CreditedInvoice, data: st.DataObject) -> None:
    number = data.draw(st.integers(1, len(one.lines)))
    line = one.lines[number - 1]
    if line.dimension in ADJUSTMENTS:
        with pytest.raises(BadQuery):
            one.of_lines({number: None})
        return
    if line.incl_micros < one.unit_micros or line.incl_micros == one.left.incl_micros:
        return
    try:
        amounts, lines = one.part(*one.of_lines({number: None}))
    except Conflict:
        assert any(other.incl_micros < 0 for other in one.lines), "a maximum price lowers what is left of the rate"
        return
    if amounts == one.left:
        return
    assert {credit.vat_ppm for credit in lines} == {line.vat_ppm}
    assert {credit.dimension for credit in lines} == {CREDIT}
    assert 0 <= line.incl_micros - amounts.incl_micros < one.unit_micros
    notes_add_up(credited(one, (amounts, lines)))


# -- over HTTP ---------------------------------------------------------------------------------------------------------


async def an_invoice(service: Service, own_id: UUID | None = None, driver: str = "ann") -> str:
    """The id of an open invoice of 7.77 EUR: ENERGY 5.162801, FLAT 0.605000, TIME 2.002000 incl. VAT."""
    own_id = own_id or uuid4()
    await service.billing.deliver(assigned(own_id, driver), session(own_id))
    return str(service.billing.documents(own_id)[-1]["id"])


async def pay(service: Service, document_id: str, provider: str = "manual", amount: str = "7.77") -> dict[str, Any]:
    payment: dict[str, Any] = await service.post(CHARGE, {"invoice_id": document_id, "provider": provider})
    assert payment["amount"] == amount
    if provider == "manual":
        await service.post(f"{PAYMENTS}/manual/webhook", {"payment_id": payment["id"], "status": "succeeded"}, 200)
    else:
        await service.stripe_says("payment_intent.succeeded", service.stripe.pay(payment["reference"]), uuid4().hex)
    return payment


async def open_amount(service: Service, driver: str = "ann") -> str:
    balance = await service.get(BALANCE, driver_id=driver)
    Balance.model_validate(balance)
    (one,) = balance["balances"]
    return str(one["open_amount"])


async def test_a_part_of_an_invoice_is_credited_and_the_rest_is_paid(service: Service) -> None:
    invoice_id = await an_invoice(service)
    path = f"{INVOICES}/{invoice_id}/credit"
    note = await service.post(path, {"amount": "2.50", "reason": "blocked"}, key="k")
    assert await service.post(path, {"amount": "2.50", "reason": "blocked"}, key="k") == note
    assert (note["kind"], note["status"], note["payable"], note["total_incl_vat"]) == (
        *("credit_note", "settled", "-2.50"),
        "-2.500000",
    )
    assert (note["credits"], note["reason"]) == (invoice_id, "blocked")
    detail = await service.get(f"{INVOICES}/{note['id']}")
    assert {(line["dimension"], line["vat_pct"]) for line in detail["lines"]} == {("CREDIT", "21"), ("CREDIT", "10")}
    assert (await service.get(f"{INVOICES}/{invoice_id}"))["status"] == "open"
    assert await open_amount(service) == "5.27"
    await pay(service, invoice_id, amount="5.27")
    assert (await service.get(f"{INVOICES}/{invoice_id}"))["status"] == "paid"
    assert await open_amount(service) == "0.00"
    await service.get(f"{INVOICES}/{note['id']}/explain", 409)
    assert (await service.get(f"{INVOICES}/{invoice_id}/explain"))["agrees"]


async def test_lines_are_credited_whole_or_in_part(service: Service) -> None:
    invoice_id = await an_invoice(service)
    path = f"{INVOICES}/{invoice_id}/credit"
    note = await service.post(path, {"lines": [{"line": 3}], "reason": "no parking"})
    assert (note["payable"], note["total_excl_vat"]) == ("-2.00", "-1.818182")
    note = await service.post(path, {"lines": [{"line": 2, "amount": "1.21"}], "reason": "x"})
    assert (note["payable"], note["total_excl_vat"], note["payable_excl_vat"]) == ("-1.21", "-1.000000", "-1.00")
    refused: list[tuple[dict[str, Any], int]] = [
        ({"lines": [{"line": 9}]}, 422),
        ({"lines": [{"line": 3}]}, 409),
        ({"lines": [{"line": 1, "amount": "0.61"}]}, 409),
        ({"lines": [{"line": 1}, {"line": 1}]}, 422),
        ({"amount": "0"}, 422),
        ({"amount": "1.001"}, 422),
        ({"amount": "-1"}, 422),
        ({"amount": "4.57"}, 409),
        ({"amount": "1", "lines": [{"line": 1}]}, 422),
        ({}, 422),
    ]
    for wanted, status in refused:
        await service.post(path, {**wanted, "reason": "x"}, status)
    assert len(service.billing.documents()) == 3
    for who, status in (("operator", 403), ("ann", 403), ("device", 403), (None, 401)):
        await service.post(path, {"amount": "1", "reason": "x"}, status, who)
    await service.post(f"{INVOICES}/{uuid4()}/credit", {"amount": "1", "reason": "x"}, 404)
    await service.post(f"{INVOICES}/{note['id']}/credit", {"amount": "1", "reason": "x"}, 409)


async def test_what_is_left_is_cancelled_and_all_documents_sum_to_nothing(service: Service) -> None:
    invoice_id = await an_invoice(service)
    path = f"{INVOICES}/{invoice_id}/credit"
    await service.post(path, {"amount": "2.50", "reason": "x"})
    await service.post(path, {"amount": "5.27", "reason": "the rest"})
    documents = service.billing.documents()
    assert [one["status"] for one in documents] == ["cancelled", "settled", "settled"]
    for name in ("total_excl_micros", "total_incl_micros", "payable_excl_minor", "payable_minor"):
        assert sum(one[name] for one in documents) == 0
    lines = service.billing.rows(
        "SELECT sum(excl_micros) AS e, sum(incl_micros) AS i, sum(volume) AS v FROM billing.invoice_line"
    )
    assert lines == [{"e": 0, "i": 0, "v": 0}]
    assert service.billing.cdrs(documents[0]["subject_id"])[-1]["status"] == "cancelled"
    await service.post(path, {"amount": "0.01", "reason": "x"}, 409)


async def test_a_later_revision_after_a_credit_of_a_part_is_held(service: Service) -> None:
    own_id = uuid4()
    invoice_id = await an_invoice(service, own_id)
    await service.post(f"{INVOICES}/{invoice_id}/credit", {"amount": "2.50", "reason": "x"})
    await service.billing.deliver(session(own_id, revision=2))
    assert [cdr["status"] for cdr in service.billing.cdrs(own_id)] == ["invoiced"], "the same money"
    await service.billing.deliver(session(own_id, revision=3, energy_mwh=2_000_000))
    cdr = service.billing.cdrs(own_id)[-1]
    assert (cdr["status"], cdr["reasons"]) == ("held", ["partly_credited"])
    await service.post(f"{CHARGES}/{cdr['id']}/approve", {"why": "read on site"})
    documents = service.billing.documents(own_id)
    assert [one["status"] for one in documents] == ["credited", "settled", "settled", "open"]
    assert documents[2]["payable_minor"] == -527
    assert sum(one["payable_minor"] for one in documents) == documents[3]["payable_minor"]


async def test_what_is_credited_while_the_payer_pays_is_refunded(service: Service) -> None:
    invoice_id = await an_invoice(service)
    payment = await service.post(CHARGE, {"invoice_id": invoice_id, "provider": "stripe"})
    first = await service.post(f"{INVOICES}/{invoice_id}/credit", {"amount": "1.00", "reason": "x"})
    second = await service.post(f"{INVOICES}/{invoice_id}/credit", {"amount": "2.00", "reason": "x"})
    await service.stripe_says("payment_intent.succeeded", service.stripe.pay(payment["reference"]), "evt_1")
    assert (await service.get(f"{INVOICES}/{invoice_id}"))["status"] == "paid"
    for note in (first, second):
        assert (await service.get(f"{INVOICES}/{note['id']}"))["status"] == "open"
    assert await open_amount(service) == "-3.00"


async def test_a_payment_of_an_amount_that_was_credited_since_is_begun_anew(service: Service) -> None:
    invoice_id = await an_invoice(service)
    first = await service.post(CHARGE, {"invoice_id": invoice_id, "provider": "stripe"})
    note = await service.post(f"{INVOICES}/{invoice_id}/credit", {"amount": "1.00", "reason": "x"})
    again = await service.post(CHARGE, {"invoice_id": invoice_id, "provider": "stripe"})
    assert (first["amount"], again["amount"]) == ("7.77", "6.77")
    await service.stripe_says("payment_intent.succeeded", service.stripe.pay(again["reference"]), "evt_1")
    assert (await service.get(f"{INVOICES}/{note['id']}"))["status"] == "settled"
    assert await open_amount(service) == "0.00"


@pytest.mark.parametrize("provider", ["manual", "stripe"])
async def test_a_part_of_a_payment_is_refunded_with_a_credit_note(service: Service, provider: str) -> None:
    invoice_id = await an_invoice(service)
    payment = await pay(service, invoice_id, provider)
    path, wanted = f"{PAYMENTS}/{payment['id']}/refund", {"amount": "2.50", "reason": "blocked"}
    refund = await service.post(path, wanted, key="k")
    assert (await service.post(path, wanted, key="k"))["id"] == refund["id"]
    assert (refund["kind"], refund["amount"], refund["provider"]) == ("refund", "2.50", provider)
    assert len(service.billing.documents()) == 2
    if provider == "manual":
        await service.post(f"{PAYMENTS}/manual/webhook", {"payment_id": refund["id"], "status": "succeeded"}, 200)
    else:
        assert service.stripe.requests[-1].params["amount"] == "250"
    assert (await service.get(f"{INVOICES}/{refund['invoice_id']}"))["credits"] == invoice_id
    await service.post(path, {"amount": "5.28", "reason": "x"}, 409)
    await service.post(f"{PAYMENTS}/{refund['id']}/refund", wanted, 409)
    await service.post(f"{PAYMENTS}/{uuid4()}/refund", wanted, 404)
    await service.post(path, wanted, 403, "ann")
    rest = await service.post(path, {"reason": "the rest"})
    assert rest["amount"] == "5.27"
    assert (await service.get(f"{INVOICES}/{invoice_id}"))["status"] == "cancelled"


async def test_a_refund_that_the_provider_did_not_answer_is_asked_for_again_with_one_credit_note(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    payment = await pay(service, await an_invoice(service), "stripe")
    path, wanted = f"{PAYMENTS}/{payment['id']}/refund", {"amount": "2.50", "reason": "blocked"}

    async def no_answer(*_: object) -> None:
        raise Unavailable("stripe does not answer")

    with monkeypatch.context() as away:
        away.setattr(service.billing.providers["stripe"], "refund", no_answer)
        await service.post(path, wanted, 503, key="k")
        await service.post(path, wanted, 503, key="k")
    assert await open_amount(service) == "-2.50"
    refund = await service.post(path, wanted, key="k")
    assert (refund["kind"], refund["amount"]) == ("refund", "2.50")
    assert [one["kind"] for one in service.billing.documents()] == ["invoice", "credit_note"]


async def test_a_balance_is_for_its_driver_and_the_office(service: Service) -> None:
    await an_invoice(service)
    for who, status in (("operator", 200), ("finance", 200), ("ann", 200), ("device", 403), (None, 401)):
        await service.get(BALANCE, status, who, driver_id="ann")
    assert (await service.get(BALANCE, who="ann"))["balances"][0]["open_amount"] == "7.77"
    assert (await service.get(BALANCE, who="bob", driver_id="ann"))["balances"] == []
    assert "driver_id" in (await service.get(BALANCE, 422))["detail"]


async def test_any_sequence_of_credits_payments_refunds_and_late_revisions_keeps_the_balance(
    service: Service, seed: int
) -> None:
    rng = random.Random(seed)
    drivers = ("ann", "bob")
    subjects = {uuid4(): rng.choice(drivers) for _ in range(6)}
    revisions = dict.fromkeys(subjects, 0)
    for _ in range(70):
        own_id = rng.choice(list(subjects))
        deed = rng.choice(["revision", "credit", "charge", "settle", "refund", "cancel", "approve"])
        documents = service.billing.documents(own_id)
        valid = [one for one in documents if one["kind"] == "invoice" and one["status"] in ("open", "paid")]
        if deed == "revision" or not documents:
            revisions[own_id] += 1
            energy_mwh = rng.randrange(1, 30) * 500_000
            await service.billing.deliver(session(own_id, revision=revisions[own_id], energy_mwh=energy_mwh))
            await service.billing.deliver(assigned(own_id, subjects[own_id]))
        elif deed == "approve":
            (charge,) = (await service.get(CHARGES, reason="partly_credited"))["charges"][:1] or [None]
            if charge is not None:
                await service.post(f"{CHARGES}/{charge['id']}/approve", {"why": "x"})
        elif deed == "cancel" and valid and rng.random() < 0.3:
            await service.post(CANCEL, {"invoice_id": str(valid[0]["id"]), "reason": "x"})
        else:
            await one_deed(service, rng, deed, documents, valid)
        check_subject(service, own_id)
    check_set_offs(service.billing)
    for driver in drivers:
        await check_balance(service, driver, [own_id for own_id, whose in subjects.items() if whose == driver])
    documents = service.billing.documents()
    assert [one["sequence"] for one in documents] == list(range(1, len(documents) + 1))


async def one_deed(
    service: Service, rng: random.Random, deed: str, documents: list[dict[str, Any]], valid: list[dict[str, Any]]
) -> None:
    """Of money, where there is something to do; else nothing."""
    opened = [one for one in documents if one["status"] == "open"]
    ids = [one["id"] for one in documents]
    payments = service.billing.rows("SELECT * FROM billing.payment WHERE invoice_id = ANY (%s)", ids)
    if deed == "credit" and valid:
        amount = f"{rng.randrange(1, 400) / 100:.2f}"
        answer = await service.client.post(
            f"{INVOICES}/{valid[0]['id']}/credit",
            json={"amount": amount, "reason": "x"},
            headers={"Authorization": f"Bearer {service.tokens['finance']}"},
        )
        assert answer.status_code in (201, 409), answer.text
    elif deed == "charge" and opened:
        await service.post(CHARGE, {"invoice_id": str(rng.choice(opened)["id"]), "provider": "manual"})
    elif deed == "settle" and (pending := [one for one in payments if one["status"] == "pending"]):
        says = {
            "payment_id": str(rng.choice(pending)["id"]),
            "status": rng.choice(["succeeded", "succeeded", "failed"]),
        }
        await service.post(f"{PAYMENTS}/manual/webhook", says, 200)
    elif deed == "refund":
        paid = [one for one in payments if (one["kind"], one["status"]) == ("charge", "succeeded")]
        if paid and valid and paid[-1]["invoice_id"] == valid[0]["id"]:
            answer = await service.client.post(
                f"{PAYMENTS}/{paid[-1]['id']}/refund",
                json={"amount": f"{rng.randrange(1, 300) / 100:.2f}", "reason": "x"},
                headers={"Authorization": f"Bearer {service.tokens['finance']}"},
            )
            assert answer.status_code in (201, 409), answer.text


def check_subject(service: Service, own_id: UUID) -> None:
    """No invoice is credited by more than it requests; one that is not valid exactly by that; lines sum to totals."""
    documents = service.billing.documents(own_id)
    names = ("total_excl_micros", "total_incl_micros", "payable_excl_minor", "payable_minor")
    for invoice in (one for one in documents if one["kind"] == InvoiceKind.INVOICE):
        notes = [one for one in documents if one["credits"] == invoice["id"]]
        left = [invoice[name] + sum(note[name] for note in notes) for name in names]
        assert min(left) >= 0, (invoice, notes)
        if invoice["status"] not in ("open", "paid"):
            assert left == [0, 0, 0, 0]
        else:
            assert left[3] > 0
    for one in documents:
        (row,) = service.billing.rows(
            "SELECT coalesce(sum(excl_micros), 0) AS e, coalesce(sum(incl_micros), 0) AS i FROM billing.invoice_line "
            "WHERE invoice_id = %s",
            one["id"],
        )
        assert (row["e"], row["i"]) == (one["total_excl_micros"], one["total_incl_micros"])


async def check_balance(service: Service, driver: str, subjects: list[UUID]) -> None:
    """The balance is the sum of the documents less the payments; what is open one by one sums to it as well."""
    documents = [one for own_id in subjects for one in service.billing.documents(own_id)]
    payments = service.billing.rows(
        "SELECT * FROM billing.payment WHERE status = 'succeeded' AND invoice_id = ANY (%s)",
        [one["id"] for one in documents],
    )
    moved = {kind: sum(one["amount_minor"] for one in payments if one["kind"] == kind) for kind in ("charge", "refund")}
    expected = sum(one["payable_minor"] for one in documents) - moved["charge"] + moved["refund"]
    assert sum(one["set_off_minor"] for one in documents) == 0, "what pays an invoice of a driver is a credit of theirs"
    if documents:
        assert (
            await open_amount(service, driver)
            == f"{'-' if expected < 0 else ''}{abs(expected) // 100}.{abs(expected) % 100:02}"
        )
    details = [await service.get(f"{INVOICES}/{one['id']}") for one in documents if one["status"] == "open"]
    one_by_one = 0
    for one in details:
        notes = sum(note["payable_minor"] for note in documents if str(note["credits"]) == one["id"])
        if one["kind"] == "invoice":
            one_by_one += cents(one["amount_due"]) + notes
        else:
            one_by_one += cents(one["refundable"]) - cents(one["set_off"])
    assert one_by_one == expected, "every document says itself what is still to move"


def cents(amount: str) -> int:
    return int(Decimal(amount) * 100)


def test_a_document_of_the_tests_is_one(seed: int) -> None:
    document = invoice_of_lines([DocumentLine("ENERGY", 0, 1, 1, 1, None, 1_000_000, 1_000_000)], "EUR")
    assert isinstance(document, Document)
    assert document.payable_minor == 100
