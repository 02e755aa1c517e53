"""Sessions of a step: which readings are theirs, their energy and cost, and which rows of telemetry.session change.

The step continues the pass over the timelines of its connectors, or repeats it where a reading came late
(docs/adr/0014, engine/replay). The timeline is cut into segments, sessions and what is outside of one; the kernels
account for each, those of a connector one after the other.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from schemas.quality import Quality
from schemas.session import EndReason
from streams.effects import COST_COLUMNS, SESSION_COLUMNS, Columns, ComponentVolume, CostUpdate, StepParams
from streams.engine.batch import Batch
from streams.engine.readings import ACCOUNTED, StepReadings
from streams.engine.replay import MovedEnergy, Replay, load_replay, settle_keys
from streams.engine.session_tariffs import SessionTerms, compile_tariffs, ensure_tariffs_compiled, pin_terms
from streams.engine.store_queries import StoredSession, StoreQueries
from streams.engine.timeline import SessionNames, Timeline, in_order, late_runs, timeline_of
from streams.kernels import sessions
from streams.kernels.energy import Samples
from streams.kernels.energy import advance as advance_energy
from streams.kernels.runs import I64, MAX_I64, NULL, Bools, Runs, all_true, among, any_of, any_true, rows_where, runs_of
from streams.kernels.session_energy import UJ_PER_MWH, SessionEnds, SessionEnergy, hold_reasons
from streams.kernels.sessions import Membership, PastSession
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

# Rows of running sessions are written at ~20 us each, besides those that open or close: so many in a step that all are
# rewritten within RUNNING_AGE_MS, but at most 5 ms of them, and at least a negligible number. The others wait for a
# later step; the live view is always current, and what a crash needs is in the state.
RUNNING_AGE_MS: Final = 10_000
RUNNING_ROWS_MAX: Final = 250
RUNNING_ROWS_MIN: Final = 25
# Between two steps with readings that write any: the statement costs as much as twenty rows.
RUNNING_PAUSE_MS: Final = 200
# Between two events with the cost of a running session: 10,000 sessions are 1,000 of 350 B a second. The live view has
# every change.
COST_UPDATE_MS: Final = 10_000
_NO_ROWS: Final[Columns] = {name: np.empty(0, dtype) for name, dtype in SESSION_COLUMNS.items()}


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
    moved: MovedEnergy
    arrived: Timeline  # the step's readings in the order of their timelines
    late: Bools  # of its runs
    replay: Replay


@dataclass(slots=True)
class _Pass:
    """One pass over the timelines of a step's connectors."""

    state: PartitionState
    timeline: Timeline
    members: Membership
    terms: dict[int, SessionTerms]
    power_max_mw: int  # of connectors that are not registered
    totals: dict[int, SessionTotals] = field(default_factory=dict)  # of sessions that are not open any more
    session_ids: dict[int, str | None] = field(default_factory=dict)  # likewise, of those that were open before
    flags: I64 = field(init=False)
    accounted: dict[str, I64] = field(init=False)

    def __post_init__(self) -> None:
        self.flags = self.timeline.flags.copy()
        if any_true(self.members.foreign):
            self.members.foreign &= self.members.key != NULL  # readings of an unproven session are nobody's
            self.flags[self.members.foreign] |= Quality.FOREIGN_ID
        self.accounted = {name: np.zeros(len(self.timeline), np.int64) for name in ACCOUNTED}


def update_sessions(
    state: PartitionState,
    rows: StepReadings,
    batch: Batch,
    now_ms: int,
    queries: StoreQueries,
    params: StepParams,
    without: Bools | None = None,
) -> SessionEffects:
    """Assign the rows to sessions (sets what the pass finds of them), account for them, close what has timed out.

    `without`: rows that are in no timeline, the events of bays.
    """
    ensure_tariffs_compiled(state, queries)
    names = SessionNames(rows, batch.session_ids)
    timeline = timeline_of(rows, names_nothing=batch.names_nothing)
    timeline = in_order(timeline if without is None else timeline.where(~without))
    arrived, late = timeline, _late(state, timeline)
    replay, timeline = load_replay(state, timeline, late, names, queries)
    signals = timeline.signals(state.connector_index.connector_id[timeline.runs.key] == 0)
    members = sessions.assign(
        state, signals, timeline.runs, lambda slot: replay.new_key(state, slot), params.session_timeout_ms
    )
    found, lost = settle_keys(state, replay, timeline, members)
    compile_tariffs(state, np.array([session.tariff_key for session in lost], np.int64), queries)
    terms = pin_terms(state, members, found, queries, params.power_max_mw)
    this = _Pass(state, timeline, members, terms, params.power_max_mw)
    _advance(this)
    _flag(this, signals)
    _record_arrivals(state, rows)
    _name_open(this, names)
    clock_ms = int(rows.received_ms.max()) if len(rows) else now_ms
    _time_out(this, clock_ms - params.session_timeout_ms)
    moved = _return(this, rows, replay, names)
    most = _running_rows(state, clock_ms, idle=not len(rows))
    return _effects(this, replay, found, lost, names, most, params, moved, arrived, late)


