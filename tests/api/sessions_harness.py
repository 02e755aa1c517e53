"""The sessions service without HTTP: requests and events go in, its tables and its events are read."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4, uuid5

import msgspec

from api.sessions.components import SessionsComponents
from api.sessions.declaration import SERVICE
from api.sessions.models import SessionRequest, SessionRequestAccepted, StopAccepted
from api.sessions.request_store import SCHEMA, RequestStore, StoredRequest
from api.sessions.service import Found
from api.sessions.store import SessionStore
from kit.clock import ManualClock, format_rfc3339
from kit.messaging.bus import DIRECT, EVENT_ID, InProcessBus, Message
from kit.retry import RetryPolicy
from schemas.events import Envelope, Event, EventMetadata, SessionAssigned, SessionCompleted, SessionStarted
from schemas.topics import SESSION_ASSIGNED, SESSION_COMPLETED, SESSION_STARTED
from tests.serving import Opened, open_service

NAMESPACE = UUID("00000000-0000-4000-8000-000000000001")
TABLES = ("request", "session", "stop", "outbox", "events_processed", "idempotency")
_POLICY = RetryPolicy.model_validate({"default": {"first_s": 0.01, "ceiling_s": 0.02, "attempts_max": 2}})
_ASSIGNED = msgspec.json.Decoder(Event[SessionAssigned])


@dataclass(frozen=True)
class DeviceSession:
    """A session of a device, of which streams publishes the events."""

    id: UUID
    started_at: datetime
    name: str | None = None
    named_late: bool = False  # its session.started.v1 does not have the name
    station_id: str = "ST-1"
    connector_id: int = 1
    length_s: float = 600

    def started(self) -> Message:
        """session.started.v1"""
        payload = SessionStarted(
            id=self.id,
            station_id=self.station_id,
            connector_id=self.connector_id,
            session_id=None if self.named_late else self.name,
            started_at=format_rfc3339(self.started_at),
            revision=0,
        )
        return message(SESSION_STARTED, f"{self.id}", payload)

    def completed(self, revision: int = 1, *, withdrawn: bool = False) -> Message:
        """session.completed.v1; the end moves with the revision; so does the start, which must not matter."""
        payload = SessionCompleted(
            id=self.id,
            station_id=self.station_id,
            connector_id=self.connector_id,
            session_id=self.name,
            started_at=format_rfc3339(self.started_at - timedelta(minutes=revision)),
            ended_at=format_rfc3339(self.ended_at(revision)),
            end_reason="withdrawn" if withdrawn else "ended",
            estimated=False,
            energy_uj=0,
            energy_wh=0,
            readings=1,
            flagged=0,
            revision=revision,
        )
        return message(SESSION_COMPLETED, f"{self.id}/{revision}", payload)

    def ended_at(self, revision: int) -> datetime:
        """As that revision of the completion has it."""
        return self.started_at + timedelta(seconds=self.length_s + revision)


def message(type_: str, name: str, payload: Any) -> Message:
    """An event of streams as it comes from the bus."""
    event_id = uuid5(NAMESPACE, f"{type_}/{name}")
    metadata = EventMetadata(
        event_id=event_id,
        timestamp="2026-01-01T00:00:00.000Z",
        source="streams",
        correlation_id=str(event_id),
        type=type_,
        version=1,
    )
    envelope = Envelope(metadata, msgspec.to_builtins(payload))
    return Message(DIRECT, envelope.routing_key, msgspec.json.encode(envelope), {EVENT_ID: str(event_id)})


class SessionsHarness:
    """The service at work."""

    def __init__(self, service: Opened[SessionsComponents], clock: ManualClock, bus: InProcessBus) -> None:
        self.service = service
        self.clock = clock
        self.bus = bus
        self.database = service.database
        self.sessions = SessionStore(service.database)
        self.requests = RequestStore(service.database)

    async def start(
        self, driver_id: str = "D1", station_id: str = "ST-1", connector_id: int = 1, reservation_id: str | None = None
    ) -> SessionRequestAccepted:
        """Request to charge. Raises Conflict."""
        new = SessionRequest(station_id=station_id, connector_id=connector_id, reservation_id=reservation_id)
        async with self.database.transaction() as connection:
            return await self.service.components.requests.start(connection, new, driver_id, f"driver/{driver_id}")

    async def stop(self, id_: UUID, driver_id: str | None = "D1") -> StopAccepted:
        """Request to stop the session or request of this id."""
        request = await self.requests.by_id(id_)
        row = await self.sessions.by_id(id_)
        actor = "operator/1" if driver_id is None else f"driver/{driver_id}"
        async with self.database.transaction() as connection:
            return await self.service.components.requests.stop(connection, Found(row, request), driver_id, actor)

    async def deliver(self, *messages: Message) -> None:
        """Deliver them one after the other."""
        for one in messages:
            await self.bus.publish(one)

    async def deliver_at_once(self, *messages: Message) -> None:
        """Deliver them all at the same time."""
        await asyncio.gather(*(self.bus.publish(one) for one in messages))

    async def request(self, id_: UUID) -> StoredRequest:
        """The request of that id."""
        found = await self.requests.by_id(id_)
        assert found is not None
        return found

    async def events(self) -> list[Envelope]:
        """The events that it has published, in order."""
        rows = await self.database.fetch("SELECT body FROM sessions.outbox ORDER BY id")
        return [msgspec.json.decode(row[0], type=Envelope) for row in rows]

    async def published(self) -> list[tuple[str, dict[str, Any]]]:
        """Type and payload of its events, in order."""
        return [(event.metadata.type, event.payload) for event in await self.events()]

    async def owners(self) -> dict[UUID, UUID]:
        """Session -> request by its events: of each session the assignment of the highest revision counts."""
        rows = await self.database.fetch("SELECT body FROM sessions.outbox WHERE routing_key = 'session.assigned'")
        assigned = [_ASSIGNED.decode(row[0]) for row in rows]
        assert all(event.metadata.type == SESSION_ASSIGNED for event in assigned)
        payloads = sorted((event.payload for event in assigned), key=lambda payload: payload.revision)
        newest = {payload.session_id: payload for payload in payloads}
        numbers = [(payload.session_id, payload.revision) for payload in payloads]
        assert len(set(numbers)) == len(numbers), "two events have the same revision of a session"
        return {id_: payload.request_id for id_, payload in newest.items() if not payload.withdrawn}

    async def bound(self) -> dict[UUID, UUID]:
        """Session -> request by its table."""
        rows = await self.database.fetch("SELECT session_id, id FROM sessions.request WHERE session_id IS NOT NULL")
        return {row[0]: row[1] for row in rows}

    async def empty(self) -> None:
        """Empty its tables."""
        for table in TABLES:
            await self.database.execute(f"DELETE FROM {SCHEMA}.{table}")


@asynccontextmanager
async def sessions_harness(url: str, now: datetime) -> AsyncIterator[SessionsHarness]:
    """The service on a database that has its schema and that of telemetry."""
    clock = ManualClock(now)
    bus = InProcessBus(_POLICY, sleep=lambda _: asyncio.sleep(0))
    async with open_service(SERVICE, url, clock) as service:
        try:
            await service.consume(bus)
            yield SessionsHarness(service, clock, bus)
        finally:
            await bus.close()


def session(started_at: datetime, **more: Any) -> DeviceSession:
    """A session with an id of its own."""
    return DeviceSession(uuid4(), started_at, **more)
