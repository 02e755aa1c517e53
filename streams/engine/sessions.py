"""Sessions of a step: which readings are theirs, their energy and cost, and which of them change (session_rows).

The step continues the pass over the timelines of its connectors, or repeats it where a reading came late
(docs/adr/0014, engine/replay). The timeline is cut into segments, sessions and what is outside of one; the kernels
account for each, those of a connector one after the other.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from schemas.quality import Quality
from streams.effects import Columns, ComponentVolume, CostUpdate, StepParams
from streams.engine.awaited import awaited_runs
from streams.engine.batch import Batch
from streams.engine.readings import ACCOUNTED, StepReadings
from streams.engine.replay import MovedEnergy, Replay, load_replay, settle_keys
from streams.engine.session_rows import (
    changed_rows,
    closed_columns,
    cost_updates,
    joined,
    open_columns,
    withdrawn_columns,
)
from streams.engine.session_tariffs import SessionTerms, compile_tariffs, ensure_tariffs_compiled, pin_terms
from streams.engine.store_queries import StoredSession, StoreQueries
from streams.engine.timeline import SessionNames, Timeline, in_order, late_runs, timeline_of
from streams.kernels import sessions
from streams.kernels.energy import Samples
from streams.kernels.energy import advance as advance_energy
from streams.kernels.runs import I64, NULL, Bools, Runs, all_true, among, any_of, any_true, rows_where, runs_of
from streams.kernels.sessions import Membership
from streams.state.partition import PartitionState
from streams.state.session_charges import (
    MeteredReadings,
    SessionCharges,
    SessionTotals,
    advance,
)

# Rows of running sessions are written at ~20 us each, besides those that open or close: so many in a step that all are
# rewritten within RUNNING_AGE_MS, but at most 5 ms of them, and at least a negligible number. The others wait for a
# later step; the live view is always current, and what a crash needs is in the state.
RUNNING_AGE_MS: Final = 10_000
RUNNING_ROWS_MAX: Final = 250
RUNNING_ROWS_MIN: Final = 25
# Between two steps with readings that write any: the statement costs as much as twenty rows.
RUNNING_PAUSE_MS: Final = 200


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
    awaited = awaited_runs(state, timeline, params.session_timeout_ms)
    replay, timeline = load_replay(state, timeline, late, awaited, names, queries)
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
        parts = [open_columns(state, written)]
        costs = cost_updates(state, written, parts[0])
    consumption: dict[int, list[ComponentVolume]] = {}
    closed = [past for past in members.closed.values() if past.key in this.totals]
    completed: list[int] = []
    if closed:
        columns = closed_columns(state, closed, this.totals, params, consumption, timeline, members)
        changed = changed_rows(columns, found, texts)
        completed += columns["session_key"][changed].tolist()
        parts.append({name: column[changed] for name, column in columns.items()})
    if lost:
        parts.append(withdrawn_columns(lost))
        completed += [session.session_key for session in lost]
        consumption |= {session.session_key: [] for session in lost if session.tariff_key}
    running_ids = [state.session_name[slot] for slot in written.tolist()]
    return SessionEffects(
        columns=joined(parts),
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
