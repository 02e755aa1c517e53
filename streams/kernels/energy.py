"""Energy of a connector's segments from its readings, in order: from registers, where there are none from power.

Registers are judged by the rules of docs/adr/0014: here in closed form where those of a connector are plain, the others
one by one by streams/kernels/registers. Before the first and after the last accepted register of a session, energy is
integrated from power by sample and hold: a power holds until the next reading (left rectangle), and a reading without
power does not change it. Only import counts: negative power (vehicle to grid) integrates as 0.

Readings come in the order of the connector's timeline. A segment is a session, or what is outside of one.

Units: registers mWh, power mW, time ms, integrated energy uJ (mW x ms, exact); 1 mWh = 3,600,000 uJ.
"""

from dataclasses import dataclass, field, fields
from typing import Final

import numpy as np
from numpy.typing import NDArray

from schemas.session import HoldReason
from streams.kernels.registers import (
    IMPLAUSIBLE,
    RESET,
    Rises,
    advance_exports,
    advance_registers,
    plausible,
    put_late,
)
from streams.kernels.runs import (
    I64,
    NULL,
    Bools,
    Runs,
    all_true,
    any_of,
    any_true,
    by_row,
    previous_in_run,
    rows_by_rank,
    rows_where,
)
from streams.kernels.session_energy import (
    REGISTER_SLACK_MWH,
    SAMPLED_MS_MAX,
    UJ_PER_MWH,
    SessionEnergy,
    unsure_uj,
)

HOLD_MS_MAX: Final = 86_400_000  # a power holds for a day at most; 10 MW x a day = 8.6e17 uJ, ten of them fit an int64
_GAP_MS_MAX: Final = np.iinfo(np.int32).max  # 24 days


@dataclass(slots=True)
class Samples:
    """Readings sorted by segment, in order of the timeline. NULL where the device sent nothing."""

    ts_ms: I64
    register_mwh: I64
    power_mw: I64
    export_mwh: I64 | None = None  # register of the energy fed back; None: no reading has one

    def at(self, rows: I64) -> "Samples":
        """A copy of these rows."""
        export_mwh = None if self.export_mwh is None else self.export_mwh[rows]
        return Samples(self.ts_ms[rows], self.register_mwh[rows], self.power_mw[rows], export_mwh)

    def __len__(self) -> int:
        return len(self.ts_ms)


@dataclass(slots=True)
class Accounted:
    """What each reading's register accounts for, one row per reading; 0 where nothing."""

    flags: NDArray[np.int16]
    in_session_mwh: I64
    outside_mwh: I64
    rejected_mwh: I64  # below 0 where what was rejected before proves right

    @classmethod
    def blank(cls, rows: int) -> "Accounted":
        """Of readings that account for nothing."""
        return cls(np.zeros(rows, np.int16), *(np.zeros(rows, np.int64) for _ in range(3)))

    def put(self, rows: I64, rises: Rises) -> None:
        """Set what these rows account for."""
        self.flags[rows] |= rises.flags
        self.in_session_mwh[rows], self.outside_mwh[rows] = rises.in_session_mwh, rises.outside_mwh
        self.rejected_mwh[rows] = rises.rejected_mwh


@dataclass(slots=True)
class EnergyTrace:
    """On demand, one row per reading: the interval of energy that it closes, in cumulative mWh (docs/adr/0009)."""

    anchor_ms: I64  # where the interval begins; NULL: the reading closes none
    before_mwh: I64  # the energy at its beginning; without an interval, the energy to date
    after_mwh: I64  # at its end
    by_register: Bools  # it is the rise between two registers

    @classmethod
    def blank(cls, rows: int) -> "EnergyTrace":
        """A trace to be filled by `advance`."""
        anchor_ms, before_mwh, after_mwh = (np.full(rows, NULL, np.int64) for _ in range(3))
        return cls(anchor_ms, before_mwh, after_mwh, np.zeros(rows, np.bool_))

    def at(self, rows: I64) -> "EnergyTrace":
        """A copy of these rows."""
        return EnergyTrace(*(getattr(self, f.name)[rows] for f in fields(self)))

    def put(self, rows: I64, anchor_ms: I64, before_mwh: I64, after_mwh: I64, by_register: Bools) -> None:
        """Set the intervals that these rows close."""
        self.anchor_ms[rows], self.before_mwh[rows], self.after_mwh[rows] = anchor_ms, before_mwh, after_mwh
        self.by_register[rows] = by_register


