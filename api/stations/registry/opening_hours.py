"""Opening hours of a station, as OCPI has them (Hours), and whether it is open at a moment. Pure.

Regular hours are in the station's own time. A period that ends at 24:00 ends with the day; one past midnight is two.
Of exceptions the closing ones count first. Local times that a change of the clocks leaves out or repeats are taken as
zoneinfo takes them.
"""

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Annotated, Final, Self
from zoneinfo import ZoneInfo

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints, field_validator, model_validator

from kit.instants import EARLIEST, LATEST
from kit.patterns import worded

PERIODS_MAX: Final = 70  # ten a day
EXCEPTIONS_MAX: Final = 100  # of each kind: two years of holidays
_DAY: Final = timedelta(days=1)
_SHIFT: Final = timedelta(hours=3)  # no change of the clocks is larger

LocalTime = Annotated[
    str,
    StringConstraints(
        pattern=worded(r"^([01][0-9]|2[0-3]):[0-5][0-9]$", "a time of day like 22:00, from 00:00 to 23:59")
    ),
]
LocalEnd = Annotated[
    str,
    StringConstraints(
        pattern=worded(r"^(([01][0-9]|2[0-3]):[0-5][0-9]|24:00)$", "a time of day like 22:00, from 00:00 to 24:00")
    ),
]

Interval = tuple[datetime, datetime]
"""Begin, and end without the end itself; UTC."""


class _Hours(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class RegularPeriod(_Hours):
    """Open on one day of each week."""

    weekday: Annotated[int, Field(strict=True, ge=1, le=7, description="1 is Monday")]
    period_begin: LocalTime
    period_end: Annotated[LocalEnd, Field(description="after the begin; 24:00 is the end of the day")]

    @model_validator(mode="after")
    def _it_ends_after_it_begins(self) -> Self:
        if self.period_end <= self.period_begin:
            raise ValueError("period_end is not after period_begin: hours past midnight are two, until 24:00 and on")
        return self


class ExceptionalPeriod(_Hours):
    """Open or closed at other times than the regular ones."""

    period_begin: AwareDatetime
    period_end: AwareDatetime

    @field_validator("period_begin", "period_end")
    @classmethod
    def _in_a_year_that_can_be_stored(cls, moment: datetime) -> datetime:
        if not EARLIEST <= moment < LATEST:
            raise ValueError("is outside the years 1970 to 2199")
        return moment.astimezone(UTC).replace(microsecond=0)

    @model_validator(mode="after")
    def _it_ends_after_it_begins(self) -> Self:
        if self.period_end <= self.period_begin:
            raise ValueError("period_end is not after period_begin")
        return self


class OpeningHours(_Hours):
    """When vehicles have access. Either always, or in regular hours."""

    twentyfourseven: bool
    regular_hours: Annotated[list[RegularPeriod], Field(max_length=PERIODS_MAX)] = []
    exceptional_openings: Annotated[list[ExceptionalPeriod], Field(max_length=EXCEPTIONS_MAX)] = []
    exceptional_closings: Annotated[list[ExceptionalPeriod], Field(max_length=EXCEPTIONS_MAX)] = []

    @model_validator(mode="after")
    def _always_or_in_hours(self) -> Self:
        if self.twentyfourseven and self.regular_hours:
            raise ValueError("twentyfourseven and regular_hours exclude each other: leave one of the two out")
        return self


def is_open(hours: OpeningHours, time_zone: str, at: datetime) -> bool:
    """Whether it is open at that moment."""
    if _within(hours.exceptional_closings, at):
        return False
    if hours.twentyfourseven or _within(hours.exceptional_openings, at):
        return True
    local = at.astimezone(ZoneInfo(time_zone))
    clock = local.strftime("%H:%M")
    return any(
        period.weekday == local.isoweekday() and period.period_begin <= clock < period.period_end
        for period in hours.regular_hours
    )


def open_intervals(hours: OpeningHours, time_zone: str, since: datetime, until: datetime) -> list[Interval]:
    """When it is open within [since, until), in order and without overlaps."""
    opened = [(since, until)] if hours.twentyfourseven else list(_regular(hours, ZoneInfo(time_zone), since, until))
    opened += [(one.period_begin, one.period_end) for one in hours.exceptional_openings]
    closed = _joined((one.period_begin, one.period_end) for one in hours.exceptional_closings)
    return _clipped(_without(_joined(opened), closed), since, until)


def _within(periods: Iterable[ExceptionalPeriod], at: datetime) -> bool:
    return any(one.period_begin <= at < one.period_end for one in periods)


def _regular(hours: OpeningHours, zone: ZoneInfo, since: datetime, until: datetime) -> Iterator[Interval]:
    day, last = (since - _DAY).astimezone(zone).date(), (until + _DAY).astimezone(zone).date()
    while day <= last:
        for period in hours.regular_hours:
            if period.weekday == day.isoweekday():
                yield from _of_day(day, period, zone)
        day += _DAY


def _of_day(day: date, period: RegularPeriod, zone: ZoneInfo) -> Iterator[Interval]:
    """By the minutes that the local clock shows: an hour that comes twice is open twice."""
    begin = datetime.combine(day, time.fromisoformat(period.period_begin), zone)
    if period.period_end == "24:00":
        end = datetime.combine(day + _DAY, time(0), zone)
    else:
        end = datetime.combine(day, time.fromisoformat(period.period_end), zone)
    edges = [edge.replace(fold=fold) for edge in (begin, end) for fold in (0, 1)]
    if len({edge.utcoffset() for edge in edges}) == 1:
        yield begin.astimezone(UTC), end.astimezone(UTC)
    else:
        yield from _by_minutes(day, period, zone, edges[0].astimezone(UTC) - _SHIFT, edges[-1].astimezone(UTC) + _SHIFT)


def _by_minutes(
    day: date, period: RegularPeriod, zone: ZoneInfo, since: datetime, until: datetime
) -> Iterator[Interval]:
    """Of a day on which the clocks change."""
    began: datetime | None = None
    at = since
    while at <= until:
        local = at.astimezone(zone)
        opened = local.date() == day and period.period_begin <= local.strftime("%H:%M") < period.period_end
        if opened and began is None:
            began = at
        if not opened and began is not None:
            yield began, at
            began = None
        at += timedelta(minutes=1)


def _joined(intervals: Iterable[Interval]) -> list[Interval]:
    found: list[Interval] = []
    for begin, end in sorted(intervals):
        if found and begin <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], end))
        else:
            found.append((begin, end))
    return found


def _without(opened: Sequence[Interval], closed: Sequence[Interval]) -> list[Interval]:
    left = list(opened)
    for begin, end in closed:
        left = [
            piece
            for one in left
            for piece in ((one[0], min(one[1], begin)), (max(one[0], end), one[1]))
            if piece[0] < piece[1]
        ]
    return left


def _clipped(intervals: Sequence[Interval], since: datetime, until: datetime) -> list[Interval]:
    return [(max(begin, since), min(end, until)) for begin, end in intervals if max(begin, since) < min(end, until)]
