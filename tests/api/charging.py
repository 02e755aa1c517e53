"""The sessions' service without HTTP: wishes and events in, what it knows and what it told out."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4, uuid5

import msgspec
from api.queries import ROLE as READER_ROLE
from api.sessions.composition import ROLE, consume_sessions

from api.sessions.models import Requested, Start, StopRequested
from api.sessions.request_store import SCHEMA, Request, RequestStore
from api.sessions.requests import Charging
from api.sessions.service import Found
from api.sessions.store import SessionStore
from kit.clock import ManualClock, format_rfc3339
from kit.database.postgres import Database, open_database
from kit.messaging.bus import DIRECT, EVENT_ID, InProcessBus, Message
from kit.retry import RetryPolicy
from schemas.events import Envelope, Event, EventMetadata, SessionAssigned, SessionCompleted, SessionStarted
from schemas.topics import SESSION_ASSIGNED, SESSION_COMPLETED, SESSION_STARTED

NAMESPACE = UUID("00000000-0000-4000-8000-000000000001")
TABLES = ("request", "session", "stop", "outbox", "events_processed", "idempotency")
_POLICY = RetryPolicy.model_validate({"default": {"first_s": 0.01, "ceiling_s": 0.02, "attempts_max": 2}})
_ASSIGNED = msgspec.json.Decoder(Event[SessionAssigned])


@dataclass(frozen=True)
class Telling:
    """A session of streams, by which its events are told."""

    id: UUID
    started_at: datetime
    name: str | None = None
    named_late: bool = False  # its started does not know the name
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

    def completed(self, revision: int = 1) -> Message:
        """session.completed.v1; the end moves with the revision, and the start, which is not to matter."""
        payload = SessionCompleted(
            id=self.id,
            station_id=self.station_id,
            connector_id=self.connector_id,
            session_id=self.name,
            started_at=format_rfc3339(self.started_at - timedelta(minutes=revision)),
            ended_at=format_rfc3339(self.ended_at(revision)),
            end_reason="ended",
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


@dataclass
class InvoicePoster:
    """The service at work."""

    database: Database
    clock: ManualClock
    bus: InProcessBus
    charging: Charging
    sessions: SessionStore
    requests: RequestStore

    async def start(
        self, driver_id: str = "D1", station_id: str = "ST-1", connector_id: int = 1, reservation_id: str | None = None
    ) -> Requested:
        """A wish. Raises Conflict."""
        wish = Start(station_id=station_id, connector_id=connector_id, reservation_id=reservation_id)
        async with self.database.transaction() as connection:
            return await self.charging.start(connection, wish, driver_id, f"driver/{driver_id}")

    async def stop(self, id_: UUID, driver_id: str | None = "D1") -> StopRequested:
        """A wish to stop what is of this id."""
        request = await self.requests.by_id(id_)
        row = await self.sessions.by_id(id_)
        actor = "operator/1" if driver_id is None else f"driver/{driver_id}"
        async with self.database.transaction() as connection:
            return await self.charging.stop(connection, Found(row, request), driver_id, actor)

    async def tell(self, *messages: Message) -> None:
        """Deliver them one after the other."""
        for one in messages:
            await self.bus.publish(one)

    async def tell_at_once(self, *messages: Message) -> None:
        """Deliver them all at the same time."""
        await asyncio.gather(*(self.bus.publish(one) for one in messages))

    async def request(self, id_: UUID) -> Request:
        """The request of that id."""
        found = await self.requests.by_id(id_)
        assert found is not None
        return found

    async def events(self) -> list[Envelope]:
        """What it has told, in order."""
        rows = await self.database.fetch("SELECT body FROM charging.outbox ORDER BY id")
        return [msgspec.json.decode(row[0], type=Envelope) for row in rows]

    async def told(self) -> list[tuple[str, dict[str, Any]]]:
        """Type and payload of what it has told, in order."""
        return [(event.metadata.type, event.payload) for event in await self.events()]

    async def owners(self) -> dict[UUID, UUID]:
        """Session -> request by the assignments it has told: of each session the highest revision counts."""
        rows = await self.database.fetch("SELECT body FROM charging.outbox WHERE routing_key = 'session.assigned'")
        assigned = [_ASSIGNED.decode(row[0]) for row in rows]
        assert all(event.metadata.type == SESSION_ASSIGNED for event in assigned)
        said = sorted((event.payload for event in assigned), key=lambda payload: payload.revision)
        newest = {payload.session_id: payload for payload in said}
        numbers = [(payload.session_id, payload.revision) for payload in said]
        assert len(set(numbers)) == len(numbers), "two events say the same revision of a session"
        return {id_: payload.request_id for id_, payload in newest.items() if not payload.withdrawn}

    async def bound(self) -> dict[UUID, UUID]:
        """Session -> request by its table."""
        rows = await self.database.fetch("SELECT session_id, id FROM charging.request WHERE session_id IS NOT NULL")
        return {row[0]: row[1] for row in rows}

    async def empty(self) -> None:
        """As on its first day."""
        for table in TABLES:
            await self.database.execute(f"DELETE FROM {SCHEMA}.{table}")


@asynccontextmanager
async def desk(url: str, now: datetime) -> AsyncIterator[InvoicePoster]:
    """The service on a database that has its tables and those of telemetry."""
    clock = ManualClock(now)
    database = await open_database(url, name="sessions", role=ROLE, connections_max=8)
    reader = await open_database(url, name="queries", role=READER_ROLE, connections_max=4)
    bus = InProcessBus(_POLICY, sleep=lambda _: asyncio.sleep(0))
    sessions = SessionStore(reader)
    try:
        await consume_sessions(bus, database, clock)
        yield InvoicePoster(database, clock, bus, Charging(sessions, clock), sessions, RequestStore(database))
    finally:
        await bus.close()
        await database.close()
        await reader.close()


def session(started_at: datetime, **more: Any) -> Telling:
    """A session of streams with an id of its own."""
    return Telling(uuid4(), started_at, **more)