@dataclass(slots=True)
class _Job:
    """One call of `advance`."""

    segments: SessionEnergy
    samples: Samples
    runs: Runs  # `key`: row of `segments`
    in_session: Bools  # (runs,)
    trace: EnergyTrace | None
    too_much: Bools = field(init=False)  # (rows,) of the power
    credible: Bools = field(init=False)  # (rows,) likewise
    out: Accounted = field(init=False)

    def __post_init__(self) -> None:
        power_mw = self.samples.power_mw
        self.too_much = power_mw > by_row(self.segments.power_max_mw[self.runs.key], self.runs)
        self.credible = (power_mw != NULL) & ~self.too_much
        self.out = Accounted.blank(len(self.samples))


def advance(
    segments: SessionEnergy, samples: Samples, runs: Runs, in_session: Bools, trace: EnergyTrace | None = None
) -> Accounted:
    """Account for the samples. `runs.key` is each run's row of `segments`, which advance; `in_session`: (runs,)."""
    if not len(runs.key):
        return Accounted.blank(len(samples))
    job = _Job(segments, samples, runs, in_session, trace)
    odd = rows_where(~_advance_plain(job))
    for of_runs, at in rows_by_rank(runs, odd):
        _round(job, of_runs, at)
    if any_true(job.too_much):
        job.out.flags[job.too_much] |= IMPLAUSIBLE
        segments.hold[runs.key[any_of(job.too_much, runs)]] |= HoldReason.POWER_IMPLAUSIBLE
    if samples.export_mwh is not None:
        advance_exports(segments, runs, samples.ts_ms, samples.export_mwh, job.out.flags)
    if not all_true(in_session):  # nothing is integrated outside
        for name in ("head_uj", "tail_uj", "power_uj", "unsure_uj", "gap_ms", "power_gap_ms"):
            getattr(segments, name)[runs.key[~in_session]] = 0
    return job.out


def _area_uj(power_mw: I64, duration_ms: I64) -> I64:
    area_uj: I64 = np.maximum(power_mw, 0) * np.minimum(duration_ms, HOLD_MS_MAX)  # NULL is negative, like any export
    return area_uj


def _elapsed(since_ms: I64, until_ms: I64) -> I64:
    """0 where `since_ms` is NULL."""
    never = since_ms == NULL
    elapsed_ms: I64 = until_ms - since_ms
    if any_true(never):
        elapsed_ms[never] = 0
    return elapsed_ms


def _ts_before(job: _Job, carry: I64, before_ts: I64) -> I64:
    """Like `before_ts`, the event times before each row, with this time (one per run) before the first of a run."""
    if all_true(carry == before_ts[job.runs.start]):
        return before_ts
    return previous_in_run(job.samples.ts_ms, job.runs, carry)


def _power_before(job: _Job, before_ts: I64) -> tuple[I64, I64]:
    """The power that holds when each row arrives, and when it was reported: by the last row before it with a credible
    one."""
    segments, samples, runs = job.segments, job.samples, job.runs
    power, power_ts = segments.last_power_mw[runs.key], segments.power_ts_ms[runs.key]
    if all_true(job.credible):
        return previous_in_run(samples.power_mw, runs, power), _ts_before(job, power_ts, before_ts)
    source = np.where(job.credible, np.arange(len(job.credible)), -1)
    np.maximum.accumulate(source, out=source)
    source = previous_in_run(source, runs, np.full(len(runs.start), -1))
    own = source >= runs.start[runs.of_row]
    return (
        np.where(own, samples.power_mw[source], power[runs.of_row]),
        np.where(own, samples.ts_ms[source], power_ts[runs.of_row]),
    )


