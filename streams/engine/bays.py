"""Which parking bays are occupied, by the events of their sensors (docs/adr/0020).

A bay's event is a reading of the station itself with the bay's name and whether it is occupied, and nothing measured.
It is stored and told from duplicates as any reading, and is in no timeline: it concerns no session and no energy. An
interval begins with an event that says something else than the bay's event before, in order of event time. What comes
late makes the step find the bay's intervals again from that moment until the next one that is stored, with the stored
events of that time: what begins later differs from it as before. So they are a function of the set of readings.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import msgspec
import numpy as np

from schemas.reading import MAIN_METER, OCCUPIED
from streams.effects import BayChanged, BayEffects, BayInterval
from streams.engine.batch import Batch
from streams.engine.readings import StepReadings
from streams.engine.store_queries import StoredBayInterval, StoreQueries
from streams.kernels.runs import I64, NULL, Bools, rows_where
from streams.state.partition import PartitionState

SIGN: Final = f'"{OCCUPIED}"'  # in the JSON of every event
# Columns that have nothing in an event, and what is nothing there. No watt-hour is ever in one.
MEASURED: Final = {"energy_mwh": NULL, "power_mw": NULL, "energy_export_mwh": NULL, "status": 0, "session_event": 0}
_NEVER_MS: Final = 2**63 - 1
Bay = tuple[int, str]
"""Slot of the station's connector 0, name."""


class Event(NamedTuple):
    """What a sensor says."""

    bay: str
    occupied: bool


class _Fields(msgspec.Struct):
    bay: str
    occupied: bool


_fields = msgspec.json.Decoder(_Fields)


def event_in(extra: str | None) -> Event | None:
    """The event in the JSON of what has no column; None: there is none."""
    if extra is None or SIGN not in extra:
        return None
    try:
        found = _fields.decode(extra)
    except (ValueError, RecursionError):
        return None
    return Event(found.bay, found.occupied)


def measure_nothing(state: PartitionState, slot: I64, columns: Mapping[str, I64]) -> Bools:
    """(rows,) whether they are of their stations, connector 0, and have nothing in the columns of MEASURED."""
    nothing: Bools = state.connector_index.connector_id[slot] == MAIN_METER
    for name, empty in MEASURED.items():
        nothing &= columns[name] == empty
    return nothing


@dataclass(slots=True)
class BayEvents:
    """The events of a step. Of one bay and moment `occupied` counts, in whatever order they arrive."""

    rows: Bools  # of the step's readings: those that are events
    by_bay: dict[Bay, dict[int, bool]] = field(default_factory=dict)  # by bay and ts_ms: whether it is occupied


def bay_events(state: PartitionState, rows: StepReadings, batch: Batch) -> BayEvents | None:
    """The events among these readings; None: there is none."""
    if batch.extra is None:
        return None
    coded = [place for place, text in enumerate(batch.extra) if text is not None and SIGN in text]
    if not coded:
        return None
    possible = np.isin(rows.extra, coded) & measure_nothing(
        state, rows.slot, {name: getattr(rows, name) for name in MEASURED}
    )
    found = BayEvents(possible)
    for row in rows_where(possible).tolist():
        event = event_in(batch.extra[int(rows.extra[row])])
        if event is None:
            possible[row] = False
            continue
        moments = found.by_bay.setdefault((int(rows.slot[row]), event.bay), {})
        _say(moments, int(rows.ts_ms[row]), occupied=event.occupied)
    return found if found.by_bay else None


def update_bays(state: PartitionState, events: BayEvents | None, queries: StoreQueries) -> BayEffects:
    """The intervals after these events."""
    if events is None:
        return BayEffects()
    bays = sorted(events.by_bay)
    key_of = {slot: int(state.connector_key[slot]) for slot, _ in bays}
    stored = queries.bays([(key_of[slot], bay, min(new := events.by_bay[slot, bay]), max(new)) for slot, bay in bays])
    slot_of = {key: slot for slot, key in key_of.items()}
    known: dict[Bay, list[StoredBayInterval]] = {bay: [] for bay in bays}
    for interval in stored.intervals:
        known[slot_of[interval.connector_key], interval.bay].append(interval)
    until_ms = {bay: _until_ms(known[bay], max(events.by_bay[bay])) for bay in bays}
    moments = {bay: dict(new) for bay, new in events.by_bay.items()}
    for key, ts_ms, extra in stored.readings:
        event = event_in(extra)
        if event is None:
            continue
        bay = slot_of[key], event.bay
        if bay in moments and min(events.by_bay[bay]) <= ts_ms <= until_ms[bay]:
            _say(moments[bay], ts_ms, occupied=event.occupied)
    effects = BayEffects()
    for bay in bays:
        _find(effects, state, bay, moments[bay], known[bay], until_ms[bay])
    return effects


def _until_ms(known: Iterable[StoredBayInterval], newest_ms: int) -> int:
    """When the first of these begins that is behind the newest new event. Those that follow it stay."""
    return min((one.since_ms for one in known if one.since_ms > newest_ms), default=_NEVER_MS)


def _say(moments: dict[int, bool], ts_ms: int, *, occupied: bool) -> None:
    moments[ts_ms] = moments.get(ts_ms, False) or occupied


def _find(
    effects: BayEffects,
    state: PartitionState,
    bay: Bay,
    moments: Mapping[int, bool],
    known: Iterable[StoredBayInterval],
    until_ms: int,
) -> None:
    """Add what changes of a bay's intervals. `moments`: all that was said from the first new moment to `until_ms`;
    `known`: its intervals since, and the one before."""
    slot, name = bay
    first_ms = min(moments)
    before, stored, followed = None, {}, False
    for one in known:
        if one.since_ms < first_ms:
            before = one.since_ms, one.occupied
        elif one.since_ms <= until_ms:
            stored[one.since_ms] = one.occupied
        else:
            followed = True
    newest, wanted = before, {}
    for ts_ms in sorted(moments):
        if newest is None or newest[1] != moments[ts_ms]:
            newest = ts_ms, moments[ts_ms]
            wanted[ts_ms] = moments[ts_ms]
    connector_key = int(state.connector_key[slot])
    for ts_ms in sorted(stored.keys() | wanted.keys()):
        if stored.get(ts_ms) != wanted.get(ts_ms):
            effects.intervals.append(BayInterval(connector_key, name, ts_ms, wanted.get(ts_ms)))
    if newest is not None and newest != max(stored.items(), default=before) and not followed:
        station_id, _ = state.connector_index.connector(slot)
        since_ms, occupied = newest
        effects.changes.append(BayChanged(station_id, name, occupied, since_ms))
