"""Status intervals of a step: which begin, which a late reading moves, and which stations fall silent (docs/adr/0019).

What comes in order continues a connector's intervals. What does not makes the step find them again, from the moment of
the late reading on, with the stored readings that the repeated pass has read (engine/replay). So they are a function of
the set of readings. Silence is not: it is what the clock says while nothing arrives, and is kept apart from them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np

from schemas.reading import SILENT
from streams.effects import STATUS_COLUMNS, StatusChanged, StatusEffects, StepParams
from streams.engine.batch import Batch, fingerprint_of
from streams.engine.readings import StepReadings
from streams.engine.replay import Replay
from streams.engine.store_queries import StoredStatus, StoreQueries
from streams.engine.timeline import Timeline
from streams.kernels import status as kernel
from streams.kernels.runs import I64, NULL, Bools, among, any_of, any_true, rows_where, runs_of
from streams.kernels.status import Newest, Statements
from streams.state.partition import PartitionState

# Between two questions which stations have an interval of their own.
_SILENCES_ASKED_MS: Final = 60_000
_NEVER_MS: Final = 1 << 52  # 140,000 years
# Of one step: an outage of the network silences a whole partition at once, at ~10 us a station.
_SILENT_STATIONS_MAX: Final = 1_000
_CODE: Final = 'error_code"'  # of error_code and vendor_error_code
_CODE_CHARS_MAX: Final = 64  # as schemas.reading.DETAIL_TEXTS
_NO_ERROR: Final = ("", "NoError")


class Fault(NamedTuple):
    """The codes that a statement gives; None where it gives none."""

    error_code: str | None
    vendor_error_code: str | None


_NO_FAULT: Final = Fault(None, None)


class _Codes(msgspec.Struct):
    error_code: Any = None
    vendor_error_code: Any = None


_codes = msgspec.json.Decoder(_Codes)


def fault_in(extra: str | None) -> Fault:
    """The fault codes in the JSON of what has no column; OCPP's NoError is none."""
    if extra is None or _CODE not in extra:
        return _NO_FAULT
    try:
        codes = _codes.decode(extra)
    except (ValueError, RecursionError):
        return _NO_FAULT
    error_code = _text(codes.error_code)
    return Fault(None if error_code in _NO_ERROR else error_code, _text(codes.vendor_error_code) or None)


def _text(code: object) -> str:
    return code.strip().replace("\0", "\N{REPLACEMENT CHARACTER}")[:_CODE_CHARS_MAX] if isinstance(code, str) else ""


class Faults:
    """Fingerprints of faults, and the faults by fingerprint."""

    def __init__(self) -> None:
        self.by_fingerprint: dict[int, Fault] = {0: _NO_FAULT}
        self._by_extra: dict[str, int] = {}

    def fingerprint(self, extra: str | None) -> int:
        """Of the fault in this JSON; 0: there is none."""
        if extra is None or _CODE not in extra:
            return 0
        found = self._by_extra.get(extra)
        if found is None:
            found = self._by_extra[extra] = self.of(fault_in(extra))
        return found

    def of(self, fault: Fault) -> int:
        """Of this fault; 0: it has no code."""
        if fault == _NO_FAULT:
            return 0
        found = fingerprint_of(f"{fault.error_code or ''}\0{fault.vendor_error_code or ''}")
        self.by_fingerprint[found] = fault
        return found


