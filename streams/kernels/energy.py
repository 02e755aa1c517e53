"""Energy of a session from its readings, in order: from the register where there is one, else from power.

Between two usable registers the energy is their difference. Before the first and after the last usable register it is
integrated from power by sample and hold: a power holds until the next reading (left rectangle), and a reading without
power does not change it. Only import counts: negative power (vehicle to grid) integrates as 0.

A register that falls, or rises faster than `power_max_mw` allows, is rejected; it becomes the candidate. If the
next register fits the last good one, the candidate was a glitch (rollback, placeholder zero, spike). If instead it
rises plausibly from the candidate, the meter was reset or replaced, and counting goes on from the candidate; what
happened between the two is not billed. A small fall is never taken for a reset: it would be billed twice.

Flags follow the order of arrival: a reading that arrives after a newer one is not judged, so that its flags do not
depend on what else was in its batch. Totals follow the order of time: readings of one batch that overtook each other
are sorted for that. A reading that arrives after a newer one of an earlier batch only marks the session dirty.

Units: registers mWh, power mW, time ms, integrated energy uJ (mW x ms, exact); 1 mWh = 3,600,000 uJ.
"""

from dataclasses import dataclass, fields
from typing import ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from streams.kernels.runs import I64, NULL, Bools, Runs, any_of, column, previous_in_run, rows_by_rank, runs_of

UJ_PER_MWH: Final = 3_600_000
REGISTER_SLACK_MWH: Final = 100_000  # 100 Wh: meters that report in steps, clocks of whole seconds
DT_CAP_MS: Final = 7 * 86_400_000  # power_max_mw x a week stays below 2**63
HOLD_MS_MAX: Final = 86_400_000  # a power holds for a day at most; 1.2 MW x a day = 1.04e17 uJ, 88 of them fit an int64

ROLLBACK: Final = 1
RESET: Final = 2
ZERO: Final = 4
IMPLAUSIBLE: Final = 8


@dataclass(slots=True)
class SessionEnergy:
    """Running energy of sessions, one row per session. All int64."""

    last_ts_ms: I64 = column(NULL)  # newest reading; NULL: none yet
    last_seq: I64 = column(NULL)  # its seq (NULL: none): readings of equal ts are ordered by seq
    last_power_mw: I64 = column(NULL, stored_as="held_mw")  # power that holds since last_ts_ms; NULL: none yet
    register_first_mwh: I64 = column(NULL)  # NULL: none yet
    register_last_mwh: I64 = column(NULL)  # last good one
    register_ts_ms: I64 = column(NULL)
    candidate_mwh: I64 = column(NULL)  # NULL: none
    candidate_ts_ms: I64 = column(NULL)
    counted_mwh: I64 = column()  # between registers
    head_uj: I64 = column()  # integrated before the first register
    tail_uj: I64 = column()  # integrated since the last good register (or since the start)
    readings: I64 = column()
    dirty: I64 = column()  # 1: readings came out of order; the totals are to be computed again from all of them

    # What decides how the next reading counts; the others are totals.
    CARRIED: ClassVar = (
        "last_ts_ms",
        "last_seq",
        "last_power_mw",
        "register_last_mwh",
        "register_ts_ms",
        "candidate_mwh",
        "candidate_ts_ms",
    )

    @classmethod
    def fresh(cls, rows: int) -> "SessionEnergy":
        """Sessions without a reading."""
        return cls(*(np.full(rows, f.metadata["start"], np.int64) for f in fields(cls)))

    def at(self, rows: I64) -> "SessionEnergy":
        """A copy of these rows."""
        return SessionEnergy(*(getattr(self, f.name)[rows] for f in fields(self)))

    def put(self, rows: I64, other: "SessionEnergy") -> None:
        """Overwrite these rows with all rows of `other`, in order."""
        for f in fields(self):
            getattr(self, f.name)[rows] = getattr(other, f.name)

    def energy_uj(self) -> I64:
        """Energy to date."""
        return self.counted_mwh * UJ_PER_MWH + self.head_uj + self.tail_uj

    def billed_mwh(self) -> I64:
        """Energy to date that is billed: what follows the last register counts with the next, or at the end."""
        open_uj = np.where(self.register_last_mwh == NULL, self.tail_uj, 0)
        return self.counted_mwh + (self.head_uj + open_uj) // UJ_PER_MWH

    def integrated_uj(self) -> I64:
        """The part of it that is estimated."""
        return self.head_uj + self.tail_uj


@dataclass(slots=True)
class Samples:
    """Readings sorted by session, arrival order inside a session. NULL where the device sent nothing."""

    ts_ms: I64
    seq: I64
    register_mwh: I64
    power_mw: I64

    def __len__(self) -> int:
        return len(self.ts_ms)


