"""Heat maps: a metric by weekday, or group, and hour of the day. No HTTP and no SQL here."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Literal
from zoneinfo import ZoneInfo

from api.reporting.analytics.buckets import buckets_of
from api.reporting.analytics.metrics import Metric
from api.reporting.analytics.models import Group, HeatMap, HeatMapRow
from api.reporting.analytics.service import TOTAL, description_of, metric_of
from api.reporting.analytics.store import AnalyticsStore, Cell, Series, SeriesCursor
from api.reporting.rollups.facets import HOUR
from kit.clock import Clock
from kit.web.errors import BadQuery
from kit.web.paging import decode_cursor, encode_cursor, to_micros

SPAN_MAX: Final = timedelta(days=367)
ROWS_MAX: Final = 60  # groups; of a year each has 8,784 rows: 0.5 s
_HOURS: Final = range(24)
_WEEKDAYS: Final = range(1, 8)
RowsBy = Literal["weekday"] | Group


@dataclass(frozen=True, slots=True)
class HeatMapQuery:
    """What is asked for. `currency`: of a metric that is money."""

    metric: str
    start: datetime
    end: datetime
    time_zone: str
    rows_by: RowsBy
    names: tuple[str, ...]  # of groups; empty: all. By weekday: all of `total`
    currency: str | None
    limit: int
    cursor: str | None


class HeatMapService:
    """The use case."""

    def __init__(self, store: AnalyticsStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def heat_map(self, query: HeatMapQuery) -> tuple[HeatMap, str | None]:
        """A page, without its `next`, and the next page's cursor. Raises NotFound, BadQuery."""
        metric, zone = metric_of(query.metric), ZoneInfo(query.time_zone)
        if query.end - query.start > SPAN_MAX:
            raise BadQuery(f"from, to: a heat map is of at most {SPAN_MAX.days} days")
        if metric.in_currencies != (query.currency is not None):
            raise BadQuery(f"currency: {'name one' if metric.in_currencies else 'leave it out'}, for {metric.name}")
        days = buckets_of(query.start, query.end, "day", zone)
        start, end, now = days[0].start, days[-1].end, self._clock.now()
        state = await self._store.state(metric, start, end)
        series, cursor = await self._series(query)
        found = await self._store.cells(metric, series, start, end, query.time_zone, query.currency or "")
        counted = _counted(start, end, zone)
        return HeatMap(
            **description_of(metric),
            rows_by=query.rows_by,
            currency=query.currency,
            time_zone=query.time_zone,
            start=start,
            end=end,
            as_of=min(state.oldest or now, now),
            pending_hours=state.pending,
            rows=_rows(metric, query.rows_by, series, found, counted),
            next=None,
        ), cursor

    async def _series(self, query: HeatMapQuery) -> tuple[Sequence[Series], str | None]:
        if query.rows_by == "weekday":
            return await self._store.series(TOTAL, None, None, 1), None
        first = decode_cursor(query.cursor, SeriesCursor).series_key if query.cursor else None
        found = await self._store.series(query.rows_by, list(query.names) or None, first, query.limit + 1)
        following = found[query.limit :]
        if not following:
            return found, None
        return found[: query.limit], encode_cursor(SeriesCursor(following[0].series_key, to_micros(query.start)))


def _counted(start: datetime, end: datetime, zone: ZoneInfo) -> dict[tuple[int, int], int]:
    """How many hours of the time each weekday has at each hour of the day."""
    counted = dict.fromkeys(((weekday, hour) for weekday in _WEEKDAYS for hour in _HOURS), 0)
    for number in range((end - start) // HOUR):
        local = (start + number * HOUR).astimezone(zone)
        counted[local.isoweekday(), local.hour] += 1
    return counted


def _rows(
    metric: Metric,
    rows_by: RowsBy,
    series: Sequence[Series],
    cells: Iterable[Cell],
    counted: dict[tuple[int, int], int],
) -> list[HeatMapRow]:
    by_weekday = rows_by == "weekday"
    sums: dict[tuple[int, int], list[int]] = {}
    for cell in cells:
        key = (cell.weekday if by_weekday else cell.series_key, cell.hour)
        before = sums.setdefault(key, [0] * len(cell.sums))
        merged = map(max, before, cell.sums) if metric.is_peak else map(int.__add__, before, cell.sums)
        sums[key] = list(merged)
    if by_weekday:
        return [
            _row(metric, [sums.get((day, hour)) for hour in _HOURS], [counted[day, hour] for hour in _HOURS], day, None)
            for day in _WEEKDAYS
        ]
    hours = [sum(counted[day, hour] for day in _WEEKDAYS) for hour in _HOURS]
    return [
        _row(metric, [sums.get((one.series_key, hour)) for hour in _HOURS], hours, None, one.name or None)
        for one in series
    ]


def _row(
    metric: Metric, sums: Sequence[list[int] | None], hours: list[int], weekday: int | None, group: str | None
) -> HeatMapRow:
    names = metric.sum_names
    named = [dict(zip(names, one or [0] * len(names), strict=True)) for one in sums]
    return HeatMapRow(
        weekday=weekday, group=group, hours=hours, values=[metric.value(one) for one in named], sums=named
    )
