"""Sessions over HTTP. Thin: parameters in, one call of a service, one response out."""

from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import Response

from api.sessions import examples
from api.sessions.components import SessionsComponents
from api.sessions.models import (
    Session,
    SessionPage,
    SessionReadings,
    SessionRequest,
    SessionRequestAccepted,
    SessionState,
    StopAccepted,
)
from api.sessions.request_store import SCHEMA
from api.sessions.settings import REMOTE_START
from api.sessions.store import SessionFilter
from kit.auth.requirements import require_scope
from kit.auth.stations import check_use
from kit.auth.token_store import Principal
from kit.config.flags import FlagSubject
from kit.instants import Instant
from kit.messaging.outbox import Transaction
from kit.service import provided
from kit.web.errors import BadQuery, Forbidden
from kit.web.idempotency import Idempotent, StoredResponse
from kit.web.json_body import JsonRoute
from kit.web.paging import link_header, next_url
from kit.web.parameters import JSON, CursorInQuery, example, problems
from kit.web.problem import MEDIA_TYPE
from schemas.identifiers import DriverId, SessionId, StationId

PATH: Final = "/api/v1/sessions"
SESSIONS_MAX: Final = 1_000  # ~800 B each: 800 kB
SESSIONS_DEFAULT: Final = 100
_FORBIDDEN: Final = {403: "A token without the scope, or for other stations, or another driver's"}
_UNKNOWN: Final = {404: "No such session, or not yours"}
_SEVERAL: Final[dict[str, Any]] = {
    "description": "Several sessions have that device's id; `candidates` lists them",
    "content": {
        MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}, "example": examples.CANDIDATES},
    },
}

Provided = Annotated[SessionsComponents, Depends(provided(SessionsComponents))]
Reader = Annotated[Principal, Depends(require_scope("sessions:read", heeds_stations=True))]
Caller = Annotated[Principal, Depends(require_scope("sessions:write", heeds_stations=True))]
Viewer = Annotated[Principal, Depends(require_scope("telemetry:read", heeds_stations=True))]

router = APIRouter(prefix=PATH, tags=["sessions"], route_class=JsonRoute)


@router.get(
    "",
    name="many",  # part of the published operationId
    summary="Sessions, newest first",
    response_model=SessionPage,
    responses={**problems(_FORBIDDEN), 200: example(examples.PAGE)},
)
async def list_sessions(
    sessions: Provided,
    caller: Reader,
    request: Request,
    station_id: Annotated[StationId | None, Query(description="default: all")] = None,
    start: Annotated[Instant | None, Query(alias="from", description="started (requested) then or later")] = None,
    end: Annotated[Instant | None, Query(alias="to", description="started (requested) before")] = None,
    state: Annotated[SessionState | None, Query(description="default: all that have started")] = None,
    driver_id: Annotated[DriverId | None, Query(description="only of this driver; a driver has only their own")] = None,
    limit: Annotated[int, Query(ge=1, le=SESSIONS_MAX, description="sessions on a page")] = SESSIONS_DEFAULT,
    cursor: CursorInQuery = None,
) -> Response:
    """Ordered by start, newest first; pages never repeat a session, whatever begins meanwhile.

    Sessions of one driver, and those requested or expired, are found by their requests: with those that have not
    started, and ordered by the time of the request. A page of those may have less than `limit` before the last.
    """
    if caller.kind == "driver" and driver_id not in (None, caller.driver_id):
        raise Forbidden("a driver has only their own sessions; leave driver_id out")
    selected = SessionFilter(station_id, start, end, state, caller.only)
    found, key = await sessions.service.list_sessions(selected, driver_id, limit, cursor, caller.own_driver)
    page = SessionPage(sessions=list(found), next=next_url(request.url, key))
    return Response(page.model_dump_json(), headers=link_header(page.next), media_type=JSON)


