"""The registered stations of the simulated fleet are those that send readings, and whole enough for OCPI CDRs."""

import numpy as np
import pytest

from ingest.settings import IngestSettings
from kit.settings import group_of
from schemas.connector import PowerType
from simulator.fleet.fleet import Fleet, charger_types
from simulator.fleet.spec import FleetSpec
from voltstream.runtime.simulated_stations import REGISTERED_MAX, simulated_stations
from voltstream.runtime.up import _with_room_for
from voltstream.settings import load_settings

_STATION = {"name", "address", "city", "postal_code", "country", "latitude", "longitude", "time_zone"}
_CONNECTOR = {"standard", "format", "power_type", "evse_id"}
SPEC = FleetSpec(seed=7, start_ms=1_767_225_600_000, stations=120, connectors=2)


def test_every_connector_that_sends_readings_is_registered() -> None:
    rows = Fleet(SPEC).step()
    sending = {
        (name.decode(), int(number)) for name, number in zip(rows["station_id"], rows["connector_id"], strict=True)
    }
    registered = simulated_stations(SPEC)
    assert {(name, number) for name, (_, connectors) in registered.items() for number in connectors} == sending


def test_a_connector_is_of_the_current_that_its_charger_gives() -> None:
    phases = Fleet(SPEC)._phases.reshape(-1, SPEC.connectors)
    assert np.array_equal([kind.phases for kind in charger_types(SPEC)], phases[:, 0])
    for kind, (_, connectors) in zip(charger_types(SPEC), simulated_stations(SPEC).values(), strict=True):
        assert {one.power_type is PowerType.DC for one in connectors.values()} == {kind.is_dc}


def test_no_fact_that_a_cdr_needs_is_missing() -> None:
    evses = []
    for facts, connectors in simulated_stations(SPEC).values():
        assert None not in facts.model_dump(include=_STATION).values()
        for one in connectors.values():
            assert None not in one.model_dump(include=_CONNECTOR).values()
            evses.append(one.evse_id)
    assert len(set(evses)) == len(evses) == SPEC.stations * SPEC.connectors


def test_a_fleet_for_load_is_registered_in_part() -> None:
    many = FleetSpec(seed=1, start_ms=0, stations=REGISTERED_MAX + 5, connectors=1)
    assert len(simulated_stations(many)) == REGISTERED_MAX


@pytest.mark.parametrize(
    ("stations", "bound", "expected"), [(0, 20_000, 20_000), (100_000, 20_000, 200_000), (5, 0, 0)]
)
def test_a_simulated_fleet_does_not_meet_the_bound_of_new_stations(stations: int, bound: int, expected: int) -> None:
    settings = load_settings(new_stations_per_hour_max=bound)
    roomy = group_of(_with_room_for(settings, stations), IngestSettings)
    assert roomy.new_stations_per_hour_max == expected
