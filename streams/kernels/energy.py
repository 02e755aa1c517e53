"""Energy of a session from its readings, in order: from the register where there is one, else from power.

Between two usable registers the energy is their difference. Before the first and after the last usable register it is
integrated from power by sample and hold: a power stands until the next reading (left rectangle), and a reading without
power lets it stand. Only import counts: negative power (vehicle to grid) integrates as 0.

A register that falls, or rises faster than `power_max_mw` allows, is not believed; it becomes the candidate. If the
next register fits the last good one, the candidate was a glitch (rollback, placeholder zero, spike). If instead it
rises plausibly from the candidate, the meter was reset or replaced, and counting goes on from the candidate; what
happened between the two is not billed. A small fall is never taken for a reset: it would be billed twice.

Flags are of the order of arrival: a reading that comes behind a newer one is not judged, so that its flags do not
depend on who else was in its batch. Figures are of the order of time: where readings of one batch overtook each other
they are put in order for that. What came behind a newer one of an earlier batch only marks the session dirty.

Units: registers mWh, power mW, time ms, integrated energy uJ (mW x ms, exact); 1 mWh = 3,600,000 uJ.
"""

from dataclasses import dataclass, fields
from typing import ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from streams.kernels.runs import I64, NULL, Bools, Runs, any_of, rounds, runs_of, shifted

UJ_PER_MWH: Final = 3_600_000
REGISTER_SLACK_MWH: Final = 100_000  # 100 Wh: meters that report in steps, clocks of whole seconds
DT_CAP_MS: Final = 7 * 86_400_000  # power_max_mw x a week stays below 2**63
HOLD_MS_MAX: Final = (
    86_400_000  # a power stands for a day at most; 1.2 MW x a day = 1.04e17 uJ, 88 of them fit an int64
)

ROLLBACK: Final = 1
RESET: Final = 2
ZERO: Final = 4
IMPLAUSIBLE: Final = 8


@dataclass(slots=True)
class SessionEnergy:
    """Running energy of sessions, one row a session. All int64."""

    last_ts_ms: I64  # newest reading; NULL: none yet
    last_seq: I64  # its seq (NULL: none): readings of equal ts are ordered by seq
    held_mw: I64  # power that stands since last_ts_ms; NULL: none yet
    register_first_mwh: I64  # NULL: none yet
    register_last_mwh: I64  # last good one
    register_ts_ms: I64
    candidate_mwh: I64  # NULL: none
    candidate_ts_ms: I64
    counted_mwh: I64  # between registers
    head_uj: I64  # integrated before the first register
    tail_uj: I64  # integrated since the last good register (or since the start)
    readings: I64
    dirty: I64  # 1: readings came out of order; the figures are to be computed again from all of them

    # What decides how the next reading counts; the others are figures.
    CARRIED: ClassVar = (
        "last_ts_ms",
        "last_seq",
        "held_mw",
        "register_last_mwh",
        "register_ts_ms",
        "candidate_mwh",
        "candidate_ts_ms",
    )

    @classmethod
    def fresh(cls, lanes: int) -> "SessionEnergy":
        """Sessions without a reading."""
        nothing = dict.fromkeys(("counted_mwh", "head_uj", "tail_uj", "readings", "dirty"), 0)
        return cls(**{f.name: np.full(lanes, nothing.get(f.name, NULL), np.int64) for f in fields(cls)})

    def at(self, lanes: I64) -> "SessionEnergy":
        """Copies of these lanes."""
        return SessionEnergy(*(getattr(self, f.name)[lanes] for f in fields(self)))

    def put(self, at: I64, other: "SessionEnergy") -> None:
        """Overwrite the lanes at these places with all lanes of `other`, in order."""
        for f in fields(self):
            getattr(self, f.name)[at] = getattr(other, f.name)

    def energy_uj(self) -> I64:
        """Energy to date."""
        return self.counted_mwh * UJ_PER_MWH + self.head_uj + self.tail_uj

    def money_mwh(self) -> I64:
        """Energy to date as money counts it: what follows the last register waits for the next, or for the end."""
        open_uj = np.where(self.register_last_mwh == NULL, self.tail_uj, 0)
        return self.counted_mwh + (self.head_uj + open_uj) // UJ_PER_MWH

    def integrated_uj(self) -> I64:
        """The part of it that is estimated."""
        return self.head_uj + self.tail_uj


@dataclass(slots=True)
class Samples:
    """Readings sorted by lane, arrival order inside a lane. NULL where the device said nothing."""

    ts_ms: I64
    seq: I64
    register_mwh: I64
    power_mw: I64

    def __len__(self) -> int:
        return len(self.ts_ms)


