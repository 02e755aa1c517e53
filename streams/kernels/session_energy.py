"""Running energy of a connector's segments: what is kept of their readings (docs/adr/0014), and how a session that ends
may contradict itself.

A segment is a session, or what is outside of one. `streams.kernels.energy` advances it.

Units: registers mWh, power mW, time ms, integrated energy uJ (mW x ms, exact); 1 mWh = 3,600,000 uJ.
"""

from dataclasses import dataclass, fields
from typing import Final

import numpy as np

from schemas.session import HoldReason
from streams.kernels.runs import I64, NULL, Bools, any_true, column

UJ_PER_MWH: Final = 3_600_000
_ALL: Final = slice(None)

# Register and power contradict each other beyond this, if power was reported at least so often.
DISAGREEMENT_FACTOR: Final = 3
DISAGREEMENT_SLACK_MWH: Final = 1_000_000
SAMPLED_MS_MAX: Final = 1_200_000
SILENT_MS_MIN: Final = 3_600_000
MISSING_MS_MIN: Final = 120_000
DECIDES_MS_MAX: Final = 86_400_000
WHOLE_WH_MWH: Final = 1_000  # OCPP 1.6's registers of start and stop are of whole Wh, those of its samples need not be
REGISTER_SLACK_MWH: Final = 100_000  # 100 Wh: meters that report in steps, clocks of whole seconds
DT_CAP_MS: Final = 7 * 86_400_000  # 10 MW x a week stays below 2**63


@dataclass(slots=True)
class SessionEnergy:
    """Running energy of segments, one row per segment. All int64."""

    last_ts_ms: I64 = column(NULL)  # newest reading; NULL: none yet
    last_power_mw: I64 = column(NULL, stored_as="held_mw")  # power that holds since last_ts_ms; NULL: none yet
    power_ts_ms: I64 = column(NULL, like="last_ts_ms")  # when a credible power was last reported
    peak_mw: I64 = column(
        like="last_power_mw"
    )  # the highest credible power since the last accepted register; that held then included
    register_first_mwh: I64 = column(NULL)  # accepted first in this segment; NULL: none yet
    register_last_mwh: I64 = column(NULL)  # last accepted one, of this segment or before it
    register_ts_ms: I64 = column(NULL, like="last_ts_ms")
    anchor_mwh: I64 = column(NULL)  # last accepted register of an earlier moment than register_ts_ms
    anchor_ts_ms: I64 = column(NULL)
    candidate_mwh: I64 = column(NULL)  # NULL: none
    candidate_ts_ms: I64 = column(NULL)
    candidate_tail_uj: I64 = column()  # tail_uj then
    old_mwh: I64 = column(NULL)  # the last accepted register before the meter's reset; NULL: no reset in this segment
    old_ts_ms: I64 = column(NULL)
    old_counted_mwh: I64 = column()  # counted_mwh then
    old_rejected_mwh: I64 = column()  # what the reset rejected
    before_mwh: I64 = column(NULL)  # the last accepted register before this segment; NULL: none
    before_ts_ms: I64 = column(NULL)
    series_mwh: I64 = column(NULL)  # the first register of the connector's session before this segment
    before_uj: I64 = column()  # integrated in that session, where no register was accepted since
    begin_ms: I64 = column(NULL)  # where a session began that has no register yet
    late_mwh: I64 = column()  # what it may have delivered until its first register, outside of it
    counted_mwh: I64 = column()  # between registers, of a session without the rise to its first
    head_uj: I64 = column()  # integrated before the first register
    tail_uj: I64 = column()  # integrated since the last accepted register (or since the start)
    power_uj: I64 = column()  # integrated in all
    unsure_uj: I64 = column()  # of it over times between two powers that are too long for the first to hold
    gap_ms: I64 = column()  # the longest time without a credible power after the first one
    power_gap_ms: I64 = column()  # likewise, while a power above zero held
    export_last_mwh: I64 = column(NULL)  # last accepted export register of the segment
    export_ts_ms: I64 = column(NULL)
    export_candidate_mwh: I64 = column(NULL)  # NULL: none
    export_candidate_ts_ms: I64 = column(NULL)
    export_mwh: I64 = column()  # vehicle to grid, between export registers
    readings: I64 = column()
    hold: I64 = column()  # HoldReason bits seen so far
    power_max_mw: I64 = column()  # what the connector can deliver

    @classmethod
    def fresh(cls, rows: int) -> "SessionEnergy":
        """Segments without a reading, of connectors of which nothing is known."""
        return cls(*(np.full(rows, f.metadata["start"], np.int64) for f in fields(cls)))

    def at(self, rows: I64 | Bools) -> "SessionEnergy":
        """A copy of these rows, int64 whatever the columns are."""
        return SessionEnergy(*(getattr(self, name)[rows].astype(np.int64, copy=False) for name in ENERGY_COLUMNS))

    def put(self, rows: I64, other: "SessionEnergy") -> None:
        """Overwrite these rows with all rows of `other`, in order."""
        for name in ENERGY_COLUMNS:
            getattr(self, name)[rows] = getattr(other, name)

    def next_segments(
        self, power_max_mw: I64, start_ms: I64, *, after_session: Bools, in_session: Bools
    ) -> "SessionEnergy":
        """The segments that follow these from `start_ms` on, which inherit the base only. `after_session`: where these
        are sessions; `in_session`: where those are."""
        fresh = SessionEnergy.fresh(len(self.readings))
        fresh.register_last_mwh, fresh.register_ts_ms = self.register_last_mwh.copy(), self.register_ts_ms.copy()
        fresh.before_mwh, fresh.before_ts_ms = fresh.register_last_mwh.copy(), fresh.register_ts_ms.copy()
        own_series = after_session & (self.register_first_mwh != NULL)
        fresh.series_mwh = np.where(own_series, self.register_first_mwh, self.series_mwh)
        fresh.before_uj = np.where(
            after_session, self.integrated_uj(), np.where(self.register_first_mwh == NULL, self.before_uj, 0)
        )
        fresh.begin_ms = np.where(in_session, start_ms, NULL)
        fresh.power_max_mw = power_max_mw
        return fresh

    def energy_uj(self, rows: I64 | slice = _ALL) -> I64:
        """Energy to date of these rows."""
        return self.counted_mwh[rows] * UJ_PER_MWH + self.integrated_uj(rows)

    def billed_mwh(self) -> I64:
        """Energy to date that is billed: what follows the last register counts with the next, or at the end."""
        open_uj = np.where(self.candidate_mwh == NULL, self.tail_uj, self.candidate_tail_uj)
        open_uj = np.where(self.register_first_mwh == NULL, open_uj, 0)
        return self.counted_mwh + (self.head_uj + open_uj) // UJ_PER_MWH

    def integrated_uj(self, rows: I64 | slice = _ALL) -> I64:
        """The part of it that is estimated."""
        integrated: I64 = self.head_uj[rows] + self.tail_uj[rows]
        return integrated


