"""When a place is free for long enough. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from heapq import nsmallest

from api.reservations.life.rule import Place

Interval = tuple[datetime, datetime]
"""[start, end)"""


@dataclass(frozen=True, slots=True)
class FreeTime:
    """A reservation of the place may begin at any moment of [starts_at, latest_start]."""

    place: Place
    starts_at: datetime
    latest_start: datetime


def starts_between(
    taken: Sequence[Interval], within: Interval, duration: timedelta, buffer: timedelta, now: datetime
) -> Iterator[Interval]:
    """The intervals of `within`, ends included, in which a reservation of that duration may begin, in order.

    `taken`: in order of their starts; they may overlap. A reservation takes the buffers around it too, but nothing that
    is past.
    """
    first, last = within
    free_from = now  # of the gap before the next interval that is taken
    for start, end in [*taken, (last + duration + buffer, last + duration + buffer)]:
        earliest = max(first, now if free_from <= now else free_from + buffer)
        latest = min(last, start - buffer - duration)
        if earliest <= latest and start > free_from:
            yield earliest, latest
        free_from = max(free_from, end)


def next_free(
    taken: Mapping[Place, Sequence[Interval]],
    within: Interval,
    duration: timedelta,
    buffer: timedelta,
    now: datetime,
    at_most: int,
) -> list[FreeTime]:
    """The earliest free times of these places, sooner ones first."""
    found = (
        FreeTime(place, *starts)
        for place, intervals in taken.items()
        for starts in starts_between(intervals, within, duration, buffer, now)
    )
    return nsmallest(at_most, found, key=lambda one: (one.starts_at, one.place.key))
