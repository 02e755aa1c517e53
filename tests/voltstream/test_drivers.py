"""A driver as the README has it, at the simulated fleet of `up`: start, see what it costs, stop, and the invoice."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import msgspec
import pytest
from prometheus_client import CollectorRegistry

from kit.clock import SystemClock, format_rfc3339
from kit.messaging.bus import DIRECT, Bus, InProcessBus, Message
from kit.messaging.rabbit_bus import RabbitBus
from kit.retry import load_retry_policy
from schemas.events import SessionRequested, SessionStopRequested, envelope_of
from schemas.topics import SESSION_REQUESTED, SESSION_STOP_REQUESTED
from tests.simulator.http_sink import Sink, serving
from tests.voltstream.platform import Up, up, voltstream
from tests.waiting import eventually
from voltstream.runtime.simulated_fleet import CONNECTORS, SimulatedFleet

DRIVER = "D-4711"


LEAST_PAYABLE = 0.01  # less is owed to nobody, and not invoiced


class Driver:
    """Somebody with a token of theirs."""

    def __init__(self, platform: Up, data_dir: Path) -> None:
        issued = voltstream("token", "issue", "--kind", "driver", "--subject", DRIVER, "--data-dir", str(data_dir))
        assert str(data_dir) in issued.stderr
        headers = {"Authorization": f"Bearer {issued.stdout.strip()}"}
        self._client = httpx.Client(base_url=platform.api, headers=headers, timeout=30, trust_env=False)

    def close(self) -> None:
        self._client.close()

    def start(self, connector: dict[str, Any]) -> str:
        """The id of the request."""
        place = {name: connector[name] for name in ("station_id", "connector_id")}
        answer = self._client.post("/api/v1/sessions", json=place, headers={"Idempotency-Key": "any-text-of-yours"})
        assert answer.status_code == 202, answer.text
        return str(answer.json()["request_id"])

    def stop(self, request_id: str) -> None:
        assert self._client.post(f"/api/v1/sessions/{request_id}/stop").status_code == 202

    def session(self, request_id: str) -> dict[str, Any]:
        answer = self._client.get(f"/api/v1/sessions/{request_id}")
        assert answer.status_code == 200, answer.text
        session: dict[str, Any] = answer.json()
        return session

    def invoices(self) -> list[dict[str, Any]]:
        invoices: list[dict[str, Any]] = self._client.get("/api/v1/billing/invoices").json()["invoices"]
        return invoices


def free_connector(platform: Up) -> dict[str, Any]:
    """As the README finds one."""
    for connector in platform.get("/api/v1/telemetry/live")["connectors"]:
        if connector["status"] == "Available" and connector["session"] is None:
            found: dict[str, Any] = connector
            return found
    raise AssertionError("the fleet has a free connector")


@pytest.mark.usefixtures("processes")
async def test_a_driver_charges_at_the_simulated_fleet_and_is_invoiced(
    data_dir: Path, request: pytest.FixtureRequest
) -> None:
    with up(data_dir, "--stations", "5", "--rate", "20", invoice_settle_s="0") as platform:
        await eventually(lambda: platform.get("/api/v1/telemetry/live")["total"]["connectors"] == 10, within_s=60)
        driver, connector = Driver(platform, data_dir), free_connector(platform)
        request.addfinalizer(driver.close)
        request_id = driver.start(connector)
        await eventually(lambda: driver.session(request_id)["state"] == "open", within_s=60)
        running = driver.session(request_id)
        assert (running["session_id"], running["driver_id"]) == (request_id, DRIVER)
        assert (running["station_id"], running["connector_id"]) == (connector["station_id"], connector["connector_id"])

        def costs_something() -> bool:
            session = driver.session(request_id)
            return session["energy_wh"] > 0 and float(session["cost_incl_vat"] or 0) >= LEAST_PAYABLE

        await eventually(costs_something, within_s=90)
        driver.stop(request_id)
        await eventually(lambda: driver.session(request_id)["state"] == "completed", within_s=60)
        assert driver.session(request_id)["end_reason"] == "ended"
        await eventually(lambda: bool(driver.invoices()), within_s=60)
        (invoice,) = driver.invoices()
        assert invoice["driver_id"] == DRIVER
        assert invoice["session_id"] == driver.session(request_id)["id"]
        reconciled = voltstream(
            "billing", "reconcile", "--from", "2026-01-01", "--to", "2199-12-31", "--json", data_dir=str(data_dir)
        )
        assert reconciled.returncode == 0, reconciled.stderr  # it found the address in the data folder
        assert json.loads(reconciled.stdout)["agrees"] is True
        assert platform.stop()[0] == 0


@dataclass
class Street:
    """A simulated fleet that sends into a sink, and the bus that requests come by."""

    sink: Sink
    bus: Bus

    async def publish(self, event_type: str, payload: msgspec.Struct) -> None:
        """Returns once the fleet has handled it."""
        event = envelope_of(event_type, uuid4(), payload, source="test", timestamp=now())
        await self.bus.publish(Message(DIRECT, event.routing_key, event.encoded()))

    async def request(self, request_id: UUID, station_id: str = "SIM-000000", *, age_s: float = 0) -> None:
        requested = SessionRequested(
            request_id=request_id,
            station_id=station_id,
            connector_id=1,
            driver_id=DRIVER,
            reservation_id=None,
            requested_at=now(age_s),
        )
        await self.publish(SESSION_REQUESTED, requested)

    async def stop(self, request_id: UUID | None, session_id: UUID | None = None) -> None:
        stopped = SessionStopRequested(
            request_id=request_id,
            session_id=session_id,
            station_id="SIM-000000",
            connector_id=1,
            driver_id=None,
            requested_at=now(),
        )
        await self.publish(SESSION_STOP_REQUESTED, stopped)

    def events(self, session_id: UUID | None = None) -> list[str]:
        """What SIM-000000/1 has said of the session (None: of any), in order."""
        return [
            reading["session_event"]
            for body in self.sink.bodies
            for reading in json.loads(body)
            if (reading["station_id"], reading["connector_id"]) == ("SIM-000000", 1)
            and "session_event" in reading
            and session_id in (None, UUID(reading["session_id"]))
        ]

    async def ticks(self, count: int = 3) -> None:
        """Until that many more readings of the connector are sent."""
        wanted = len(self.sink.bodies) + count * CONNECTORS
        await eventually(lambda: len(self.sink.bodies) >= wanted, within_s=60)


def now(age_s: float = 0) -> str:
    return format_rfc3339(SystemClock().now() - timedelta(seconds=age_s))


@pytest.fixture
async def street() -> AsyncIterator[Street]:
    """On the in-process bus."""
    async with a_street(InProcessBus(load_retry_policy())) as street:
        yield street


@asynccontextmanager
async def a_street(bus: Bus) -> AsyncIterator[Street]:
    """One station; its first connector is free to begin with: the fleet's seed is fixed. Closes the bus."""
    async with serving(Sink()) as sink:
        fleet = SimulatedFleet(1, 200.0, SystemClock(), CollectorRegistry())
        await fleet.consume(bus)
        running = asyncio.create_task(fleet.run(sink.url, "vsd_x"))
        try:
            await eventually(lambda: bool(sink.bodies), within_s=60)
            yield Street(sink, bus)
        finally:
            running.cancel()
            await asyncio.wait((running,))
            await bus.close()


