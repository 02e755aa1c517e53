"""Held charges over HTTP. Thin: parameters in, one call of the service, one answer out."""

from typing import Annotated, Final

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from billing.components import Provided
from billing.held_charges import examples
from billing.held_charges.models import ChargePage, HeldStatus
from billing.parameters import Office
from kit.web.paging import link_header, next_url
from kit.web.parameters import CursorInQuery, example, problems

CHARGES_MAX: Final = 1_000  # ~600 B each: 600 kB
CHARGES_DEFAULT: Final = 100

router = APIRouter()


@router.get(
    "/charges",
    operation_id="many_api_v1_billing_charges_get",
    summary="Charges that are not invoiced before somebody has looked, newest first",
    response_model=ChargePage,
    responses={**problems(), 200: example(examples.PAGE)},
)
async def list_held_charges(
    request: Request,
    billing: Provided,
    _: Office,
    status: Annotated[HeldStatus | None, Query(description="default: all of them")] = None,
    limit: Annotated[int, Query(ge=1, le=CHARGES_MAX, description="charges on a page")] = CHARGES_DEFAULT,
    cursor: CursorInQuery = None,
) -> Response:
    """A session's totals by billing and by the stream, side by side. When a later revision of the session is
    invoiced, its charge is not listed any more."""
    charges, key = await billing.held_charges.list_held_charges(status, limit, cursor)
    page = ChargePage(charges=list(charges), next=next_url(request.url, key))
    return Response(page.model_dump_json(), headers=link_header(page.next), media_type="application/json")
