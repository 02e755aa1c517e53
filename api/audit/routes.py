"""The audit over HTTP. Thin: parameters in, one call of the service, one answer out."""

from typing import Annotated, Final

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import Response
from pydantic import StringConstraints

from api.audit import examples
from api.audit.components import Audit
from api.audit.models import AuditPage
from api.audit.store import EntryFilter
from kit.auth.requirements import require_scope
from kit.auth.token_store import Principal
from kit.clock import format_rfc3339
from kit.instants import Instant
from kit.service import provided
from kit.web.errors import BadQuery
from kit.web.json_body import JsonRoute
from kit.web.paging import link_header, next_url
from kit.web.parameters import JSON, CursorInQuery, example
from schemas.identifiers import PRINTABLE

PATH: Final = "/api/v1/audit"
ENTRIES_MAX: Final = 500  # ~1 kB each as a rule; one with a tariff before and after has 128 kB
ENTRIES_DEFAULT: Final = 100

Provided = Annotated[Audit, Depends(provided(Audit))]
Reader = Annotated[Principal, Depends(require_scope("audit:read"))]
Text = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=PRINTABLE)]

router = APIRouter(prefix=PATH, tags=["audit"], route_class=JsonRoute)


@router.get(
    "",
    summary="Who did what, newest first",
    response_model=AuditPage,
    responses={200: example(examples.PAGE)},
)
async def entries(
    audit: Provided,
    _: Reader,
    request: Request,
    actor: Annotated[Text | None, Query(description="only of this actor, as entries name it")] = None,
    action: Annotated[Text | None, Query(description="request, request.refused, or a change: token.issued")] = None,
    endpoint: Annotated[Text | None, Query(description="the route's template: /api/v1/billing/cancel")] = None,
    status: Annotated[int | None, Query(ge=100, le=599, description="of the answer")] = None,
    entity: Annotated[Text | None, Query(description="what was changed: setting/billing.settle_time")] = None,
    correlation_id: Annotated[Text | None, Query(description="of one request")] = None,
    start: Annotated[Instant | None, Query(alias="from", description="then or later")] = None,
    end: Annotated[Instant | None, Query(alias="to", description="before")] = None,
    limit: Annotated[int, Query(ge=1, le=ENTRIES_MAX, description="entries on a page")] = ENTRIES_DEFAULT,
    cursor: CursorInQuery = None,
) -> Response:
    """Every change, and everything that was not allowed. A change of which there is more to say has two entries with
    one `correlation_id`: its own, with what was before and after, written together with it, and the request's, with
    the status of the answer. Readings that are posted are counted, not listed.
    """
    if start is not None and end is not None and start >= end:
        raise BadQuery(f"from ({format_rfc3339(start)}) must be before to ({format_rfc3339(end)})")
    wanted = EntryFilter(actor, action, endpoint, status, entity, correlation_id, start, end)
    found, key = await audit.service.page(wanted, limit, cursor)
    page = AuditPage(entries=found, next=next_url(request.url, key))
    return Response(page.model_dump_json(), headers=link_header(page.next), media_type=JSON)
