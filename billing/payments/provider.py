"""The seam to whoever moves the money. Two implementations, `manual` and `stripe`, under one contract suite."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol
from uuid import UUID


class PaymentStatus(StrEnum):
    """Where a payment is."""

    PENDING = "pending"  # somebody else's turn: the payer's, the bank's, finance's
    SUCCEEDED = "succeeded"  # the money has moved
    FAILED = "failed"  # it has not, and by this payment it never will


@dataclass(frozen=True, slots=True)
class Order:
    """An amount that is to move."""

    payment_id: UUID  # the provider does the same order once, however often it is given
    document: str  # number of the invoice or credit note, for people
    amount_minor: int  # above 0
    currency: str
    minor_digits: int


@dataclass(frozen=True, slots=True)
class Opened:
    """What the provider made of an order."""

    reference: str  # the provider's name for it
    status: PaymentStatus = PaymentStatus.PENDING
    error: str = ""


@dataclass(frozen=True, slots=True)
class News:
    """What a provider says of a payment, later."""

    event_id: str  # of this piece of news, for it may be told again
    payment_id: UUID
    status: PaymentStatus
    amount_minor: int | None  # that has moved, in our minor units; None: not said
    error: str = ""  # pending: why the last try of the payer did not succeed


class PaymentProvider(Protocol):
    """Moves money. The methods that ask somebody raise Unavailable (the same order again is safe), Declined (402),
    ProviderFailed."""

    @property
    def name(self) -> str:
        """As in the API: `stripe`."""

    @property
    def drivers_may(self) -> bool:
        """Whether drivers may pay by it themselves."""

    @property
    def refunds_any(self) -> bool:
        """Whether it can give back what another provider has collected."""

    async def charge(self, order: Order) -> Opened:
        """Begin to collect an amount."""

    async def refund(self, order: Order, charged: str) -> Opened:
        """Begin to give back an amount of what was charged under that reference."""

    async def withdraw(self, reference: str) -> None:
        """Make sure that a pending charge never succeeds. Raises Conflict where it has, or might have."""

    async def client_secret(self, reference: str) -> str | None:
        """What the payer's application needs to pay a pending charge; None where it needs nothing."""

    def news(self, headers: Mapping[str, str], body: bytes, *, by_finance: bool) -> News | None:
        """What a message to the webhook says; None where it is nothing for us. `headers` with lower-case names.

        Raises BadSignature where the message is not the provider's; BadRequest where it cannot be read.
        """

    async def close(self) -> None:
        """Release what is held."""
