"""Exclusions over HTTP."""

from typing import Annotated, Final
from uuid import UUID

from fastapi import APIRouter, Body, Path, Query, Request
from fastapi.responses import Response

from api.reporting.components import Provided
from api.reporting.exclusions import examples
from api.reporting.exclusions.models import Exclusion, ExclusionPage, NewExclusion
from api.reporting.exclusions.store import ExclusionFilter
from api.reporting.parameters import Editor, Reader
from api.reporting.schema import SCHEMA
from kit.auth.stations import check_use
from kit.clock import format_rfc3339
from kit.instants import Instant
from kit.messaging.outbox import Transaction
from kit.web.errors import BadQuery
from kit.web.idempotency import Idempotent, StoredResponse
from kit.web.json_body import JsonRoute
from kit.web.paging import link_header, next_url
from kit.web.parameters import JSON, CursorInQuery, example, problems
from schemas.identifiers import StationId

PATH: Final = "/api/v1/uptime/exclusions"
EXCLUSIONS_MAX: Final = 1_000  # ~900 B each at the most: 900 kB
EXCLUSIONS_DEFAULT: Final = 100

router = APIRouter(prefix=PATH, tags=["reports"], route_class=JsonRoute)


@router.get(
    "",
    summary="Outage that does not count, newest entry first",
    response_model=ExclusionPage,
    responses={200: example(examples.PAGE)},
)
async def exclusions(
    reporting: Provided,
    caller: Reader,
    request: Request,
    station_id: Annotated[StationId | None, Query(description="only of this station")] = None,
    start: Annotated[Instant | None, Query(alias="from", description="that end later")] = None,
    end: Annotated[Instant | None, Query(alias="to", description="that begin before")] = None,
    limit: Annotated[int, Query(ge=1, le=EXCLUSIONS_MAX, description="on a page")] = EXCLUSIONS_DEFAULT,
    cursor: CursorInQuery = None,
) -> Response:
    """Withdrawn ones too, with who withdrew them and when."""
    if start is not None and end is not None and start >= end:
        raise BadQuery(f"from ({format_rfc3339(start)}) must be before to ({format_rfc3339(end)})")
    found, key = await reporting.exclusions.page(ExclusionFilter(station_id, start, end, caller.only), limit, cursor)
    page = ExclusionPage(exclusions=list(found), next=next_url(request.url, key))
    return Response(page.model_dump_json(by_alias=True), headers=link_header(page.next), media_type=JSON)


@router.post(
    "",
    status_code=201,
    summary="Enter outage that is not to count",
    response_model=Exclusion,
    responses={**problems({409: "The Idempotency-Key was used for another request"}), 201: example(examples.EXCLUSION)},
)
async def add_exclusion(
    reporting: Provided,
    new: Annotated[NewExclusion, Body(openapi_examples={"utility": {"value": examples.NEW}})],
    operator: Editor,
    once: Idempotent,
) -> Response:
    """For a reason of 23 CFR 680.116(b)(3) only. It counts in reports computed from then on, and takes nothing from a
    time in which the port was up."""

    await check_use(reporting.database, operator, new.station_id)

    async def work(connection: Transaction) -> StoredResponse:
        made = await reporting.exclusions.add(connection, new, operator.name)
        return StoredResponse(201, made.model_dump_json(by_alias=True).encode(), location=f"{PATH}/{made.id}")

    return await once.do(reporting.database, SCHEMA, work)


@router.delete(
    "/{id}",
    summary="Withdraw an exclusion",
    responses={**problems({404: "No such exclusion"}), 200: example(examples.EXCLUSION)},
)
async def withdraw_exclusion(
    reporting: Provided,
    id: Annotated[UUID, Path(openapi_examples={"exclusion": {"value": examples.EXCLUSION["id"]}})],
    operator: Editor,
) -> Exclusion:
    """It stays listed, and counts in no report computed from then on. Of one that is withdrawn already, nothing
    changes."""
    async with reporting.database.transaction() as connection:
        return await reporting.exclusions.withdraw(connection, id, operator.name, operator.only)
