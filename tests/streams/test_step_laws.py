"""Laws of the step, compared with the plain-Python reference on arbitrary readings."""

import itertools
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from schemas.frame import FrameHeader, FrameKind
from schemas.quality import Quality
from schemas.reading import READING_SCHEMA, SessionEvent, Status
from schemas.session import EndReason
from streams.effects import NULL_I64, WINDOW_COLUMNS, StepParams
from streams.engine.batch import Frame, accept
from streams.engine.step import step
from streams.errors import ForeignState
from streams.kernels.windows import WINDOW_MS
from streams.state.encoding import load_state, snapshot, take_patch
from streams.state.partition import PartitionState
from streams.worker.compute import compute_effects
from tests.streams.memory_store import AsStoreQueries, MemoryStore
from tests.streams.reference import Reading, Reference

BASE_MS = 1_790_000_000_000 // WINDOW_MS * WINDOW_MS
RELOADS = st.frozensets(st.integers(0, 6))
PARAMS = StepParams(lateness_ms=5_000, session_timeout_ms=600_000, power_max_mw=400_000_000)


def optional(values: st.SearchStrategy[Any], present: int = 3) -> st.SearchStrategy[Any]:
    return st.one_of(st.none(), *[values] * present)


readings = st.fixed_dictionaries(
    {
        "station_id": st.sampled_from(["A", "B"]),
        "connector_id": st.sampled_from([0, 1, 1, 1, 2]),
        "session_id": optional(st.sampled_from(["s1", "s2", "s3", "0"]), 1),
        "boot": st.one_of(st.none(), st.none(), st.integers(1, 3)),
        "seq": optional(st.one_of(st.integers(0, 12), st.integers(0, 200))),
        "offset_ms": st.one_of(
            st.integers(0, 40).map(lambda n: n * 1_000),
            st.integers(-120_000, 400_000),
            st.integers(0, 6).map(lambda n: n * 300_000),
        ),
        "energy_mwh": optional(st.one_of(st.just(0), st.integers(0, 3_000_000), st.integers(0, 10**9)), 1),
        "power_mw": optional(st.one_of(st.integers(0, 50_000_000), st.integers(-(10**9), 10**9)), 1),
        "voltage_mv": optional(st.integers(0, 1_000_000), 1),
        "current_ma": st.none(),
        "temperature_mc": optional(st.integers(-40_000, 90_000), 1),
        "soc_mpct": st.none(),
        "energy_export_mwh": optional(st.one_of(st.just(0), st.integers(0, 10**6), st.integers(0, 10**10)), 1),
        "extra": optional(st.sampled_from(['{"error_code":"x"}', '{"error_code":"y"}']), 1),
        "status": st.sampled_from([Status.NONE, Status.NONE, Status.CHARGING, Status.SUSPENDED_EV, Status.AVAILABLE]),
        "session_event": st.sampled_from(
            [SessionEvent.NONE, SessionEvent.NONE, SessionEvent.NONE, SessionEvent.STARTED, SessionEvent.ENDED]
        ),
    }
)


@st.composite
def streams(draw: st.DrawFn) -> list[Reading]:
    """Readings as they arrive: with repetitions of earlier ones, and long runs of one orderly connector."""
    arrived: list[Reading] = []
    for part in draw(st.lists(st.one_of(readings, st.integers(0, 50), readings.map(_run)), min_size=1, max_size=40)):
        if isinstance(part, int):
            arrived += [dict(arrived[part % len(arrived)])] if arrived else []
        else:
            arrived += part if isinstance(part, list) else [part]
    assume(arrived)
    clock_ms = BASE_MS
    for reading in arrived:
        clock_ms += draw(st.sampled_from([0, 0, 0, 1_000, 30_000, 700_000]))
        reading["ts_ms"] = BASE_MS + reading["offset_ms"]
        reading["received_ms"] = clock_ms
    return arrived


def _run(first: Reading) -> list[Reading]:
    """Eight plain readings in order."""
    plain = first | {"session_event": SessionEvent.NONE, "status": Status.CHARGING, "seq": first["seq"] or 0}
    energy = first["energy_mwh"]
    return [
        plain
        | {
            "seq": plain["seq"] + n,
            "offset_ms": first["offset_ms"] + n * 5_000,
            "energy_mwh": None if energy is None else energy + n * 9_000,
        }
        for n in range(8)
    ]


