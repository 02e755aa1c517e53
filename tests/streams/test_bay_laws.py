"""Laws of bays: whatever their sensors send, in whatever order, the intervals are what the stored events say."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.reading import Status
from streams.engine.bays import event_in
from streams.engine.store_queries import StoredTimelines
from streams.state.partition import PartitionState
from streams.worker.compute import compute_effects
from tests.streams.memory_store import AsStoreQueries, MemoryStore
from tests.streams.reference import Reading
from tests.streams.test_step_laws import BASE_MS, PARAMS, RELOADS, blank_readings, frames_of, run, stored_statuses

RECEIVED_MS = BASE_MS + 720_000


def event(bay: str, *, occupied: bool, ts_ms: int, **more: Any) -> Reading:
    """As the gateway makes it."""
    extra = json.dumps({"bay": bay, "occupied": occupied, **more}, sort_keys=True, separators=(",", ":"))
    return {"connector_id": 0, "ts_ms": ts_ms, "extra": extra, "received_ms": RECEIVED_MS}


moments = st.one_of(st.integers(0, 2), st.integers(0, 12)).map(lambda n: BASE_MS + n * 60_000)
events = st.builds(
    lambda bay, occupied, ts_ms, battery: event(bay, occupied=occupied, ts_ms=ts_ms, **battery),
    st.sampled_from(["B1", "B1", "B2"]),
    st.booleans(),
    moments,
    st.sampled_from([{}, {}, {"battery_pct": 90}]),
)
metered = st.fixed_dictionaries(
    {
        "connector_id": st.sampled_from([0, 1]),
        "seq": st.one_of(st.none(), st.integers(0, 30)),
        "ts_ms": moments,
        "status": st.sampled_from([Status.NONE, Status.CHARGING, Status.AVAILABLE, Status.FAULTED]),
        "energy_mwh": st.sampled_from([None, 1, 2, 50_000]),
        "extra": st.sampled_from([None, '{"dropped":{"bay":"B1","occupied":true}}']),
        "received_ms": st.just(RECEIVED_MS),
    }
)
# Keys are numbered as they come; the place in a moment counts events of bays too.
LEFT_OUT = ("connector_key", "session_key", "part")
CUTS = st.one_of(st.lists(st.integers(0, 99), max_size=8), st.just(list(range(40))))  # some, or after each


def intervals_of(arrived: list[Reading]) -> dict[str, list[tuple[int, bool]]]:
    """What a person would note down, with all events at hand."""
    said: dict[str, dict[int, bool]] = {}
    for reading in arrived:
        found = event_in(reading["extra"])
        if found is not None:
            moments = said.setdefault(found.bay, {})
            moments[reading["ts_ms"]] = moments.get(reading["ts_ms"], False) or found.occupied
    out: dict[str, list[tuple[int, bool]]] = {}
    for bay, by_moment in said.items():
        for ts_ms, occupied in sorted(by_moment.items()):
            intervals = out.setdefault(bay, [])
            if not intervals or intervals[-1][1] != occupied:
                intervals.append((ts_ms, occupied))
    return out


def stored(store: MemoryStore) -> dict[str, list[tuple[int, bool]]]:
    out: dict[str, list[tuple[int, bool]]] = {}
    for (_, bay, since_ms), occupied in sorted(store.bays_found.items()):
        out.setdefault(bay, []).append((since_ms, occupied))
    return out


@given(st.data(), st.lists(st.one_of(events, events, metered), min_size=1, max_size=25), CUTS, CUTS, RELOADS)
def test_they_are_a_function_of_the_events_in_any_order_doubled_and_over_crashes(
    data: st.DataObject, fields: list[Reading], frames: list[int], steps: list[int], reload: frozenset[int]
) -> None:
    arrived = blank_readings(data.draw(st.permutations([*fields, *map(dict, fields)])))
    store, _ = run(frames_of(arrived, frames), steps, reload=reload)
    assert stored(store) == intervals_of(arrived)
    newest = {bay: intervals[-1] for bay, intervals in stored(store).items()}
    told: dict[str, tuple[int, bool]] = {}
    for change in store.bay_changes:
        told[change.bay] = change.since_ms, change.occupied
    assert told == newest


@given(st.lists(events, min_size=1, max_size=10), st.lists(metered, min_size=1, max_size=15), st.data(), CUTS)
def test_events_of_bays_change_nothing_of_what_is_metered(
    bays: list[Reading], plain: list[Reading], data: st.DataObject, steps: list[int]
) -> None:
    """They are stored and counted as readings, and concern no session, no status and no watt-hour."""
    places = sorted(data.draw(st.lists(st.integers(0, len(plain)), min_size=len(bays), max_size=len(bays))))
    mixed = list(plain)
    for place, one in reversed(list(zip(places, bays, strict=True))):
        mixed.insert(place, one)
    with_bays, _ = run(frames_of(blank_readings(mixed), list(range(len(mixed)))), steps)
    without, _ = run(frames_of(blank_readings(plain), list(range(len(plain)))), list(range(len(plain))))
    names = {key: connector for connector, key in with_bays.keys.items()}
    own = {key: connector for connector, key in without.keys.items()}

    def kept(store: MemoryStore, of: dict[int, tuple[str, int]]) -> list[Any]:
        rows = zip(store.readings, store.extra, strict=True)
        return sorted(
            (
                of[row["connector_key"]],
                sorted(item for item in row.items() if item[0] not in LEFT_OUT),
            )
            for row, extra in rows
            if event_in(extra) is None
        )

    assert kept(with_bays, names) == kept(without, own)
    assert {at: found for at, found in stored_statuses(with_bays).items() if found} == {
        at: found for at, found in stored_statuses(without).items() if found
    }
    assert len(with_bays.sessions) == len(without.sessions)
    assert with_bays.counts["stored"] == len(with_bays.readings)
    assert sum(with_bays.counts.values()) == len(mixed)


def test_a_late_event_moves_the_beginning_and_another_one_splits_an_interval() -> None:
    def at(second: int, *, occupied: bool) -> Reading:
        return event("B1", occupied=occupied, ts_ms=BASE_MS + second * 1_000)

    arrived = blank_readings(
        [
            at(10, occupied=True),
            at(30, occupied=True),
            at(8, occupied=True),
            at(20, occupied=False),
            at(9, occupied=False),
        ]
    )
    expected = (
        [(10, True)],
        [(10, True)],
        [(8, True)],
        [(8, True), (20, False), (30, True)],
        [(8, True), (9, False), (10, True), (20, False), (30, True)],
    )
    store, state = MemoryStore(), PartitionState(0)
    for frame, wanted in zip(frames_of(arrived, [1, 2, 3, 4]), expected, strict=True):
        store.apply(compute_effects(state, [frame], RECEIVED_MS, AsStoreQueries(store), PARAMS))
        assert [((since - BASE_MS) // 1_000, occupied) for since, occupied in stored(store)["B1"]] == wanted


def test_a_frame_without_an_event_asks_the_store_nothing() -> None:
    store, state = MemoryStore(), PartitionState(0)
    queries = AsStoreQueries(store)
    queries.bays = pytest.fail  # type: ignore[assignment]  # not to be called
    extras = (
        None,
        '{"fan_rpm":900}',
        '{"dropped":{"bay":"B1","occupied":true}}',
        '{"bay":"B1"}',
        '{"occupied":1,"bay":"B"}',
    )
    arrived = blank_readings(
        {"connector_id": 0, "ts_ms": BASE_MS + n, "extra": extra, "received_ms": BASE_MS}
        for n, extra in enumerate(extras)
    )
    arrived += blank_readings([event("B1", occupied=True, ts_ms=BASE_MS) | {"connector_id": 1, "received_ms": BASE_MS}])
    arrived += blank_readings([event("B1", occupied=True, ts_ms=BASE_MS) | {"energy_mwh": 1, "received_ms": BASE_MS}])
    effects = compute_effects(state, frames_of(arrived, []), BASE_MS, queries, PARAMS)
    assert (effects.stored, effects.bays.intervals, effects.bays.changes) == (7, [], [])


@pytest.mark.parametrize("order", [(True, False), (False, True)])
def test_of_one_moment_occupied_counts_whichever_comes_first(order: tuple[bool, bool]) -> None:
    arrived = blank_readings(event("B1", occupied=occupied, ts_ms=BASE_MS) for occupied in order)
    for steps in ([], [1]):
        store, _ = run(frames_of(arrived, [1]), steps)
        assert stored(store) == {"B1": [(BASE_MS, True)]}
        assert store.counts["stored"] == 2


def test_events_are_in_no_timeline_so_none_of_the_main_meter_s_passes_is_repeated_for_them() -> None:
    def meter(second: int) -> Reading:
        ts_ms = BASE_MS + second * 1_000
        return {"connector_id": 0, "seq": second, "ts_ms": ts_ms, "energy_mwh": second, "received_ms": RECEIVED_MS}

    def at(second: int) -> Reading:
        return event("B1", occupied=second % 2 == 0, ts_ms=BASE_MS + second * 1_000)

    store, state = MemoryStore(), PartitionState(0)
    queries = AsStoreQueries(store)
    asked = []

    def timelines(connector_key: list[int], ts_ms: list[int]) -> StoredTimelines:
        asked.append(ts_ms)
        return store.timelines(connector_key, ts_ms)

    queries.timelines = timelines
    arrived = blank_readings([meter(10), at(40), at(5), meter(20), meter(15), meter(30), at(3), meter(35)])
    for frame in frames_of(arrived, list(range(1, len(arrived)))):
        store.apply(compute_effects(state, [frame], RECEIVED_MS, queries, PARAMS))
    assert asked == [[BASE_MS + 15_000]]  # the one reading of the meter that came late
    assert len(store.readings) == len(arrived)
