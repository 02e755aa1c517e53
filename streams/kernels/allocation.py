"""Usage allocated to the components of tariffs, from the intervals that the readings of sessions close.

Intervals are cut where the tariff may change (moments of the calendar, durations, amounts of energy); all rows at
once, one cut per round, so that a batch takes as many rounds as its most cut row has pieces. All are sums of integers:
the order of rows matters only for what is "last", "first" and flat. Rules: docs/adr/0009.
"""

from dataclasses import dataclass, fields
from typing import Final

import numpy as np

from streams.kernels.runs import I64, MAX_I64, NULL, Bools, all_true, any_true, rows_where
from streams.kernels.tariff_table import (
    CALENDAR,
    CURRENT,
    DURATION,
    ENERGY,
    FLAT,
    MWH,
    NONE,
    PARKING_TIME,
    POWER,
    TIME,
    Masks,
    TariffTable,
)
from streams.kernels.tariff_usage import TariffUsage
from streams.kernels.usage_intervals import UsageIntervals

_BLOCK: Final = 16_384  # rows at once: their columns stay in the cache of a core
_ROUND_BITS: Final = 24  # of a piece's place: 16 M pieces of one reading, 2**38 readings
_ALL: Final = np.uint64(0xFFFF_FFFF_FFFF_FFFF)
_PRODUCT_MAX: Final = 2.0**62
_DIMENSION_OF: Final = np.array([NONE, TIME, PARKING_TIME, TIME, TIME])  # by kind


@dataclass(slots=True)
class _Pieces:
    """Intervals being cut. A row is the rest of one: [at_ms, end_ms) with the energy from at_mwh to end_mwh."""

    order: I64  # of its reading; energy alone: before the time of the same reading
    session: I64
    tariff: I64
    at_ms: I64
    end_ms: I64
    at_mwh: I64
    end_mwh: I64
    from_ms: I64  # the whole interval of energy: [from_ms, end_ms], from_mwh to end_mwh
    from_mwh: I64
    start_ms: I64  # of the session
    kind: I64
    power_mw: I64
    current_ma: I64
    counts_mwh: Bools  # its energy is to be added (else only its course is used)
    counts_ms: Bools  # its time is to be added

    def where(self, chosen: Bools) -> "_Pieces":
        return _Pieces(*(getattr(self, f.name)[chosen] for f in fields(self)))


def allocate(table: TariffTable, usage: TariffUsage, intervals: UsageIntervals) -> None:
    """Allocate what is used in these intervals to components, and add it to `usage`.

    Sessions without a tariff are left out. The table must cover the calendar of all intervals. Rows of a session must
    be in order of event time.
    """
    priced = usage.tariff[intervals.session] != NONE
    if not all_true(priced):
        intervals = intervals.where(priced)
    for begin in range(0, len(intervals), _BLOCK):
        _allocate_block(table, usage, intervals.block(slice(begin, begin + _BLOCK)))


def _allocate_block(table: TariffTable, usage: TariffUsage, intervals: UsageIntervals) -> None:
    done = _at_the_first_reading(table, usage, intervals)
    pieces = _pieces(usage, intervals)
    number = 0
    while len(pieces.session):
        values = (pieces.at_ms, pieces.at_mwh, pieces.at_ms - pieces.start_ms, pieces.power_mw, pieces.current_ma)
        elements, until = _elements(table, pieces.tariff, values)
        end_ms, end_mwh = _cut(pieces, until)
        number += 1
        done.append(_used(pieces, elements, end_ms, end_mwh, number))
        more = (end_ms < pieces.end_ms) | (pieces.counts_mwh & (end_mwh < pieces.end_mwh))
        if not any_true(more):
            break
        pieces.at_ms, pieces.at_mwh = end_ms, end_mwh
        pieces = pieces.where(more)
    if done:
        _add(table, usage, done[0] if len(done) == 1 else _concatenated(done))


def _pieces(usage: TariffUsage, s: UsageIntervals) -> _Pieces:
    """One row where time and energy have the same interval, two where they have not."""
    closes = s.anchor_ms != NULL
    rises = closes & (s.after_mwh > s.before_mwh)
    timed = (s.since_ms != NULL) & (s.since_ms < s.ts_ms)
    joint = timed & (~rises | (s.anchor_ms == s.since_ms))
    apart = rises & ~joint
    if not any_true(apart):
        return _rows_of(usage, s, rows_where(joint), s.since_ms, energy=True, time=True)
    parts = (
        _rows_of(usage, s, rows_where(joint), s.since_ms, energy=True, time=True),
        _rows_of(usage, s, rows_where(apart), s.anchor_ms, energy=True, time=False),
        _rows_of(usage, s, rows_where(timed & ~joint), s.since_ms, energy=False, time=True),
    )
    pieces = _Pieces(*(np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(_Pieces)))
    within = ~pieces.counts_mwh & (pieces.at_ms > pieces.from_ms)  # time within a longer interval of energy
    pieces.at_mwh = np.where(within, _mwh_at(pieces, pieces.at_ms), pieces.at_mwh)
    return pieces


