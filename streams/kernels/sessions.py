"""Which session a reading belongs to, and when sessions open and close (docs/adr/0014, "One session at a time").

Readings come in the order of their connector's timeline; what comes out of order makes the step repeat the pass.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from schemas.session import EXPLICIT_ENDS, EndReason, HoldReason
from streams.kernels.runs import (
    I8,
    I32,
    I64,
    MAX_I64,
    NULL,
    Bools,
    Runs,
    all_true,
    any_of,
    any_true,
    column,
    previous_in_run,
    rows_where,
)

TRAILING_MS: Final = 60_000  # after an explicit end, the last samples and statuses of the session are still under way
ORPHAN_MS_MAX: Final = 86_400_000


@dataclass(init=False, eq=False, repr=False)
class SessionColumns:
    """Columns of the state, one row per connector (slot)."""

    newest_ts_ms: I64 = column(NULL)  # position in the timeline: the newest reading; NULL: none yet
    newest_seq: I64 = column(NULL)
    open_key: I64 = column()  # session_key; 0: no session is open
    open_name: I64 = column()  # fingerprint of the device's name; 0: it has none
    open_start_ms: I64 = column()
    open_last_ms: I64 = column()
    open_revision: I32 = column()
    open_occupied: I8 = column()  # 1: the connector was seen occupied
    open_explicit: I8 = column()  # 1: begun by Started
    open_register_mwh: I64 = column(NULL)  # its first register
    open_delivered: I8 = column()  # 1: a higher register was seen
    open_ahead: I8 = column()  # _BEGUN_AHEAD to _SET_BACK; 0: its first reading was not stamped ahead
    unproven: I8 = column()  # 1: the columns above are of a session that is not one yet; open_key is 0
    # The last session that closed. Key 0: none.
    past_key: I64 = column()
    past_name: I64 = column()
    past_start_ms: I64 = column()
    past_last_ms: I64 = column()
    past_reason: I8 = column()
    past_revision: I32 = column()
    past_explicit: I8 = column()  # open_explicit, open_occupied, open_delivered and open_ahead as they were
    past_occupied: I8 = column()
    past_delivered: I8 = column()
    past_ahead: I8 = column()
    past_on_time: I8 = column()  # 1: its last reading was not stamped ahead
    # A register that may show more of the session that closed last, apart from one that the wall clock closed since
    # (session_energy.AwaitedRegisters, engine/awaited).
    awaited_until_ms: I64 = column()  # 0: none is waited for
    awaited_base_mwh: I64 = column()
    awaited_base_ms: I64 = column()
    awaited_power_max_mw: I64 = column()
    # The last Ended without a session, if none has begun since.
    orphan_ts_ms: I64 = column(NULL)  # NULL: none
    orphan_name: I64 = column()
    orphan_seq: I64 = column(NULL)


# Signs of a reading.
STARTED: Final = 1  # session_event Started
ENDED: Final = 2  # session_event Ended
OPENING: Final = 4  # a status that only a transaction has: Charging, SuspendedEV, SuspendedEVSE
OCCUPYING: Final = 8  # opening, Preparing or Finishing
FREEING: Final = 16  # Available, Reserved or Unavailable
DRAWING: Final = 32  # power above zero
AHEAD: Final = 64  # it was stamped ahead of its arrival by more than the tolerance
_BEGUN_AHEAD, _STARTED_AHEAD, _SET_BACK = 1, 2, 3  # open_ahead: by a reading with AHEAD, by Started; others are not


@dataclass(slots=True)
class Signals:
    """What readings mean for sessions, sorted by slot, each connector's in the order of its timeline."""

    slot: I64
    ts_ms: I64
    seq: I64  # NULL: none
    given: I64  # fingerprint of the session_id that the device gave; 0: none
    name: I64  # the same, but 0 for one that names nothing
    signs: NDArray[np.uint8]  # STARTED to AHEAD
    register_mwh: I64  # NULL: none
    main_meter: Bools  # (runs,) connector 0

    def have(self, signs: int) -> Bools:
        """(rows,) those that have any of these signs."""
        has: Bools = (self.signs & signs) != 0
        return has


@dataclass(slots=True)
class PastSession:
    """A session that is not open any more."""

    slot: int
    key: int
    name: int
    start_ms: int
    last_ms: int
    end_ms: int  # explicit end; MAX_I64 where there is none
    reason: int
    revision: int  # of its completion
    hold: int = 0  # HoldReason
    explicit: bool = False  # begun by Started
    on_time: bool = False  # its last reading was not stamped ahead
    next_ms: int = NULL  # of the reading that superseded it; NULL: none did