@dataclass(slots=True)
class _Changes:
    """What a step finds, before it is effects."""

    state: PartitionState
    slot: list[I64] = field(default_factory=list)  # of the intervals to write, in parts
    columns: list[dict[str, I64]] = field(default_factory=list)  # since_ms, place, status
    faults: list[Fault] = field(default_factory=list)
    previous: dict[int, int] = field(default_factory=dict)  # by slot: the status of those whose newest one is another
    fault_of: dict[int, Fault] = field(default_factory=dict)  # by slot, of these
    heard_ms: dict[int, int] = field(default_factory=dict)  # by slot: when the silence of its station ended

    def write(self, slot: I64, since_ms: I64, place: I64, status: I64, faults: list[Fault]) -> None:
        """These intervals are as given; status 0: there is no such one any more."""
        self.slot.append(slot)
        self.columns.append({"since_ms": since_ms, "place": place, "status": status})
        self.faults += faults

    def advance(self, slots: I64, newest: Newest, faults: list[Fault]) -> None:
        """The newest intervals of these connectors are these, all other than before."""
        state = self.state
        for slot, was, fault in zip(slots.tolist(), state.status[slots].tolist(), faults, strict=True):
            self.previous.setdefault(slot, was)
            self.fault_of[slot] = fault
        state.status[slots], state.status_fault[slots] = newest.status, newest.fault
        state.status_since_ms[slots], state.status_place[slots] = newest.since_ms, newest.place


def update_status(
    state: PartitionState,
    rows: StepReadings,
    batch: Batch,
    arrived: Timeline,
    late: Bools,
    replay: Replay,
    now_ms: int,
    queries: StoreQueries,
    params: StepParams,
) -> StatusEffects:
    """The status intervals after these rows, and the stations that are heard again or not any more at `now_ms`.

    `arrived`: the rows in the order of their timelines; `late`: of its runs, those of which `replay` has read the
    stored readings. Arrivals are recorded by now (engine/sessions).
    """
    changes = _Changes(state)
    faults = Faults()
    fault = _fingerprints(faults, rows, batch, arrived)
    chosen = _changing(state, arrived, late, fault)
    if any_true(chosen):
        fault = np.zeros(len(arrived), np.int64) if fault is None else fault
        in_order = chosen & ~late
        if any_true(in_order):
            _go_on(changes, arrived, in_order, fault, faults)
        if any_true(chosen & late):
            _find_again(changes, arrived, chosen & late, fault, faults, replay, queries)
    silences_ended = _end_silences(changes, rows)
    silences_begun = _begin_silences(changes, now_ms, params.silent_after_ms, queries)
    return _effects(changes, silences_begun, silences_ended, queries)


def _fingerprints(faults: Faults, rows: StepReadings, batch: Batch, arrived: Timeline) -> I64 | None:
    """Of the fault of each row of the timeline; None: no row has one."""
    extra = batch.extra
    if extra is None:
        return None
    coded = [place for place, text in enumerate(extra) if text is not None and _CODE in text]
    if not coded:
        return None
    by_place = np.zeros(len(extra), np.int64)
    by_place[coded] = [faults.fingerprint(extra[place]) for place in coded]
    return by_place[rows.extra[arrived.row]]


def _changing(state: PartitionState, arrived: Timeline, late: Bools, fault: I64 | None) -> Bools:
    """(runs,) connectors whose intervals these rows may change: nearly always none."""
    runs, status, slot = arrived.runs, arrived.status, arrived.slot
    differs = status != state.status.take(slot)
    if fault is not None:
        differs |= fault != state.status_fault[slot]
    elif any_true(state.status_fault[runs.key]):
        differs |= state.status_fault[slot] != 0
    if any_true(late):  # a late statement like the newest one is news only before that
        differs |= late[runs.of_row] & (arrived.ts_ms <= state.status_since_ms[slot])
    differs &= status != 0
    return any_of(differs, runs)


def _newest(state: PartitionState, slots: I64) -> Newest:
    return Newest(
        state.status[slots].astype(np.int64),
        state.status_fault[slots],
        state.status_since_ms[slots],
        state.status_place[slots].astype(np.int64),
    )


def _go_on(changes: _Changes, arrived: Timeline, chosen: Bools, fault: I64, faults: Faults) -> None:
    """The intervals of connectors whose rows follow all before."""
    state = changes.state
    at = rows_where((arrived.status != 0) & chosen[arrived.runs.of_row])
    statements = Statements(arrived.ts_ms[at], arrived.status[at], fault[at])
    runs = runs_of(arrived.slot[at])
    begun = kernel.begun(statements, runs, _newest(state, runs.key))
    run = runs.of_row[begun.row]
    found = Newest(statements.status[begun.row], statements.fault[begun.row], statements.ts_ms[begun.row], begun.place)
    texts = [faults.by_fingerprint[one] for one in found.fault.tolist()]
    changes.write(runs.key[run], found.since_ms, found.place, found.status, texts)
    last = rows_where(np.append(run[1:] != run[:-1], True))
    changes.advance(runs.key[run[last]], Newest(*(column[last] for column in found)), [texts[n] for n in last.tolist()])


