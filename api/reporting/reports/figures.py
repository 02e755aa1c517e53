"""Figures of metrics for a report: all pages of analytics, summed over the report's time."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from api.reporting.analytics.buckets import Width
from api.reporting.analytics.metrics import METRICS, Metric
from api.reporting.analytics.models import Figure, Group
from api.reporting.analytics.service import AnalyticsQuery, AnalyticsService
from api.reporting.uptime.loading import TooMany

_PAGE: Final = 5_000  # figures
_PAGES_MAX: Final = 100


@dataclass(frozen=True, slots=True)
class MetricFigures:
    """A metric's figures, and how far they are computed."""

    metric: Metric
    figures: Sequence[Figure]
    as_of: datetime
    pending_hours: int

    def sums(self) -> dict[tuple[str, str], tuple[int, ...]]:
        """By group and currency (empty: none), over the whole time, in the order of the metric's sums."""
        found: dict[tuple[str, str], tuple[int, ...]] = {}
        for figure in self.figures:
            key = (figure.group or "", figure.currency or "")
            new = tuple(figure.sums[name] for name in self.metric.sum_names)
            old = found.get(key)
            if old is None:
                found[key] = new
            elif self.metric.is_peak:
                found[key] = tuple(map(max, old, new))
            else:
                found[key] = tuple(one + other for one, other in zip(old, new, strict=True))
        return found


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