def blank_readings(fields: Iterable[Reading]) -> list[Reading]:
    """Of one connector, with these fields and no others."""
    blank = dict.fromkeys(READING_SCHEMA.names)
    return [blank | {"station_id": "A", "connector_id": 1, "status": 0, "session_event": 0} | given for given in fields]


def frames_of(arrived: list[Reading], cuts: list[int]) -> list[Frame]:
    """Frames that end at these cuts, and wherever the moment of arrival changes: a frame has one `received_ms`."""
    edges = sorted({0, len(arrived), *(cut % (len(arrived) + 1) for cut in cuts)})
    edges = sorted({*edges, *(i for i in range(1, len(arrived)) if _received(arrived, i) != _received(arrived, i - 1))})
    frames, total = [], 0
    for number, (start, stop) in enumerate(itertools.pairwise(edges)):
        part = arrived[start:stop]
        total += len(part)
        batch = pa.record_batch(
            [pa.array([r.get(f.name) for r in part], f.type) for f in READING_SCHEMA], schema=READING_SCHEMA
        )
        received_ms = part[0]["received_ms"]
        frames.append((FrameHeader(FrameKind.READINGS, 0, "source", number, len(part), total, received_ms), batch))
    return frames


def _received(arrived: list[Reading], i: int) -> int:
    received_ms: int = arrived[i]["received_ms"]
    return received_ms


def run(
    frames: list[Frame],
    cuts: list[int],
    *,
    reload: frozenset[int] = frozenset(),
    store: MemoryStore | None = None,
    params: StepParams = PARAMS,
) -> tuple[MemoryStore, PartitionState]:
    """Feed the frames in steps that end at these frame numbers; `reload`: the steps after which a worker dies."""
    store, state, bodies = store or MemoryStore(), PartitionState(0), []
    edges = sorted({0, len(frames), *(cut % (len(frames) + 1) for cut in cuts)})
    for number, (start, stop) in enumerate(itertools.pairwise(edges)):
        part = frames[start:stop]
        store.apply(compute_effects(state, part, part[-1][0].received_ms, AsStoreQueries(store), params))
        bodies.append(take_patch(state))
        if number in reload:
            state = load_state(0, bodies)
            state.connector_key[: state.slots] = store.register_connectors(0, state.connector_index.connectors())
    for _ in range(3):  # rows of running sessions may wait for a later step, and those of windows do
        store.apply(compute_effects(state, [], frames[-1][0].received_ms, AsStoreQueries(store), params))
    return store, state


def totals(store: MemoryStore) -> dict[str, Any]:
    """All that must not depend on where steps end (keys are given in order of appearance, revisions count flushes)."""
    place = {key: connector for connector, key in store.keys.items()}

    def content(row: dict[str, int]) -> tuple[Any, ...]:
        keyless = {n: v for n, v in row.items() if n not in ("session_key", "revision")}
        return tuple((keyless | {"connector_key": place[row["connector_key"]]}).items())

    sessions = [
        (content(row), store.session_ids[key])
        for key, row in store.sessions.items()
        if row["end_reason"] != EndReason.WITHDRAWN
    ]
    return {
        "readings": Counter(zip(map(content, store.readings), store.extra, strict=True)),
        "windows": {(place[key], bucket_ms): content(row) for (key, bucket_ms), row in store.windows.items()},
        "sessions": Counter(sessions),
        "refused": Counter(store.refused),
        "counts": store.counts,
        "statuses": {(place[key], *at): status for (key, *at), status in store.statuses.items()},
    }


def same(left: PartitionState, right: PartitionState) -> None:
    """Both states are the same for every connector (slots may be numbered differently)."""
    slots, others = ({c: slot for slot, c in enumerate(s.connector_index.connectors())} for s in (left, right))
    assert sorted(slots) == sorted(others)
    for connector, slot in slots.items():
        other = others[connector]
        for name in ("boot", "seq_max", "ts_max_ms", "bare_ts_max_ms", "open_name", "open_start_ms", "open_last_ms"):
            assert getattr(left, name)[slot] == getattr(right, name)[other], (connector, name)
        assert left.window[slot * 64 : slot * 64 + 64].tolist() == right.window[other * 64 : other * 64 + 64].tolist()
        if left.open_key[slot]:
            for name in ("energy_uj", "integrated_uj"):
                mine, its = (
                    getattr(s.energy.at(np.array([at])), name)()[0] for s, at in ((left, slot), (right, other))
                )
                assert mine == its, (connector, name)


