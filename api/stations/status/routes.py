"""Status of stations over HTTP."""

from fastapi import APIRouter

from api.parameters import KnownStationInPath
from api.stations.components import LOCATES, PATH, Provided
from api.stations.status import examples
from api.stations.status.models import StationStatus
from kit.web.parameters import example, problems

router = APIRouter(prefix=PATH, tags=["stations"])


@router.get(
    "/{station_id}/status",
    summary="What a station's connectors do now, and why",
    dependencies=[LOCATES],
    responses={
        **problems({404: "It is not registered, and nothing is known of it"}),
        200: example(examples.STATUS),
    },
)
async def get_status(stations: Provided, station_id: KnownStationInPath) -> StationStatus:
    """Available, charging, reserved, faulted, … or silent: a charger that said nothing for its interval is not
    available. `why` are the last changes of a connector that led there."""
    return await stations.status.status(station_id)
