"""Responses about parking, as OpenAPI shows them."""

from datetime import datetime

from pydantic import Field

from api.idle_fees import IdleFee
from api.reservations.models import ReservationModel
from api.reservations.parking.rule import Overstay


class VehicleStay(ReservationModel):
    """How a vehicle stands at a place. An idle fee runs from `idle_since`."""

    since: datetime | None = Field(description="occupied since")
    charging: bool
    idle_since: datetime | None = Field(description="occupied without charging since")
    overstay_from: datetime | None = Field(
        description="after the grace that follows the end of charging, of the driver's reservation or of the time limit"
    )
    reason: Overstay | None = Field(description="which of these is the first")
    overstays: bool


class Parking(VehicleStay):
    """A connector or a bay. A bay is what its sensor says and the connectors that a vehicle in it can reach."""

    connector_id: int | None
    bay: str | None
    registered: bool = Field(description="false: a sensor tells of a bay that the registry does not have")
    occupied: bool | None = Field(description="null: neither a sensor nor a connector tells")


class UnregisteredBay(ReservationModel):
    """A bay that a sensor tells of and that the registry does not have."""

    station_id: str
    bay: str
    occupied: bool
    since: datetime = Field(description="the sensor says so since")


class UnregisteredBayPage(ReservationModel):
    """A page of them, those that were heard of first."""

    bays: list[UnregisteredBay]
    next: str | None = Field(description="address of the next page; null on the last")


class StationParking(ReservationModel):
    """A station's connectors and bays, and the fee that begins when charging ends."""

    station_id: str
    idle_fee: IdleFee | None = Field(description="null: standing costs nothing")
    places: list[Parking]
