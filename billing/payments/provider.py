"""The protocol of payment providers. Two implementations, `manual` and `stripe`, pass one contract suite."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol
from uuid import UUID


class PaymentStatus(StrEnum):
    """The state of a payment."""

    PENDING = "pending"  # waits for the payer, the bank or finance
    SUCCEEDED = "succeeded"  # the money has moved
    FAILED = "failed"  # the money has not moved, and never will by this payment


@dataclass(frozen=True, slots=True)
class PaymentOrder:
    """An amount to be charged or refunded."""

    payment_id: UUID  # the provider executes the same order once, however often it is sent
    document: str  # number of the invoice or credit note, for people
    amount_minor: int  # above 0
    currency: str
    minor_digits: int


@dataclass(frozen=True, slots=True)
class AcceptedPayment:
    """The provider's answer to an order that it has accepted."""

    reference: str  # the provider's name for it
    status: PaymentStatus = PaymentStatus.PENDING
    error: str = ""


@dataclass(frozen=True, slots=True)
class PaymentUpdate:
    """A provider's later message about a payment."""

    event_id: str  # by which a repeated message is recognised
    payment_id: UUID
    status: PaymentStatus
    amount_minor: int | None  # that has moved, in our minor units; None: not given
    currency: str | None = None  # of it, ISO 4217; None: not given
    error: str = ""  # pending: why the last try of the payer did not succeed


class PaymentProvider(Protocol):
    """Moves money. The methods that call the provider raise Unavailable (the same order again is safe), Declined,
    ProviderFailed."""

    @property
    def name(self) -> str:
        """As in the API: `stripe`."""

    @property
    def drivers_may(self) -> bool:
        """Whether drivers may use it themselves."""

    @property
    def refunds_any(self) -> bool:
        """Whether it can refund what another provider has charged."""

    async def charge(self, order: PaymentOrder) -> AcceptedPayment:
        """Begin to charge an amount."""

    async def refund(self, order: PaymentOrder, charged: str) -> AcceptedPayment:
        """Begin to refund an amount of the charge with that reference."""

    async def withdraw(self, reference: str) -> None:
        """Make sure that a pending charge never succeeds. Raises Conflict where it has, or might have."""

    async def client_secret(self, reference: str) -> str | None:
        """What the payer's application needs to pay a pending charge; None: nothing."""

    def read_message(self, headers: Mapping[str, str], body: bytes, *, by_finance: bool) -> PaymentUpdate | None:
        """The update in a webhook message; None if it does not concern us. `headers` with lower-case names.

        Raises BadSignature if the message is not the provider's; BadQuery if it cannot be read.
        """

    async def close(self) -> None:
        """Release its connections."""
