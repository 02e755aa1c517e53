"""Laws of status intervals: whatever arrives, in whatever order, they are what the stored readings say."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.reading import SILENT, SessionEvent, Status
from streams.effects import StepParams
from streams.engine.status import fault_in
from streams.state.encoding import load_state, take_patch
from streams.state.partition import SILENCE_CHECK_MS, PartitionState
from streams.worker.compute import compute_effects
from tests.streams.memory_store import AsStoreQueries, MemoryStore
from tests.streams.reference import Reading, Reference
from tests.streams.test_step_laws import BASE_MS, PARAMS, RELOADS, blank_readings, frames_of, run, stored_statuses

CODES = ['{"error_code":"NoError"}', '{"error_code":"GroundFailure"}', '{"error_code":"x","vendor_error_code":"7"}']
statements = st.fixed_dictionaries(
    {
        "connector_id": st.sampled_from([1, 1, 1, 2]),
        "seq": st.one_of(st.none(), st.integers(0, 30)),
        "boot": st.sampled_from([None, None, 1, 2]),
        "session_id": st.sampled_from([None, None, "s1"]),
        "ts_ms": st.one_of(st.integers(0, 2), st.integers(0, 12)).map(lambda n: BASE_MS + n * 60_000),
        "status": st.sampled_from([Status.NONE, *Status]),
        "session_event": st.sampled_from([SessionEvent.NONE, SessionEvent.NONE, SessionEvent.STARTED]),
        "extra": st.one_of(st.none(), st.none(), st.sampled_from(CODES)),
        "energy_mwh": st.sampled_from([None, 1, 2]),
    }
)
CUTS = st.one_of(st.lists(st.integers(0, 99), max_size=8), st.just(list(range(30))))  # some, or after each


def intervals_of(arrived: list[Reading]) -> dict[tuple[str, int], Any]:
    """By the reference."""
    reference = Reference(PARAMS)
    for reading in arrived:
        reference.add(reading)
    return {place: one.statuses() for place, one in reference.connectors.items()}


@given(st.lists(statements, min_size=1, max_size=30), CUTS, CUTS, RELOADS)
def test_they_are_a_function_of_the_readings(
    fields: list[Reading], frames: list[int], steps: list[int], reload: frozenset[int]
) -> None:
    arrived = blank_readings(one | {"received_ms": BASE_MS + 720_000} for one in fields)
    store, _ = run(frames_of(arrived, frames), steps, reload=reload)
    assert stored_statuses(store) == intervals_of(arrived)


@given(st.data(), st.lists(statements, min_size=1, max_size=20), CUTS)
def test_the_order_of_arrival_changes_nothing(data: st.DataObject, fields: list[Reading], steps: list[int]) -> None:
    """Of readings that a number tells apart: the place of others in their moment is that of their arrival."""
    arrived = blank_readings(
        one | {"seq": n, "boot": 1, "received_ms": BASE_MS + 720_000} for n, one in enumerate(fields)
    )
    expected = intervals_of(arrived)
    shuffled = data.draw(st.permutations([*arrived, *map(dict, arrived)]))
    store, _ = run(frames_of(shuffled, list(range(len(shuffled)))), steps)
    assert stored_statuses(store) == expected


@given(st.lists(statements, min_size=1, max_size=30), CUTS, CUTS, RELOADS)
def test_the_newest_change_that_is_published_is_the_newest_interval(
    fields: list[Reading], frames: list[int], steps: list[int], reload: frozenset[int]
) -> None:
    arrived = blank_readings(one | {"received_ms": BASE_MS + 720_000} for one in fields)
    store, _ = run(frames_of(arrived, frames), steps, reload=reload)
    newest: dict[tuple[str, int], tuple[int, int, str | None]] = {}
    for change in store.status_changes:
        place = change.station_id, change.connector_id
        assert change.previous == newest.get(place, (0, 0, None))[1]
        newest[place] = change.since_ms, change.status, change.error_code
    expected = {place: intervals[-1] for place, intervals in stored_statuses(store).items() if intervals}
    assert newest == {place: (since, status, code) for place, (since, _, status, code, _) in expected.items()}


def test_readings_that_say_the_same_ask_the_store_nothing_and_change_nothing() -> None:
    plain = {"status": Status.CHARGING, "session_id": "s1", "received_ms": BASE_MS + 90_000}
    arrived = blank_readings(plain | {"seq": n, "ts_ms": BASE_MS + n * 1_000} for n in (0, 5, 9, 3, 12))
    store, state = MemoryStore(), PartitionState(0)
    frames = frames_of(arrived, [1, 2, 3, 4])
    store.apply(compute_effects(state, frames[:1], BASE_MS, AsStoreQueries(store), PARAMS))
    queries = AsStoreQueries(store)
    queries.status_intervals = pytest.fail  # type: ignore[assignment]  # not to be called
    for frame in frames[1:]:
        effects = compute_effects(state, [frame], BASE_MS, queries, PARAMS)
        assert not effects.status.any_rows
        assert not effects.status.changes
        store.apply(effects)
    assert len(store.readings) == 5


def test_a_late_reading_splits_an_interval_and_another_one_moves_its_end() -> None:
    def reading(second: int, status: Status) -> Reading:
        return {"seq": second, "ts_ms": BASE_MS + second * 1_000, "status": status, "received_ms": BASE_MS + 60_000}

    arrived = blank_readings(
        reading(*one)
        for one in ((10, Status.AVAILABLE), (20, Status.AVAILABLE), (15, Status.FAULTED), (18, Status.FAULTED),
                    (17, Status.AVAILABLE), (16, Status.AVAILABLE))
    )  # fmt: skip
    expected = (
        [(10, Status.AVAILABLE)],
        [(10, Status.AVAILABLE)],
        [(10, Status.AVAILABLE), (15, Status.FAULTED), (20, Status.AVAILABLE)],
        [(10, Status.AVAILABLE), (15, Status.FAULTED), (20, Status.AVAILABLE)],
        [(10, Status.AVAILABLE), (15, Status.FAULTED), (17, Status.AVAILABLE), (18, Status.FAULTED),
         (20, Status.AVAILABLE)],
        [(10, Status.AVAILABLE), (15, Status.FAULTED), (16, Status.AVAILABLE), (18, Status.FAULTED),
         (20, Status.AVAILABLE)],
    )  # fmt: skip
    store, state = MemoryStore(), PartitionState(0)
    for frame, wanted in zip(frames_of(arrived, [1, 2, 3, 4, 5]), expected, strict=True):
        store.apply(compute_effects(state, [frame], BASE_MS + 60_000, AsStoreQueries(store), PARAMS))
        (found,) = stored_statuses(store).values()
        assert [((since - BASE_MS) // 1_000, status) for since, _, status, *_ in found] == wanted


def test_statements_of_one_moment_in_several_flushes_are_intervals_of_their_own() -> None:
    plain = {"ts_ms": BASE_MS, "received_ms": BASE_MS}
    statuses = (Status.AVAILABLE, Status.PREPARING, Status.AVAILABLE, Status.CHARGING)
    arrived = blank_readings(plain | {"seq": n, "status": status} for n, status in enumerate(statuses))
    store, _ = run(frames_of(arrived, [1, 3]), [1, 2])
    assert list(stored_statuses(store).values()) == [
        [(BASE_MS, place, status, None, None) for place, status in enumerate(statuses)]
    ]


def test_a_fault_ends_with_a_statement_without_one() -> None:
    fault = {"extra": '{"error_code":"GroundFailure"}'}
    plain = {"status": Status.FAULTED, "received_ms": BASE_MS}
    arrived = blank_readings(plain | {"ts_ms": BASE_MS + n} | (fault if n < 2 else {}) for n in range(4))
    store, _ = run(frames_of(arrived, [1, 2, 3]), [1, 2, 3])
    assert list(stored_statuses(store).values()) == [
        [(BASE_MS, 0, Status.FAULTED, "GroundFailure", None), (BASE_MS + 2, 0, Status.FAULTED, None, None)]
    ]


@pytest.mark.parametrize(
    ("extra", "codes"),
    [
        (None, (None, None)),
        ('{"error_code":"NoError"}', (None, None)),
        ('{"error_code":" GroundFailure ","vendor_error_code":""}', ("GroundFailure", None)),
        ('{"error_code":7,"vendor_error_code":"0x1\\u0000"}', (None, "0x1\N{REPLACEMENT CHARACTER}")),
        ('{"error_code":"x"', (None, None)),
        ('["error_code"]', (None, None)),
        (f'{{"error_code":"{"x" * 500}"}}', ("x" * 64, None)),
    ],
)
def test_fault_codes_are_those_that_can_be_stored(extra: str | None, codes: tuple[str | None, str | None]) -> None:
    assert fault_in(extra) == codes


# -- silence ----------------------------------------------------------------------------------------------------------

AFTER_MS = 60_000
SILENCE = StepParams(silent_after_ms=AFTER_MS)


class Heard:
    """A partition whose stations speak and fall silent."""

    def __init__(self, params: StepParams = SILENCE) -> None:
        self.store, self.state, self.params = MemoryStore(), PartitionState(0), params
        self._bodies: list[bytes] = []
        self._frames = 0

    def hear(self, at_ms: int, *readings: Reading) -> list[Any]:
        """Readings that arrive now; without any, time passes. Returns the changes that are published."""
        frames: list[Any] = []
        if readings:
            arrived = blank_readings({"ts_ms": at_ms, "received_ms": at_ms} | one for one in readings)
            ((header, batch),) = frames_of(arrived, [])
            frames = [(msgspec.structs.replace(header, number=self._frames), batch)]
            self._frames += 1
        before = len(self.store.status_changes)
        self.store.apply(compute_effects(self.state, frames, at_ms, AsStoreQueries(self.store), self.params))
        self._bodies.append(take_patch(self.state))
        published = self.store.status_changes[before:]
        return [(one.connector_id, one.status, one.previous, one.since_ms) for one in published]

    def hand_over(self) -> None:
        """To another worker."""
        self.state = load_state(0, self._bodies)
        self.state.connector_key[: self.state.slots] = self.store.register_connectors(
            0, self.state.connector_index.connectors()
        )


def test_a_station_falls_silent_once_and_is_heard_again() -> None:
    one = Heard()
    fault = '{"error_code":"GroundFailure"}'
    one.hear(BASE_MS, {"status": Status.AVAILABLE}, {"connector_id": 2, "status": Status.FAULTED, "extra": fault})
    assert one.hear(BASE_MS + AFTER_MS - 1) == []
    assert one.hear(BASE_MS + AFTER_MS + SILENCE_CHECK_MS) == [
        (1, SILENT, Status.AVAILABLE, BASE_MS), (2, SILENT, Status.FAULTED, BASE_MS)
    ]  # fmt: skip
    for worker in range(2):
        assert one.hear(BASE_MS + (worker + 3) * AFTER_MS) == []
        one.hand_over()
    heard_ms = BASE_MS + 9 * AFTER_MS
    assert one.hear(heard_ms, {"energy_mwh": 1}) == [
        (1, Status.AVAILABLE, SILENT, BASE_MS), (2, Status.FAULTED, SILENT, BASE_MS)
    ]  # fmt: skip
    assert one.store.status_changes[-1].error_code == "GroundFailure"
    assert one.store.silences == {"A": [(BASE_MS, heard_ms)]}
    assert len(one.store.statuses) == 2


def test_a_station_of_which_one_connector_speaks_is_not_silent() -> None:
    one = Heard()
    one.hear(BASE_MS, {"status": Status.AVAILABLE}, {"connector_id": 2, "status": Status.CHARGING})
    for minute in range(1, 5):
        assert one.hear(BASE_MS + minute * AFTER_MS - 1, {"connector_id": 2, "energy_mwh": minute}) == []
    assert one.store.silences == {}


def test_readings_of_long_ago_are_no_silence() -> None:
    one = Heard()
    for hour in range(5):
        one.hear(BASE_MS + hour, {"status": Status.AVAILABLE, "ts_ms": BASE_MS - (9 - hour) * 3_600_000})
    assert one.hear(BASE_MS + AFTER_MS - 1) == []
    assert one.store.silences == {}


def test_a_worker_that_takes_a_partition_over_first_listens() -> None:
    one = Heard()
    one.hear(BASE_MS, {"status": Status.AVAILABLE})
    one.hand_over()
    late_ms = BASE_MS + 10 * AFTER_MS
    assert one.hear(late_ms) == []
    assert one.hear(late_ms + AFTER_MS - 1) == []
    assert one.hear(late_ms + AFTER_MS + SILENCE_CHECK_MS) == [(1, SILENT, Status.AVAILABLE, BASE_MS)]


def test_silence_is_due_though_nothing_arrives() -> None:
    one = Heard()
    one.hear(BASE_MS, {"status": Status.AVAILABLE})
    due_ms = 0
    for _ in range(5):
        due_ms = one.state.next_due_ms(SILENCE) or 0
        one.hear(due_ms)
    assert one.store.silences == {"A": [(BASE_MS, None)]}
    assert BASE_MS < due_ms < BASE_MS + 9 * AFTER_MS


def test_thousands_of_stations_fall_silent_in_several_steps() -> None:
    one = Heard()
    one.hear(BASE_MS, *({"station_id": f"S{n}", "status": Status.AVAILABLE} for n in range(2_100)))
    counts = [len(one.hear(BASE_MS + 2 * AFTER_MS)) for _ in range(4)]
    assert counts == [1_000, 1_000, 100, 0]
    assert len(one.hear(BASE_MS + 3 * AFTER_MS, *({"station_id": f"S{n}"} for n in range(2_100)))) == 2_100


def silences_by(one: Heard, until_ms: int, step_ms: int) -> dict[str, list[int]]:
    """When each station was found silent, from the beginning, where time passes in such steps and nothing is heard."""
    found: dict[str, list[int]] = {}
    for now_ms in range(BASE_MS, until_ms, step_ms):
        before = {station: len(of_it) for station, of_it in one.store.silences.items()}
        one.hear(now_ms)
        for station, of_it in one.store.silences.items():
            if len(of_it) > before.get(station, 0):
                found.setdefault(station, []).append(now_ms)
    return found


@given(
    default_ms=st.sampled_from([0, 60_000, 600_000]),
    own_ms=st.dictionaries(st.sampled_from("ABC"), st.sampled_from([0, 20_000, 90_000, 1_200_000])),
)
def test_each_station_falls_silent_after_its_own_interval_or_the_usual_one(
    default_ms: int, own_ms: dict[str, int]
) -> None:
    one = Heard(StepParams(silent_after_ms=default_ms))
    one.store.own_silences_ms = own_ms
    one.hear(BASE_MS, *({"station_id": name, "status": Status.AVAILABLE} for name in "ABC"))
    step_ms = SILENCE_CHECK_MS
    found = silences_by(one, BASE_MS + 1_300_000, step_ms)
    for name in "ABC":
        after_ms = own_ms.get(name, default_ms)
        if not after_ms:
            assert name not in found
            continue
        (at_ms,) = found[name]
        assert after_ms <= at_ms - BASE_MS <= after_ms + 2 * step_ms
    assert one.store.silences == {name: [(BASE_MS, None)] for name in found}


def test_a_station_that_speaks_later_falls_silent_by_its_own_shorter_interval() -> None:
    one = Heard(StepParams(silent_after_ms=3_600_000))
    one.store.own_silences_ms = {"B": 20_000}
    one.hear(BASE_MS, {"station_id": "A", "status": Status.AVAILABLE})
    one.hear(BASE_MS + 1)
    one.hear(BASE_MS + 100_000, {"station_id": "B", "status": Status.AVAILABLE})
    due_ms = one.state.next_due_ms(one.params)
    assert due_ms is not None
    one.hear(BASE_MS + 130_000)
    assert one.store.silences == {"B": [(BASE_MS + 100_000, None)]}


def test_an_interval_that_is_set_later_counts_within_minutes() -> None:
    one = Heard(StepParams(silent_after_ms=3_600_000))
    one.hear(BASE_MS, {"station_id": "A", "status": Status.AVAILABLE})
    one.hear(BASE_MS + 30_000)
    one.store.own_silences_ms = {"A": 60_000}
    for second in range(35, 160, 5):
        one.hear(BASE_MS + second * 1_000)
    assert one.store.silences == {"A": [(BASE_MS, None)]}
    assert one.store.silences_asked <= 3


def test_without_a_time_nothing_is_ever_silent() -> None:
    one = Heard(StepParams(silent_after_ms=0))
    one.hear(BASE_MS, {"status": Status.AVAILABLE})
    assert one.hear(BASE_MS + 10**9) == []
    assert one.store.silences == {}