@dataclass(slots=True)
class Trace:
    """On demand: the stretch of energy that each reading closes, in cumulative mWh (docs/adr/0009). By row; of lanes
    that are dirty it says nothing."""

    order: I64  # the rows with each lane's in order of time
    taken: Bools  # False: left out, for it came behind a newer one
    anchor_ms: I64  # where the stretch begins; NULL: the reading closes none
    before_mwh: I64  # the energy at its beginning; where there is none, the energy there is
    after_mwh: I64  # at its end

    @classmethod
    def blank(cls, rows: int) -> "Trace":
        """To be filled by `advance`."""
        null = [np.full(rows, NULL, np.int64) for _ in range(3)]
        return cls(np.arange(rows), np.ones(rows, np.bool_), *null)

    def put(self, rows: I64, anchor_ms: I64, before_mwh: I64, after_mwh: I64) -> None:
        """What these rows close."""
        self.anchor_ms[rows], self.before_mwh[rows], self.after_mwh[rows] = anchor_ms, before_mwh, after_mwh


def advance(
    lanes: SessionEnergy, samples: Samples, runs: Runs, power_max_mw: int, trace: Trace | None = None
) -> NDArray[np.int16]:
    """Account for the samples; `runs.key` is each run's lane. Returns register flags per row. Advances `lanes`."""
    flags = np.zeros(len(samples), np.int16)
    if not len(runs.key):
        return flags
    odd = np.flatnonzero(~_advance_plain(lanes, samples, runs, power_max_mw, trace))
    before = lanes.at(runs.key[odd])
    _advance_odd(lanes, samples, runs, odd, flags, power_max_mw, trace)
    _put_in_order(lanes, before, samples, runs, odd, power_max_mw, trace)
    flags[samples.power_mw > power_max_mw] |= IMPLAUSIBLE
    return flags


def _advance_odd(
    lanes: SessionEnergy,
    samples: Samples,
    runs: Runs,
    odd: I64,
    flags: NDArray[np.int16],
    power_max_mw: int,
    trace: Trace | None,
) -> None:
    """Reading by reading, the odd runs side by side."""
    for of_runs, at in rounds(runs, odd):
        flags[at] = _round(lanes, samples, runs.key[of_runs], at, power_max_mw, trace)


def _put_in_order(
    lanes: SessionEnergy,
    before: SessionEnergy,
    samples: Samples,
    runs: Runs,
    odd: I64,
    power_max_mw: int,
    trace: Trace | None,
) -> None:
    """Account anew, in order of time, for the runs that became dirty: `before` are their lanes before this batch.

    Where that settles it (all are newer than what came before, none is of the same moment) the lane has the figures,
    if it would go on judging registers as it does by arrival; else it stays dirty, for all of its readings to be asked.
    """
    mixed = np.flatnonzero((lanes.dirty[runs.key[odd]] != 0) & (before.dirty == 0))
    if not len(mixed):
        return
    place = np.full(len(runs.key), -1)
    place[odd[mixed]] = np.arange(len(mixed))
    lane_of_row = place[runs.of_row]
    rows = np.flatnonzero(lane_of_row >= 0)
    rows = rows[np.lexsort((samples.seq[rows], samples.ts_ms[rows], lane_of_row[rows]))]
    ordered = Samples(*(getattr(samples, f.name)[rows] for f in fields(samples)))
    rated, again = before.at(mixed), runs_of(lane_of_row[rows])
    found = None if trace is None else Trace.blank(len(rows))
    rest = np.flatnonzero(~_advance_plain(rated, ordered, again, power_max_mw, found))
    _advance_odd(rated, ordered, again, rest, np.zeros(len(rows), np.int16), power_max_mw, found)

    lane = runs.key[odd[mixed]]
    settled = rated.dirty == 0
    for name in SessionEnergy.CARRIED:
        settled &= getattr(rated, name) == getattr(lanes, name)[lane]
    lanes.put(lane[settled], rated.at(np.flatnonzero(settled)))
    if trace is not None and found is not None:
        trace.order[np.sort(rows)] = rows  # a lane's rows stand together, and lanes in one order in both
        trace.taken[rows] = True
        trace.put(rows, found.anchor_ms, found.before_mwh, found.after_mwh)


def _plausible(rise_mwh: I64, dt_ms: I64, power_max_mw: int) -> Bools:
    ceiling = np.clip(dt_ms, 0, DT_CAP_MS) * power_max_mw // UJ_PER_MWH + REGISTER_SLACK_MWH
    plausible: Bools = (rise_mwh >= 0) & (rise_mwh <= ceiling)
    return plausible


def _in_order(ts_ms: I64, seq: I64, before_ts_ms: I64, before_seq: I64) -> Bools:
    in_order: Bools = (ts_ms > before_ts_ms) | ((ts_ms == before_ts_ms) & (seq > before_seq))
    return in_order


