"""Responses about groups and stations."""

from pydantic import Field

from api.pricing.models import PricingModel


class GroupPage(PricingModel):
    """A page of a group's stations, by their ids."""

    group: str
    stations: list[str]
    next: str | None = Field(description="address of the next page; null on the last")


class WithoutTariffPage(PricingModel):
    """A page of registered stations that no tariff applies to, by their ids."""

    stations: list[str]
    next: str | None = Field(description="address of the next page; null on the last")
