"""The judgement of registers: whether a connector can have delivered a rise, when a meter was reset, to whom a rise
belongs (docs/adr/0014, "Energy").

Units: registers mWh, power mW, time ms.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from schemas.session import HoldReason
from streams.kernels.runs import (
    I64,
    NULL,
    Bools,
    Runs,
    any_of,
    any_true,
    previous_in_run,
    rows_by_rank,
    rows_where,
    runs_of,
)
from streams.kernels.session_energy import (
    DT_CAP_MS,
    REGISTER_SLACK_MWH,
    UJ_PER_MWH,
    SessionEnergy,
    most_mwh,
    unrounded,
)

# Against the device's own power a register is judged only over a time in which its samples say something of it.
OWN_POWER_MS_MAX: Final = 900_000
OWN_POWER_FACTOR: Final = 4
OWN_POWER_SLACK_MWH: Final = 1_000_000

ROLLBACK: Final = 1
RESET: Final = 2
ZERO: Final = 4
IMPLAUSIBLE: Final = 8
EXPORT_IMPLAUSIBLE: Final = 512


@dataclass(slots=True)
class Rises:
    """What one register of each of some segments rises by, and whose that is."""

    flags: NDArray[np.int16]
    in_session_mwh: I64
    outside_mwh: I64
    rejected_mwh: I64  # below 0 where what was rejected before proves right


@dataclass(slots=True)
class _Verdict:
    """What each register is taken for, and the registers that it was compared with. Of `fits`, `series`, `mixed` and
    `reset` at most one is true; with none it is the candidate."""

    register: I64
    base: I64  # the last accepted one; where there is none, the register
    base_ts: I64
    old: I64  # the base before a reset, where `mixed`
    candidate: I64  # the one before, if it is pending, else the register
    candidate_ts: I64
    opening: Bools  # there was no base
    registered: Bools  # the segment has accepted one
    same: Bools  # of the moment of the base
    fits: Bools  # plausible after the base
    series: Bools  # the device counts each session from there
    mixed: Bools  # of the series before a reset
    reset: Bools  # plausible after the candidate
    accepted: Bools


def plausible(rise_mwh: I64, dt_ms: I64, power_max_mw: I64, peak_mw: I64) -> Bools:
    """Whether the connector can have delivered this, by its rating and by the power that its device reported."""
    dt_ms = np.clip(dt_ms, 0, DT_CAP_MS)
    can: Bools = (rise_mwh >= 0) & (rise_mwh <= most_mwh(dt_ms, power_max_mw))
    own = (peak_mw > 0) & (dt_ms <= OWN_POWER_MS_MAX)
    own_mwh = np.where(own, dt_ms, 0) * peak_mw // UJ_PER_MWH * OWN_POWER_FACTOR + OWN_POWER_SLACK_MWH
    can &= ~own | (rise_mwh <= own_mwh)
    return can


def put_late(segments: SessionEnergy, segment: I64, rise_mwh: I64, ts_ms: I64, unpowered: Bools) -> None:
    """Keep of the rise to these sessions' first register what they may have delivered themselves. `unpowered`: those
    that had no power before it."""
    begin_ms = segments.begin_ms[segment]
    elapsed_ms = np.where(begin_ms == NULL, 0, ts_ms - begin_ms)
    late_mwh = np.minimum(rise_mwh, most_mwh(elapsed_ms, segments.power_max_mw[segment]))
    unknown = unpowered & (segments.before_mwh[segment] == NULL)
    late_mwh = np.where(unknown, REGISTER_SLACK_MWH + 1, late_mwh)  # more than nothing
    segments.late_mwh[segment] = np.where(elapsed_ms > 0, late_mwh, 0)
    segments.begin_ms[segment] = NULL


def advance_registers(
    segments: SessionEnergy, segment: I64, register: I64, ts_ms: I64, in_session: Bools, unpowered: Bools
) -> Rises:
    """Account for one register of each of these segments, which advance. `unpowered`: those that had no power before
    it."""
    verdict = _judge(segments, segment, register, ts_ms, in_session)
    missing_mwh = segments.old_counted_mwh[segment] + verdict.register - verdict.old - segments.counted_mwh[segment]
    rise, own = _assign_rise(verdict, in_session, missing_mwh)
    leap = _reject(segments, segment, verdict, in_session, missing_mwh)
    counted = np.where(own | ~in_session, rise, 0)
    _put_register(segments, segment, verdict, ts_ms, leap, rise, counted, unpowered)
    doubt = np.where(verdict.register == 0, ZERO, np.where(verdict.register < verdict.base, ROLLBACK, IMPLAUSIBLE))
    flags = np.where(verdict.fits | verdict.series, 0, np.where(verdict.accepted, RESET, doubt)).astype(np.int16)
    return Rises(flags, np.where(own, rise, 0), np.where(own, 0, rise), leap)


def _judge(s: SessionEnergy, segment: I64, register: I64, ts_ms: I64, in_session: Bools) -> _Verdict:
    """Compare a register of each of these segments with those that it accepted, and that it did not."""
    power_max, peak = s.power_max_mw[segment], s.peak_mw[segment]
    base, base_ts = s.register_last_mwh[segment], s.register_ts_ms[segment]
    opening = base == NULL
    base, base_ts = np.where(opening, register, base), np.where(opening, ts_ms, base_ts)
    registered = s.register_first_mwh[segment] != NULL
    register = unrounded(register, base)

    same = ~opening & (ts_ms <= base_ts)  # a moment with several registers
    earlier = same & (s.anchor_mwh[segment] != NULL)
    since = np.where(earlier, s.anchor_mwh[segment], base)
    since_ts = np.where(earlier, s.anchor_ts_ms[segment], base_ts)
    none = np.zeros(len(segment), np.int64)
    fits = opening | (
        (register >= base) & plausible(register - since, ts_ms - since_ts, power_max, np.where(same, none, peak))
    )
    series = ~fits & in_session & ~registered & (register == s.series_mwh[segment])
    old = s.old_mwh[segment]
    mixed = ~fits & ~series & (old != NULL)
    old = np.where(mixed, old, register)
    mixed &= plausible(register - old, np.where(mixed, ts_ms - s.old_ts_ms[segment], 0), power_max, none)
    candidate = s.candidate_mwh[segment]
    pending = candidate != NULL
    candidate = np.where(pending, candidate, register)
    candidate_ts = np.where(pending, s.candidate_ts_ms[segment], ts_ms)
    elsewhere = (candidate > base) | (candidate * 2 < base)  # a fall by less is a rollback, never a reset
    reset = pending & ~fits & ~series & ~mixed & elsewhere & (register > candidate)
    reset &= plausible(register - candidate, ts_ms - candidate_ts, power_max, peak)
    return _Verdict(
        register, base, base_ts, old, candidate, candidate_ts, opening, registered, same, fits, series, mixed, reset,
        fits | series | mixed | reset,
    )  # fmt: skip


def _assign_rise(verdict: _Verdict, in_session: Bools, missing_mwh: I64) -> tuple[I64, Bools]:
    """What each register rises by, and whether that is the session's. `missing_mwh`: what the series before a reset has
    risen by and was not counted."""
    register, reset, mixed = verdict.register, verdict.reset, verdict.mixed
    rise = np.where(verdict.fits, register - verdict.base, np.where(reset, register - verdict.candidate, 0))
    rise = np.where(mixed, np.maximum(missing_mwh, 0), rise)
    return rise, in_session & (verdict.registered | reset | mixed)


def _reject(s: SessionEnergy, segment: I64, verdict: _Verdict, in_session: Bools, missing_mwh: I64) -> I64:
    """What a reset leaps by, which is nobody's. Holds the sessions that it contradicts."""
    base, reset, mixed = verdict.base, verdict.reset, verdict.mixed
    # A base of 0 is a placeholder: it was no register.
    leap = np.where(reset & (base != 0), np.maximum(verdict.candidate - base, 0), 0)
    leap = np.where(mixed, -s.old_rejected_mwh[segment], leap)
    leapt = reset & in_session & verdict.registered & (leap > 0)
    disagree = mixed & in_session & (missing_mwh < 0)
    s.hold[segment] |= leapt * np.int64(HoldReason.REGISTER_LEAPT)
    s.hold[segment] |= disagree * np.int64(HoldReason.REGISTERS_MIXED)
    return leap


