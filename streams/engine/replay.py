"""Repeating the pass over a connector's timeline, because a reading came late (docs/adr/0014).

The pass starts at a checkpoint: the end of the session before the first that the late reading may change
(store_queries.first_repeated). The store has the readings since. Sessions that the pass finds again keep their keys;
those that it does not are withdrawn.
"""

from dataclasses import dataclass, field, fields
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from schemas.quality import REGISTER_UNUSABLE, Quality
from schemas.session import EXPLICIT_ENDS
from streams.effects import NULL_I32, REVISED_COLUMNS, Columns
from streams.engine.batch import fingerprint_of
from streams.engine.bays import event_in, measure_nothing
from streams.engine.readings import ACCOUNTED, session_id_in, with_session_id
from streams.engine.store_queries import (
    StoredSession,
    StoredTimelines,
    StoreQueries,
    first_repeated,
    last_before,
)
from streams.engine.timeline import ARRIVAL_FLAGS, NEW, SessionNames, Timeline, concatenated
from streams.kernels.runs import I32, I64, NULL, Bools, any_true, rows_where
from streams.kernels.session_energy import SessionEnergy
from streams.kernels.sessions import Membership, NewKey, SessionColumns
from streams.kernels.windows import WINDOW_MS
from streams.state.columns import COLUMNS
from streams.state.partition import PartitionState

_SESSION_COLUMNS: Final = [COLUMNS[f.name] for f in fields(SessionColumns)]
_FOUND_BY: Final = ("ts_ms", "boot", "seq", "part", "payload_hash")
_SAME: Final = (
    "ts_ms", "boot", "seq", "part", "energy_mwh", "power_mw", "current_ma", "status", "session_event",
    "energy_export_mwh",
)  # fmt: skip
_I16_NULL: Final = np.iinfo(np.int16).min


@dataclass(slots=True)
class MovedEnergy:
    """What a repeated pass changes of stored readings."""

    revised: Columns  # REVISED_COLUMNS
    extra: list[bytes]  # JSON of each, b"": none
    remeasured: Columns  # connector_key, bucket_ms: windows of which other registers are usable now
    # Differences for their windows, one row per reading.
    slot: I64
    ts_ms: I64
    flagged: I64
    accounted: dict[str, I64]  # readings.ACCOUNTED


_NONE: Final = np.empty(0, np.int64)
_NOTHING_MOVED: Final = MovedEnergy(
    revised={name: _NONE.astype(dtype) for name, dtype in REVISED_COLUMNS.items()},
    extra=[],
    remeasured={"connector_key": _NONE, "bucket_ms": _NONE},
    slot=_NONE,
    ts_ms=_NONE,
    flagged=_NONE,
    accounted=dict.fromkeys(ACCOUNTED, _NONE),
)


