"""Uptime of charging ports as 23 CFR 680.116(b) defines it. Pure, in whole milliseconds.

    uptime = ((525,600 - (T_outage - T_excluded)) / 525,600) x 100

T_outage: minutes of outage in the twelve months; T_excluded: those of them that a reason outside the operator's control
caused, or that lie outside of the hours of operation. A port is up while it is online and available for use, or in use.
Whatever else there is of the time in which it was in service is outage: so silence is, and so is the time before its
first status. Excluded time counts where it is outage, and once, however many exclusions cover it.

The rule divides by the minutes of a year of 365 days. Of twelve months with a 29 February there are 1,440 more, so that
a port that was down throughout has an uptime below 0; the equation is applied as it stands.
"""

from typing import Final, NamedTuple

import numpy as np

from api.reporting.uptime.intervals import Bools, Intervals, Ints, covered, difference, intersection
from api.reporting.uptime.months import YEAR_MONTHS
from api.reporting.uptime.ports import PortLine, Spans
from schemas.reading import Status

YEAR_MIN: Final = 525_600
MINUTE_MS: Final = 60_000
YEAR_MS: Final = YEAR_MIN * MINUTE_MS
MINIMUM_PCT: Final = 97  # an uptime has to be greater
PCT_MILLI: Final = 100_000

# Statuses in which a port is up. Reserved is available to the driver who reserved it.
UP_STATUSES: Final = (
    Status.AVAILABLE,
    Status.PREPARING,
    Status.CHARGING,
    Status.SUSPENDED_EVSE,
    Status.SUSPENDED_EV,
    Status.FINISHING,
    Status.RESERVED,
)


class PortTimes(NamedTuple):
    """The times of ports on a line."""

    line: PortLine
    service: Intervals  # in service: from its registration to its removal
    outage: Intervals  # in service and not up
    excluded: Intervals  # outage that does not count

    def excluded_within(self, port: Ints, start_ms: Ints, end_ms: Ints) -> Ints:
        """Ms that are excluded of each of these spans."""
        ends, starts = self.line.at(port, end_ms), self.line.at(port, start_ms)
        return covered(self.excluded, ends) - covered(self.excluded, starts)


class MonthlyTimes(NamedTuple):
    """Times in ms of each port in each month: (ports, months), int64."""

    service_ms: Ints
    outage_ms: Ints
    excluded_ms: Ints


def port_times(line: PortLine, service: Spans, up: Spans, exclusions: Spans) -> PortTimes:
    """Outages, and what of them is excluded, within the line's time. Any of the spans may overlap and reach beyond."""
    in_service = line.place(service)
    outage = difference(in_service, line.place(up))
    return PortTimes(line, in_service, outage, intersection(outage, line.place(exclusions)))


def monthly(times: PortTimes, bounds_ms: Ints) -> MonthlyTimes:
    """`bounds_ms`: the beginnings of the months and the end of the last one, ascending, within the line's time."""
    points = times.line.points(bounds_ms)

    def of(intervals: Intervals) -> Ints:
        return np.asarray(np.diff(covered(intervals, points.ravel()).reshape(points.shape), axis=1))

    return MonthlyTimes(of(times.service), of(times.outage), of(times.excluded))


def of_twelve_months(values: Ints) -> Ints:
    """Sums of each month and the eleven before: (ports, months - 11) of (ports, months)."""
    sums = np.cumsum(np.concatenate([np.zeros((len(values), 1), np.int64), values], axis=1), axis=1)
    return np.asarray(sums[:, YEAR_MONTHS:] - sums[:, :-YEAR_MONTHS])


def uptime_mpct(outage_ms: Ints, excluded_ms: Ints) -> Ints:
    """The uptime of twelve months in thousandths of a percent, rounded down: it never looks better than it is."""
    return (YEAR_MS - (outage_ms - excluded_ms)) * PCT_MILLI // YEAR_MS


def meets_minimum(outage_ms: Ints, excluded_ms: Ints) -> Bools:
    """Whether the uptime is greater than 97 %, exactly."""
    return np.asarray((YEAR_MS - (outage_ms - excluded_ms)) * 100 > MINIMUM_PCT * YEAR_MS)


def share_up_mpct(service_ms: Ints, outage_ms: Ints, excluded_ms: Ints) -> Ints:
    """Thousandths of a percent of the time in service that was not outage, rounded down; -1 where there was none. Not
    the rule's uptime: of a port that was in service for a month of the year that one cannot be below 91 %."""
    counted = np.maximum(service_ms, 1)
    return np.where(service_ms > 0, (service_ms - (outage_ms - excluded_ms)) * PCT_MILLI // counted, -1)