def _advance_plain(job: _Job) -> Bools:
    """Account for the plain runs in closed form: those with a register in all rows or in none, each at a later moment
    and plausible after the one before. Returns which these are."""
    segments, samples, runs = job.segments, job.samples, job.runs
    before_ts = previous_in_run(samples.ts_ms, runs, segments.last_ts_ms[runs.key])
    power_before, power_ts = _power_before(job, before_ts)
    rise, odd = _rises(job, before_ts, power_before)
    plain: Bools = ~(any_of(odd, runs) | (segments.candidate_mwh[runs.key] != NULL))
    if not any_true(plain):
        return plain
    elapsed_ms = _elapsed(before_ts, samples.ts_ms)
    area = _area_uj(power_before, elapsed_ms)
    if job.trace is not None:
        _trace_plain(job.trace, job, plain, area, before_ts)
    _put_plain_registers(job, plain, rise, area)
    gap_ms = elapsed_ms if power_ts is before_ts else _elapsed(power_ts, samples.ts_ms)
    _put_plain_powers(job, plain, area, power_before, power_ts, gap_ms)
    return plain


def _rises(job: _Job, before_ts: I64, power_before: I64) -> tuple[I64, Bools]:
    """What each register rises by, 0 where that is not known, and the rows that make a run other than plain."""
    segments, samples, runs = job.segments, job.samples, job.runs
    register = samples.register_mwh
    metered = register != NULL
    if not any_true(metered):
        return np.zeros(len(register), np.int64), np.zeros(len(register), np.bool_)
    base = previous_in_run(register, runs, segments.register_last_mwh[runs.key])
    base_ts = _ts_before(job, segments.register_ts_ms[runs.key], before_ts)
    known = metered & (base != NULL)
    rise = register - base
    dt_ms = samples.ts_ms - base_ts
    if not all_true(known):
        rise[~known], dt_ms[~known] = 0, 1
    odd = (rise < 0) | (dt_ms <= 0)
    # A rise within the slack is plausible whatever the time and the power.
    high = rows_where(rise > REGISTER_SLACK_MWH)
    if len(high):
        peak = np.maximum(power_before[high], np.where(job.credible[high], samples.power_mw[high], 0))
        run = runs.of_row[high]
        carried = segments.peak_mw[runs.key[run]]
        peak = np.where(high == runs.start[run], np.maximum(peak, carried), peak)
        odd[high] |= ~plausible(rise[high], dt_ms[high], segments.power_max_mw[runs.key[run]], peak)
    if not all_true(metered):
        odd |= metered != metered[runs.start][runs.of_row]
    return rise, odd


def _put_plain_registers(job: _Job, plain: Bools, rise: I64, area: I64) -> None:
    segments, samples, runs = job.segments, job.samples, job.runs
    segment, start = runs.key[plain], runs.start[plain]
    last = runs.last[plain]
    register = samples.register_mwh[start]
    metered = register != NULL
    first = metered & (segments.register_first_mwh[segment] == NULL)  # of the segment

    # The rise to a session's first register lies before it.
    if all_true(plain) and all_true(job.in_session) and not any_true(first):
        job.out.in_session_mwh = rise
        risen = np.add.reduceat(rise, runs.start)
    else:
        own = (job.in_session & plain)[runs.of_row]
        own[start[first]] = False
        rises = plain[runs.of_row]
        job.out.in_session_mwh += np.where(own, rise, 0)
        job.out.outside_mwh += np.where(rises & ~own, rise, 0)
        counted = own | (rises & ~job.in_session[runs.of_row])
        risen = np.add.reduceat(np.where(counted, rise, 0), runs.start)[plain]
    segments.counted_mwh[segment] += risen

    if any_true(first):
        segments.head_uj[segment[first]] += (area[start] + segments.tail_uj[segment])[first]
        segments.register_first_mwh[segment[first]] = register[first]
        unpowered = segments.power_ts_ms[segment[first]] == NULL
        put_late(segments, segment[first], rise[start[first]], samples.ts_ms[start[first]], unpowered)
    if not all_true(metered):
        bare, bare_uj = ~metered, np.add.reduceat(area, runs.start)[plain]
        segments.tail_uj[segment[bare]] += bare_uj[bare]
        segment, start, last = segment[metered], start[metered], last[metered]
    segments.tail_uj[segment] = 0
    several, before_last = last > start, np.maximum(last - 1, 0)
    segments.anchor_mwh[segment] = np.where(
        several, samples.register_mwh[before_last], segments.register_last_mwh[segment]
    )
    segments.anchor_ts_ms[segment] = np.where(several, samples.ts_ms[before_last], segments.register_ts_ms[segment])
    segments.register_last_mwh[segment] = samples.register_mwh[last]
    segments.register_ts_ms[segment] = samples.ts_ms[last]


