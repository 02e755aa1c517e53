"""What a connector does now, and why: the same however often, and in whatever order, events come."""

import asyncio
import random
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import pytest

from api.stations.status.codes import CODES, LABELS
from api.stations.status.store import RECENT_MAX
from kit.clock import format_rfc3339
from kit.messaging.bus import InProcessBus, Message
from kit.retry import RetryPolicy
from schemas.events import StationReceived, StationStatusChanged, StatusChange, TelemetryReceived
from schemas.topics import RESERVATION_CANCELLED, RESERVATION_CREATED, STATION_STATUS_CHANGED, TELEMETRY_RECEIVED
from tests.api.station_events import event, reservation_event
from tests.api.stations_app import NOW, StationsApp
from tests.waiting import eventually


@pytest.fixture
async def bus(stations: StationsApp) -> AsyncIterator[InProcessBus]:
    """Where the service takes events."""
    bus = InProcessBus(RetryPolicy.model_validate({"default": {"first_s": 0.01, "attempts_max": 1}}))
    await stations.service.consume(bus)
    yield bus
    await bus.close()


def change(
    connector: int, revision: int, status: str, station: str = "A", error_code: str | None = None
) -> StatusChange:
    return StatusChange(
        station_id=station,
        connector_id=connector,
        status=status,
        previous=None,
        error_code=error_code,
        since=format_rfc3339(at(revision)),
        revision=revision,
    )


def at(revision: int) -> datetime:
    return NOW - timedelta(hours=1) + timedelta(minutes=revision)


def changed(*changes: StatusChange) -> Message:
    name = "/".join(f"{one.station_id}.{one.connector_id}.{one.revision}" for one in changes)
    return event(STATION_STATUS_CHANGED, name, StationStatusChanged(changes=list(changes)))


async def status(stations: StationsApp, station: str = "A") -> dict[int, Any]:
    found = await stations.ask("GET", f"/{station}/status", 200)
    return {one["connector_id"]: one for one in found["connectors"]}


async def test_the_status_is_the_last_one_and_says_why(stations: StationsApp, bus: InProcessBus) -> None:
    await stations.ask("GET", "/A/status", 404)
    await stations.ask("PUT", "/A", 201, {"connectors": [{"connector_id": 1}, {"connector_id": 2}]})
    unknown = (await status(stations))[1]
    assert (unknown["status"], unknown["free"], unknown["why"]) == ("Unknown", False, [])
    await bus.publish(changed(change(1, 1, "Available"), change(2, 1, "Charging")))
    await bus.publish(changed(change(1, 2, "Faulted", error_code="GroundFailure")))
    found = await status(stations)
    assert (found[1]["status"], found[1]["error_code"], found[1]["free"]) == ("Faulted", "GroundFailure", False)
    assert [(one["revision"], one["status"]) for one in found[1]["why"]] == [(2, "Faulted"), (1, "Available")]
    assert datetime.fromisoformat(found[1]["since"]) == at(2)
    assert (found[2]["status"], found[2]["reported"]) == ("Charging", "Charging")
    await bus.publish(changed(change(2, 2, "Silent")))
    silent = (await status(stations))[2]
    assert (silent["status"], silent["reported"], silent["free"]) == ("Silent", None, False)
    await stations.service.run_jobs()
    shown = (await stations.client.get("/metrics")).text
    for name, count in {"Silent": 1, "Faulted": 1, "Available": 0, "Unknown": 0}.items():
        assert f'stations_connectors{{status="{name}"}} {count}.0' in shown
    assert datetime.fromisoformat(silent["silent_since"]) == at(2)


async def test_a_reserved_connector_is_shown_so_while_it_is(stations: StationsApp, bus: InProcessBus) -> None:
    await stations.ask("PUT", "/A", 201, {"connectors": [{"connector_id": 1}, {"connector_id": 2}]})
    await bus.publish(changed(change(1, 1, "Available"), change(2, 1, "Available")))
    begin, end = NOW + timedelta(minutes=5), NOW + timedelta(minutes=35)
    await bus.publish(reservation_event(RESERVATION_CREATED, "R", 1, 1, begin, end, station_id="A"))
    assert [one["free"] for one in (await status(stations)).values()] == [True, True]
    stations.clock.advance(300)
    found = await status(stations)
    assert (found[1]["status"], found[1]["reported"], found[1]["free"]) == ("Reserved", "Available", False)
    assert datetime.fromisoformat(found[1]["reserved_until"]) == end
    assert (found[2]["status"], found[2]["free"]) == ("Available", True)
    await bus.publish(reservation_event(RESERVATION_CANCELLED, "R", 2, 1, begin, end, "cancelled", station_id="A"))
    await bus.publish(reservation_event(RESERVATION_CREATED, "R", 1, 1, begin, end, station_id="A"))
    assert (await status(stations))[1]["free"]


async def test_of_one_evse_one_connector_is_in_use(stations: StationsApp, bus: InProcessBus) -> None:
    plugs = [{"connector_id": number, "evse_id": "DE*VLT*E1"} for number in (1, 2)]
    await stations.ask("PUT", "/A", 201, {"connectors": [*plugs, {"connector_id": 3}]})
    await bus.publish(changed(change(1, 1, "Charging"), change(2, 1, "Available"), change(3, 1, "Available")))
    found = await status(stations)
    assert (found[2]["status"], found[2]["occupied_by"], found[2]["free"]) == ("Unavailable", 1, False)
    assert (found[3]["free"], found[1]["occupied_by"]) == (True, None)


