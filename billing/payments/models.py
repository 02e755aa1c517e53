"""Requests and responses of the payment operations."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from billing.invoices.models import Payable
from billing.payments.provider import PaymentStatus
from kit.patterns import worded

ProviderName = Annotated[
    str,
    StringConstraints(
        pattern=worded(r"^[a-z][a-z0-9_]{0,31}$", "a name of small letters, digits and underscores, like stripe")
    ),
]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid")


class ChargeRequest(_Model):
    """Which document is to be settled, and through which provider."""

    invoice_id: UUID = Field(description="an open invoice, to be charged; or an open credit note, to be refunded")
    provider: ProviderName = Field(description="a payment provider of this installation", examples=["stripe"])


class Payment(_Model):
    """An attempt to move the money of a document."""

    id: UUID
    invoice_id: UUID
    kind: Literal["charge", "refund"]
    provider: str
    reference: str = Field(description="the provider's name for it")
    status: PaymentStatus
    currency: str
    amount: Payable
    error: str = Field(description="why it failed, or of a pending one why the payer's last try did")
    created_at: datetime
    changed_at: datetime


class PaymentDetail(Payment):
    """A payment, and what the payer's application needs."""

    client_secret: str | None = Field(
        description="hand it to the provider's own code in the payer's application and keep it nowhere; null where "
        "there is nothing left to do for the payer"
    )


class WebhookResult(_Model):
    """What was done with a webhook message."""

    outcome: Literal["applied", "repeated", "ignored"]
