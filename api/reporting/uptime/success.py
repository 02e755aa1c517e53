"""Charging success rate: how many sessions charged the vehicle and were not ended by a fault. Pure.

A session is successful if it delivered at least ENERGY_MIN_UJ and its port was never Faulted while it lasted. Attempts
that never became a session (a card that was refused, a plug that did not lock) are not known to the stream and so not
counted.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from api.reporting.uptime.intervals import Bools, Ints
from api.reporting.uptime.ports import PortLine, Spans
from api.reporting.uptime.uptime import PCT_MILLI
from schemas.reading import Status

UJ_PER_WH: Final = 3_600_000_000
ENERGY_MIN_UJ: Final = 100 * UJ_PER_WH  # 0.1 kWh: what a vehicle takes while it decides not to charge is less


class PortStatuses(NamedTuple):
    """Status intervals of ports. Those of one port do not overlap."""

    spans: Spans
    status: Ints
    error_code: npt.NDArray[np.object_]  # str or None
    vendor_error_code: npt.NDArray[np.object_]


class SessionFaults(NamedTuple):
    """What went wrong while each session lasted."""

    faulted: Bools
    error_codes: Sequence[tuple[str, ...]]  # each once, in order of time


def faults_during(line: PortLine, sessions: Spans, statuses: PortStatuses) -> SessionFaults:
    """Faults and error codes of the sessions' ports from each start to its end, the moment of the end included: a fault
    that ends a session begins at its end."""
    notable = (statuses.status == Status.FAULTED) | (statuses.error_code != None)  # noqa: E711 - element by element
    notable |= statuses.vendor_error_code != None  # noqa: E711 - element by element
    order = np.flatnonzero(notable)
    port = statuses.spans.port[order]
    begins, ends = (line.at(port, moments[order]) for moments in statuses.spans[1:])
    by_time = np.lexsort((ends, begins))
    order, begins, ends = order[by_time], begins[by_time], ends[by_time]
    # Of each session the notable intervals [first, last): of one port they do not overlap, so their ends ascend too.
    first = np.searchsorted(ends, line.at(sessions.port, sessions.start_ms), side="right")
    last = np.searchsorted(begins, line.at(sessions.port, sessions.end_ms), side="right")
    faulted = np.zeros(len(sessions.port), bool)
    codes: list[tuple[str, ...]] = [()] * len(sessions.port)
    for place in np.flatnonzero(first < last).tolist():  # few: most sessions see no fault
        seen = order[first[place] : last[place]]
        faulted[place] = bool((statuses.status[seen] == Status.FAULTED).any())
        pairs = zip(statuses.error_code[seen], statuses.vendor_error_code[seen], strict=True)
        codes[place] = tuple(dict.fromkeys(code for pair in pairs for code in pair if code is not None))
    return SessionFaults(faulted, codes)


def successful(energy_uj: Ints, faulted: Bools) -> Bools:
    """Whether each session was."""
    return np.asarray((energy_uj >= ENERGY_MIN_UJ) & ~faulted)


def success_rate_mpct(successes: int, sessions: int) -> int | None:
    """Thousandths of a percent, rounded down; None without a session."""
    return successes * PCT_MILLI // sessions if sessions else None
