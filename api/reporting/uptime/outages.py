"""Single outages, what exclusions take from them, and how long repairs took. Pure."""

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

    def of_port(self, port: int) -> "Outages":
        """Those of one port."""
        first, last = np.searchsorted(self.spans.port, [port, port + 1])
        spans = Spans(*(column[first:last] for column in self.spans))
        return Outages(spans, self.excluded_ms[first:last], self.ended[first:last])


class Repairs(NamedTuple):
    """Repairs of a time: outages that ended by the port being up again, less what of them was excluded."""

    number: int
    total_ms: int

    @property
    def mean_ms(self) -> int | None:
        """The mean time to repair, rounded down; None without a repair."""
        return self.total_ms // self.number if self.number else None


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


def repairs_in(outages: Outages, start_ms: int, end_ms: int) -> Repairs:
    """Repairs that ended in [start_ms, end_ms). An outage that is excluded throughout was none of the operator's."""
    end = outages.spans.end_ms
    counted_ms = end - outages.spans.start_ms - outages.excluded_ms
    chosen = outages.ended & (end >= start_ms) & (end < end_ms) & (counted_ms > 0)
    return Repairs(int(chosen.sum()), int(counted_ms[chosen].sum()))
