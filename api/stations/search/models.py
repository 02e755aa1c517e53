"""Search for stations: the question and the answer."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Final, Literal, Self

from pydantic import BeforeValidator, Field, StringConstraints, WithJsonSchema, model_validator

from api.stations.registry.models import Latitude, Longitude, StationsModel
from schemas.connector import ConnectorStandard

RADIUS_M_MAX: Final = 200_000
RADIUS_M_DEFAULT: Final = 5_000
PLUGS_MAX: Final = 10
TEXT_CHARS_MAX: Final = 100
RESULTS_MAX: Final = 100  # ~600 B each: 60 kB
RESULTS_DEFAULT: Final = 20

Sort = Literal["distance", "price"]


@dataclass(frozen=True, slots=True)
class Box:
    """Between these millionths of a degree, edges included. `west` may be greater than `east`: then it crosses 180°."""

    south_udeg: int
    west_udeg: int
    north_udeg: int
    east_udeg: int


def _box(text: object) -> object:
    if not isinstance(text, str):
        return text
    names = ("south", "west", "north", "east")
    parts = text.split(",")
    if len(parts) != len(names):
        raise ValueError("write south,west,north,east in degrees, like 52.3,13.0,52.7,13.8")
    return dict(zip(names, parts, strict=True))


class BoxEdges(StationsModel):
    """A box by its edges, in degrees."""

    south: Latitude
    west: Longitude
    north: Latitude
    east: Longitude

    @model_validator(mode="after")
    def _north_is_north(self) -> Self:
        if self.north < self.south:
            raise ValueError("north is south of south: write south,west,north,east")
        return self


BoxInQuery = Annotated[
    BoxEdges,
    BeforeValidator(_box),
    WithJsonSchema({"type": "string", "example": "52.3,13.0,52.7,13.8"}),
]


class Search(StationsModel):
    """The parameters of a search."""

    latitude: Latitude | None = Field(default=None, description="of the place that distances are from")
    longitude: Longitude | None = None
    radius_m: Annotated[int, Field(ge=1, le=RADIUS_M_MAX, description="around it; of a box, there is none")] | None = (
        None
    )
    box: BoxInQuery | None = Field(
        default=None, description="south,west,north,east in degrees; distances are from its middle, or from the place"
    )
    plug: Annotated[list[ConnectorStandard], Field(max_length=PLUGS_MAX)] = Field(
        default=[], description="any of these kinds"
    )
    power_w_min: Annotated[int, Field(ge=1, le=10_000_000)] | None = Field(
        default=None, description="least rated power of the connector"
    )
    free: bool = Field(default=False, description="only where such a connector is free now")
    open: bool = Field(default=False, description="only where it is open now")
    text: Annotated[str, StringConstraints(max_length=TEXT_CHARS_MAX)] = Field(
        default="",
        description="words of name, address, city, site or operator, or their beginnings; all must be there. By text "
        "alone stations without connectors are found, too",
    )
    sort: Sort = "distance"
    limit: Annotated[int, Field(ge=1, le=RESULTS_MAX, description="stations on a page")] = RESULTS_DEFAULT
    cursor: Annotated[
        str | None,
        Field(max_length=240, description="where the last page ended, from its `next`; leave it out to begin"),
    ] = None

    @model_validator(mode="after")
    def _somewhere(self) -> Self:
        if (self.latitude is None) != (self.longitude is None):
            raise ValueError("give latitude and longitude, or neither")
        if self.latitude is None and self.box is None:
            raise ValueError("say where: latitude and longitude (with radius_m), or box=south,west,north,east")
        if self.radius_m is not None and self.latitude is None:
            raise ValueError("radius_m is around latitude and longitude: give them too")
        return self


class EnergyPrice(StationsModel):
    """What 10 kWh cost now, energy and flat fee, VAT included: to compare by, not what a charge will cost."""

    amount: Decimal
    currency: str


class FoundStation(StationsModel):
    """A station that was searched for."""

    station_id: str
    name: str | None
    address: str | None
    city: str | None
    latitude: Decimal
    longitude: Decimal
    distance_m: float = Field(description="as the crow flies, to the decimetre")
    open: bool = Field(description="now")
    connectors: int = Field(description="that fit the question")
    free: int = Field(description="of these, now")
    power_w_max: int | None = Field(description="the greatest rated power of these")
    price_10_kwh: EnergyPrice | None = Field(description="null: no tariff says")


class SearchPage(StationsModel):
    """A page of stations, the nearest or the cheapest first."""

    at: datetime = Field(description="the moment that `open` and prices are of, on all pages of a search")
    stations: list[FoundStation]
    next: str | None = Field(description="address of the next page; null on the last")
