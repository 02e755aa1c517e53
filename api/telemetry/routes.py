"""The telemetry queries over HTTP. Thin: parameters in, one call of the service, one rendering out.

Literal paths stand before `/{station_id}`; a station of such a name is reached in upper
case (/telemetry/LIVE).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Final, Literal

import msgspec
from fastapi import APIRouter, Depends, Path, Query, Request
from fastapi.responses import Response, StreamingResponse

from api.parameters import StationInPath
from api.telemetry import examples
from api.telemetry.components import TelemetryComponents
from api.telemetry.history.renderings import ARROW, CSV, FORMATS, JSON, to_arrow, to_csv, to_rows
from api.telemetry.live_streams import EventStream, StationsNow
from api.telemetry.models import (
    Energy,
    HistoryPage,
    Interval,
    Ledger,
    LiveFleet,
    LiveStation,
    LiveTotal,
    QuarantinedItem,
    QuarantinePage,
    Released,
    StatusIntervalPage,
    UnclaimedPage,
    Uptime,
)
from api.telemetry.service import STATUS_SPAN_MAX, History, HistoryQuery, StatusQuery
from api.telemetry.store import QuarantineFilter
from kit.auth.authenticator import TokenCheck
from kit.auth.requirements import StillValid, require_scope
from kit.auth.stations import stations_within
from kit.auth.token_store import Principal
from kit.clock import format_rfc3339
from kit.instants import Instant
from kit.service import provided
from kit.web.json_body import JsonRoute
from kit.web.paging import link_header, next_url
from kit.web.parameters import CursorInQuery, choose, example, problems
from schemas.identifiers import PRINTABLE, StationId
from schemas.quality import QUALITY_NAMES, Quality
from schemas.reading import CONNECTOR_ID_MAX

ROWS_MAX: Final = 10_000  # ~6 MB of JSON, ~0.2 s of one core: no page makes others wait longer than that
ROWS_DEFAULT: Final = 3_000  # a day of 1-minute windows of two connectors is 2,880
FLEET_MAX: Final = 10_000  # connectors in one live answer, ~400 B each: 4 MB
FLEET_DEFAULT: Final = 1_000
STATIONS_MAX: Final = 500  # named in one query: 36 characters each and the parameter's name are a URL of 24 kB
QUARANTINE_MAX: Final = 500  # of 16 kB raw each: 8 MB
QUARANTINE_DEFAULT: Final = 100
ITEM_ID_MAX: Final = 2**63 - 1
STATUSES_MAX: Final = 5_000  # ~200 B each: 1 MB
STATUSES_DEFAULT: Final = 500
UNCLAIMED_MAX: Final = 500  # each looked up in the windows of its connectors
UNCLAIMED_DEFAULT: Final = 100

QualityName = Literal[
    "meter_rollback", "meter_reset", "placeholder_zero", "implausible_power", "clock_skew", "outside_session", "late",
    "estimated", "foreign_id", "export_implausible",
]  # fmt: skip
Provided = Annotated[TelemetryComponents, Depends(provided(TelemetryComponents))]
ItemId = Annotated[int, Path(ge=1, le=ITEM_ID_MAX, openapi_examples={"item": {"value": examples.QUARANTINED["id"]}})]
Stations = Annotated[
    list[StationId] | None, Query(max_length=STATIONS_MAX, description="repeat for several; none: all")
]

StatusFrom = Annotated[Instant | None, Query(alias="from", description="default: a week before `to`")]
StatusTo = Annotated[
    Instant | None, Query(alias="to", description=f"default: now; at most {STATUS_SPAN_MAX.days} days after `from`")
]

_UNKNOWN: Final = {404: "The station or its connector is not known"}


_STREAM: Final = (
    'Server-sent events: `snapshot` first, then `change`, each with data `{"connectors": [live documents]}` and the '
    "newest of every connector that changed; a comment as heartbeat every 15 s. A slow client skips documents that "
    "were replaced meanwhile. A stream ends within 5 s of the end of its token, and has the stations of its token's "
    "organisation as they were registered at most 5 s ago."
)
_HISTORY_200: Final[dict[str, Any]] = {
    "description": "A page of rows, the same in each format",
    "headers": {"Link": {"description": 'the next page, rel="next"', "schema": {"type": "string"}}},
    "content": {
        JSON: {"examples": {"windows": {"value": examples.WINDOWS}, "readings": {"value": examples.READINGS}}},
        CSV: {"schema": {"type": "string"}, "example": examples.READINGS_CSV},
        ARROW: {"schema": {"type": "string", "format": "binary"}},
    },
}
_EVENTS_200: Final[dict[str, Any]] = {
    "description": "Events without end",
    "content": {"text/event-stream": {"schema": {"type": "string"}, "example": examples.STREAM}},
}


_READS: Final = Depends(require_scope("telemetry:read"))
_CHANGES: Final = Depends(require_scope("telemetry:write"))
Viewer = Annotated[Principal, _READS]
Heeding = Annotated[Principal, Depends(require_scope("telemetry:read", heeds_stations=True))]
"""Of a route about many stations, which keeps to those of the token."""

router = APIRouter(prefix="/api/v1/telemetry", tags=["telemetry"], route_class=JsonRoute)


@router.get(
    "/live",
    summary="What many stations do now",
    response_model=LiveFleet,
    responses={200: example(examples.LIVE_FLEET)},
)
async def live_fleet(
    telemetry: Provided,
    reader: Heeding,
    station_id: Stations = None,
    limit: Annotated[int, Query(ge=1, le=FLEET_MAX, description="connectors in the list")] = FLEET_DEFAULT,
) -> Response:
    """The newest document of each connector, and sums over all of them, listed or not."""
    fleet = await telemetry.service.live_fleet(stations_within(reader, station_id), reader.organisation, limit)
    total = {name: getattr(fleet, name) for name in LiveTotal.model_fields}
    return _json(
        {
            "total": total,
            "truncated": fleet.truncated,
            "silent": fleet.silent,
            "connectors": _raw(fleet.documents),
        }
    )


@router.get(
    "/live/stream",
    summary="What many stations do, as it happens",
    description=_STREAM,
    response_class=StreamingResponse,
    responses={200: _EVENTS_200},
)
async def stream_fleet(
    telemetry: Provided, reader: Heeding, still_valid: StillValid, station_id: Stations = None
) -> EventStream:
    """Of stations that are not known yet, events come once they send readings."""
    named, organisation = stations_within(reader, station_id), reader.organisation
    if organisation is None:
        return await _stream(telemetry, reader, None if named is None else frozenset(named), still_valid)

    async def stations_now() -> frozenset[str]:
        return await telemetry.service.visible(named, organisation) or frozenset()

    return await _stream(telemetry, reader, await stations_now(), still_valid, stations_now)


@router.get(
    "/ledger",
    dependencies=[_READS],
    summary="Where every accepted item is",
    responses={200: example(examples.LEDGER)},
)
async def ledger(telemetry: Provided) -> Ledger:
    """accepted = stored + duplicate + quarantined + in_flight, per partition and in all, from one snapshot."""
    return await telemetry.service.ledger()


@router.get(
    "/quarantine",
    summary="Refused items with the reasons, newest first",
    response_model=QuarantinePage,
    responses={200: example(examples.QUARANTINE)},
)
async def quarantine(
    telemetry: Provided,
    reader: Heeding,
    request: Request,
    reason: Annotated[str | None, Query(max_length=64, pattern=PRINTABLE, description="only of this reason")] = None,
    station_id: Annotated[StationId | None, Query(description="only of this station, where it could be read")] = None,
    start: Annotated[Instant | None, Query(alias="from", description="received since then, inclusive")] = None,
    end: Annotated[Instant | None, Query(alias="to", description="received before then")] = None,
    waiting: Annotated[bool, Query(description="only those that were not replayed")] = False,
    limit: Annotated[int, Query(ge=1, le=QUARANTINE_MAX, description="items on a page")] = QUARANTINE_DEFAULT,
    cursor: CursorInQuery = None,
) -> Response:
    """Each item with its reason, as it was received: as text, or as base64 where it is not text."""
    wanted = QuarantineFilter(reason, station_id, start, end, waiting, reader.only)
    items, key = await telemetry.service.quarantine(wanted, limit, cursor)
    page = QuarantinePage(items=items, next=next_url(request.url, key))
    return Response(page.model_dump_json(), headers=link_header(page.next), media_type=JSON)


@router.get(
    "/quarantine/{item_id}",
    summary="One refused item",
    responses={**problems({404: "There is no such item"}), 200: example(examples.QUARANTINED)},
)
async def quarantined(telemetry: Provided, reader: Heeding, item_id: ItemId) -> QuarantinedItem:
    """Why it was refused, what was received, and whether it was replayed since."""
    return await telemetry.service.quarantined(item_id, reader.only)


@router.get(
    "/unclaimed",
    dependencies=[_READS],
    summary="Stations that send readings and are registered nowhere",
    response_model=UnclaimedPage,
    responses={200: example(examples.UNCLAIMED)},
)
async def unclaimed(
    telemetry: Provided,
    request: Request,
    limit: Annotated[int, Query(ge=1, le=UNCLAIMED_MAX, description="stations on a page")] = UNCLAIMED_DEFAULT,
    cursor: CursorInQuery = None,
) -> Response:
    """By id, with since when and how much each sends. A station leaves the list when it is registered."""
    stations, key = await telemetry.service.unclaimed(limit, cursor)
    page = UnclaimedPage(stations=stations, next=next_url(request.url, key))
    return Response(page.model_dump_json(), headers=link_header(page.next), media_type=JSON)


@router.post(
    "/unclaimed/{station_id}/release",
    dependencies=[_CHANGES],
    summary="Take what a station sent before it was registered",
    status_code=202,
    responses={
        **problems({404: "Nothing of it was set apart", 409: "The station is not registered"}),
        202: example(examples.RELEASED),
    },
)
async def release(telemetry: Provided, station_id: StationInPath) -> Released:
    """Readings that are in quarantine as `unclaimed`, the oldest first, some thousands a request: ask again while some
    are left. They are accepted, counted and stored as if they came now; released twice they are duplicates at most.

    A worker knows a new station within 5 s: what it sets apart again until then is released by asking once more."""
    return await telemetry.release.release(station_id)


@router.get(
    "/{station_id}",
    dependencies=[_READS],
    summary="A station's windows or readings",
    response_model=HistoryPage,
    responses={**problems({**_UNKNOWN, 406: "None of the formats in Accept is offered"}), 200: _HISTORY_200},
)
async def history(
    telemetry: Provided,
    request: Request,
    station_id: StationInPath,
    start: Annotated[Instant | None, Query(alias="from", description="inclusive; default: an hour before `to`")] = None,
    end: Annotated[Instant | None, Query(alias="to", description="exclusive; default: now")] = None,
    interval: Annotated[
        Interval,
        Query(description="raw readings, or windows of this length in UTC, under load 2 s behind the readings"),
    ] = Interval.MINUTE,
    connector_id: Annotated[int | None, Query(ge=0, le=CONNECTOR_ID_MAX, description="default: all")] = None,
    limit: Annotated[int, Query(ge=1, le=ROWS_MAX, description="rows on a page")] = ROWS_DEFAULT,
    cursor: CursorInQuery = None,
    flag: Annotated[
        list[QualityName] | None,
        Query(max_length=len(QUALITY_NAMES), description="raw readings with any of these; repeat for several"),
    ] = None,
) -> Response:
    """Ordered by time and connector, as JSON, CSV or an Arrow IPC stream by `Accept`.

    Windows are those that overlap [from, to): `from` is taken back to the start of its window. Quantities are exact
    to the thousandth; in Arrow they are decimals. Pages never repeat a row, whatever arrives meanwhile.
    """
    media = choose(request.headers.get("accept"), FORMATS)
    flags = sum(Quality[name.upper()] for name in set(flag or ()))
    query = HistoryQuery(station_id, interval, start, end, connector_id, limit, cursor, flags)
    found = await telemetry.service.history(query)
    bounds = {"from": format_rfc3339(found.start), "to": format_rfc3339(found.end)}
    following = next_url(request.url, found.cursor, **bounds)
    headers = {"Vary": "Accept", **link_header(following)}
    return Response(_RENDERINGS[media](found, following), headers=headers, media_type=media)


@router.get(
    "/{station_id}/energy",
    dependencies=[_READS],
    summary="What a station's meters rose by, and whose energy it is",
    responses={**problems(_UNKNOWN), 200: example(examples.ENERGY)},
)
async def energy(
    telemetry: Provided,
    station_id: StationInPath,
    start: Annotated[
        Instant | None,
        Query(alias="from", description="inclusive, its minute; default: the start of the day of `to`"),
    ] = None,
    end: Annotated[Instant | None, Query(alias="to", description="exclusive; default: now")] = None,
) -> Energy:
    """The ledger of energy: rise = in sessions + outside of any session + rejected, to the last mWh.

    Whatever comes late, twice or in disorder: the sums are of the readings as they stand in event time.
    """
    return await telemetry.service.energy(station_id, start, end)


@router.get(
    "/{station_id}/status-intervals",
    dependencies=[_READS],
    summary="What status a station's connectors had, since when, and why",
    response_model=StatusIntervalPage,
    responses={**problems(_UNKNOWN), 200: example(examples.STATUS_INTERVALS)},
)
async def status_intervals(
    telemetry: Provided,
    request: Request,
    station_id: StationInPath,
    start: StatusFrom = None,
    end: StatusTo = None,
    connector_id: Annotated[int | None, Query(ge=0, le=CONNECTOR_ID_MAX, description="default: all")] = None,
    limit: Annotated[int, Query(ge=1, le=STATUSES_MAX, description="intervals on a page")] = STATUSES_DEFAULT,
    cursor: CursorInQuery = None,
) -> Response:
    """Newest first: intervals of one status and fault, from event time, exact whatever comes late or twice.

    While a station is not heard its connectors are Silent, whatever they said last. An interval without length is one
    that another replaced in the same moment.
    """
    query = StatusQuery(station_id, start, end, connector_id, limit, cursor)
    page, key = await telemetry.service.status_intervals(query)
    page.next = next_url(request.url, key, **{"from": format_rfc3339(page.from_), "to": format_rfc3339(page.to)})
    return Response(page.model_dump_json(by_alias=True), headers=link_header(page.next), media_type=JSON)


@router.get(
    "/{station_id}/uptime",
    dependencies=[_READS],
    summary="How long a station's connectors had each status",
    response_model=Uptime,
    response_model_by_alias=True,
    responses={**problems(_UNKNOWN), 200: example(examples.UPTIME)},
)
async def uptime(
    telemetry: Provided,
    station_id: StationInPath,
    start: StatusFrom = None,
    end: StatusTo = None,
) -> Uptime:
    """Sums of the status intervals: Faulted, Unavailable and Silent are down, every other status is up. The time before
    a connector first said what it does is unknown and counts for neither."""
    return await telemetry.service.uptime(station_id, start, end)


@router.get(
    "/{station_id}/live",
    dependencies=[_READS],
    summary="What a station does now",
    response_model=LiveStation,
    responses={**problems(_UNKNOWN), 200: example(examples.LIVE_STATION)},
)
async def live_station(telemetry: Provided, station_id: StationInPath) -> Response:
    """The newest document of each of its connectors that has sent a reading since the live view began."""
    documents = await telemetry.service.live_station(station_id)
    return _json({"station_id": station_id, "connectors": _raw(documents)})


@router.get(
    "/{station_id}/live/stream",
    dependencies=[_READS],
    summary="What a station does, as it happens",
    description=_STREAM,
    response_class=StreamingResponse,
    responses={**problems(_UNKNOWN), 200: _EVENTS_200},
)
async def stream_station(
    telemetry: Provided, viewer: Viewer, still_valid: StillValid, station_id: StationInPath
) -> EventStream:
    """As above, of one station; 404 where it is not known."""
    await telemetry.service.live_station(station_id)
    return await _stream(telemetry, viewer, frozenset({station_id}), still_valid)


async def _stream(
    telemetry: TelemetryComponents,
    viewer: Principal,
    stations: frozenset[str] | None,
    still_valid: TokenCheck,
    stations_now: StationsNow | None = None,
) -> EventStream:
    streams = telemetry.streams
    return EventStream(streams, await streams.subscribe(stations, viewer, still_valid, stations_now))


def _raw(documents: Sequence[bytes]) -> list[msgspec.Raw]:
    """Live documents are JSON already, and are passed on unchanged."""
    return [msgspec.Raw(document) for document in documents]


def _json(answer: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> Response:
    return Response(msgspec.json.encode(answer), headers=headers, media_type=JSON)


def _history_json(history: History, following: str | None) -> bytes:
    return msgspec.json.encode(
        {
            "station_id": history.station_id,
            "interval": history.interval,
            "from": format_rfc3339(history.start),
            "to": format_rfc3339(history.end),
            "rows": to_rows(history.table),
            "next": following,
        }
    )


_RENDERINGS: Final[Mapping[str, Callable[[History, str | None], bytes]]] = {
    JSON: _history_json,
    CSV: lambda history, _: to_csv(history.table),
    ARROW: lambda history, _: to_arrow(history.table),
}
