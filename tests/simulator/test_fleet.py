"""Laws of the fleet."""

import numpy as np
import pytest

from schemas.reading import SessionEvent, Status
from simulator.encode import Format, encode
from simulator.fleet.fleet import Fleet
from simulator.fleet.readings import NULL, UJ_PER_MWH, batches
from simulator.fleet.spec import FleetSpec
from tests.simulator.fleets import HOUR_MS, START_MS, a_fleet, bursts, half_a_day, rows_of


def test_same_seed_same_bytes(seed: int) -> None:
    until_ms = START_MS + HOUR_MS
    first, second = (encode(rows_of(list(a_fleet(seed).stream(until_ms))), Format.JSON) for _ in range(2))
    assert first == second
    assert encode(rows_of(list(a_fleet(seed + 1).stream(until_ms))), Format.JSON) != first


def test_length_of_bursts_changes_no_reading(seed: int) -> None:
    until_ms = START_MS + HOUR_MS
    long = rows_of(list(a_fleet(seed).stream(until_ms, burst_ms=60_000)))
    short = rows_of(list(a_fleet(seed).stream(until_ms, burst_ms=100)))
    assert (long == short).all()


def test_register_never_falls_and_seq_has_no_hole(seed: int) -> None:
    rows = rows_of(bursts(seed, hours=6))
    for slot in np.unique(rows["slot"]):
        own = rows[rows["slot"] == slot]
        assert (np.diff(own["energy_mwh"]) >= 0).all()
        assert (own["seq"] == np.arange(len(own))).all()
        assert (np.diff(own["ts_ms"]) > 0).all()


def test_a_fleet_that_starts_anew_goes_on_above_its_old_registers(seed: int) -> None:
    old = rows_of(bursts(seed, hours=3))
    later = FleetSpec(seed, START_MS + 3 * HOUR_MS, stations=20)
    anew = Fleet(later).step()
    for slot in anew["slot"]:
        assert anew["energy_mwh"][slot] >= old["energy_mwh"][old["slot"] == slot].max()
        assert anew["boot"][slot] > old["boot"][old["slot"] == slot].max()


def test_meters_that_are_known_go_on_from_where_they_stood(seed: int) -> None:
    spec = FleetSpec(seed, START_MS, stations=20)
    fleet = Fleet(spec)
    for _ in range(200):
        rows = fleet.step()
    stood = fleet.registers_mwh()
    assert [stood[row["station_id"].decode(), int(row["connector_id"])] for row in rows] == rows["energy_mwh"].tolist()
    known = {place: register_mwh for place, register_mwh in stood.items() if place[1] == 1} | {("SIM-999999", 1): 7}
    anew = Fleet(FleetSpec(seed, START_MS + HOUR_MS, stations=20), known).step()
    for row, before in zip(anew, rows, strict=True):
        if row["connector_id"] == 1:
            assert row["energy_mwh"] == before["energy_mwh"]
        else:
            assert row["energy_mwh"] >= before["energy_mwh"]


def test_true_energy_is_the_integral_of_power_and_the_register_to_the_milliwatt_hour(seed: int) -> None:
    rows, truths = half_a_day(seed)
    assert truths
    for truth in truths:
        own = rows[rows["session_id"] == truth.session_id.encode()]
        held_uj = int((own["power_mw"][:-1] * np.diff(own["ts_ms"])).sum())
        assert truth.energy_uj == held_uj
        rise_mwh = int(own["energy_mwh"][-1] - own["energy_mwh"][0])
        assert rise_mwh == truth.register_last_mwh - truth.register_first_mwh
        assert abs(truth.energy_uj - rise_mwh * UJ_PER_MWH) < UJ_PER_MWH
        assert (truth.started_ms, truth.ended_ms) == (own["ts_ms"][0], own["ts_ms"][-1])
        assert truth.readings == len(own)
        assert truth.station_id.encode() == own["station_id"][0]


