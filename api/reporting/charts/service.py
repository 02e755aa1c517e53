"""Heat maps of metrics: their figures by hour, gathered and drawn. No HTTP and no SQL here."""

import textwrap
from datetime import datetime
from typing import Final
from zoneinfo import ZoneInfo

from api.reporting.analytics.buckets import buckets_of
from api.reporting.analytics.figures import FigureQuery, FigureReader
from api.reporting.analytics.service import metric_of
from api.reporting.charts.fonts import text_width
from api.reporting.charts.heat_map import HeatMap, picture_of
from api.reporting.charts.hours import (
    DAYS,
    HOURS,
    Values,
    by_hour_of_week,
    by_site_and_hour,
    hours_of_week,
    scale_of,
    site_and_hour_of_day,
    site_and_hour_of_week,
)
from api.reporting.charts.models import HeatMapPage, Shape
from api.reporting.charts.shapes import Picture
from api.reporting.errors import TooMany
from kit.auth.station_filter import EVERY_STATION, StationFilter
from kit.clock import Clock, format_rfc3339
from kit.web.errors import BadQuery

HOURS_MAX: Final = 92 * 24  # a quarter; of 200 sites 440,000 figures
_NOTE_CHARS: Final = 140  # of a line; longer ones would widen the picture
_DIGITS: Final = 9  # of a value, so that JSON shows no noise of binary fractions


class HeatMapService:
    """One method a use case."""

    def __init__(self, figures: FigureReader, clock: Clock) -> None:
        self._figures = figures
        self._clock = clock

    async def page(
        self,
        name: str,
        shape: Shape,
        start: datetime,
        end: datetime,
        time_zone: str,
        only: StationFilter = EVERY_STATION,
    ) -> HeatMapPage:
        """The values, of these stations. Raises NotFound, BadQuery, Forbidden."""
        metric, zone, now = metric_of(name), ZoneInfo(time_zone), self._clock.now()
        if metric.in_currencies:
            raise BadQuery(f"{name} is in several currencies, which cannot be one picture: ask for another metric")
        end = min(end, now)  # hours to come have no figures, and are not none
        if start >= end:
            raise BadQuery("from must be before to, and not in the future")
        hours = [bucket.start for bucket in buckets_of(start, end, "hour", zone)]
        if len(hours) > HOURS_MAX:
            raise BadQuery(f"from, to: {len(hours)} hours: ask for at most {HOURS_MAX}, which are a quarter")
        query = FigureQuery(name, start, end, "hour", "site" if shape == "sites" else None, only=only)
        cell = site_and_hour_of_week(zone) if shape == "week" else site_and_hour_of_day(zone)
        try:
            found = await self._figures.summed(query, cell)
        except TooMany as error:
            raise BadQuery(str(error)) from None
        week = hours_of_week(hours, zone)
        if shape == "week":
            rows, values, left_out = list(DAYS), by_hour_of_week(metric, found.sums, week), 0
        else:
            day = [sum(week[hour::24]) for hour in range(24)]
            rows, values, left_out = by_site_and_hour(metric, found.sums, day)
        return HeatMapPage(
            **{"from": start, "to": end},
            metric=name,
            title=f"{_title(name)} by {'hour of the week' if shape == 'week' else 'site and hour of the day'}",
            unit=scale_of(metric).unit,
            definition=metric.definition,
            source=found.source,
            shape=shape,
            time_zone=time_zone,
            computed_at=now,
            pending_hours=found.pending_hours,
            rows=rows,
            columns=list(HOURS),
            values=_scaled(values, scale_of(metric).divisor),
            left_out=left_out,
        )


def picture(page: HeatMapPage) -> Picture:
    """The page, drawn."""
    rows = page.rows or ["no site"]
    values = page.values or [[None] * len(page.columns)]
    return picture_of(HeatMap(page.title, page.unit, rows, page.columns, values, _notes(page)), text_width)


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
    return [line for note in notes for line in textwrap.wrap(note, _NOTE_CHARS)]