@dataclass(slots=True)
class Membership:
    """The session of every row, and which sessions opened or closed on the way."""

    key: I64  # (rows,) session_key; NULL: outside any session
    foreign: Bools  # (rows,) the reading names another session than its own
    opened: dict[int, int] = field(default_factory=dict)  # session_key -> slot
    began_ms: dict[int, int] = field(default_factory=dict)  # session_key -> moment of the reading that opened it
    named: list[tuple[int, int]] = field(default_factory=list)  # (session_key, row) that gave the session its name
    reopened: dict[int, int] = field(default_factory=dict)  # session_key -> slot: timed out before, and open again
    closed: dict[int, PastSession] = field(default_factory=dict)  # session_key

    @classmethod
    def blank(cls, rows: int) -> "Membership":
        """Of rows outside any session."""
        return cls(np.full(rows, NULL, np.int64), np.zeros(rows, np.bool_))


NewKey = Callable[[], int]  # makes session keys


def assign(
    state: SessionColumns, signals: Signals, runs: Runs, new_key: Callable[[int], NewKey], timeout_ms: int
) -> Membership:
    """Assign every row to its session. Advances the state. `new_key(slot)` makes the keys of that connector's sessions.

    Connectors where something may open or close are walked reading by reading: a handful of batches per session.
    """
    members = Membership.blank(len(signals.slot))
    if not len(runs.key):
        return members
    gap_ms = signals.ts_ms - previous_in_run(signals.ts_ms, runs, _known(state.newest_ts_ms[runs.key], signals, runs))
    foreign = (signals.name != 0) & (signals.name != state.open_name[runs.key][runs.of_row])
    steady, idle = _plain_runs(state, signals, runs, (gap_ms >= timeout_ms) | foreign)
    _advance_steady(state, signals, runs, steady, members)
    for run in rows_where(~(steady | idle)).tolist():
        slot, start = int(runs.key[run]), int(runs.start[run])
        connector = _Connector(state, slot, members, new_key(slot), timeout_ms)
        connector.walk(signals, start, start + int(runs.length[run]))
        connector.save(state)
    last = runs.last
    state.newest_ts_ms[runs.key], state.newest_seq[runs.key] = signals.ts_ms[last], signals.seq[last]
    return members


def time_out(state: SessionColumns, slots: I64, members: Membership) -> None:
    """Close the open sessions of these slots by time-out; the next reading may open one again."""
    for slot in slots.tolist():
        connector = _Connector(state, slot, members, lambda: 0, MAX_I64)
        connector.close(MAX_I64, EndReason.TIMEOUT)
        connector.save(state)


def proof(state: SessionColumns, signals: Signals, runs: Runs) -> Bools:
    """(runs,) whether a row shows that the connector's unproven session is one."""
    register = state.open_register_mwh[runs.key][runs.of_row]
    risen = (signals.register_mwh != NULL) & (register != NULL) & (signals.register_mwh > register)
    shown = any_of(signals.have(OPENING | DRAWING | STARTED) | risen, runs)
    proved: Bools = (state.unproven[runs.key] != 0) & shown
    return proved


def started_ahead_of_past(state: SessionColumns, signals: Signals, runs: Runs) -> Bools:
    """(runs,) whether a start that was stamped ahead may be of the connector's past session (see _Connector._start)."""
    started = signals.have(STARTED) & signals.have(AHEAD) & (signals.name != 0)
    known = (state.past_key[runs.key] != 0) & (state.past_on_time[runs.key] != 0)
    same: Bools = known & any_of(started & (signals.name == state.past_name[runs.key][runs.of_row]), runs)
    return same


def resumable(state: SessionColumns, slot: I64) -> Bools:
    """(slots,) whether the past session was closed by the wall clock, so that the next reading may go on with it."""
    timed_out = (state.past_key[slot] != 0) & (state.past_reason[slot] == EndReason.TIMEOUT)
    going_on: Bools = timed_out & (state.past_last_ms[slot] == state.newest_ts_ms[slot])
    return going_on


def _known(newest_ms: I64, signals: Signals, runs: Runs) -> I64:
    """The newest event time before each run; its own first where nothing came before."""
    return np.where(newest_ms == NULL, signals.ts_ms[runs.start], newest_ms)


