"""One step of a partition: frames in, effects out, the state advanced. Pure except for `StoreQueries`.

Splitting the frames over several steps anywhere gives the same readings, windows, sessions and state, once a step
without frames has merged the buffered windows; only how often a changed row is published (its revision) depends on it.
"""

from collections.abc import Sequence
from typing import Any, Final

import msgspec
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from schemas.frame import FrameKind
from schemas.quality import Quality
from streams.effects import (
    WINDOW_COLUMNS,
    Columns,
    Effects,
    RefusedItems,
    SourceProgress,
    StationReadings,
    StepParams,
)
from streams.engine.batch import QUANTITY_COLUMNS, Arrivals, Frame, SessionIds
from streams.engine.bays import bay_events, update_bays
from streams.engine.readings import ACCOUNTED, StepReadings, arrange
from streams.engine.refusals import refuse_too_old
from streams.engine.replay import MovedEnergy
from streams.engine.sessions import update_sessions
from streams.engine.status import update_status
from streams.engine.store_queries import StoreQueries
from streams.engine.unclaimed import set_apart
from streams.kernels import dedupe, watermark, windows
from streams.kernels.dedupe import DedupeVerdict
from streams.kernels.runs import I64, NULL, Bools, Runs, all_true, any_true, rises, rows_where, running_max, union
from streams.kernels.windows import WindowSamples
from streams.state.columns import LIVE_QUANTITIES
from streams.state.partition import PartitionState

# Windows emitted in one step, each ~40 us with its event: at the end of a minute all connectors' are due at once, which
# would be a pause of a second for 20,000. The others follow in the next steps, an eighth at a time where they are many.
_EMITTED_MIN: Final = 400
_EMITTED_SHARE: Final = 8
# How long readings are buffered before they are merged into windows, and how many (3 MB); none while nothing arrives.
BUFFERED_MS_MAX: Final = 2_000
BUFFERED_ROWS_MAX: Final = 65_536
CONFLICT_DETAIL = "same identity as a stored reading, other values: the first one stands"

_NOTHING_ADDED: Final[Columns] = {name: np.empty(0, dtype) for name, dtype in WINDOW_COLUMNS.items()}


def step(state: PartitionState, arrivals: Arrivals, now_ms: int, queries: StoreQueries, params: StepParams) -> Effects:
    """Account for these frames, in this order; with no frames, only for the time that has passed.

    Their new connectors must have slots by now: see worker.compute.register_connectors.
    """
    frames, batch = arrivals.frames, arrivals.batch
    refused = _refused_by_gateway(frames)
    quarantined = sum(header.items for header, _ in frames if header.kind == FrameKind.REFUSED)
    rows = arrange(batch, batch.connectors.slots(state.connector_index), params.skew_tolerance_ms)
    rows, too_old = refuse_too_old(state, rows, batch, params.oldest_ms, refused)
    quarantined += too_old
    if params.quarantine_unclaimed:
        rows, unclaimed = set_apart(state, rows, batch, now_ms, queries, refused)
        quarantined += unclaimed

    verdict, entries = _judge(state, rows, queries)
    accepted = rows.where(verdict == DedupeVerdict.FRESH)
    conflicts = rows_where(verdict == DedupeVerdict.CONFLICT)
    _refuse_conflicts(state, rows, conflicts, batch.session_ids, refused)
    events = bay_events(state, accepted, batch)
    of_bays = None if events is None else events.rows
    _flag_late(state, accepted, of_bays, params.lateness_ms)
    sessions = update_sessions(state, accepted, batch, now_ms, queries, params, without=of_bays)
    status = update_status(
        state, accepted, batch, sessions.arrived, sessions.late, sessions.replay, now_ms, queries, params
    )
    samples = _samples(accepted, sessions.moved, exports=batch.exports)
    added, emit = _windows(state, samples, sessions.moved, now_ms, params, idle=arrivals.idle)
    _update_live(state, accepted, params.skew_tolerance_ms, exports=batch.exports)

    touched = union(accepted.runs.key, sessions.slots) if len(sessions.slots) else accepted.runs.key
    state.touch(union(rows.runs.key, sessions.slots) if len(sessions.slots) else rows.runs.key, entries)
    return Effects(
        readings=accepted.for_store(state),
        extra=accepted.extras(batch),
        revised=sessions.moved.revised,
        revised_extra=sessions.moved.extra,
        remeasured=sessions.moved.remeasured,
        windows=added,
        sessions=sessions.columns,
        session_ids=sessions.names,
        started=sessions.started,
        completed=sessions.completed,
        emit=emit,
        refused=refused,
        sources=_progress(state, frames),
        stored=len(accepted),
        duplicate=len(rows) - len(accepted) - len(conflicts),
        quarantined=quarantined + len(conflicts),
        touched=touched,
        consumption=sessions.consumption,
        costs=sessions.costs,
        tariffs=state.tariffs.versions(set(sessions.columns["tariff_key"].tolist())),
        by_station=_by_station(state, accepted) if params.by_station else [],
        status=status,
        bays=update_bays(state, events, queries),
    )