def _late(state: PartitionState, timeline: Timeline) -> Bools:
    """(runs,) connectors whose pass is repeated: a reading comes late, or shows that those before were a session's, or
    that the clock of the session before was set back."""
    late = late_runs(timeline, state)
    if any_true(timeline.flags) and any_true(timeline.session_event):
        signals = timeline.signals(np.zeros(len(late), np.bool_))
        late |= sessions.started_ahead_of_past(state, signals, timeline.runs)
    if any_true(state.unproven[timeline.runs.key] != 0):
        late |= sessions.proof(state, timeline.signals(np.zeros(len(late), np.bool_)), timeline.runs)
    return late


@dataclass(slots=True)
class _Segments:
    """The segments under way of connectors, one row per connector."""

    key: I64  # 0: outside of any session
    charges: SessionCharges
    flagged: I64


def _advance(this: _Pass) -> None:
    """Account for all rows: those of segments that go on where these are kept, the others segment by segment."""
    state, runs = this.state, this.timeline.runs
    slots = runs.key
    if not len(slots):
        return
    power_max_mw = state.energy.power_max_mw
    power_max_mw[slots[power_max_mw[slots] == 0]] = this.power_max_mw  # of new connectors
    goes_on = _goes_on(this)
    if all_true(goes_on):
        this.accounted = _go_on(this, _readings_of(this.timeline), runs, this.flags)
        return
    at = rows_where(goes_on[runs.of_row])
    if len(at):
        flags, readings = this.flags[at], _readings_of(this.timeline).at(at)
        for name, values in _go_on(this, readings, runs_of(this.timeline.slot[at]), flags).items():
            this.accounted[name][at] = values
        this.flags[at] = flags
    _advance_by_segment(this, rows_where(~goes_on[runs.of_row]))


def _goes_on(this: _Pass) -> Bools:
    """(runs,) connectors whose segment under way all their rows are of, and which goes on after these."""
    state, runs, key = this.state, this.timeline.runs, this.members.key
    segment_key = state.segment_key[runs.key]
    kept = segment_key == state.open_key[runs.key]
    own = np.where(segment_key == 0, NULL, segment_key)
    goes_on: Bools = kept & ~any_of(key != own[runs.of_row], runs)
    return goes_on


def _go_on(this: _Pass, readings: MeteredReadings, runs: Runs, flags: I64) -> dict[str, I64]:
    """Account for readings that continue the segments of their connectors. Returns ACCOUNTED; adds to `flags`."""
    state, slots = this.state, runs.key
    in_session = state.segment_key[slots] != 0
    if any_true(state.open_tariff[slots]):
        charges = state.charges_with(slots, state.energy)
        found = advance(state.tariffs, charges, readings, runs, in_session)
        state.put_usage(slots, charges)
    else:  # no usage is recorded of sessions without a tariff
        found = advance_energy(state.energy, readings.samples, runs, in_session)
    if any_true(found.flags):
        flags |= found.flags
    doubtful = rows_where(flags & ~np.int64(Quality.ESTIMATED))
    if len(doubtful):
        np.add.at(state.open_flagged, slots[runs.of_row[doubtful]], 1)
    return {name: getattr(found, name) for name in ACCOUNTED}


def _readings_of(timeline: Timeline) -> MeteredReadings:
    samples = Samples(timeline.ts_ms, timeline.energy_mwh, timeline.power_mw, timeline.energy_export_mwh)
    return MeteredReadings(samples, timeline.current_ma, timeline.status)


