"""Sessions of a step: which readings are theirs, their energy and cost, and which rows of telemetry.session change.

The energy of a session is a function of the set of its readings. Those that come in order are accounted for as they
come; as soon as one does not, the session is recomputed from all its stored readings, and goes on from there.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from schemas.quality import Quality
from schemas.reading import SessionEvent, Status
from schemas.session import EXPLICIT_ENDS, EndReason
from streams.effects import SESSION_COLUMNS, Columns, ComponentVolume, CostUpdate, StepParams
from streams.engine.batch import SessionIds
from streams.engine.readings import StepReadings
from streams.engine.recompute import Recomputation, recompute_sessions
from streams.engine.session_tariffs import ensure_tariffs_compiled, pin_tariffs
from streams.engine.store_queries import StoreQueries
from streams.kernels import sessions
from streams.kernels.energy import Samples, SessionEnergy
from streams.kernels.runs import I64, MAX_I64, NULL, Bools, Runs, distinct, previous_in_run, runs_of
from streams.kernels.sessions import Membership, PastSession, Signals
from streams.kernels.tariff_table import NONE
from streams.state.partition import PartitionState
from streams.state.session_charges import (
    MeteredReadings,
    SessionCharges,
    SessionTotals,
    advance,
    collect_charges,
    component_usage,
    cost_columns,
    usage_and_costs,
)

OPENING: Final = (Status.CHARGING, Status.SUSPENDED_EV, Status.SUSPENDED_EVSE)
OCCUPYING: Final = (*OPENING, Status.PREPARING, Status.FINISHING)
FREEING: Final = (Status.AVAILABLE, Status.RESERVED, Status.UNAVAILABLE)

# Rows of running sessions are written at ~20 us each, besides those that open or close: so many in a step that all are
# rewritten within RUNNING_AGE_MS, but at most 5 ms of them, and at least a negligible number. The others wait for a
# later step; the live view is always current, and what a crash needs is in the state.
RUNNING_AGE_MS: Final = 5_000
RUNNING_ROWS_MAX: Final = 250
RUNNING_ROWS_MIN: Final = 25
# Between two events with the cost of a running session: 10,000 sessions are 1,000 of 350 B a second. The live view has
# every change.
COST_UPDATE_MS: Final = 10_000
RECALL_BEFORE_MS: Final = 86_400_000  # a name means the stored session if the reading is at most a day older than it


@dataclass(slots=True)
class SessionEffects:
    """Rows of telemetry.session to write, and what to publish."""

    columns: Columns
    names: list[str | None]
    started: I64
    completed: I64
    slots: I64  # whose sessions changed
    consumption: dict[int, list[ComponentVolume]]  # by session_key, of completed sessions with a tariff
    costs: list[CostUpdate]


def update_sessions(
    state: PartitionState,
    rows: StepReadings,
    session_ids: SessionIds,
    now_ms: int,
    queries: StoreQueries,
    params: StepParams,
) -> SessionEffects:
    """Assign the rows to sessions (sets their session_key and flags), account for them, close what has timed out."""
    ensure_tariffs_compiled(state, queries)
    runs = rows.runs
    silence_ms = rows.received_ms - previous_in_run(rows.received_ms, runs, state.arrival_ms[runs.key])
    signals = _signals(rows, silence_ms >= params.session_timeout_ms)
    recalled = _recall(state, rows, signals, session_ids, queries, params)
    open_before = state.open_key[: state.slots].copy()
    members = sessions.assign(state, signals, runs, recalled, state.new_session_key)
    _flag(rows, members, params.power_max_mw)
    _record_arrivals(state, rows, runs)

    pinned = pin_tariffs(state, members, queries)
    totals, dirty = _advance(state, rows, members, open_before, pinned, params.power_max_mw)
    _name_open(state, rows, members, session_ids)
    clock_ms = int(rows.received_ms.max()) if len(rows) else now_ms
    dirty |= _time_out(state, members, totals, clock_ms - params.session_timeout_ms)
    dirty |= {key for key, past in members.closed.items() if past.last_ms > past.end_ms} | set(members.reopened)
    recompute_sessions(state, rows, members, totals, Recomputation(dirty, pinned), queries, params.power_max_mw)
    return _effects(state, rows, members, totals, session_ids, _running_rows(state, clock_ms))


def _signals(rows: StepReadings, silence: Bools) -> Signals:
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
    state: PartitionState,
    rows: StepReadings,
    signals: Signals,
    session_ids: SessionIds,
    queries: StoreQueries,
    params: StepParams,
) -> dict[tuple[int, int], PastSession]:
    """Sessions of the store for the names that the state does not remember, by (slot, name)."""
    wanted: dict[tuple[int, int], int] = {}
    for row in sessions.unfamiliar(state, signals).tolist():
        wanted.setdefault((int(rows.slot[row]), int(rows.name[row])), row)
    if not wanted:
        return {}
    connector_keys = [int(state.connector_key[slot]) for slot, _ in wanted]
    names = [session_ids[int(rows.name_code[row])] for row in wanted.values()]
    recalled = {}
    for ((slot, name), row), found in zip(wanted.items(), queries.sessions(connector_keys, names), strict=True):
        if found is None:
            continue
        ts_ms = int(rows.ts_ms[row])
        if found.started_ms - RECALL_BEFORE_MS <= ts_ms <= found.last_ms + params.session_timeout_ms:
            explicit = found.end_reason in EXPLICIT_ENDS
            end_ms = found.ended_ms if explicit else MAX_I64
            reason = found.end_reason or EndReason.SUPERSEDED
            recalled[slot, name] = PastSession(
                slot, found.session_key, name, found.started_ms, found.last_ms, end_ms, reason, found.revision
            )
    return recalled


def _flag(rows: StepReadings, members: Membership, power_max_mw: int) -> None:
    rows.session_key[:] = members.key
    rows.flags |= members.outside * np.int64(Quality.OUTSIDE_SESSION)
    rows.flags |= (rows.power_mw > power_max_mw) * np.int64(Quality.IMPLAUSIBLE_POWER)
    estimated = (members.key != NULL) & (rows.energy_mwh == NULL) & (rows.power_mw != NULL)
    rows.flags |= estimated * np.int64(Quality.ESTIMATED)


def _record_arrivals(state: PartitionState, rows: StepReadings, runs: Runs) -> None:
    if len(runs.start):
        newest = np.maximum.reduceat(rows.received_ms, runs.start)
        state.arrival_ms[runs.key] = np.maximum(state.arrival_ms[runs.key], newest)


def _advance(
    state: PartitionState,
    rows: StepReadings,
    members: Membership,
    open_before: I64,
    pinned: dict[int, int],
    power_max_mw: int,
) -> tuple[dict[int, SessionTotals], set[int]]:
    """Account for rows that joined an open session. Returns totals of sessions closed since, and keys to recompute.

    A session continues from the state if it was open before this step, and goes back into the state if it still is;
    totals are returned of those that closed on the way.
    """
    closing = [past for key, past in members.closed.items() if open_before[past.slot] == key]
    totals = _totals_in_state(state, closing)
    dirty = {past.key for past in closing if state.dirty[past.slot]}
    taken = np.flatnonzero((members.key != NULL) & ~members.late)
    resumed = np.isin(taken, members.resumed)
    runs = _session_runs(members.key[taken], resumed)
    key, slot = members.key[taken[runs.start]], rows.slot[taken[runs.start]]
    before = open_before[slot]
    continuing = (key == before) & ~resumed[runs.start]
    readings = _readings(rows, taken)
    charges = _charges(state, slot, key, continuing, _earliest(readings.samples.ts_ms, runs), pinned)
    flagged = np.where(continuing, state.open_flagged[slot], np.int64(0))

    rows.flags[taken] |= advance(state.tariffs, charges, readings, runs, power_max_mw)
    flagged += np.bincount(runs.of_row[rows.flagged()[taken]], minlength=len(slot))

    still = state.open_key[slot] == key
    state.put_charges(slot[still], charges, np.flatnonzero(still))
    state.open_flagged[slot[still]] = flagged[still]
    state.cost_published_micros[slot[still & ~continuing]] = state.cost_published_ms[slot[still & ~continuing]] = 0
    for row in np.flatnonzero(~still).tolist():
        past = members.closed[int(key[row])]
        totals[past.key] = SessionTotals(past.start_ms, past.last_ms, int(flagged[row]), charges, row)
    dirty |= set(key[charges.energy.dirty != 0].tolist()) | set(members.key[members.late].tolist())
    return totals, dirty


def _totals_in_state(state: PartitionState, closing: list[PastSession]) -> dict[int, SessionTotals]:
    """Totals of sessions as the state has them; to be called before their slots are reused."""
    slots = np.array([past.slot for past in closing], np.int64)
    charges = state.charges(slots)
    flagged = state.open_flagged[slots].tolist()
    return {
        past.key: SessionTotals(past.start_ms, past.last_ms, flagged[row], charges, row)
        for row, past in enumerate(closing)
    }


def _readings(rows: StepReadings, taken: I64) -> MeteredReadings:
    samples = Samples(rows.ts_ms[taken], rows.seq[taken], rows.energy_mwh[taken], rows.power_mw[taken])
    return MeteredReadings(samples, rows.current_ma[taken], rows.status[taken])


def _earliest(ts_ms: I64, runs: Runs) -> I64:
    return np.minimum.reduceat(ts_ms, runs.start) if len(runs.start) else runs.start


def _charges(
    state: PartitionState, slot: I64, key: I64, continuing: Bools, start_ms: I64, pinned: dict[int, int]
) -> SessionCharges:
    """Of each session: as the state has it where it continues, else new."""
    if continuing.all():
        return state.charges(slot)
    tariff_key = np.array([pinned.get(k, 0) for k in key.tolist()], np.int64)
    charges = SessionCharges.fresh(state.tariffs, tariff_key, start_ms)
    charges.put(np.flatnonzero(continuing), state.charges(slot[continuing]))
    return charges


def _session_runs(key: I64, resumed: Bools) -> Runs:
    """The runs of equal keys, a new one also where a session resumes after its time-out; `key` of a run: its number."""
    one_run = runs_of(np.zeros(len(key), np.int64))
    first = resumed | (key != previous_in_run(key, one_run, one_run.key))
    return runs_of(np.cumsum(first) - 1)


def _name_open(state: PartitionState, rows: StepReadings, members: Membership, session_ids: SessionIds) -> None:
    """Keep the device's name of each open session, of which the state's columns have the fingerprint only."""
    for slot in [*members.opened.values(), *(past.slot for past in members.closed.values())]:
        state.session_name[slot] = None
    for key, row in members.named:
        slot = int(rows.slot[row])
        if state.open_key[slot] == key:
            state.session_name[slot] = session_ids[int(rows.name_code[row])]


def _time_out(
    state: PartitionState, members: Membership, totals: dict[int, SessionTotals], deadline_ms: int
) -> set[int]:
    """Close the sessions of which nothing came since the deadline (by arrival). Returns those to be recomputed."""
    slots = np.flatnonzero((state.open_key[: state.slots] != 0) & (state.arrival_ms[: state.slots] <= deadline_ms))
    keys = state.open_key[slots].tolist()
    sessions.time_out(state, slots, members)
    totals |= _totals_in_state(state, [members.closed[key] for key in keys])
    for slot in slots.tolist():
        state.session_name[slot] = None
    return {key for key, slot in zip(keys, slots.tolist(), strict=True) if state.dirty[slot]}


def _running_rows(state: PartitionState, clock_ms: int) -> int:
    """How many rows of running sessions this step writes at most."""
    since_ms, state.rows_written_ms = clock_ms - state.rows_written_ms, clock_ms
    due = int(np.count_nonzero(state.open_key[: state.slots])) * since_ms // RUNNING_AGE_MS
    return min(max(due, RUNNING_ROWS_MIN), RUNNING_ROWS_MAX)


def _effects(
    state: PartitionState,
    rows: StepReadings,
    members: Membership,
    totals: dict[int, SessionTotals],
    session_ids: SessionIds,
    most: int,
) -> SessionEffects:
    """The rows to write: all that opened, closed or changed after it, and `most` running ones."""
    running = distinct(rows.slot[(members.key != NULL) & ~members.late], state.slots)
    queue = np.concatenate([state.stale, running[~np.isin(running, state.stale)]])
    queue = queue[state.open_key[queue] != 0]
    urgent = np.isin(queue, [*members.opened.values(), *members.reopened.values()])
    waiting = queue[~urgent]
    state.stale = waiting[most:]
    written = np.concatenate([queue[urgent], waiting[:most]])

    open_rows = state.charges(written)
    columns = _open_columns(state, written, open_rows)
    costs = _cost_updates(state, written, columns)
    consumption: dict[int, list[ComponentVolume]] = {}
    if members.closed:
        closed = _closed_columns(state, list(members.closed.values()), totals, consumption)
        columns = {name: np.concatenate([columns[name], closed[name]]) for name in SESSION_COLUMNS}
    named = {key: session_ids[int(rows.name_code[row])] for key, row in members.named}
    return SessionEffects(
        columns={name: columns[name].astype(dtype, copy=False) for name, dtype in SESSION_COLUMNS.items()},
        names=[*(state.session_name[slot] for slot in written.tolist()), *(named.get(key) for key in members.closed)],
        started=np.array(sorted(members.opened), np.int64),
        completed=np.array(list(members.closed), np.int64),
        slots=np.array([past.slot for past in members.closed.values()], np.int64),
        consumption=consumption,
        costs=costs,
    )


def _open_columns(state: PartitionState, slots: I64, charges: SessionCharges) -> Columns:
    return {
        "session_key": state.open_key[slots],
        "connector_key": state.connector_key[slots],
        "started_ms": state.open_start_ms[slots],
        "last_ms": state.open_last_ms[slots],
        "ended_ms": np.full(len(slots), NULL, np.int64),
        "end_reason": np.zeros(len(slots), np.int64),
        **_energy_columns(charges.energy),
        "flagged": state.open_flagged[slots],
        "revision": state.open_revision[slots],
        **cost_columns(charges, *usage_and_costs(state.tariffs, charges)),
    }


def _closed_columns(
    state: PartitionState,
    pasts: list[PastSession],
    totals: dict[int, SessionTotals],
    consumption: dict[int, list[ComponentVolume]],
) -> Columns:
    """Of sessions that are not open any more. Adds the usage of those with a tariff to `consumption`."""
    found = [totals[past.key] for past in pasts]
    charges = collect_charges([(one.charges, one.row) for one in found])
    usage, costs = usage_and_costs(state.tariffs, charges)
    for row in np.flatnonzero(usage.tariff != NONE).tolist():
        consumption[pasts[row].key] = component_usage(state.tariffs, usage, row)
    last_ms = np.array([one.last_ms for one in found], np.int64)
    end_ms = np.array([past.end_ms for past in pasts], np.int64)
    return {
        "session_key": np.array([past.key for past in pasts], np.int64),
        "connector_key": state.connector_key[[past.slot for past in pasts]],
        "started_ms": np.array([one.start_ms for one in found], np.int64),
        "last_ms": last_ms,
        "ended_ms": np.where(end_ms == MAX_I64, last_ms, end_ms),
        "end_reason": np.array([past.reason for past in pasts], np.int64),
        **_energy_columns(charges.energy),
        "flagged": np.array([one.flagged for one in found], np.int64),
        "revision": np.array([past.revision for past in pasts], np.int64),
        **cost_columns(charges, usage, costs),
    }


def _energy_columns(energy: SessionEnergy) -> dict[str, I64]:
    return {
        "energy_uj": energy.energy_uj(),
        "integrated_uj": energy.integrated_uj(),
        "register_first_mwh": energy.register_first_mwh,
        "register_last_mwh": energy.register_last_mwh,
        "readings": energy.readings,
    }


def _cost_updates(state: PartitionState, slots: I64, columns: Columns) -> list[CostUpdate]:
    """Of the sessions whose cost is not the one last published, if that was long enough ago."""
    cost = columns["cost_incl_micros"].astype(np.int64)
    moved = (cost != NULL) & (cost != state.cost_published_micros[slots])
    rows = np.flatnonzero(moved & (state.arrival_ms[slots] >= state.cost_published_ms[slots] + COST_UPDATE_MS))
    state.cost_published_micros[slots[rows]], state.cost_published_ms[slots[rows]] = (
        cost[rows],
        state.arrival_ms[slots[rows]],
    )
    names = ("session_key", "last_ms", "energy_uj", "tariff_key", "cost_excl_micros", "cost_incl_micros")
    values = zip(slots[rows].tolist(), *(columns[name][rows].tolist() for name in names), strict=True)
    return [
        CostUpdate(
            session_key, *state.connector_index.connector(slot), state.session_name[slot], as_of_ms, energy_uj,
            tariff_key, excl_micros, incl_micros,
        )
        for slot, session_key, as_of_ms, energy_uj, tariff_key, excl_micros, incl_micros in values
    ]  # fmt: skip
