"""Stations over HTTP. Thin: parameters in, one call of the service, one response out."""

from typing import Annotated, Any, Final
from urllib.parse import quote

from fastapi import APIRouter, Body, Path, Query, Request
from fastapi.responses import Response

from api.parameters import KnownStationInPath, StationInPath
from api.stations.components import LOCATES, PATH, READS, Editor, Provided, Reader
from api.stations.registry import examples
from api.stations.registry.models import (
    Connector,
    ConnectorFacts,
    NewStation,
    Station,
    StationDocument,
    StationHistory,
    StationPage,
)
from api.stations.registry.store import SCHEMA
from kit.messaging.outbox import Transaction
from kit.web.idempotency import Idempotent, StoredResponse
from kit.web.json_body import ExactJsonRoute
from kit.web.paging import link_header, next_url
from kit.web.parameters import JSON, CursorInQuery, example, problems
from kit.web.route_rules import BODY_BYTES_MAX
from kit.web.versions import ETAG, IfMatch, etag, version_of
from schemas.reading import CONNECTOR_ID_MAX

STATIONS_MAX: Final = 1_000  # ~500 B each: 500 kB
STATIONS_DEFAULT: Final = 100
CHANGES_MAX: Final = 20  # two whole stations each: of the largest 150 kB, of most 2 kB
_TOO_LARGE: Final = {413: f"The body is larger than {BODY_BYTES_MAX // 1024} KiB"}
_NO_STATION: Final = {404: "The station is not registered"}
_NO_CONNECTOR: Final = {404: "The connector is not registered"}
_VERSIONS: Final = {412: "The station has changed since that version", 428: "If-Match is missing"}
_EVSE_TAKEN: Final = {409: "Another station has that EVSE, or this one has too many connectors"}

ConnectorInPath = Annotated[
    int,
    Path(ge=0, le=CONNECTOR_ID_MAX, description="as readings number it", openapi_examples={"first": {"value": 1}}),
]

router = APIRouter(prefix=PATH, tags=["stations"], route_class=ExactJsonRoute)


def _shown(value: Any) -> dict[str, Any]:
    """The description of an answer with an ETag."""
    return {**example(value), "headers": ETAG}


def _created(what: str, value: Any) -> dict[str, Any]:
    """The description of a 201."""
    location = {"Location": {"description": f"of the {what}", "schema": {"type": "string"}}}
    return {**example(value), "description": f"The {what} is new", "headers": {**location, **ETAG}}


@router.get(
    "",
    summary="Stations, by their ids",
    response_model=StationPage,
    responses={200: example(examples.PAGE)},
)
async def list_stations(
    stations: Provided,
    reader: Reader,
    request: Request,
    limit: Annotated[int, Query(ge=1, le=STATIONS_MAX, description="stations on a page")] = STATIONS_DEFAULT,
    cursor: CursorInQuery = None,
) -> Response:
    """Without details and connectors. Pages never repeat a station, whatever is registered meanwhile."""
    found, key = await stations.registry.stations(limit, cursor, reader.only)
    page = StationPage(stations=list(found), next=next_url(request.url, key))
    return Response(page.model_dump_json(), headers=link_header(page.next), media_type=JSON)


@router.post(
    "",
    status_code=201,
    summary="Register a new station",
    response_model=Station,
    responses={
        **problems({409: "It is registered already, another has that EVSE, or the Idempotency-Key", **_TOO_LARGE}),
        201: _created("station", examples.STATION),
    },
)
async def add_station(
    stations: Provided,
    body: Annotated[NewStation, Body(openapi_examples={"a station": {"value": examples.NEW_STATION}})],
    operator: Editor,
    once: Idempotent,
) -> Response:
    """With its connectors and bays. One that was retired goes on with its history."""

    async def work(connection: Transaction) -> StoredResponse:
        station = await stations.registry.add(connection, body, operator)
        location = f"{PATH}/{quote(station.station_id, safe='')}"
        return StoredResponse(201, station.model_dump_json().encode(), location=location)

    return await once.do(stations.database, SCHEMA, work)


@router.get(
    "/{station_id}",
    summary="A station and its connectors",
    response_model=Station,
    dependencies=[LOCATES],
    responses={**problems(_NO_STATION), 200: _shown(examples.STATION)},
)
async def get_station(stations: Provided, station_id: KnownStationInPath) -> Response:
    """As operators registered it, with the ETag that a change needs. Readings are taken from stations that are not
    registered, too."""
    station = await stations.registry.station(station_id)
    return Response(station.model_dump_json(), headers=etag(station.revision), media_type=JSON)