def _find_again(
    changes: _Changes,
    arrived: Timeline,
    chosen: Bools,
    fault: I64,
    faults: Faults,
    replay: Replay,
    queries: StoreQueries,
) -> None:
    """The intervals of connectors with a late row, from its moment on."""
    state = changes.state
    at = rows_where((arrived.status != 0) & chosen[arrived.runs.of_row])
    new = runs_of(arrived.slot[at])
    slots, since_ms = new.key, arrived.ts_ms[at][new.start]
    stored = queries.status_intervals(state.connector_key[slots].tolist(), since_ms.tolist())
    slot, statements = _all_statements(state, arrived, at, fault, faults, replay, slots, since_ms)
    runs = runs_of(slot)
    slot_of = {int(state.connector_key[one]): one for one in slots.tolist()}
    since_of = dict(zip(slots.tolist(), since_ms.tolist(), strict=True))
    before = dict.fromkeys(slots.tolist(), (0, 0, NULL, 0))
    known: dict[tuple[int, int, int], tuple[int, int]] = {}
    for one in stored:
        mine, fingerprint = slot_of[one.connector_key], faults.of(_fault_of(one))
        if one.since_ms < since_of[mine]:
            before[mine] = one.status, fingerprint, one.since_ms, one.place
        else:
            known[mine, one.since_ms, one.place] = one.status, fingerprint
    newest = Newest(*(np.array(column, np.int64) for column in zip(*before.values(), strict=True)))
    begun = kernel.begun(statements, runs, newest)
    run = runs.of_row[begun.row]
    found = Newest(statements.status[begun.row], statements.fault[begun.row], statements.ts_ms[begun.row], begun.place)
    keys = zip(runs.key[run].tolist(), found.since_ms.tolist(), found.place.tolist(), strict=True)
    wanted = dict(zip(keys, zip(found.status.tolist(), found.fault.tolist(), strict=True), strict=True))
    _write_differences(changes, known, wanted, faults)
    for column, values in zip(newest, found, strict=True):  # of several of a run the last one stays
        column[run] = values
    _advance_changed(changes, slots, newest, faults)


def _fault_of(stored: StoredStatus) -> Fault:
    return Fault(stored.error_code, stored.vendor_error_code)


def _all_statements(
    state: PartitionState,
    arrived: Timeline,
    at: I64,
    fault: I64,
    faults: Faults,
    replay: Replay,
    slots: I64,
    since_ms: I64,
) -> tuple[I64, Statements]:
    """The slot of each, and all statements of these connectors from these moments on: the new ones, rows `at`, and the
    stored ones."""
    columns = replay.columns
    keys = state.connector_key[slots].astype(np.int64)
    order = np.argsort(keys)
    place = order[np.minimum(np.searchsorted(keys[order], columns["connector_key"]), len(keys) - 1)]
    mine = (keys[place] == columns["connector_key"]) & (columns["status"] != 0) & (columns["ts_ms"] >= since_ms[place])
    old = rows_where(mine)
    old_fault = np.array([faults.fingerprint(replay.extras[row]) for row in old.tolist()], np.int64)
    slot = np.concatenate([arrived.slot[at], slots[place[old]]])
    whole_fault = np.concatenate([fault[at], old_fault])
    whole = {
        name: np.concatenate([getattr(arrived, name)[at], columns[name][old]])
        for name in ("ts_ms", "seq", "part", "boot", "status")
    }
    order = np.lexsort((whole["boot"], whole["part"], whole["seq"], whole["ts_ms"], slot))
    return slot[order], Statements(whole["ts_ms"][order], whole["status"][order], whole_fault[order])


