"""Payments over HTTP. Thin: parameters in, one call of the service, one answer out."""

import asyncio
from typing import Annotated, Final
from uuid import UUID

from fastapi import APIRouter, Depends, Path, Request
from fastapi.responses import Response

from billing.currency import format_minor
from billing.documents import Invoice
from billing.edge import Payer, Reader, example, only_of, problems
from billing.payments import examples, models
from billing.payments.models import ChargeRequest, Heard, PaymentDetail, ProviderName
from billing.payments.service import PaymentService
from billing.payments.store import Payment
from kit.auth.authenticator import Authenticator
from kit.database.postgres import Database
from kit.messaging.outbox import Transaction
from kit.web.idempotency import Idempotent, StoredResponse
from kit.web.rules import public

PREFIX: Final = "/api/v1/billing"
# At once: each holds a database connection while the provider is asked, and the pool of 8 serves all else as well.
CHARGES_MAX: Final = 3


class PaymentRoutes:
    """The handlers, and where they stand."""

    def __init__(self, database: Database, service: PaymentService) -> None:
        self._database = database
        self._service = service
        self._gate = asyncio.Semaphore(CHARGES_MAX)

    def router(self) -> APIRouter:
        """Charging for finance and drivers (what they owe), webhooks for whoever signs."""
        router = APIRouter(prefix=PREFIX, tags=["billing"])
        router.add_api_route(
            "/charge",
            self.charge,
            methods=["POST"],
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
        router.add_api_route(
            "/payments/{id}",
            self.one,
            summary="A payment, and what the payer's application needs for it",
            responses={
                **problems({404: "No such payment, or none of yours", 502: "The provider cannot say"}),
                200: example(examples.DETAIL),
            },
        )
        router.add_api_route(
            "/payments/{provider}/webhook",
            self.hear,
            methods=["POST"],
            summary="What a payment provider has to say",
            responses={
                **problems(
                    {
                        401: "Of manual payments: no token",
                        403: "Not signed by the provider; of manual payments: not finance's token",
                        404: "No such provider or payment",
                        409: "It contradicts what is known",
                    }
                ),
                200: example(examples.HEARD),
            },
            dependencies=[Depends(public)],
            openapi_extra={
                "requestBody": {"required": True, "content": {"application/json": {"example": examples.NEWS}}}
            },
        )
        return router

    async def charge(self, wanted: ChargeRequest, principal: Payer, once: Idempotent) -> Response:
        """A payment that is pending at the same provider is answered as it is; one that is pending at another is
        withdrawn there first. Whether it succeeded is told by the provider later, see the payment."""

        async def work(connection: Transaction) -> StoredResponse:
            payment, invoice = await self._service.begin(connection, wanted, only_of(principal))
            body = payment_of(payment, invoice).model_dump_json().encode()
            return StoredResponse(201, body, location=f"{PREFIX}/payments/{payment.id}")

        async with self._gate:
            return await once.do(self._database, "billing", work)

    async def one(self, id: UUID, principal: Reader, response: Response) -> PaymentDetail:
        """The client secret is asked from the provider each time and stored nowhere. Operators do not get it."""
        may_pay = principal.kind != "operator"
        payment, invoice, secret = await self._service.one(id, only_of(principal), may_pay=may_pay)
        response.headers["Cache-Control"] = "no-store"
        return PaymentDetail(**payment_of(payment, invoice).model_dump(), client_secret=secret)

    async def hear(self, request: Request, provider: Annotated[ProviderName, Path()]) -> Heard:
        """Needs no token but the provider's signature; what became of a manual payment, finance says with its token.
        The same message again changes nothing."""
        by_finance = "authorization" in request.headers
        if by_finance:
            authenticator: Authenticator = request.app.state.authenticator
            await authenticator.require(request, "finance")
        body = await request.body()
        outcome = await self._service.hear(provider, dict(request.headers), body, by_finance=by_finance)
        return Heard.model_validate({"outcome": outcome})


def payment_of(payment: Payment, invoice: Invoice) -> models.Payment:
    """A payment as the API has it."""
    names = ("id", "invoice_id", "kind", "provider", "reference", "status", "currency", "error", "created_at")
    return models.Payment(
        amount=format_minor(payment.amount_minor, invoice.minor_digits),
        changed_at=payment.changed_at,
        **{name: getattr(payment, name) for name in names},
    )
