"""Reports over HTTP."""

from collections.abc import AsyncIterator
from typing import Annotated, Final
from uuid import UUID

from fastapi import APIRouter, Body, Header, Path, Query, Request
from fastapi.responses import Response, StreamingResponse

from api.reporting.components import Provided
from api.reporting.parameters import ReportsReader, ReportsWriter
from api.reporting.reports import examples
from api.reporting.reports.kinds import ReportFormat, ReportKind
from api.reporting.reports.models import NewReport, Report, ReportPage, ReportState
from api.reporting.schema import SCHEMA
from kit.messaging.outbox import Transaction
from kit.web.idempotency import Idempotent, StoredResponse
from kit.web.json_body import JsonRoute
from kit.web.paging import link_header, next_url
from kit.web.parameters import JSON, CursorInQuery, choose, example, problems

PATH: Final = "/api/v1/reports"
REPORTS_MAX: Final = 100  # of ~6 kB with their columns: 600 kB
REPORTS_DEFAULT: Final = 20
MEDIA_TYPES: Final = {
    ReportFormat.CSV: "text/csv",
    ReportFormat.PARQUET: "application/vnd.apache.parquet",
    ReportFormat.PDF: "application/pdf",
}
_VARY: Final = {"Vary": "Accept"}
_FORMATS: Final = {media_type: format_ for format_, media_type in MEDIA_TYPES.items()}

router = APIRouter(prefix=PATH, tags=["reports"], route_class=JsonRoute)


@router.get(
    "",
    summary="Reports, newest first",
    response_model=ReportPage,
    responses={200: example(examples.PAGE)},
)
async def reports(
    reporting: Provided,
    caller: ReportsReader,
    request: Request,
    kind: Annotated[ReportKind | None, Query(description="default: all")] = None,
    state: Annotated[ReportState | None, Query(description="default: all")] = None,
    limit: Annotated[int, Query(ge=1, le=REPORTS_MAX, description="on a page")] = REPORTS_DEFAULT,
    cursor: CursorInQuery = None,
) -> Response:
    """How far each is, and what is in those that are done."""
    found, key = await reporting.reports.page(kind, state, caller.only, limit, cursor)
    page = ReportPage(reports=list(found), next=next_url(request.url, key))
    return Response(page.model_dump_json(by_alias=True), headers=link_header(page.next), media_type=JSON)


@router.post(
    "",
    status_code=202,
    summary="Have a report made",
    response_model=Report,
    responses={**problems({409: "The Idempotency-Key was used for another request"}), 202: example(examples.QUEUED)},
)
async def request_report(
    reporting: Provided,
    new: Annotated[
        NewReport,
        Body(
            openapi_examples={
                "operations": {"value": examples.OPERATIONS},
                "uptime": {"value": examples.NEW},
                "quarter": {"value": examples.QUARTER},
            }
        ),
    ],
    principal: ReportsWriter,
    once: Idempotent,
) -> Response:
    """Of a time that is over: uptime (23 CFR 680.116) and the quarterly data (680.112) of whole months in UTC,
    operations and revenue of whole months or of up to 31 days. When it is done, report.generated.v1 says so."""

    async def work(connection: Transaction) -> StoredResponse:
        made = await reporting.reports.request(connection, new, principal.name, principal.only)
        return StoredResponse(202, made.model_dump_json(by_alias=True).encode(), location=f"{PATH}/{made.id}")

    return await once.do(reporting.database, SCHEMA, work)


@router.get(
    "/{id}",
    summary="A report, or its file",
    response_model=Report,
    responses={
        **problems(
            {404: "No such report, or no such table", 406: "None of these formats", 409: "It is not done, or failed"}
        ),
        200: {
            "description": "JSON: the report and its tables' columns. Files: a table, or as PDF the whole report",
            "content": {
                JSON: {"example": examples.DONE},
                MEDIA_TYPES[ReportFormat.CSV]: {"example": examples.CSV},
                **{
                    MEDIA_TYPES[one]: {"schema": {"type": "string", "format": "binary"}}
                    for one in (ReportFormat.PARQUET, ReportFormat.PDF)
                },
            },
        },
    },
)
async def report(
    reporting: Provided,
    caller: ReportsReader,
    id: Annotated[UUID, Path(openapi_examples={"report": {"value": examples.DONE["id"]}})],
    format_: Annotated[ReportFormat | None, Query(alias="format", description="default: by Accept, else JSON")] = None,
    table: Annotated[
        str | None, Query(max_length=64, description="of CSV and Parquet; default: the report's first")
    ] = None,
    accept: Annotated[str | None, Header()] = None,
) -> Response:
    """As JSON, or by `Accept` or `format` as CSV, Parquet or PDF. Every format says from what and when it was computed:
    CSV in lines of `#` above the header, Parquet in its metadata."""
    wanted = format_ or _FORMATS.get(choose(accept, (JSON, *_FORMATS)))
    if wanted is None:
        found = await reporting.reports.get(id, caller.only)
        return Response(found.model_dump_json(by_alias=True), headers=_VARY, media_type=JSON)
    file = await reporting.reports.file(id, wanted, table, caller.only)
    chunks = file.chunks()
    first = await anext(chunks)  # where the store of documents is away, the answer is a 503 and not half a file

    async def body() -> AsyncIterator[bytes]:
        yield first
        async for chunk in chunks:
            yield chunk

    headers = {**_VARY, "Content-Disposition": f'attachment; filename="{file.name}"'}
    return StreamingResponse(body(), headers=headers, media_type=MEDIA_TYPES[wanted])