def _advance_by_segment(this: _Pass, at: I64) -> None:
    """Account for these rows of the timeline, all of their connectors: of each connector the first segment, then the
    second, and so on."""
    state, timeline = this.state, this.timeline.where(at)
    runs, key = timeline.runs, this.members.key[at]
    slots = runs.key
    key[key == NULL] = 0
    begins = np.zeros(len(timeline), np.bool_)
    begins[1:] = key[1:] != key[:-1]
    begins[runs.start] = True
    segment_of_row = np.cumsum(begins) - 1
    first_row = rows_where(begins)
    connector = runs.of_row[first_row]  # of each segment
    rank = np.arange(len(first_row)) - segment_of_row[runs.start][connector]
    before = _Segments(state.segment_key[slots], state.charges(slots), state.open_flagged[slots].astype(np.int64))
    _close_before(this, before, key[first_row[rank == 0]])
    segments = before
    for turn in range(int(rank.max()) + 1):
        chosen = rank == turn
        rows = rows_where(chosen[segment_of_row])
        done = _advance_turn(this, segments, connector[chosen], key[first_row[chosen]], timeline.where(rows), at[rows])
        segments = done if turn == 0 else _put(segments, connector[chosen], done)
    new = slots[(segments.key != before.key) & (segments.key != 0)]
    state.put_charges(slots, segments.charges)
    state.open_tariff[slots[(state.open_key[slots] == 0) & ~sessions.resumable(state, slots)]] = 0
    state.segment_key[slots], state.open_flagged[slots] = segments.key, segments.flagged
    state.cost_published_micros[new] = state.cost_published_ms[new] = 0


def _put(segments: _Segments, connector: I64, done: _Segments) -> _Segments:
    """The segments under way after some connectors' next ones are done."""
    key, flagged = segments.key.copy(), segments.flagged.copy()
    charges = segments.charges.at(np.arange(len(key)))  # the totals of sessions refer to what was
    key[connector], flagged[connector] = done.key, done.flagged
    charges.put(connector, done.charges)
    return _Segments(key, charges, flagged)


def _close_before(this: _Pass, before: _Segments, next_key: I64) -> None:
    """Totals of the sessions that were open before and closed without another reading."""
    ended = rows_where((before.key != 0) & (before.key != next_key))
    for row in ended.tolist():
        _keep_totals(this, int(before.key[row]), before, row)


def _keep_totals(this: _Pass, key: int, segments: _Segments, row: int) -> None:
    past = this.members.closed.get(key)
    if past is not None:
        flagged = int(segments.flagged[row])
        this.totals[key] = SessionTotals(past.start_ms, past.last_ms, flagged, segments.charges, row)


def _advance_turn(this: _Pass, segments: _Segments, connector: I64, own: I64, timeline: Timeline, at: I64) -> _Segments:
    """Account for one segment of each of these connectors, `own` their keys: rows `at` of the pass."""
    state, runs = this.state, timeline.runs
    continues = own == segments.key[connector]
    before = segments.charges if len(connector) == len(segments.key) else segments.charges.at(connector)
    charges = _new_charges(this, before, own, segments.key[connector] != 0, timeline.ts_ms[runs.start])
    rows = rows_where(continues)
    charges.put(rows, before.at(rows))
    by_segment = runs._replace(key=np.arange(len(own)))
    found = advance(state.tariffs, charges, _readings_of(timeline), by_segment, own != 0)
    this.flags[at] |= found.flags
    for name in ACCOUNTED:
        this.accounted[name][at] = getattr(found, name)
    doubtful = (this.flags[at] & ~np.int64(Quality.ESTIMATED)) != 0
    flagged = np.where(continues, segments.flagged[connector], 0)
    flagged += np.bincount(runs.of_row[doubtful], minlength=len(own))
    done = _Segments(own, charges, flagged)
    closed = (own != 0) & (state.open_key[runs.key] != own)
    for row in rows_where(closed).tolist():
        _keep_totals(this, int(own[row]), done, row)
    return done


def _new_charges(this: _Pass, before: SessionCharges, key: I64, after_session: Bools, start_ms: I64) -> SessionCharges:
    """Segments that begin, after these."""
    power_max_mw = before.energy.power_max_mw.copy()
    tariff_key = np.zeros(len(key), np.int64)
    for row in rows_where(key).tolist():
        if (terms := this.terms.get(int(key[row]))) is not None:
            tariff_key[row], power_max_mw[row] = terms
    energy = before.energy.next_segments(power_max_mw, start_ms, after_session=after_session, in_session=key != 0)
    return SessionCharges.fresh(this.state.tariffs, tariff_key, start_ms, energy)


