"""The local time of a station: what its clock shows, and when it passes a moment of the day.

A day has a local midnight and times after it; where the zone's offset changes, times are skipped or come twice.
"""

from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)
_DAY: Final = timedelta(days=1)
_MINUTES_AN_HOUR: Final = 60


class LocalTime(NamedTuple):
    """What the clock on the wall shows."""

    day: date
    ms: int  # of the day, as shown: 09:30 is 34,200,000, also on a day that is an hour short


def local_time(moment_ms: int, zone: ZoneInfo) -> LocalTime:
    """The local time at a moment."""
    local = _local(moment_ms, zone)
    seconds = (local.hour * 60 + local.minute) * 60 + local.second
    return LocalTime(local.date(), seconds * 1_000 + local.microsecond // 1_000)


def boundaries_ms(start_ms: int, end_ms: int, zone: ZoneInfo, minutes_of_day: Iterable[int]) -> list[int]:
    """Moments inside (start, end), in order, at which the clock shows one of these minutes of the day or midnight, or
    is put forward or back."""
    minutes = sorted({0, *minutes_of_day})
    found: set[int] = set()
    before_ms = start_ms
    for day in _days(start_ms, end_ms, zone):
        for minute in minutes:
            found.update(_moments_ms(day, minute, zone))
        # Between two looks a day apart no zone has changed its offset twice: since 1970 a week was the shortest.
        after_ms = min(before_ms + _DAY // _MILLISECOND, end_ms)
        found.update(_offset_changes_ms(before_ms, after_ms, zone))
        before_ms = after_ms
    return sorted(moment_ms for moment_ms in found if start_ms < moment_ms < end_ms)


def local_text(moment_ms: int, zone: ZoneInfo) -> str:
    """`2026-01-31T09:00:00.000+01:00`"""
    return _local(moment_ms, zone).isoformat(timespec="milliseconds")


def exists_once(local: datetime, zone: ZoneInfo) -> bool:
    """Whether a naive local time names one moment: not skipped, and not shown twice."""
    return len(_moments_of(local, zone)) == 1


def moment_of(local: datetime, zone: ZoneInfo) -> int:
    """Ms since the Unix epoch of a naive local time that exists once."""
    return _to_ms(local.replace(tzinfo=zone))


def _days(start_ms: int, end_ms: int, zone: ZoneInfo) -> Iterator[date]:
    """The local days of [start, end] and one on either side: offsets differ by less than a day."""
    day = _local(start_ms, zone).date() - _DAY
    last = _local(end_ms, zone).date() + _DAY
    while day <= last:
        yield day
        day += _DAY


def _moments_ms(day: date, minute: int, zone: ZoneInfo) -> set[int]:
    hour, minute = divmod(minute, _MINUTES_AN_HOUR)
    return _moments_of(datetime(day.year, day.month, day.day, hour, minute), zone)  # noqa: DTZ001  # local, not yet aware


def _moments_of(local: datetime, zone: ZoneInfo) -> set[int]:
    """The moments at which the clock shows this: none where it is skipped, two where it comes twice."""
    moments = {_to_ms(local.replace(tzinfo=zone, fold=fold)) for fold in (0, 1)}
    return {moment_ms for moment_ms in moments if _local(moment_ms, zone).replace(tzinfo=None, fold=0) == local}


def _offset_changes_ms(start_ms: int, end_ms: int, zone: ZoneInfo) -> set[int]:
    """The first ms of another offset in (start, end], of which there is one at most."""
    if _local(start_ms, zone).utcoffset() == _local(end_ms, zone).utcoffset():
        return set()
    low_ms, high_ms = start_ms, end_ms
    while high_ms - low_ms > 1:
        middle_ms = (low_ms + high_ms) // 2
        if _local(middle_ms, zone).utcoffset() == _local(start_ms, zone).utcoffset():
            low_ms = middle_ms
        else:
            high_ms = middle_ms
    return {high_ms}


def _local(moment_ms: int, zone: ZoneInfo) -> datetime:
    return (EPOCH + timedelta(milliseconds=moment_ms)).astimezone(zone)


def _to_ms(aware: datetime) -> int:
    return (aware - EPOCH) // _MILLISECOND
