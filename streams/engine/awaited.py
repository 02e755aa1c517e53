"""The register that shows more of a session that ended with next to nothing and had none at its end (docs/adr/0014,
`register_missing`): which one it is, and which connectors wait for it.

The verdict on a session is made where it closes, and once more by a repeated pass when its register comes later.
"""

import numpy as np

from schemas.session import EndReason
from streams.engine.timeline import Timeline
from streams.kernels.runs import I64, NULL, Bools, any_of, any_true, rows_where, runs_of
from streams.kernels.session_energy import (
    AwaitedRegisters,
    SessionEnds,
    SessionEnergy,
    awaited_registers,
    ends_unmetered,
    still_awaited,
)
from streams.kernels.sessions import Membership, PastSession, resumable
from streams.state.partition import PartitionState


def awaited_runs(state: PartitionState, timeline: Timeline, timeout_ms: int) -> Bools:
    """(runs,) connectors with the register that their last session waits for. Those that come too late for one wait no
    more; a session that the wall clock closed is over now, if these come too late for it to go on."""
    runs, ts_ms = timeline.runs, timeline.ts_ms
    slot = runs.key
    vacant = state.open_key[slot] == 0
    if any_true(vacant):
        _close_for_good(state, slot[vacant], ts_ms[runs.start[vacant]], timeout_ms)
    until_ms = state.awaited_until_ms[slot]
    found: Bools = until_ms != 0
    if not any_true(found):
        return found
    found &= ts_ms[runs.start] <= until_ms
    state.awaited_until_ms[slot[~found & (until_ms != 0)]] = 0
    rows = rows_where(found[runs.of_row])
    if len(rows):
        waiting = runs_of(timeline.slot[rows])
        shown = _awaited(state, waiting.key).shown(waiting.of_row, timeline.energy_mwh[rows], ts_ms[rows])
        found[found] = any_of(shown, waiting)
    return found


def _close_for_good(state: PartitionState, slots: I64, next_ms: I64, timeout_ms: int) -> None:
    """Let the sessions wait that the wall clock closed, where the next reading comes too late for them to go on. Those
    before them wait no more."""
    slots = slots[resumable(state, slots) & (next_ms - state.newest_ts_ms[slots] >= timeout_ms)]
    if len(slots):
        none = np.full(len(slots), NULL, np.int64)
        _put(state, slots, still_awaited(state.energy.at(slots), SessionEnds(none == NULL, none, none, none)))


def ends_of(pasts: list[PastSession], energy: SessionEnergy, timeline: Timeline, members: Membership) -> SessionEnds:
    """How these sessions of the pass ended."""
    ends = SessionEnds(
        timed_out=np.array([past.reason == EndReason.TIMEOUT for past in pasts], np.bool_),
        next_ms=np.array([past.next_ms for past in pasts], np.int64),
        later_ms=np.full(len(pasts), NULL, np.int64),
        later_mwh=np.full(len(pasts), NULL, np.int64),
    )
    rows = rows_where(ends_unmetered(energy, ends))
    runs, awaited = timeline.runs, awaited_registers(energy)
    for row in rows.tolist():
        run = int(np.searchsorted(runs.key, pasts[row].slot))
        if run == len(runs.key) or runs.key[run] != pasts[row].slot:
            continue  # no reading came
        start, length = int(runs.start[run]), int(runs.length[run])
        after = _until_next_end(pasts[row].key, members.key, start, length)
        shown = awaited.shown(row, timeline.energy_mwh[after], timeline.ts_ms[after])
        if any_true(shown):
            first = after.start + int(np.argmax(shown))
            ends.later_ms[row], ends.later_mwh[row] = timeline.ts_ms[first], timeline.energy_mwh[first]
    return ends


def _until_next_end(session_key: int, key: I64, start: int, length: int) -> slice:
    """The rows after a session, of its connector's `length` ones from `start` on, until the end of the next session."""
    own = rows_where(key[start : start + length] == session_key)
    begin = start + (int(own[-1]) + 1 if len(own) else 0)
    after = key[begin : start + length]
    others = rows_where(after != NULL)
    if not len(others):
        return slice(begin, start + length)
    return slice(begin, begin + int(rows_where(after == after[others[0]])[-1]) + 1)


def await_registers(state: PartitionState, pasts: list[PastSession], energy: SessionEnergy, ends: SessionEnds) -> None:
    """Keep what these sessions, which closed in this order, wait for: the last of each connector does, and until its
    end so does the one before. One that the wall clock closed may go on: see awaited_runs."""
    awaited = still_awaited(energy, ends)
    slots = np.array([past.slot for past in pasts], np.int64)
    if not any_true((awaited.until_ms != 0) | (state.awaited_until_ms[slots] != 0)):
        return
    keys = np.array([past.key for past in pasts], np.int64)
    over = (state.past_key[slots] != keys) | ~resumable(state, slots)
    _put(state, slots[over], awaited.at(over))  # of several of a slot the last one stays


def _awaited(state: PartitionState, slots: I64) -> AwaitedRegisters:
    return AwaitedRegisters(
        state.awaited_until_ms[slots],
        state.awaited_base_mwh[slots],
        state.awaited_base_ms[slots],
        state.awaited_power_max_mw[slots],
    )


def _put(state: PartitionState, slots: I64, awaited: AwaitedRegisters) -> None:
    waits = awaited.until_ms != 0
    state.awaited_until_ms[slots] = awaited.until_ms
    state.awaited_base_mwh[slots] = np.where(waits, awaited.base_mwh, 0)
    state.awaited_base_ms[slots] = np.where(waits, awaited.base_ms, 0)
    state.awaited_power_max_mw[slots] = np.where(waits, awaited.power_max_mw, 0)
