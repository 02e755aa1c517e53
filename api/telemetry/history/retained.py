"""Which windows are still there: finer ones may have ended. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from api.telemetry.models import Interval
from kit.instants import floor_to

WIDTHS: Final = {
    Interval.MINUTE: timedelta(minutes=1),
    Interval.QUARTER: timedelta(minutes=15),
    Interval.HOUR: timedelta(hours=1),
    Interval.DAY: timedelta(days=1),
}


@dataclass(frozen=True, slots=True)
class Retained:
    """Since when there are windows of each width, by its name; of one that is not named, always."""

    since: Mapping[str, datetime]

    def finest(self, moment: datetime) -> Interval:
        """The finest windows that there are of a moment."""
        return next((width for width in WIDTHS if self._has(width, moment)), Interval.DAY)

    def start_of(self, moment: datetime) -> datetime:
        """Of the finest window that there is of a moment."""
        return floor_to(moment, WIDTHS[self.finest(moment)])

    def parts(self, start: datetime, end: datetime) -> list[tuple[Interval, datetime, datetime]]:
        """[start, end) in times of one width each, each of the finest that there is. `start`: of a window."""
        found: list[tuple[Interval, datetime, datetime]] = []
        until = end
        for width in WIDTHS:
            since = max(start, self.since.get(width.value, start)) if width is not Interval.DAY else start
            if since < until:
                found.append((width, since, until))
                until = since
        return found[::-1]

    def _has(self, width: Interval, moment: datetime) -> bool:
        return width.value not in self.since or moment >= self.since[width.value]
