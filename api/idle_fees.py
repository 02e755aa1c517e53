"""What standing without charging costs, so that drivers are shown it before it begins. Pure."""

from pydantic import BaseModel, ConfigDict, Field

from schemas.tariff import Dimension, Tariff


class IdleFee(BaseModel):
    """What standing without charging costs, excl. VAT."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    price_per_hour: str
    vat_percent: str | None
    currency: str
    depends: bool = Field(description="only under further restrictions of the tariff, as a time of day or a duration")


def idle_fee(tariff: Tariff) -> IdleFee | None:
    """The first price of PARKING_TIME that is for charging, not for reservations; None: it costs nothing."""
    for element in tariff.elements:
        restrictions = element.restrictions
        if restrictions is not None and restrictions.reservation is not None:
            continue
        for component in element.price_components:
            if component.type is Dimension.PARKING_TIME and component.price:
                return IdleFee(
                    price_per_hour=f"{component.price:f}",
                    vat_percent=None if component.vat is None else f"{component.vat:f}",
                    currency=tariff.currency,
                    depends=restrictions is not None,
                )
    return None