@dataclass(slots=True)
class EnergyTrace:
    """On demand, one row per reading: the interval of energy that it closes, in cumulative mWh (docs/adr/0009).

    Not valid for sessions that are dirty.
    """

    order: I64  # the rows with each session's in order of time
    taken: Bools  # False: left out, for it arrived after a newer one
    anchor_ms: I64  # where the interval begins; NULL: the reading closes none
    before_mwh: I64  # the energy at its beginning; without an interval, the energy to date
    after_mwh: I64  # at its end

    @classmethod
    def blank(cls, rows: int) -> "EnergyTrace":
        """A trace to be filled by `advance`."""
        null = [np.full(rows, NULL, np.int64) for _ in range(3)]
        return cls(np.arange(rows), np.ones(rows, np.bool_), *null)

    def put(self, rows: I64, anchor_ms: I64, before_mwh: I64, after_mwh: I64) -> None:
        """Set the intervals that these rows close."""
        self.anchor_ms[rows], self.before_mwh[rows], self.after_mwh[rows] = anchor_ms, before_mwh, after_mwh


def advance(
    sessions: SessionEnergy, samples: Samples, runs: Runs, power_max_mw: int, trace: EnergyTrace | None = None
) -> NDArray[np.int16]:
    """Account for the samples; `runs.key` is each run's row of `sessions`, which advance. Returns register flags."""
    flags = np.zeros(len(samples), np.int16)
    if not len(runs.key):
        return flags
    odd = np.flatnonzero(~_advance_plain(sessions, samples, runs, power_max_mw, trace))
    before = sessions.at(runs.key[odd])
    _advance_odd(sessions, samples, runs, odd, flags, power_max_mw, trace)
    _put_in_order(sessions, before, samples, runs, odd, power_max_mw, trace)
    flags[samples.power_mw > power_max_mw] |= IMPLAUSIBLE
    return flags


def _advance_odd(
    sessions: SessionEnergy,
    samples: Samples,
    runs: Runs,
    odd: I64,
    flags: NDArray[np.int16],
    power_max_mw: int,
    trace: EnergyTrace | None,
) -> None:
    """Reading by reading, the odd runs side by side."""
    for of_runs, at in rows_by_rank(runs, odd):
        flags[at] = _round(sessions, samples, runs.key[of_runs], at, power_max_mw, trace)


def _put_in_order(
    sessions: SessionEnergy,
    before: SessionEnergy,
    samples: Samples,
    runs: Runs,
    odd: I64,
    power_max_mw: int,
    trace: EnergyTrace | None,
) -> None:
    """Account again, in order of time, for the runs that became dirty: `before` are their sessions before this batch.

    Where that succeeds (all are newer than the readings before, none is of the same moment) the session takes the
    totals, if it would go on judging registers as it does in order of arrival; else it stays dirty, to be recomputed
    from all of its readings.
    """
    mixed = np.flatnonzero((sessions.dirty[runs.key[odd]] != 0) & (before.dirty == 0))
    if not len(mixed):
        return
    place = np.full(len(runs.key), -1)
    place[odd[mixed]] = np.arange(len(mixed))
    session_of_row = place[runs.of_row]
    rows = np.flatnonzero(session_of_row >= 0)
    rows = rows[np.lexsort((samples.seq[rows], samples.ts_ms[rows], session_of_row[rows]))]
    ordered = Samples(*(getattr(samples, f.name)[rows] for f in fields(samples)))
    sorted_energy, sorted_runs = before.at(mixed), runs_of(session_of_row[rows])
    found = None if trace is None else EnergyTrace.blank(len(rows))
    rest = np.flatnonzero(~_advance_plain(sorted_energy, ordered, sorted_runs, power_max_mw, found))
    _advance_odd(sorted_energy, ordered, sorted_runs, rest, np.zeros(len(rows), np.int16), power_max_mw, found)

    session = runs.key[odd[mixed]]
    settled = sorted_energy.dirty == 0
    for name in SessionEnergy.CARRIED:
        settled &= getattr(sorted_energy, name) == getattr(sessions, name)[session]
    sessions.put(session[settled], sorted_energy.at(np.flatnonzero(settled)))
    if trace is not None and found is not None:
        trace.order[np.sort(rows)] = rows  # a session's rows are adjacent, and sessions in one order in both
        trace.taken[rows] = True
        trace.put(rows, found.anchor_ms, found.before_mwh, found.after_mwh)


def _plausible(rise_mwh: I64, dt_ms: I64, power_max_mw: int) -> Bools:
    ceiling = np.clip(dt_ms, 0, DT_CAP_MS) * power_max_mw // UJ_PER_MWH + REGISTER_SLACK_MWH
    plausible: Bools = (rise_mwh >= 0) & (rise_mwh <= ceiling)
    return plausible


