"""Months of the calendar, in UTC. Pure."""

from datetime import UTC, datetime
from typing import Final

import numpy as np

from api.reporting.uptime.intervals import Ints
from kit.clock import to_ms

YEAR_MONTHS: Final = 12


def is_month_start(moment: datetime) -> bool:
    """Whether a month begins then, in UTC."""
    moment = moment.astimezone(UTC)
    return moment == month_start(moment)


def month_start(moment: datetime) -> datetime:
    """The beginning of the moment's month, in UTC."""
    moment = moment.astimezone(UTC)
    return datetime(moment.year, moment.month, 1, tzinfo=UTC)


def shifted(start: datetime, months: int) -> datetime:
    """The beginning of the month so many months later; earlier where it is below 0."""
    count = start.year * YEAR_MONTHS + start.month - 1 + months
    return datetime(count // YEAR_MONTHS, count % YEAR_MONTHS + 1, 1, tzinfo=UTC)


def months_between(start: datetime, end: datetime) -> list[datetime]:
    """The beginnings of all months from `start` on and before `end`, which begin months themselves."""
    count = (end.year - start.year) * YEAR_MONTHS + end.month - start.month
    return [shifted(start, place) for place in range(count)]


def to_column_ms(moments: list[datetime]) -> Ints:
    """Epoch ms."""
    return np.array([to_ms(moment) for moment in moments], np.int64)
