"""Requests and responses about demand rules, as OpenAPI shows them."""

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Final, Self
from uuid import UUID

from pydantic import AfterValidator, Field, WithJsonSchema, model_validator

from api.pricing.models import TARGET_SCHEMA, PricingModel

HOLD_S_MIN: Final = 60  # connectors' activity is known by the minute
HOLD_S_MAX: Final = 86_400
FACTOR_MAX: Final = 100


def _digits(value: Decimal) -> Decimal:
    exponent = value.normalize().as_tuple().exponent
    if isinstance(exponent, int) and exponent < -4:
        raise ValueError("at most 4 digits after the point")
    return value


_FourDigits = AfterValidator(_digits)
Factor = Annotated[Decimal, Field(ge=0, le=FACTOR_MAX, allow_inf_nan=False), _FourDigits]
EnergyPrice = Annotated[Decimal, Field(ge=0, le=1_000_000, allow_inf_nan=False), _FourDigits]
Percent = Annotated[Decimal, Field(ge=0, le=100, allow_inf_nan=False), _FourDigits]


class Bounds(PricingModel):
    """The bounds of the ENERGY price: two factors of the base price, or two prices per kWh."""

    min_factor: Factor | None = None
    max_factor: Factor | None = None
    min_price: EnergyPrice | None = None
    max_price: EnergyPrice | None = None

    @model_validator(mode="after")
    def _a_pair(self) -> Self:
        factors, prices = (self.min_factor, self.max_factor), (self.min_price, self.max_price)
        given = [pair for pair in (factors, prices) if pair != (None, None)]
        if len(given) != 1 or None in given[0]:
            raise ValueError("give min_factor and max_factor, or min_price and max_price")
        if self.min_factor is not None and self.max_factor is not None and not self.min_factor <= 1 <= self.max_factor:
            raise ValueError("min_factor is at most 1 and max_factor at least 1: the base price lies between them")
        if self.min_price is not None and self.max_price is not None and self.min_price > self.max_price:
            raise ValueError("min_price is above max_price")
        return self


class DemandRule(PricingModel):
    """How demand moves a target's ENERGY prices.

    Where the share of the target's connectors that charge is at or above `raise_above_pct`, prices go a step up; at or
    below `lower_below_pct` a step down; between, they stay.
    """

    base_version: Annotated[
        UUID | None, Field(description="an operators' version of this target; default: whichever they have in force")
    ] = None
    raise_above_pct: Percent
    lower_below_pct: Percent
    bounds: Bounds
    step_pct: Annotated[Percent, Field(gt=0, description="of the base price")]
    hold_s: Annotated[int, Field(ge=HOLD_S_MIN, le=HOLD_S_MAX, description="prices stay at least that long")]

    @model_validator(mode="after")
    def _thresholds_apart(self) -> Self:
        if self.lower_below_pct >= self.raise_above_pct:
            raise ValueError("lower_below_pct has to be below raise_above_pct")
        return self


class DemandState(PricingModel):
    """A demand rule and its state."""

    target: Annotated[Any, WithJsonSchema(TARGET_SCHEMA)]
    rule: DemandRule
    base: UUID | None = Field(description="the version that is moved; null while the operators have none in force")
    level: int = Field(description="steps above the base price, or below")
    changed_at: datetime | None = Field(description="of its last step")
    connectors: int = Field(description="of the target, with readings in the last 24 h")
    charging: int = Field(description="of these")
