"""Stations, connectors and bays in requests and responses, as OpenAPI shows them."""

import re
from collections.abc import Iterable
from datetime import datetime
from decimal import ROUND_HALF_EVEN, Decimal, InvalidOperation
from enum import StrEnum
from typing import Annotated, Any, Final, Literal, Self

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

from api.names import GroupName
from api.stations.registry.opening_hours import OpeningHours
from api.time_zones import checked_time_zone
from kit.patterns import worded
from schemas.connector import AC_STANDARDS, DC_STANDARDS, ConnectorFormat, ConnectorStandard, PowerType
from schemas.country import ALPHA_3, ALPHA_3_OF
from schemas.identifiers import PRINTABLE, NewStationId
from schemas.reading import CONNECTOR_ID_MAX, MAIN_METER

CONNECTORS_MAX: Final = 256  # of one station, ~300 bytes each in JSON: 77 kB; depots with one controller have dozens
BAYS_MAX: Final = 256  # as connectors
RATED_POWER_W_MAX: Final = 10_000_000  # readings beyond are refused, too; the strongest standard ends at 3.75 MW
SITE_POWER_W_MAX: Final = 1_000_000_000
SILENT_AFTER_S_MAX: Final = 2_592_000  # 30 days; a station that says nothing for longer cannot be told from none
_UDEG: Final = 1_000_000
_DEGREE_CHARS_MAX: Final = 40  # of a number as somebody writes it; more has no meaning
_MILLIONTH: Final = Decimal("0.000001")  # 11 cm, and all that OCPI has room for
# ISO 15118-1: country, operator, E and the outlet, with or without separators.
EVSE_ID: Final = re.compile(r"[A-Z]{2}\*?[A-Z0-9]{3}\*?E[A-Z0-9*]{1,31}", re.ASCII)


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
    if not EVSE_ID.fullmatch(text):
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
Label = Annotated[str, _at_most(64), AfterValidator(_printable)]
Url = Annotated[
    str,
    StringConstraints(
        max_length=255,
        pattern=worded(r"^https?://[!-~]+$", "an address that begins with https:// or http://, without spaces"),
    ),
]
Facility = Annotated[
    str, StringConstraints(pattern=worded(r"^[A-Z][A-Z_]{0,31}$", "a Facility of OCPI, like BIKE_SHARING"))
]  # OCPI Facility; new ones come with versions
TariffId = Annotated[
    str, StringConstraints(min_length=1, max_length=36, pattern=worded(r"^[ -~]+$", "printable ASCII characters"))
]
ConnectorNumber = Annotated[int, Field(strict=True, ge=0, le=CONNECTOR_ID_MAX)]


