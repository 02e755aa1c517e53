"""Settings of pricing."""

from typing import Final

from pydantic import BaseModel, Field

from kit.config.adjustable import adjustable

DEMAND: Final = "pricing.demand"


class PricingSettings(BaseModel):
    """Whether demand moves prices."""

    demand_pricing: bool = Field(
        True,
        description="whether demand rules move prices; off: at the base price",
        json_schema_extra=adjustable(DEMAND, flag=True, finance=True),
    )


GROUP = PricingSettings
