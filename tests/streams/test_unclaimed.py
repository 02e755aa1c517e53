"""Readings of stations that nobody has registered: taken, or set apart until somebody has."""

from dataclasses import replace
from typing import Any

import msgspec

from schemas.reading import Status
from streams.effects import StepParams
from streams.engine.unclaimed import _CLAIMED_MS, _UNCLAIMED_MS
from streams.state.partition import PartitionState
from streams.worker.compute import compute_effects
from tests.streams.memory_store import AsStoreQueries, MemoryStore
from tests.streams.reference import Reading
from tests.streams.test_step_laws import BASE_MS, blank_readings, frames_of

QUARANTINE = StepParams(quarantine_unclaimed=True)


class Partition:
    def __init__(self) -> None:
        self.store, self.state, self.frames = MemoryStore(), PartitionState(0), 0

    def take(self, *fields: Reading, at_ms: int = BASE_MS, params: StepParams = QUARANTINE) -> Any:
        plain = {"ts_ms": BASE_MS, "received_ms": at_ms}
        ((header, batch),) = frames_of(blank_readings(plain | one for one in fields), [])
        header = msgspec.structs.replace(header, number=self.frames)
        self.frames += 1
        effects = compute_effects(self.state, [(header, batch)], at_ms, AsStoreQueries(self.store), params)
        self.store.apply(effects)
        return effects


def test_readings_of_unregistered_stations_are_quarantined_as_they_were_sent() -> None:
    one = Partition()
    one.store.stations = {"A"}
    full = {
        "station_id": "B",
        "connector_id": 2,
        "seq": 4,
        "session_id": "tx",
        "status": Status.FAULTED,
        "power_mw": 1_500,
        "extra": '{"dropped":{"soc_pct":65535},"error_code":"GroundFailure"}',
    }
    effects = one.take({"seq": 1}, full, {"station_id": "B", "seq": 5})
    assert (effects.stored, effects.duplicate, effects.quarantined) == (1, 0, 2)
    raw = {msgspec.json.decode(item)["seq"]: msgspec.json.decode(item) for _, item in one.store.refused}
    assert [reason for reason, _ in one.store.refused] == ["unclaimed"] * 2
    assert raw[4] == {
        "station_id": "B", "connector_id": 2, "seq": 4, "session_id": "tx", "ts": BASE_MS, "power_w": 1.5,
        "status": "Faulted", "error_code": "GroundFailure",
    }  # fmt: skip
    assert list(one.store.statuses.values()) == []


def test_what_is_posted_again_once_the_station_is_registered_is_new() -> None:
    one = Partition()
    given = [{"seq": n, "ts_ms": BASE_MS + n} for n in range(70)]
    assert one.take(*given).quarantined == 70
    one.store.stations = {"A"}
    assert one.take(*given, at_ms=BASE_MS + _UNCLAIMED_MS - 1).quarantined == 70, "the registry is not asked each time"
    assert one.take(*given, at_ms=BASE_MS + _UNCLAIMED_MS).stored == 70
    assert one.take(*given, at_ms=BASE_MS + _UNCLAIMED_MS).duplicate == 70


def test_the_registry_is_asked_once_a_minute_for_each_that_speaks() -> None:
    one = Partition()
    one.store.stations = {"A", "B"}
    for second in range(0, 125, 5):
        one.take(
            {"ts_ms": BASE_MS + second}, {"station_id": "B", "ts_ms": BASE_MS + second}, at_ms=BASE_MS + second * 1_000
        )
    assert sorted(one.store.asked_stations) == ["A"] * 3 + ["B"] * 3
    one.store.stations = {"A"}
    late_ms = BASE_MS + 125_000 + _CLAIMED_MS
    assert one.take({"station_id": "B", "ts_ms": late_ms}, at_ms=late_ms).quarantined == 1, "it was removed"


def test_where_all_are_taken_the_registry_is_not_asked() -> None:
    one = Partition()
    assert one.take({"seq": 1}, params=replace(QUARANTINE, quarantine_unclaimed=False)).stored == 1
    assert one.store.asked_stations == []