async def test_a_request_starts_a_session_of_its_name_and_a_stop_ends_it(street: Street) -> None:
    request_id = uuid4()
    await street.request(request_id)
    await eventually(lambda: "Updated" in street.events(request_id), within_s=60)
    await street.stop(request_id)
    await eventually(lambda: "Ended" in street.events(request_id), within_s=60)
    events = street.events(request_id)
    assert (events[0], events[-1], events.count("Started"), events.count("Ended")) == ("Started", "Ended", 1, 1)


async def test_requests_come_over_rabbitmq_too(rabbitmq_url: str) -> None:
    bus = RabbitBus(rabbitmq_url, load_retry_policy(), name="test")
    bus.start()
    await bus.wait_ready(60)
    async with a_street(bus) as street:
        request_id = uuid4()
        await street.request(request_id)
        await eventually(lambda: "Updated" in street.events(request_id), within_s=60)
        await street.stop(request_id)
        await eventually(lambda: "Ended" in street.events(request_id), within_s=60)


async def test_an_operator_stops_whichever_session_runs_there(street: Street) -> None:
    request_id = uuid4()
    await street.request(request_id)
    await eventually(lambda: "Updated" in street.events(request_id), within_s=60)
    await street.stop(None, uuid4())
    await eventually(lambda: "Ended" in street.events(request_id), within_s=60)


async def test_a_delivery_that_is_repeated_starts_nothing_again(street: Street) -> None:
    request_id = uuid4()
    await street.request(request_id)
    await eventually(lambda: "Started" in street.events(request_id), within_s=60)
    await street.stop(request_id)
    await eventually(lambda: "Ended" in street.events(request_id), within_s=60)
    await street.request(request_id)
    await street.ticks()
    assert street.events(request_id)[-1] == "Ended"


async def test_old_requests_and_those_of_other_stations_are_ignored(street: Street) -> None:
    old, elsewhere = uuid4(), uuid4()
    await street.request(old, age_s=16 * 60)
    await street.request(elsewhere, "DE*VLT*E1")
    await street.stop(uuid4())
    await street.ticks()
    assert street.events() == []


async def test_a_second_request_of_a_connector_in_use_is_ignored(street: Street) -> None:
    first, second = uuid4(), uuid4()
    await street.request(first)
    await street.request(second)
    await street.stop(second)
    await street.ticks()
    assert street.events(first)
    assert "Ended" not in street.events(first)
    assert street.events(second) == []


async def test_a_request_whose_moment_cannot_be_read_is_a_dead_letter(street: Street) -> None:
    requested = SessionRequested(
        request_id=uuid4(),
        station_id="SIM-000000",
        connector_id=1,
        driver_id=DRIVER,
        reservation_id=None,
        requested_at="yesterday",
    )
    await street.publish(SESSION_REQUESTED, requested)
    assert isinstance(street.bus, InProcessBus)
    assert len(street.bus.dead_letters("simulator_session_requested")) == 1


async def test_without_a_running_fleet_requests_change_nothing() -> None:
    bus = InProcessBus(load_retry_policy())
    fleet = SimulatedFleet(1, 200.0, SystemClock(), CollectorRegistry())
    await fleet.consume(bus)
    street = Street(Sink(), bus)
    await street.request(uuid4())
    await street.stop(uuid4())
    await bus.close()
    assert bus.dead_letters("simulator_session_requested") == []