@router.post(
    "",
    status_code=202,
    summary="Ask a station to charge",
    response_model=SessionRequestAccepted,
    responses={
        **problems(
            {
                403: "Another driver's, a station that the token is not for, or starting is switched off",
                404: "The station is not one of the token's organisation",
                409: "The driver or the connector has a request or a session open, or another driver reserved it",
            }
        ),
        202: example(examples.REQUESTED),
    },
)
async def start(sessions: Provided, caller: Caller, new: SessionRequest, once: Idempotent) -> Response:
    """Accepted: `session.requested.v1` asks the station. The session can be asked for by its `request_id`.

    A driver requests for themself, an operator for the driver whom `driver_id` names. If no session comes of it within
    15 minutes, it expires. Operators may switch starting off by the flag `sessions.remote_start`, for drivers or for
    themselves, and by station; a plug started at the station itself charges as ever.
    """
    await check_use(sessions.database, caller, new.station_id)
    driver_id = _driver_of(caller, new)

    async def work(connection: Transaction) -> StoredResponse:
        if not sessions.may_start(FlagSubject(station_id=new.station_id, role=caller.kind)):
            raise Forbidden(
                f"{caller.kind}s cannot start at {new.station_id} now: operators switched it off ({REMOTE_START})"
            )
        accepted = await sessions.requests.start(connection, new, driver_id, caller.name, caller.only)
        body = accepted.model_dump_json().encode()
        return StoredResponse(202, body, location=f"{PATH}/{accepted.request_id}")

    return await once.do(sessions.database, SCHEMA, work)


@router.get(
    "/{id}",
    name="one",  # part of the published operationId
    summary="A session, by voltstream's id, its request's or the device's",
    responses={
        **problems({**_FORBIDDEN, **_UNKNOWN}),
        200: {"content": {JSON: {"examples": examples.SESSIONS}}},
        409: _SEVERAL,
    },
)
async def get_session(
    sessions: Provided,
    caller: Reader,
    id: SessionId,
    station_id: Annotated[StationId | None, Query(description="only of this station")] = None,
) -> Session:
    """An id that is both is taken as voltstream's. A driver sees only their own; the cost is that to date."""
    return await sessions.service.get_session(id, station_id, caller.own_driver, caller.only)


@router.get(
    "/{id}/readings",
    summary="All stored readings of a session",
    response_model=SessionReadings,
    responses={**problems(_UNKNOWN), 200: example(examples.READINGS), 409: _SEVERAL},
)
async def readings(sessions: Provided, caller: Viewer, id: SessionId) -> Response:
    """For operators and for audits: the session's consumption and cost follow from them by the rules of ADR 9."""
    found = await sessions.service.readings(id, caller.only)
    return Response(found.model_dump_json(), media_type=JSON)


@router.post(
    "/{id}/stop",
    status_code=202,
    summary="Ask a station to stop",
    response_model=StopAccepted,
    responses={**problems({**_FORBIDDEN, **_UNKNOWN}), 202: example(examples.STOPPED), 409: _SEVERAL},
)
async def stop(
    sessions: Provided,
    caller: Caller,
    id: SessionId,
    once: Idempotent,
    station_id: Annotated[StationId | None, Query(description="only of this station")] = None,
) -> Response:
    """Accepted: `session.stop_requested.v1` asks the station, once, however often this is repeated."""
    found = await sessions.service.find(id, station_id, caller.own_driver, caller.only)

    async def work(connection: Transaction) -> StoredResponse:
        accepted = await sessions.requests.stop(connection, found, caller.own_driver, caller.name)
        return StoredResponse(202, accepted.model_dump_json().encode())

    return await once.do(sessions.database, SCHEMA, work)


def _driver_of(caller: Principal, new: SessionRequest) -> str:
    """The driver for whom a charge is requested."""
    driver_id = caller.own_driver
    if driver_id is None:
        if new.driver_id is None:
            raise BadQuery("body/driver_id: an operator names the driver")
        return new.driver_id
    if new.driver_id not in (None, driver_id):
        raise Forbidden("a driver requests for themself; leave driver_id out")
    return driver_id
