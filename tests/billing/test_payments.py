"""Laws of moving money: once, for open documents, and back where nothing is owed any more."""

import asyncio
from typing import Any
from uuid import UUID, uuid4

import pytest

from billing.payments.models import Payment, PaymentDetail
from kit.errors import ConfigError
from tests.billing.making import session
from tests.billing.serving import CANCEL, CHARGE, INVOICES, PAYMENTS, Service
from voltstream.settings import load_settings


async def an_invoice(service: Service, own_id: UUID | None = None) -> str:
    """The id of an open invoice of 7.77 EUR."""
    own_id = own_id or uuid4()
    await service.billing.deliver(session(own_id))
    return str(service.billing.documents(own_id)[0]["id"])


def status_of(service: Service, invoice_id: str) -> str:
    return str(service.billing.rows("SELECT status FROM billing.invoice WHERE id = %s", invoice_id)[0]["status"])


async def finance_says(service: Service, payment: dict[str, Any], status: str, expected: int = 200) -> Any:
    said = {"payment_id": payment["id"], "status": status}
    return await service.post(f"{PAYMENTS}/manual/webhook", said, expected)


async def test_finance_marks_an_invoice_as_paid_and_its_credit_note_as_refunded(service: Service) -> None:
    invoice_id = await an_invoice(service)
    payment = await service.post(CHARGE, {"invoice_id": invoice_id, "provider": "manual"})
    Payment.model_validate(payment)
    assert (payment["amount"], payment["status"], payment["kind"]) == ("7.77", "pending", "charge")
    assert await finance_says(service, payment, "succeeded") == {"outcome": "applied"}
    assert await finance_says(service, payment, "succeeded") == {"outcome": "repeated"}
    assert status_of(service, invoice_id) == "paid"
    await service.post(CHARGE, {"invoice_id": invoice_id, "provider": "manual"}, 409)

    note = await service.post(CANCEL, {"invoice_id": invoice_id, "reason": "wrong driver"})
    assert note["status"] == "open", "7.77 is to go back"
    refund = await service.post(CHARGE, {"invoice_id": note["id"], "provider": "manual"})
    assert (refund["kind"], refund["amount"]) == ("refund", "7.77")
    await finance_says(service, refund, "succeeded")
    assert status_of(service, note["id"]) == "paid"
    types = [event["metadata"]["type"] for event in service.billing.events()]
    assert types.count("invoice.updated.v1") == 3  # paid, cancelled, refunded
    detail = await service.get(f"{INVOICES}/{note['id']}")
    assert [one["status"] for one in detail["payments"]] == ["succeeded"]


async def test_a_driver_pays_by_stripe(service: Service) -> None:
    own_id = uuid4()
    invoice_id = await an_invoice(service, own_id)
    service.billing.rows("UPDATE billing.invoice SET driver_id = 'ann' WHERE id = %s RETURNING 1", invoice_id)
    wanted = {"invoice_id": invoice_id, "provider": "stripe"}
    payment = await service.post(CHARGE, wanted, who="ann", key="once")
    assert await service.post(CHARGE, wanted, who="ann", key="once") == payment
    assert await service.post(CHARGE, wanted, who="ann") == payment, "what is under way is not begun again"
    assert [request.params["amount"] for request in service.stripe.requests] == ["777"]

    detail = await service.get(f"{PAYMENTS}/{payment['id']}", who="ann")
    PaymentDetail.model_validate(detail)
    assert detail["client_secret"] == f"{payment['reference']}_secret_standin"
    assert (await service.get(f"{PAYMENTS}/{payment['id']}", who="operator"))["client_secret"] is None
    await service.stripe_says("payment_intent.succeeded", service.stripe.pay(payment["reference"]), "evt_9")
    again = await service.stripe_says("payment_intent.succeeded", service.stripe.pay(payment["reference"]), "evt_9")
    assert again == {"outcome": "repeated"}
    assert status_of(service, invoice_id) == "paid"
    assert (await service.get(f"{PAYMENTS}/{payment['id']}", who="ann"))["client_secret"] is None


async def test_no_secret_of_a_payment_is_stored(service: Service) -> None:
    invoice_id = await an_invoice(service)
    await service.post(CHARGE, {"invoice_id": invoice_id, "provider": "stripe"}, key="k")
    tables = service.billing.rows("SELECT tablename FROM pg_tables WHERE schemaname = 'billing'")
    for table in tables:
        for row in service.billing.rows(f"SELECT to_jsonb(t)::text AS t FROM billing.{table['tablename']} AS t"):
            assert "secret_standin" not in row["t"]
            assert b"secret_standin".hex() not in row["t"]


