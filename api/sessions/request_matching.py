"""Matches sessions to requests, from the events of streams.

A session whose id is a request's id belongs to that request; otherwise the first session that starts at the connector
within the request's time window does. Matches are derived again from all observations with every event, so they do not
depend on the order in which events arrive. A published assignment that no longer holds is withdrawn
(schemas.events.SessionAssigned), also because streams has withdrawn the session itself.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

from api.sessions import request_store as store
from api.sessions.events import session_assigned, stop_requested
from api.sessions.request_store import SCHEMA, ObservedSession, RequestMatch
from kit.clock import Clock
from kit.messaging.consumer import Delivered, EventContext, moment_of
from kit.messaging.outbox import OutboxEvent, Transaction, insert_async
from schemas.events import Event, SessionCompleted, SessionStarted
from schemas.session import END_REASON_NAMES, EndReason

DRIVER_PREFIX: Final = "driver/"  # of StoredRequest.stop_requested_by, where the driver did it


class RequestMatcher:
    """The handlers of the events; each works in the transaction that it is given."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    async def started(self, connection: Transaction, batch: Sequence[Delivered[Event[SessionStarted]]]) -> None:
        """Handle session.started.v1 of different sessions."""
        observed = [_observed(one.event.payload, started_at=one.event.payload.started_at) for one in batch]
        await self._record(connection, observed, _contexts(batch))

    async def completed(self, connection: Transaction, batch: Sequence[Delivered[Event[SessionCompleted]]]) -> None:
        """Handle session.completed.v1 of different sessions. Late readings may have moved their start since it was
        published: the start in session.started.v1 decides."""
        observed = [
            _observed(
                one.event.payload,
                ended_at=one.event.payload.ended_at,
                revision=one.event.payload.revision,
                withdrawn=one.event.payload.end_reason == END_REASON_NAMES[EndReason.WITHDRAWN],
            )
            for one in batch
        ]
        await self._record(connection, observed, _contexts(batch))

    async def _record(
        self, connection: Transaction, observed: Sequence[ObservedSession], contexts: Mapping[UUID, EventContext]
    ) -> None:
        await store.lock(connection, [store.connector_lock(one.station_id, one.connector_id) for one in observed])
        matches = await store.record_observations(connection, observed)
        if not matches:
            return
        revisions = await store.assign(connection, matches)
        events = _events(matches, revisions, self._clock.now(), contexts)
        await insert_async(connection, SCHEMA, events)


def _contexts(
    batch: Sequence[Delivered[Event[SessionStarted]]] | Sequence[Delivered[Event[SessionCompleted]]],
) -> dict[UUID, EventContext]:
    return {one.event.payload.id: one.context for one in batch}


def _observed(
    payload: SessionStarted | SessionCompleted,
    *,
    started_at: str | None = None,
    ended_at: str | None = None,
    revision: int = 0,
    withdrawn: bool = False,
) -> ObservedSession:
    return ObservedSession(
        id=payload.id,
        station_id=payload.station_id,
        connector_id=payload.connector_id,
        name=payload.session_id,
        started_at=_moment(started_at),
        ended_at=_moment(ended_at),
        revision=revision,
        withdrawn=withdrawn,
        names=request_id_in_session_name(payload.session_id),
    )


def request_id_in_session_name(name: str | None) -> UUID | None:
    """The request's id where the station named its session by one: as it was given to it, in upper or lower case."""
    try:
        id_ = UUID(name or "")
    except ValueError:
        return None
    return id_ if name is not None and str(id_) == name.lower() else None


def _events(
    matches: Sequence[RequestMatch],
    revisions: Mapping[UUID, int],
    now: datetime,
    contexts: Mapping[UUID, EventContext],
) -> list[OutboxEvent]:
    """The events of assignments that changed. A session that goes from one request to another is assigned to the new
    one, and not withdrawn from the old one."""
    events = []
    assigned = {match.session_id for match in matches if match.session_id in revisions}
    for request, session_id, ended_at, observed_id in matches:
        context = contexts[observed_id]
        left = request.session_id
        if left is not None and left in revisions and left not in assigned:
            events.append(session_assigned(request, left, revisions[left], now, context, withdrawn=True))
        if session_id is None or session_id not in revisions:
            continue
        events.append(session_assigned(request, session_id, revisions[session_id], now, context))
        if request.stop_requested_by is not None and ended_at is None:
            # The stop was requested before there was a session; now the session is to be stopped.
            driver_id = request.driver_id if request.stop_requested_by.startswith(DRIVER_PREFIX) else None
            place = (request.station_id, request.connector_id, driver_id)
            events.append(stop_requested(request.id, session_id, *place, now, context))
    return events


def _moment(text: str | None) -> datetime | None:
    return None if text is None else moment_of(text)
