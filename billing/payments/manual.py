"""Payments outside of any system: bank transfers, cash, another platform. Finance says what became of them."""

from collections.abc import Mapping
from typing import Annotated, Final, Literal
from uuid import UUID

import msgspec

from billing.errors import BadRequest, NoToken
from billing.payments.provider import News, Opened, Order, PaymentStatus

_NOTE_CHARS_MAX: Final = 500


class _Message(msgspec.Struct, forbid_unknown_fields=True):
    """What finance posts."""

    payment_id: UUID
    status: Literal["succeeded", "failed"]
    note: Annotated[str, msgspec.Meta(max_length=_NOTE_CHARS_MAX)] = ""


class ManualProvider:
    """PaymentProvider that waits to be told."""

    name: Final = "manual"
    drivers_may: Final = False
    refunds_any: Final = True

    async def charge(self, order: Order) -> Opened:
        """See PaymentProvider."""
        return Opened(f"manual-{order.payment_id}")

    async def refund(self, order: Order, charged: str) -> Opened:
        """See PaymentProvider. A transfer refunds a card as well."""
        return Opened(f"manual-{order.payment_id}")

    async def withdraw(self, reference: str) -> None:
        """See PaymentProvider. There is nothing that could succeed by itself."""

    async def client_secret(self, reference: str) -> str | None:
        """See PaymentProvider."""
        return None

    def news(self, headers: Mapping[str, str], body: bytes, *, by_finance: bool) -> News | None:
        """See PaymentProvider. The signature is finance's token."""
        if not by_finance:
            raise NoToken("what became of a manual payment, finance says: use a token of kind finance")
        try:
            said = msgspec.json.decode(body, type=_Message)
        except msgspec.MsgspecError as error:
            raise BadRequest(f"write payment_id, status (succeeded or failed) and perhaps a note: {error}") from error
        status = PaymentStatus(said.status)
        return News(f"{said.payment_id}/{said.status}", said.payment_id, status, None, said.note)

    async def close(self) -> None:
        """See PaymentProvider."""