async def test_a_message_that_is_not_stripe_s_changes_nothing(service: Service) -> None:
    invoice_id = await an_invoice(service)
    payment = await service.post(CHARGE, {"invoice_id": invoice_id, "provider": "stripe"})
    paid = service.stripe.pay(payment["reference"])
    body = service.stripe.event("payment_intent.succeeded", paid)
    now_s = service.billing.clock.now_ms() // 1000
    for headers in ({}, service.stripe.signed(body, now_s, "whsec_guessed"), service.stripe.signed(b"{}", now_s)):
        await service.ask("POST", f"{PAYMENTS}/stripe/webhook", 403, None, content=body, headers=headers)
    await service.ask("POST", f"{PAYMENTS}/stripe/webhook", 403, "finance", content=body)
    await service.ask("POST", f"{PAYMENTS}/paypal/webhook", 404, None, content=body)
    await service.ask("POST", f"{PAYMENTS}/stripe/webhook", 413, None, content=b" " * 300_000)
    assert status_of(service, invoice_id) == "open"


async def test_a_wrong_amount_is_no_payment(service: Service) -> None:
    invoice_id = await an_invoice(service)
    payment = await service.post(CHARGE, {"invoice_id": invoice_id, "provider": "stripe"})
    paid = {**service.stripe.pay(payment["reference"]), "amount_received": 1}
    await service.stripe_says("payment_intent.succeeded", paid, "evt_1", 409)
    assert status_of(service, invoice_id) == "open"
    await service.stripe_says("payment_intent.succeeded", service.stripe.pay(payment["reference"]), "evt_1")
    assert status_of(service, invoice_id) == "paid"


@pytest.mark.parametrize("message", ["payment_intent.succeeded", "payment_intent.canceled"])
async def test_a_message_in_another_currency_is_refused_and_changes_nothing(service: Service, message: str) -> None:
    invoice_id = await an_invoice(service)
    payment = await service.post(CHARGE, {"invoice_id": invoice_id, "provider": "stripe"})
    paid = service.stripe.pay(payment["reference"])
    problem = await service.stripe_says(message, {**paid, "currency": "sek"}, "evt_1", 409)
    assert problem["detail"] == f"payment {payment['id']} is in EUR, not in SEK"
    assert status_of(service, invoice_id) == "open"
    assert (await service.get(f"{PAYMENTS}/{payment['id']}"))["status"] == "pending"
    await service.stripe_says("payment_intent.succeeded", paid, "evt_1")
    assert status_of(service, invoice_id) == "paid"


async def test_a_payment_that_nobody_began_is_not_acknowledged(service: Service) -> None:
    stray = {"currency": "eur", "amount_received": 5, "metadata": {"payment_id": str(uuid4())}}
    await service.stripe_says("payment_intent.succeeded", stray, "evt_1", 404)


@pytest.mark.parametrize(("fault", "status"), [("402", 402), ("400", 502), ("429", 503)])
async def test_what_stripe_refuses_is_reported_and_leaves_no_payment(service: Service, fault: str, status: int) -> None:
    invoice_id = await an_invoice(service)
    wanted = {"invoice_id": invoice_id, "provider": "stripe"}
    service.stripe.faults.append(fault)
    problem = await service.post(CHARGE, wanted, status, key="k")
    assert status != 402 or problem["code"] == "card_declined"
    assert service.billing.rows("SELECT 1 FROM billing.payment") == []
    payment = await service.post(CHARGE, wanted, key="k")
    assert payment["status"] == "pending"


async def test_after_a_lost_answer_the_same_payment_goes_on(service: Service) -> None:
    invoice_id = await an_invoice(service)
    wanted = {"invoice_id": invoice_id, "provider": "stripe"}
    service.stripe.faults.extend(["drop"] * 3)
    await service.post(CHARGE, wanted, 503, key="k")
    payment = await service.post(CHARGE, wanted, key="another key")
    assert list(service.stripe.intents) == [payment["reference"]]


async def test_charges_at_once_are_one_payment(service: Service) -> None:
    invoice_id = await an_invoice(service)
    wanted = {"invoice_id": invoice_id, "provider": "stripe"}
    answers = await asyncio.gather(*(service.post(CHARGE, wanted) for _ in range(6)))
    assert {answer["id"] for answer in answers} == {answers[0]["id"]}
    assert len(service.stripe.intents) == 1
    assert len(service.billing.rows("SELECT 1 FROM billing.payment")) == 1


async def test_another_way_to_pay_withdraws_the_first(service: Service) -> None:
    invoice_id = await an_invoice(service)
    first = await service.post(CHARGE, {"invoice_id": invoice_id, "provider": "stripe"})
    second = await service.post(CHARGE, {"invoice_id": invoice_id, "provider": "manual"})
    assert service.stripe.intents[first["reference"]]["status"] == "canceled"
    await service.stripe_says("payment_intent.canceled", service.stripe.intents[first["reference"]], "evt_1")
    await finance_says(service, second, "succeeded")
    detail = await service.get(f"{INVOICES}/{invoice_id}")
    assert [(one["provider"], one["status"]) for one in detail["payments"]] == [
        ("stripe", "failed"),
        ("manual", "succeeded"),
    ]