def _flag(this: _Pass, signals: sessions.Signals) -> None:
    timeline = this.timeline
    outside = this.members.key == NULL
    if any_true(outside):
        stirring = signals.have(sessions.DRAWING | sessions.ENDED) | (signals.name != 0)
        stirring |= this.accounted["outside_mwh"] != 0
        this.flags[outside & stirring] |= Quality.OUTSIDE_SESSION
    bare = timeline.energy_mwh == NULL
    if any_true(bare):
        this.flags[bare & ~outside & (timeline.power_mw != NULL)] |= Quality.ESTIMATED


def _record_arrivals(state: PartitionState, rows: StepReadings) -> None:
    runs = rows.runs
    if len(runs.start):
        newest = np.maximum.reduceat(rows.received_ms, runs.start)
        state.arrival_ms[runs.key] = np.maximum(state.arrival_ms[runs.key], newest)


def _name_open(this: _Pass, names: SessionNames) -> None:
    """Keep the device's name of each open session, of which the state's columns have the fingerprint only."""
    state, opened = this.state, this.members.opened
    for key, past in this.members.closed.items():
        if key not in opened:
            this.session_ids[key] = state.session_name[past.slot]
    for slot in this.members.opened.values():
        state.session_name[slot] = None
    for key, row in this.members.named:
        slot = int(this.timeline.slot[row])
        if state.open_key[slot] == key:
            state.session_name[slot] = names[int(this.timeline.row[row])]


def _time_out(this: _Pass, deadline_ms: int) -> None:
    """Close the sessions of which nothing came since the deadline (by arrival); unproven ones wait for their proof."""
    state = this.state
    slots = rows_where((state.open_key[: state.slots] != 0) & (state.arrival_ms[: state.slots] <= deadline_ms))
    if not len(slots):
        return
    keys = state.open_key[slots].tolist()
    sessions.time_out(state, slots, this.members)
    segments = _Segments(state.segment_key[slots], state.charges(slots), state.open_flagged[slots].astype(np.int64))
    for row, key in enumerate(keys):
        this.session_ids[key] = state.session_name[slots[row]]
        _keep_totals(this, key, segments, row)


def _return(this: _Pass, rows: StepReadings, replay: Replay, names: SessionNames) -> MovedEnergy:
    """Give the step's readings what the pass found of them. Returns what it changes of stored ones."""
    timeline, members = this.timeline, this.members
    named = (members.key != NULL) & (timeline.given != 0) & ~members.foreign
    columns = {"session_key": members.key, "flags": this.flags, "named": named.astype(np.int64), **this.accounted}
    if len(timeline) == len(rows) and timeline.as_arrived:
        for name, values in columns.items():
            setattr(rows, name, values)
    else:
        new = rows_where(~timeline.stored)
        for name, values in columns.items():
            found = getattr(rows, name).copy()
            found[timeline.row[new]] = values[new]
            setattr(rows, name, found)
    if replay.impossible:
        apart = np.isin(rows.slot, sorted(replay.impossible))
        rows.flags[apart] |= Quality.OUTSIDE_SESSION
    return replay.differences(timeline, columns, this.state.connector_key, names)


def _running_rows(state: PartitionState, clock_ms: int, *, idle: bool) -> int:
    """How many rows of running sessions this step writes at most. `idle`: it has no readings."""
    since_ms = clock_ms - state.rows_written_ms
    if not idle and 0 <= since_ms < RUNNING_PAUSE_MS:
        return 0
    state.rows_written_ms = clock_ms
    due = int(np.count_nonzero(state.open_key[: state.slots])) * since_ms // RUNNING_AGE_MS
    return min(max(due, RUNNING_ROWS_MIN), RUNNING_ROWS_MAX)