@dataclass(slots=True)
class Replay:
    """The connectors whose pass is repeated in this step, and what the store has of them."""

    sessions: dict[int, StoredSession] = field(default_factory=dict)  # by key, after the checkpoints
    slots: set[int] = field(default_factory=set)
    columns: dict[str, I64] = field(default_factory=dict)  # of the stored readings; `Timeline.row` counts them
    extras: list[str | None] = field(default_factory=list)  # of the stored readings
    impossible: set[int] = field(default_factory=set)  # slots of which the store has not all any more
    _provisional: int = 0

    def new_key(self, state: PartitionState, slot: int) -> NewKey:
        """What makes the keys of a connector's sessions: provisional ones, below 0, where its pass is repeated."""
        return self._next if slot in self.slots else state.new_session_key

    def _next(self) -> int:
        self._provisional -= 1
        return self._provisional

    def stored(self, name: str, row: I64) -> I64:
        """A stored column by `Timeline.row` of stored readings."""
        return self.columns[name][NEW - row - 1]

    def _extra(self, row: int, named: int, names: SessionNames) -> bytes:
        extra = (self.extras[NEW - row - 1] or "").encode()
        return with_session_id(extra, None if named else names[row])

    def differences(
        self, timeline: Timeline, columns: dict[str, I64], connector_key_of_slot: I32, names: SessionNames
    ) -> MovedEnergy:
        """What of stored readings the pass judges otherwise than before. `columns`: what it found, by row."""
        if not self.slots:
            return _NOTHING_MOVED
        rows = rows_where(timeline.stored)
        changed = np.zeros(len(rows), np.bool_)
        before = {name: self.stored(name, timeline.row[rows]) for name in columns}
        for name in ACCOUNTED:
            before[name] = np.where(before[name] == NULL, 0, before[name])
        for name, values in before.items():
            changed |= columns[name][rows] != values
        rows = rows[changed]
        at, flags, flags_before = timeline.row[rows], columns["flags"][rows], before["flags"][changed]
        out = {name: columns[name][rows] for name in columns}
        for name in ACCOUNTED:
            out[name] = np.where(out[name] == 0, NULL, out[name])
        out |= {name: self.stored(name, at) for name in _FOUND_BY}
        out["connector_key"] = connector_key = connector_key_of_slot[timeline.slot[rows]].astype(np.int64)
        doubt = ~np.int64(Quality.ESTIMATED)
        flagged = ((flags & doubt) != 0).astype(np.int64) - ((flags_before & doubt) != 0)
        moved = ((flags & REGISTER_UNUSABLE) == 0) != ((flags_before & REGISTER_UNUSABLE) == 0)
        moved |= ((flags ^ flags_before) & Quality.EXPORT_IMPLAUSIBLE) != 0
        bucket_ms = timeline.ts_ms[rows] // WINDOW_MS * WINDOW_MS
        return MovedEnergy(
            revised={name: out[name].astype(dtype) for name, dtype in REVISED_COLUMNS.items()},
            extra=[self._extra(*one, names) for one in zip(at.tolist(), out["named"].tolist(), strict=True)],
            remeasured={"connector_key": connector_key[moved], "bucket_ms": bucket_ms[moved]},
            slot=timeline.slot[rows],
            ts_ms=timeline.ts_ms[rows],
            flagged=flagged,
            accounted={name: columns[name][rows] - before[name][changed] for name in ACCOUNTED},
        )


def load_replay(
    state: PartitionState, timeline: Timeline, late: Bools, awaited: Bools, names: SessionNames, queries: StoreQueries
) -> tuple[Replay, Timeline]:
    """The stored readings of the late connectors, and the timeline with them; their state is that of the checkpoint.
    `awaited`: those with a register that shows more of a session that has ended.

    Where the store has lost some of them (retention), the pass begins later; or the late readings are left out of the
    timeline. What a register shows of a session that is not in the pass is left open.
    """
    replay = Replay()
    repeated = late | awaited
    if not any_true(repeated):
        return replay, timeline
    runs = timeline.runs
    slots, first_ms = runs.key[repeated].tolist(), timeline.ts_ms[runs.start[repeated]].tolist()
    found = queries.timelines([int(key) for key in state.connector_key[slots]], first_ms)
    slot_of = {int(state.connector_key[slot]): slot for slot in slots}
    columns = {name: _wide(column) for name, column in found.readings.items()}
    slot = np.array([slot_of[key] for key in columns["connector_key"].tolist()], np.int64)
    replay.columns, replay.extras = columns, found.extra
    names.stored = _session_ids(state, found, columns, slot)
    kept = np.zeros(len(slot), np.bool_)
    for one, ts_ms, is_late in zip(slots, first_ms, late[repeated].tolist(), strict=True):
        rows = _restore(state, replay, one, ts_ms, found, slot)
        if rows is not None:
            kept |= rows
        elif is_late:
            replay.impossible.add(one)
        state.awaited_until_ms[one] = 0  # what is still waited for, the pass finds
    for row in rows_where(kept & measure_nothing(state, slot, columns)).tolist():
        kept[row] = event_in(found.extra[row]) is None  # events of bays are in no timeline
    if replay.impossible:
        timeline = timeline.where(~np.isin(timeline.slot, sorted(replay.impossible)))
    stored = _stored_rows(columns, slot, names).where(rows_where(kept))
    return replay, concatenated([timeline, stored])


def _wide(column: NDArray[Any]) -> I64:
    wide: I64 = column.astype(np.int64)
    if column.dtype == np.int32:
        return np.where(column == NULL_I32, NULL, wide)
    return np.where(column == _I16_NULL, NULL, wide) if column.dtype == np.int16 else wide


