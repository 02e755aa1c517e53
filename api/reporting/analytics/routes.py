"""Analytics over HTTP. Thin: parameters in, one call of the service, one response out."""

from typing import Annotated, Final

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import Response

from api.reporting.analytics import examples
from api.reporting.analytics.buckets import BUCKETS_MAX, Width
from api.reporting.analytics.metrics import METRICS
from api.reporting.analytics.models import Analytics, Group, MetricDescription, MetricList
from api.reporting.analytics.service import AnalyticsQuery, description_of
from api.reporting.components import Provided
from api.reporting.parameters import MetricInPath, Reader, TimeZoneInQuery, check_reader
from kit.instants import Instant
from kit.web.paging import link_header, next_url
from kit.web.parameters import JSON, CursorInQuery, example, problems

FIGURES_MAX: Final = 5_000  # ~250 B each: 1.2 MB
FIGURES_DEFAULT: Final = 1_000
NAMES_MAX: Final = 100  # groups named in one query
NAME_CHARS_MAX: Final = 255

NamesInQuery = Annotated[
    list[Annotated[str, Query(max_length=NAME_CHARS_MAX)]] | None,
    Query(max_length=NAMES_MAX, description="only of these groups; repeat for several"),
]
_NO_METRIC: Final = {404: "There is no such metric"}

router = APIRouter(prefix="/api/v1/analytics", tags=["analytics"])


@router.get(
    "",
    summary="The metrics that there are",
    dependencies=[Depends(check_reader)],
    responses={200: example(examples.METRICS)},
)
async def metrics() -> MetricList:
    """Each with its definition, its source and its unit."""
    return MetricList(metrics=[MetricDescription(**description_of(metric)) for metric in METRICS.values()])


@router.get(
    "/{metric}",
    summary="A metric by time and group",
    response_model=Analytics,
    responses={**problems(_NO_METRIC), 200: example(examples.ANALYTICS)},
)
async def figures(
    reporting: Provided,
    caller: Reader,
    request: Request,
    metric: MetricInPath,
    start: Annotated[Instant, Query(alias="from", description="the `by` that has it is the first, whole")],
    end: Annotated[Instant, Query(alias="to", description="the `by` before it is the last, whole")],
    by: Annotated[Width, Query(description=f"weeks are ISO's; at most {BUCKETS_MAX} of them in one question")] = "day",
    timezone: TimeZoneInQuery = "UTC",
    group: Annotated[Group | None, Query(description="default: all stations together")] = None,
    name: NamesInQuery = None,
    limit: Annotated[int, Query(ge=1, le=FIGURES_MAX, description="figures on a page")] = FIGURES_DEFAULT,
    cursor: CursorInQuery = None,
) -> Response:
    """Figures of the past are grouped by where stations belong now. An hour that has changed is computed again within
    seconds, one that goes on within 15 s to 5 minutes, the more stations the later; `as_of` and `pending_hours` say how
    far that is. A token of an organisation has that organisation's figures, in all or by station.
    """
    query = AnalyticsQuery(metric, start, end, by, timezone, group, tuple(name or ()), limit, cursor, caller.only)
    page, key = await reporting.analytics.figures(query)
    page = page.model_copy(update={"next": next_url(request.url, key)})
    return Response(page.model_dump_json(by_alias=True), headers=link_header(page.next), media_type=JSON)
