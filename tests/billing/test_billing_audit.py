"""Money is moved and decided on by somebody, and the audit says by whom."""

from typing import Any

from tests.billing.serving import CANCEL, CHARGE, Service
from tests.billing.test_charges import CHARGES, WHY, held, waiting
from tests.billing.test_payments import an_invoice, finance_says


def _entries(service: Service) -> list[dict[str, Any]]:
    return service.billing.rows("SELECT * FROM audit.entry WHERE action NOT IN ('token.issued', 'request') ORDER BY id")


async def test_a_payment_by_hand_a_cancellation_and_a_decision_have_an_actor(service: Service) -> None:
    invoice_id = await an_invoice(service)
    payment = await service.post(CHARGE, {"invoice_id": invoice_id, "provider": "manual"})
    await finance_says(service, payment, "succeeded")
    await finance_says(service, payment, "succeeded")  # changes nothing
    note = await service.post(CANCEL, {"invoice_id": invoice_id, "reason": "wrong driver"})
    one = held("register_leapt")
    charge_id = await waiting(service, one)
    await service.post(f"{CHARGES}/{charge_id}/approve", WHY, who="operator")
    await service.post(f"{CHARGES}/{charge_id}/approve", WHY, 409, who="operator")
    paid, cancelled, approved = _entries(service)
    assert {entry["role"] for entry in (paid, cancelled)} == {"finance"}
    assert paid["actor"] == f"finance/{paid['token_id']}"
    assert (paid["action"], paid["entity"]) == ("payment.reported", f"payment/{payment['id']}")
    assert (paid["before"]["status"], paid["after"]["status"]) == ("pending", "succeeded")
    assert paid["endpoint"] == "/api/v1/billing/payments/{provider}/webhook"
    assert (cancelled["action"], cancelled["entity"]) == ("invoice.cancelled", f"invoice/{invoice_id}")
    assert (cancelled["after"]["credit_note"], cancelled["reason"]) == (note["id"], "wrong driver")
    assert (approved["action"], approved["entity"]) == ("charge.approved", f"charge/{charge_id}")
    assert (approved["role"], approved["before"]["status"], approved["reason"]) == ("operator", "held", WHY["why"])
    assert approved["after"]["status"] == "invoiced"


async def test_a_credit_is_recorded_and_one_that_is_refused_is_not(service: Service) -> None:
    invoice_id = await an_invoice(service)
    credit = f"/api/v1/billing/invoices/{invoice_id}/credit"
    await service.post(credit, {"amount": "1.00", "reason": "goodwill"})
    await service.post(credit, {"amount": "1000.00", "reason": "too much"}, 409)
    (entry,) = _entries(service)
    assert (entry["action"], entry["after"]["amount"], entry["reason"]) == ("invoice.credited", "-1.00", "goodwill")