@given(streams(), st.lists(st.integers(0, 99), max_size=4), st.lists(st.integers(0, 99), max_size=4))
def test_step_equals_the_reference(arrived: list[Reading], frame_cuts: list[int], step_cuts: list[int]) -> None:
    store, _ = run(frames_of(arrived, frame_cuts), step_cuts)
    reference = Reference(PARAMS)
    for reading in arrived:
        reference.add(reading)
    reference.tick(max(reading["received_ms"] for reading in arrived))

    assert store.counts == reference.counts
    assert _stored_figures(store) == _expected_readings(store, reference)
    assert _session_figures(store) == _expected_sessions(store, reference)
    assert stored_statuses(store) == {place: one.statuses() for place, one in reference.connectors.items()}


def stored_statuses(store: MemoryStore) -> dict[tuple[str, int], list[tuple[Any, ...]]]:
    """As Connector.statuses of the reference, by connector."""
    found: dict[tuple[str, int], list[tuple[Any, ...]]] = {place: [] for place in store.keys}
    place_of = {key: place for place, key in store.keys.items()}
    for (key, *at), status in sorted(store.statuses.items()):
        found[place_of[key]].append((*at, *status))
    return found


_READING_FIGURES = ("connector_key", "ts_ms", "boot", "seq", "part", "energy_mwh", "power_mw", "flags")
_ACCOUNTED = ("in_session_mwh", "outside_mwh", "rejected_mwh")


def _stored_figures(store: MemoryStore) -> Counter[Any]:
    return Counter(
        (
            *(r[name] for name in _READING_FIGURES),
            *(0 if r[name] == NULL_I64 else r[name] for name in _ACCOUNTED),
            null_if(r["session_key"] == NULL_I64, store.sessions.get(r["session_key"], {}).get("started_ms", -1)),
        )
        for r in store.readings
    )


def _expected_readings(store: MemoryStore, reference: Reference) -> Counter[Any]:
    expected: Counter[Any] = Counter()
    for place, connector in reference.connectors.items():
        for one in connector.timeline()[1]:
            r = one.reading
            numbers = (r["boot"], r["seq"], r["part"], r["energy_mwh"], r["power_mw"])
            figures = (NULL_I64 if number is None else number for number in numbers)
            start_ms = NULL_I64 if one.session is None else one.session.start_ms
            accounted = (one.in_session_mwh, one.outside_mwh, one.rejected_mwh)
            expected[store.keys[place], r["ts_ms"], *figures, int(one.flags), *accounted, start_ms] += 1
    return expected


def _session_figures(store: MemoryStore) -> Counter[Any]:
    names = ("connector_key", "started_ms", "last_ms", "ended_ms", "end_reason", "hold", "energy_uj", "export_mwh",
             "readings")  # fmt: skip
    return Counter(
        (store.session_ids[key], *(row[n] for n in names))
        for key, row in store.sessions.items()
        if row["end_reason"] != EndReason.WITHDRAWN
    )


def _expected_sessions(store: MemoryStore, reference: Reference) -> Counter[Any]:
    expected: Counter[Any] = Counter()
    for place, connector in reference.connectors.items():
        sessions = connector.timeline()[0]
        for session in sessions:
            assert session.meter is not None
            is_open = session.reason == EndReason.OPEN
            expected[
                session.session_id,
                store.keys[place],
                session.start_ms,
                session.last_ms,
                null_if(is_open, session.last_ms if session.end_ms is None else session.end_ms),
                int(session.reason),
                connector.reasons(session, sessions),
                session.meter.energy_uj,
                session.meter.export_mwh,
                len(session.members),
            ] += 1
    return expected


def null_if(condition: bool, value: int) -> int:
    return NULL_I64 if condition else value


@given(streams(), st.lists(st.integers(0, 99), max_size=6), st.lists(st.integers(0, 99), max_size=6))
def test_splitting_anywhere_changes_nothing(arrived: list[Reading], frame_cuts: list[int], cuts: list[int]) -> None:
    frames = frames_of(arrived, frame_cuts)
    whole, state = run(frames, [])
    split, other = run(frames, cuts)
    assert totals(split) == totals(whole)
    same(state, other)


