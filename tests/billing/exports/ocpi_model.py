"""OCPI 2.2.1's CDR and its parts (modules CDRs, Tariffs, Locations; types), as the specification has them.

Written from the specification and from nothing of the product: every exported CDR has to be one of these. Numbers are
read as int or Decimal. What the specification says in words beside its tables is checked too.
"""

import json
import re
from collections.abc import Sequence
from decimal import Decimal
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StrictBool, StrictInt, StrictStr, model_validator

NA = "#NA"


def _printable_ascii(text: str) -> str:
    if not re.fullmatch(r"[ -~]*", text):
        raise ValueError("a CiString is of printable ASCII")
    return text


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("a string is of printable characters")
    return text


def _date_time(text: str) -> str:
    if len(text) > 25 or not re.fullmatch(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d+)?Z?", text, re.ASCII):
        raise ValueError("a DateTime is UTC, in 25 characters at most")
    return text


def _number(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | Decimal) or not Decimal(value).is_finite():
        raise ValueError("a number is a JSON number")
    return value


_ASCII, _PRINTABLE = AfterValidator(_printable_ascii), AfterValidator(_printable)
DateTime = Annotated[StrictStr, AfterValidator(_date_time)]
Number = Annotated[Any, AfterValidator(_number)]
CiString2 = Annotated[StrictStr, Field(min_length=1, max_length=2), _ASCII]
CiString3 = Annotated[StrictStr, Field(min_length=1, max_length=3), _ASCII]
CiString36 = Annotated[StrictStr, Field(min_length=1, max_length=36), _ASCII]
CiString39 = Annotated[StrictStr, Field(min_length=1, max_length=39), _ASCII]
CiString48 = Annotated[StrictStr, Field(min_length=1, max_length=48), _ASCII]
Code2 = Annotated[StrictStr, Field(min_length=2, max_length=2), _PRINTABLE]
Code3 = Annotated[StrictStr, Field(min_length=3, max_length=3), _PRINTABLE]
Code5 = Annotated[StrictStr, Field(min_length=5, max_length=5), _PRINTABLE]
Code10 = Annotated[StrictStr, Field(min_length=10, max_length=10), _PRINTABLE]
Text10 = Annotated[StrictStr, Field(max_length=10), _PRINTABLE]
Text20 = Annotated[StrictStr, Field(max_length=20), _PRINTABLE]
Text45 = Annotated[StrictStr, Field(max_length=45), _PRINTABLE]
Text64 = Annotated[StrictStr, Field(max_length=64), _PRINTABLE]
Text255 = Annotated[StrictStr, Field(max_length=255), _PRINTABLE]
Text512 = Annotated[StrictStr, Field(max_length=512), _PRINTABLE]

ConnectorType = Literal[
    "CHADEMO", "CHAOJI", "DOMESTIC_A", "DOMESTIC_B", "DOMESTIC_C", "DOMESTIC_D", "DOMESTIC_E", "DOMESTIC_F",
    "DOMESTIC_G", "DOMESTIC_H", "DOMESTIC_I", "DOMESTIC_J", "DOMESTIC_K", "DOMESTIC_L", "DOMESTIC_M", "DOMESTIC_N",
    "DOMESTIC_O", "GBT_AC", "GBT_DC", "IEC_60309_2_single_16", "IEC_60309_2_three_16", "IEC_60309_2_three_32",
    "IEC_60309_2_three_64", "IEC_62196_T1", "IEC_62196_T1_COMBO", "IEC_62196_T2", "IEC_62196_T2_COMBO",
    "IEC_62196_T3A", "IEC_62196_T3C", "NEMA_5_20", "NEMA_6_30", "NEMA_6_50", "NEMA_10_30", "NEMA_10_50", "NEMA_14_30",
    "NEMA_14_50", "PANTOGRAPH_BOTTOM_UP", "PANTOGRAPH_TOP_DOWN", "TESLA_R", "TESLA_S",
]  # fmt: skip
DayOfWeek = Literal["MONDAY", "TUESDAY", "WEDNESDAY", "THURSDAY", "FRIDAY", "SATURDAY", "SUNDAY"]