def _by_station(state: PartitionState, rows: StepReadings) -> list[StationReadings]:
    if not len(rows):
        return []
    runs = rows.runs  # by connector
    stations, of_run = np.unique(state.connector_index.station[runs.key], return_inverse=True)
    readings = np.zeros(len(stations), np.int64)
    np.add.at(readings, of_run, runs.length)
    newest_ms = np.full(len(stations), NULL, np.int64)
    np.maximum.at(newest_ms, of_run, np.maximum.reduceat(rows.ts_ms, runs.start))
    names = state.connector_index.station_names
    found = zip(stations.tolist(), readings.tolist(), newest_ms.tolist(), strict=True)
    return sorted(StationReadings(names[station], count, newest) for station, count, newest in found)


def _progress(state: PartitionState, frames: Sequence[Frame]) -> list[SourceProgress]:
    names = dict.fromkeys(header.source for header, _ in frames)
    return [SourceProgress(name, (s := state.sources[name]).items_total, s.items_received) for name in names]


def _refused_by_gateway(frames: Sequence[Frame]) -> RefusedItems:
    refused = RefusedItems()
    for header, batch in frames:
        if header.kind == FrameKind.REFUSED and isinstance(batch, pa.RecordBatch):
            for name in ("station_id", "reason", "detail", "raw"):
                getattr(refused, name).extend(batch.column(name).to_pylist())
            refused.connector_id.extend([None] * batch.num_rows)
            refused.received_ms.extend([header.received_ms] * batch.num_rows)
    return refused


def _judge(state: PartitionState, rows: StepReadings, queries: StoreQueries) -> tuple[NDArray[np.int8], I64]:
    """Verdict of every row (never UNKNOWN), and the dedupe window's entries that changed."""
    identities = dedupe.Identities(rows.slot, rows.boot, rows.seq, rows.ts_ms, rows.fingerprint, rows.part)
    verdict, entries = dedupe.judge(state, identities, rows.runs)
    unknown = verdict == DedupeVerdict.UNKNOWN
    if not any_true(unknown):
        return verdict, entries
    taken = dedupe.TakenIdentities()
    odd = rows.where(unknown)
    identity = state.connector_key[odd.slot], odd.boot, odd.seq, odd.ts_ms
    stored = queries.identities(*identity)
    fingerprints = stored.payload_hash.astype(np.int64) & 0xFFFF_FFFF
    taken.add(stored.connector_key, stored.boot, stored.seq, stored.ts_ms, fingerprints)
    fresh = rows.where((verdict == DedupeVerdict.FRESH) & np.isin(rows.slot, odd.slot))
    taken.add(state.connector_key[fresh.slot], fresh.boot, fresh.seq, fresh.ts_ms, fresh.fingerprint)
    verdict[unknown], rows.part[unknown] = taken.judge(*identity, odd.fingerprint)
    found = unknown & (verdict == DedupeVerdict.FRESH) & (rows.seq == NULL)
    dedupe.count_part(state, rows.slot[found], rows.ts_ms[found], rows.part[found])
    return verdict, entries


def _refuse_conflicts(
    state: PartitionState, rows: StepReadings, conflicts: I64, session_ids: SessionIds, refused: RefusedItems
) -> None:
    for row in conflicts.tolist():
        reading = rows.as_sent(state, row, session_ids)
        refused.station_id.append(str(reading["station_id"]))
        refused.connector_id.append(state.connector_index.connector(int(rows.slot[row]))[1])
        refused.reason.append("conflict")
        refused.detail.append(CONFLICT_DETAIL)
        refused.raw.append(msgspec.json.encode(reading))
        refused.received_ms.append(int(rows.received_ms[row]))


def _flag_late(state: PartitionState, rows: StepReadings, of_bays: Bools | None, lateness_ms: int) -> None:
    """Events of bays move no watermark: their sensors have clocks of their own."""
    trusted = rows.trusted() if of_bays is None else rows.trusted() & ~of_bays
    station, newest = state.connector_index.station[rows.runs.key], state.station_newest_ms
    late = watermark.late_rows(newest, station, rows.runs, rows.ts_ms, trusted, rows.arrival, lateness_ms)
    rows.flags[late] |= Quality.LATE


