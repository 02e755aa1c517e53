"""Parking over HTTP. Thin: parameters in, one call of the service, one response out."""

from typing import Final

from fastapi import APIRouter, Depends

from api.parameters import StationInPath
from api.reservations.callers import ALLOWED, FORBIDDEN
from api.reservations.components import PATH, Provided
from api.reservations.parking import examples
from api.reservations.parking.models import IdleFee, Parking, StationParking
from kit.web.parameters import example, problems

PARKING: Final = f"{PATH}/parking"
_UNKNOWN: Final = {404: "The station is not registered, or has no connector"}

router = APIRouter(prefix=PARKING, tags=["reservations"], dependencies=[Depends(ALLOWED)])


@router.get(
    "/{station_id}",
    summary="Who stands at a station without charging",
    responses={**problems({**FORBIDDEN, **_UNKNOWN}), 200: example(examples.PARKING)},
)
async def parking(reservations: Provided, station_id: StationInPath) -> StationParking:
    """By the newest status of its connectors: occupied, charging, idle, overstaying; and the fee for standing, before
    it begins."""
    found = await reservations.parking.at(station_id)
    fee = found.fee
    shown = None
    if fee is not None:
        shown = IdleFee(
            price_per_hour=f"{fee.component.price:f}",
            vat_percent=None if fee.component.vat is None else f"{fee.component.vat:f}",
            currency=fee.currency,
            depends=fee.depends,
        )
    places = [
        Parking(
            connector_id=place.connector_id,
            bay=place.bay,
            occupied=one.occupied,
            charging=one.charging,
            idle_since=one.idle_since,
            overstay_from=one.overstay_from,
            overstays=one.overstays,
        )
        for place, one in found.places
    ]
    return StationParking(station_id=found.station_id, idle_fee=shown, places=places)
