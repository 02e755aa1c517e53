"""Requests and responses of the reservations service, as OpenAPI shows them."""

from datetime import datetime
from typing import Annotated, Self
from uuid import UUID

from pydantic import Field, StringConstraints, model_validator

from api.idle_fees import IdleFee
from api.reservations.life.rule import ReservationState
from api.reservations.models import ReservationModel
from api.reservations.parking.models import VehicleStay
from api.reservations.settings import DAY_S, DURATION_S_MIN
from kit.instants import Instant
from schemas.connector import ConnectorStandard
from schemas.identifiers import PRINTABLE, DriverId, StationId
from schemas.reading import CONNECTOR_ID_MAX

POWER_W_MAX = 10_000_000
Name = Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=PRINTABLE)]
"""Of a site or a bay."""


class NewReservation(ReservationModel):
    """A request to reserve a connector, a bay, or any connector of a plug at a site."""

    station_id: StationId | None = Field(default=None, description="with connector_id or bay")
    connector_id: int | None = Field(default=None, ge=1, le=CONNECTOR_ID_MAX, strict=True)
    bay: Name | None = None
    site: Name | None = Field(default=None, description="with standard: any of this plug at this site")
    standard: ConnectorStandard | None = None
    power_w_min: int = Field(default=0, ge=0, le=POWER_W_MAX, description="with site: rated at this at least")
    starts_at: Instant | None = Field(default=None, description="RFC 3339; left out: now")
    duration_s: int = Field(ge=DURATION_S_MIN, le=DAY_S)
    hold: bool = Field(default=False, description="only held for some minutes; to be confirmed by then")
    driver_id: DriverId | None = Field(
        default=None, description="for whom: an operator names the driver, a driver only themself"
    )

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        named = self.station_id is not None and (self.connector_id is None) != (self.bay is None)
        any_of = self.site is not None and self.standard is not None
        others = (self.site, self.standard) if named else (self.station_id, self.connector_id, self.bay)
        if named == any_of or any(one is not None for one in others) or (named and self.power_w_min):
            raise ValueError("name one place: station_id with connector_id, station_id with bay, or site with standard")
        return self


class Reservation(ReservationModel):
    """A reservation of a connector or a bay, for [starts_at, ends_at)."""

    id: UUID
    driver_id: str
    station_id: str
    connector_id: int | None = Field(description="null: of a bay")
    bay: str | None
    starts_at: datetime
    ends_at: datetime
    state: ReservationState
    revision: int = Field(description="rises with each change")
    held_until: datetime | None = Field(description="of a held one: it is given back unless confirmed by then")
    cancel_free_until: datetime = Field(description="cancelling later costs what the tariff says of reservations")
    late_at: datetime = Field(description="when it is given up unless charging has begun")
    reason: str | None = Field(description="why it changed, for the driver")
    moved_from: str | None = Field(description="the station that it was at before")
    session_id: UUID | None = Field(description="voltstream's id of the session that used it")
    charged: bool = Field(description="whether billing was asked to charge its time")
    created_at: datetime


class ReservationDetails(Reservation):
    """A reservation, with what standing at its place costs."""

    idle_fee: IdleFee | None = Field(
        description="of standing without charging, from the end of charging on, by the tariff now; null: nothing"
    )
    stay: VehicleStay | None = Field(description="null: the driver's vehicle is not known to stand there")


class ReservationPage(ReservationModel):
    """A page of reservations, those that begin last first."""

    reservations: list[Reservation]
    next: str | None = Field(description="address of the next page; null on the last")


class FreeTime(ReservationModel):
    """A reservation may begin there at any moment of [starts_at, latest_start]."""

    station_id: str
    connector_id: int | None
    bay: str | None
    starts_at: datetime
    latest_start: datetime
