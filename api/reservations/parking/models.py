"""Responses about parking, as OpenAPI shows them."""

from datetime import datetime

from pydantic import Field

from api.reservations.reserving.models import ReservationModel


class IdleFee(ReservationModel):
    """What standing without charging costs, excl. VAT."""

    price_per_hour: str
    vat_percent: str | None
    currency: str
    depends: bool = Field(description="only under further restrictions of the tariff, as a time of day or a duration")


class Parking(ReservationModel):
    """A connector or a bay. A bay is what the connectors say that a vehicle in it can reach."""

    connector_id: int | None
    bay: str | None
    occupied: bool | None = Field(description="null: no connector tells")
    charging: bool
    idle_since: datetime | None = Field(description="occupied without charging since")
    overstay_from: datetime | None = Field(description="after the grace that follows the end of charging")
    overstays: bool


class StationParking(ReservationModel):
    """A station's connectors and bays, and the fee that begins when charging ends."""

    station_id: str
    idle_fee: IdleFee | None = Field(description="null: standing costs nothing")
    places: list[Parking]