def _area_uj(held_mw: I64, since_ms: I64, until_ms: I64) -> I64:
    held_ms = np.where(since_ms == NULL, 0, np.minimum(until_ms - since_ms, HOLD_MS_MAX))
    area_uj: I64 = np.maximum(held_mw, 0) * held_ms  # NULL is negative, and counts as nothing like any export
    return area_uj


def _believed(power_mw: I64, power_max_mw: int) -> Bools:
    believed: Bools = (power_mw != NULL) & (power_mw <= power_max_mw)
    return believed


def _plain_lanes(lanes: SessionEnergy, samples: Samples, runs: Runs, power_max_mw: int) -> Bools:
    """Lanes in order, with a register in all their rows or in none, each plausible after the one before."""
    lane = runs.key
    before_ts = shifted(samples.ts_ms, runs, lanes.last_ts_ms[lane])
    odd = ~_in_order(samples.ts_ms, samples.seq, before_ts, shifted(samples.seq, runs, lanes.last_seq[lane]))
    metered = samples.register_mwh != NULL
    if metered.any():
        base = shifted(samples.register_mwh, runs, lanes.register_last_mwh[lane])
        base_ts = shifted(samples.ts_ms, runs, lanes.register_ts_ms[lane])
        opening = base == NULL
        base = np.where(opening, samples.register_mwh, base)
        rise, dt_ms = samples.register_mwh - base, samples.ts_ms - np.where(opening, samples.ts_ms, base_ts)
        odd |= metered & ~_plausible(rise, dt_ms, power_max_mw)
        odd |= metered != metered[runs.start][runs.of_row]
    plain: Bools = ~(any_of(odd, runs) | (lanes.candidate_mwh[lane] != NULL) | (lanes.dirty[lane] != 0))
    return plain


def _advance_plain(lanes: SessionEnergy, samples: Samples, runs: Runs, power_max_mw: int, trace: Trace | None) -> Bools:
    """Account for the plain runs in closed form. Returns which these are."""
    plain = _plain_lanes(lanes, samples, runs, power_max_mw)
    if not plain.any():
        return plain
    lane, start = runs.key[plain], runs.start[plain]
    last = start + runs.length[plain] - 1
    held = _held_before(lanes, samples, runs, power_max_mw)
    before_ts = shifted(samples.ts_ms, runs, lanes.last_ts_ms[runs.key])
    area = _area_uj(held, before_ts, samples.ts_ms)
    if trace is not None:
        _trace_plain(trace, lanes, samples, runs, plain, area, before_ts)
    register = samples.register_mwh[start]
    metered = register != NULL
    opening = metered & (lanes.register_last_mwh[lane] == NULL)

    # Metered in every row: what was integrated before the first register stays, all the rest is covered by registers.
    first_area = area[start] + lanes.tail_uj[lane]
    lanes.head_uj[lane[opening]] += first_area[opening]
    whole_area = np.add.reduceat(area, runs.start)[plain]
    lanes.tail_uj[lane] = np.where(metered, 0, lanes.tail_uj[lane] + whole_area)

    base = np.where(opening, register, lanes.register_last_mwh[lane])
    final = samples.register_mwh[last]
    lanes.counted_mwh[lane] += np.where(metered, final - np.where(metered, base, 0), 0)
    lanes.register_first_mwh[lane[opening]] = register[opening]
    lanes.register_last_mwh[lane[metered]] = final[metered]
    lanes.register_ts_ms[lane[metered]] = samples.ts_ms[last][metered]

    power = samples.power_mw[last]
    lanes.held_mw[lane] = np.where(_believed(power, power_max_mw), power, held[last])
    lanes.last_ts_ms[lane] = samples.ts_ms[last]
    lanes.last_seq[lane] = samples.seq[last]
    lanes.readings[lane] += runs.length[plain]
    return plain


def _trace_plain(
    trace: Trace, lanes: SessionEnergy, samples: Samples, runs: Runs, plain: Bools, area_uj: I64, before_ts: I64
) -> None:
    """What the rows of plain runs close; to be called while `lanes` stand as before them."""
    lane, first = runs.key, samples.register_mwh[runs.start]
    metered, registered = first != NULL, lanes.register_last_mwh[lane] != NULL
    counted, head_uj, tail_uj = lanes.counted_mwh[lane], lanes.head_uj[lane], lanes.tail_uj[lane]
    base = np.where(registered, lanes.register_last_mwh[lane], first)
    opening_uj = np.where(
        metered & ~registered, tail_uj + area_uj[runs.start], 0
    )  # of the head, with the first register
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
    before = shifted(after, runs, lanes.money_mwh()[lane])
    anchor = shifted(samples.ts_ms, runs, np.where(registered, lanes.register_ts_ms[lane], before_ts[runs.start]))
    anchor[(registered & ~metered)[of_row]] = NULL
    rows = np.flatnonzero(plain[of_row])
    trace.put(rows, anchor[rows], before[rows], after[rows])