async def test_a_payment_at_stripe_that_has_succeeded_is_not_passed_over(service: Service) -> None:
    invoice_id = await an_invoice(service)
    first = await service.post(CHARGE, {"invoice_id": invoice_id, "provider": "stripe"})
    service.stripe.pay(first["reference"])
    await service.post(CHARGE, {"invoice_id": invoice_id, "provider": "manual"}, 409)


async def test_paid_while_it_was_credited_the_money_is_to_go_back(service: Service) -> None:
    own_id = uuid4()
    invoice_id = await an_invoice(service, own_id)
    payment = await service.post(CHARGE, {"invoice_id": invoice_id, "provider": "stripe"})
    await service.billing.deliver(session(own_id, revision=2, energy_mwh=9_999_000))
    old, note, new = service.billing.documents(own_id)
    assert (old["status"], note["status"], new["status"]) == ("credited", "settled", "open")
    await service.stripe_says("payment_intent.succeeded", service.stripe.pay(payment["reference"]), "evt_1")
    assert [document["status"] for document in service.billing.documents(own_id)] == ["credited", "open", "open"]
    refund = await service.post(CHARGE, {"invoice_id": str(note["id"]), "provider": "stripe"})
    assert (refund["status"], service.stripe.refunds[refund["reference"]]["amount"]) == ("succeeded", 777)
    assert status_of(service, str(note["id"])) == "paid"
    failed = {**service.stripe.refunds[refund["reference"]], "status": "failed"}
    await service.stripe_says("refund.failed", failed, "evt_2")
    assert status_of(service, str(note["id"])) == "open", "the refund came back"
    service.stripe.refund_status = "pending"
    again = await service.post(CHARGE, {"invoice_id": str(note["id"]), "provider": "stripe"})
    assert (again["status"], again["id"] != refund["id"]) == ("pending", True)


async def test_what_was_paid_elsewhere_stripe_cannot_refund(service: Service) -> None:
    invoice_id = await an_invoice(service)
    payment = await service.post(CHARGE, {"invoice_id": invoice_id, "provider": "manual"})
    await finance_says(service, payment, "succeeded")
    note = await service.post(CANCEL, {"invoice_id": invoice_id, "reason": "x"})
    problem = await service.post(CHARGE, {"invoice_id": note["id"], "provider": "stripe"}, 409)
    assert "manual" in problem["detail"]


async def test_a_manual_payment_that_failed_frees_the_invoice_and_one_that_succeeded_stands(service: Service) -> None:
    invoice_id = await an_invoice(service)
    wanted = {"invoice_id": invoice_id, "provider": "manual"}
    first = await service.post(CHARGE, wanted)
    await finance_says(service, first, "failed")
    second = await service.post(CHARGE, wanted)
    assert second["id"] != first["id"]
    await finance_says(service, first, "succeeded", 409)
    await finance_says(service, second, "succeeded")
    await finance_says(service, second, "failed", 409)
    assert status_of(service, invoice_id) == "paid"


async def test_only_what_was_paid_twice_is_reported_as_such(
    service: Service, capsys: pytest.CaptureFixture[str]
) -> None:
    invoice_id = await an_invoice(service)
    wanted = {"invoice_id": invoice_id, "provider": "manual"}
    first = await service.post(CHARGE, wanted)
    await finance_says(service, first, "failed")
    second = await service.post(CHARGE, wanted)
    await finance_says(service, first, "succeeded", 409)
    said = capsys.readouterr()
    assert "given_up_payment_succeeded" in said.out + said.err
    assert "paid_twice" not in said.out + said.err
    await finance_says(service, second, "succeeded")
    await finance_says(service, first, "succeeded", 409)
    said = capsys.readouterr()
    assert "paid_twice" in said.out + said.err


async def test_a_driver_is_shown_what_is_finance_s_to_settle(service: Service) -> None:
    invoice_id = await an_invoice(service)
    service.billing.rows("UPDATE billing.invoice SET driver_id = 'ann' WHERE id = %s RETURNING 1", invoice_id)
    problem = await service.post(CHARGE, {"invoice_id": invoice_id, "provider": "manual"}, 403, who="ann")
    assert "cannot have an invoice settled" in problem["detail"]


async def test_unknown_providers_and_documents_are_distinguished(service: Service) -> None:
    invoice_id = await an_invoice(service)
    problem = await service.post(CHARGE, {"invoice_id": invoice_id, "provider": "paypal"}, 422)
    assert "manual, stripe" in problem["detail"]
    await service.post(CHARGE, {"invoice_id": str(uuid4()), "provider": "manual"}, 404)


def test_stripe_s_keys_are_shown_to_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOLTSTREAM_STRIPE_KEY", "sk_test_verysecret")
    with pytest.raises(ConfigError, match="STRIPE_WEBHOOK_SECRET is not") as raised:
        load_settings()
    assert "verysecret" not in str(raised.value)
    monkeypatch.setenv("VOLTSTREAM_STRIPE_WEBHOOK_SECRET", "whsec_verysecret")
    settings = load_settings()
    assert "verysecret" not in f"{settings!r} {settings.describe()}"