def _session_ids(state: PartitionState, found: StoredTimelines, columns: dict[str, I64], slot: I64) -> list[str | None]:
    """The session id that the device gave with each stored reading."""
    texts = {session.session_key: session.session_id for session in found.sessions}
    for one in set(slot.tolist()):
        if key := int(state.open_key[one]):
            texts[key] = state.session_name[one]
    rows = zip(columns["session_key"].tolist(), columns["named"].tolist(), found.extra, strict=True)
    return [texts.get(key) if named else session_id_in(extra) for key, named, extra in rows]


def _stored_rows(columns: dict[str, I64], slot: I64, names: SessionNames) -> Timeline:
    given = {text: fingerprint_of(text) for text in set(names.stored) if text is not None}
    same: dict[str, Any] = {name: columns[name] for name in _SAME}
    return Timeline(
        **same,
        slot=slot,
        given=np.array([0 if text is None else given[text] for text in names.stored], np.int64),
        flags=columns["flags"] & ARRIVAL_FLAGS,
        fingerprint=columns["payload_hash"] & 0xFFFF_FFFF,
        row=NEW - 1 - np.arange(len(slot)),
    )


def _restore(
    state: PartitionState, replay: Replay, slot: int, ts_ms: int, found: StoredTimelines, slot_of_row: I64
) -> Bools | None:
    """Put the state of a connector back to the checkpoint for a reading of this moment. Returns which stored readings
    lie behind that; None: the store has not all of them any more, and the state is what it was."""
    connector_key = int(state.connector_key[slot])
    sessions = [session for session in found.sessions if session.connector_key == connector_key]
    mine = slot_of_row == slot
    rows = rows_where(mine)
    columns = replay.columns
    rows = rows[np.lexsort([columns[name][rows] for name in ("boot", "part", "seq", "ts_ms")])]
    keys = columns["session_key"][rows]
    sessions = _in_order(sessions, keys)
    begin = _first_repeated(state, slot, sessions, ts_ms, keys)
    if begin is None:
        return None
    first, start = begin
    checkpoint, after = sessions[first - 1] if first else None, sessions[first:]
    kept = np.zeros(len(mine), np.bool_)
    kept[rows[start:]] = True
    replay.slots.add(slot)
    open_key = int(state.open_key[slot])
    for session in after:
        if session.session_key == open_key:  # its row may wait to be written
            session = session._replace(tariff_key=int(state.open_tariff[slot]), revision=int(state.open_revision[slot]))
        replay.sessions[session.session_key] = session
    position, on_time = (NULL, NULL), False
    if start:
        last_row = rows[start - 1]
        position = int(columns["ts_ms"][last_row]), int(columns["seq"][last_row])
        on_time = not columns["flags"][last_row] & Quality.CLOCK_SKEW
    _put_checkpoint(state, slot, checkpoint, position, on_time=on_time)
    return kept


def _in_order(sessions: list[StoredSession], keys: I64) -> list[StoredSession]:
    """Those that begin and end at one moment in the order of their readings, of which `keys` are; the others are."""
    if len({(session.started_ms, session.last_ms) for session in sessions}) == len(sessions):
        return sessions
    return sorted(sessions, key=lambda s: (s.started_ms, s.last_ms, int(np.argmax(keys == s.session_key))))


def _first_repeated(
    state: PartitionState, slot: int, sessions: list[StoredSession], ts_ms: int, keys: I64
) -> tuple[int, int] | None:
    """The first session of a pass for a reading of this moment, and the first row, `keys` being those of all rows:
    store_queries.first_repeated, else the last session before the reading. None: the store has not all rows since."""
    deepest = first_repeated(sessions, ts_ms)
    for first in range(deepest, max(deepest, last_before(sessions, ts_ms)) + 1):
        start = 0
        if first:
            own = rows_where(keys == sessions[first - 1].session_key)
            if not len(own):
                continue
            start = int(own[-1]) + 1
        if _complete(state, slot, sessions[first:], keys[start:]):
            return first, start
    return None


def _complete(state: PartitionState, slot: int, sessions: list[StoredSession], keys: I64) -> bool:
    """Whether the store still has all readings of these sessions."""
    counts = dict(zip(*(values.tolist() for values in np.unique(keys, return_counts=True)), strict=True))
    open_key = int(state.open_key[slot])
    expected = {session.session_key: session.readings for session in sessions}
    if open_key in expected:
        expected[open_key] = int(state.readings[slot])
    return all(counts.get(key, 0) == readings for key, readings in expected.items())


