"""Which session a reading belongs to, and when sessions open and close.

A reading that names a session belongs to the session of that name at its connector, in whatever order it comes. One
that names none belongs to the session its event time falls into. A session opens with the first reading that names
it, or, unnamed, with `Started` or a status that only a transaction has. It closes with `Ended`, with a status that
frees the connector (once an occupying one was seen), when another session takes the connector over, or by time-out.
An explicit close (ended, freed) has a moment: a reading with a later event time is outside the session.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Final

import numpy as np

from schemas.session import EndReason
from streams.kernels.runs import I8, I32, I64, MAX_I64, NULL, Bools, Runs, any_of, column

# Closed sessions that a connector remembers: its youngest, for a session older than these is over when it opens. All
# others are looked up by name in the store.
CLOSED_KEPT: Final = 2


@dataclass(init=False, eq=False, repr=False)
class SessionColumns:
    """Columns of the state, one row per connector (slot)."""

    open_key: I64 = column()  # session_key; 0: no session is open
    open_name: I64 = column()  # fingerprint of the device's name; 0: it has none
    open_start_ms: I64 = column()
    open_last_ms: I64 = column()
    open_revision: I32 = column()
    open_occupied: I8 = column()  # 1: an occupying status was seen
    # The youngest closed sessions, youngest first: the fields of PastSession. Key 0: none.
    closed_key: I64 = column(width=CLOSED_KEPT)
    closed_name: I64 = column(width=CLOSED_KEPT)
    closed_start_ms: I64 = column(width=CLOSED_KEPT)
    closed_last_ms: I64 = column(width=CLOSED_KEPT)
    closed_end_ms: I64 = column(width=CLOSED_KEPT)  # explicit end; MAX_I64 where there is none
    closed_reason: I8 = column(width=CLOSED_KEPT)
    closed_revision: I32 = column(width=CLOSED_KEPT)


@dataclass(slots=True)
class Signals:
    """What the readings of a batch mean for sessions, sorted by slot, arrival order inside a slot."""

    slot: I64
    ts_ms: I64
    name: I64  # fingerprint of session_id; 0: none
    started: Bools  # session_event Started
    ended: Bools  # session_event Ended
    opening: Bools  # a status that only a transaction has: Charging, SuspendedEV, SuspendedEVSE
    occupying: Bools  # opening, Preparing or Finishing
    freeing: Bools  # Available, Reserved or Unavailable
    drawing: Bools  # power above zero
    silence: Bools  # the connector had sent nothing for the time-out before this row


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
    revision: int
    changed: bool = False  # in this batch: it is to be published (again)


_CLOSED: Final = "closed_"  # columns of closed sessions, named after the fields of PastSession
_CLOSED_FIELDS: Final = tuple(
    f.name.removeprefix(_CLOSED) for f in fields(SessionColumns) if f.name.startswith(_CLOSED)
)


@dataclass(slots=True)
class Membership:
    """The session of every row, and which sessions opened, closed or changed on the way."""

    key: I64  # (rows,) session_key; NULL: outside any session
    late: Bools  # (rows,) member of a session that is not open any more: it is to be recomputed
    outside: Bools  # (rows,) to be flagged OUTSIDE_SESSION
    opened: dict[int, int] = field(default_factory=dict)  # session_key -> slot
    began_ms: dict[int, int] = field(default_factory=dict)  # session_key -> moment of the reading that opened it
    named: list[tuple[int, int]] = field(default_factory=list)  # (session_key, row) that gave the session its name
    reopened: dict[int, int] = field(default_factory=dict)  # session_key -> slot: timed out before, and open again
    resumed: list[int] = field(default_factory=list)  # the rows that reopened one
    closed: dict[int, PastSession] = field(
        default_factory=dict
    )  # session_key: closed, or closed before and changed now


NewKey = Callable[[], int]  # makes session keys, unique for ever


def unfamiliar(state: SessionColumns, signals: Signals) -> I64:
    """Rows that name a session which the state does not remember: names to look up in the store."""
    name, slot = signals.name, signals.slot
    odd = np.flatnonzero((name != 0) & (name != state.open_name[slot]))
    known = (state.closed_name[slot[odd]] == name[odd, None]).any(axis=1)
    unknown: I64 = odd[~known]
    return unknown


def assign(
    state: SessionColumns, signals: Signals, runs: Runs, recalled: dict[tuple[int, int], PastSession], new_key: NewKey
) -> Membership:
    """Assign every row to its session. `recalled` holds (slot, name) of the store. Advances the state.

    Connectors where sessions open or close are walked reading by reading: that is a handful of batches per session.
    """
    rows = len(signals.slot)
    members = Membership(np.full(rows, NULL, np.int64), np.zeros(rows, np.bool_), np.zeros(rows, np.bool_))
    steady, idle = _plain_runs(state, signals, runs)
    _advance_steady(state, signals, runs, steady, members)
    members.outside |= idle[runs.of_row] & (signals.drawing | signals.ended)
    for run in np.flatnonzero(~(steady | idle)).tolist():
        connector = _Connector(state, int(runs.key[run]), members, new_key, recalled)
        start = int(runs.start[run])
        connector.walk(signals, start, start + int(runs.length[run]))
        connector.save(state)
    return members


def time_out(state: SessionColumns, slots: I64, members: Membership) -> None:
    """Close the open sessions of these slots by time-out."""
    for slot in slots.tolist():
        connector = _Connector(state, slot, members, lambda: 0, {})
        connector.close(MAX_I64, EndReason.TIMEOUT)
        connector.save(state)


def _plain_runs(state: SessionColumns, signals: Signals, runs: Runs) -> tuple[Bools, Bools]:
    """(runs,) those that stay in their open session, and those that stay without one."""
    if not len(runs.key):
        return np.empty(0, np.bool_), np.empty(0, np.bool_)
    slot = runs.key
    foreign = (signals.name != 0) & (signals.name != state.open_name[slot][runs.of_row])
    early = signals.ts_ms < state.open_start_ms[slot][runs.of_row]
    turning = signals.ended | signals.freeing | signals.silence
    steady = (state.open_key[slot] != 0) & ~any_of(foreign | early | turning, runs)
    newest_closed = np.where(state.closed_key[slot] != 0, state.closed_last_ms[slot], NULL).max(axis=1)
    stirring = (signals.name != 0) | signals.started | signals.opening
    stirring |= signals.ts_ms <= newest_closed[runs.of_row]
    idle = (state.open_key[slot] == 0) & ~any_of(stirring, runs)
    return steady, idle


def _advance_steady(state: SessionColumns, signals: Signals, runs: Runs, steady: Bools, members: Membership) -> None:
    if not steady.any():
        return
    slot = runs.key[steady]
    members.key[steady[runs.of_row]] = np.repeat(state.open_key[slot], runs.length[steady])
    newest = np.maximum.reduceat(signals.ts_ms, runs.start)[steady]
    state.open_last_ms[slot] = np.maximum(state.open_last_ms[slot], newest)
    state.open_occupied[slot] |= any_of(signals.occupying, runs)[steady]


class _Connector:
    """One connector's sessions while its readings of a batch are walked through."""

    def __init__(
        self,
        state: SessionColumns,
        slot: int,
        members: Membership,
        new_key: NewKey,
        recalled: dict[tuple[int, int], PastSession],
    ) -> None:
        self._slot, self._members, self._new_key, self._recalled = slot, members, new_key, recalled
        self.key, self.name = int(state.open_key[slot]), int(state.open_name[slot])
        self.start_ms, self.last_ms = int(state.open_start_ms[slot]), int(state.open_last_ms[slot])
        self.revision, self.occupied = int(state.open_revision[slot]), bool(state.open_occupied[slot])
        columns = [getattr(state, _CLOSED + name)[slot].tolist() for name in _CLOSED_FIELDS]
        self.past = [PastSession(slot, *values) for values in zip(*columns, strict=True) if values[0]]  # youngest first
        self._forgotten: list[PastSession] = []  # in this batch

    def save(self, state: SessionColumns) -> None:
        """Write back."""
        slot = self._slot
        state.open_key[slot], state.open_name[slot] = self.key, self.name
        state.open_start_ms[slot], state.open_last_ms[slot] = self.start_ms, self.last_ms
        state.open_revision[slot], state.open_occupied[slot] = self.revision, self.occupied
        for past in (*self.past, *self._forgotten):
            if past.changed and past.key not in self._members.closed and past.key != self.key:
                past.revision += 1
                self._members.closed[past.key] = past
        for name in _CLOSED_FIELDS:
            kept = [getattr(past, name) for past in self.past]
            getattr(state, _CLOSED + name)[slot] = kept + [0] * (CLOSED_KEPT - len(kept))

    def walk(self, signals: Signals, start: int, stop: int) -> None:
        """Assign rows [start, stop), which are this connector's, in arrival order."""
        ts_ms, name = signals.ts_ms[start:stop].tolist(), signals.name[start:stop].tolist()
        begins = (signals.started[start:stop] | signals.opening[start:stop]).tolist()
        ended, freeing = signals.ended[start:stop].tolist(), signals.freeing[start:stop].tolist()
        occupying, silence = signals.occupying[start:stop].tolist(), signals.silence[start:stop].tolist()
        for i, row in enumerate(range(start, stop)):
            if silence[i] and self.key:
                self.close(MAX_I64, EndReason.TIMEOUT)
            past = self._place(row, ts_ms[i], name[i], begins[i])
            if past is not None:
                self._join_past(past, row, ts_ms[i], ended[i])
            elif self._members.key[row] != NULL:
                self._join_open(ts_ms[i], ended[i], freeing[i], occupying[i])
            else:
                self._members.outside[row] |= bool(signals.drawing[row]) or ended[i] or name[i] != 0

    def _place(self, row: int, ts_ms: int, name: int, begins: bool) -> PastSession | None:
        """Find the row's session: a past one is returned; the open one is entered for the row; neither: outside."""
        if name and not (self.key and self.name == name):
            past = self._named(name)
            if past is not None:
                if ts_ms > past.end_ms:
                    return None
                over = past.reason != EndReason.TIMEOUT or self.key or self._younger_than(past.start_ms)
                if over or ts_ms < past.last_ms:
                    return past
                self._reopen(past, row)
            elif self.key and not self.name and ts_ms >= self.start_ms:
                self.name = name
                self._members.named.append((self.key, row))
            else:
                return self._begin(row, ts_ms, name)
        elif not name and not (self.key and ts_ms >= self.start_ms):
            past = next((p for p in self.past if p.start_ms <= ts_ms <= min(p.last_ms, p.end_ms)), None)
            if past is not None:
                return past
            if self.key or not begins or any(ts_ms <= p.last_ms for p in self.past):
                return None
            self._begin(row, ts_ms, 0)
        self._members.key[row] = self.key
        return None

    def _named(self, name: int) -> PastSession | None:
        past = next((p for p in self.past if p.name == name), None)
        if past is None:
            past = next((p for p in self._forgotten if p.name == name), self._recalled.get((self._slot, name)))
            if past is not None:
                self._remember(past)
        return past

    def _remember(self, past: PastSession) -> None:
        """Until a younger one closes if it is among the youngest; else for this batch."""
        known = sorted((past, *self.past), key=lambda p: -p.start_ms)
        self._forgotten = [*(p for p in self._forgotten if p is not past), *known[CLOSED_KEPT:]]
        self.past = known[:CLOSED_KEPT]

    def _younger_than(self, ts_ms: int) -> bool:
        """Whether a session is known that began later, open or not."""
        return (self.key != 0 and self.start_ms > ts_ms) or any(p.start_ms > ts_ms for p in self.past)

    def _begin(self, row: int, ts_ms: int, name: int) -> PastSession | None:
        """A new session: open from now on, or, where younger ones were here already, a past one at once."""
        key = self._new_key()
        self._members.opened[key] = self._slot
        self._members.began_ms[key] = ts_ms
        if name:
            self._members.named.append((key, row))
        if self._younger_than(ts_ms):
            past = PastSession(self._slot, key, name, ts_ms, ts_ms, MAX_I64, EndReason.SUPERSEDED, 0)
            self._remember(past)
            return past
        if self.key:
            self.close(MAX_I64, EndReason.SUPERSEDED)
        self.key, self.name, self.start_ms, self.last_ms = key, name, ts_ms, ts_ms
        self.revision, self.occupied = 0, False
        self._members.key[row] = key
        return None

    def _reopen(self, past: PastSession, row: int) -> None:
        self.past = [p for p in self.past if p is not past]
        self._forgotten = [p for p in self._forgotten if p is not past]
        self._members.reopened[past.key] = self._slot
        self._members.resumed.append(row)
        self._members.named.append((past.key, row))
        self.key, self.name, self.start_ms, self.last_ms = past.key, past.name, past.start_ms, past.last_ms
        self.revision, self.occupied = past.revision, False

    def _join_open(self, ts_ms: int, ended: bool, freeing: bool, occupying: bool) -> None:
        in_order = ts_ms >= self.last_ms
        self.start_ms, self.last_ms = min(self.start_ms, ts_ms), max(self.last_ms, ts_ms)
        if ended:
            self.close(ts_ms, EndReason.ENDED)
        elif freeing and in_order and self.occupied:
            self.close(ts_ms, EndReason.FREED)
        self.occupied |= occupying

    def _join_past(self, past: PastSession, row: int, ts_ms: int, ended: bool) -> None:
        past.start_ms, past.last_ms = min(past.start_ms, ts_ms), max(past.last_ms, ts_ms)
        past.changed = True
        if ended and past.end_ms == MAX_I64:
            past.end_ms, past.reason = ts_ms, EndReason.ENDED
        self._members.key[row] = past.key
        self._members.late[row] = True

    def close(self, end_ms: int, reason: EndReason) -> None:
        """Make the open session a past one. `end_ms` is MAX_I64 where its end was not explicit."""
        past = PastSession(
            self._slot, self.key, self.name, self.start_ms, self.last_ms, end_ms, reason, self.revision, True
        )
        self._remember(past)
        self.key = self.name = self.start_ms = self.last_ms = self.revision = 0
        self.occupied = False
