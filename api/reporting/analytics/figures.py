"""All pages of a metric's figures, added up as they come: never more of them in memory than a page."""

from collections.abc import AsyncIterator, Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Generic, TypeVar

from api.reporting.analytics.buckets import Width
from api.reporting.analytics.metrics import Metric
from api.reporting.analytics.models import Analytics, Figure, Group
from api.reporting.analytics.service import AnalyticsQuery, AnalyticsService, metric_of
from api.reporting.errors import TooMany
from kit.auth.station_filter import EVERY_STATION, StationFilter

Sums = Mapping[str, int]  # by name
Key = TypeVar("Key", bound=Hashable)
_PAGE: Final = 5_000  # figures
_PAGES_MAX: Final = 100


@dataclass(frozen=True, slots=True)
class FigureQuery:
    """A metric's figures in UTC, of all groups or of those that are named."""

    metric: str
    start: datetime
    end: datetime
    by: Width
    grouping: Group | None
    names: tuple[str, ...] = ()
    only: StationFilter = EVERY_STATION


@dataclass(frozen=True, slots=True)
class SummedFigures(Generic[Key]):
    """A metric's sums by whatever its figures were added up by, and how far they are computed."""

    metric: Metric
    source: str  # the metric's, with the versions of factors of which it is computed
    sums: Mapping[Key, Sums]
    as_of: datetime
    pending_hours: int


def group_and_currency(figure: Figure) -> tuple[str, str]:
    """A key: over the whole time. Empty is none."""
    return figure.group or "", figure.currency or ""


def time_and_currency(figure: Figure) -> tuple[datetime, str]:
    """A key: over all groups."""
    return figure.start, figure.currency or ""


class FigureReader:
    """Reads them."""

    def __init__(self, analytics: AnalyticsService) -> None:
        self._analytics = analytics

    async def summed(self, query: FigureQuery, key: Callable[[Figure], Key]) -> SummedFigures[Key]:
        """All figures, added up. Raises NotFound, BadQuery, TooMany, Unavailable."""
        metric, as_of, pending = metric_of(query.metric), None, 0
        source = metric.source
        sums: dict[Key, Sums] = {}
        async for page in self._pages(query):
            add_up(metric, sums, page.figures, key)
            source = page.source
            as_of = page.as_of if as_of is None else min(as_of, page.as_of)
            pending = max(pending, page.pending_hours)
        if as_of is None:
            raise AssertionError("there is a page at least")
        return SummedFigures(metric, source, sums, as_of, pending)

    async def _pages(self, query: FigureQuery) -> AsyncIterator[Analytics]:
        cursor = None
        for _ in range(_PAGES_MAX):
            page, cursor = await self._analytics.figures(
                AnalyticsQuery(
                    query.metric,
                    query.start,
                    query.end,
                    query.by,
                    "UTC",
                    query.grouping,
                    query.names,
                    _PAGE,
                    cursor,
                    query.only,
                )
            )
            yield page
            if cursor is None:
                return
        raise TooMany(
            f"{query.metric} has more than {_PAGE * _PAGES_MAX} figures: ask for whole months, or for less time"
        )


def add_up(metric: Metric, sums: dict[Key, Sums], figures: Iterable[Figure], key: Callable[[Figure], Key]) -> None:
    """Add figures to the sums of their keys; of a peak these are the largest."""
    for figure in figures:
        place, new = key(figure), figure.sums
        old = sums.get(place)
        if old is None:
            sums[place] = new
        elif metric.is_peak:
            sums[place] = {name: max(old[name], new[name]) for name in new}
        else:
            sums[place] = {name: old[name] + new[name] for name in new}