class Ocpi(BaseModel):
    """No field besides those of the specification; a field that is not there is left out, and not null."""

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)

    @model_validator(mode="before")
    @classmethod
    def _nothing_is_null(cls, value: Any) -> Any:
        if isinstance(value, dict) and None in value.values():
            raise ValueError("a field that is unknown is left out")
        return value


class Price(Ocpi):
    excl_vat: Number
    incl_vat: Number = None


class DisplayText(Ocpi):
    language: Code2
    text: Text512


class GeoLocation(Ocpi):
    latitude: Annotated[StrictStr, Field(max_length=10, pattern=r"^-?[0-9]{1,2}\.[0-9]{5,7}$")]
    longitude: Annotated[StrictStr, Field(max_length=11, pattern=r"^-?[0-9]{1,3}\.[0-9]{5,7}$")]

    @model_validator(mode="after")
    def _on_earth(self) -> Self:
        assert abs(Decimal(self.latitude)) <= 90
        assert abs(Decimal(self.longitude)) <= 180
        return self


class CdrToken(Ocpi):
    country_code: CiString2
    party_id: CiString3
    uid: CiString36
    type: Literal["AD_HOC_USER", "APP_USER", "OTHER", "RFID"]
    contract_id: CiString36


class CdrLocation(Ocpi):
    id: CiString36
    name: Text255 = ""
    address: Annotated[Text45, Field(min_length=1)]
    city: Annotated[Text45, Field(min_length=1)]
    postal_code: Text10 = ""
    state: Text20 = ""
    country: Annotated[Code3, Field(pattern=r"^[A-Z]{3}$")]
    coordinates: GeoLocation
    evse_uid: CiString36
    evse_id: CiString48
    connector_id: CiString36
    connector_standard: ConnectorType
    connector_format: Literal["SOCKET", "CABLE"]
    connector_power_type: Literal["AC_1_PHASE", "AC_2_PHASE", "AC_2_PHASE_SPLIT", "AC_3_PHASE", "DC"]


class CdrDimension(Ocpi):
    """Of a CDR: the others are for sessions only."""

    type: Literal[
        "ENERGY", "MAX_CURRENT", "MIN_CURRENT", "MAX_POWER", "MIN_POWER", "PARKING_TIME", "RESERVATION_TIME", "TIME"
    ]
    volume: Number


class ChargingPeriod(Ocpi):
    start_date_time: DateTime
    dimensions: Annotated[list[CdrDimension], Field(min_length=1)]
    tariff_id: CiString36 = ""


class PriceComponent(Ocpi):
    type: Literal["ENERGY", "FLAT", "PARKING_TIME", "TIME"]
    price: Number
    vat: Number = None
    step_size: StrictInt


class TariffRestrictions(Ocpi):
    start_time: Code5 = ""
    end_time: Code5 = ""
    start_date: Code10 = ""
    end_date: Code10 = ""
    min_kwh: Number = None
    max_kwh: Number = None
    min_current: Number = None
    max_current: Number = None
    min_power: Number = None
    max_power: Number = None
    min_duration: StrictInt = 0
    max_duration: StrictInt = 0
    day_of_week: list[DayOfWeek] = []
    reservation: Literal["RESERVATION", "RESERVATION_EXPIRES", ""] = ""


class TariffElement(Ocpi):
    price_components: Annotated[list[PriceComponent], Field(min_length=1)]
    restrictions: TariffRestrictions = TariffRestrictions()


class EnergySource(Ocpi):
    source: Literal["NUCLEAR", "GENERAL_FOSSIL", "COAL", "GAS", "GENERAL_GREEN", "SOLAR", "WIND", "WATER"]
    percentage: Number


class EnvironmentalImpact(Ocpi):
    category: Literal["NUCLEAR_WASTE", "CARBON_DIOXIDE"]
    amount: Number


