"""Tariffs over HTTP. Thin: parameters in, one call of the service, one answer out.

Literal paths are registered before `/{station_id}`; a station of such a name is reached in upper case
(/pricing/VERSIONS).
"""

from typing import Annotated, Any, Final
from uuid import UUID

from fastapi import APIRouter, Body, Depends, Path, Query, Request
from fastapi.responses import Response

from api.edge import CursorInQuery, StationId, StationInPath, problems
from api.errors import BadQuery
from api.instants import Instant
from api.paging import link_header, next_url
from api.pricing import examples
from api.pricing.answers import encoded, in_force_answer, version_answer
from api.pricing.models import (
    DEFAULT,
    Group,
    GroupAnswer,
    GroupMembers,
    GroupReplaced,
    InForce,
    NewVersion,
    Target,
    Version,
    VersionPage,
)
from api.pricing.service import PricingService
from api.pricing.store import SCHEMA
from kit.auth.authenticator import require_kinds
from kit.auth.token_store import Principal
from kit.database.postgres import Database
from kit.messaging.outbox import Transaction
from kit.web.exact_json import ExactJsonRoute
from kit.web.idempotency import Idempotent, StoredResponse
from kit.web.rules import BODY_BYTES_MAX

PREFIX: Final = "/api/v1/pricing"
VERSIONS_MAX: Final = 100  # of 150 kB at most, of ~1 kB as a rule
VERSIONS_DEFAULT: Final = 20
_JSON: Final = "application/json"
_TOO_LARGE: Final = {413: f"The body is larger than {BODY_BYTES_MAX // 1024} KiB"}

Operator = Annotated[Principal, Depends(require_kinds("operator"))]
_READERS: Final = Depends(require_kinds("operator", "finance"))
_ALL_BUT_DEVICES: Final = Depends(require_kinds("operator", "finance", "driver"))
GroupInPath = Annotated[Group, Path(openapi_examples={"group": {"value": "airport"}})]


class PricingRoutes:
    """The handlers, and where they stand."""

    def __init__(self, service: PricingService, database: Database) -> None:
        self._service = service
        self._database = database

    def router(self) -> APIRouter:
        """Publishing and groups are for operators, history also for finance, what is in force for drivers too."""
        router = APIRouter(prefix=PREFIX, tags=["pricing"], route_class=ExactJsonRoute)
        router.add_api_route(
            "",
            self.publish,
            methods=["POST"],
            status_code=201,
            summary="Publish a tariff",
            response_model=Version,
            responses={**problems({409: "The Idempotency-Key was used otherwise", **_TOO_LARGE}), 201: _CREATED},
        )
        router.add_api_route(
            "/versions",
            self.versions,
            summary="Every version there ever was, published last first",
            response_model=VersionPage,
            dependencies=[_READERS],
            responses={**problems({}), 200: example(examples.VERSION_PAGE)},
        )
        router.add_api_route(
            "/versions/{id}",
            self.version,
            summary="A version",
            response_model=Version,
            dependencies=[_READERS],
            responses={**problems({404: "No such version"}), 200: example(examples.VERSION)},
        )
        router.add_api_route(
            "/groups/{group}",
            self.group,
            summary="The stations of a group",
            dependencies=[_READERS],
            responses={**problems({404: "No such group"}), 200: example(examples.GROUP)},
        )
        router.add_api_route(
            "/groups/{group}",
            self.replace_group,
            methods=["PUT"],
            summary="Say which stations a group has",
            dependencies=[Depends(require_kinds("operator"))],
            responses={**problems(_TOO_LARGE), 200: example(examples.GROUP_REPLACED)},
        )
        router.add_api_route(
            "/{station_id}",
            self.in_force,
            summary="The tariff in force at a station",
            response_model=InForce,
            dependencies=[_ALL_BUT_DEVICES],
            responses={**problems({404: "No tariff applies there then"}), 200: example(examples.IN_FORCE)},
        )
        return router

    async def publish(
        self,
        body: Annotated[NewVersion, Body(openapi_examples={"a station's": {"value": examples.NEW_VERSION}})],
        operator: Operator,
        once: Idempotent,
    ) -> Response:
        """A new version of the target's tariff, from a moment on. Nothing that was published is ever changed.

        A session is priced by what is in force when it begins. Of a station's own tariff, its group's and the default
        the first that has a version in force counts, and of its versions the one that is effective last, of equals the
        one published last. The tariff's own `start_date_time` and `end_date_time` bound it further.
        """

        async def work(connection: Transaction) -> StoredResponse:
            row = await self._service.publish(connection, body, operator)
            return StoredResponse(201, encoded(version_answer(row)), location=f"{PREFIX}/versions/{row['id']}")

        return await once.do(self._database, SCHEMA, work)

    async def in_force(
        self,
        station_id: StationInPath,
        at: Annotated[Instant | None, Query(description="default: now")] = None,
    ) -> Response:
        """What a session that begins there then is priced by, and when that changes next, as far as it is known."""
        moment, row, change = await self._service.in_force(station_id, at)
        return _json(in_force_answer(station_id, moment, row, change))

    async def version(self, id: UUID) -> Response:
        """As it was published: it never changes."""
        return _json(version_answer(await self._service.version(id)))

    async def versions(
        self,
        request: Request,
        station_id: Annotated[StationId | None, Query(description="only of this station's own")] = None,
        group: Annotated[Group | None, Query(description="only of this group's")] = None,
        default: Annotated[bool, Query(description="only of the default's")] = False,
        limit: Annotated[int, Query(ge=1, le=VERSIONS_MAX, description="versions on a page")] = VERSIONS_DEFAULT,
        cursor: CursorInQuery = None,
    ) -> Response:
        """Of one target, or of all. Pages never repeat a version, whatever is published meanwhile."""
        target = _one_target(station_id, group, default)
        rows, key = await self._service.versions(target, limit, cursor)
        following = next_url(request.url, key)
        page = {"versions": [version_answer(row) for row in rows], "next": following}
        return Response(encoded(page), headers=link_header(following), media_type=_JSON)

    async def group(self, group: GroupInPath) -> GroupAnswer:
        """In order."""
        return GroupAnswer(group=group, stations=list(await self._service.members(group)))

    async def replace_group(
        self,
        group: GroupInPath,
        body: Annotated[GroupMembers, Body(openapi_examples={"two": {"value": examples.MEMBERS}})],
    ) -> GroupReplaced:
        """These and no others. A station is in one group: it leaves the one it was in, which `moved` tells."""
        return await self._service.replace_members(group, body.stations)


def example(value: Any) -> dict[str, Any]:
    """Of an answer in OpenAPI."""
    return {"content": {_JSON: {"example": value}}}


_CREATED: Final[dict[str, Any]] = {
    **example(examples.VERSION),
    "headers": {"Location": {"description": "of the version", "schema": {"type": "string"}}},
}


def _one_target(station_id: str | None, group: str | None, default: bool) -> Target | None:
    named = [Target("station", station_id)] if station_id is not None else []
    named += [Target("group", group)] if group is not None else []
    named += [DEFAULT] if default else []
    if len(named) > 1:
        raise BadQuery("give one of station_id, group and default, or none for all versions")
    return named[0] if named else None


def _json(answer: object) -> Response:
    return Response(encoded(answer), media_type=_JSON)