async def test_a_station_that_nobody_registered_has_the_status_that_it_says(
    stations: StationsApp, bus: InProcessBus
) -> None:
    await bus.publish(changed(change(1, 1, "Available", "STRAY")))
    shown = await stations.ask("GET", "/stray/status", 200)
    assert (shown["registered"], shown["connectors"][0]["registered"]) == (False, False)


async def test_in_whatever_order_and_however_often_changes_come_the_last_counts(
    stations: StationsApp, bus: InProcessBus, seed: int
) -> None:
    dice = random.Random(seed)
    changes: list[StatusChange] = []
    for connector in range(1, 6):
        for revision in range(1, dice.randint(2, 30)):
            changes.append(change(connector, revision, dice.choice(list(CODES))))
    last = {one.connector_id: one for one in changes}
    dice.shuffle(changes)
    events = []
    while changes:
        count = dice.randint(1, 8)
        events.append(changed(*changes[:count]))
        changes = changes[count:]
    again = events + events[::2]
    dice.shuffle(again)
    await asyncio.gather(*(bus.publish(one) for one in again))
    found = await status(stations)
    for connector, one in last.items():
        assert found[connector]["status"] == one.status
        recent = [why["revision"] for why in found[connector]["why"]]
        assert recent == list(range(one.revision, max(0, one.revision - RECENT_MAX), -1))
    rows = stations.rows("SELECT count(*) FROM stations.events_processed")
    assert rows == [(len(events),)]


def test_every_status_has_one_number() -> None:
    assert {code: name for name, code in CODES.items()} == LABELS


async def test_what_was_stored_of_a_station_is_counted_once_in_any_order(
    stations: StationsApp, bus: InProcessBus, seed: int
) -> None:
    dice = random.Random(seed)
    sent = [
        (number, station, dice.randint(1, 500), dice.randint(1, 60))
        for number in range(40)
        for station in dice.sample(["A", "STRAY", "C"], dice.randint(1, 3))
    ]

    def received(number: int) -> Message:
        counts = [
            StationReceived(station_id=station, readings=readings, newest_ts=format_rfc3339(at(minute)))
            for of, station, readings, minute in sent
            if of == number
        ]
        payload = TelemetryReceived(partition=0, readings=0, newest_ts=format_rfc3339(NOW), stations=counts)
        return event(TELEMETRY_RECEIVED, f"received {number}", payload)

    await stations.ask("GET", "/STRAY/status", 404)
    deliveries = [*range(40), *dice.sample(range(40), 15)]
    dice.shuffle(deliveries)
    await asyncio.gather(*(bus.publish(received(number)) for number in deliveries))
    for name in ("A", "STRAY", "C"):
        shown = (await stations.ask("GET", f"/{name}/status", 200))["received"]
        of_it = [(readings, minute) for _, station, readings, minute in sent if station == name]
        assert shown["readings"] == sum(readings for readings, _ in of_it)
        assert datetime.fromisoformat(shown["newest_ts"]) == at(max(minute for _, minute in of_it))
    await stations.ask("PUT", "/SILENT", 201, {})
    assert (await stations.ask("GET", "/SILENT/status", 200))["received"] is None


async def test_changes_of_status_touch_no_index(stations: StationsApp, bus: InProcessBus) -> None:
    plugs = [{"connector_id": number} for number in range(1, 101)]
    await stations.ask("PUT", "/A", 201, {"latitude": 1, "longitude": 1, "connectors": plugs})
    for revision in range(1, 6):
        await bus.publish(changed(*(change(number, revision, "Charging") for number in range(1, 101))))
    indexed = stations.rows(
        "SELECT attname FROM pg_index AS i "
        "JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey) "
        "WHERE i.indrelid = 'stations.connector_state'::regclass ORDER BY attname"
    )
    assert [row[0] for row in indexed] == ["connector_id", "station_id"]
    stored = stations.rows("SELECT DISTINCT status, revision FROM stations.connector_state")
    assert stored == [(CODES["Charging"], 5)]


async def test_what_is_consumed_survives_lost_connections_and_a_restart(stations: StationsApp, seed: int) -> None:
    """Connections are killed in the middle of transactions, and another process goes on with events that the first one
    had taken already: each counts once."""
    dice = random.Random(seed)
    policy = RetryPolicy.model_validate({"default": {"first_s": 0.01, "attempts_max": 3}})
    events = []
    for revision in range(1, 41):
        events.append(changed(*(change(number, revision, dice.choice(list(CODES))) for number in range(1, 6))))
        begin = NOW + timedelta(minutes=revision)
        events.append(reservation_event(RESERVATION_CREATED, f"R{revision}", 1, 1, begin, begin, station_id="A"))
    kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'stations'"

    async def kill_often() -> None:
        for _ in range(5):
            await asyncio.to_thread(stations.rows, kill)

    async def handled(count: int) -> bool:
        query = "SELECT count(*) FROM stations.events_processed"
        return await asyncio.to_thread(stations.rows, query) == [(count,)]

    for part, count in ((events[:50], 50), (events[30:], len(events))):
        bus = InProcessBus(policy)
        await stations.service.consume(bus)
        await asyncio.gather(*(bus.publish(one) for one in part), kill_often())
        await eventually(partial(handled, count))
        await bus.close()
    assert stations.rows("SELECT DISTINCT revision FROM stations.connector_state WHERE revision > 0") == [(40,)]
    assert stations.rows("SELECT count(*) FROM stations.reservation") == [(40,)]
