"""Intervals of time and of energy that the readings of sessions close, with the kind of use, power and current in them.

Rules: docs/adr/0009.
"""

from dataclasses import dataclass, fields
from typing import Final

import numpy as np

from streams.kernels.energy import EnergyTrace
from streams.kernels.runs import I64, NULL, Bools, Runs, previous_in_run

IDLE, CHARGING, PARKING, RESERVATION, RESERVATION_EXPIRED = range(5)  # schemas.session.UsageKind
_BY_POWER: Final = -1
# By schemas.reading.Status: None, Available, Preparing, Charging, SuspendedEVSE, SuspendedEV, Finishing, Reserved,
# Unavailable, Faulted.
_KIND_OF_STATUS: Final = np.array(
    [_BY_POWER, IDLE, IDLE, CHARGING, IDLE, PARKING, PARKING, IDLE, IDLE, IDLE], np.int64
)


@dataclass(slots=True)
class UsageIntervals:
    """What readings close, in order of event time inside a session. int64, one row per reading of a session.

    time: [since_ms, ts_ms) with the kind, power and current known before the reading; since_ms NULL: it is the first,
    and power and current are its own. energy: [anchor_ms, ts_ms) from before_mwh to after_mwh (cumulative); anchor_ms
    NULL: it closes none, and before_mwh is the energy to date.
    """

    session: I64  # row of TariffUsage
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
class LastValues:
    """The last known values of each session. int64, one row per session."""

    last_ts_ms: I64  # NULL: no reading yet
    power_mw: I64  # the last credible one; NULL: none yet
    current_ma: I64  # NULL: none yet
    kind: I64  # CHARGING at first


def intervals_of(
    last_values: LastValues,
    runs: Runs,
    ts_ms: I64,
    power_mw: I64,
    current_ma: I64,
    status: I64,
    trace: EnergyTrace,
    power_max_mw: int,
) -> UsageIntervals:
    """The intervals that these readings close.

    Readings are sorted by session (`runs.key`, a row of `last_values`), each in order of event time; NULL where the
    device sent nothing. Advances `last_values`.
    """
    session = runs.key
    credible = (power_mw != NULL) & (power_mw <= power_max_mw)
    kind = _KIND_OF_STATUS[status]
    kind = np.where((kind == _BY_POWER) & credible, np.where(power_mw > 0, CHARGING, PARKING), kind)
    power, power_before = _last_known(power_mw, credible, runs, last_values.power_mw[session])
    current, current_before = _last_known(current_ma, current_ma != NULL, runs, last_values.current_ma[session])
    kind, kind_before = _last_known(kind, kind != _BY_POWER, runs, last_values.kind[session])
    since_ms = previous_in_run(ts_ms, runs, last_values.last_ts_ms[session])
    begins = since_ms == NULL
    last = runs.start + runs.length - 1
    last_values.last_ts_ms[session], last_values.power_mw[session] = ts_ms[last], power[last]
    last_values.current_ma[session], last_values.kind[session] = current[last], kind[last]
    return UsageIntervals(
        session=session[runs.of_row],
        since_ms=since_ms,
        ts_ms=ts_ms,
        kind=kind_before,
        power_mw=np.maximum(np.where(begins, power, power_before), 0),  # NULL is negative
        current_ma=np.maximum(np.where(begins, current, current_before), 0),
        anchor_ms=trace.anchor_ms,
        before_mwh=trace.before_mwh,
        after_mwh=trace.after_mwh,
    )


def _last_known(values: I64, known: Bools, runs: Runs, carry: I64) -> tuple[I64, I64]:
    """After each row, and before it: the newest known value of its run, else `carry` (one a run)."""
    if known.all():
        return values, previous_in_run(values, runs, carry)
    source = np.where(known, np.arange(len(known)), -1)
    np.maximum.accumulate(source, out=source)
    own = source >= runs.start[runs.of_row]
    after = np.where(own, values[source], carry[runs.of_row])
    return after, previous_in_run(after, runs, carry)
