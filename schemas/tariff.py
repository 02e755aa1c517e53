"""The OCPI 2.2.1 `Tariff` object (module Tariffs). How a price is computed from it: docs/adr/0009.

Numbers are `Decimal`, as written. Unknown fields are refused with their path: a misspelt restriction would change
prices.
"""

import json
import re
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Final, Self

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    WithJsonSchema,
    model_validator,
)

ELEMENTS_MAX: Final = 64  # of one tariff; the longest seen in the field has a dozen
COMPONENTS_MAX: Final = 16  # of one element: there are four dimensions, more would only repeat one
MICROS: Final = 1_000_000  # micro-units of a currency in one
PRICE_MAX: Final = Decimal(1_000_000)  # per kWh, hour or session, in any currency: times 2.5 MWh it fits an int64


def _at_most(digits: int) -> AfterValidator:
    def check(value: Decimal) -> Decimal:
        # Digit by digit: normalize() would first round to the 28 of the context.
        _, places, exponent = value.as_tuple()
        finer = isinstance(exponent, int) and -exponent > digits and places[max(0, len(places) + exponent + digits) :]
        if finer and any(finer):
            raise ValueError(f"at most {digits} digits after the point: finer than that is not charged")
        return value

    return AfterValidator(check)


Price6 = Annotated[Decimal, Field(ge=0, le=PRICE_MAX, allow_inf_nan=False), _at_most(6)]
Percent4 = Annotated[Decimal, Field(ge=0, le=100, allow_inf_nan=False), _at_most(4)]
Kwh6 = Annotated[Decimal, Field(ge=0, le=1_000_000, allow_inf_nan=False), _at_most(6)]  # whole mWh
Thousandths = Annotated[Decimal, Field(ge=0, le=1_000_000, allow_inf_nan=False), _at_most(3)]  # A: whole mA
Kw6 = Annotated[Decimal, Field(ge=0, le=1_000_000, allow_inf_nan=False), _at_most(6)]  # whole mW
_ASCII: Final = r"[ -~]*"
_COUNTRY: Final = r"^[A-Za-z]{2}$"
_PARTY: Final = r"^[A-Za-z0-9]{1,3}$"
_CURRENCY: Final = r"^[A-Z]{3}$"
_TIME: Final = r"^([01][0-9]|2[0-3]):[0-5][0-9]$"
_DATE: Final = r"^[12][0-9]{3}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])$"


def _written(pattern: str, words: str) -> AfterValidator:
    compiled = re.compile(pattern)

    def check(text: str) -> str:
        if not compiled.fullmatch(text):
            raise ValueError(f"is not written as it has to be: write {words}")
        return text

    return AfterValidator(check)


def _shown(pattern: str) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "pattern": pattern})


Time = Annotated[str, _written(_TIME, "a time of day like 22:00, from 00:00 to 23:59"), _shown(_TIME)]
Date = Annotated[str, _written(_DATE, "a date like 2026-03-29"), _shown(_DATE)]
CountryCode = Annotated[str, _written(_COUNTRY, "two letters, like DE"), _shown(_COUNTRY)]
PartyId = Annotated[str, _written(_PARTY, "up to three letters and digits, like VLT"), _shown(_PARTY)]
Currency = Annotated[str, _written(_CURRENCY, "a currency of ISO 4217, like EUR"), _shown(_CURRENCY)]
CiString36 = Annotated[
    str, StringConstraints(min_length=1, max_length=36), _written(_ASCII, "printable ASCII characters")
]


class Dimension(StrEnum):
    """TariffDimensionType."""

    ENERGY = "ENERGY"  # kWh; step_size in Wh
    FLAT = "FLAT"
    PARKING_TIME = "PARKING_TIME"  # h, not charging; step_size in s
    TIME = "TIME"  # h, charging, or the time of a reservation; step_size in s


class DayOfWeek(StrEnum):
    """In the order of `date.weekday()`."""

    MONDAY = "MONDAY"
    TUESDAY = "TUESDAY"
    WEDNESDAY = "WEDNESDAY"
    THURSDAY = "THURSDAY"
    FRIDAY = "FRIDAY"
    SATURDAY = "SATURDAY"
    SUNDAY = "SUNDAY"


class Reservation(StrEnum):
    """ReservationRestrictionType."""

    RESERVATION = "RESERVATION"
    RESERVATION_EXPIRES = "RESERVATION_EXPIRES"


