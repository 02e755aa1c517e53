"""Time cut into hours, days, ISO weeks or months of a time zone, and into the rows that a bucket is read from. Pure."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Final, Literal, NamedTuple
from zoneinfo import ZoneInfo

from api.reporting.rollups.facets import HOUR, hour_of
from kit.clock import EPOCH
from kit.web.errors import BadQuery

Width = Literal["hour", "day", "week", "month"]
BUCKETS_MAX: Final = 9_000  # a year of hours
_DAY: Final = timedelta(days=1)


class Bucket(NamedTuple):
    """From `start` on and before `end`, UTC."""

    start: datetime
    end: datetime


class Segment(NamedTuple):
    """A part of a bucket that is read from hours or, where whole UTC days are in it, from days."""

    bucket: int  # its place from 0
    start: datetime
    end: datetime
    daily: bool


def buckets_of(start: datetime, end: datetime, width: Width, zone: ZoneInfo) -> list[Bucket]:
    """The buckets that have a moment from `start` on and before `end`, whole.

    Raises BadQuery for too many, and for a time zone whose days do not begin with an hour of UTC.
    """
    if start >= end:
        raise BadQuery(f"from ({start.isoformat()}) must be before to ({end.isoformat()})")
    starts = [_first(start, width, zone)]
    while starts[-1] < end:
        if len(starts) > BUCKETS_MAX:
            raise BadQuery(
                f"from, to: more than {BUCKETS_MAX:,} times `by`: ask for less at once, or by something longer"
            )
        starts.append(_next(starts[-1], width, zone))
    for moment in starts if width != "hour" else ():
        if moment != hour_of(moment):
            raise BadQuery(
                f"timezone: days of {zone.key} do not begin with an hour of UTC, of which figures are kept; "
                "ask by hour in UTC"
            )
    return [Bucket(first, then) for first, then in pairwise(starts)]


def _first(moment: datetime, width: Width, zone: ZoneInfo) -> datetime:
    if width == "hour":
        return hour_of(moment.astimezone(UTC))
    return _midnight(_local_first(moment.astimezone(zone), width), zone)


def _local_first(local: datetime, width: Width) -> datetime:
    day = local.replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=None)
    if width == "week":
        return day - day.weekday() * _DAY
    return day.replace(day=1) if width == "month" else day


def _next(start: datetime, width: Width, zone: ZoneInfo) -> datetime:
    if width == "hour":
        return start + HOUR
    # From the middle of the first day: where midnight does not exist, a day begins at one o'clock.
    noon = start.astimezone(zone).replace(hour=12, tzinfo=None)
    days = {"day": 1, "week": 7, "month": 32 - noon.day}[width]
    return _midnight(_local_first(noon + days * _DAY, "month" if width == "month" else "day"), zone)


def _midnight(day: datetime, zone: ZoneInfo) -> datetime:
    """Where a clock is set forward at midnight, the moment at which it is."""
    return day.replace(tzinfo=zone).astimezone(UTC)


def segments_of(buckets: Sequence[Bucket], places: range) -> list[Segment]:
    """The rows to read of the buckets at these places: whole UTC days from days, the rest from hours."""
    segments: list[Segment] = []
    for place in places:
        start, end = buckets[place]
        if end - start < _DAY:  # of thousands of hours a division each would be noticed
            segments.append(Segment(place, start, end, False))
            continue
        first_day, last_day = -(-(start - EPOCH) // _DAY) * _DAY + EPOCH, (end - EPOCH) // _DAY * _DAY + EPOCH
        if first_day < last_day:
            parts = [(start, first_day, False), (first_day, last_day, True), (last_day, end, False)]
        else:
            parts = [(start, end, False)]
        segments += [Segment(place, since, until, daily) for since, until, daily in parts if since < until]
    return segments