def _windows(
    state: PartitionState, samples: WindowSamples, moved: MovedEnergy, now_ms: int, params: StepParams, *, idle: bool
) -> tuple[Columns, Columns]:
    """What these and the buffered readings add to rows of windows (effects.WINDOW_COLUMNS), and which to emit."""
    due = _due(state, now_ms, params)
    # `now_ms` is frame time, which may be behind the wall clock used by a step without frames.
    early = 0 <= now_ms - state.windows_merged_ms < BUFFERED_MS_MAX
    if (
        early
        and not idle
        and not any_true(due)
        and not len(moved.slot)
        and state.window_buffer.rows + len(samples.slot) < BUFFERED_ROWS_MAX
    ):
        state.window_buffer.add(samples)
        return _NOTHING_ADDED, _emit(state, due)
    state.windows_merged_ms = now_ms
    added = windows.aggregate(state.window_buffer.take(samples))
    if len(added["slot"]):
        state.pending = union(state.pending, (added["slot"] << 32) | (added["bucket_ms"] // windows.WINDOW_MS))
        due = _due(state, now_ms, params)
    return _for_store(state, added), _emit(state, due)


def _samples(rows: StepReadings, moved: MovedEnergy, *, exports: bool) -> WindowSamples:
    quantities = {name: getattr(rows, name) for name in windows.QUANTITIES}
    sums = {name: getattr(rows, name) for name in ACCOUNTED}
    register, weight = rows.usable_register_mwh(), np.ones(len(rows), np.int64)
    export_mwh = rows.usable_export_mwh() if exports else None
    flagged = rows.flagged().astype(np.int64)
    samples = WindowSamples(rows.slot, rows.ts_ms, weight, flagged, register, quantities, sums, export_mwh)
    if not len(moved.slot):
        return samples
    nothing = np.full(len(moved.slot), NULL, np.int64)
    changes = WindowSamples(
        slot=moved.slot,
        ts_ms=moved.ts_ms,
        weight=np.zeros(len(moved.slot), np.int64),
        flagged=moved.flagged,
        register_mwh=nothing,
        quantities=dict.fromkeys(windows.QUANTITIES, nothing),
        sums=moved.accounted,
    )
    return windows.sorted_by_slot([samples, changes])


def _for_store(state: PartitionState, added: dict[str, I64]) -> Columns:
    columns = added | {"connector_key": state.connector_key[added["slot"]]}
    return {name: columns[name].astype(dtype, copy=False) for name, dtype in WINDOW_COLUMNS.items()}


def _due(state: PartitionState, now_ms: int, params: StepParams) -> Bools:
    """(pending,) windows whose station's watermark has passed their end, or whose time has come by the wall clock."""
    slot, end_ms = state.pending >> 32, ((state.pending & 0xFFFF_FFFF) + 1) * windows.WINDOW_MS
    newest_ms = state.station_newest_ms[state.connector_index.station[slot]]
    due = (newest_ms != NULL) & (end_ms <= np.maximum(newest_ms, 0) - params.lateness_ms)
    passed: Bools = due | (end_ms + params.wall_cap_ms <= now_ms)
    return passed


def _emit(state: PartitionState, due: Bools) -> Columns:
    """The due windows, as many as a step emits; they are not pending any more."""
    first = rows_where(due)
    first = first[: max(_EMITTED_MIN, len(first) // _EMITTED_SHARE)]
    emitted = state.pending[first]
    if len(first):
        state.pending = np.delete(state.pending, first)
    bucket_ms = (emitted & 0xFFFF_FFFF) * windows.WINDOW_MS
    return {"connector_key": state.connector_key[emitted >> 32], "bucket_ms": bucket_ms}


def _update_live(state: PartitionState, rows: StepReadings, skew_tolerance_ms: int, *, exports: bool) -> None:
    """Keep the newest known value of everything that a connector sends, by event time."""
    runs, slot = rows.runs, rows.runs.key
    if not len(rows):
        return
    # A reading of a clock that runs ahead gives way to what was measured shortly before it arrived.
    at_ms = rows.ts_ms
    if any_true(at_ms > rows.received_ms):
        at_ms = np.minimum(rows.ts_ms, rows.received_ms)
        at_ms = np.where(rows.trusted(), at_ms, rows.received_ms - 2 * skew_tolerance_ms)
    in_order = None  # all are
    if not (rises(at_ms, runs) and all_true(at_ms[runs.start] >= state.live_ts_ms[slot])):
        in_order = at_ms >= running_max(at_ms, runs, state.live_ts_ms[slot])
    _keep(state.live_ts_ms, at_ms, NULL, in_order, runs)
    _keep(state.live_flags, rows.flags, NULL, in_order, runs)
    for name in LIVE_QUANTITIES if exports else QUANTITY_COLUMNS:
        _keep(getattr(state, f"live_{name}"), getattr(rows, name), NULL, in_order, runs)
    _keep(state.live_status, rows.status, 0, in_order, runs)


def _keep(column: NDArray[np.integer[Any]], values: I64, nothing: int, in_order: Bools | None, runs: Runs) -> None:
    """Keep of each run the last value that is in order and not `nothing`. `in_order` None: all are."""
    newest = values[runs.last]
    if in_order is None and all_true(newest != nothing):
        column[runs.key] = newest
        return
    candidates = rows_where(values != nothing if in_order is None else in_order & (values != nothing))
    if len(candidates):
        column[runs.key[runs.of_row[candidates]]] = values[candidates]  # of several of a run the last one stays