def _plain_runs(state: SessionColumns, signals: Signals, runs: Runs, breaking: Bools) -> tuple[Bools, Bools]:
    """(runs,) those that stay in their open session, and those that stay without one. `breaking`: silence before the
    row, or another name than the session's."""
    slot = runs.key
    is_open = state.open_key[slot] != 0
    steady = is_open & ~any_of(breaking | signals.have(STARTED | ENDED | FREEING), runs) & ~signals.main_meter
    if any_true(set_back := state.open_ahead[slot] == _STARTED_AHEAD):
        steady &= ~(set_back & any_of(~signals.have(AHEAD), runs))
    if all_true(steady):
        return steady, ~steady
    stirring = (signals.name != 0) | signals.have(STARTED | ENDED | OPENING)
    vacant = ~is_open & (state.unproven[slot] == 0) & ~resumable(state, slot)
    return steady, (vacant & ~any_of(stirring, runs)) | signals.main_meter


def _advance_steady(state: SessionColumns, signals: Signals, runs: Runs, steady: Bools, members: Membership) -> None:
    if not any_true(steady):
        return
    slot, last = runs.key[steady], runs.last[steady]
    members.key = np.where(steady, state.open_key[runs.key], NULL)[runs.of_row]
    if signals.given is not signals.name:  # else a reading with another name breaks its run
        named = steady[runs.of_row] & (signals.given != 0)
        members.foreign = named & (signals.given != state.open_name[runs.key][runs.of_row])
    state.open_last_ms[slot] = signals.ts_ms[last]
    if not all_true(state.open_occupied[slot]):
        state.open_occupied[slot] |= any_of(signals.have(OCCUPYING | DRAWING), runs)[steady]
    wanting = steady & (state.open_delivered[runs.key] == 0)
    if any_true(wanting):
        _look_for_delivery(state, signals, runs, wanting)


def _look_for_delivery(state: SessionColumns, signals: Signals, runs: Runs, wanting: Bools) -> None:
    """Keep the first register of the open session, and whether a higher one was seen."""
    metered = signals.register_mwh != NULL
    rows = len(metered)
    first = np.minimum.reduceat(np.where(metered, np.arange(rows), rows), runs.start)
    first_mwh = np.where(first < rows, signals.register_mwh[np.minimum(first, rows - 1)], NULL)
    before_mwh = state.open_register_mwh[runs.key]
    register = np.where(before_mwh == NULL, first_mwh, before_mwh)
    higher = any_of(metered & (signals.register_mwh > register[runs.of_row]), runs)
    state.open_register_mwh[runs.key[wanting]] = register[wanting]
    state.open_delivered[runs.key[wanting]] = higher[wanting]


