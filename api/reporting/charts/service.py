"""Heat maps of metrics: their figures by hour, gathered and drawn. No HTTP and no SQL here."""

import asyncio
from collections.abc import Sequence
from datetime import datetime
from typing import Final
from zoneinfo import ZoneInfo

from api.reporting.analytics.buckets import buckets_of
from api.reporting.analytics.metrics import Metric
from api.reporting.analytics.models import Figure
from api.reporting.analytics.service import metric_of
from api.reporting.charts.fonts import text_width
from api.reporting.charts.heat_map import HeatMap, picture_of
from api.reporting.charts.hours import DAYS, HOURS, Values, by_hour_of_week, by_site_and_hour, hours_of_week, scale_of
from api.reporting.charts.models import HeatMapPage, Shape
from api.reporting.charts.shapes import Picture
from api.reporting.reports.figures import FigureReader
from api.reporting.uptime.loading import TooMany
from kit.clock import Clock, format_rfc3339
from kit.web.errors import BadQuery

HOURS_MAX: Final = 92 * 24  # a quarter; of 200 sites 440,000 figures
_DIGITS: Final = 9  # of a value, so that JSON shows no noise of binary fractions


class HeatMapService:
    """One method a use case."""

    def __init__(self, figures: FigureReader, clock: Clock) -> None:
        self._figures = figures
        self._clock = clock

    async def page(self, name: str, shape: Shape, start: datetime, end: datetime, time_zone: str) -> HeatMapPage:
        """The values. Raises NotFound, BadQuery."""
        metric, zone, now = metric_of(name), ZoneInfo(time_zone), self._clock.now()
        if metric.in_currencies:
            raise BadQuery(f"{name} is in several currencies, which cannot be one picture: ask for another metric")
        end = min(end, now)  # hours to come have no figures, and are not none
        if start >= end:
            raise BadQuery("from must be before to, and not in the future")
        hours = [bucket.start for bucket in buckets_of(start, end, "hour", zone)]
        if len(hours) > HOURS_MAX:
            raise BadQuery(f"from, to: {len(hours)} hours: ask for at most {HOURS_MAX}, which are a quarter")
        try:
            found = await self._figures.read(name, start, end, "hour", "site" if shape == "sites" else None)
        except TooMany as error:
            raise BadQuery(str(error)) from None
        week = hours_of_week(hours, zone)
        rows, values, left_out = await asyncio.to_thread(_gathered, metric, shape, found.figures, zone, week)
        return HeatMapPage(
            **{"from": start, "to": end},
            metric=name,
            title=f"{_title(name)} by {'hour of the week' if shape == 'week' else 'site and hour of the day'}",
            unit=scale_of(metric).unit,
            definition=metric.definition,
            source=metric.source,
            shape=shape,
            time_zone=time_zone,
            computed_at=now,
            pending_hours=found.pending_hours,
            rows=rows,
            columns=list(HOURS),
            values=_scaled(values, scale_of(metric).divisor),
            left_out=left_out,
        )


def _gathered(
    metric: Metric, shape: Shape, figures: Sequence[Figure], zone: ZoneInfo, week: Sequence[int]
) -> tuple[list[str], Values, int]:
    if shape == "week":
        return list(DAYS), by_hour_of_week(metric, figures, zone, week), 0
    return by_site_and_hour(metric, figures, zone, [sum(week[hour::24]) for hour in range(24)])


def picture(page: HeatMapPage) -> Picture:
    """The page, drawn."""
    rows = page.rows or ["no site"]
    values = page.values or [[None] * len(page.columns)]
    return picture_of(HeatMap(page.title, page.unit, rows, page.columns, _shown(values), _notes(page)), text_width)


def _shown(values: Values) -> Sequence[Sequence[float | None]]:
    """Credited or corrected figures below 0 have no place on a ramp from 0: they are shown as 0."""
    return [[None if value is None else max(0.0, value) for value in row] for row in values]


def _scaled(values: Values, divisor: float) -> Values:
    return [[None if value is None else round(value / divisor, _DIGITS) for value in row] for row in values]


def _title(name: str) -> str:
    return name.replace("_", " ").capitalize()


def _notes(page: HeatMapPage) -> list[str]:
    notes = [
        f"{format_rfc3339(page.start)} to {format_rfc3339(page.end)}, hours of {page.time_zone}; a sum is the mean of "
        "such an hour",
        f"Computed {format_rfc3339(page.computed_at)} from {page.source}",
    ]
    if page.pending_hours:
        notes.append(f"{page.pending_hours} hours of stations have changed since and will be computed")
    if page.left_out:
        notes.append(f"{page.left_out} more sites, with less, are not shown")
    return notes