ENERGY_COLUMNS: Final = tuple(f.name for f in fields(SessionEnergy))


@dataclass(slots=True)
class SessionEnds:
    """How sessions end, one row per session."""

    timed_out: Bools  # nobody said that it ended
    next_ms: I64  # of the reading that superseded it; NULL: none did
    later_ms: I64  # the first that shows what the meter rose by at its end: AwaitedRegisters; NULL: none does
    later_mwh: I64


def hold_reasons(segments: SessionEnergy, ends: SessionEnds, nothing_mwh: int) -> I64:
    """The HoldReason bits of sessions that end here. `nothing_mwh`: what the operator calls nothing delivered."""
    unregistered = segments.register_first_mwh == NULL
    hold = segments.hold & (HoldReason.REGISTER_LEAPT | HoldReason.REGISTERS_MIXED)
    pending = (segments.candidate_mwh != NULL) | (segments.export_candidate_mwh != NULL)
    hold |= pending * np.int64(HoldReason.REGISTER_UNCONFIRMED)
    registered_mwh = segments.counted_mwh + segments.head_uj // UJ_PER_MWH
    powered_mwh = segments.power_uj // UJ_PER_MWH
    since_power_ms = np.where(segments.power_ts_ms == NULL, 0, segments.last_ts_ms - segments.power_ts_ms)
    gap_ms = np.maximum(segments.gap_ms, since_power_ms)
    higher, lower = np.maximum(registered_mwh, powered_mwh), np.minimum(registered_mwh, powered_mwh)
    powered = segments.power_ts_ms != NULL
    differ = _contradicts(higher, lower) & powered & (gap_ms <= SAMPLED_MS_MAX)
    differ |= _contradicts(_sure_uj(segments, since_power_ms) // UJ_PER_MWH, registered_mwh) & powered
    hold |= (~unregistered & differ) * np.int64(HoldReason.REGISTER_AGAINST_POWER)
    hold |= _late(segments) * np.int64(HoldReason.REGISTER_LATE)
    hold |= _missing(segments, ends, nothing_mwh) * np.int64(HoldReason.REGISTER_MISSING)
    hold |= np.where(unregistered, segments.hold & HoldReason.POWER_IMPLAUSIBLE, 0)
    hold |= (unregistered & (segments.power_gap_ms >= SILENT_MS_MIN)) * np.int64(HoldReason.SILENT)
    return hold


def most_mwh(dt_ms: I64, power_max_mw: I64 | np.int64) -> I64:
    """What a connector delivers in this time at most, by its rating."""
    most: I64 = np.minimum(dt_ms, DT_CAP_MS) * power_max_mw // UJ_PER_MWH + REGISTER_SLACK_MWH
    return most


def _contradicts(more_mwh: I64, mwh: I64) -> Bools:
    contradicts: Bools = more_mwh > DISAGREEMENT_FACTOR * mwh + DISAGREEMENT_SLACK_MWH
    return contradicts


def unsure_uj(power_before_mw: I64, power_mw: I64, gap_ms: I64) -> I64:
    """Of what a power comes to until the next one, `gap_ms` later: what may not have been. Up to SAMPLED_MS_MAX the
    first power holds, up to SILENT_MS_MIN the lower of both at least."""
    before_mw = np.maximum(power_before_mw, 0)
    least_mw = np.where(gap_ms <= SILENT_MS_MIN, np.minimum(before_mw, np.maximum(power_mw, 0)), 0)
    unsure: I64 = np.where(gap_ms > SAMPLED_MS_MAX, np.minimum(gap_ms, DT_CAP_MS), 0) * (before_mw - least_mw)
    return unsure


def _sure_uj(segments: SessionEnergy, since_power_ms: I64) -> I64:
    """What the powers of sessions that end here come to at least."""
    nothing = np.zeros(len(since_power_ms), np.int64)
    return segments.power_uj - segments.unsure_uj - unsure_uj(segments.last_power_mw, nothing, since_power_ms)


@dataclass(slots=True)
class AwaitedRegisters:
    """The registers that show what the meter rose by at the ends of sessions, one row per session."""

    until_ms: I64  # 0: none may change the verdict on the session any more
    base_mwh: I64  # its last register
    base_ms: I64
    power_max_mw: I64

    def at(self, rows: I64 | Bools) -> "AwaitedRegisters":
        """A copy of these rows."""
        return AwaitedRegisters(*(getattr(self, f.name)[rows] for f in fields(self)))

    def shown(self, row: I64 | int, register_mwh: I64, ts_ms: I64) -> Bools:
        """Whether registers after these sessions are such: not below the base, the connector can have delivered the
        rise, and it is not too late."""
        base_mwh = self.base_mwh[row]
        rise_mwh = unrounded(register_mwh, base_mwh) - base_mwh
        known = (register_mwh != NULL) & (ts_ms <= self.until_ms[row])
        most = most_mwh(np.where(known, ts_ms - self.base_ms[row], 0), self.power_max_mw[row])
        shown: Bools = known & (rise_mwh >= 0) & (rise_mwh <= most)
        return shown


def awaited_registers(segments: SessionEnergy) -> AwaitedRegisters:
    """Those that show what the meter rose by at the end of each of these sessions, which have a register or a base."""
    return AwaitedRegisters(
        until_ms=segments.last_ts_ms + DECIDES_MS_MAX,
        base_mwh=segments.register_last_mwh,
        base_ms=segments.register_ts_ms,
        power_max_mw=segments.power_max_mw,
    )


def still_awaited(segments: SessionEnergy, ends: SessionEnds) -> AwaitedRegisters:
    """Those of them that may change the verdict on these sessions: none has come, and of a session that is held for
    its silence only a register of its very end says otherwise."""
    awaited = awaited_registers(segments)
    unmetered = ends_unmetered(segments, ends) & (ends.later_ms == NULL)
    until_ms = np.where(_silent(segments, ends), np.minimum(ends.next_ms, awaited.until_ms), awaited.until_ms)
    awaited.until_ms = np.where(unmetered, np.maximum(until_ms, 0), 0)
    return awaited


def unrounded(register_mwh: I64, base_mwh: I64 | np.int64) -> I64:
    """The base for a register that is the base in whole Wh: the meter has not fallen."""
    fallen = (register_mwh < base_mwh) & (register_mwh > base_mwh - WHOLE_WH_MWH)
    return np.where(fallen & (register_mwh % WHOLE_WH_MWH == 0), base_mwh, register_mwh)


def ends_unmetered(segments: SessionEnergy, ends: SessionEnds) -> Bools:
    """Sessions that have next to nothing, at connectors that have a register, and had none at their end: the next one
    may show more."""
    since_ms, end_ms = _since_ms(segments), np.maximum(segments.last_ts_ms, ends.next_ms)
    metered = (segments.register_last_mwh != NULL) & (since_ms != NULL)
    said = (since_ms >= end_ms) & ~ends.timed_out & (ends.next_ms == NULL)
    unmetered: Bools = metered & has_little(segments.energy_uj(), segments.export_mwh) & ~said
    return unmetered


def _since_ms(segments: SessionEnergy) -> I64:
    """Since when no register says what a session delivered."""
    registered = segments.register_first_mwh != NULL
    return np.where(registered, segments.register_ts_ms, segments.begin_ms)


def has_little(energy_uj: I64, export_mwh: I64) -> Bools:
    """Sessions that have next to nothing."""
    little: Bools = (energy_uj // UJ_PER_MWH <= REGISTER_SLACK_MWH) & (export_mwh == 0)
    return little


def _silent(segments: SessionEnergy, ends: SessionEnds) -> Bools:
    """Sessions without energy that said nothing for a while up to their end, and no register shows that of the end."""
    nothing = (segments.energy_uj() == 0) & (segments.export_mwh == 0)
    told = (ends.later_ms != NULL) & (ends.later_ms == ends.next_ms)
    end_ms = np.maximum(segments.last_ts_ms, ends.next_ms)
    said_ms = np.maximum(_since_ms(segments), segments.power_ts_ms)
    silent: Bools = nothing & ~told & (ends.timed_out | (end_ms - said_ms > MISSING_MS_MIN))
    return silent & ends_unmetered(segments, ends)


def _missing(segments: SessionEnergy, ends: SessionEnds, nothing_mwh: int) -> Bools:
    """Whether sessions that have next to nothing may have more than was said of them: because the next register shows
    it, or because those without energy were silent for a while up to their end and it does not show that of the end."""
    unmetered = ends_unmetered(segments, ends)
    if not any_true(unmetered):
        return unmetered
    nothing = (segments.energy_uj() == 0) & (segments.export_mwh == 0)
    end_ms = np.maximum(segments.last_ts_ms, ends.next_ms)
    shown = unmetered & (ends.later_ms != NULL)
    told = shown & (ends.later_ms == ends.next_ms)  # of its very end
    silent = _silent(segments, ends)
    if not any_true(shown):
        return silent
    open_ended = told | ends.timed_out
    last_ms = np.where(open_ended, ends.later_ms, end_ms)
    elapsed_ms = np.where(shown, last_ms - _since_ms(segments), 0)
    most = most_mwh(elapsed_ms, segments.power_max_mw) - np.where(open_ended, 0, REGISTER_SLACK_MWH)
    risen_mwh = np.where(shown, ends.later_mwh - segments.register_last_mwh, 0)
    before_uj = np.where(segments.register_first_mwh != NULL, 0, segments.before_uj)
    powered_mwh = (segments.tail_uj + before_uj) // UJ_PER_MWH
    rest_mwh = np.minimum(risen_mwh, most) - DISAGREEMENT_FACTOR * powered_mwh
    least_mwh = np.where(told & nothing, max(nothing_mwh, WHOLE_WH_MWH - 1), REGISTER_SLACK_MWH)
    missing: Bools = silent | (shown & (rest_mwh > least_mwh))
    return missing


def _late(segments: SessionEnergy) -> Bools:
    """Whether the rise to a session's first register, which came late, is more than power explains: that of the session
    until then and that of the one before after its last register; or more than all that the session has."""
    rest_mwh = segments.late_mwh - DISAGREEMENT_FACTOR * ((segments.head_uj + segments.before_uj) // UJ_PER_MWH)
    own_mwh = np.minimum(segments.energy_uj() // UJ_PER_MWH, DISAGREEMENT_SLACK_MWH)
    late: Bools = rest_mwh > np.maximum(own_mwh, REGISTER_SLACK_MWH)
    return late