def test_a_session_that_times_out_has_what_came_late() -> None:
    """A register older than the readings before it, then silence."""
    plain = {"status": Status.CHARGING, "received_ms": BASE_MS}
    arrived = blank_readings(plain | {"seq": n, "ts_ms": BASE_MS + n * 5_000} for n in range(4))
    arrived += blank_readings([plain | {"energy_mwh": 7, "ts_ms": BASE_MS}])
    silence_ms = BASE_MS + PARAMS.session_timeout_ms
    arrived += blank_readings([{"connector_id": 2, "ts_ms": BASE_MS + 1, "received_ms": silence_ms}])
    for frames, cuts in (([], []), ([4], [1]), ([2, 4], [1, 2])):
        store, _ = run(frames_of(arrived, frames), cuts)
        (closed,) = (row for row in store.sessions.values() if row["end_reason"] == EndReason.TIMEOUT)
        assert (closed["register_first_mwh"], closed["register_last_mwh"], closed["readings"]) == (7, 7, 5)


def rows_of(store: MemoryStore) -> list[tuple[str | None, int]]:
    """Session id and number of readings of each session, by start."""
    rows = [(row["started_ms"], key, row) for key, row in store.sessions.items()]
    return [(store.session_ids[key], row["readings"]) for _, key, row in sorted(rows, key=lambda one: one[:2])]


def test_a_session_gives_up_the_id_of_a_reading_that_is_not_its_own_after_all() -> None:
    """It took the id of the third reading; the second, which comes last, shows that it ended before."""
    plain = {"received_ms": BASE_MS + 90_000}
    arrived = blank_readings(
        [
            plain | {"seq": 1, "ts_ms": BASE_MS, "status": Status.CHARGING},
            plain | {"seq": 3, "ts_ms": BASE_MS + 30_000, "session_id": "tx"},
            plain | {"seq": 2, "ts_ms": BASE_MS + 1_000, "status": Status.AVAILABLE},
            plain | {"seq": 4, "ts_ms": BASE_MS + 80_000, "status": Status.CHARGING},
        ]
    )
    for frames, steps in (([], []), ([1, 2, 3], [1, 2, 3])):
        store, _ = run(frames_of(arrived, frames), steps, reload=frozenset(steps))
        assert rows_of(store) == [(None, 2), ("tx", 2)]


def test_a_late_reading_of_the_moment_at_which_a_session_began_may_stand_before_it() -> None:
    plain = {"received_ms": BASE_MS + 90_000}
    started = SessionEvent.STARTED
    arrived = blank_readings(
        [
            plain | {"seq": 1, "ts_ms": BASE_MS, "session_event": started},
            plain | {"seq": 3, "ts_ms": BASE_MS + 1_000, "session_event": started},
            plain | {"seq": 2, "ts_ms": BASE_MS + 1_000},
        ]
    )
    store, _ = run(frames_of(arrived, [2]), [1])
    assert rows_of(store) == [(None, 2), (None, 1)]


def test_after_silence_and_a_reading_outside_a_session_is_not_opened_again() -> None:
    plain = {"received_ms": BASE_MS + 700_000}
    arrived = blank_readings(
        plain | {"seq": n, "ts_ms": BASE_MS + at_ms, "session_event": event}
        for n, (at_ms, event) in enumerate(
            [(0, SessionEvent.STARTED), (PARAMS.session_timeout_ms, 0), (PARAMS.session_timeout_ms + 1, 0)]
        )
    )
    for cuts in ([], [1, 2]):
        store, _ = run(frames_of(arrived, cuts), cuts)
        assert rows_of(store) == [(None, 1)]
        assert [r["session_key"] != NULL_I64 for r in store.readings] == [True, False, False]