def _put_plain_powers(job: _Job, plain: Bools, area: I64, power_before: I64, power_ts: I64, gap_ms: I64) -> None:
    segments, samples, runs = job.segments, job.samples, job.runs
    segment, last = runs.key[plain], runs.last[plain]
    longest = np.maximum.reduceat(gap_ms, runs.start)
    _lengthen(segments.gap_ms, segment, longest[plain])
    powered = (
        longest
        if all_true(power_before > 0)
        else np.maximum.reduceat(np.where(power_before > 0, gap_ms, 0), runs.start)
    )
    _lengthen(segments.power_gap_ms, segment, powered[plain])
    if any_true(longest > SAMPLED_MS_MAX):
        power = np.where(job.credible, samples.power_mw, power_before)
        unsure = np.where(job.credible, unsure_uj(power_before, power, gap_ms), 0)
        segments.unsure_uj[segment] += np.add.reduceat(unsure, runs.start)[plain]
    segments.power_uj[segment] += np.add.reduceat(area, runs.start)[plain]
    held = np.where(job.credible[last], samples.power_mw[last], power_before[last])
    peak = held
    metered = samples.register_mwh[runs.start[plain]] != NULL
    if not all_true(metered):
        power = np.where(job.credible, samples.power_mw, NULL)
        highest = np.maximum(np.maximum.reduceat(power, runs.start)[plain], segments.peak_mw[segment])
        peak = np.where(metered, held, highest)
    segments.peak_mw[segment] = np.maximum(peak, 0)
    segments.power_ts_ms[segment] = np.where(job.credible[last], samples.ts_ms[last], power_ts[last])
    segments.last_power_mw[segment] = held
    segments.last_ts_ms[segment] = samples.ts_ms[last]
    segments.readings[segment] += runs.length[plain]


def _lengthen(longest_ms: I64, segment: I64, gap_ms: I64) -> None:
    """The longest of these segments, up to what the state can keep: all beyond that is judged alike."""
    longest_ms[segment] = np.minimum(np.maximum(longest_ms[segment], gap_ms), _GAP_MS_MAX)


