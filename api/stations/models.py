"""Requests and responses of the stations service, as OpenAPI shows them."""

import re
from datetime import datetime
from decimal import ROUND_HALF_EVEN, Decimal, InvalidOperation
from typing import Annotated, Final, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    WithJsonSchema,
    model_validator,
)

from api.time_zones import checked_time_zone
from schemas.connector import AC_STANDARDS, DC_STANDARDS, ConnectorFormat, ConnectorStandard, PowerType
from schemas.country import ALPHA_3, ALPHA_3_OF
from schemas.identifiers import PRINTABLE

RATED_POWER_W_MAX: Final = 10_000_000  # readings beyond are refused, too; the strongest standard ends at 3.75 MW
MAIN_METER: Final = 0  # the connector that is the station itself
_UDEG: Final = 1_000_000
_DEGREE_CHARS_MAX: Final = 40  # of a number as somebody writes it; more has no meaning
_MILLIONTH: Final = Decimal("0.000001")  # 11 cm, and all that OCPI has room for
# ISO 15118-1: country, operator, E and the outlet, with or without separators.
_EVSE_ID: Final = re.compile(r"[A-Z]{2}\*?[A-Z0-9]{3}\*?E[A-Z0-9*]{1,31}", re.ASCII)


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("has a character that cannot be printed; leave it out")
    return text


def _at_most(chars: int) -> StringConstraints:
    return StringConstraints(strip_whitespace=True, min_length=1, max_length=chars, pattern=PRINTABLE)


def _country(code: str) -> str:
    if code not in ALPHA_3:
        other = f"; for {code} write {ALPHA_3_OF[code]}" if code in ALPHA_3_OF else "; write one like DEU"
        raise ValueError(f"is no ISO 3166-1 alpha-3 code{other}")
    return code


def _evse_id(text: str) -> str:
    if not _EVSE_ID.fullmatch(text):
        raise ValueError("is no EVSE id of ISO 15118: write one like DE*VLT*E1234*1")
    return text


def _degrees(value: object, degrees_max: int) -> Decimal:
    """Rounded to the millionth."""
    if isinstance(value, bool) or not isinstance(value, str | int | float | Decimal):
        raise ValueError("write degrees as a number, like 52.520008")
    text = str(value).strip()
    try:
        number = Decimal(text) if len(text) <= _DEGREE_CHARS_MAX else Decimal("NaN")
    except InvalidOperation:
        number = Decimal("NaN")
    if not number.is_finite():
        raise ValueError("write degrees as a number, like 52.520008")
    if abs(number) > degrees_max:
        raise ValueError(f"is beyond {degrees_max} degrees")
    return number.quantize(_MILLIONTH, ROUND_HALF_EVEN) + 0  # adding 0: of a zero no sign


_DEGREES_SCHEMA: Final = {
    "anyOf": [{"type": "number"}, {"type": "string"}],
    "description": "degrees, WGS 84, rounded to the millionth",
}
Latitude = Annotated[Decimal, BeforeValidator(lambda value: _degrees(value, 90)), WithJsonSchema(_DEGREES_SCHEMA)]
Longitude = Annotated[Decimal, BeforeValidator(lambda value: _degrees(value, 180)), WithJsonSchema(_DEGREES_SCHEMA)]
# Texts are as long as OCPI has room for.
Name = Annotated[str, _at_most(255), AfterValidator(_printable)]
AddressText = Annotated[str, _at_most(45), AfterValidator(_printable)]
PostalCode = Annotated[str, _at_most(10), AfterValidator(_printable)]
Country = Annotated[str, StringConstraints(to_upper=True, max_length=3), AfterValidator(_country)]
EvseId = Annotated[str, StringConstraints(to_upper=True, max_length=48), AfterValidator(_evse_id)]
TimeZone = Annotated[str, StringConstraints(max_length=64), AfterValidator(checked_time_zone)]


class StationsModel(BaseModel):
    """Base of requests and responses: unknown fields are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class StationFacts(StationsModel):
    """What an operator says of a station. What is left out is unknown; OCPI CDRs need all but name and time zone."""

    name: Name | None = Field(default=None, description="as drivers read it")
    address: AddressText | None = Field(default=None, description="street and number")
    city: AddressText | None = None
    postal_code: PostalCode | None = Field(default=None, description="left out where the place has none")
    country: Country | None = Field(default=None, description="ISO 3166-1 alpha-3, as OCPI has it")
    latitude: Latitude | None = None
    longitude: Longitude | None = None
    time_zone: TimeZone | None = Field(default=None, description="IANA")

    @model_validator(mode="after")
    def _a_position_is_two_numbers(self) -> Self:
        if (self.latitude is None) != (self.longitude is None):
            raise ValueError("give latitude and longitude, or neither")
        if self.latitude == self.longitude == 0:
            raise ValueError(
                "latitude and longitude are 0, which is in the ocean: leave out a position that is unknown"
            )
        return self


class ConnectorFacts(StationsModel):
    """What an operator says of a connector. What is left out is unknown; OCPI CDRs need all but the rated power."""

    rated_power_w: Annotated[int, Field(strict=True, ge=1, le=RATED_POWER_W_MAX)] | None = Field(
        default=None,
        description="the most that it can deliver, W; left out: the worker's default decides what is plausible",
    )
    standard: ConnectorStandard | None = Field(default=None, description="OCPI ConnectorType")
    format: ConnectorFormat | None = Field(default=None, description="OCPI ConnectorFormat")
    power_type: PowerType | None = Field(default=None, description="OCPI PowerType")
    evse_id: EvseId | None = Field(
        default=None, description="ISO 15118, like DE*VLT*E1234*1; connectors of one EVSE share it"
    )

    @model_validator(mode="after")
    def _a_plug_fits_its_current(self) -> Self:
        if self.standard is not None and self.power_type is not None:
            direct = self.power_type is PowerType.DC
            if self.standard in (AC_STANDARDS if direct else DC_STANDARDS):
                raise ValueError(f"{self.standard} does not carry {self.power_type}: one of the two is wrong")
        return self


class Connector(ConnectorFacts):
    """A connector."""

    station_id: str
    connector_id: int
    changed_at: datetime


class StationSummary(StationFacts):
    """A station without its connectors."""

    station_id: str
    changed_at: datetime


class Station(StationSummary):
    """A station."""

    connectors: list[Connector] = Field(description="by their numbers")


class StationPage(StationsModel):
    """A page of stations, by their ids."""

    stations: list[StationSummary]
    next: str | None = Field(description="address of the next page; null on the last")


def to_udeg(degrees: Decimal | None) -> int | None:
    """Millionths of a degree."""
    return None if degrees is None else int(degrees * _UDEG)


def from_udeg(udeg: int | None) -> Decimal | None:
    """Degrees, with six decimals."""
    return None if udeg is None else udeg * _MILLIONTH
