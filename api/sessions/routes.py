"""The session queries over HTTP. Thin: parameters in, one call of the service, one answer out."""

from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import Response

from api.edge import CursorInQuery, SessionId, StationId, problems
from api.instants import Instant
from api.paging import link_header, next_url
from api.sessions import examples
from api.sessions.models import Session, SessionPage, SessionState
from api.sessions.service import SessionService
from api.sessions.store import SessionFilter
from kit.auth import require_operator
from kit.problem import MEDIA_TYPE

SESSIONS_MAX: Final = 1_000  # ~450 B each: 450 kB
SESSIONS_DEFAULT: Final = 100
_JSON: Final = "application/json"


class SessionRoutes:
    """The handlers, and where they stand."""

    def __init__(self, service: SessionService) -> None:
        self._service = service

    def router(self) -> APIRouter:
        """All operations, for operators only."""
        router = APIRouter(prefix="/api/v1/sessions", tags=["sessions"], dependencies=[Depends(require_operator)])
        router.add_api_route(
            "",
            self.many,
            summary="Sessions, newest first",
            response_model=SessionPage,
            responses={**problems({}), 200: _example(examples.PAGE)},
        )
        router.add_api_route(
            "/{id}",
            self.one,
            summary="A session, by voltstream's id or the device's",
            responses={
                **problems({404: "No such session"}),
                200: _example(examples.SESSION),
                409: {
                    "description": "Several sessions have that device's id; `candidates` lists them",
                    "content": {
                        MEDIA_TYPE: {
                            "schema": {"$ref": "#/components/schemas/Problem"},
                            "example": examples.CANDIDATES,
                        }
                    },
                },
            },
        )
        return router

    async def one(
        self, id: SessionId, station_id: Annotated[StationId | None, Query(description="only of this station")] = None
    ) -> Session:
        """An id that is both is taken as voltstream's."""
        return await self._service.one(id, station_id)

    async def many(
        self,
        request: Request,
        station_id: Annotated[StationId | None, Query(description="default: all")] = None,
        start: Annotated[Instant | None, Query(alias="from", description="started then or later")] = None,
        end: Annotated[Instant | None, Query(alias="to", description="started before")] = None,
        state: Annotated[SessionState | None, Query(description="default: both")] = None,
        limit: Annotated[int, Query(ge=1, le=SESSIONS_MAX, description="sessions on a page")] = SESSIONS_DEFAULT,
        cursor: CursorInQuery = None,
    ) -> Response:
        """Ordered by start, newest first. Pages never repeat a session, whatever begins meanwhile."""
        wanted = SessionFilter(station_id, start, end, state)
        sessions, key = await self._service.many(wanted, limit, cursor)
        page = SessionPage(sessions=list(sessions), next=next_url(request.url, key))
        return Response(page.model_dump_json(), headers=link_header(page.next), media_type=_JSON)


def _example(value: Any) -> dict[str, Any]:
    return {"content": {_JSON: {"example": value}}}