def _put_register(
    s: SessionEnergy,
    segment: I64,
    verdict: _Verdict,
    ts_ms: I64,
    leap: I64,
    rise: I64,
    counted: I64,
    unpowered: Bools,
) -> None:
    """The segments after these registers. `counted`: of the rise."""
    register, base, base_ts, old = verdict.register, verdict.base, verdict.base_ts, verdict.old
    candidate, candidate_ts = verdict.candidate, verdict.candidate_ts
    fits, mixed, reset, accepted = verdict.fits, verdict.mixed, verdict.reset, verdict.accepted
    first = accepted & ~verdict.registered
    begins = first | (reset & (base == 0) & (s.register_first_mwh[segment] == 0))
    open_uj = np.where(reset, s.candidate_tail_uj[segment], s.tail_uj[segment])
    s.head_uj[segment] += np.where(first, open_uj, 0)
    if any_true(first):
        put_late(s, segment[first], np.where(fits, rise, 0)[first], ts_ms[first], unpowered[first])
    s.register_first_mwh[segment] = np.where(
        begins, np.where(reset, candidate, register), s.register_first_mwh[segment]
    )
    s.old_counted_mwh[segment] = np.where(reset, s.counted_mwh[segment], s.old_counted_mwh[segment])
    s.old_rejected_mwh[segment] = np.where(reset, leap, np.where(mixed, 0, s.old_rejected_mwh[segment]))
    s.old_ts_ms[segment] = np.where(reset, base_ts, s.old_ts_ms[segment])
    s.old_mwh[segment] = np.where(reset, base, np.where(mixed, NULL, s.old_mwh[segment]))
    s.counted_mwh[segment] += counted
    moved = accepted & ~verdict.same
    anchor = np.where(fits & ~verdict.opening, base, np.where(reset, candidate, np.where(mixed, old, NULL)))
    old_ts = np.where(mixed, s.old_ts_ms[segment], NULL)
    anchor_ts = np.where(fits & ~verdict.opening, base_ts, np.where(reset, candidate_ts, old_ts))
    s.anchor_mwh[segment] = np.where(moved, anchor, s.anchor_mwh[segment])
    s.anchor_ts_ms[segment] = np.where(moved, anchor_ts, s.anchor_ts_ms[segment])
    s.register_last_mwh[segment] = np.where(accepted, register, s.register_last_mwh[segment])
    s.register_ts_ms[segment] = np.where(accepted, ts_ms, s.register_ts_ms[segment])
    s.candidate_tail_uj[segment] = np.where(accepted, 0, s.tail_uj[segment])
    s.tail_uj[segment] = np.where(accepted, 0, s.tail_uj[segment])
    s.candidate_mwh[segment] = np.where(accepted, NULL, register)
    s.candidate_ts_ms[segment] = np.where(accepted, NULL, ts_ms)
    s.peak_mw[segment] = np.where(accepted, np.maximum(s.last_power_mw[segment], 0), s.peak_mw[segment])