def _in_order(ts_ms: I64, seq: I64, before_ts_ms: I64, before_seq: I64) -> Bools:
    in_order: Bools = (ts_ms > before_ts_ms) | ((ts_ms == before_ts_ms) & (seq > before_seq))
    return in_order


def _area_uj(power_mw: I64, since_ms: I64, until_ms: I64) -> I64:
    duration_ms = np.where(since_ms == NULL, 0, np.minimum(until_ms - since_ms, HOLD_MS_MAX))
    area_uj: I64 = np.maximum(power_mw, 0) * duration_ms  # NULL is negative, and counts as nothing like any export
    return area_uj


def _credible(power_mw: I64, power_max_mw: int) -> Bools:
    credible: Bools = (power_mw != NULL) & (power_mw <= power_max_mw)
    return credible


def _plain_runs(sessions: SessionEnergy, samples: Samples, runs: Runs, power_max_mw: int) -> Bools:
    """(runs,) those in order, with a register in all their rows or in none, each plausible after the one before."""
    session = runs.key
    before_ts = previous_in_run(samples.ts_ms, runs, sessions.last_ts_ms[session])
    before_seq = previous_in_run(samples.seq, runs, sessions.last_seq[session])
    odd = ~_in_order(samples.ts_ms, samples.seq, before_ts, before_seq)
    metered = samples.register_mwh != NULL
    if metered.any():
        base = previous_in_run(samples.register_mwh, runs, sessions.register_last_mwh[session])
        base_ts = previous_in_run(samples.ts_ms, runs, sessions.register_ts_ms[session])
        opening = base == NULL
        base = np.where(opening, samples.register_mwh, base)
        rise, dt_ms = samples.register_mwh - base, samples.ts_ms - np.where(opening, samples.ts_ms, base_ts)
        odd |= metered & ~_plausible(rise, dt_ms, power_max_mw)
        odd |= metered != metered[runs.start][runs.of_row]
    plain: Bools = ~(any_of(odd, runs) | (sessions.candidate_mwh[session] != NULL) | (sessions.dirty[session] != 0))
    return plain


def _advance_plain(
    sessions: SessionEnergy, samples: Samples, runs: Runs, power_max_mw: int, trace: EnergyTrace | None
) -> Bools:
    """Account for the plain runs in closed form. Returns which these are."""
    plain = _plain_runs(sessions, samples, runs, power_max_mw)
    if not plain.any():
        return plain
    session, start = runs.key[plain], runs.start[plain]
    last = start + runs.length[plain] - 1
    power_before = _power_before(sessions, samples, runs, power_max_mw)
    before_ts = previous_in_run(samples.ts_ms, runs, sessions.last_ts_ms[runs.key])
    area = _area_uj(power_before, before_ts, samples.ts_ms)
    if trace is not None:
        _trace_plain(trace, sessions, samples, runs, plain, area, before_ts)
    register = samples.register_mwh[start]
    metered = register != NULL
    opening = metered & (sessions.register_last_mwh[session] == NULL)

    # A register in every row: what was integrated before the first one stays, registers cover all the rest.
    first_area = area[start] + sessions.tail_uj[session]
    sessions.head_uj[session[opening]] += first_area[opening]
    whole_area = np.add.reduceat(area, runs.start)[plain]
    sessions.tail_uj[session] = np.where(metered, 0, sessions.tail_uj[session] + whole_area)

    base = np.where(opening, register, sessions.register_last_mwh[session])
    final = samples.register_mwh[last]
    sessions.counted_mwh[session] += np.where(metered, final - np.where(metered, base, 0), 0)
    sessions.register_first_mwh[session[opening]] = register[opening]
    sessions.register_last_mwh[session[metered]] = final[metered]
    sessions.register_ts_ms[session[metered]] = samples.ts_ms[last][metered]

    power = samples.power_mw[last]
    sessions.last_power_mw[session] = np.where(_credible(power, power_max_mw), power, power_before[last])
    sessions.last_ts_ms[session] = samples.ts_ms[last]
    sessions.last_seq[session] = samples.seq[last]
    sessions.readings[session] += runs.length[plain]
    return plain


def _trace_plain(
    trace: EnergyTrace,
    sessions: SessionEnergy,
    samples: Samples,
    runs: Runs,
    plain: Bools,
    area_uj: I64,
    before_ts: I64,
) -> None:
    """The intervals that the rows of plain runs close; to be called before `sessions` advance."""
    session, first = runs.key, samples.register_mwh[runs.start]
    metered, registered = first != NULL, sessions.register_last_mwh[session] != NULL
    counted, head_uj, tail_uj = sessions.counted_mwh[session], sessions.head_uj[session], sessions.tail_uj[session]
    base = np.where(registered, sessions.register_last_mwh[session], first)
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
    before = previous_in_run(after, runs, sessions.billed_mwh()[session])
    first_anchor = np.where(registered, sessions.register_ts_ms[session], before_ts[runs.start])
    anchor = previous_in_run(samples.ts_ms, runs, first_anchor)
    anchor[(registered & ~metered)[of_row]] = NULL
    rows = np.flatnonzero(plain[of_row])
    trace.put(rows, anchor[rows], before[rows], after[rows])


