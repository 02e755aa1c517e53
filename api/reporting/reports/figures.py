"""Figures of metrics for a report: all pages of analytics, summed over the report's time."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from api.reporting.analytics.buckets import Width
from api.reporting.analytics.metrics import METRICS, Metric
from api.reporting.analytics.models import Figure, Group
from api.reporting.analytics.service import AnalyticsQuery, AnalyticsService
from api.reporting.uptime.loading import TooMany

Sums = Mapping[str, int]  # by name
_PAGE: Final = 5_000  # figures
_PAGES_MAX: Final = 100


@dataclass(frozen=True, slots=True)
class MetricFigures:
    """A metric's figures, and how far they are computed."""

    metric: Metric
    figures: Sequence[Figure]
    as_of: datetime
    pending_hours: int

    def sums(self) -> dict[tuple[str, str], Sums]:
        """By group and currency (empty: none), over the whole time."""
        found: dict[tuple[str, str], Sums] = {}
        for figure in self.figures:
            key = (figure.group or "", figure.currency or "")
            found[key] = combined(self.metric, found.get(key), figure.sums)
        return found


def combined(metric: Metric, old: Sums | None, new: Sums) -> Sums:
    """The metric's sums of two times together."""
    if old is None:
        return new
    if metric.is_peak:
        return {name: max(old[name], new[name]) for name in new}
    return {name: old[name] + new[name] for name in new}


class FigureReader:
    """Reads them."""

    def __init__(self, analytics: AnalyticsService) -> None:
        self._analytics = analytics

    async def read(
        self, metric: str, start: datetime, end: datetime, by: Width, grouping: Group | None, names: Sequence[str] = ()
    ) -> MetricFigures:
        """All figures of the metric in UTC, whatever group they are of. Raises TooMany, Unavailable."""
        figures: list[Figure] = []
        cursor, pending = None, 0
        for _ in range(_PAGES_MAX):
            query = AnalyticsQuery(metric, start, end, by, "UTC", grouping, tuple(names), _PAGE, cursor)
            page, cursor = await self._analytics.figures(query)
            figures += page.figures
            pending = max(pending, page.pending_hours)
            if cursor is None:
                return MetricFigures(METRICS[metric], figures, page.as_of, pending)
        raise TooMany(f"{metric} has more than {_PAGE * _PAGES_MAX} figures: ask for whole months, or for less time")