def _rows_of(usage: TariffUsage, s: UsageIntervals, rows: I64, at_ms: I64, *, energy: bool, time: bool) -> _Pieces:
    """Whole intervals, beginning at `at_ms`, for their energy, their time or both."""
    session, before_mwh, ts_ms, anchor_ms = s.session[rows], s.before_mwh[rows], s.ts_ms[rows], s.anchor_ms[rows]
    closes = anchor_ms != NULL
    return _Pieces(
        order=2 * rows + time,
        session=session,
        tariff=usage.tariff[session],
        at_ms=at_ms[rows],
        end_ms=ts_ms,
        at_mwh=before_mwh,
        end_mwh=np.where(closes, s.after_mwh[rows], before_mwh),
        from_ms=np.where(closes, anchor_ms, ts_ms),
        from_mwh=before_mwh,
        start_ms=usage.start_ms[session],
        kind=s.kind[rows],
        power_mw=s.power_mw[rows],
        current_ma=s.current_ma[rows],
        counts_mwh=closes & (s.after_mwh[rows] > before_mwh) & energy,
        counts_ms=np.full(len(rows), time),
    )


def _mwh_at(p: _Pieces, ms: I64) -> I64:
    """M(t): cumulative energy, spread evenly over the interval."""
    span = p.end_ms - p.from_ms
    inside = p.from_mwh + product_over(p.end_mwh - p.from_mwh, ms - p.from_ms, np.maximum(span, 1))
    return np.where(span > 0, inside, p.end_mwh)


def _ms_at(p: _Pieces, mwh: I64) -> I64:
    """The first whole millisecond at which M(t) reaches this energy; it does so within the interval."""
    rise = np.maximum(p.end_mwh - p.from_mwh, 1)
    return p.from_ms - product_over(p.from_mwh - mwh, p.end_ms - p.from_ms, rise)


def _elements(table: TariffTable, tariff: I64, values: tuple[I64, ...]) -> tuple[Masks, dict[int, I64]]:
    """The elements that hold at these values (by kind of restriction), and where the tariff may change next."""
    elements = np.full(len(tariff), _ALL)
    until: dict[int, I64] = {}
    for kind, value in enumerate(values):
        if table.restricted[kind]:
            mask, until[kind] = table.masks[kind].at(tariff, value)
            elements &= mask
    return elements, until


def _cut(p: _Pieces, until: dict[int, I64]) -> tuple[I64, I64]:
    """Where the piece ends, and the energy there."""
    end_ms, end_mwh = p.end_ms, p.end_mwh
    by_clock = np.full(len(p.session), MAX_I64)
    if CALENDAR in until:
        by_clock = until[CALENDAR]
    if DURATION in until:
        next_duration = until[DURATION]
        by_clock = np.minimum(
            by_clock, np.where(next_duration == MAX_I64, MAX_I64, p.start_ms + np.minimum(next_duration, MAX_I64 >> 1))
        )
    cut = by_clock < p.end_ms
    if any_true(cut):
        end_ms = np.where(cut, by_clock, end_ms)
        end_mwh = np.where(cut, np.maximum(_mwh_at(p, end_ms), p.at_mwh), end_mwh)
    if MWH in until:
        threshold = until[MWH]
        crossed = threshold < p.end_mwh
        if any_true(crossed):
            reached_ms = np.where(crossed, _ms_at(p, np.where(crossed, threshold, p.from_mwh)), MAX_I64)
            first = crossed & (reached_ms <= end_ms)
            end_ms = np.where(first, np.maximum(reached_ms, p.at_ms), end_ms)
            end_mwh = np.where(first, threshold, end_mwh)
    return end_ms, end_mwh


@dataclass(slots=True)
class _PieceUsage:
    """What is used in pieces, and by which elements it may be priced."""

    key: I64  # in the order of the session: reading, then piece
    session: I64
    tariff: I64
    elements: Masks
    at_ms: I64
    kind: I64
    draws: Bools  # of an interval with energy, even if the piece's own is less than a mWh
    mwh: I64
    ms: I64  # NONE: the first reading, only for FLAT


def _used(p: _Pieces, elements: Masks, end_ms: I64, end_mwh: I64, number: int) -> _PieceUsage:
    return _PieceUsage(
        key=(p.order << _ROUND_BITS) | number,
        session=p.session,
        tariff=p.tariff,
        elements=elements,
        at_ms=p.at_ms,
        kind=p.kind,
        draws=p.counts_mwh,
        mwh=np.where(p.counts_mwh, end_mwh - p.at_mwh, 0),
        ms=np.where(p.counts_ms, end_ms - p.at_ms, 0),
    )


