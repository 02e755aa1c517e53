"""Exports over HTTP: a stream, its totals in a header."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Annotated, Final, Literal

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from billing.components import Provided
from billing.documents import InvoiceKind, InvoiceStatus
from billing.exports import examples
from billing.exports.models import LeftOutPage
from billing.exports.service import ExportFormat
from billing.exports.store import ExportFilter
from billing.parameters import DocumentId, DocumentsReader, Office
from kit.clock import format_rfc3339
from kit.instants import Instant
from kit.web.errors import BadQuery
from kit.web.paging import link_header, next_url
from kit.web.parameters import JSON, CursorInQuery, example, problems
from schemas.identifiers import DriverId, StationId

LEFT_OUT_MAX: Final = 1_000  # ~350 B each: 350 kB
LEFT_OUT_DEFAULT: Final = 100
TOTALS_HEADER: Final = "Voltstream-Totals"
MEDIA_TYPES: Final = {
    ExportFormat.CSV: "text/csv; charset=utf-8; header=present",
    ExportFormat.JSONL: "application/jsonl",
    ExportFormat.OCPI: "application/json",
    ExportFormat.PARQUET: "application/vnd.apache.parquet",
}
_SUFFIXES: Final = {ExportFormat.OCPI: "ocpi.json"}
_PDF: Final = "application/pdf"

PdfFormat = Literal["pdf", "facturx"]

router = APIRouter()


def wanted_documents(
    reader: Office,
    start: Annotated[Instant | None, Query(alias="from", description="issued then or later")] = None,
    end: Annotated[Instant | None, Query(alias="to", description="issued before")] = None,
    driver_id: Annotated[DriverId | None, Query()] = None,
    station_id: Annotated[StationId | None, Query()] = None,
    status: Annotated[InvoiceStatus | None, Query()] = None,
    kind: Annotated[InvoiceKind | None, Query()] = None,
) -> ExportFilter:
    """The documents that a query names, of the token's stations. Raises BadQuery."""
    if start is not None and end is not None and start >= end:
        raise BadQuery(f"from ({format_rfc3339(start)}) must be before to ({format_rfc3339(end)})")
    return ExportFilter(start, end, driver_id, station_id, status, kind, reader.only)


Wanted = Annotated[ExportFilter, Depends(wanted_documents)]


@router.get(
    "/export",
    summary="Invoices and credit notes as a file",
    response_class=Response,
    responses={
        200: {
            "description": f"In order of their numbers. {TOTALS_HEADER}: what they sum to, as JSON; "
            "`left_out`: what those sum to that OCPI CDRs leave out",
            "headers": {TOTALS_HEADER: {"schema": {"type": "string"}}},
            "content": {media_type.partition(";")[0]: {} for media_type in MEDIA_TYPES.values()},
        },
    },
)
async def export(
    billing: Provided,
    wanted: Wanted,
    format_: Annotated[ExportFormat, Query(alias="format")] = ExportFormat.CSV,
) -> Response:
    """All rows are of one moment, however long it takes. If the export fails midway, the connection is cut.

    `ocpi`: documents whose station or connector lacks a fact that a CDR has to have are left out;
    /export/left-out lists them.
    """
    opened = AsyncExitStack()
    export = await opened.enter_async_context(billing.exports.export(wanted, format_))
    headers = {
        TOTALS_HEADER: export.totals.as_json().decode(),
        "Content-Disposition": f'attachment; filename="invoices.{_SUFFIXES.get(format_, format_)}"',
    }
    return _Stream(export.chunks, headers, MEDIA_TYPES[format_], opened)


@router.get(
    "/export/left-out",
    summary="Documents that an OCPI export leaves out, and what is missing",
    response_model=LeftOutPage,
    responses={200: example(examples.LEFT_OUT)},
)
async def left_out(
    request: Request,
    billing: Provided,
    wanted: Wanted,
    limit: Annotated[int, Query(ge=1, le=LEFT_OUT_MAX, description="documents on a page")] = LEFT_OUT_DEFAULT,
    cursor: CursorInQuery = None,
) -> Response:
    """In order of their numbers. Register what is missing at /api/v1/stations, and export again."""
    documents, key = await billing.exports.left_out(wanted, limit, cursor)
    page = LeftOutPage(documents=list(documents), next=next_url(request.url, key))
    return Response(page.model_dump_json(), headers=link_header(page.next), media_type=JSON)


@router.get(
    "/invoices/{id}/pdf",
    summary="A document as PDF, as a receipt",
    response_class=Response,
    responses={
        **problems({404: "No such document, or none of yours", 409: "It lacks what EN 16931 wants of a Factur-X PDF"}),
        200: {"content": {_PDF: {"schema": {"type": "string", "format": "binary"}}}},
    },
)
async def pdf(
    id: DocumentId,
    principal: DocumentsReader,
    billing: Provided,
    format_: Annotated[PdfFormat, Query(alias="format", description="facturx: with the e-invoice inside")] = "pdf",
) -> Response:
    """PDF/A-3. The same document gives the same bytes, until its payment moves. A Factur-X PDF (profile EN 16931) is an
    e-invoice, which wants a customer and a seller as the standard has them."""
    make = billing.einvoices.facturx if format_ == "facturx" else billing.pdfs.pdf
    number, body = await make(id, principal.own_driver, principal.only)
    return Response(body, 200, {"Content-Disposition": f'inline; filename="{number}.pdf"'}, _PDF)


class _Stream(StreamingResponse):
    """A streamed export; its resources stay open until it is sent or the client has gone."""

    def __init__(
        self, chunks: AsyncIterator[bytes], headers: dict[str, str], media_type: str, opened: AsyncExitStack
    ) -> None:
        super().__init__(chunks, 200, headers, media_type)
        self._opened = opened

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See Starlette."""
        async with self._opened:
            await super().__call__(scope, receive, send)