class _Connector:
    """One connector's sessions while its readings are walked through."""

    def __init__(self, state: SessionColumns, slot: int, members: Membership, new_key: NewKey, timeout_ms: int) -> None:
        self._slot, self._members, self._new_key, self._timeout_ms = slot, members, new_key, timeout_ms
        self.key, self.unproven = int(state.open_key[slot]), bool(state.unproven[slot])
        self.name, self.start_ms = int(state.open_name[slot]), int(state.open_start_ms[slot])
        self.last_ms, self.revision = int(state.open_last_ms[slot]), int(state.open_revision[slot])
        self.occupied, self.explicit = bool(state.open_occupied[slot]), bool(state.open_explicit[slot])
        self.register_mwh, self.delivered = int(state.open_register_mwh[slot]), bool(state.open_delivered[slot])
        self.ahead, self.on_time = int(state.open_ahead[slot]), False
        self.newest_ms = int(state.newest_ts_ms[slot])
        self.past = PastSession(
            slot, int(state.past_key[slot]), int(state.past_name[slot]), int(state.past_start_ms[slot]),
            int(state.past_last_ms[slot]), MAX_I64, int(state.past_reason[slot]), int(state.past_revision[slot]),
            on_time=bool(state.past_on_time[slot]),
        )  # fmt: skip
        self.past_was = tuple(int(getattr(state, name)[slot]) for name in _PAST_WAS)
        self.orphan = int(state.orphan_ts_ms[slot]), int(state.orphan_name[slot]), int(state.orphan_seq[slot])
        self._rows: list[int] = []  # of an unproven session
        self._name_row: int | None = None

    def save(self, state: SessionColumns) -> None:
        """Write back."""
        slot, past = self._slot, self.past
        state.open_key[slot], state.unproven[slot] = self.key, self.unproven
        state.open_name[slot], state.open_start_ms[slot] = self.name, self.start_ms
        state.open_last_ms[slot], state.open_revision[slot] = self.last_ms, self.revision
        state.open_occupied[slot], state.open_explicit[slot] = self.occupied, self.explicit
        state.open_register_mwh[slot], state.open_delivered[slot] = self.register_mwh, self.delivered
        state.past_key[slot], state.past_name[slot] = past.key, past.name
        state.past_start_ms[slot], state.past_last_ms[slot] = past.start_ms, past.last_ms
        state.past_reason[slot], state.past_revision[slot] = past.reason, past.revision
        state.open_ahead[slot], state.past_on_time[slot] = self.ahead, past.on_time
        for name, was in zip(_PAST_WAS, self.past_was, strict=True):
            getattr(state, name)[slot] = was
        state.orphan_ts_ms[slot], state.orphan_name[slot], state.orphan_seq[slot] = self.orphan

    def walk(self, signals: Signals, start: int, stop: int) -> None:
        """Assign rows [start, stop), which are this connector's, in the order of the timeline."""
        rows = zip(
            range(start, stop),
            *(getattr(signals, name)[start:stop].tolist() for name in _WALKED),
            strict=True,
        )
        for values in rows:
            reading = _Reading(*values)
            self._pass_time(reading.ts_ms)
            if reading.has(STARTED):
                self._start(reading)
            elif reading.has(ENDED):
                self._end(reading)
            else:
                self._sample(reading)

    @property
    def _is_open(self) -> bool:
        return self.key != 0 or self.unproven

    @property
    def _may_go_on(self) -> bool:
        """Whether the past session was closed by the wall clock: no reading came since."""
        past = self.past
        return past.key != 0 and past.reason == EndReason.TIMEOUT and past.last_ms == self.newest_ms

    def _pass_time(self, ts_ms: int) -> None:
        silent = self.newest_ms != NULL and ts_ms - self.newest_ms >= self._timeout_ms
        if self._is_open and silent:
            self.close(MAX_I64, EndReason.TIMEOUT)
        elif not (self._is_open or silent) and self._may_go_on:
            self._reopen()
        self.newest_ms = ts_ms

    def _start(self, r: "_Reading") -> None:
        """A reading with Started."""
        if self._is_open and not self._starts_another(r.name):
            self.explicit = True
            if r.name:
                self._take_name(r)
            self._join(r)
            return
        if self._is_open:
            self._supersede(r)
        elif self._is_of_past(r):
            self.past.hold |= HoldReason.CLOCK_AHEAD
        ended_before = self._ended_before(r)
        self._begin(r, explicit=True)
        if ended_before:
            self.close(r.ts_ms, EndReason.ENDED, HoldReason.ENDED_BEFORE_START)

    def _starts_another(self, name: int) -> bool:
        """Whether Started with this name begins another session than the open one."""
        if name and name == self.name:
            return False
        return self.explicit or self.delivered or bool(name and self.name)

    def _is_of_past(self, r: "_Reading") -> bool:
        """Whether a start that was stamped ahead is that of the session before it: the clock was set back between."""
        past = self.past
        named = r.name != 0 and r.name == past.name and past.key != 0
        ended = past.reason in EXPLICIT_ENDS and past.on_time and r.ts_ms - past.last_ms <= ORPHAN_MS_MAX
        return named and ended and r.has(AHEAD)

    def _ended_before(self, r: "_Reading") -> bool:
        """Whether the end of the session that begins came before it: the clock was set back between."""
        ts_ms, name, seq = self.orphan
        if ts_ms == NULL or r.ts_ms - ts_ms > ORPHAN_MS_MAX:
            return False
        if seq != NULL and r.seq != NULL:
            return r.seq < seq and (name == r.name or not (name and r.name))
        return seq == r.seq and name != 0 and name == r.name

    def _end(self, r: "_Reading") -> None:
        """A reading with Ended."""
        if self._is_open:
            self._join(r, may_free=False)
            self.close(r.ts_ms, EndReason.ENDED)
            return
        repeated = self.past.reason in EXPLICIT_ENDS and self.past.key and (not r.name or r.name == self.past.name)
        if not repeated:
            self.orphan = r.ts_ms, r.name, r.seq

    def _sample(self, r: "_Reading") -> None:
        """Another reading."""
        if self._is_open and r.name and r.name != self.name:
            if not self.name:
                self._take_name(r)
            elif not self.explicit:
                self._supersede(r)
        if self._is_open:
            self._join(r)
        elif self._may_begin(r):
            self._begin(r, explicit=False)

    def _may_begin(self, r: "_Reading") -> bool:
        """Whether a reading without Started begins a session where none is open."""
        explicitly = self.past.key != 0 and self.past.reason in EXPLICIT_ENDS
        trailing = explicitly and r.ts_ms - self.past.last_ms < TRAILING_MS
        if not r.name:
            return r.has(OPENING) and not trailing
        if r.has(FREEING):
            return False
        if explicitly and r.name == self.past.name:
            return r.has(OPENING | DRAWING) and not trailing
        return True

    def _begin(self, r: "_Reading", *, explicit: bool) -> None:
        self.unproven, self.explicit = True, explicit
        self.start_ms = self.last_ms = r.ts_ms
        self.name, self.revision, self.register_mwh = 0, 0, NULL
        self.occupied = self.delivered = False
        self.ahead = 0
        if r.has(AHEAD):
            self.ahead = _STARTED_AHEAD if r.has(STARTED) else _BEGUN_AHEAD
        self.orphan = NULL, 0, NULL
        self._rows, self._name_row = [], None
        if r.name:
            self._take_name(r)
        self._join(r)

    def _take_name(self, r: "_Reading") -> None:
        self.name = r.name
        if self.unproven:
            self._name_row = r.row
        else:
            self._members.named.append((self.key, r.row))

    def _join(self, r: "_Reading", *, may_free: bool = True) -> None:
        """The reading is the open session's."""
        self.last_ms, self.on_time = r.ts_ms, not r.has(AHEAD)
        if self.on_time and self.ahead == _STARTED_AHEAD:
            self.ahead = _SET_BACK
        elif r.has(STARTED) and not self.on_time and self.ahead < _STARTED_AHEAD:
            self.ahead = _STARTED_AHEAD if self.ahead else _SET_BACK
        self._members.foreign[r.row] = r.given not in (0, self.name)
        if r.register_mwh != NULL:
            if self.register_mwh == NULL:
                self.register_mwh = r.register_mwh
            self.delivered |= r.register_mwh > self.register_mwh
        if self.unproven:
            self._rows.append(r.row)
            if self.explicit or r.has(OPENING | DRAWING) or self.delivered:
                self._prove()
        else:
            self._members.key[r.row] = self.key
        if may_free and r.has(FREEING) and (self.occupied or (self.explicit and r.ts_ms > self.start_ms)):
            self.close(r.ts_ms, EndReason.FREED)
        else:
            self.occupied |= r.has(OCCUPYING | DRAWING)

    def _prove(self) -> None:
        self.key, self.unproven = self._new_key(), False
        self._members.opened[self.key] = self._slot
        self._members.began_ms[self.key] = self.start_ms
        self._members.key[self._rows] = self.key
        if self._name_row is not None:
            self._members.named.append((self.key, self._name_row))

    def _reopen(self) -> None:
        past = self.past
        self._members.reopened[past.key] = self._slot
        if past.key in self._members.closed:
            del self._members.closed[past.key]
        self.key, self.name, self.start_ms, self.last_ms = past.key, past.name, past.start_ms, past.last_ms
        self.revision = past.revision
        self.explicit, self.occupied, self.delivered = map(bool, self.past_was[:3])
        self.ahead = self.past_was[3]
        self.past = PastSession(self._slot, 0, 0, 0, 0, MAX_I64, 0, 0)

    def _supersede(self, r: "_Reading") -> None:
        """The reading begins another session."""
        real = self.key != 0
        self.close(MAX_I64, EndReason.SUPERSEDED)
        if real:
            self.past.next_ms = r.ts_ms

    def close(self, end_ms: int, reason: EndReason, hold: int = 0) -> None:
        """End the open session; an unproven one was none. `end_ms` is MAX_I64 where its end was not explicit."""
        if self.key:
            if self.ahead == _SET_BACK:
                hold |= HoldReason.CLOCK_AHEAD
            self.past = PastSession(
                self._slot,
                self.key,
                self.name,
                self.start_ms,
                self.last_ms,
                end_ms,
                reason,
                self.revision + 1,
                hold,
                self.explicit,
                self.on_time,
            )
            self.past_was = self.explicit, self.occupied, self.delivered, self.ahead
            self._members.closed[self.key] = self.past
        self.key = self.name = self.start_ms = self.last_ms = self.revision = 0
        if reason != EndReason.TIMEOUT:  # else it may go on
            self.register_mwh = NULL
        self.unproven = self.explicit = self.occupied = self.delivered = False
        self.ahead = 0
        self._rows = []


@dataclass(slots=True)
class _Reading:
    """One row of Signals."""

    row: int
    ts_ms: int
    seq: int
    given: int
    name: int
    signs: int
    register_mwh: int

    def has(self, signs: int) -> bool:
        """Whether it has any of these signs."""
        return (self.signs & signs) != 0


_PAST_WAS: Final = ("past_explicit", "past_occupied", "past_delivered", "past_ahead")
_WALKED: Final = ("ts_ms", "seq", "given", "name", "signs", "register_mwh")
