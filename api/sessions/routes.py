"""Sessions over HTTP. Thin: parameters in, one call of a service, one answer out."""

from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import Response

from api.edge import CursorInQuery, SessionId, StationId, problems
from api.instants import Instant
from api.paging import link_header, next_url
from api.sessions import examples
from api.sessions.models import (
    DriverId,
    Requested,
    Session,
    SessionPage,
    SessionReadings,
    SessionState,
    Start,
    StopRequested,
)
from api.sessions.request_store import SCHEMA
from api.sessions.requests import Charging
from api.sessions.service import SessionService
from api.sessions.store import SessionFilter
from kit.auth.authenticator import require_kinds, require_operator
from kit.auth.token_store import Principal
from kit.database.postgres import Database
from kit.messaging.outbox import Transaction
from kit.web.idempotency import Idempotent, StoredResponse
from kit.web.problem import MEDIA_TYPE, Problem

PATH: Final = "/api/v1/sessions"
SESSIONS_MAX: Final = 1_000  # ~800 B each: 800 kB
SESSIONS_DEFAULT: Final = 100
_JSON: Final = "application/json"
_FORBIDDEN: Final = {403: "This is for operators and drivers"}
_UNKNOWN: Final = {404: "No such session, or not yours"}

# Who is both is an operator here.
_MAY: Final = require_kinds("operator", "driver")
Who = Annotated[Principal, Depends(_MAY)]