@router.put(
    "/{station_id}",
    summary="Register a station, or replace what is known of it",
    response_model=Station,
    responses={
        **problems({**_VERSIONS, **_EVSE_TAKEN, **_TOO_LARGE}),
        200: _shown(examples.STATION),
        201: _created("station", examples.STATION),
    },
)
async def put_station(
    stations: Provided,
    station_id: StationInPath,
    body: Annotated[StationDocument, Body(openapi_examples={"a station": {"value": examples.DOCUMENT}})],
    operator: Editor,
    if_match: IfMatch = None,
) -> Response:
    """In place of whatever was known of it; connectors that are left out stay. An id is compared without case.

    A station that is registered already is changed only with its ETag. OCPI CDRs of its charges need its address, city,
    country and position. A token of an organisation changes that organisation's stations, which stay its own, and
    registers no others.
    """
    station, created = await stations.registry.put_station(station_id, version_of(if_match), body, operator)
    return _put(station, station.revision, created, f"{PATH}/{quote(station_id, safe='')}")


@router.delete(
    "/{station_id}",
    status_code=204,
    summary="Retire a station",
    responses=problems({**_NO_STATION, **_VERSIONS}),
)
async def retire_station(
    stations: Provided, station_id: KnownStationInPath, operator: Editor, if_match: IfMatch = None
) -> None:
    """With its connectors. Its history, readings, sessions and charges stay, and it may be registered again."""
    await stations.registry.retire(station_id, version_of(if_match), operator)


@router.get(
    "/{station_id}/history",
    summary="What was changed, newest first",
    response_model=StationHistory,
    dependencies=[READS],
    responses={**problems({404: "There never was such a station"}), 200: example(examples.HISTORY)},
)
async def get_history(
    stations: Provided,
    request: Request,
    station_id: KnownStationInPath,
    limit: Annotated[int, Query(ge=1, le=CHANGES_MAX, description="changes on a page")] = CHANGES_MAX,
    cursor: CursorInQuery = None,
) -> Response:
    """Who changed what of the station or its connectors, when, and from what to what; of a retired station too."""
    changes, key = await stations.registry.history(station_id, limit, cursor)
    page = StationHistory(changes=list(changes), next=next_url(request.url, key))
    return Response(page.model_dump_json(), headers=link_header(page.next), media_type=JSON)


@router.get(
    "/{station_id}/connectors/{connector_id}",
    summary="A connector",
    response_model=Connector,
    dependencies=[LOCATES],
    responses={**problems(_NO_CONNECTOR), 200: _shown(examples.CONNECTOR)},
)
async def get_connector(stations: Provided, station_id: KnownStationInPath, connector_id: ConnectorInPath) -> Response:
    """As operators registered it. The ETag is its station's."""
    connector, revision = await stations.registry.connector(station_id, connector_id)
    return Response(connector.model_dump_json(), headers=etag(revision), media_type=JSON)


@router.put(
    "/{station_id}/connectors/{connector_id}",
    summary="Register a connector, or replace what is known of it",
    response_model=Connector,
    responses={
        **problems({**_NO_STATION, **_EVSE_TAKEN, **_VERSIONS, **_TOO_LARGE}),
        200: _shown(examples.CONNECTOR),
        201: _created("connector", examples.CONNECTOR),
    },
)
async def put_connector(
    stations: Provided,
    station_id: StationInPath,
    connector_id: ConnectorInPath,
    body: Annotated[ConnectorFacts, Body(openapi_examples={"a fast one": {"value": examples.CONNECTOR_FACTS}})],
    operator: Editor,
    if_match: IfMatch = None,
) -> Response:
    """In place of whatever was known of it. Connector 0 is the station's main meter: it has a rated power only.

    A connector that is registered already is changed only with its station's ETag. Readings are plausible up to the
    rated power; it holds for sessions that begin from now on. OCPI CDRs of its charges need standard, format, power
    type and EVSE.
    """
    version = version_of(if_match)
    connector, revision, created = await stations.registry.put_connector(
        station_id, connector_id, version, body, operator
    )
    return _put(connector, revision, created, f"{PATH}/{quote(station_id, safe='')}/connectors/{connector_id}")


@router.delete(
    "/{station_id}/connectors/{connector_id}",
    status_code=204,
    summary="Remove a connector",
    responses=problems({**_NO_CONNECTOR, **_VERSIONS, 409: "A bay of the station names the connector"}),
)
async def delete_connector(
    stations: Provided,
    station_id: KnownStationInPath,
    connector_id: ConnectorInPath,
    operator: Editor,
    if_match: IfMatch = None,
) -> None:
    """What is plausible for it is then the worker's default."""
    await stations.registry.delete_connector(station_id, connector_id, version_of(if_match), operator)


def _put(answer: Station | Connector, revision: int, created: bool, place: str) -> Response:
    headers = {**etag(revision), **({"Location": place} if created else {})}
    return Response(answer.model_dump_json(), 201 if created else 200, headers, JSON)
