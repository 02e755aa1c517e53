"""Figures of hours, gathered by hour of the week or by site and hour of the day. Pure."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from zoneinfo import ZoneInfo

from api.reporting.analytics.figures import Sums
from api.reporting.analytics.metrics import Metric
from api.reporting.analytics.models import Figure
from api.reporting.charts.heat_map import ROWS_MAX

DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
HOURS: Final = tuple(f"{hour:02}" for hour in range(24))
NO_SITE: Final = "(no site)"
_KILO: Final = 1_000.0

Values = list[list[float | None]]
Cell = tuple[str, int]  # site, hour of the week or of the day


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


def site_and_hour_of_week(zone: ZoneInfo) -> Callable[[Figure], Cell]:
    """By what figures of hours are added up: their site, or none, and which of the 168 hours of the week it is."""

    def cell(figure: Figure) -> Cell:
        return figure.group or "", _hour_of_week(figure.start, zone)

    return cell


def site_and_hour_of_day(zone: ZoneInfo) -> Callable[[Figure], Cell]:
    """The same by the 24 hours of the day."""

    def cell(figure: Figure) -> Cell:
        return figure.group or "", figure.start.astimezone(zone).hour

    return cell


def by_hour_of_week(metric: Metric, sums: Mapping[Cell, Sums], hours: Sequence[int]) -> Values:
    """7 x 24: of a sum the mean of such an hour of the time, of a quotient the quotient of all, of a peak the largest.

    `sums`: by site_and_hour_of_week, without a site. `hours`: how many of each of the 168 hours the time has. An hour
    of which the time has none is None; of one without a figure a sum is 0.
    """
    values = _values(metric, sums, "", hours)
    return [values[day * 24 : day * 24 + 24] for day in range(7)]


def by_site_and_hour(metric: Metric, sums: Mapping[Cell, Sums], hours: Sequence[int]) -> tuple[list[str], Values, int]:
    """Sites by name, with 24 values each: those with the most, and how many are left out. `sums`: by
    site_and_hour_of_day. `hours`: as above, of 24."""
    rows = {site: _values(metric, sums, site, hours) for site in {site for site, _ in sums}}
    most = sorted(sorted(rows), key=lambda site: sum(value or 0 for value in rows[site]), reverse=True)
    shown = sorted(most[:ROWS_MAX])
    return [site or NO_SITE for site in shown], [rows[site] for site in shown], len(rows) - len(shown)


def hours_of_week(moments: Sequence[datetime], zone: ZoneInfo) -> list[int]:
    """How many of each of the 168 hours there are among these beginnings of hours."""
    counts = [0] * (7 * 24)
    for moment in moments:
        counts[_hour_of_week(moment, zone)] += 1
    return counts


def _hour_of_week(moment: datetime, zone: ZoneInfo) -> int:
    local = moment.astimezone(zone)
    return local.weekday() * 24 + local.hour


def _values(metric: Metric, sums: Mapping[Cell, Sums], site: str, hours: Sequence[int]) -> list[float | None]:
    return [_value(metric, sums.get((site, hour)), count) for hour, count in enumerate(hours)]


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
