"""Figures of hours, gathered by hour of the week or by site and hour of the day. Pure."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from zoneinfo import ZoneInfo

from api.reporting.analytics.metrics import Metric
from api.reporting.analytics.models import Figure
from api.reporting.charts.heat_map import ROWS_MAX
from api.reporting.reports.figures import Sums, combined

DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
HOURS: Final = tuple(f"{hour:02}" for hour in range(24))
NO_SITE: Final = "(no site)"
_KILO: Final = 1_000.0

Values = list[list[float | None]]


@dataclass(frozen=True, slots=True)
class Scale:
    """How a metric is shown: its unit on the picture, and by what it is divided for it."""

    unit: str
    divisor: float


def scale_of(metric: Metric) -> Scale:
    """Wh and W as kWh and kW, shares as percent."""
    if metric.unit in ("Wh", "W"):
        return Scale(f"k{metric.unit}", _KILO)
    if metric.unit == "1":
        return Scale("%", 0.01) if metric.divided_by else Scale(metric.name, 1.0)
    return Scale(metric.unit, 1.0)


def by_hour_of_week(metric: Metric, figures: Sequence[Figure], zone: ZoneInfo, hours: Sequence[int]) -> Values:
    """7 x 24: of a sum the mean of such an hour of the time, of a quotient the quotient of all, of a peak the largest.

    `hours`: how many of each of the 168 hours the time has. An hour of which the time has none is None; of one without
    a figure a sum is 0.
    """

    def place(figure: Figure) -> int:
        local = figure.start.astimezone(zone)
        return local.weekday() * 24 + local.hour

    cells = _gather(metric, figures, 7 * 24, place)
    values = [_value(metric, cell, count) for cell, count in zip(cells, hours, strict=True)]
    return [values[day * 24 : day * 24 + 24] for day in range(7)]


def by_site_and_hour(
    metric: Metric, figures: Sequence[Figure], zone: ZoneInfo, hours: Sequence[int]
) -> tuple[list[str], Values, int]:
    """Sites by name, with 24 values each: those with the most, and how many are left out. `hours`: as above, of 24."""
    by_site: dict[str, list[Figure]] = {}
    for figure in figures:
        by_site.setdefault(figure.group or "", []).append(figure)
    rows: dict[str, list[float | None]] = {}
    for site, own in by_site.items():
        cells = _gather(metric, own, 24, lambda figure: figure.start.astimezone(zone).hour)
        rows[site] = [_value(metric, cell, count) for cell, count in zip(cells, hours, strict=True)]
    most = sorted(sorted(rows), key=lambda site: sum(value or 0 for value in rows[site]), reverse=True)
    shown = sorted(most[:ROWS_MAX])
    return [site or NO_SITE for site in shown], [rows[site] for site in shown], len(rows) - len(shown)


def hours_of_week(moments: Sequence[datetime], zone: ZoneInfo) -> list[int]:
    """How many of each of the 168 hours there are among these beginnings of hours."""
    counts = [0] * (7 * 24)
    for moment in moments:
        local = moment.astimezone(zone)
        counts[local.weekday() * 24 + local.hour] += 1
    return counts


def _gather(metric: Metric, figures: Sequence[Figure], cells: int, place: Callable[[Figure], int]) -> list[Sums | None]:
    """The sums of each cell."""
    found: list[Sums | None] = [None] * cells
    for figure in figures:
        cell = place(figure)
        found[cell] = combined(metric, found[cell], figure.sums)
    return found


def _value(metric: Metric, sums: Sums | None, hours: int) -> float | None:
    """In the metric's unit."""
    if not hours:
        return None
    if sums is None:
        return None if metric.divided_by or metric.is_peak else 0.0
    value = metric.value(sums)
    if value is None or metric.divided_by or metric.is_peak:
        return value
    return value / hours