class StationsModel(BaseModel):
    """Base of requests and responses: unknown fields are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ParkingRestriction(StrEnum):
    """ParkingRestriction: who may park in a bay."""

    EV_ONLY = "EV_ONLY"
    PLUGGED = "PLUGGED"  # only while plugged in
    DISABLED = "DISABLED"
    CUSTOMERS = "CUSTOMERS"
    MOTORCYCLES = "MOTORCYCLES"


class ParkingType(StrEnum):
    """ParkingType."""

    ALONG_MOTORWAY = "ALONG_MOTORWAY"
    PARKING_GARAGE = "PARKING_GARAGE"
    PARKING_LOT = "PARKING_LOT"
    ON_DRIVEWAY = "ON_DRIVEWAY"
    ON_STREET = "ON_STREET"
    UNDERGROUND_GARAGE = "UNDERGROUND_GARAGE"


class ImageCategory(StrEnum):
    """ImageCategory."""

    CHARGER = "CHARGER"
    ENTRANCE = "ENTRANCE"
    LOCATION = "LOCATION"
    NETWORK = "NETWORK"
    OPERATOR = "OPERATOR"
    OTHER = "OTHER"
    OWNER = "OWNER"


class Image(StationsModel):
    """An image of the place, by its address."""

    url: Url
    thumbnail: Url | None = None
    category: ImageCategory
    type: Annotated[str, _at_most(4), Field(description="like jpeg")]
    width: Annotated[int, Field(strict=True, ge=1, le=99_999)] | None = None
    height: Annotated[int, Field(strict=True, ge=1, le=99_999)] | None = None


class Business(StationsModel):
    """A company: OCPI BusinessDetails."""

    name: Annotated[str, _at_most(100), AfterValidator(_printable)]
    website: Url | None = None
    logo: Image | None = None


class DisplayText(StationsModel):
    """A text in a language."""

    language: Annotated[str, StringConstraints(pattern=worded(r"^[a-z]{2}$", "a language of ISO 639-1, like en"))]
    text: Annotated[str, _at_most(512), AfterValidator(_printable)]


class EnergySourceCategory(StrEnum):
    """EnergySourceCategory."""

    NUCLEAR = "NUCLEAR"
    GENERAL_FOSSIL = "GENERAL_FOSSIL"
    COAL = "COAL"
    GAS = "GAS"
    GENERAL_GREEN = "GENERAL_GREEN"
    SOLAR = "SOLAR"
    WIND = "WIND"
    WATER = "WATER"


class EnvironmentalImpactCategory(StrEnum):
    """EnvironmentalImpactCategory."""

    NUCLEAR_WASTE = "NUCLEAR_WASTE"
    CARBON_DIOXIDE = "CARBON_DIOXIDE"


class EnergySource(StationsModel):
    """The share of a source of energy."""

    source: EnergySourceCategory
    percentage: Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)]


class EnvironmentalImpact(StationsModel):
    """What producing a kWh costs the environment, g."""

    category: EnvironmentalImpactCategory
    amount: Annotated[float, Field(ge=0, le=1_000_000, allow_inf_nan=False)]


class EnergyMix(StationsModel):
    """Where the energy is from: OCPI EnergyMix."""

    is_green_energy: bool
    energy_sources: Annotated[list[EnergySource], Field(max_length=len(EnergySourceCategory))] = []
    environ_impact: Annotated[list[EnvironmentalImpact], Field(max_length=len(EnvironmentalImpactCategory))] = []
    supplier_name: Annotated[str, _at_most(64), AfterValidator(_printable)] | None = None
    energy_product_name: Annotated[str, _at_most(64), AfterValidator(_printable)] | None = None


class TokenType(StrEnum):
    """TokenType."""

    AD_HOC_USER = "AD_HOC_USER"
    APP_USER = "APP_USER"
    OTHER = "OTHER"
    RFID = "RFID"


class PublishToken(StationsModel):
    """Whom the place may be shown to: OCPI PublishTokenType."""

    uid: Annotated[str, _at_most(36), AfterValidator(_printable)] | None = None
    type: TokenType | None = None
    visual_number: Annotated[str, _at_most(64), AfterValidator(_printable)] | None = None
    issuer: Annotated[str, _at_most(64), AfterValidator(_printable)] | None = None
    group_id: Annotated[str, _at_most(36), AfterValidator(_printable)] | None = None

    @model_validator(mode="after")
    def _names_somebody(self) -> Self:
        if self.uid is None and self.visual_number is None and self.group_id is None:
            raise ValueError("names nobody: give uid, visual_number or group_id")
        if (self.uid is None) != (self.type is None):
            raise ValueError("uid and type belong together: give both")
        if self.visual_number is not None and self.issuer is None:
            raise ValueError("a visual_number is of an issuer: give it too")
        return self


class RelatedLocation(StationsModel):
    """A place that belongs to the station, like its entrance: OCPI AdditionalGeoLocation."""

    latitude: Latitude
    longitude: Longitude
    name: DisplayText | None = None


class Bay(StationsModel):
    """A parking bay."""

    bay: Annotated[str, _at_most(36), AfterValidator(_printable), Field(description="its name at the station")]
    connectors: Annotated[
        list[ConnectorNumber], Field(max_length=CONNECTORS_MAX, description="those that a vehicle in it can reach")
    ] = []
    restrictions: Annotated[list[ParkingRestriction], Field(max_length=len(ParkingRestriction))] = []
    length_cm: Annotated[int, Field(strict=True, ge=1, le=10_000)] | None = None
    width_cm: Annotated[int, Field(strict=True, ge=1, le=10_000)] | None = None
    height_cm_max: Annotated[int, Field(strict=True, ge=1, le=10_000, description="of a vehicle")] | None = None
    time_limit_s: Annotated[int, Field(strict=True, ge=60, le=31_536_000)] | None = None


class PlaceFacts(StationsModel):
    """Where a station is, and whose."""

    name: Name | None = Field(default=None, description="as drivers read it")
    address: AddressText | None = Field(default=None, description="street and number")
    city: AddressText | None = None
    postal_code: PostalCode | None = Field(default=None, description="left out where the place has none")
    country: Country | None = Field(default=None, description="ISO 3166-1 alpha-3, as OCPI has it")
    latitude: Latitude | None = None
    longitude: Longitude | None = None
    time_zone: TimeZone | None = Field(default=None, description="IANA")
    site: Label | None = Field(default=None, description="stations of one site stand together")
    group: GroupName | None = Field(default=None, description="of stations with one tariff; compared with case")
    organisation: Label | None = Field(default=None, description="that it belongs to, in roaming and targeting")

    @model_validator(mode="after")
    def _a_position_is_two_numbers(self) -> Self:
        if (self.latitude is None) != (self.longitude is None):
            raise ValueError("give latitude and longitude, or neither")
        if self.latitude == self.longitude == 0:
            raise ValueError(
                "latitude and longitude are 0, which is in the ocean: leave out a position that is unknown"
            )
        return self


class StationFacts(PlaceFacts):
    """What an operator says of a station. What is left out is unknown; OCPI needs address, city, country, position and
    time zone."""

    operator: Business | None = None
    suboperator: Business | None = None
    owner: Business | None = None
    site_power_w_max: Annotated[int, Field(strict=True, ge=1, le=SITE_POWER_W_MAX)] | None = Field(
        default=None, description="the most that all connectors may draw together, W"
    )
    silent_after_s: Annotated[int, Field(strict=True, ge=0, le=SILENT_AFTER_S_MAX)] | None = Field(
        default=None,
        description="silent, where nothing is heard for so long, s; 0: never; left out: setting telemetry.silent_after",
    )
    opening_hours: OpeningHours | None = Field(default=None, description="left out: unknown, and taken as always")
    charging_when_closed: bool = Field(default=True, description="whether vehicles go on charging outside the hours")
    parking_type: ParkingType | None = None
    facilities: Annotated[list[Facility], Field(max_length=32)] = []
    directions: Annotated[list[DisplayText], Field(max_length=20)] = []
    images: Annotated[list[Image], Field(max_length=20)] = []
    related_locations: Annotated[list[RelatedLocation], Field(max_length=20)] = Field(
        default=[], description="other places that belong to it, like its entrance"
    )
    energy_mix: EnergyMix | None = Field(default=None, description="where its energy is from")
    publish_allowed_to: Annotated[list[PublishToken], Field(max_length=100)] = Field(
        default=[], description="kept for other platforms, as OCPI has it; here every station is shown to all"
    )
    bays: Annotated[list[Bay], Field(max_length=BAYS_MAX)] = []

    @model_validator(mode="after")
    def _hours_are_of_a_time_zone(self) -> Self:
        if self.opening_hours is not None and self.opening_hours.regular_hours and self.time_zone is None:
            raise ValueError("opening_hours are in local time: give the time_zone too")
        return self

    @model_validator(mode="after")
    def _bays_have_different_names(self) -> Self:
        names = [one.bay for one in self.bays]
        if len(set(names)) < len(names):
            raise ValueError("bays: two have the same name")
        return self

    def unreachable(self, numbers: Iterable[int]) -> str | None:
        """What is wrong with the bays of a station that has the connectors of these numbers; None: nothing."""
        known = set(numbers)
        for one in self.bays:
            missing = sorted(set(one.connectors) - known)
            if missing:
                return (
                    f"bay {one.bay} names connector {missing[0]}, which the station does not have: register that "
                    "connector too, or leave it out of the bay"
                )
        return None


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

    voltage_v_max: Annotated[int, Field(strict=True, ge=1, le=2_000)] | None = Field(
        default=None, description="of AC between a phase and neutral, as OCPI has it"
    )
    current_a_max: Annotated[int, Field(strict=True, ge=1, le=10_000)] | None = None
    tariff_ids: Annotated[list[TariffId], Field(max_length=20)] = Field(
        default=[], description="OCPI ids of tariffs that other platforms know; prices here are pricing's"
    )

    @model_validator(mode="after")
    def _a_plug_fits_its_current(self) -> Self:
        if self.standard is not None and self.power_type is not None:
            direct = self.power_type is PowerType.DC
            if self.standard in (AC_STANDARDS if direct else DC_STANDARDS):
                raise ValueError(f"{self.standard} does not carry {self.power_type}: one of the two is wrong")
        return self


class NumberedConnector(ConnectorFacts):
    """A connector among those of its station."""

    connector_id: ConnectorNumber = Field(description="as readings number it; 0 is the station's main meter")

    @model_validator(mode="after")
    def _a_main_meter_has_no_plug(self) -> Self:
        plug = plug_of(self)
        if self.connector_id == MAIN_METER and plug:
            raise ValueError(f"connector 0 is the station's main meter: it has a rated power, and no {', '.join(plug)}")
        return self


class StationDocument(StationFacts):
    """A station, and its connectors where they are to be replaced as well."""

    connectors: Annotated[list[NumberedConnector], Field(max_length=CONNECTORS_MAX)] | None = Field(
        default=None, description="all of them; left out: they stay as they are"
    )

    @model_validator(mode="after")
    def _connectors_have_different_numbers(self) -> Self:
        numbers = [one.connector_id for one in self.connectors or []]
        if len(set(numbers)) < len(numbers):
            raise ValueError("connectors: two have the same connector_id")
        return self

    @model_validator(mode="after")
    def _bays_name_connectors_of_the_station(self) -> Self:
        if self.connectors is not None:  # else the service knows which they are
            wrong = self.unreachable(one.connector_id for one in self.connectors)
            if wrong is not None:
                raise ValueError(wrong)
        return self

    def facts(self) -> StationFacts:
        """Without the connectors."""
        return StationFacts.model_construct(**{name: getattr(self, name) for name in StationFacts.model_fields})


class NewStation(StationDocument):
    """A station to be registered."""

    station_id: NewStationId


class Connector(ConnectorFacts):
    """A connector."""

    station_id: str
    connector_id: int
    changed_at: datetime


class StationSummary(PlaceFacts):
    """A station as lists have it."""

    station_id: str
    revision: int = Field(description="counts the station's changes; its ETag")
    changed_at: datetime


class Station(StationFacts):
    """A station."""

    station_id: str
    revision: int = Field(description="counts the station's changes; its ETag")
    changed_at: datetime
    connectors: list[Connector] = Field(description="by their numbers; those of one EVSE share its evse_id")


class StationPage(StationsModel):
    """A page of stations, by their ids."""

    stations: list[StationSummary]
    next: str | None = Field(description="address of the next page; null on the last")


class StationChange(StationsModel):
    """A change of a station or of one of its connectors."""

    revision: int
    kind: Literal["created", "updated", "removed"]
    changed_at: datetime
    changed_by: str = Field(description="the token's kind and its subject or id")
    before: dict[str, Any] | None = Field(description="the whole station; null: it was new")
    after: dict[str, Any] | None = Field(description="the same; null: it was retired")


class StationHistory(StationsModel):
    """A page of a station's changes, newest first."""

    changes: list[StationChange]
    next: str | None = Field(description="address of the next page; null on the last")


def plug_of(facts: ConnectorFacts) -> list[str]:
    """Names of the facts that only a plug has, of those that are known."""
    known = facts.model_dump(include=set(ConnectorFacts.model_fields) - {"rated_power_w"})
    return [name for name, value in known.items() if value not in (None, [])]


def to_udeg(degrees: Decimal | None) -> int | None:
    """Millionths of a degree."""
    return None if degrees is None else int(degrees * _UDEG)


def from_udeg(udeg: int | None) -> Decimal | None:
    """Degrees, with six decimals."""
    return None if udeg is None else udeg * _MILLIONTH