@given(st.data())
def test_only_the_youngest_session_of_a_connector_can_be_open(data: st.DataObject) -> None:
    """Whatever overtakes what: a session older than one that was seen is over, its bill waits for no time-out."""
    sessions = data.draw(st.lists(st.booleans(), min_size=2, max_size=8))  # does its device report its end?
    plain = {"received_ms": BASE_MS, "status": Status.CHARGING}
    readings = blank_readings(
        plain
        | {"session_id": f"s{n}", "ts_ms": BASE_MS + n * 100_000 + part * 9_000, "seq": n * 3 + part}
        | {"session_event": SessionEvent.ENDED if part == 2 and ends else SessionEvent.NONE}
        for n, ends in enumerate(sessions)
        for part in range(3)
    )
    cuts = data.draw(st.lists(st.integers(0, 99), max_size=6))
    store, _ = run(frames_of(data.draw(st.permutations(readings)), cuts), cuts)
    reasons = {
        store.session_ids[key]: row["end_reason"]
        for key, row in store.sessions.items()
        if row["end_reason"] != EndReason.WITHDRAWN
    }
    assert len(reasons) == len(sessions)
    for n, ends in enumerate(sessions):
        over = EndReason.SUPERSEDED if n < len(sessions) - 1 else EndReason.OPEN
        assert reasons[f"s{n}"] == (EndReason.ENDED if ends else over)


@given(st.permutations(range(12)), st.booleans())
def test_readings_that_overtake_each_other_in_a_step_cost_the_store_no_query(order: list[int], power: bool) -> None:
    plain = {"received_ms": BASE_MS, "session_id": "s1", "status": Status.CHARGING}
    arrived = blank_readings(
        plain | {"seq": n, "ts_ms": BASE_MS + n * 400, "power_mw" if power else "energy_mwh": n * 1_000} for n in order
    )
    expected, _ = run(frames_of([arrived[i] for i in np.argsort(order)], []), [])
    store, state = MemoryStore(), PartitionState(0)
    queries = AsStoreQueries(store)
    queries.timelines = pytest.fail  # type: ignore[assignment]  # not to be called
    store.apply(compute_effects(state, frames_of(arrived, [3, 7]), BASE_MS, queries, PARAMS))
    assert totals(store)["sessions"] == totals(expected)["sessions"]


def test_a_connector_is_registered_once_and_before_the_step() -> None:
    frames = frames_of(
        blank_readings({"ts_ms": BASE_MS + n, "received_ms": BASE_MS + n, "seq": n} for n in range(3)), []
    )
    store, state = MemoryStore(), PartitionState(0)
    queries = AsStoreQueries(store)
    with pytest.raises(ValueError, match="registered"):
        step(PartitionState(0), accept(PartitionState(0), frames[:1]), BASE_MS, queries, PARAMS)
    compute_effects(state, frames[:1], BASE_MS, queries, PARAMS)
    queries.register_connectors = pytest.fail  # type: ignore[assignment]  # not to be called
    compute_effects(state, frames[1:], BASE_MS, queries, PARAMS)
    assert state.connector_index.connectors() == list(store.keys)


@given(streams(), st.lists(st.integers(0, 99), max_size=6), RELOADS)
def test_state_survives_a_round_trip_after_any_step(
    arrived: list[Reading], cuts: list[int], reload: frozenset[int]
) -> None:
    frames = frames_of(arrived, cuts)
    kept, state = run(frames, cuts)
    reloaded, other = run(frames, cuts, reload=reload)
    assert totals(reloaded) == totals(kept)
    same(state, other)
    assert snapshot(load_state(0, [snapshot(state)])) == snapshot(_without_keys(state))


def _without_keys(state: PartitionState) -> PartitionState:
    return load_state(0, [snapshot(state)])


@given(streams(), st.lists(st.integers(0, 99), max_size=6), st.randoms(use_true_random=False))
def test_redelivered_frames_change_nothing(arrived: list[Reading], cuts: list[int], random: Any) -> None:
    frames = frames_of(arrived, cuts)
    once, _ = run(frames, [3])
    again = list(frames)
    for _ in range(3):
        again.insert(random.randrange(len(again)) + 1, again[0])
    twice, _ = run([*again, *frames], [3, 5])
    assert totals(twice) == totals(once)


@given(streams(), st.lists(st.integers(0, 99), max_size=4))
def test_no_identity_is_stored_twice(arrived: list[Reading], cuts: list[int]) -> None:
    store, _ = run(frames_of([*arrived, *map(dict, arrived)], []), cuts)
    identities = Counter(
        (r["connector_key"], r["boot"], r["seq"], None if r["boot"] != NULL_I64 != r["seq"] else r["ts_ms"])
        if r["seq"] != NULL_I64
        else (r["connector_key"], r["payload_hash"], NULL_I64, r["ts_ms"])
        for r in store.readings
    )
    assert max(identities.values(), default=1) == 1
    assert sum(store.counts.values()) == 2 * len(arrived)


