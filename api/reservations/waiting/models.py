"""Requests and responses of waiting lists, as OpenAPI shows them."""

from datetime import datetime
from typing import Literal
from uuid import UUID

from pydantic import Field

from api.reservations.models import ReservationModel
from api.reservations.reserving.models import POWER_W_MAX, Name, Reservation
from api.reservations.settings import DAY_S, DURATION_S_MIN
from schemas.connector import ConnectorStandard
from schemas.identifiers import DriverId


class NewWaiting(ReservationModel):
    """A driver who waits for a connector of a plug at a site."""

    site: Name
    standard: ConnectorStandard
    power_w_min: int = Field(default=0, ge=0, le=POWER_W_MAX, description="rated at this at least")
    duration_s: int = Field(ge=DURATION_S_MIN, le=DAY_S, description="how long the driver will charge")
    driver_id: DriverId | None = Field(
        default=None, description="who waits: an operator names the driver, a driver only themself"
    )


class Waiting(ReservationModel):
    """A driver in the line of a site, or who was in it."""

    id: UUID
    site: str
    driver_id: str
    standard: str
    power_w_min: int
    duration_s: int
    joined_at: datetime
    state: Literal["waiting", "offered", "accepted", "lapsed", "left"] = Field(
        description="lapsed: an offer was not accepted in time, which ends the waiting"
    )
    position: int | None = Field(description="in the line, from 1; null: no longer in it")
    estimated_wait_s: int | None = Field(
        description="if everyone stays as long as they said; null: nothing suits now, or no longer in the line"
    )
    skipped_until: datetime | None = Field(description="others are served first until then")
    offer: Reservation | None = Field(description="what is offered, or was; accept it before its `held_until`")


class WaitingLine(ReservationModel):
    """The drivers who wait at a site, in order; or a driver's own entries, newest first."""

    waiting: list[Waiting]
