"""Stretches of time and of energy that the readings of sessions close, with what held during them.

Rules: docs/adr/0009.
"""

from dataclasses import dataclass, fields
from typing import Final

import numpy as np

from streams.kernels.energy import Trace
from streams.kernels.runs import I64, NULL, Bools, Runs, shifted

IDLE, CHARGING, PARKING, RESERVATION, RESERVATION_EXPIRED = range(5)  # schemas.usage.UsageKind
_ASKS_POWER: Final = -1
# By schemas.reading.Status: None, Available, Preparing, Charging, SuspendedEVSE, SuspendedEV, Finishing, Reserved,
# Unavailable, Faulted.
_KIND_OF_STATUS: Final = np.array(
    [_ASKS_POWER, IDLE, PARKING, CHARGING, PARKING, PARKING, PARKING, IDLE, IDLE, IDLE], np.int64
)


@dataclass(slots=True)
class UsageIntervals:
    """What readings close, in order of event time inside a session. int64, one row a reading of a session.

    time: [since_ms, ts_ms) with kind, power and current held before the reading; since_ms NULL: it is the first, and
    power and current are what it holds itself. energy: [anchor_ms, ts_ms) from before_mwh to after_mwh (cumulative);
    anchor_ms NULL: it closes none, and before_mwh is the energy there was.
    """

    session: I64  # row of Meters
    since_ms: I64
    ts_ms: I64
    kind: I64
    power_mw: I64
    current_ma: I64
    anchor_ms: I64
    before_mwh: I64
    after_mwh: I64

    def where(self, chosen: Bools | I64) -> "UsageIntervals":
        """A copy of these rows."""
        return UsageIntervals(*(getattr(self, f.name)[chosen] for f in fields(self)))

    def block(self, rows: slice) -> "UsageIntervals":
        """A view of these rows."""
        return UsageIntervals(*(getattr(self, f.name)[rows] for f in fields(self)))

    def __len__(self) -> int:
        return len(self.session)


@dataclass(slots=True)
class Holds:
    """What stands after the last reading of each session. int64, one row a session."""

    last_ts_ms: I64  # NULL: no reading yet
    power_mw: I64  # the last believed one; NULL: none yet
    current_ma: I64  # NULL: none yet
    kind: I64  # CHARGING at first


def stretches_of(
    holds: Holds, runs: Runs, ts_ms: I64, power_mw: I64, current_ma: I64, status: I64, trace: Trace, power_max_mw: int
) -> UsageIntervals:
    """The stretches that these readings close: sorted by session (`runs.key`, a row of `holds`), each in order of event
    time; NULL where the device said nothing. Advances `holds`."""
    lane = runs.key
    believed = (power_mw != NULL) & (power_mw <= power_max_mw)
    kind = _KIND_OF_STATUS[status]
    kind = np.where((kind == _ASKS_POWER) & believed, np.where(power_mw > 0, CHARGING, PARKING), kind)
    power, power_before = _held(power_mw, believed, runs, holds.power_mw[lane])
    current, current_before = _held(current_ma, current_ma != NULL, runs, holds.current_ma[lane])
    kind, kind_before = _held(kind, kind != _ASKS_POWER, runs, holds.kind[lane])
    since_ms = shifted(ts_ms, runs, holds.last_ts_ms[lane])
    begins = since_ms == NULL
    last = runs.start + runs.length - 1
    holds.last_ts_ms[lane], holds.power_mw[lane] = ts_ms[last], power[last]
    holds.current_ma[lane], holds.kind[lane] = current[last], kind[last]
    return UsageIntervals(
        session=lane[runs.of_row],
        since_ms=since_ms,
        ts_ms=ts_ms,
        kind=kind_before,
        power_mw=np.maximum(np.where(begins, power, power_before), 0),  # NULL is negative
        current_ma=np.maximum(np.where(begins, current, current_before), 0),
        anchor_ms=trace.anchor_ms,
        before_mwh=trace.before_mwh,
        after_mwh=trace.after_mwh,
    )


def _held(values: I64, known: Bools, runs: Runs, carry: I64) -> tuple[I64, I64]:
    """What stands after each row, and before it: the newest known value of its run, else `carry` (one a run)."""
    if known.all():
        return values, shifted(values, runs, carry)
    source = np.where(known, np.arange(len(known)), -1)
    np.maximum.accumulate(source, out=source)
    own = source >= runs.start[runs.of_row]
    after = np.where(own, values[source], carry[runs.of_row])
    return after, shifted(after, runs, carry)
