"""Credits and refunds over HTTP. Thin: parameters in, one call of the service, one answer out."""

from typing import Final
from uuid import UUID

from fastapi import APIRouter
from fastapi.responses import Response

from billing.components import Provided
from billing.credits.models import CreditRequest, RefundRequest
from billing.invoices import examples
from billing.invoices.models import Invoice
from billing.invoices.rendering import invoice_of
from billing.parameters import Creditor, DocumentId, Refunder
from billing.payments import examples as payment_examples
from billing.payments import models
from billing.payments.routes import payment_of
from kit.messaging.outbox import Transaction
from kit.web.idempotency import Idempotent, StoredResponse
from kit.web.json_body import JsonRoute
from kit.web.parameters import example, problems

PREFIX: Final = "/api/v1/billing"
_PART: Final = {"total_excl_vat": "-2.092150", "total_incl_vat": "-2.500000", "payable_excl_vat": "-2.09"}
_NOTE: Final = {**examples.CREDIT_NOTE, **_PART, "payable": "-2.50", "amount_due": None}
_REFUND: Final = {**payment_examples.PAYMENT, "kind": "refund", "reference": "re_3PxVolt2eZvKYlo2C", "amount": "2.50"}

router = APIRouter(route_class=JsonRoute)


@router.post(
    "/invoices/{id}/credit",
    status_code=201,
    summary="Credit a part of an invoice",
    response_model=Invoice,
    responses={
        **problems(
            {
                404: "No such invoice",
                409: "More than is left of it, or it is no open or paid invoice; or the key is used",
            }
        ),
        201: example(_NOTE),
    },
)
async def credit(id: DocumentId, wanted: CreditRequest, _: Creditor, once: Idempotent, billing: Provided) -> Response:
    """Net and VAT of every rate in proportion, exactly. The credit note is open if the invoice was paid: refund it by
    POST /api/v1/billing/charge. A credit of all that is left cancels the invoice. A later revision of the session with
    another amount is held, for a person to say what becomes of the credit."""

    async def work(connection: Transaction) -> StoredResponse:
        note = invoice_of(await billing.credits.credit(connection, id, wanted))
        return StoredResponse(201, note.model_dump_json().encode(), location=f"{PREFIX}/invoices/{note.id}")

    return await once.do(billing.database, "billing", work)


@router.post(
    "/payments/{id}/refund",
    status_code=201,
    summary="Refund a part of a payment",
    response_model=models.Payment,
    responses={
        **problems(
            {
                402: "The provider refused: nothing went back",
                404: "No such payment",
                409: "More than is left, or the payment has not succeeded; or the key is used",
                502: "The provider cannot do that",
            }
        ),
        201: example(_REFUND),
    },
)
async def refund(id: UUID, wanted: RefundRequest, _: Refunder, once: Idempotent, billing: Provided) -> Response:
    """A credit note of that amount, and its refund through the provider of the payment. Give an Idempotency-Key: where
    the provider does not answer, the credit note is written already, and the same request again refunds it. Without a
    key, refund that credit note by POST /api/v1/billing/charge."""

    async def work(connection: Transaction) -> StoredResponse:
        note = invoice_of(await billing.credits.credit_for_refund(connection, id, wanted))
        return StoredResponse(201, note.model_dump_json().encode())

    credited = await once.do(billing.database, "billing", work)
    note = Invoice.model_validate_json(bytes(credited.body))
    async with billing.payments.slots, billing.database.transaction() as connection:
        payment, document = await billing.credits.refund(connection, id, note.id)
    body = payment_of(payment, document).model_dump_json()
    headers = {"Location": f"{PREFIX}/payments/{payment.id}"}
    return Response(body, 201, headers, media_type="application/json")
