"""Parking over HTTP. Thin: parameters in, one call of the service, one response out."""

from typing import Final

from fastapi import APIRouter, Depends

from api.parameters import StationInPath
from api.reservations.callers import ALLOWED, FORBIDDEN
from api.reservations.components import PATH, Provided
from api.reservations.parking import examples
from api.reservations.parking.models import Parking, StationParking
from kit.web.parameters import example, problems

PARKING: Final = f"{PATH}/parking"
_SHOWN: Final = ("occupied", "charging", "since", "idle_since", "overstay_from", "reason", "overstays")
_UNKNOWN: Final = {404: "The station is not registered, or has no connector"}

router = APIRouter(prefix=PARKING, tags=["reservations"], dependencies=[Depends(ALLOWED)])


@router.get(
    "/{station_id}",
    summary="Who stands at a station without charging",
    responses={**problems({**FORBIDDEN, **_UNKNOWN}), 200: example(examples.PARKING)},
)
async def parking(reservations: Provided, station_id: StationInPath) -> StationParking:
    """By the sensors of its bays and the newest status of its connectors: occupied, charging, idle, overstaying; and
    the fee for standing, before it begins. Bays that only a sensor knows are listed too, last."""
    found = await reservations.parking.at(station_id)
    places = [
        Parking(
            connector_id=stay.place.connector_id,
            bay=stay.place.bay,
            registered=stay.registered,
            **{name: getattr(stay.parking, name) for name in _SHOWN},
        )
        for stay in sorted(found.stays, key=lambda stay: not stay.registered)
    ]
    return StationParking(station_id=found.station_id, idle_fee=found.fee, places=places)
