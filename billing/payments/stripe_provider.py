"""Payments by Stripe: a PaymentIntent for each charge, a Refund for each refund.

Our payment's id is the idempotency key, and is in the metadata, by which webhooks refer to it.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final
from uuid import UUID

import msgspec
import stripe

from billing.errors import BadSignature, Declined, ProviderFailed
from billing.payments.provider import AcceptedPayment, PaymentOrder, PaymentStatus, PaymentUpdate
from billing.payments.stripe_amounts import from_stripe, to_stripe
from billing.payments.stripe_http import QuietClient
from kit.clock import Clock
from kit.errors import Unavailable
from kit.web.errors import BadQuery, Conflict

PAYMENT_ID: Final = "payment_id"  # in the metadata
TIMEOUT_S: Final = 10  # one try; Stripe answers within 2 s
RETRIES_MAX: Final = 2
TOLERANCE_S: Final = 300  # between Stripe's clock and ours: an older message may be a replay

_INTENT: Final = {  # of a PaymentIntent, by the event
    "payment_intent.succeeded": PaymentStatus.SUCCEEDED,
    "payment_intent.payment_failed": PaymentStatus.PENDING,  # the payer may try another card
    "payment_intent.canceled": PaymentStatus.FAILED,
}
_REFUND: Final = {  # of a Refund, by its status
    "pending": PaymentStatus.PENDING,
    "requires_action": PaymentStatus.PENDING,
    "succeeded": PaymentStatus.SUCCEEDED,
    "failed": PaymentStatus.FAILED,
    "canceled": PaymentStatus.FAILED,
}
_REFUND_EVENTS: Final = ("refund.created", "refund.updated", "refund.failed")


class _Object(msgspec.Struct):
    """What is used of a PaymentIntent or a Refund."""

    currency: str
    metadata: dict[str, str] = {}
    amount: int = 0  # of a Refund
    amount_received: int = 0  # of a PaymentIntent
    status: str = ""
    last_payment_error: dict[str, Any] | None = None
    failure_reason: str | None = None


class _Data(msgspec.Struct):
    object: msgspec.Raw


class _Event(msgspec.Struct):
    id: str
    type: str
    data: _Data


class StripeProvider:
    """PaymentProvider over Stripe's API."""

    name: Final = "stripe"
    drivers_may: Final = True
    refunds_any: Final = False

    def __init__(
        self,
        key: str,
        webhook_secret: str,
        clock: Clock,
        *,
        api_base: str = "",
        timeout_s: int = TIMEOUT_S,
        sleep: Callable[[Any], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """`api_base`: another address than Stripe's own, for a stand-in; `sleep` makes the pauses between tries."""
        stripe.enable_telemetry = False  # the library has no switch of one client; see also QuietClient
        self._secret = webhook_secret
        self._clock = clock
        self._http = QuietClient(timeout_s, sleep)
        bases: Any = {"api": api_base.rstrip("/")} if api_base else None
        self._stripe = stripe.StripeClient(
            key, http_client=self._http, base_addresses=bases, max_network_retries=RETRIES_MAX
        )

    async def charge(self, order: PaymentOrder) -> AcceptedPayment:
        """See PaymentProvider."""
        amount = to_stripe(order.amount_minor, order.currency)
        with _translated():
            intent = await self._stripe.v1.payment_intents.create_async(
                {
                    "amount": amount,
                    "currency": order.currency.lower(),
                    "automatic_payment_methods": {"enabled": True},
                    "description": order.document,
                    "metadata": {PAYMENT_ID: str(order.payment_id)},
                },
                {"idempotency_key": str(order.payment_id)},
            )
        return AcceptedPayment(
            intent.id, PaymentStatus.SUCCEEDED if intent.status == "succeeded" else PaymentStatus.PENDING
        )

    async def refund(self, order: PaymentOrder, charged: str) -> AcceptedPayment:
        """See PaymentProvider."""
        amount = to_stripe(order.amount_minor, order.currency)
        with _translated():
            refund = await self._stripe.v1.refunds.create_async(
                {"payment_intent": charged, "amount": amount, "metadata": {PAYMENT_ID: str(order.payment_id)}},
                {"idempotency_key": str(order.payment_id)},
            )
        status = _REFUND.get(refund.status or "pending", PaymentStatus.PENDING)
        return AcceptedPayment(refund.id, status, refund.failure_reason or "" if status is PaymentStatus.FAILED else "")

    async def withdraw(self, reference: str) -> None:
        """See PaymentProvider."""
        with _translated():
            intent = await self._stripe.v1.payment_intents.retrieve_async(reference)
            if intent.status != "canceled":
                try:
                    await self._stripe.v1.payment_intents.cancel_async(reference)
                except stripe.InvalidRequestError as error:
                    raise Conflict(f"the payment at stripe is {intent.status} and cannot be withdrawn") from error

    async def client_secret(self, reference: str) -> str | None:
        """See PaymentProvider."""
        with _translated():
            intent = await self._stripe.v1.payment_intents.retrieve_async(reference)
        return intent.client_secret

    def read_message(self, headers: Mapping[str, str], body: bytes, *, by_finance: bool) -> PaymentUpdate | None:
        """See PaymentProvider. A token of finance does not replace the signature."""
        self._verify(headers.get("stripe-signature", ""), body)
        try:
            event = msgspec.json.decode(body, type=_Event)
            if event.type not in _INTENT and event.type not in _REFUND_EVENTS:
                return None
            thing = msgspec.json.decode(event.data.object, type=_Object)
        except (ValueError, RecursionError) as error:
            raise BadQuery(f"not an event of stripe: {error}") from error
        try:
            payment = UUID(thing.metadata[PAYMENT_ID])
        except (KeyError, ValueError):
            return None  # of another application of the same account
        currency = thing.currency.upper()
        if event.type in _INTENT:
            received = from_stripe(thing.amount_received, currency)
            reason = str((thing.last_payment_error or {}).get("code") or "")
            return PaymentUpdate(event.id, payment, _INTENT[event.type], received, currency, reason)
        status = _REFUND.get(thing.status, PaymentStatus.PENDING)
        returned = from_stripe(thing.amount, currency)
        return PaymentUpdate(event.id, payment, status, returned, currency, thing.failure_reason or "")

    def _verify(self, signature: str, body: bytes) -> None:
        try:
            stripe.WebhookSignature.verify_header(body, signature, self._secret, tolerance=None)
            at_s = int(dict(part.split("=", 1) for part in signature.split(","))["t"])
        except (stripe.SignatureVerificationError, ValueError) as error:  # also of bytes that are no text
            raise BadSignature("the message is not signed by stripe") from error
        if abs(self._clock.now_ms() // 1000 - at_s) > TOLERANCE_S:
            raise BadSignature("the message was signed too long ago, or one of the clocks is wrong")

    async def close(self) -> None:
        """See PaymentProvider."""
        await self._http.close_async()


@contextmanager
def _translated() -> Iterator[None]:
    """The library's errors as ours. Messages may repeat what was sent, so only those about cards are passed on."""
    try:
        yield
    except stripe.CardError as error:
        raise Declined(error.user_message or "the card was declined", error.code or "") from error
    except (stripe.APIConnectionError, stripe.RateLimitError, stripe.APIError) as error:
        raise Unavailable(
            f"stripe does not answer: {type(error).__name__} {error.http_status or ''}".strip()
        ) from error
    except stripe.StripeError as error:
        raise ProviderFailed(f"stripe refuses: {type(error).__name__} {error.code or ''}".strip()) from error
