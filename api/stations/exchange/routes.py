"""Files of stations over HTTP."""

from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import Response

from api.stations.components import PATH, Editor, Provided, Reader
from api.stations.exchange import examples
from api.stations.exchange.models import BODY_BYTES_MAX, ExchangeFormat, ImportResult
from kit.web.paging import link_header, next_url
from kit.web.parameters import JSON, CursorInQuery, example, problems
from kit.web.route_rules import body_bytes_max

EXPORTED_MAX: Final = 500  # stations; of the largest 150 kB each, of most 1 kB
_CSV: Final = "text/csv"
_MEDIA: Final = {ExchangeFormat.CSV: f"{_CSV}; charset=utf-8", ExchangeFormat.OCPI: JSON}
_BODY: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "content": {
            _CSV: {"schema": {"type": "string"}, "example": examples.CSV},
            JSON: {"schema": {"type": "array", "items": {"type": "object"}}, "example": examples.LOCATIONS},
        },
    }
}

router = APIRouter(prefix=PATH, tags=["stations"])


@router.post(
    "/import",
    summary="Register or change the stations of a file",
    response_model=ImportResult,
    openapi_extra=_BODY,
    dependencies=[Depends(body_bytes_max(BODY_BYTES_MAX))],
    responses={
        **problems(
            {413: f"The file is larger than {BODY_BYTES_MAX // 2**20} MiB", 409: "An EVSE is at another station"}
        ),
        200: example(examples.RESULT),
    },
)
async def import_stations(
    stations: Provided,
    request: Request,
    operator: Editor,
    format_: Annotated[ExchangeFormat, Query(alias="format", description="of the body")],
    dry_run: Annotated[bool, Query(description="only say what would change")] = False,
    partial: Annotated[bool, Query(description="take the others where some stations are refused")] = False,
) -> ImportResult:
    """All of them or none, unless `partial`. `csv`: a line for each connector, columns as the export has them; what has
    no column stays as it is, and an empty cell erases. `ocpi`: a list of OCPI 2.2.1 Locations; what OCPI has no room
    for stays as it is, what a Location leaves out is erased, and fields that are not kept are named (`not_taken`).

    A file's list of a station's connectors is whole: those that it leaves out are removed. The same file again changes
    nothing. Stations that are not in the file stay. A dry run says with `written` whether anything would be changed.
    """
    body = await request.body()
    try:
        async with stations.database.transaction() as connection:
            result = await stations.exchange.import_stations(
                connection, body, format_, operator, dry_run=dry_run, partial=partial
            )
            if dry_run:
                raise _RolledBack(result)
    except _RolledBack as rolled_back:
        return rolled_back.result
    return result


@router.get(
    "/export",
    summary="Stations as a file, page by page",
    response_class=Response,
    responses={
        200: {
            "description": "By their ids; the header Link has the next page",
            "content": {_CSV: {"example": examples.CSV}, JSON: {"example": examples.LOCATIONS}},
        },
    },
)
async def export(
    stations: Provided,
    reader: Reader,
    request: Request,
    format_: Annotated[ExchangeFormat, Query(alias="format")] = ExchangeFormat.CSV,
    limit: Annotated[int, Query(ge=1, le=EXPORTED_MAX, description="stations on a page")] = EXPORTED_MAX,
    cursor: CursorInQuery = None,
) -> Response:
    """`csv`: each page with its header. `ocpi`: Locations as OCPI 2.2.1 pages them. Stations without address, city,
    country, position or time zone are left out of `ocpi`, and connectors without standard, format, power type, voltage,
    current or EVSE id."""
    text, key = await stations.exchange.export(format_, limit, cursor, reader.only)
    return Response(text, headers=link_header(next_url(request.url, key)), media_type=_MEDIA[format_])


class _RolledBack(Exception):
    """Carries the result of a dry run out of its transaction."""

    def __init__(self, result: ImportResult) -> None:
        super().__init__("dry run")
        self.result = result
