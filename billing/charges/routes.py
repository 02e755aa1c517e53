"""Charges that are not invoiced, over HTTP. Thin: parameters in, one call of the service, one answer out."""

from typing import Annotated, Final
from uuid import UUID

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from billing.charges import examples
from billing.charges.models import ChargeDetail, ChargePage, Correction, DecisionKind, ListedStatus, Reason, Review
from billing.charges.store import ChargeFilter
from billing.components import Billing, Provided
from billing.documents import CdrStatus
from billing.parameters import Office, Reviewer
from kit.auth.token_store import Principal
from kit.messaging.outbox import Transaction
from kit.web.idempotency import Idempotent, RequestIdentity, StoredResponse
from kit.web.json_body import JsonRoute
from kit.web.paging import link_header, next_url
from kit.web.parameters import CursorInQuery, example, problems
from schemas.identifiers import DriverId, StationId

PREFIX: Final = "/api/v1/billing"
CHARGES_MAX: Final = 1_000  # ~800 B each: 800 kB
CHARGES_DEFAULT: Final = 100
AGE_S_MAX: Final = 10 * 366 * 86_400
_DECIDED: Final = problems(
    {
        404: "No such charge",
        409: "It does not wait for a person, or a later revision has replaced it; or the key is used",
    }
)

router = APIRouter(route_class=JsonRoute)


@router.get(
    "/charges",
    operation_id="many_api_v1_billing_charges_get",
    summary="Charges that are not invoiced before somebody has looked, oldest first",
    response_model=ChargePage,
    responses={200: example(examples.PAGE)},
)
async def list_charges(
    request: Request,
    billing: Provided,
    reader: Office,
    status: Annotated[ListedStatus | None, Query(description="default: all that wait for a person")] = None,
    station_id: Annotated[StationId | None, Query()] = None,
    driver_id: Annotated[DriverId | None, Query()] = None,
    reason: Annotated[Reason | None, Query(description="one of a charge's reasons")] = None,
    min_age_s: Annotated[int, Query(ge=0, le=AGE_S_MAX, description="written down so long ago, or longer")] = 0,
    limit: Annotated[int, Query(ge=1, le=CHARGES_MAX, description="charges on a page")] = CHARGES_DEFAULT,
    cursor: CursorInQuery = None,
) -> Response:
    """A session's totals by billing and by the stream, side by side. When a later revision of the session is
    invoiced, its charge is not listed any more."""
    asked = None if status is None else CdrStatus(status)
    wanted = ChargeFilter(asked, station_id, driver_id, reason, only=reader.only)
    charges, key = await billing.charges.list_charges(wanted, min_age_s, limit, cursor)
    page = ChargePage(charges=list(charges), next=next_url(request.url, key))
    return Response(page.model_dump_json(), headers=link_header(page.next), media_type="application/json")


@router.get(
    "/charges/{id}",
    operation_id="one_api_v1_billing_charges__id__get",
    summary="A charge, with what people decided about it",
    responses={**problems({404: "No such charge"}), 200: example(examples.DETAIL)},
)
async def get_charge(id: UUID, billing: Provided, reader: Office) -> ChargeDetail:
    """By its id, or by its session's: then the newest version."""
    return await billing.charges.get_charge(id, reader.only)


@router.post(
    "/charges/{id}/approve",
    status_code=201,
    summary="Release a charge as it was computed",
    response_model=ChargeDetail,
    responses={**_DECIDED, 201: example(examples.DETAIL)},
)
async def approve(id: UUID, wanted: Review, who: Reviewer, once: Idempotent, billing: Provided) -> Response:
    """It is invoiced at once, by billing's own figures; an invoice of an earlier revision is credited. By the id of the
    charge, or of its session. A later revision of the session with other figures is held again."""
    return await _decide(billing, id, "approve", wanted, who, once)


@router.post(
    "/charges/{id}/correct",
    status_code=201,
    summary="Release a charge with the energy and the times that a person gives",
    response_model=ChargeDetail,
    responses={**_DECIDED, 201: example(examples.DETAIL)},
)
async def correct(id: UUID, wanted: Correction, who: Reviewer, once: Idempotent, billing: Provided) -> Response:
    """Priced by the same tariff, the energy spread evenly over the time, and invoiced at once; a line of the invoice
    says that it was corrected. A later revision of the session with other figures is held again."""
    return await _decide(billing, id, "correct", wanted, who, once)


@router.post(
    "/charges/{id}/void",
    status_code=201,
    summary="Say that nothing is owed for a charge",
    response_model=ChargeDetail,
    responses={**_DECIDED, 201: example({**examples.DETAIL, "status": "void", "invoice_id": None})},
)
async def void(id: UUID, wanted: Review, who: Reviewer, once: Idempotent, billing: Provided) -> Response:
    """No invoice is issued and no number used; an invoice of an earlier revision is credited. A later revision of the
    session with other figures is held again."""
    return await _decide(billing, id, "void", wanted, who, once)


async def _decide(
    billing: Billing, id_: UUID, kind: DecisionKind, wanted: Review, who: Principal, once: RequestIdentity
) -> Response:
    async def work(connection: Transaction) -> StoredResponse:
        charge = await billing.charges.decide(connection, id_, kind, wanted, who.name, who.only)
        return StoredResponse(201, charge.model_dump_json().encode(), location=f"{PREFIX}/charges/{charge.id}")

    return await once.do(billing.database, "billing", work)
