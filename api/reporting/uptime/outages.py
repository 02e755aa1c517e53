"""Single outages, and what exclusions take from them. Pure."""

from typing import NamedTuple

import numpy as np

from api.reporting.uptime.intervals import Bools, Ints, covered
from api.reporting.uptime.ports import Spans
from api.reporting.uptime.uptime import PortTimes


class Outages(NamedTuple):
    """Outages by port and start, cut to the line's time. An outage that goes on over exclusions is one."""

    spans: Spans
    excluded_ms: Ints  # of each
    ended: Bools  # whether the port was up again at its end; false: it goes on, or the port was removed meanwhile


def outages_of(times: PortTimes) -> Outages:
    """All of them."""
    spans = times.line.spans(times.outage)
    excluded_ms = covered(times.excluded, times.outage.ends) - covered(times.excluded, times.outage.starts)
    # Where the port is still in service right behind an outage it is up.
    behind = np.searchsorted(times.service.starts, times.outage.ends, side="right")
    ends = np.concatenate([np.full(1, np.iinfo(np.int64).min), times.service.ends])[behind]
    return Outages(spans, excluded_ms, np.asarray(ends > times.outage.ends))


def excluded_by_each(times: PortTimes, exclusions: Spans) -> Ints:
    """Ms of outage that each exclusion covers. Where two overlap, both count the same outage."""
    starts = times.line.at(exclusions.port, exclusions.start_ms)
    ends = times.line.at(exclusions.port, np.maximum(exclusions.start_ms, exclusions.end_ms))
    return np.asarray(covered(times.outage, ends) - covered(times.outage, starts))