def _effects(
    this: _Pass,
    replay: Replay,
    found: Mapping[int, StoredSession],
    lost: Sequence[StoredSession],
    names: SessionNames,
    most: int,
    params: StepParams,
    moved: MovedEnergy,
    arrived: Timeline,
    late: Bools,
) -> SessionEffects:
    """The rows to write: all that opened, closed or changed after it, and `most` running ones."""
    state, members, timeline = this.state, this.members, this.timeline
    running = timeline.runs.key[any_of(members.key != NULL, timeline.runs)]
    queue = np.concatenate([state.stale, running[~among(running, state.stale, state.slots)]])
    queue = queue[state.open_key[queue] != 0]
    urgent = among(queue, [*members.opened.values(), *members.reopened.values()], state.slots)
    waiting = queue[~urgent]
    state.stale = waiting[most:]
    written = np.concatenate([queue[urgent], waiting[:most]])

    texts = this.session_ids | {session.session_key: session.session_id for session in lost}
    texts |= {key: names[int(timeline.row[row])] for key, row in members.named}
    parts: list[Columns] = []
    costs: list[CostUpdate] = []
    if len(written):
        parts = [_open_columns(state, written)]
        costs = _cost_updates(state, written, parts[0])
    consumption: dict[int, list[ComponentVolume]] = {}
    closed = [past for past in members.closed.values() if past.key in this.totals]
    completed: list[int] = []
    if closed:
        columns = _closed_columns(this, closed, params, consumption)
        changed = _changed(columns, found, texts)
        completed += columns["session_key"][changed].tolist()
        parts.append({name: column[changed] for name, column in columns.items()})
    if lost:
        parts.append(_withdrawn_columns(lost))
        completed += [session.session_key for session in lost]
        consumption |= {session.session_key: [] for session in lost if session.tariff_key}
    running_ids = [state.session_name[slot] for slot in written.tolist()]
    return SessionEffects(
        columns=_together(parts),
        names=[*running_ids, *map(texts.get, completed)],
        started=np.array(sorted(key for key in members.opened if key not in found), np.int64),
        completed=np.array(completed, np.int64),
        slots=np.array(sorted({*(past.slot for past in members.closed.values()), *replay.slots}), np.int64),
        consumption=consumption,
        costs=costs,
        moved=moved,
        arrived=arrived,
        late=late,
        replay=replay,
    )


def _together(parts: Sequence[Columns]) -> Columns:
    """effects.SESSION_COLUMNS of all rows of these."""
    if not parts:
        return _NO_ROWS
    one = parts[0]
    if len(parts) > 1:
        one = {name: np.concatenate([part[name] for part in parts]) for name in SESSION_COLUMNS}
    return {name: one[name].astype(dtype, copy=False) for name, dtype in SESSION_COLUMNS.items()}


def _open_columns(state: PartitionState, slots: I64) -> Columns:
    nothing, energy = np.zeros(len(slots), np.int64), state.energy.at(slots)
    return {
        "session_key": state.open_key[slots],
        "connector_key": state.connector_key[slots],
        "started_ms": state.open_start_ms[slots],
        "last_ms": state.open_last_ms[slots],
        "ended_ms": np.full(len(slots), NULL, np.int64),
        "end_reason": nothing,
        **_energy_columns(energy),
        "hold": nothing,
        "void": nothing,
        "explicit": state.open_explicit[slots],
        "flagged": state.open_flagged[slots],
        "revision": state.open_revision[slots],
        **_running_costs(state, slots, energy),
    }


def _running_costs(state: PartitionState, slots: I64, energy: SessionEnergy) -> dict[str, I64]:
    if not any_true(state.open_tariff[slots]):
        return dict.fromkeys(COST_COLUMNS, np.full(len(slots), NULL, np.int64))
    charges = state.charges_with(slots, energy)
    return cost_columns(charges, *usage_and_costs(state.tariffs, charges))


def _closed_columns(
    this: _Pass,
    pasts: list[PastSession],
    params: StepParams,
    consumption: dict[int, list[ComponentVolume]],
) -> Columns:
    """Of sessions that are not open any more. Adds the usage of those with a tariff to `consumption`."""
    state = this.state
    totals = [this.totals[past.key] for past in pasts]
    charges = collect_charges([(one.charges, one.row) for one in totals])
    usage, costs = usage_and_costs(state.tariffs, charges)
    for row in rows_where(usage.tariff != NONE).tolist():
        consumption[pasts[row].key] = component_usage(state.tariffs, usage, row)
    start_ms = np.array([past.start_ms for past in pasts], np.int64)
    last_ms = np.array([past.last_ms for past in pasts], np.int64)
    end_ms = np.array([past.end_ms for past in pasts], np.int64)
    ends = SessionEnds(
        timed_out=np.array([past.reason == EndReason.TIMEOUT for past in pasts], np.bool_),
        next_ms=np.array([past.next_ms for past in pasts], np.int64),
        next_register_mwh=np.array([past.next_register_mwh for past in pasts], np.int64),
    )
    hold = hold_reasons(charges.energy, ends) | np.array([past.hold for past in pasts], np.int64)
    delivered_mwh = charges.energy.energy_uj() // UJ_PER_MWH
    brief = (last_ms - start_ms < params.void_ms) & (delivered_mwh <= params.void_mwh)
    return {
        "session_key": np.array([past.key for past in pasts], np.int64),
        "connector_key": state.connector_key[[past.slot for past in pasts]],
        "started_ms": start_ms,
        "last_ms": last_ms,
        "ended_ms": np.where(end_ms == MAX_I64, last_ms, end_ms),
        "end_reason": np.array([past.reason for past in pasts], np.int64),
        **_energy_columns(charges.energy),
        "hold": hold,
        "void": (brief & (hold == 0)).astype(np.int64),
        "explicit": np.array([past.explicit for past in pasts], np.int64),
        "flagged": np.array([one.flagged for one in totals], np.int64),
        "revision": np.array([past.revision for past in pasts], np.int64),
        **cost_columns(charges, usage, costs),
    }


