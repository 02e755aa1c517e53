"""Repairs: outages that ended by the port being up again, and how long each took. Pure.

The outage that a repair ended may have begun long before the time that is asked for. So whoever asks reads that time
first, and then more of the past, only for ports that were out already when it begins (LOOK_BACKS_MS).
"""

from typing import Final, NamedTuple

import numpy as np

from api.reporting.uptime.intervals import Bools, Ints
from api.reporting.uptime.outages import outages_of
from api.reporting.uptime.uptime import PortTimes

_DAY_MS: Final = 86_400_000
LONGEST_DAYS: Final = 400  # more than an exclusion may last; of a longer outage the last 400 days count
LONGEST_MS: Final = LONGEST_DAYS * _DAY_MS
# Before the asked time, one after the other. The first shows an outage that ends as that time begins.
LOOK_BACKS_MS: Final = (1, _DAY_MS, 8 * _DAY_MS, 64 * _DAY_MS, LONGEST_MS)


class EndedOutages(NamedTuple):
    """Outages that ended by the port being up again, by port and end. One that is excluded throughout counts 0 ms."""

    port: Ints
    end_ms: Ints
    counted_ms: Ints  # without what is excluded
    from_before: Bools  # the outage may have begun before the line's time

    def only(self, chosen: Bools) -> "EndedOutages":
        """Some of them."""
        return EndedOutages(self.port[chosen], self.end_ms[chosen], self.counted_ms[chosen], self.from_before[chosen])

    def repairs(self) -> "EndedOutages":
        """Those that count: one that is excluded throughout was none of the operator's."""
        return self.only(self.counted_ms > 0)


def ended_outages(times: PortTimes, start_ms: int, end_ms: int) -> EndedOutages:
    """Those of [start_ms, end_ms), which is within the line's time."""
    spans, _, ended = outages_of(times)
    chosen = ended & (spans.end_ms >= start_ms) & (spans.end_ms < end_ms)
    port, begin, end = (column[chosen] for column in spans)
    counted_from = np.maximum(begin, end - LONGEST_MS)
    counted_ms = end - counted_from - times.excluded_within(port, counted_from, end)
    return EndedOutages(port, end, counted_ms, begin <= times.line.start_ms)
