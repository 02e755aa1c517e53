"""Parking over HTTP. Thin: parameters in, one call of the service, one response out."""

from typing import Annotated, Final

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import Response

from api.parameters import StationInPath
from api.reservations.callers import FORBIDDEN
from api.reservations.components import PATH, Provided
from api.reservations.parking import examples
from api.reservations.parking.models import Parking, StationParking, UnregisteredBay, UnregisteredBayPage, VehicleStay
from kit.auth.requirements import require_scope
from kit.auth.token_store import Principal
from kit.web.paging import link_header, next_url
from kit.web.parameters import JSON, CursorInQuery, example, problems

BAYS_MAX: Final = 1_000  # ~120 B each: 120 kB
BAYS_DEFAULT: Final = 100
PARKING: Final = f"{PATH}/parking"
_UNKNOWN: Final = {404: "The station is not registered, or has no connector"}

router = APIRouter(prefix=PARKING, tags=["reservations"])


@router.get(
    "",
    name="unregistered_bays",  # part of the published operationId
    summary="Bays that a sensor tells of and nobody registered",
    response_model=UnregisteredBayPage,
    responses={200: example(examples.UNREGISTERED)},
)
async def unregistered(
    reservations: Provided,
    caller: Annotated[Principal, Depends(require_scope("parking:read", heeds_stations=True))],
    request: Request,
    limit: Annotated[int, Query(ge=1, le=BAYS_MAX, description="on a page")] = BAYS_DEFAULT,
    cursor: CursorInQuery = None,
) -> Response:
    """Those that were heard of first. A bay leaves the list when it is registered with its station, and what is known
    of it stays."""
    found, key = await reservations.parking.unregistered(limit, cursor, caller.only)
    bays = [UnregisteredBay(**{name: row[name] for name in UnregisteredBay.model_fields}) for row in found]
    page = UnregisteredBayPage(bays=bays, next=next_url(request.url, key))
    return Response(page.model_dump_json(), headers=link_header(page.next), media_type=JSON)


@router.get(
    "/{station_id}",
    dependencies=[Depends(require_scope("reservations:read"))],
    summary="Who stands at a station, and for how long they may",
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
            occupied=stay.parking.occupied,
            **{name: getattr(stay.parking, name) for name in VehicleStay.model_fields},
        )
        for stay in sorted(found.stays, key=lambda stay: not stay.registered)
    ]
    return StationParking(station_id=found.station_id, idle_fee=found.fee, places=places)
