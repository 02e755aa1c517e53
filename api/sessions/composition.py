"""What a process needs to run the sessions' service: its tables and role, its routes, its consumers, its tidying."""

from pathlib import Path
from typing import Final
from uuid import UUID

import msgspec
from fastapi import FastAPI

from api.sessions.assignment import Assignment
from api.sessions.request_store import SCHEMA, RequestStore, forget_unasked
from api.sessions.requests import Charging
from api.sessions.routes import SessionRoutes
from api.sessions.service import SessionService
from api.sessions.store import SessionStore
from kit.clock import Clock
from kit.database.migrations import Migrations
from kit.database.postgres import Database, Grant
from kit.messaging import inbox
from kit.messaging.bus import Bus
from kit.messaging.consumer import ConsumerMetrics, Source, consume_batches
from kit.web import idempotency
from schemas.events import Event, SessionCompleted, SessionStarted
from schemas.topics import SESSION_COMPLETED, SESSION_STARTED, group_queue, routing_key

MIGRATIONS: Final = Migrations("charging", Path(__file__).parent / "migrations")
ROLE: Final = "charging_service"
GRANT: Final = Grant(role=ROLE, schema=SCHEMA)
GROUP: Final = "sessions"
_PREFETCH: Final = 256  # of each queue: half of it is the batch at work, the other half the next; one connection each


def mount_sessions(app: FastAPI, telemetry: Database, charging: Database, clock: Clock) -> SessionService:
    """Add the routes to `app`, whose `state.authenticator` says who asks; the service behind them.

    `telemetry` works as the role that may read streams' tables (api.queries.ROLE), `charging` as ROLE.
    """
    sessions = SessionStore(telemetry)
    service = SessionService(sessions, RequestStore(charging), clock)
    app.include_router(SessionRoutes(service, Charging(sessions, clock), charging).router())
    return service


async def consume_sessions(bus: Bus, database: Database, clock: Clock, metrics: ConsumerMetrics | None = None) -> None:
    """Subscribe to what streams tells of sessions; `database` works as ROLE. Raises Unavailable."""
    assignment = Assignment(clock)
    await consume_batches(
        bus,
        database,
        _source(SESSION_STARTED),
        schema=SCHEMA,
        decode=msgspec.json.Decoder(Event[SessionStarted]).decode,
        key=_session_of,
        handle=assignment.started,
        metrics=metrics,
    )
    await consume_batches(
        bus,
        database,
        _source(SESSION_COMPLETED),
        schema=SCHEMA,
        decode=msgspec.json.Decoder(Event[SessionCompleted]).decode,
        key=_session_of,
        handle=assignment.completed,
        metrics=metrics,
    )


async def tidy_sessions(database: Database) -> None:
    """Delete what nobody will ask for again. To be called once a day or so. Raises Unavailable."""
    async with database.transaction() as connection:
        await inbox.forget_old(connection, SCHEMA)
        await idempotency.forget_old(connection, SCHEMA)
        await forget_unasked(connection)


def _session_of(event: Event[SessionStarted] | Event[SessionCompleted]) -> UUID:
    return event.payload.id


def _source(event_type: str) -> Source:
    return Source(group_queue(GROUP, event_type), routing_key(event_type), prefetch=_PREFETCH)