def _write_differences(
    changes: _Changes,
    known: Mapping[tuple[int, int, int], tuple[int, int]],
    wanted: Mapping[tuple[int, int, int], tuple[int, int]],
    faults: Faults,
) -> None:
    """Intervals by slot, since_ms and place: status and fingerprint of the fault."""
    different = [(key, value) for key, value in wanted.items() if known.get(key) != value]
    different += [(key, (0, 0)) for key in known if key not in wanted]
    if different:
        rows = np.array([(*key, *value) for key, value in different], np.int64)
        slot, since_ms, place, status, fault = rows.T
        changes.write(slot, since_ms, place, status, [faults.by_fingerprint[one] for one in fault.tolist()])


def _advance_changed(changes: _Changes, slots: I64, newest: Newest, faults: Faults) -> None:
    was = _newest(changes.state, slots)
    changed = rows_where(np.logical_or.reduce([new != old for new, old in zip(newest, was, strict=True)]))
    if len(changed):
        texts = [faults.by_fingerprint[one] for one in newest.fault[changed].tolist()]
        changes.advance(slots[changed], Newest(*(column[changed] for column in newest)), texts)


# -- silence ----------------------------------------------------------------------------------------------------------


def _end_silences(changes: _Changes, rows: StepReadings) -> list[tuple[str, int]]:
    """End the silence of the stations of these rows. Returns these, and when they were heard."""
    state, runs = changes.state, rows.runs
    if not len(runs.key) or not (silent := state.silent_stations()):
        return []
    index = state.connector_index
    station = index.station[runs.key]
    heard_ms = np.full(len(index.stations), NULL, np.int64)
    first_ms = np.minimum.reduceat(rows.received_ms, runs.start)
    again = np.isin(station, sorted(silent))
    if not any_true(again):
        return []
    heard_ms[station[again]] = np.iinfo(np.int64).max
    np.minimum.at(heard_ms, station[again], first_ms[again])
    stations = np.unique(station[again])
    slots = rows_where(state.silent_since_ms[: state.slots] != 0)
    slots = slots[among(index.station[slots].astype(np.int64), stations.astype(np.int64), len(heard_ms))]
    changes.previous |= dict.fromkeys(slots.tolist(), SILENT)
    changes.heard_ms |= dict(zip(slots.tolist(), heard_ms[index.station[slots]].tolist(), strict=True))
    state.silent_since_ms[slots] = 0
    silent.difference_update(stations.tolist())
    return [(index.station_names[one], int(heard_ms[one])) for one in stations.tolist()]


def _begin_silences(changes: _Changes, now_ms: int, after_ms: int, queries: StoreQueries) -> list[tuple[str, int]]:
    """Stations that are silent from now on, and when they were last heard.

    A worker that has just taken the partition over has heard nobody, so it waits as long as if it had heard all.
    """
    state, index = changes.state, changes.state.connector_index
    if not state.slots:
        return []
    _ask_silences(state, now_ms, queries)
    if not (after_ms or state.silences_after):
        return []
    if state.listening_since_ms is None:
        state.listening_since_ms = now_ms
    if now_ms < state.silence_due_ms(after_ms):
        return []
    silent = state.silent_stations()
    station = index.station[: state.slots]
    heard_ms = np.zeros(len(index.stations), np.int64)
    np.maximum.at(heard_ms, station, state.arrival_ms[: state.slots])
    speaking = heard_ms > 0
    speaking[sorted(silent)] = False
    since_ms = np.maximum(heard_ms, state.listening_since_ms)
    due_ms = since_ms + _silences_after(state, after_ms)
    due = speaking & (due_ms <= now_ms)
    fallen = rows_where(due)[:_SILENT_STATIONS_MAX]
    speaking[fallen] = False
    next_ms = int(due_ms[speaking].min()) if any_true(speaking) else now_ms + (after_ms or _NEVER_MS)
    # Who speaks for the first time, or again, may have a shorter interval than those that speak now.
    shortest_ms = min((own_ms for own_ms in state.silences_after.values() if own_ms), default=_NEVER_MS)
    state.heard_oldest_ms = min(next_ms, now_ms + shortest_ms) - after_ms
    state.silence_checked_ms = now_ms if len(fallen) < _SILENT_STATIONS_MAX else 0
    if not len(fallen):
        return []
    slots = rows_where(among(station.astype(np.int64), fallen, len(heard_ms)))
    for slot, was in zip(slots.tolist(), state.status[slots].tolist(), strict=True):
        changes.previous.setdefault(slot, was)
    state.silent_since_ms[slots] = heard_ms[station[slots]]
    silent.update(fallen.tolist())
    return [(index.station_names[one], int(heard_ms[one])) for one in fallen.tolist()]


