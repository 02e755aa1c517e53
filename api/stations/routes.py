"""Stations over HTTP. Thin: parameters in, one call of the service, one response out."""

from typing import Annotated, Any, Final
from urllib.parse import quote

from fastapi import APIRouter, Body, Depends, Path, Query, Request
from fastapi.responses import Response

from api.parameters import KnownStationInPath, StationInPath
from api.stations import examples
from api.stations.components import StationsComponents
from api.stations.models import Connector, ConnectorFacts, Station, StationFacts, StationPage
from kit.auth.authenticator import require_kinds
from kit.service import provided
from kit.web.exact_json import ExactJsonRoute
from kit.web.paging import link_header, next_url
from kit.web.parameters import JSON, CursorInQuery, example, problems
from kit.web.route_rules import BODY_BYTES_MAX
from schemas.reading import CONNECTOR_ID_MAX

PATH: Final = "/api/v1/stations"
STATIONS_MAX: Final = 1_000  # ~500 B each: 500 kB
STATIONS_DEFAULT: Final = 100
_TOO_LARGE: Final = {413: f"The body is larger than {BODY_BYTES_MAX // 1024} KiB"}
_NO_STATION: Final = {404: "The station is not registered"}
_NO_CONNECTOR: Final = {404: "The connector is not registered"}

Provided = Annotated[StationsComponents, Depends(provided(StationsComponents))]
_OPERATORS: Final = Depends(require_kinds("operator"))
_READERS: Final = Depends(require_kinds("operator", "finance"))
ConnectorInPath = Annotated[
    int,
    Path(ge=0, le=CONNECTOR_ID_MAX, description="as readings number it", openapi_examples={"first": {"value": 1}}),
]

router = APIRouter(prefix=PATH, tags=["stations"], route_class=ExactJsonRoute)


def _created(what: str, value: Any) -> dict[str, Any]:
    """The description of a 201."""
    location = {"Location": {"description": f"of the {what}", "schema": {"type": "string"}}}
    return {**example(value), "description": f"The {what} is new", "headers": location}


@router.get(
    "",
    summary="Stations, by their ids",
    response_model=StationPage,
    dependencies=[_READERS],
    responses={**problems(), 200: example(examples.PAGE)},
)
async def list_stations(
    stations: Provided,
    request: Request,
    limit: Annotated[int, Query(ge=1, le=STATIONS_MAX, description="stations on a page")] = STATIONS_DEFAULT,
    cursor: CursorInQuery = None,
) -> Response:
    """Without their connectors. Pages never repeat a station, whatever is registered meanwhile."""
    found, key = await stations.service.stations(limit, cursor)
    page = StationPage(stations=list(found), next=next_url(request.url, key))
    return Response(page.model_dump_json(), headers=link_header(page.next), media_type=JSON)


@router.get(
    "/{station_id}",
    summary="A station and its connectors",
    dependencies=[_READERS],
    responses={**problems(_NO_STATION), 200: example(examples.STATION)},
)
async def get_station(stations: Provided, station_id: KnownStationInPath) -> Station:
    """As operators registered it. Readings are taken from stations that are not registered, too."""
    return await stations.service.station(station_id)


@router.put(
    "/{station_id}",
    summary="Register a station",
    response_model=Station,
    dependencies=[_OPERATORS],
    responses={**problems(_TOO_LARGE), 200: example(examples.STATION), 201: _created("station", examples.STATION)},
)
async def put_station(
    stations: Provided,
    station_id: StationInPath,
    body: Annotated[StationFacts, Body(openapi_examples={"a station": {"value": examples.STATION_FACTS}})],
) -> Response:
    """In place of whatever was known of it; its connectors stay. An id is compared without case.

    OCPI CDRs of its charges need its address, city, country and position.
    """
    station, created = await stations.service.put_station(station_id, body)
    return _put(station, created, f"{PATH}/{quote(station_id)}")


@router.delete(
    "/{station_id}",
    status_code=204,
    summary="Remove a station",
    dependencies=[_OPERATORS],
    responses=problems(_NO_STATION),
)
async def delete_station(stations: Provided, station_id: KnownStationInPath) -> None:
    """With its connectors. Its readings, sessions and charges stay."""
    await stations.service.delete_station(station_id)


@router.get(
    "/{station_id}/connectors/{connector_id}",
    summary="A connector",
    dependencies=[_READERS],
    responses={**problems(_NO_CONNECTOR), 200: example(examples.CONNECTOR)},
)
async def get_connector(stations: Provided, station_id: KnownStationInPath, connector_id: ConnectorInPath) -> Connector:
    """As operators registered it."""
    return await stations.service.connector(station_id, connector_id)


@router.put(
    "/{station_id}/connectors/{connector_id}",
    summary="Register a connector",
    response_model=Connector,
    dependencies=[_OPERATORS],
    responses={
        **problems(
            {**_NO_STATION, 409: "Another station has that EVSE, or this one has too many connectors", **_TOO_LARGE}
        ),
        200: example(examples.CONNECTOR),
        201: _created("connector", examples.CONNECTOR),
    },
)
async def put_connector(
    stations: Provided,
    station_id: StationInPath,
    connector_id: ConnectorInPath,
    body: Annotated[ConnectorFacts, Body(openapi_examples={"a fast one": {"value": examples.CONNECTOR_FACTS}})],
) -> Response:
    """In place of whatever was known of it. Connector 0 is the station's main meter: it has a rated power only.

    Readings are plausible up to the rated power; it holds for sessions that begin from now on. OCPI CDRs of its charges
    need all but the rated power.
    """
    connector, created = await stations.service.put_connector(station_id, connector_id, body)
    return _put(connector, created, f"{PATH}/{quote(station_id)}/connectors/{connector_id}")


@router.delete(
    "/{station_id}/connectors/{connector_id}",
    status_code=204,
    summary="Remove a connector",
    dependencies=[_OPERATORS],
    responses=problems(_NO_CONNECTOR),
)
async def delete_connector(stations: Provided, station_id: KnownStationInPath, connector_id: ConnectorInPath) -> None:
    """What is plausible for it is then the worker's default."""
    await stations.service.delete_connector(station_id, connector_id)


def _put(answer: Station | Connector, created: bool, place: str) -> Response:
    headers = {"Location": place} if created else None
    return Response(answer.model_dump_json(), 201 if created else 200, headers, JSON)