class TariffType(StrEnum):
    """TariffType."""

    AD_HOC_PAYMENT = "AD_HOC_PAYMENT"
    PROFILE_CHEAP = "PROFILE_CHEAP"
    PROFILE_FAST = "PROFILE_FAST"
    PROFILE_GREEN = "PROFILE_GREEN"
    REGULAR = "REGULAR"


class _Ocpi(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Price(_Ocpi):
    """A bound of a total. `incl_vat` may be left out."""

    excl_vat: Price6
    incl_vat: Price6 | None = None

    @model_validator(mode="after")
    def _vat_is_not_negative(self) -> Self:
        if self.incl_vat is not None and self.incl_vat < self.excl_vat:
            raise ValueError("incl_vat is below excl_vat")
        return self


class DisplayText(_Ocpi):
    """A text in a language."""

    language: Annotated[str, StringConstraints(min_length=2, max_length=2)]
    text: Annotated[str, StringConstraints(max_length=512)]


class PriceComponent(_Ocpi):
    """What one dimension costs, excl. VAT. `vat` in percent; left out: none applies."""

    type: Dimension
    price: Price6
    vat: Percent4 | None = None
    step_size: Annotated[int, Field(ge=0, le=100_000_000)]  # 0: no steps, as the specification's free tariff has it


class TariffRestrictions(_Ocpi):
    """All that are set must hold."""

    start_time: Time | None = None
    end_time: Time | None = None
    start_date: Date | None = None
    end_date: Date | None = None
    min_kwh: Kwh6 | None = None
    max_kwh: Kwh6 | None = None
    min_current: Thousandths | None = None
    max_current: Thousandths | None = None
    min_power: Kw6 | None = None
    max_power: Kw6 | None = None
    min_duration: Annotated[int, Field(ge=0, le=31_536_000)] | None = None
    max_duration: Annotated[int, Field(ge=0, le=31_536_000)] | None = None
    day_of_week: Annotated[list[DayOfWeek], Field(max_length=7)] = []
    reservation: Reservation | None = None

    @model_validator(mode="after")
    def _dates_exist(self) -> Self:
        for name in ("start_date", "end_date"):
            value = getattr(self, name)
            if value is not None:
                try:
                    datetime.strptime(value, "%Y-%m-%d")  # noqa: DTZ007  # checks only that the day exists
                except ValueError:
                    raise ValueError(f"{name}: there is no {value}") from None
        return self


class TariffElement(_Ocpi):
    """Prices, and when they apply."""

    price_components: Annotated[list[PriceComponent], Field(min_length=1, max_length=COMPONENTS_MAX)]
    restrictions: TariffRestrictions | None = None

    @model_validator(mode="after")
    def _reservations_have_no_energy(self) -> Self:
        if self.restrictions is not None and self.restrictions.reservation is not None:
            odd = {c.type for c in self.price_components} - {Dimension.FLAT, Dimension.TIME}
            if odd:
                raise ValueError(f"a reservation can only have FLAT and TIME, not {', '.join(sorted(odd))}")
        return self


class EnergySource(_Ocpi):
    """Share of one source."""

    source: str
    percentage: Percent4


class EnvironmentalImpact(_Ocpi):
    """Per kWh."""

    category: str
    amount: Annotated[Decimal, Field(ge=0)]


class EnergyMix(_Ocpi):
    """Where the energy comes from; said to drivers, without effect on the price."""

    is_green_energy: bool
    energy_sources: list[EnergySource] = []
    environ_impact: list[EnvironmentalImpact] = []
    supplier_name: Annotated[str, StringConstraints(max_length=64)] | None = None
    energy_product_name: Annotated[str, StringConstraints(max_length=64)] | None = None


class Tariff(_Ocpi):
    """A tariff. Of the fields that OCPI requires, those without effect on a price may be left out."""

    country_code: CountryCode | None = None
    party_id: PartyId | None = None
    id: CiString36 | None = None
    currency: Currency
    type: TariffType | None = None
    tariff_alt_text: Annotated[list[DisplayText], Field(max_length=100)] = []
    tariff_alt_url: Annotated[str, StringConstraints(max_length=255)] | None = None
    min_price: Price | None = None
    max_price: Price | None = None
    elements: Annotated[list[TariffElement], Field(min_length=1, max_length=ELEMENTS_MAX)]
    start_date_time: AwareDatetime | None = None
    end_date_time: AwareDatetime | None = None
    energy_mix: EnergyMix | None = None
    last_updated: AwareDatetime | None = None


def exact_tariff(document: str | bytes) -> Tariff:
    """The tariff of a stored document, its numbers exactly as written. Raises ValidationError, a ValueError."""
    return Tariff.model_validate(json.loads(document, parse_float=Decimal))