class SessionRoutes:
    """The handlers, and where they stand."""

    def __init__(self, service: SessionService, charging: Charging, database: Database) -> None:
        """`database`: where the wishes to start and stop are written."""
        self._service = service
        self._charging = charging
        self._database = database

    def router(self) -> APIRouter:
        """All operations, for operators, and for drivers as far as their own sessions go."""
        router = APIRouter(prefix=PATH, tags=["sessions"], dependencies=[Depends(_MAY)])
        router.add_api_route(
            "",
            self.many,
            summary="Sessions, newest first",
            response_model=SessionPage,
            responses={**problems(_FORBIDDEN), 200: _example(examples.PAGE)},
        )
        router.add_api_route(
            "",
            self.start,
            methods=["POST"],
            status_code=202,
            summary="Ask a station to charge",
            response_model=Requested,
            responses={
                **problems(
                    {
                        403: "Another driver's, or a station that the token is not for",
                        409: "The driver or the connector has a request or a session open",
                    }
                ),
                202: _example(examples.REQUESTED),
            },
        )
        router.add_api_route(
            "/{id}",
            self.one,
            summary="A session, by voltstream's id, its request's or the device's",
            responses={
                **problems({**_FORBIDDEN, **_UNKNOWN}),
                200: {"content": {_JSON: {"examples": examples.SESSIONS}}},
                409: _several(),
            },
        )
        router.add_api_route(
            "/{id}/readings",
            self.readings,
            summary="All stored readings of a session",
            response_model=SessionReadings,
            dependencies=[Depends(require_operator)],
            responses={**problems(_UNKNOWN), 200: _example(examples.READINGS), 409: _several()},
        )
        router.add_api_route(
            "/{id}/stop",
            self.stop,
            methods=["POST"],
            status_code=202,
            summary="Ask a station to stop",
            response_model=StopRequested,
            responses={**problems({**_FORBIDDEN, **_UNKNOWN}), 202: _example(examples.STOPPED), 409: _several()},
        )
        return router

    async def one(
        self,
        who: Who,
        id: SessionId,
        station_id: Annotated[StationId | None, Query(description="only of this station")] = None,
    ) -> Session:
        """An id that is both is taken as voltstream's. A driver sees only their own; the cost is that to date."""
        return await self._service.one(id, station_id, _driver(who))

    async def readings(self, id: SessionId) -> Response:
        """For operators and for audits: by the rules of ADR 9 they give the session's consumption and cost again."""
        found = await self._service.readings(id)
        return Response(found.model_dump_json(), media_type=_JSON)

    async def many(
        self,
        who: Who,
        request: Request,
        station_id: Annotated[StationId | None, Query(description="default: all")] = None,
        start: Annotated[Instant | None, Query(alias="from", description="started (asked for) then or later")] = None,
        end: Annotated[Instant | None, Query(alias="to", description="started (asked for) before")] = None,
        state: Annotated[SessionState | None, Query(description="default: all, but for those not started")] = None,
        driver_id: Annotated[DriverId | None, Query(description="whose; a driver has only their own")] = None,
        limit: Annotated[int, Query(ge=1, le=SESSIONS_MAX, description="sessions on a page")] = SESSIONS_DEFAULT,
        cursor: CursorInQuery = None,
    ) -> Response:
        """Ordered by start, newest first; pages never repeat a session, whatever begins meanwhile.

        Sessions of one driver, and those requested or expired, are told from the requests for them: with those that
        have not started, and ordered by when they were asked for. A page of those may have less than `limit` before
        the last.
        """
        wanted = SessionFilter(station_id, start, end, state)
        if who.kind == "driver" and driver_id not in (None, who.driver_id):
            raise Problem(403, "a driver has only their own sessions; leave driver_id out")
        sessions, key = await self._service.many(wanted, driver_id, limit, cursor, _driver(who))
        page = SessionPage(sessions=list(sessions), next=next_url(request.url, key))
        return Response(page.model_dump_json(), headers=link_header(page.next), media_type=_JSON)

    async def start(self, who: Who, wish: Start, once: Idempotent) -> Response:
        """Accepted: the station is told (`session.requested.v1`). Ask for the session by its `request_id`.

        A driver asks for themself, an operator for whom `driver_id` says. If no session comes of it within 15 minutes,
        it expires.
        """
        driver_id = _for_whom(who, wish)

        async def work(connection: Transaction) -> StoredResponse:
            requested = await self._charging.start(connection, wish, driver_id, _actor(who))
            body = requested.model_dump_json().encode()
            return StoredResponse(202, body, location=f"{PATH}/{requested.request_id}")

        return await once.do(self._database, SCHEMA, work)

    async def stop(
        self,
        who: Who,
        id: SessionId,
        once: Idempotent,
        station_id: Annotated[StationId | None, Query(description="only of this station")] = None,
    ) -> Response:
        """Accepted: the station is told once (`session.stop_requested.v1`), however often this is asked for."""
        found = await self._service.find(id, station_id, _driver(who))

        async def work(connection: Transaction) -> StoredResponse:
            stopped = await self._charging.stop(connection, found, _driver(who), _actor(who))
            return StoredResponse(202, stopped.model_dump_json().encode())

        return await once.do(self._database, SCHEMA, work)


def _driver(who: Principal) -> str | None:
    return who.driver_id if who.kind == "driver" else None


def _actor(who: Principal) -> str:
    return f"{who.kind}/{who.subject or who.token_id}"


def _for_whom(who: Principal, wish: Start) -> str:
    if not who.covers(wish.station_id):
        raise Problem(403, f"the token is not for station {wish.station_id}")
    driver_id = _driver(who)
    if driver_id is None:
        if wish.driver_id is None:
            raise Problem(422, "body/driver_id: an operator says for whom")
        return wish.driver_id
    if wish.driver_id not in (None, driver_id):
        raise Problem(403, "a driver asks for themself; leave driver_id out")
    return driver_id


def _example(value: Any) -> dict[str, Any]:
    return {"content": {_JSON: {"example": value}}}


def _several() -> dict[str, Any]:
    schema = {"$ref": "#/components/schemas/Problem"}
    return {
        "description": "Several sessions have that device's id; `candidates` lists them",
        "content": {MEDIA_TYPE: {"schema": schema, "example": examples.CANDIDATES}},
    }