def _concatenated(done: list[_PieceUsage]) -> _PieceUsage:
    return _PieceUsage(*(np.concatenate([getattr(one, f.name) for one in done]) for f in fields(_PieceUsage)))


def _at_the_first_reading(table: TariffTable, usage: TariffUsage, s: UsageIntervals) -> list[_PieceUsage]:
    """The moments at which sessions begin: an element that holds then may have a FLAT. Left to the time that
    follows where that depends on a power or current that the first reading does not say."""
    chosen = rows_where((s.since_ms == NULL) & (usage.flat[s.session] == NONE))
    if not len(chosen):
        return []
    priced_by = usage.tariff[s.session[chosen]]
    unclear = (s.power_mw[chosen] == NULL) & table.flat_bounded[POWER][priced_by]
    unclear |= (s.current_ma[chosen] == NULL) & table.flat_bounded[CURRENT][priced_by]
    chosen = chosen[~unclear]
    session, ts_ms = s.session[chosen], s.ts_ms[chosen]
    zero = np.zeros(len(chosen), np.int64)
    tariff = usage.tariff[session]
    power_mw, current_ma = np.maximum(s.power_mw[chosen], 0), np.maximum(s.current_ma[chosen], 0)  # NULL is negative
    elements, _ = _elements(table, tariff, (ts_ms, zero, zero, power_mw, current_ma))
    key, kind = chosen << (_ROUND_BITS + 1), s.kind[chosen]
    return [_PieceUsage(key, session, tariff, elements, ts_ms, kind, draws=zero > 0, mwh=zero, ms=zero + NONE)]


def _add(table: TariffTable, usage: TariffUsage, used: _PieceUsage) -> None:
    """Add the pieces to the usage of their sessions."""
    _count(table, usage, used, ENERGY, used.mwh, used.draws, usage.last_energy)
    dimension = _DIMENSION_OF[used.kind]
    timed = used.ms > 0
    last_time = np.full(len(usage.tariff), NONE)
    for one in (TIME, PARKING_TIME):
        _count(table, usage, used, one, used.ms, timed & (dimension == one), usage.last_time, last_time)
    wanting = rows_where((used.ms != 0) & (usage.flat[used.session] == NONE))
    if len(wanting):
        component = table.active(used.tariff[wanting], used.elements[wanting], FLAT)
        _take_flat(usage, used, wanting[component != NONE], component[component != NONE])


def _count(
    table: TariffTable, usage: TariffUsage, used: _PieceUsage, dimension: int, volume: I64, chosen: Bools, last: I64,
    last_key: I64 | None = None,
) -> None:  # fmt: skip
    """Add volumes to the active components of this dimension; `last` becomes the one of the last piece."""
    rows = rows_where(chosen)
    if not len(rows):
        return
    component = table.active(used.tariff[rows], used.elements[rows], dimension)
    if any_true(component == NONE):
        rows, component = rows[component != NONE], component[component != NONE]
    session, key = used.session[rows], used.key[rows]
    cell = session * usage.volume.shape[1] + component
    np.add.at(usage.volume.reshape(-1), cell, volume[rows])
    np.minimum.at(usage.since_ms.reshape(-1), cell, used.at_ms[rows])
    some = volume[rows] > 0
    if not all_true(some):
        session, key, component = session[some], key[some], component[some]
    newest = np.full(len(usage.tariff), NONE) if last_key is None else last_key
    np.maximum.at(newest, session, key)
    latest = key == newest[session]
    last[session[latest]] = component[latest]


def _take_flat(usage: TariffUsage, used: _PieceUsage, rows: I64, component: I64) -> None:
    """The first FLAT of each session is charged."""
    session, key = used.session[rows], used.key[rows]
    first = np.full(len(usage.tariff), MAX_I64)
    np.minimum.at(first, session, key)
    chosen = key == first[session]
    session, component = session[chosen], component[chosen]
    usage.flat[session] = component
    usage.volume[session, component] = 1
    usage.since_ms[session, component] = used.at_ms[rows[chosen]]


def product_over(a: I64, b: I64, c: I64) -> I64:
    """floor(a * b / c). Where the product leaves an int64 (an interval of a month, of 3 MWh), row by row."""
    out: I64 = a * b // c
    large = np.abs(a.astype(np.float64)) * np.abs(b.astype(np.float64)) > _PRODUCT_MAX
    for row in rows_where(large).tolist():
        out[row] = int(a[row]) * int(b[row]) // int(c[row])
    return out