def _energy_columns(energy: SessionEnergy) -> dict[str, I64]:
    return {
        "energy_uj": energy.energy_uj(),
        "integrated_uj": energy.integrated_uj(),
        "export_mwh": energy.export_mwh,
        "register_first_mwh": energy.register_first_mwh,
        "register_last_mwh": np.where(energy.register_first_mwh == NULL, NULL, energy.register_last_mwh),
        "power_max_mw": energy.power_max_mw,
        "register_before_mwh": energy.before_mwh,
        "register_before_ms": energy.before_ts_ms,
        "series_mwh": energy.series_mwh,
        "register_after_mwh": energy.register_last_mwh,
        "register_after_ms": energy.register_ts_ms,
        "readings": energy.readings,
    }


_COMPARED: Final = (
    "started_ms", "last_ms", "ended_ms", "end_reason", "explicit", "energy_uj", "integrated_uj", "export_mwh",
    "readings", "flagged", "hold", "cost_excl_micros", "cost_incl_micros", "register_before_mwh", "register_before_ms",
    "series_mwh", "register_first_mwh", "register_after_mwh", "register_after_ms",
)  # fmt: skip


def _changed(columns: Columns, found: Mapping[int, StoredSession], texts: Mapping[int, str | None]) -> I64:
    """The rows of sessions that are not stored so already; of those a repeated pass found again the revision rises.
    `texts`: session ids by key."""
    changed = []
    for row, key in enumerate(columns["session_key"].tolist()):
        stored = found.get(key)
        if stored is not None:
            same = all(int(columns[name][row]) == getattr(stored, name) for name in _COMPARED)
            if same and texts.get(key) == stored.session_id:
                continue
            columns["revision"][row] = stored.revision + 1
        changed.append(row)
    return np.array(changed, np.int64)


def _withdrawn_columns(lost: Sequence[StoredSession]) -> Columns:
    """Of sessions whose readings are others': they have nothing."""
    rows = len(lost)
    columns: Columns = {name: np.zeros(rows, np.int64) for name in SESSION_COLUMNS}
    for name in ("register_first_mwh", "register_last_mwh", "register_before_mwh", "register_before_ms", "series_mwh",
                 "register_after_mwh", "register_after_ms"):  # fmt: skip
        columns[name] = np.full(rows, NULL, np.int64)
    priced = np.array([session.tariff_key != 0 for session in lost])
    for name in COST_COLUMNS:
        columns[name] = np.where(priced, 0, NULL)
    for name in ("session_key", "connector_key", "started_ms", "last_ms", "explicit", "power_max_mw", "tariff_key"):
        columns[name] = np.array([getattr(session, name) for session in lost], np.int64)
    columns["tariff_key"] = np.where(priced, columns["tariff_key"], NULL)
    columns["ended_ms"] = columns["last_ms"]
    columns["void"] = np.ones(rows, np.int64)
    columns["end_reason"] = np.full(rows, int(EndReason.WITHDRAWN), np.int64)
    columns["revision"] = np.array([session.revision + 1 for session in lost], np.int64)
    return columns


def _cost_updates(state: PartitionState, slots: I64, columns: Columns) -> list[CostUpdate]:
    """Of the sessions whose cost is not the one last published, if that was long enough ago."""
    cost = columns["cost_incl_micros"].astype(np.int64)
    moved = (cost != NULL) & (cost != state.cost_published_micros[slots])
    if not any_true(moved):
        return []
    rows = rows_where(moved & (state.arrival_ms[slots] >= state.cost_published_ms[slots] + COST_UPDATE_MS))
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