def _held_before(lanes: SessionEnergy, samples: Samples, runs: Runs, power_max_mw: int) -> I64:
    """The power that stands when each row arrives: of the last row before it in its run that has a believed one."""
    believed = _believed(samples.power_mw, power_max_mw)
    if believed.all():
        return shifted(samples.power_mw, runs, lanes.held_mw[runs.key])
    source = np.where(believed, np.arange(len(believed)), -1)
    np.maximum.accumulate(source, out=source)
    source = shifted(source, runs, np.full(len(runs.start), -1))
    own = source >= runs.start[runs.of_row]
    return np.where(own, samples.power_mw[source], lanes.held_mw[runs.key][runs.of_row])


def _round(
    lanes: SessionEnergy, samples: Samples, lane: I64, at: I64, power_max_mw: int, trace: Trace | None
) -> NDArray[np.int16]:
    """Advance these lanes by one reading each."""
    lanes.readings[lane] += 1
    in_order = _in_order(samples.ts_ms[at], samples.seq[at], lanes.last_ts_ms[lane], lanes.last_seq[lane])
    lanes.dirty[lane[~in_order]] = 1
    flags = np.zeros(len(at), np.int16)
    metered = in_order & (samples.register_mwh[at] != NULL)

    taken, row = lane[in_order], at[in_order]
    before = lanes if trace is None else lanes.at(lane)
    ts_ms, power = samples.ts_ms[row], samples.power_mw[row]
    lanes.tail_uj[taken] += _area_uj(lanes.held_mw[taken], lanes.last_ts_ms[taken], ts_ms)
    lanes.held_mw[taken] = np.where(_believed(power, power_max_mw), power, lanes.held_mw[taken])
    lanes.last_ts_ms[taken] = ts_ms
    lanes.last_seq[taken] = samples.seq[row]

    if metered.any():
        row = at[metered]
        flags[metered] = _meter(lanes, lane[metered], samples.ts_ms[row], samples.register_mwh[row], power_max_mw)
    if trace is not None:
        good = metered & ((flags == 0) | (flags == RESET))
        anchor = np.where(before.register_last_mwh == NULL, before.last_ts_ms, NULL)
        anchor = np.where(good & (before.register_last_mwh != NULL), before.register_ts_ms, anchor)
        anchor = np.where(flags == RESET, before.candidate_ts_ms, anchor)
        trace.put(at, anchor, before.money_mwh(), lanes.at(lane).money_mwh())
        trace.taken[at] = in_order
    return flags


def _meter(lanes: SessionEnergy, lane: I64, ts_ms: I64, register: I64, power_max_mw: int) -> NDArray[np.int16]:
    """Account for one register of each of these lanes."""
    base = lanes.register_last_mwh[lane]
    opening = base == NULL
    base = np.where(opening, register, base)
    base_ts = np.where(opening, ts_ms, lanes.register_ts_ms[lane])
    candidate = lanes.candidate_mwh[lane]
    fits = opening | _plausible(register - base, ts_ms - base_ts, power_max_mw)
    has_candidate = candidate != NULL
    candidate = np.where(has_candidate, candidate, 0)
    candidate_ts = np.where(has_candidate, lanes.candidate_ts_ms[lane], ts_ms)
    restarted = (candidate > base) | (candidate * 2 < base)  # a fall by less is a rollback, never a reset
    reset = ~fits & has_candidate & restarted & (register > candidate)
    reset &= _plausible(register - candidate, ts_ms - candidate_ts, power_max_mw)

    good = fits | reset
    lanes.head_uj[lane[opening]] += lanes.tail_uj[lane[opening]]
    lanes.register_first_mwh[lane[opening]] = register[opening]
    lanes.counted_mwh[lane] += np.where(fits, register - base, np.where(reset, register - candidate, 0))
    lanes.register_last_mwh[lane[good]] = register[good]
    lanes.register_ts_ms[lane[good]] = ts_ms[good]
    lanes.tail_uj[lane[good]] = 0
    lanes.candidate_mwh[lane] = np.where(good, NULL, register)
    lanes.candidate_ts_ms[lane] = np.where(good, NULL, ts_ms)
    doubt = np.where(register == 0, ZERO, np.where(register < base, ROLLBACK, IMPLAUSIBLE))
    return np.where(fits, 0, np.where(reset, RESET, doubt)).astype(np.int16)