def _put_checkpoint(
    state: PartitionState, slot: int, past: StoredSession | None, position: tuple[int, int], *, on_time: bool
) -> None:
    """`position` and `on_time` are of the last reading before."""
    power_max_mw = int(state.energy.power_max_mw[slot])
    for column in _SESSION_COLUMNS:
        getattr(state, column.name)[slot] = column.start
    energy = SessionEnergy.fresh(1)
    energy.power_max_mw[0] = power_max_mw
    state.newest_ts_ms[slot], state.newest_seq[slot] = position
    if past is not None:
        energy.register_last_mwh[0] = energy.before_mwh[0] = past.register_after_mwh
        energy.register_ts_ms[0] = energy.before_ts_ms[0] = past.register_after_ms
        energy.series_mwh[0] = past.register_first_mwh if past.register_first_mwh != NULL else past.series_mwh
        energy.before_uj[0] = past.integrated_uj
        energy.power_max_mw[0] = past.power_max_mw
        state.past_key[slot], state.past_start_ms[slot] = past.session_key, past.started_ms
        state.past_name[slot] = fingerprint_of(past.session_id) if past.session_id is not None else 0
        explicit_end = past.end_reason in EXPLICIT_ENDS
        state.past_last_ms[slot] = past.ended_ms if explicit_end else past.last_ms
        state.past_reason[slot], state.past_revision[slot] = past.end_reason, past.revision
        state.past_on_time[slot] = on_time
    state.energy.put(np.array([slot]), energy)
    state.segment_key[slot] = state.open_flagged[slot] = state.open_tariff[slot] = 0


def settle_keys(
    state: PartitionState, replay: Replay, timeline: Timeline, members: Membership
) -> tuple[dict[int, StoredSession], list[StoredSession]]:
    """Give the sessions that repeated passes found their keys: those they had, where they had one.

    Returns the sessions that were found again, by key, and those that were not.
    """
    found: dict[int, StoredSession] = {}
    if not replay.slots:
        return found, []
    key_of: dict[int, int] = {}
    stored = np.full(len(timeline), NULL, np.int64)
    stored[timeline.stored] = replay.stored("session_key", timeline.row[timeline.stored])
    provisional = members.key < 0
    provisional &= members.key != NULL
    candidates: dict[int, dict[int, None]] = {key: {} for key in members.opened if key < 0}
    for key, was in zip(members.key[provisional].tolist(), stored[provisional].tolist(), strict=True):
        if was in replay.sessions:
            candidates[key][was] = None
    for key, earlier in candidates.items():
        known = next((was for was in earlier if was not in found), None)
        if known is not None:
            found[known] = replay.sessions[known]
        key_of[key] = state.new_session_key() if known is None else known
    _rename(state, replay, members, key_of, found)
    return found, [session for key, session in replay.sessions.items() if key not in found]


def _rename(
    state: PartitionState, replay: Replay, members: Membership, key_of: dict[int, int], found: dict[int, StoredSession]
) -> None:
    for old, new in key_of.items():
        members.key[members.key == old] = new

    def renamed(key: int) -> int:
        return key_of.get(key, key)

    members.opened = {renamed(key): slot for key, slot in members.opened.items()}
    members.began_ms = {renamed(key): ts_ms for key, ts_ms in members.began_ms.items()}
    members.reopened = {renamed(key): slot for key, slot in members.reopened.items()}
    members.named = [(renamed(key), row) for key, row in members.named]
    closed = {}
    for key, past in members.closed.items():
        past.key = renamed(key)
        if past.key in found:
            past.revision = found[past.key].revision
        closed[past.key] = past
    members.closed = closed
    for slot in replay.slots:
        state.open_key[slot] = renamed(int(state.open_key[slot]))
        state.past_key[slot] = renamed(int(state.past_key[slot]))
        if (key := int(state.open_key[slot])) in found:
            state.open_revision[slot] = found[key].revision
        if (key := int(state.past_key[slot])) in found:
            state.past_revision[slot] = found[key].revision