def _ask_silences(state: PartitionState, now_ms: int, queries: StoreQueries) -> None:
    """Which stations have an interval of their own, now and then."""
    asked_ms = state.silences_asked_ms
    if asked_ms is not None and abs(now_ms - asked_ms) < _SILENCES_ASKED_MS:  # the time of frames may go back
        return
    state.silences_asked_ms = now_ms
    silences_after = queries.silences_after()
    if silences_after != state.silences_after:
        state.silences_after = silences_after
        state.heard_oldest_ms = 0  # any may be due earlier now


def _silences_after(state: PartitionState, after_ms: int) -> I64:
    """(station,) How long each may say nothing."""
    index = state.connector_index
    found = np.full(len(index.stations), after_ms or _NEVER_MS, np.int64)
    for name, own_ms in state.silences_after.items():
        if (station := index.stations.get(name)) is not None:
            found[station] = own_ms or _NEVER_MS
    return found


# -- effects ----------------------------------------------------------------------------------------------------------


def _effects(
    changes: _Changes,
    silences_begun: list[tuple[str, int]],
    silences_ended: list[tuple[str, int]],
    queries: StoreQueries,
) -> StatusEffects:
    effects = StatusEffects(silences_begun=silences_begun, silences_ended=silences_ended)
    state = changes.state
    if changes.slot:
        slot = np.concatenate(changes.slot)
        columns = {name: np.concatenate([part[name] for part in changes.columns]) for name in changes.columns[0]}
        columns["connector_key"] = state.connector_key[slot]
        effects.intervals = {name: columns[name].astype(dtype) for name, dtype in STATUS_COLUMNS.items()}
        effects.error_codes = [fault.error_code for fault in changes.faults]
        effects.vendor_error_codes = [fault.vendor_error_code for fault in changes.faults]
    if changes.previous:
        _add_stored_faults(changes, queries)
        effects.changes = [_changed(changes, slot) for slot in sorted(changes.previous)]
        state.touch(np.array(sorted(changes.previous), np.int64), np.empty(0, np.int64))
    return effects


def _add_stored_faults(changes: _Changes, queries: StoreQueries) -> None:
    """Of connectors whose status is that from before the silence, with a fault: the state has the fingerprint only."""
    state = changes.state
    unknown = [
        slot
        for slot in changes.previous
        if slot not in changes.fault_of and state.status_fault[slot] and not state.silent_since_ms[slot]
    ]
    if unknown:
        slot_of = {int(state.connector_key[slot]): slot for slot in unknown}
        for stored in queries.status_intervals(list(slot_of), state.status_since_ms[unknown].tolist()):
            changes.fault_of[slot_of[stored.connector_key]] = _fault_of(stored)


def _changed(changes: _Changes, slot: int) -> StatusChanged:
    state = changes.state
    connector = state.connector_index.connector(slot)
    if silent_since_ms := int(state.silent_since_ms[slot]):
        return StatusChanged(*connector, SILENT, changes.previous[slot], None, silent_since_ms)
    since_ms = int(state.status_since_ms[slot]) if state.status[slot] else changes.heard_ms[slot]
    error_code = changes.fault_of.get(slot, _NO_FAULT).error_code
    return StatusChanged(*connector, int(state.status[slot]), changes.previous[slot], error_code, since_ms)
