"""Requests and responses of the operations on charges."""

from datetime import datetime
from typing import Annotated, Final, Literal
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, model_validator

from billing.documents import ChargeReason
from billing.invoices.models import Micros, Why
from kit.instants import Instant
from kit.patterns import worded
from kit.spelling import did_you_mean
from schemas.session import HoldReason, hold_names

ListedStatus = Literal["held", "review", "drift", "unpriced", "settling", "void", "nothing_owed"]
DecisionKind = Literal["approve", "correct", "void"]
REASONS: Final = frozenset({*hold_names(sum(HoldReason)), *(reason.value for reason in ChargeReason)})


def _known_reason(text: str) -> str:
    if text not in REASONS:
        raise ValueError(
            f"there is no such reason{did_you_mean(text, REASONS)}; there are {', '.join(sorted(REASONS))}"
        )
    return text


Reason = Annotated[str, StringConstraints(max_length=64), AfterValidator(_known_reason)]
EnergyWh = Annotated[
    str, StringConstraints(pattern=worded(r"^[0-9]{1,9}(\.[0-9]{1,3})?$", "watt-hours, like 12345.678"))
]
"""Wh, to the mWh."""


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Review(_Model):
    """A decision about a charge as it is."""

    why: Why = Field(
        description="is kept with the decision, and stands on a credit note", examples=["meter read on site"]
    )


class Correction(Review):
    """A decision that gives what was delivered."""

    energy_wh: EnergyWh = Field(description="that was delivered, Wh", examples=["12345.678"])
    started_at: Instant | None = Field(None, description="default: of the charge")
    ended_at: Instant | None = Field(None, description="default: of the charge")

    @model_validator(mode="after")
    def _in_order(self) -> "Correction":
        if self.started_at is not None and self.ended_at is not None and self.ended_at < self.started_at:
            raise ValueError("ended_at is before started_at")
        return self


class RecordedCharge(_Model):
    """A charge, as its newest CDR has it."""

    id: UUID = Field(description="of this version of the charge: decisions name it")
    cdr_id: UUID = Field(description="the same, as documents name it")
    status: str = Field(
        description="waiting for a person: held (the session contradicts itself, or the amount is above the bound), "
        "review (nobody can pay in the currency, or there are no readings to derive it from), drift (the stream's "
        "quantities or cost differ), unpriced (no tariff was in force). Else: settling (invoiced once no later reading "
        "came for a while), invoiced, nothing_owed, void, free, cancelled"
    )
    reasons: list[str] = Field(description="why it waits, as codes")
    reason: str = Field(description="the same in words, where there is more to say")
    kind: Literal["session", "reservation"]
    session_id: UUID | None
    reservation_id: str | None
    driver_id: str | None
    station_id: str
    started_at: datetime
    ended_at: datetime
    energy_wh: str
    version: int
    revision: int
    tariff_version: UUID | None
    currency: str | None
    total_excl_vat: Micros | None = Field(description="the total by billing; null: no tariff was in force")
    total_incl_vat: Micros | None
    stream_excl_vat: Micros | None = Field(description="by the stream; null also of a reservation")
    stream_incl_vat: Micros | None
    noted_at: datetime = Field(description="when billing wrote it down")
    due_at: datetime | None = Field(description="of a settling one: when it is invoiced")


class ChargePage(_Model):
    """A page of charges, oldest first."""

    charges: list[RecordedCharge]
    next: str | None = Field(description="address of the next page; null on the last")


class RecordedDecision(_Model):
    """What a person decided about a charge."""

    id: UUID
    decision: DecisionKind
    revision: int = Field(description="of the session: the decision is for this one")
    status_before: str
    reasons_before: list[str]
    who: str = Field(description="kind and subject of the token")
    why: str
    energy_wh: str | None = Field(description="of a correction")
    started_at: datetime | None = Field(description="of a correction")
    ended_at: datetime | None = Field(description="of a correction")
    decided_at: datetime


class ChargeDetail(RecordedCharge):
    """A charge, with what people decided about it."""

    invoice_id: UUID | None = Field(description="of its valid invoice, single or collective")
    decisions: list[RecordedDecision] = Field(description="oldest first")
