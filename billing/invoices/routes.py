"""Invoices over HTTP. Thin: parameters in, one call of the service, one answer out."""

from typing import Annotated, Final
from uuid import UUID

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from billing.components import Provided
from billing.documents import InvoiceKind, InvoiceStatus
from billing.invoices import examples
from billing.invoices.models import Cancellation, Explanation, Invoice, InvoiceDetail, InvoicePage
from billing.invoices.service import place_of
from billing.invoices.store import InvoiceFilter
from billing.parameters import Canceller, DocumentId, DocumentsReader
from kit.instants import Instant
from kit.messaging.outbox import Transaction
from kit.web.idempotency import Idempotent, StoredResponse
from kit.web.json_body import JsonRoute
from kit.web.paging import link_header, next_url
from kit.web.parameters import CursorInQuery, example, problems
from schemas.identifiers import DriverId, StationId

PREFIX: Final = "/api/v1/billing"
INVOICES_MAX: Final = 1_000  # ~800 B each: 800 kB
INVOICES_DEFAULT: Final = 100
_NOT_FOUND: Final = {404: "No such document, or none of yours"}

router = APIRouter(route_class=JsonRoute)


@router.get(
    "/invoices",
    operation_id="many_api_v1_billing_invoices_get",
    summary="Invoices and credit notes, newest first",
    response_model=InvoicePage,
    responses={200: example(examples.PAGE)},
)
async def list_invoices(
    request: Request,
    billing: Provided,
    principal: DocumentsReader,
    driver_id: Annotated[DriverId | None, Query(description="default: all that you may see")] = None,
    station_id: Annotated[StationId | None, Query()] = None,
    session_id: Annotated[UUID | None, Query(description="voltstream's id")] = None,
    status: Annotated[InvoiceStatus | None, Query()] = None,
    kind: Annotated[InvoiceKind | None, Query()] = None,
    start: Annotated[Instant | None, Query(alias="from", description="issued then or later")] = None,
    end: Annotated[Instant | None, Query(alias="to", description="issued before")] = None,
    number: Annotated[str | None, Query(max_length=20, openapi_examples={"number": {"value": "2026-0000017"}})] = None,
    limit: Annotated[int, Query(ge=1, le=INVOICES_MAX, description="documents on a page")] = INVOICES_DEFAULT,
    cursor: CursorInQuery = None,
) -> Response:
    """Ordered by number, newest first. Pages never repeat a document, whatever is issued meanwhile. Whose token is for
    some stations has documents that are of these alone: collective invoices whose charges all are."""
    wanted = InvoiceFilter(
        driver_id, station_id, session_id, status, kind, start, end, place_of(number), only=principal.only
    )
    invoices, key = await billing.invoices.list_invoices(wanted, principal.own_driver, limit, cursor)
    page = InvoicePage(invoices=list(invoices), next=next_url(request.url, key))
    return Response(page.model_dump_json(), headers=link_header(page.next), media_type="application/json")


@router.get(
    "/invoices/{id}",
    operation_id="one_api_v1_billing_invoices__id__get",
    summary="An invoice or credit note, whole",
    responses={**problems(_NOT_FOUND), 200: example(examples.DETAIL)},
)
async def get_invoice(id: DocumentId, principal: DocumentsReader, billing: Provided) -> InvoiceDetail:
    """With its lines, what it is about, and its payments."""
    return await billing.invoices.get_invoice(id, principal.own_driver, principal.only)


@router.get(
    "/invoices/{id}/explain",
    summary="How the amount follows from the stored readings",
    responses={
        **problems({**_NOT_FOUND, 409: "The readings are not stored any more", 502: "They cannot be had"}),
        200: example(examples.EXPLANATION),
    },
)
async def explain(id: DocumentId, principal: DocumentsReader, billing: Provided) -> Explanation:
    """Computed again from the stored readings (of a reservation: its times), with the document's sign, and compared
    with the document. Where later readings put another invoice in its place, `remark` says which, and the document
    is compared with what its own CDR says was used."""
    return await billing.invoices.explain(id, principal.own_driver, principal.only)


@router.post(
    "/cancel",
    status_code=201,
    summary="Cancel an invoice by a credit note",
    response_model=Invoice,
    responses={
        **problems({404: "No such invoice", 409: "It is cancelled already, or no invoice; or the key is used"}),
        201: example(examples.CREDIT_NOTE),
    },
)
async def cancel(wanted: Cancellation, _: Canceller, once: Idempotent, billing: Provided) -> Response:
    """Nothing is deleted: a credit note cancels the invoice to the last unit, and is open if there is money to refund.
    Later revisions of the same session are not invoiced any more."""

    async def work(connection: Transaction) -> StoredResponse:
        note = await billing.invoices.cancel(connection, wanted)
        return StoredResponse(201, note.model_dump_json().encode(), location=f"{PREFIX}/invoices/{note.id}")

    return await once.do(billing.database, "billing", work)
