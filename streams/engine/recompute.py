"""Recomputing sessions from all their readings, where some came out of order."""

from typing import Final, NamedTuple

import numpy as np

from schemas.quality import Quality
from streams.effects import NULL_I32
from streams.engine.readings import StepReadings
from streams.engine.session_tariffs import compile_tariffs
from streams.engine.store_queries import StoreQueries
from streams.kernels.energy import Samples, SessionEnergy
from streams.kernels.runs import I64, MAX_I64, NULL, distinct, runs_of
from streams.kernels.sessions import Membership
from streams.state.partition import PartitionState
from streams.state.session_charges import MeteredReadings, SessionCharges, SessionTotals, advance, usage_and_costs

_READ: Final = ("ts_ms", "seq", "energy_mwh", "power_mw", "current_ma", "status")


class Recomputation(NamedTuple):
    """Sessions to recompute, and the tariffs of those that opened in this step."""

    dirty: set[int]
    pinned: dict[int, int]


def recompute_sessions(
    state: PartitionState,
    rows: StepReadings,
    members: Membership,
    totals: dict[int, SessionTotals],
    recomputation: Recomputation,
    queries: StoreQueries,
    power_max_mw: int,
) -> None:
    """Recompute these sessions from all their readings, stored and of this step, in order of event time."""
    if not recomputation.dirty:
        return
    keys = np.array(sorted(recomputation.dirty), np.int64)
    column = _all_readings(rows, members, keys, queries)
    session = np.searchsorted(keys, column["session_key"])
    ends = np.array(
        [members.closed[key].end_ms if key in members.closed else MAX_I64 for key in keys.tolist()], np.int64
    )
    inside = np.flatnonzero(column["ts_ms"] <= ends[session])
    by_time = ("status", "current_ma", "power_mw", "energy_mwh", "seq", "ts_ms")  # least significant first
    order = inside[np.lexsort((*(column[name][inside] for name in by_time), session[inside]))]
    runs = runs_of(session[order])
    slot_of = {int(state.open_key[slot]): slot for slot in distinct(rows.slot, state.slots).tolist()}
    tariff_key = _tariff_keys(state, members, totals, recomputation, keys.tolist(), slot_of, queries)
    start_ms = np.zeros(len(keys), np.int64)
    start_ms[runs.key] = column["ts_ms"][order[runs.start]]
    charges = SessionCharges.fresh(state.tariffs, tariff_key, start_ms)
    samples = Samples(*(column[name][order] for name in _READ[:4]))
    readings = MeteredReadings(samples, column["current_ma"][order], column["status"][order])
    advance(state.tariffs, charges, readings, runs, power_max_mw, final=True)
    charges.energy.dirty[:] = 0  # readings left out (a second one of one moment and seq) are left out for good
    doubtful = (column["flags"][order] & ~np.int64(Quality.ESTIMATED)) != 0
    flagged = np.bincount(session[order][doubtful], minlength=len(keys))

    for index, key in enumerate(keys.tolist()):
        start, stop = np.searchsorted(session[order], (index, index + 1))
        times = samples.ts_ms[start:stop]
        if key in members.closed:
            past = members.closed[key]
            moments = (int(times[0]), int(times[-1])) if len(times) else (past.start_ms, past.last_ms)
            totals[key] = SessionTotals(*moments, int(flagged[index]), charges, index)
        else:
            slot = np.array([slot_of[key]])
            _rebase(state, slot, charges, np.array([index]))
            state.open_flagged[slot] = flagged[index]
            state.open_start_ms[slot], state.open_last_ms[slot] = times[0], times[-1]


def _all_readings(rows: StepReadings, members: Membership, keys: I64, queries: StoreQueries) -> dict[str, I64]:
    own = np.isin(members.key, keys)
    stored = queries.session_readings(keys.tolist())
    current_ma = stored["current_ma"].astype(np.int64)
    stored = stored | {"current_ma": np.where(current_ma == NULL_I32, NULL, current_ma)}
    mine = {"session_key": members.key[own], "flags": rows.flags[own]}
    mine |= {name: getattr(rows, name)[own] for name in _READ}
    return {name: np.concatenate([stored[name].astype(np.int64), mine[name]]) for name in mine}


def _tariff_keys(
    state: PartitionState,
    members: Membership,
    totals: dict[int, SessionTotals],
    recomputation: Recomputation,
    keys: list[int],
    slot_of: dict[int, int],
    queries: StoreQueries,
) -> I64:
    """The tariffs that the sessions were opened with."""
    found: dict[int, int] = {}
    for key in keys:
        if key in recomputation.pinned:
            found[key] = recomputation.pinned[key]
        elif key in members.reopened:
            continue  # its row of the state was reset in this step
        elif key in totals:
            found[key] = int(totals[key].charges.tariff_key[totals[key].row])
        elif key not in members.closed:
            found[key] = int(state.open_tariff[slot_of[key]])
    missing = [key for key in keys if key not in found]
    if missing:
        found |= queries.session_tariffs(missing)
    tariff_key = np.array([found.get(key, 0) for key in keys], np.int64)
    compile_tariffs(state, tariff_key, queries)
    return tariff_key


def _rebase(state: PartitionState, slot: I64, recomputed: SessionCharges, row: I64) -> None:
    """Take the recomputed charges.

    Where the state judges registers by other ones than the recomputation ended with (which a reading out of order can
    cause), it goes on judging by them, and the session stays dirty.
    """
    running = state.session_energy(slot)
    agrees = all(
        getattr(running, name)[0] == getattr(recomputed.energy, name)[row[0]] for name in SessionEnergy.CARRIED
    )
    if agrees:
        state.put_charges(slot, recomputed, row)
        return
    usage, _ = usage_and_costs(state.tariffs, recomputed.at(row))
    recomputed.usage.put(row, usage)
    state.put_charges(slot, recomputed, row)
    for name in SessionEnergy.CARRIED:
        getattr(state, name)[slot] = getattr(running, name)
    state.dirty[slot] = 1  # also: its usage is complete, by the registers that the recomputation ended with
