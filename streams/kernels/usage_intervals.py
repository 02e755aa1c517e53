"""Intervals of time and of energy that the readings of sessions close, with the kind of use, power and current in them.

Rules: docs/adr/0009.
"""

from dataclasses import dataclass, fields
from typing import Final

import numpy as np

from streams.kernels.energy import EnergyTrace
from streams.kernels.runs import I64, NULL, Bools, Runs, all_true, any_true, previous_in_run, rows_where
from streams.kernels.session_energy import UJ_PER_MWH

IDLE, CHARGING, PARKING, RESERVATION, RESERVATION_EXPIRED = range(5)  # schemas.session.UsageKind
NOT_SAID: Final = -1  # a kind of use: neither a status nor a power decides it
VOLT: Final = 230  # nominal, phase to neutral: bounds of current are of the sum over all phases
# By schemas.reading.Status: None, Available, Preparing, Charging, SuspendedEVSE, SuspendedEV, Finishing, Reserved,
# Unavailable, Faulted.
_KIND_OF_STATUS: Final = np.array([NOT_SAID, IDLE, IDLE, CHARGING, IDLE, PARKING, PARKING, IDLE, IDLE, IDLE], np.int64)


@dataclass(slots=True)
class UsageIntervals:
    """What readings close, in order of event time inside a session. int64, one row per reading of a session.

    time: [since_ms, ts_ms), without length where a later reading closes it, with the kind, power and current known
    before the reading, or that follow from the register; since_ms NULL: it is the first, and power and current are its
    own, NULL where it says none. energy: [anchor_ms, ts_ms) from before_mwh to after_mwh (cumulative); anchor_ms NULL:
    it closes none, and before_mwh is the energy to date.
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
    kind: I64  # as a status or a power said; NOT_SAID: neither did yet
    register_power_mw: I64  # between the last two registers; NULL: none yet. It counts while power_mw is NULL
    open_since_ms: I64  # where time begins that no reading has closed yet; NULL: the last one closed all


def intervals_of(
    last_values: LastValues,
    runs: Runs,
    ts_ms: I64,
    power_mw: I64,
    current_ma: I64,
    status: I64,
    trace: EnergyTrace,
    power_max_mw: I64,
) -> UsageIntervals:
    """The intervals that these readings close.

    Readings are sorted by session (`runs.key`, a row of `last_values`), each in order of event time; NULL where the
    device sent nothing. Advances `last_values`.
    """
    session = runs.key
    credible = (power_mw != NULL) & (power_mw <= power_max_mw)
    kind = _KIND_OF_STATUS[status]
    kind = np.where((kind == NOT_SAID) & credible, np.where(power_mw > 0, CHARGING, PARKING), kind)
    power, power_before = _last_known(power_mw, credible, runs, last_values.power_mw[session])
    current, current_before = _last_known(current_ma, current_ma != NULL, runs, last_values.current_ma[session])
    kind, kind_before = _last_known(kind, kind != NOT_SAID, runs, last_values.kind[session])
    since_ms = previous_in_run(ts_ms, runs, last_values.last_ts_ms[session])
    begins = since_ms == NULL
    if any_true(unsaid := power_before == NULL):
        register_power_mw, says = _register_power(last_values, runs, ts_ms, trace)
        closes = ~unsaid | begins | says | credible | (kind != kind_before)
        closes |= _not_negative(current) != _not_negative(current_before)
        since_ms = np.where(closes, _closed_until(last_values, runs, ts_ms, closes), ts_ms)
        power_before = np.where(unsaid, register_power_mw, power_before)
        kind_before = np.where(kind_before == NOT_SAID, kind_by_register(register_power_mw), kind_before)
    last = runs.last
    last_values.last_ts_ms[session], last_values.power_mw[session] = ts_ms[last], power[last]
    last_values.current_ma[session], last_values.kind[session] = current[last], kind[last]
    power = np.where(begins, _not_negative(power), np.maximum(power_before, 0))  # NULL is negative
    return UsageIntervals(
        session=session[runs.of_row],
        since_ms=since_ms,
        ts_ms=ts_ms,
        kind=kind_before,
        power_mw=power,
        current_ma=current_of(np.where(begins, current, current_before), power),
        anchor_ms=trace.anchor_ms,
        before_mwh=trace.before_mwh,
        after_mwh=trace.after_mwh,
    )


def current_of(current_ma: I64, power_mw: I64) -> I64:
    """The current that tariffs see: what was said, else that of the power; NULL if there is none of either."""
    current = _not_negative(current_ma)
    follows = rows_where((current == NULL) & (power_mw != NULL))
    if len(follows):
        current[follows] = power_mw[follows] // VOLT
    return current


def _not_negative(values: I64) -> I64:
    return np.where(values == NULL, NULL, np.maximum(values, 0))


def kind_by_register(register_power_mw: I64) -> I64:
    """The kind of use where neither a status nor a power was said."""
    return np.where(register_power_mw == 0, PARKING, CHARGING)


def _closed_until(last_values: LastValues, runs: Runs, ts_ms: I64, closes: Bools) -> I64:
    """Where the time that each row closes begins; NULL: it is the first reading. Advances `last_values`."""
    open_since_ms = last_values.open_since_ms[runs.key]
    carry = np.where(open_since_ms == NULL, last_values.last_ts_ms[runs.key], open_since_ms)
    after, before = _last_known(ts_ms, closes, runs, carry)
    last = runs.last
    last_values.open_since_ms[runs.key] = np.where(closes[last], NULL, after[last])
    return before


def _register_power(last_values: LastValues, runs: Runs, ts_ms: I64, trace: EnergyTrace) -> tuple[I64, Bools]:
    """The power between the last two registers, after each row (NULL: none yet), and which rows say one.

    Those do that close an interval of energy which has a length and begins at a register. Advances `last_values`.
    """
    session = runs.key
    says = trace.by_register & (trace.anchor_ms != NULL) & (trace.anchor_ms < ts_ms)
    length_ms = np.where(says, ts_ms - trace.anchor_ms, 1)
    rise_mwh = np.where(says, trace.after_mwh - trace.before_mwh, 0)
    power_mw = rise_mwh * UJ_PER_MWH // length_ms  # at most power_max_mw for a week, which fits
    power_mw, _ = _last_known(power_mw, says, runs, last_values.register_power_mw[session])
    last_values.register_power_mw[session] = power_mw[runs.last]
    return power_mw, says


def _last_known(values: I64, known: Bools, runs: Runs, carry: I64) -> tuple[I64, I64]:
    """After each row, and before it: the newest known value of its run, else `carry` (one a run)."""
    if all_true(known):
        return values, previous_in_run(values, runs, carry)
    source = np.where(known, np.arange(len(known)), -1)
    np.maximum.accumulate(source, out=source)
    own = source >= runs.start[runs.of_row]
    after = np.where(own, values[source], carry[runs.of_row])
    return after, previous_in_run(after, runs, carry)
