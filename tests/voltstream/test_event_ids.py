"""Databases that are made anew, or share a broker, number flushes and revisions alike: their events are others."""

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

from api.stations.registry.events import station_changed
from api.stations.registry.models import Station
from api.stations.registry.store import Change
from streams.effects import StationReadings
from streams.storage import events
from streams.storage.events import FlushContext

NOW = datetime(2026, 3, 29, 9, tzinfo=UTC)
CONTEXT = FlushContext(1_774_774_800_000, "")


def test_of_two_databases_no_flushs_events_are_the_same() -> None:
    effects: Any = SimpleNamespace(by_station=[StationReadings("A", 3, CONTEXT.now_ms)])
    made = [events.telemetry_received(0, effects, CONTEXT)[0].event_id for _ in range(2)]
    assert made[0] != made[1]


def test_of_two_databases_no_stations_events_are_the_same() -> None:
    station = Station(station_id="A", revision=1, changed_at=NOW, connectors=[], bays=[])
    change = Change(None, station, 1, NOW, "operator/1")
    assert station_changed(change).event_id != station_changed(change).event_id
