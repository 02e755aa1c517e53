"""Sessions of a step: who belongs where, what it comes to, and which rows of telemetry.session change.

The energy of a session is a function of the set of its readings. Those that come in order are accounted for as they
come; as soon as one does not, the session is rated again from all its stored readings, and counts on from there.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from schemas.quality import Quality
from schemas.reading import SessionEvent, Status
from streams.effects import COST_COLUMNS, SESSION_COLUMNS, Columns, StepParams
from streams.kernels import energy, sessions
from streams.kernels.energy import Lanes, Samples
from streams.kernels.runs import FAR, I64, NULL, Bools, Runs, distinct, runs_of, shifted
from streams.kernels.sessions import EndReason, Membership, Past, Signals
from streams.lookup import Lookup
from streams.rows import Rows
from streams.state import PartitionState

OPENING: Final = (Status.CHARGING, Status.SUSPENDED_EV, Status.SUSPENDED_EVSE)
OCCUPYING: Final = (*OPENING, Status.PREPARING, Status.FINISHING)
FREEING: Final = (Status.AVAILABLE, Status.RESERVED, Status.UNAVAILABLE)

# Rows of running sessions written in one step, beside those that open or close: at ~20 us a row, 5 ms, where a small
# flush takes ~30. At 5 to 10 steps a second 2,500 sessions are all written within 1 to 2 s. The others wait for a later
# step; the live view is always current, and what a crash needs is in the state.
RUNNING_ROWS_MAX: Final = 250
RECALL_BEFORE_MS: Final = 86_400_000  # a name is the stored session's if the reading is at most a day older than it


@dataclass(slots=True)
class SessionEffects:
    """Rows of telemetry.session to write, and what to publish."""

    columns: Columns
    names: list[str | None]
    started: I64
    completed: I64
    slots: I64  # whose sessions changed


@dataclass(slots=True)
class _Figures:
    """What one session that is not open any more comes to."""

    start_ms: int
    last_ms: int
    energy_uj: int
    integrated_uj: int
    register_first_mwh: int
    register_last_mwh: int
    readings: int
    flagged: int


def rate_sessions(
    state: PartitionState, rows: Rows, names: list[str], now_ms: int, lookup: Lookup, params: StepParams
) -> SessionEffects:
    """Assign the rows to sessions (sets their session_key and flags), account for them, close what has timed out."""
    runs = runs_of(rows.slot)
    silence = (
        rows.received_ms - shifted(rows.received_ms, runs, state.arrival_ms[runs.key]) >= params.session_timeout_ms
    )
    signals = _signals(rows, silence)
    recalled = _recall(state, rows, signals, names, lookup, params)
    open_before = dict(zip(runs.key.tolist(), state.open_key[runs.key].tolist(), strict=True))
    members = sessions.assign(state, signals, runs, recalled, state.new_session_key)
    _mark(rows, members, params.power_max_mw)
    _note_arrivals(state, rows, runs)

    figures, dirty = _advance(state, rows, members, open_before, params.power_max_mw)
    _name_open(state, rows, members, names)
    clock_ms = int(rows.received_ms.max()) if len(rows) else now_ms
    dirty |= _time_out(state, members, figures, clock_ms - params.session_timeout_ms)
    dirty |= {key for key, past in members.closed.items() if past.last_ms > past.end_ms} | set(members.reopened)
    _rate_again(state, rows, members, figures, dirty, lookup, params.power_max_mw)
    return _effects(state, rows, members, figures, names)


def _signals(rows: Rows, silence: Bools) -> Signals:
    def among(statuses: tuple[Status, ...]) -> Bools:
        table = np.zeros(len(Status), np.bool_)
        table[list(statuses)] = True
        found: Bools = table[rows.status]
        return found

    return Signals(
        slot=rows.slot,
        ts_ms=rows.ts_ms,
        name=rows.name,
        started=rows.session_event == SessionEvent.STARTED,
        ended=rows.session_event == SessionEvent.ENDED,
        opening=among(OPENING),
        occupying=among(OCCUPYING),
        freeing=among(FREEING),
        drawing=rows.power_mw > 0,
        silence=silence,
    )


def _recall(
    state: PartitionState, rows: Rows, signals: Signals, names: list[str], lookup: Lookup, params: StepParams
) -> dict[tuple[int, int], Past]:
    """Sessions of the store for the names that the state does not remember, by (slot, name)."""
    asked: dict[tuple[int, int], int] = {}
    for row in sessions.unfamiliar(state, signals).tolist():
        asked.setdefault((int(rows.slot[row]), int(rows.name[row])), row)
    if not asked:
        return {}
    connector_keys = [int(state.connector_key[slot]) for slot, _ in asked]
    session_ids = [names[int(rows.name_code[row])] for row in asked.values()]
    recalled = {}
    for ((slot, name), row), found in zip(asked.items(), lookup.sessions(connector_keys, session_ids), strict=True):
        if found is None:
            continue
        ts_ms = int(rows.ts_ms[row])
        if found.started_ms - RECALL_BEFORE_MS <= ts_ms <= found.last_ms + params.session_timeout_ms:
            explicit = found.end_reason in (EndReason.ENDED, EndReason.FREED)
            end_ms = found.ended_ms if explicit else FAR
            reason = found.end_reason or EndReason.SUPERSEDED
            recalled[slot, name] = Past(
                slot, found.session_key, name, found.started_ms, found.last_ms, end_ms, reason, found.revision
            )
    return recalled


def _mark(rows: Rows, members: Membership, power_max_mw: int) -> None:
    rows.session_key[:] = members.key
    rows.flags |= members.outside * np.int64(Quality.OUTSIDE_SESSION)
    rows.flags |= (rows.power_mw > power_max_mw) * np.int64(Quality.IMPLAUSIBLE_POWER)
    estimated = (members.key != NULL) & (rows.energy_mwh == NULL) & (rows.power_mw != NULL)
    rows.flags |= estimated * np.int64(Quality.ESTIMATED)


def _note_arrivals(state: PartitionState, rows: Rows, runs: Runs) -> None:
    if len(runs.start):
        newest = np.maximum.reduceat(rows.received_ms, runs.start)
        state.arrival_ms[runs.key] = np.maximum(state.arrival_ms[runs.key], newest)


def _advance(
    state: PartitionState, rows: Rows, members: Membership, open_before: dict[int, int], power_max_mw: int
) -> tuple[dict[int, _Figures], set[int]]:
    """Account for rows that joined an open session. Returns figures of sessions closed since, and keys to rate again.

    A session is a lane. It goes on from the state if it was open before this step, and back into the state if it still
    is; one that closed on the way leaves its figures.
    """
    figures = {
        key: _figures(past, state.lanes(np.array([past.slot])), 0, int(state.open_flagged[past.slot]))
        for key, past in members.closed.items()
        if open_before.get(past.slot) == key
    }
    dirty = {key for key in figures if state.dirty[members.closed[key].slot]}
    taken = np.flatnonzero((members.key != NULL) & ~members.late)
    resumed = np.isin(taken, members.resumed)
    runs = _lane_runs(members.key[taken], resumed)
    key, slot = members.key[taken[runs.start]], rows.slot[taken[runs.start]]
    before = np.array([open_before[s] for s in slot.tolist()], np.int64)
    continuing = (key == before) & ~resumed[runs.start]
    lanes = Lanes.fresh(len(slot))
    lanes.put(np.flatnonzero(continuing), state.lanes(slot[continuing]))
    flagged = np.where(continuing, state.open_flagged[slot], np.int64(0))

    samples = Samples(rows.ts_ms[taken], rows.seq[taken], rows.energy_mwh[taken], rows.power_mw[taken])
    rows.flags[taken] |= energy.advance(lanes, samples, runs, power_max_mw)
    flagged += np.bincount(runs.of_row[rows.flagged()[taken]], minlength=len(slot))

    still = state.open_key[slot] == key
    state.put_lanes(slot[still], lanes, np.flatnonzero(still))
    state.open_flagged[slot[still]] = flagged[still]
    for lane in np.flatnonzero(~still).tolist():
        past = members.closed[int(key[lane])]
        figures[past.key] = _figures(past, lanes, lane, int(flagged[lane]))
    dirty |= set(key[lanes.dirty != 0].tolist()) | set(members.key[members.late].tolist())
    return figures, dirty


def _lane_runs(key: I64, resumed: Bools) -> Runs:
    """The runs of equal keys, a new one also where a session resumes after its time-out; `key` of a run: its number."""
    first = resumed | (key != shifted(key, runs_of(np.zeros(len(key), np.int64)), np.zeros(min(len(key), 1), np.int64)))
    return runs_of(np.cumsum(first) - 1)


def _figures(past: Past, lanes: Lanes, lane: int, flagged: int) -> _Figures:
    return _Figures(
        past.start_ms,
        past.last_ms,
        int(lanes.energy_uj()[lane]),
        int(lanes.integrated_uj()[lane]),
        int(lanes.register_first_mwh[lane]),
        int(lanes.register_last_mwh[lane]),
        int(lanes.readings[lane]),
        flagged,
    )


def _name_open(state: PartitionState, rows: Rows, members: Membership, names: list[str]) -> None:
    """Keep the device's name of each open session beside the state's fingerprint of it."""
    for slot in [*members.opened.values(), *(past.slot for past in members.closed.values())]:
        state.session_name[slot] = None
    for key, row in members.named:
        slot = int(rows.slot[row])
        if state.open_key[slot] == key:
            state.session_name[slot] = names[int(rows.name_code[row])]


def _time_out(state: PartitionState, members: Membership, figures: dict[int, _Figures], deadline_ms: int) -> set[int]:
    """Close the sessions of which nothing came since the deadline (by arrival). Returns those to be rated again."""
    slots = np.flatnonzero((state.open_key[: state.slots] != 0) & (state.arrival_ms[: state.slots] <= deadline_ms))
    keys = state.open_key[slots].tolist()
    sessions.time_out(state, slots, members)
    for key, slot in zip(keys, slots.tolist(), strict=True):
        state.session_name[slot] = None
        lanes = state.lanes(np.array([slot]))
        figures[key] = _figures(members.closed[key], lanes, 0, int(state.open_flagged[slot]))
    return {key for key, slot in zip(keys, slots.tolist(), strict=True) if state.dirty[slot]}


def _rate_again(
    state: PartitionState,
    rows: Rows,
    members: Membership,
    figures: dict[int, _Figures],
    dirty: set[int],
    lookup: Lookup,
    power_max_mw: int,
) -> None:
    """Rate these sessions from all their readings, stored and of this step, in order of event time."""
    if not dirty:
        return
    keys = np.array(sorted(dirty), np.int64)
    own = np.isin(members.key, keys)
    stored = lookup.session_readings(keys.tolist())
    own_columns = {"session_key": members.key[own], "flags": rows.flags[own]}
    own_columns |= {name: getattr(rows, name)[own] for name in ("ts_ms", "seq", "energy_mwh", "power_mw")}
    column = {name: np.concatenate([stored[name].astype(np.int64), own_columns[name]]) for name in own_columns}

    lane = np.searchsorted(keys, column["session_key"])
    ends = np.array([members.closed[key].end_ms if key in members.closed else FAR for key in keys.tolist()], np.int64)
    inside = np.flatnonzero(column["ts_ms"] <= ends[lane])
    by_time = ("power_mw", "energy_mwh", "seq", "ts_ms")  # least significant first
    order = inside[np.lexsort((*(column[name][inside] for name in by_time), lane[inside]))]
    runs = runs_of(lane[order])
    lanes = Lanes.fresh(len(keys))
    samples = Samples(*(column[name][order] for name in ("ts_ms", "seq", "energy_mwh", "power_mw")))
    energy.advance(lanes, samples, runs, power_max_mw)
    speaking = (column["flags"][order] & ~np.int64(Quality.ESTIMATED)) != 0
    flagged = np.bincount(lane[order][speaking], minlength=len(keys))

    slot_of = {int(state.open_key[slot]): slot for slot in distinct(rows.slot, state.slots).tolist()}
    for index, key in enumerate(keys.tolist()):
        start, stop = np.searchsorted(lane[order], (index, index + 1))
        times = samples.ts_ms[start:stop]
        if key in members.closed:
            figures[key] = _figures(members.closed[key], lanes, index, int(flagged[index]))
            if len(times):
                figures[key].start_ms, figures[key].last_ms = int(times[0]), int(times[-1])
        else:
            slot = np.array([slot_of[key]])
            _rebase(state, slot, lanes, np.array([index]))
            state.open_flagged[slot] = flagged[index]
            state.open_start_ms[slot], state.open_last_ms[slot] = times[0], times[-1]


def _rebase(state: PartitionState, slot: I64, rated: Lanes, lane: I64) -> None:
    """Take the rated figures. Where the state judges registers by something else than what the rating ended with (which
    a reading out of order can bring about), it goes on judging so, and the session stays to be rated again."""
    running = state.lanes(slot)
    agrees = all(getattr(running, name)[0] == getattr(rated, name)[lane[0]] for name in Lanes.CARRIED)
    state.put_lanes(slot, rated, lane)
    if agrees:
        state.dirty[slot] = 0
        return
    for name in Lanes.CARRIED:
        getattr(state, name)[slot] = getattr(running, name)
    state.dirty[slot] = 1


def _effects(
    state: PartitionState, rows: Rows, members: Membership, figures: dict[int, _Figures], names: list[str]
) -> SessionEffects:
    """The rows to write: all that opened, closed or changed after it, and as many running ones as the bound allows."""
    running = distinct(rows.slot[(members.key != NULL) & ~members.late], state.slots)
    queue = np.concatenate([state.stale, running[~np.isin(running, state.stale)]])
    queue = queue[state.open_key[queue] != 0]
    pressing = np.isin(queue, [*members.opened.values(), *members.reopened.values()])
    waiting = queue[~pressing]
    state.stale = waiting[RUNNING_ROWS_MAX:]
    written = np.concatenate([queue[pressing], waiting[:RUNNING_ROWS_MAX]])

    columns = _open_columns(state, written)
    closed = [_closed_row(state, past, figures[key]) for key, past in members.closed.items()]
    for index, (name, dtype) in enumerate(SESSION_COLUMNS.items()):
        column = np.concatenate([columns[name], np.array([row[index] for row in closed], np.int64)])
        columns[name] = column.astype(dtype)
    named = {key: names[int(rows.name_code[row])] for key, row in members.named}
    return SessionEffects(
        columns=columns,
        names=[*(state.session_name[slot] for slot in written.tolist()), *(named.get(key) for key in members.closed)],
        started=np.array(sorted(members.opened), np.int64),
        completed=np.array(list(members.closed), np.int64),
        slots=np.array([past.slot for past in members.closed.values()], np.int64),
    )


def _open_columns(state: PartitionState, slots: I64) -> Columns:
    lanes = state.lanes(slots)
    return {
        "session_key": state.open_key[slots],
        "connector_key": state.connector_key[slots],
        "started_ms": state.open_start_ms[slots],
        "last_ms": state.open_last_ms[slots],
        "ended_ms": np.full(len(slots), NULL, np.int64),
        "end_reason": np.zeros(len(slots), np.int64),
        "energy_uj": lanes.energy_uj(),
        "integrated_uj": lanes.integrated_uj(),
        "register_first_mwh": lanes.register_first_mwh,
        "register_last_mwh": lanes.register_last_mwh,
        "readings": lanes.readings,
        "flagged": state.open_flagged[slots],
        "revision": state.open_revision[slots],
        **dict.fromkeys(COST_COLUMNS, np.full(len(slots), NULL, np.int64)),
    }


def _closed_row(state: PartitionState, past: Past, figures: _Figures) -> tuple[int, ...]:
    """The values of SESSION_COLUMNS, in their order."""
    return (
        past.key,
        int(state.connector_key[past.slot]),
        figures.start_ms,
        figures.last_ms,
        figures.last_ms if past.end_ms == FAR else past.end_ms,
        past.reason,
        figures.energy_uj,
        figures.integrated_uj,
        figures.register_first_mwh,
        figures.register_last_mwh,
        figures.readings,
        figures.flagged,
        past.revision,
        *([NULL] * len(COST_COLUMNS)),
    )