def _power_before(sessions: SessionEnergy, samples: Samples, runs: Runs, power_max_mw: int) -> I64:
    """The power that holds when each row arrives: of the last row before it in its run with a credible one."""
    credible = _credible(samples.power_mw, power_max_mw)
    if credible.all():
        return previous_in_run(samples.power_mw, runs, sessions.last_power_mw[runs.key])
    source = np.where(credible, np.arange(len(credible)), -1)
    np.maximum.accumulate(source, out=source)
    source = previous_in_run(source, runs, np.full(len(runs.start), -1))
    own = source >= runs.start[runs.of_row]
    return np.where(own, samples.power_mw[source], sessions.last_power_mw[runs.key][runs.of_row])


def _round(
    sessions: SessionEnergy, samples: Samples, session: I64, at: I64, power_max_mw: int, trace: EnergyTrace | None
) -> NDArray[np.int16]:
    """Advance these sessions by one reading each."""
    sessions.readings[session] += 1
    in_order = _in_order(samples.ts_ms[at], samples.seq[at], sessions.last_ts_ms[session], sessions.last_seq[session])
    sessions.dirty[session[~in_order]] = 1
    flags = np.zeros(len(at), np.int16)
    metered = in_order & (samples.register_mwh[at] != NULL)

    taken, row = session[in_order], at[in_order]
    before = sessions if trace is None else sessions.at(session)
    ts_ms, power = samples.ts_ms[row], samples.power_mw[row]
    sessions.tail_uj[taken] += _area_uj(sessions.last_power_mw[taken], sessions.last_ts_ms[taken], ts_ms)
    sessions.last_power_mw[taken] = np.where(_credible(power, power_max_mw), power, sessions.last_power_mw[taken])
    sessions.last_ts_ms[taken] = ts_ms
    sessions.last_seq[taken] = samples.seq[row]

    if metered.any():
        row = at[metered]
        flags[metered] = _meter(sessions, session[metered], samples.ts_ms[row], samples.register_mwh[row], power_max_mw)
    if trace is not None:
        good = metered & ((flags == 0) | (flags == RESET))
        anchor = np.where(before.register_last_mwh == NULL, before.last_ts_ms, NULL)
        anchor = np.where(good & (before.register_last_mwh != NULL), before.register_ts_ms, anchor)
        anchor = np.where(flags == RESET, before.candidate_ts_ms, anchor)
        trace.put(at, anchor, before.billed_mwh(), sessions.at(session).billed_mwh())
        trace.taken[at] = in_order
    return flags


def _meter(sessions: SessionEnergy, session: I64, ts_ms: I64, register: I64, power_max_mw: int) -> NDArray[np.int16]:
    """Account for one register of each of these sessions."""
    base = sessions.register_last_mwh[session]
    opening = base == NULL
    base = np.where(opening, register, base)
    base_ts = np.where(opening, ts_ms, sessions.register_ts_ms[session])
    candidate = sessions.candidate_mwh[session]
    fits = opening | _plausible(register - base, ts_ms - base_ts, power_max_mw)
    has_candidate = candidate != NULL
    candidate = np.where(has_candidate, candidate, 0)
    candidate_ts = np.where(has_candidate, sessions.candidate_ts_ms[session], ts_ms)
    restarted = (candidate > base) | (candidate * 2 < base)  # a fall by less is a rollback, never a reset
    reset = ~fits & has_candidate & restarted & (register > candidate)
    reset &= _plausible(register - candidate, ts_ms - candidate_ts, power_max_mw)

    good = fits | reset
    sessions.head_uj[session[opening]] += sessions.tail_uj[session[opening]]
    sessions.register_first_mwh[session[opening]] = register[opening]
    sessions.counted_mwh[session] += np.where(fits, register - base, np.where(reset, register - candidate, 0))
    sessions.register_last_mwh[session[good]] = register[good]
    sessions.register_ts_ms[session[good]] = ts_ms[good]
    sessions.tail_uj[session[good]] = 0
    sessions.candidate_mwh[session] = np.where(good, NULL, register)
    sessions.candidate_ts_ms[session] = np.where(good, NULL, ts_ms)
    doubt = np.where(register == 0, ZERO, np.where(register < base, ROLLBACK, IMPLAUSIBLE))
    return np.where(fits, 0, np.where(reset, RESET, doubt)).astype(np.int16)
