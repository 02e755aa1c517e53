"""Rating sessions again from all their readings, where what came last is not all that matters; and their tariffs."""

from typing import Final, NamedTuple

import numpy as np

from schemas.quality import Quality
from streams.effects import NULL_I32
from streams.engine.lookup import Lookup
from streams.engine.rows import Rows
from streams.kernels.energy import Samples, SessionEnergy
from streams.kernels.runs import FAR, I64, NULL, distinct, runs_of
from streams.kernels.sessions import Membership
from streams.state.partition import PartitionState
from streams.state.session_charges import Readings, SessionCharges, SessionTotals, advance, settled
from streams.tariffs.compiled import CompiledTariffs

# Compiled versions kept though no open session has them: ~10 kB each with their calendar, 10 MB. A demand rule may
# publish one a minute, for ever.
TARIFFS_MAX: Final = 1_000
_READ: Final = ("ts_ms", "seq", "energy_mwh", "power_mw", "current_ma", "status")


class Recomputation(NamedTuple):
    """Sessions to rate again, and the tariffs of those that opened in this step."""

    dirty: set[int]
    pinned: dict[int, int]


def know_tariffs(state: PartitionState, lookup: Lookup) -> None:
    """Have the tariffs of all open sessions compiled: after loading, and when too many others have gathered. To be
    called before any session is closed."""
    if len(state.tariffs) > state.tariffs_max:
        state.tariffs, state.tariffs_known = CompiledTariffs(state.tariffs.width), False
    if not state.tariffs_known:
        _learn(state, state.open_tariff[: state.slots][state.open_key[: state.slots] != 0], lookup)
        state.tariffs_known = True
        state.tariffs_max = max(TARIFFS_MAX, 2 * len(state.tariffs))


def pin_tariffs(state: PartitionState, members: Membership, lookup: Lookup) -> dict[int, int]:
    """The tariff in force for each session that opens, by session_key; 0: none. It stays with the session for good."""
    if not members.opened:
        return {}
    stations = [state.directory.connector(slot)[0] for slot in members.opened.values()]
    keys = lookup.tariffs_at(stations, [members.began_ms[key] for key in members.opened])
    _learn(state, np.array(keys, np.int64), lookup)
    return dict(zip(members.opened, keys, strict=True))


def _learn(state: PartitionState, keys: I64, lookup: Lookup) -> None:
    if unknown := state.tariffs.unknown(keys):
        for version in lookup.tariff_versions(unknown):
            state.tariffs.add(version)


def rate_again(
    state: PartitionState,
    rows: Rows,
    members: Membership,
    figures: dict[int, SessionTotals],
    again: Recomputation,
    lookup: Lookup,
    power_max_mw: int,
) -> None:
    """Rate these sessions from all their readings, stored and of this step, in order of event time."""
    if not again.dirty:
        return
    keys = np.array(sorted(again.dirty), np.int64)
    column = _all_readings(rows, members, keys, lookup)
    lane = np.searchsorted(keys, column["session_key"])
    ends = np.array([members.closed[key].end_ms if key in members.closed else FAR for key in keys.tolist()], np.int64)
    inside = np.flatnonzero(column["ts_ms"] <= ends[lane])
    by_time = ("status", "current_ma", "power_mw", "energy_mwh", "seq", "ts_ms")  # least significant first
    order = inside[np.lexsort((*(column[name][inside] for name in by_time), lane[inside]))]
    runs = runs_of(lane[order])
    slot_of = {int(state.open_key[slot]): slot for slot in distinct(rows.slot, state.slots).tolist()}
    tariff_key = _tariff_keys(state, members, figures, again, keys.tolist(), slot_of, lookup)
    start_ms = np.zeros(len(keys), np.int64)
    start_ms[runs.key] = column["ts_ms"][order[runs.start]]
    accounts = SessionCharges.fresh(state.tariffs, tariff_key, start_ms)
    samples = Samples(*(column[name][order] for name in _READ[:4]))
    readings = Readings(samples, column["current_ma"][order], column["status"][order])
    advance(state.tariffs, accounts, readings, runs, power_max_mw, final=True)
    accounts.lanes.dirty[:] = 0  # what it left out (a second reading of one moment and seq) is left out for good
    speaking = (column["flags"][order] & ~np.int64(Quality.ESTIMATED)) != 0
    flagged = np.bincount(lane[order][speaking], minlength=len(keys))

    for index, key in enumerate(keys.tolist()):
        start, stop = np.searchsorted(lane[order], (index, index + 1))
        times = samples.ts_ms[start:stop]
        if key in members.closed:
            past = members.closed[key]
            moments = (int(times[0]), int(times[-1])) if len(times) else (past.start_ms, past.last_ms)
            figures[key] = SessionTotals(*moments, int(flagged[index]), accounts, index)
        else:
            slot = np.array([slot_of[key]])
            _rebase(state, slot, accounts, np.array([index]))
            state.open_flagged[slot] = flagged[index]
            state.open_start_ms[slot], state.open_last_ms[slot] = times[0], times[-1]


def _all_readings(rows: Rows, members: Membership, keys: I64, lookup: Lookup) -> dict[str, I64]:
    own = np.isin(members.key, keys)
    stored = lookup.session_readings(keys.tolist())
    current_ma = stored["current_ma"].astype(np.int64)
    stored = stored | {"current_ma": np.where(current_ma == NULL_I32, NULL, current_ma)}
    mine = {"session_key": members.key[own], "flags": rows.flags[own]}
    mine |= {name: getattr(rows, name)[own] for name in _READ}
    return {name: np.concatenate([stored[name].astype(np.int64), mine[name]]) for name in mine}


def _tariff_keys(
    state: PartitionState,
    members: Membership,
    figures: dict[int, SessionTotals],
    again: Recomputation,
    keys: list[int],
    slot_of: dict[int, int],
    lookup: Lookup,
) -> I64:
    """The tariffs that the sessions were opened with."""
    found: dict[int, int] = {}
    for key in keys:
        if key in again.pinned:
            found[key] = again.pinned[key]
        elif key in members.reopened:
            continue  # its lane began anew in this step
        elif key in figures:
            found[key] = int(figures[key].accounts.tariff_key[figures[key].row])
        elif key not in members.closed:
            found[key] = int(state.open_tariff[slot_of[key]])
    asked = [key for key in keys if key not in found]
    if asked:
        found |= lookup.session_tariffs(asked)
    tariff_key = np.array([found.get(key, 0) for key in keys], np.int64)
    _learn(state, tariff_key, lookup)
    return tariff_key


def _rebase(state: PartitionState, slot: I64, rated: SessionCharges, row: I64) -> None:
    """Take the rated figures. Where the state judges registers by something else than what the rating ended with (which
    a reading out of order can bring about), it goes on judging so, and the session stays to be rated again."""
    running = state.lanes(slot)
    agrees = all(getattr(running, name)[0] == getattr(rated.lanes, name)[row[0]] for name in SessionEnergy.CARRIED)
    if agrees:
        state.put_accounts(slot, rated, row)
        return
    meters, _ = settled(state.tariffs, rated.at(row))
    rated.meters.put(row, meters)
    state.put_accounts(slot, rated, row)
    for name in SessionEnergy.CARRIED:
        getattr(state, name)[slot] = getattr(running, name)
    state.dirty[slot] = 1  # also: its meters are settled, by the registers that the rating ended with