def test_a_session_starts_once_ends_once_and_walks_through_its_states(seed: int) -> None:
    rows, truths = half_a_day(seed)
    order = [Status.PREPARING, Status.CHARGING, Status.SUSPENDED_EV, Status.FINISHING]
    for truth in truths:
        own = rows[rows["session_id"] == truth.session_id.encode()]
        assert own["session_event"][0] == SessionEvent.STARTED
        assert own["session_event"][-1] == SessionEvent.ENDED
        assert (own["session_event"][1:-1] == SessionEvent.UPDATED).all()
        steps = [order.index(Status(int(status))) for status in own["status"]]
        assert steps == sorted(steps)
        assert (own["power_mw"][own["status"] != Status.CHARGING] == 0).all()
    assert {Status(int(status)) for status in np.unique(rows["status"])} == {Status.AVAILABLE, *order}


def test_of_a_fleet_with_brief_visits_some_sessions_are_over_within_three_minutes_and_true(seed: int) -> None:
    """Of 40 connectors about 16 have a car at once; half of those leave soon, the others as ever."""
    fleet = Fleet(FleetSpec(seed, START_MS, stations=20, brief=0.5))
    rows = rows_of(list(fleet.stream(START_MS + 180_000)))
    assert 0 < len(fleet.truth) < fleet.spec.stations
    for truth in fleet.truth:
        own = rows[rows["session_id"] == truth.session_id.encode()]
        assert own["session_event"][0] == SessionEvent.STARTED
        assert own["session_event"][-1] == SessionEvent.ENDED
        assert truth.energy_uj == int((own["power_mw"][:-1] * np.diff(own["ts_ms"])).sum()) > 0
    assert (rows["status"][-fleet.size :] == Status.CHARGING).any()


def test_without_brief_visits_nobody_leaves_within_five_minutes(seed: int) -> None:
    fleet = Fleet(FleetSpec(seed, START_MS, stations=20))
    rows_of(list(fleet.stream(START_MS + 300_000)))
    assert not fleet.truth


def test_free_connectors_name_no_session(seed: int) -> None:
    rows = rows_of(bursts(seed, hours=6))
    free = rows["status"] == Status.AVAILABLE
    assert free.any()
    assert (rows["session_id"][free] == b"").all()
    assert (rows["session_event"][free] == SessionEvent.NONE).all()
    assert (rows["soc_mpct"][free] == NULL).all()


def test_power_falls_as_the_battery_fills(seed: int) -> None:
    rows = rows_of(bursts(seed, hours=12, stations=100))
    charging = rows[(rows["status"] == Status.CHARGING) & (rows["soc_mpct"] != NULL) & (rows["power_mw"] > 0)]
    low = charging["power_mw"][charging["soc_mpct"] < 50_000]
    high = charging["power_mw"][charging["soc_mpct"] > 90_000]
    assert low.mean() > 2 * high.mean()


def test_rate_is_readings_a_second_of_the_whole_fleet(seed: int) -> None:
    rows = rows_of(list(Fleet(FleetSpec(seed, START_MS, stations=10, rate=50.0)).stream(START_MS + 60_000)))
    assert len(rows) == 3_000
    assert (np.diff(rows["ts_ms"]) == 20).all()


def test_batches_keep_every_reading_in_order(seed: int) -> None:
    stream = bursts(seed, hours=0.5)
    parts = list(batches(stream, 77))
    assert {len(part) for part in parts[:-1]} == {77}
    assert (np.concatenate(parts) == rows_of(stream)).all()


@pytest.mark.parametrize("wrong", [{"stations": 0}, {"rate": 0.0}, {"prefix": 'a"b'}, {"prefix": "x" * 36}])
def test_a_spec_nobody_can_be_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"station|rate|prefix"):
        FleetSpec(**{"seed": 1, "start_ms": START_MS, **wrong})  # type: ignore[arg-type]  # wrong on purpose