def advance_exports(segments: SessionEnergy, runs: Runs, ts_ms: I64, export_mwh: I64, flags: NDArray[np.int16]) -> None:
    """Energy fed back: what the export register rises by, judged as the other one is by rated power, time and reset.
    Adds to `flags`."""
    rows = rows_where(export_mwh != NULL)
    if not len(rows):
        return
    exporting = runs_of(runs.key[runs.of_row[rows]])
    segment, register, at_ms = exporting.key, export_mwh[rows], ts_ms[rows]
    before = previous_in_run(register, exporting, segments.export_last_mwh[segment])
    before_ms = previous_in_run(at_ms, exporting, segments.export_ts_ms[segment])
    first = before == NULL
    rise = np.where(first, 0, register - before)
    elapsed_ms = np.where(first, 0, at_ms - before_ms)
    odd = ~plausible(rise, elapsed_ms, segments.power_max_mw[segment][exporting.of_row], np.zeros_like(rise))
    plain = ~(any_of(odd, exporting) | (segments.export_candidate_mwh[segment] != NULL))
    segments.export_mwh[segment[plain]] += np.add.reduceat(rise, exporting.start)[plain]
    last = exporting.last[plain]
    segments.export_last_mwh[segment[plain]], segments.export_ts_ms[segment[plain]] = register[last], at_ms[last]
    for of_runs, at in rows_by_rank(exporting, rows_where(~plain)):
        fits = _export_round(segments, segment[of_runs], register[at], at_ms[at])
        flags[rows[at]] |= np.where(fits, 0, EXPORT_IMPLAUSIBLE).astype(np.int16)


def _export_round(segments: SessionEnergy, segment: I64, register: I64, ts_ms: I64) -> Bools:
    """Account for one export register of each of these segments. Returns which are accepted."""
    power_max, none = segments.power_max_mw[segment], np.zeros(len(segment), np.int64)
    base, base_ts = segments.export_last_mwh[segment], segments.export_ts_ms[segment]
    opening = base == NULL
    base, base_ts = np.where(opening, register, base), np.where(opening, ts_ms, base_ts)
    register = unrounded(register, base)
    candidate = segments.export_candidate_mwh[segment]
    pending = candidate != NULL
    candidate = np.where(pending, candidate, register)
    candidate_ts = np.where(pending, segments.export_candidate_ts_ms[segment], ts_ms)
    fits = plausible(register - base, ts_ms - base_ts, power_max, none)
    reset = ~fits & pending & ((candidate > base) | (candidate * 2 < base)) & (register > candidate)
    reset &= plausible(register - candidate, ts_ms - candidate_ts, power_max, none)
    accepted: Bools = fits | reset
    segments.hold[segment] |= (reset & (candidate > base) & (base != 0)) * np.int64(HoldReason.REGISTER_LEAPT)
    segments.export_mwh[segment] += np.where(accepted, register - np.where(reset, candidate, base), 0)
    segments.export_last_mwh[segment] = np.where(accepted, register, segments.export_last_mwh[segment])
    segments.export_ts_ms[segment] = np.where(accepted, ts_ms, segments.export_ts_ms[segment])
    segments.export_candidate_mwh[segment] = np.where(accepted, NULL, register)
    segments.export_candidate_ts_ms[segment] = np.where(accepted, NULL, ts_ms)
    return accepted
