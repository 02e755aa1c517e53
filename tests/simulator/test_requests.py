"""Laws of sessions that are asked for: whom they go to, what they are named, when they end."""

from collections.abc import Callable, Iterator

import numpy as np
import pytest

from schemas.reading import SessionEvent, Status
from simulator.encode import Format, encode
from simulator.fleet.fleet import Fleet
from simulator.fleet.readings import Readings
from simulator.fleet.spec import station_name
from tests.simulator.fleets import a_fleet

REQUEST = "0f6b1c9a-4d5e-47a8-b2c3-d4e5f6a7b8c9"
PERIOD_S = 10.0


def with_status(fleet: Fleet, rows: Readings, *statuses: Status) -> tuple[str, int]:
    """A connector that has one of them."""
    found = np.flatnonzero(np.isin(rows["status"], statuses))
    assert len(found), "the fleet has one such"
    slot = int(found[0])
    return rows["station_id"][slot].decode(), int(rows["connector_id"][slot])


def of(rows: Readings, place: tuple[str, int]) -> np.void:
    """The reading of that connector."""
    station, connector = place
    (row,) = rows[(rows["station_id"] == station.encode()) & (rows["connector_id"] == connector)]
    assert isinstance(row, np.void)
    return row


def readings_of(fleet: Fleet, place: tuple[str, int]) -> Iterator[np.void]:
    """Of that connector, without end."""
    while True:
        yield of(fleet.step(), place)


def until(fleet: Fleet, place: tuple[str, int], wanted: Callable[[np.void], bool], steps: int = 20_000) -> np.void:
    """The first reading that is wanted."""
    for reading, _ in zip(readings_of(fleet, place), range(steps), strict=False):
        if wanted(reading):
            return reading
    raise AssertionError(f"not within {steps} readings")


def charging(reading: np.void) -> bool:
    return bool(reading["status"] == Status.CHARGING and reading["power_mw"] > 0)


def test_a_requested_session_is_named_by_the_request_charges_and_ends_when_it_is_stopped(seed: int) -> None:
    fleet = a_fleet(seed, period_s=PERIOD_S)
    place = with_status(fleet, fleet.step(), Status.AVAILABLE)
    assert fleet.request_start(*place, REQUEST)
    first = of(fleet.step(), place)
    assert (first["session_id"], first["session_event"]) == (REQUEST.encode(), SessionEvent.STARTED)
    assert first["status"] == Status.PREPARING
    assert until(fleet, place, charging, steps=3)["session_id"] == REQUEST.encode()
    fleet.step()
    assert fleet.request_stop(*place, REQUEST)
    last = of(fleet.step(), place)
    assert (last["session_id"], last["session_event"]) == (REQUEST.encode(), SessionEvent.ENDED)
    assert (last["status"], last["power_mw"]) == (Status.FINISHING, 0)
    (truth,) = (truth for truth in fleet.truth if truth.session_id == REQUEST)
    assert truth.energy_uj > 0
    assert (truth.station_id, truth.connector_id) == place
    until(fleet, place, lambda reading: bool(reading["status"] == Status.AVAILABLE))


def test_a_requested_session_that_nobody_stops_ends_when_the_battery_is_full(seed: int) -> None:
    fleet = a_fleet(seed, period_s=60.0)
    place = with_status(fleet, fleet.step(), Status.AVAILABLE)
    assert fleet.request_start(*place, REQUEST)
    last = until(fleet, place, lambda reading: bool(reading["session_event"] == SessionEvent.ENDED))
    assert last["session_id"] == REQUEST.encode()
    assert not fleet.request_stop(*place, REQUEST)


def test_a_connector_in_use_rejects_a_request(seed: int) -> None:
    fleet = a_fleet(seed, period_s=PERIOD_S)
    rows = fleet.step()
    busy = with_status(fleet, rows, Status.PREPARING, Status.CHARGING)
    assert not fleet.request_start(*busy, REQUEST)
    free = with_status(fleet, rows, Status.AVAILABLE)
    assert fleet.request_start(*free, "first")
    assert not fleet.request_start(*free, "second")
    assert of(fleet.step(), free)["session_id"] == b"first"


def test_after_a_session_the_next_may_begin_before_the_cable_is_out(seed: int) -> None:
    fleet = a_fleet(seed, period_s=PERIOD_S)
    place = with_status(fleet, fleet.step(), Status.AVAILABLE)
    assert fleet.request_start(*place, "first")
    fleet.step()
    assert fleet.request_stop(*place, "first")
    assert of(fleet.step(), place)["status"] == Status.FINISHING
    assert fleet.request_start(*place, "second")
    again = of(fleet.step(), place)
    assert (again["session_id"], again["session_event"]) == (b"second", SessionEvent.STARTED)


def test_a_stop_ends_the_named_session_only_and_without_a_name_whichever_runs(seed: int) -> None:
    fleet = a_fleet(seed, period_s=PERIOD_S)
    rows = fleet.step()
    busy = with_status(fleet, rows, Status.PREPARING, Status.CHARGING)
    assert not fleet.request_stop(*busy, "another")
    assert of(fleet.step(), busy)["session_event"] == SessionEvent.UPDATED
    assert fleet.request_stop(*busy, None)
    assert of(fleet.step(), busy)["session_event"] == SessionEvent.ENDED
    free = with_status(fleet, fleet.step(), Status.AVAILABLE)
    assert not fleet.request_stop(*free, None)


def test_a_stop_takes_back_a_start_that_waits(seed: int) -> None:
    fleet = a_fleet(seed, period_s=PERIOD_S)
    place = with_status(fleet, fleet.step(), Status.AVAILABLE)
    assert fleet.request_start(*place, REQUEST)
    assert fleet.request_stop(*place, REQUEST)
    assert of(fleet.step(), place)["session_id"] != REQUEST.encode()


@pytest.mark.parametrize(
    "place",
    [("SIM-000020", 1), ("SIM-000000", 3), ("SIM-000000", 0), ("SIM-0", 1), ("DE*VLT*E1", 1), ("SIM-", 1), ("", 1)],
)
def test_connectors_of_others_are_nobodys(seed: int, place: tuple[str, int]) -> None:
    fleet = a_fleet(seed)
    assert not fleet.request_start(*place, REQUEST)
    assert not fleet.request_stop(*place, None)


def test_the_same_requests_make_the_same_readings_and_none_makes_those_of_before(seed: int) -> None:
    def said(*, asked: bool, refused: bool = False) -> bytes:
        fleet = a_fleet(seed)
        rows = [fleet.step()]
        place = with_status(fleet, rows[0], Status.AVAILABLE)
        if asked:
            assert fleet.request_start(*place, REQUEST)
        if refused:
            assert not fleet.request_start(station_name("SIM", 999), 1, REQUEST)
        rows += [fleet.step() for _ in range(50)]
        return encode(np.concatenate(rows), Format.JSON)

    assert said(asked=True) == said(asked=True) != said(asked=False)
    assert said(asked=False, refused=True) == said(asked=False)
