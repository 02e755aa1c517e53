"""When a notification may be sent: quiet hours and digests on the recipient's wall clock. Pure.

Wall-clock times are whole minutes after midnight, 0 to 1439. Where clocks are set, a time of day may occur twice, and
counts twice, or never, and is then the moment of the jump.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from typing import Final
from zoneinfo import ZoneInfo

DAY_MIN: Final = 1_440
_MINUTE: Final = timedelta(minutes=1)
_DAYS_AHEAD: Final = 3  # today, tomorrow, and one more where a zone leaves out a whole day (Samoa, December 2011)


@dataclass(frozen=True, slots=True)
class QuietHours:
    """From `from_min` up to, but not including, `until_min`; over midnight where it is the larger one. Equal: none."""

    from_min: int
    until_min: int

    def include(self, minute: int) -> bool:
        """Whether that minute of the day is quiet."""
        if self.from_min <= self.until_min:
            return self.from_min <= minute < self.until_min
        return minute >= self.from_min or minute < self.until_min


def minute_of_day(instant: datetime, zone: ZoneInfo) -> int:
    """The wall clock's minute."""
    local = instant.astimezone(zone)
    return local.hour * 60 + local.minute


def after_quiet(now: datetime, quiet: QuietHours | None, zone: ZoneInfo) -> datetime:
    """`now` where it is not within quiet hours, else the first instant that is not."""
    if quiet is None or not quiet.include(minute_of_day(now, zone)):
        return now
    end = next_at(now, quiet.until_min, zone)
    if now.astimezone(zone).utcoffset() == end.astimezone(zone).utcoffset():
        return end
    minute = now.replace(second=0, microsecond=0)  # clocks are set in between: they may jump out of the quiet hours
    while quiet.include(minute_of_day(minute, zone)):
        minute += _MINUTE
    return minute


def next_at(now: datetime, at_min: int, zone: ZoneInfo) -> datetime:
    """The first instant after `now` at which the wall clock shows that minute, or would but for a jump over it."""
    return min(instant for instant in _occurrences(now, at_min, zone) if instant > now)


def _occurrences(now: datetime, at_min: int, zone: ZoneInfo) -> Iterator[datetime]:
    today = now.astimezone(zone).date()
    for days in range(_DAYS_AHEAD):
        wall = datetime.combine(today + timedelta(days=days), time(at_min // 60, at_min % 60))
        first = wall.replace(tzinfo=zone, fold=0).astimezone(UTC)
        second = wall.replace(tzinfo=zone, fold=1).astimezone(UTC)
        if first.astimezone(zone).replace(tzinfo=None, fold=0) == wall:
            yield first
            yield second  # the same instant, but where the clock goes back
        else:
            yield _jump(second, first, zone)


def _jump(before: datetime, after: datetime, zone: ZoneInfo) -> datetime:
    """The first whole minute with the new offset between two instants with different ones."""
    offset = before.astimezone(zone).utcoffset()
    while after - before > _MINUTE:
        middle = before + (after - before) // (2 * _MINUTE) * _MINUTE
        if middle.astimezone(zone).utcoffset() == offset:
            before = middle
        else:
            after = middle
    return after
