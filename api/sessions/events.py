"""The events that sessions publishes. Their ids follow from their content: an event that is repeated keeps its id."""

from datetime import datetime
from typing import Any, Final
from uuid import UUID, uuid5

from api.sessions.request_store import StoredRequest
from kit.clock import format_rfc3339
from kit.messaging.consumer import EventContext
from kit.messaging.outbox import OutboxEvent
from schemas.events import SessionAssigned, SessionRequested, SessionStopRequested, envelope_of
from schemas.topics import SESSION_ASSIGNED, SESSION_REQUESTED, SESSION_STOP_REQUESTED

SOURCE: Final = "sessions"
_NAMESPACE: Final = UUID("c1f6a0de-3b1c-4d0e-9a0b-8f5f0d6b7e42")


def session_requested(request: StoredRequest, context: EventContext) -> OutboxEvent:
    """Build session.requested.v1."""
    payload = SessionRequested(
        request_id=request.id,
        station_id=request.station_id,
        connector_id=request.connector_id,
        driver_id=request.driver_id,
        reservation_id=request.reservation_id,
        requested_at=format_rfc3339(request.requested_at),
    )
    return _event(SESSION_REQUESTED, f"{request.id}", payload, request.requested_at, context)


def stop_requested(
    request_id: UUID | None,
    session_id: UUID | None,
    station_id: str,
    connector_id: int,
    driver_id: str | None,
    now: datetime,
    context: EventContext,
) -> OutboxEvent:
    """session.stop_requested.v1; where the stop came before the session, once without the session and once with it."""
    payload = SessionStopRequested(
        request_id=request_id,
        session_id=session_id,
        station_id=station_id,
        connector_id=connector_id,
        driver_id=driver_id,
        requested_at=format_rfc3339(now),
    )
    return _event(SESSION_STOP_REQUESTED, f"{request_id}/{session_id}", payload, now, context)


def session_assigned(
    request: StoredRequest,
    session_id: UUID,
    revision: int,
    now: datetime,
    context: EventContext,
    *,
    withdrawn: bool = False,
) -> OutboxEvent:
    """Build session.assigned.v1."""
    payload = SessionAssigned(
        session_id=session_id,
        request_id=request.id,
        driver_id=request.driver_id,
        reservation_id=request.reservation_id,
        revision=revision,
        withdrawn=withdrawn,
    )
    return _event(SESSION_ASSIGNED, f"{session_id}/{revision}", payload, now, context)


def _event(type_: str, name: str, payload: Any, now: datetime, context: EventContext) -> OutboxEvent:
    event_id = uuid5(_NAMESPACE, f"{type_}/{name}")
    envelope = envelope_of(
        type_,
        event_id,
        payload,
        source=SOURCE,
        timestamp=format_rfc3339(now),
        correlation_id=context.correlation_id,
        traceparent=context.traceparent,
    )
    return OutboxEvent(event_id, envelope.exchange, envelope.routing_key, envelope.encoded())
