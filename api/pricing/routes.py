"""Tariffs over HTTP. Thin: parameters in, one call of the service, one response out.

Literal paths stand before `/{station_id}`; a station of such a name is reached in upper case
(/pricing/VERSIONS).
"""

from typing import Annotated, Any, Final
from uuid import UUID

from fastapi import APIRouter, Body, Depends, Query, Request
from fastapi.responses import Response

from api.names import GroupName
from api.parameters import StationInPath
from api.pricing import examples
from api.pricing.components import PricingComponents
from api.pricing.documents.idle_elements import idle_elements
from api.pricing.models import (
    DEFAULT,
    InForce,
    NewVersion,
    PublishedVersion,
    TariffTarget,
    Version,
    VersionPage,
)
from api.pricing.responses import encoded, in_force_response, version_response
from api.pricing.store import SCHEMA
from kit.auth.requirements import require_scope
from kit.auth.token_store import Principal
from kit.instants import Instant
from kit.messaging.outbox import Transaction
from kit.service import provided
from kit.web.errors import BadQuery
from kit.web.idempotency import Idempotent, StoredResponse
from kit.web.json_body import ExactJsonRoute
from kit.web.paging import link_header, next_url
from kit.web.parameters import JSON, CursorInQuery, example, problems
from kit.web.route_rules import BODY_BYTES_MAX
from schemas.identifiers import StationId

PREFIX: Final = "/api/v1/pricing"
VERSIONS_MAX: Final = 100  # of 150 kB at most, of ~1 kB as a rule
VERSIONS_DEFAULT: Final = 20
_TOO_LARGE: Final = {413: f"The body is larger than {BODY_BYTES_MAX // 1024} KiB"}

Provided = Annotated[PricingComponents, Depends(provided(PricingComponents))]
Publisher = Annotated[Principal, Depends(require_scope("tariffs:write"))]
_READS: Final = Depends(require_scope("tariffs:read"))
_READS_PRICES: Final = Depends(require_scope("prices:read"))  # as drivers may


_CREATED: Final[dict[str, Any]] = {
    **example(examples.PUBLISHED_VERSION),
    "headers": {"Location": {"description": "of the version", "schema": {"type": "string"}}},
}

router = APIRouter(prefix=PREFIX, tags=["pricing"], route_class=ExactJsonRoute)


@router.post(
    "",
    status_code=201,
    summary="Publish a tariff",
    response_model=PublishedVersion,
    responses={**problems({409: "The Idempotency-Key was used otherwise", **_TOO_LARGE}), 201: _CREATED},
)
async def publish(
    pricing: Provided,
    body: Annotated[NewVersion, Body(openapi_examples={"a station's": {"value": examples.NEW_VERSION}})],
    operator: Publisher,
    once: Idempotent,
) -> Response:
    """A new version of the target's tariff, from a moment on. Nothing that was published is ever changed.

    A session is priced by what is in force when it begins. Of a station's own tariff, its group's and the default
    the first that has a version in force counts, and of its versions the one that is effective last, of equals the
    one published last. The tariff's own `start_date_time` and `end_date_time` bound it further. Its elements are in
    any order; `warnings` lists those that can never count.
    """

    async def work(connection: Transaction) -> StoredResponse:
        row = await pricing.service.publish(connection, body, operator)
        answer = {**version_response(row), "warnings": list(idle_elements(body.tariff))}
        return StoredResponse(201, encoded(answer), location=f"{PREFIX}/versions/{row['id']}")

    return await once.do(pricing.database, SCHEMA, work)


@router.get(
    "/versions",
    summary="All versions, the last published first",
    response_model=VersionPage,
    dependencies=[_READS],
    responses={200: example(examples.VERSION_PAGE)},
)
async def versions(
    pricing: Provided,
    request: Request,
    station_id: Annotated[StationId | None, Query(description="only of this station's own")] = None,
    group: Annotated[GroupName | None, Query(description="only of this group's")] = None,
    default: Annotated[bool, Query(description="only of the default's")] = False,
    limit: Annotated[int, Query(ge=1, le=VERSIONS_MAX, description="versions on a page")] = VERSIONS_DEFAULT,
    cursor: CursorInQuery = None,
) -> Response:
    """Of one target, or of all. Pages never repeat a version, whatever is published meanwhile."""
    target = _one_target(station_id, group, default)
    rows, key = await pricing.service.versions(target, limit, cursor)
    following = next_url(request.url, key)
    page = {"versions": [version_response(row) for row in rows], "next": following}
    return Response(encoded(page), headers=link_header(following), media_type=JSON)


@router.get(
    "/versions/{id}",
    summary="A version",
    response_model=Version,
    dependencies=[_READS],
    responses={**problems({404: "No such version"}), 200: example(examples.VERSION)},
)
async def version(pricing: Provided, id: UUID) -> Response:
    """The version as it was published: it never changes."""
    return _json(version_response(await pricing.service.version(id)))


@router.get(
    "/{station_id}",
    summary="The tariff in force at a station",
    response_model=InForce,
    dependencies=[_READS_PRICES],
    responses={**problems({404: "No tariff applies there then"}), 200: example(examples.IN_FORCE)},
)
async def in_force(
    pricing: Provided,
    station_id: StationInPath,
    at: Annotated[Instant | None, Query(description="default: now")] = None,
) -> Response:
    """The tariff of a session that begins there then, and the next change of it that is known."""
    moment, row, change = await pricing.service.in_force(station_id, at)
    return _json(in_force_response(station_id, moment, row, change))


def _one_target(station_id: str | None, group: str | None, default: bool) -> TariffTarget | None:
    named = [TariffTarget("station", station_id)] if station_id is not None else []
    named += [TariffTarget("group", group)] if group is not None else []
    named += [DEFAULT] if default else []
    if len(named) > 1:
        raise BadQuery("give one of station_id, group and default, or none for all versions")
    return named[0] if named else None


def _json(answer: object) -> Response:
    return Response(encoded(answer), media_type=JSON)