class EnergyMix(Ocpi):
    is_green_energy: StrictBool
    energy_sources: list[EnergySource] = []
    environ_impact: list[EnvironmentalImpact] = []
    supplier_name: Text64 = ""
    energy_product_name: Text64 = ""


class Tariff(Ocpi):
    country_code: CiString2
    party_id: CiString3
    id: CiString36
    currency: Code3
    type: Literal["AD_HOC_PAYMENT", "PROFILE_CHEAP", "PROFILE_FAST", "PROFILE_GREEN", "REGULAR", ""] = ""
    tariff_alt_text: list[DisplayText] = []
    tariff_alt_url: Text255 = ""
    min_price: Price = Price(excl_vat=0)
    max_price: Price = Price(excl_vat=0)
    elements: Annotated[list[TariffElement], Field(min_length=1)]
    start_date_time: DateTime = ""
    end_date_time: DateTime = ""
    energy_mix: EnergyMix | None = None
    last_updated: DateTime


class Cdr(Ocpi):
    country_code: CiString2
    party_id: CiString3
    id: CiString39
    start_date_time: DateTime
    end_date_time: DateTime
    session_id: CiString36 | None = None
    cdr_token: CdrToken
    auth_method: Literal["AUTH_REQUEST", "COMMAND", "WHITELIST"]
    authorization_reference: CiString36 = ""
    cdr_location: CdrLocation
    meter_id: Text255 = ""
    currency: Code3
    tariffs: list[Tariff] = []
    charging_periods: Annotated[list[ChargingPeriod], Field(min_length=1)]
    total_cost: Price
    total_fixed_cost: Price | None = None
    total_energy: Number
    total_energy_cost: Price | None = None
    total_time: Number
    total_time_cost: Price | None = None
    total_parking_time: Number = None
    total_parking_cost: Price | None = None
    total_reservation_cost: Price | None = None
    remark: Text255 = ""
    invoice_reference_id: CiString39 = ""
    credit: StrictBool = False
    credit_reference_id: CiString39 = ""
    home_charging_compensation: StrictBool = False
    last_updated: DateTime

    @model_validator(mode="after")
    def _what_the_text_says(self) -> Self:
        assert self.credit == bool(self.credit_reference_id), "a Credit CDR names the CDR that it credits"
        assert self.credit or len(self.id) <= 36, "only the id of a Credit CDR is longer than 36 characters"
        place = self.cdr_location
        unknown = {name for name in ("evse_uid", "evse_id", "connector_id") if getattr(place, name) == NA}
        assert not unknown or self.session_id is None, "#NA is for a reservation that became no session"
        texts = _texts(self.model_dump(exclude={"cdr_location"}))
        assert NA not in texts, "#NA has no other place"
        assert self.start_date_time <= self.end_date_time
        periods = [period.start_date_time for period in self.charging_periods]
        assert periods == sorted(set(periods)), "a period ends when the next one starts"
        known = {tariff.id for tariff in self.tariffs}
        assert {period.tariff_id for period in self.charging_periods} - {""} <= known
        return self


def _texts(value: Any) -> set[str]:
    if isinstance(value, dict):
        return {text for inner in value.values() for text in _texts(inner)}
    if isinstance(value, list | tuple):
        return {text for inner in value for text in _texts(inner)}
    return {value} if isinstance(value, str) else set()


def checked(cdrs: Sequence[dict[str, Any]]) -> Sequence[dict[str, Any]]:
    """The same CDRs, of which each is one of OCPI 2.2.1. Raises ValidationError."""
    for cdr in cdrs:
        Cdr.model_validate(cdr)
    return cdrs


def read_checked(body: bytes) -> list[dict[str, Any]]:
    """A file's CDRs, numbers as they are written, each checked. Raises ValidationError."""
    cdrs: list[dict[str, Any]] = json.loads(body, parse_float=Decimal)
    checked(cdrs)
    return cdrs
