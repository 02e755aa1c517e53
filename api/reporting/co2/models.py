"""Requests and responses about factors of CO2e, as OpenAPI shows them."""

from collections import Counter
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Final, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PlainSerializer, StringConstraints, model_validator

from api.reporting.co2.factors import YEAR_MAX, YEAR_MIN
from schemas.country import ALPHA_3
from schemas.identifiers import PRINTABLE

FACTORS_MAX: Final = 5_000  # 250 countries, 20 years
CO2E_G_PER_KWH_MAX: Final = 10_000  # coal burnt badly is below 2,000
_SOURCE_CHARS_MAX: Final = 500
_NAME_CHARS_MAX: Final = 100


def _thousandths(value: Decimal) -> Decimal:
    if value != round(value, 3):
        raise ValueError("at most 3 digits after the point")
    return value


def _country(code: str) -> str:
    if code not in ALPHA_3:
        raise ValueError("is no ISO 3166-1 alpha-3 code, like DEU")
    return code


Intensity = Annotated[
    Decimal,
    Field(ge=0, le=CO2E_G_PER_KWH_MAX, allow_inf_nan=False),
    AfterValidator(_thousandths),
    PlainSerializer(float, return_type=float),
]
Year = Annotated[int, Field(strict=True, ge=1990, le=YEAR_MAX)]
FromYear = Annotated[int, Field(strict=True, ge=YEAR_MIN, le=YEAR_MAX)]
Text = StringConstraints(strip_whitespace=True, min_length=1, max_length=_SOURCE_CHARS_MAX, pattern=PRINTABLE)
Name = StringConstraints(strip_whitespace=True, min_length=1, max_length=_NAME_CHARS_MAX, pattern=PRINTABLE)


class Co2Model(BaseModel):
    """Base of requests and responses: unknown fields are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class YearFactor(Co2Model):
    """What a kilowatt-hour of a year stands for."""

    year: Year
    co2e_g_per_kwh: Intensity = Field(description="at most three digits after the point")


class CountryFactor(YearFactor):
    """What a kilowatt-hour of a country's grid stands for in a year."""

    country: Annotated[str, StringConstraints(to_upper=True), AfterValidator(_country)] = Field(
        description="ISO 3166-1 alpha-3, as of stations"
    )


class FactorSource(Co2Model):
    """What a table is, without its rows."""

    source: Annotated[str, Text] = Field(description="who published these figures, where and when: answers repeat it")
    from_year: FromYear = Field(description="hours of this year and later are computed with it")
    to_year: FromYear | None = Field(None, description="and up to the end of this year; null: for good")
    fallback_name: Annotated[str, Name] = Field(description="what the fallback is, like: average of the EU")


class NewFactors(FactorSource):
    """A table that replaces the ones before, for hours of its years. A year without a factor takes the last one before
    it, else the first one after it."""

    fallback: list[YearFactor] = Field(
        min_length=1, max_length=100, description="of stations whose country is unknown or not in `factors`"
    )
    factors: list[CountryFactor] = Field(max_length=FACTORS_MAX)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.to_year is not None and self.to_year < self.from_year:
            raise ValueError("to_year must not be before from_year")
        given = [*(("fallback", one.year) for one in self.fallback), *((one.country, one.year) for one in self.factors)]
        twice = [key for key, count in Counter(given).items() if count > 1]
        if twice:
            raise ValueError(f"{twice[0][0]} has {twice[0][1]} twice: leave one out")
        return self


class FactorVersion(FactorSource):
    """A version, with who published it and when."""

    version: int
    published_at: datetime
    published_by: str


class FactorTable(FactorVersion):
    """A version with all of its rows."""

    fallback: list[YearFactor]
    factors: list[CountryFactor]


class FactorVersions(Co2Model):
    """All versions, newest first."""

    versions: list[FactorVersion]