def _trace_plain(trace: EnergyTrace, job: _Job, plain: Bools, area_uj: I64, before_ts: I64) -> None:
    """The intervals that the rows of plain runs close; to be called before the segments advance."""
    segments, samples, runs = job.segments, job.samples, job.runs
    segment, first = runs.key, samples.register_mwh[runs.start]
    metered, registered = first != NULL, segments.register_first_mwh[segment] != NULL
    counted, head_uj, tail_uj = segments.counted_mwh[segment], segments.head_uj[segment], segments.tail_uj[segment]
    base = np.where(registered, segments.register_last_mwh[segment], first)
    # Of the head, with the first register.
    opening_uj = np.where(metered & ~registered, tail_uj + area_uj[runs.start], 0)
    summed = np.cumsum(area_uj)
    integrated = summed - (summed - area_uj)[runs.start][runs.of_row]
    of_row = runs.of_row
    after = np.where(
        metered[of_row],
        (counted + (head_uj + opening_uj) // UJ_PER_MWH - base)[of_row] + samples.register_mwh,
        np.where(
            registered[of_row],
            (counted + head_uj // UJ_PER_MWH)[of_row],
            (tail_uj[of_row] + integrated) // UJ_PER_MWH,
        ),
    )
    before = previous_in_run(after, runs, segments.billed_mwh()[segment])
    first_anchor = np.where(registered, segments.register_ts_ms[segment], before_ts[runs.start])
    anchor = previous_in_run(samples.ts_ms, runs, first_anchor)
    anchor[(registered & ~metered)[of_row]] = NULL
    rows = rows_where(plain[of_row])
    by_register = metered[of_row] & previous_in_run(np.ones(len(samples), np.int64), runs, registered * 1).astype(
        np.bool_
    )
    trace.put(rows, anchor[rows], before[rows], after[rows], by_register[rows])


def _round(job: _Job, run: I64, at: I64) -> None:
    """Advance the segments of these runs by one reading each."""
    s, samples, segment = job.segments, job.samples, job.runs.key[run]
    before = None if job.trace is None else s.at(segment)
    ts_ms, power, credible = samples.ts_ms[at], samples.power_mw[at], job.credible[at]
    area = _area_uj(s.last_power_mw[segment], _elapsed(s.last_ts_ms[segment], ts_ms))
    unpowered, gap = s.power_ts_ms[segment] == NULL, _elapsed(s.power_ts_ms[segment], ts_ms)
    _lengthen(s.gap_ms, segment, gap)
    powered = np.where(s.last_power_mw[segment] > 0, gap, 0)
    _lengthen(s.power_gap_ms, segment, powered)
    if any_true(gap > SAMPLED_MS_MAX):
        s.unsure_uj[segment] += np.where(credible, unsure_uj(s.last_power_mw[segment], power, gap), 0)
    s.tail_uj[segment] += area
    s.power_uj[segment] += area
    s.readings[segment] += 1
    s.last_ts_ms[segment] = ts_ms
    s.last_power_mw[segment] = np.where(credible, power, s.last_power_mw[segment])
    s.power_ts_ms[segment] = np.where(credible, ts_ms, s.power_ts_ms[segment])
    s.peak_mw[segment] = np.maximum(s.peak_mw[segment], np.where(credible, power, 0))
    metered = samples.register_mwh[at] != NULL
    if any_true(metered):
        rows = at[metered]
        rises = advance_registers(
            s, segment[metered], samples.register_mwh[rows], ts_ms[metered], job.in_session[run[metered]],
            unpowered[metered],
        )  # fmt: skip
        job.out.put(rows, rises)
    if job.trace is not None and before is not None:
        _trace_round(job.trace, before, s.at(segment), at, metered, job.out.flags[at])


def _trace_round(
    trace: EnergyTrace, before: SessionEnergy, after: SessionEnergy, at: I64, metered: Bools, flags: NDArray[np.int16]
) -> None:
    registered, pending = before.register_first_mwh != NULL, before.candidate_mwh != NULL
    accepted = metered & (after.candidate_mwh == NULL)
    anchor = np.where(accepted, before.register_ts_ms, NULL)
    anchor = np.where(~registered, np.where(pending, before.candidate_ts_ms, before.last_ts_ms), anchor)
    anchor = np.where(~registered & pending & ~metered, NULL, anchor)  # the candidate decides when it is judged
    from_candidate = accepted & pending & ((flags & RESET) != 0) & (after.old_mwh != NULL)
    anchor = np.where(from_candidate, before.candidate_ts_ms, anchor)
    by_register = from_candidate | (accepted & registered)
    trace.put(at, anchor, before.billed_mwh(), np.maximum(after.billed_mwh(), before.billed_mwh()), by_register)
