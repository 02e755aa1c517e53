"""The response of the operation on held charges."""

from datetime import datetime
from typing import Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from billing.invoices.models import Micros

HeldStatus = Literal["review", "drift", "unpriced"]


class _Answer(BaseModel):
    model_config = ConfigDict(extra="forbid")


class HeldCharge(_Answer):
    """A charge, as its newest CDR has it."""

    cdr_id: UUID
    status: HeldStatus = Field(
        description="review: more than the installation's bound, a currency that nobody can pay in, or no readings to "
        "derive it from; drift: the stream's quantities or cost differ; unpriced: no tariff was in force"
    )
    kind: Literal["session", "reservation"]
    session_id: UUID | None
    reservation_id: str | None
    driver_id: str | None
    station_id: str
    started_at: datetime
    ended_at: datetime
    version: int
    revision: int
    tariff_version: UUID | None
    currency: str | None
    total_excl_vat: Micros | None = Field(description="the total by billing; null: no tariff was in force")
    total_incl_vat: Micros | None
    stream_excl_vat: Micros | None = Field(description="by the stream; null also of a reservation")
    stream_incl_vat: Micros | None
    noted_at: datetime = Field(description="when billing wrote it down")


class ChargePage(_Answer):
    """A page of charges, newest first."""

    charges: list[HeldCharge]
    next: str | None = Field(description="address of the next page; null on the last")