@given(streams(), st.lists(st.integers(0, 99), max_size=4))
def test_windows_are_what_the_stored_readings_say(arrived: list[Reading], cuts: list[int]) -> None:
    store, _ = run(frames_of(arrived, []), cuts)
    for (key, bucket_ms), window in store.windows.items():
        rows = [
            r for r in store.readings if r["connector_key"] == key and r["ts_ms"] // WINDOW_MS * WINDOW_MS == bucket_ms
        ]
        power = [r["power_mw"] for r in rows if r["power_mw"] != NULL_I64]
        assert window["readings"] == len(rows)
        assert (window["power_mw_n"], window["power_mw_sum"]) == (len(power), sum(power))
        assert window["power_mw_max"] == max(power, default=NULL_I64)
        assert window["power_mw_min"] == min(power, default=NULL_I64)
        exported = sorted(
            (r["ts_ms"], r["energy_export_mwh"])
            for r in rows
            if r["energy_export_mwh"] != NULL_I64 and not r["flags"] & Quality.EXPORT_IMPLAUSIBLE
        )
        for end, register in (("first", exported[:1]), ("last", exported[-1:])):
            stored = window[f"energy_export_{end}_ts_ms"], window[f"energy_export_{end}_mwh"]
            assert [stored] == (register or [(NULL_I64, NULL_I64)])
    assert sum(w["readings"] for w in store.windows.values()) == len(store.readings)
    assert set(WINDOW_COLUMNS) == set(next(iter(store.windows.values()))) if store.windows else True


@given(streams(), st.lists(st.integers(0, 99), max_size=4))
def test_readings_by_station_are_the_stored_ones(arrived: list[Reading], cuts: list[int]) -> None:
    store, _ = run(frames_of([*arrived, *map(dict, arrived)], []), cuts, params=replace(PARAMS, by_station=True))
    station_of = {key: station for (station, _), key in store.keys.items()}
    stored = [(station_of[row["connector_key"]], row["ts_ms"]) for row in store.readings]
    counts: Counter[str] = Counter()
    for station, readings, _ in store.by_station:
        counts[station] += readings
    assert counts == Counter(station for station, _ in stored)
    for station in counts:
        newest_ms = max(ts_ms for name, ts_ms in stored if name == station)
        assert max(one.newest_ms for one in store.by_station if one.station_id == station) == newest_ms
    assert run(frames_of(arrived, []), cuts)[0].by_station == []


def test_the_windows_of_a_minute_are_emitted_in_several_steps_each_once() -> None:
    arrived = blank_readings(
        {"station_id": f"S{n}", "ts_ms": ts_ms, "received_ms": ts_ms}
        for ts_ms in (BASE_MS, BASE_MS + WINDOW_MS + PARAMS.lateness_ms)
        for n in range(1_000)
    )
    store, state, emitted = MemoryStore(), PartitionState(0), []
    frames = frames_of(arrived, [])
    for part in ([frames[0]], [frames[1]], [], [], []):
        effects = compute_effects(state, part, BASE_MS + WINDOW_MS + PARAMS.lateness_ms, AsStoreQueries(store), PARAMS)
        store.apply(effects)
        emitted.append(len(effects.emit["bucket_ms"]))
    assert emitted == [0, 400, 400, 200, 0]
    assert store.emitted == {(key, BASE_MS) for key in store.keys.values()}


@pytest.mark.parametrize("connectors", [1, 700])
def test_a_state_body_of_another_format_is_refused(connectors: int) -> None:
    state = PartitionState(0)
    state.add_connectors([(f"S{n}", 1) for n in range(connectors)], list(range(connectors)))
    body = snapshot(state)
    assert load_state(0, [body]).connector_index.connectors() == state.connector_index.connectors()
    with pytest.raises(ForeignState, match="unreadable"):
        load_state(0, [body[:-3] + b"xyz"])


def test_a_reading_of_an_unproven_session_is_nobodys_and_not_flagged_as_foreign() -> None:
    arrived = blank_readings(
        {"session_id": name, "ts_ms": BASE_MS + at_ms, "received_ms": BASE_MS + 62_000}
        for name, at_ms in (("s2", 0), ("0", 36_000))
    )
    store, _ = run(frames_of(arrived, []), [])
    assert {(r["session_key"], r["flags"] & Quality.FOREIGN_ID) for r in store.readings} == {(NULL_I64, 0)}
