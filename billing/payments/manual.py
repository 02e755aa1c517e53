"""Payments outside of any system: bank transfers, cash, another platform. Finance reports their result."""

from collections.abc import Mapping
from typing import Annotated, Final, Literal
from uuid import UUID

import msgspec

from billing.errors import NoToken
from billing.payments.provider import AcceptedPayment, PaymentOrder, PaymentStatus, PaymentUpdate
from kit.web.errors import BadQuery

_NOTE_CHARS_MAX: Final = 500


class _Message(msgspec.Struct, forbid_unknown_fields=True):
    """The body that finance posts."""

    payment_id: UUID
    status: Literal["succeeded", "failed"]
    note: Annotated[str, msgspec.Meta(max_length=_NOTE_CHARS_MAX)] = ""


class ManualProvider:
    """PaymentProvider whose payments are reported by finance."""

    name: Final = "manual"
    drivers_may: Final = False
    refunds_any: Final = True

    async def charge(self, order: PaymentOrder) -> AcceptedPayment:
        """See PaymentProvider."""
        return AcceptedPayment(f"manual-{order.payment_id}")

    async def refund(self, order: PaymentOrder, charged: str) -> AcceptedPayment:
        """See PaymentProvider. A transfer refunds a card as well."""
        return AcceptedPayment(f"manual-{order.payment_id}")

    async def withdraw(self, reference: str) -> None:
        """See PaymentProvider. Nothing can succeed by itself."""

    async def client_secret(self, reference: str) -> str | None:
        """See PaymentProvider."""
        return None

    def read_message(self, headers: Mapping[str, str], body: bytes, *, by_finance: bool) -> PaymentUpdate | None:
        """See PaymentProvider. Finance's token takes the place of a signature."""
        if not by_finance:
            raise NoToken("finance reports the result of a manual payment: use a token of kind finance")
        try:
            message = msgspec.json.decode(body, type=_Message)
        except (ValueError, RecursionError) as error:
            raise BadQuery(f"write payment_id, status (succeeded or failed) and perhaps a note: {error}") from error
        status = PaymentStatus(message.status)
        event_id = f"{message.payment_id}/{message.status}"
        return PaymentUpdate(event_id, message.payment_id, status, None, error=message.note)

    async def close(self) -> None:
        """See PaymentProvider."""
