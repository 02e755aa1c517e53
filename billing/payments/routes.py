"""Payments over HTTP. Thin: parameters in, one call of the service, one answer out."""

from typing import Annotated, Final
from uuid import UUID

from fastapi import APIRouter, Depends, Path, Request
from fastapi.responses import Response

from billing.components import Provided
from billing.currency import format_minor
from billing.documents import Document
from billing.parameters import Payer, Reader
from billing.payments import examples, models
from billing.payments.models import ChargeRequest, PaymentDetail, ProviderName, WebhookResult
from billing.payments.store import PaymentRecord
from kit.auth.authenticator import Authenticator
from kit.messaging.outbox import Transaction
from kit.web.idempotency import Idempotent, StoredResponse
from kit.web.json_body import JsonRoute
from kit.web.parameters import example, problems
from kit.web.route_rules import public

PREFIX: Final = "/api/v1/billing"

router = APIRouter(route_class=JsonRoute)


@router.post(
    "/charge",
    status_code=201,
    summary="Have an invoice paid, or a credit note refunded, through a payment provider",
    response_model=models.Payment,
    responses={
        **problems(
            {
                402: "The provider refused: nothing was paid",
                404: "No such document, or none of yours",
                409: "It is not open, or another payment is under way; or the key is used",
                502: "The provider cannot do that",
            }
        ),
        201: example(examples.PAYMENT),
    },
)
async def charge(wanted: ChargeRequest, principal: Payer, once: Idempotent, billing: Provided) -> Response:
    """A payment that is pending at the same provider is returned as it is; one that is pending at another is withdrawn
    there first. The provider reports later whether it succeeded, see the payment."""

    async def work(connection: Transaction) -> StoredResponse:
        payment, invoice = await billing.payments.begin(connection, wanted, principal.own_driver)
        body = payment_of(payment, invoice).model_dump_json().encode()
        return StoredResponse(201, body, location=f"{PREFIX}/payments/{payment.id}")

    async with billing.payments.slots:
        return await once.do(billing.database, "billing", work)


@router.get(
    "/payments/{id}",
    operation_id="one_api_v1_billing_payments__id__get",
    summary="A payment, and what the payer's application needs for it",
    responses={
        **problems({404: "No such payment, or none of yours", 502: "The provider cannot say"}),
        200: example(examples.DETAIL),
    },
)
async def get_payment(id: UUID, principal: Reader, response: Response, billing: Provided) -> PaymentDetail:
    """The client secret is asked from the provider each time and stored nowhere. Only who may pay gets it."""
    may_pay = principal.may("billing:pay")
    payment, invoice, secret = await billing.payments.get_payment(id, principal.own_driver, may_pay=may_pay)
    response.headers["Cache-Control"] = "no-store"
    return PaymentDetail(**payment_of(payment, invoice).model_dump(), client_secret=secret)


@router.post(
    "/payments/{provider}/webhook",
    summary="Message of a payment provider",
    responses={
        **problems(
            {
                401: "Of manual payments: no token",
                403: "Not signed by the provider; of manual payments: a token without billing:settle",
                404: "No such provider or payment",
                409: "It contradicts what is known",
            }
        ),
        200: example(examples.WEBHOOK_RESULT),
    },
    dependencies=[Depends(public)],
    openapi_extra={"requestBody": {"required": True, "content": {"application/json": {"example": examples.MESSAGE}}}},
)
async def webhook(request: Request, provider: Annotated[ProviderName, Path()], billing: Provided) -> WebhookResult:
    """Needs no token but the provider's signature; finance reports the result of a manual payment with its token. The
    same message again changes nothing."""
    by_finance = "authorization" in request.headers
    if by_finance:
        authenticator: Authenticator = request.app.state.authenticator
        await authenticator.require(request, "billing:settle")
    body = await request.body()
    outcome = await billing.payments.receive(provider, dict(request.headers), body, by_finance=by_finance)
    return WebhookResult.model_validate({"outcome": outcome})


def payment_of(payment: PaymentRecord, invoice: Document) -> models.Payment:
    """A payment as the API has it."""
    names = ("id", "invoice_id", "kind", "provider", "reference", "status", "currency", "error", "created_at")
    return models.Payment(
        amount=format_minor(payment.amount_minor, invoice.minor_digits),
        changed_at=payment.changed_at,
        **{name: getattr(payment, name) for name in names},
    )
