"""Which session came of which request, found out from the events of streams.

A session is the request's whose id the station named it by; else of those that began at the connector in the request's
time it is the first. That is decided again with everything that is heard, so it does not depend on the order in which
events come. What was told and is no more so is withdrawn (schemas.events.SessionAssigned).
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

from api.sessions import request_store as store
from api.sessions.events import session_assigned, stop_requested
from api.sessions.request_store import SCHEMA, ObservedSession, RequestMatch
from kit.clock import Clock, parse_rfc3339
from kit.errors import Unprocessable
from kit.messaging.consumer import Delivered, EventContext
from kit.messaging.outbox import OutboxEvent, Transaction, insert_async
from schemas.events import Event, SessionCompleted, SessionStarted

DRIVER_PREFIX: Final = "driver/"  # of Request.stop_requested_by, where the driver did it


class Assignment:
    """The handlers of the events; each works in the transaction it is given."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    async def started(self, connection: Transaction, batch: Sequence[Delivered[Event[SessionStarted]]]) -> None:
        """session.started.v1, of different sessions."""
        news = [(one.event.payload, one.told) for one in batch]
        await self._hear(connection, [(_heard(said, _moment(said.started_at), None, 0), told) for said, told in news])

    async def completed(self, connection: Transaction, batch: Sequence[Delivered[Event[SessionCompleted]]]) -> None:
        """session.completed.v1, of different sessions. What they say of the start may have moved with late readings:
        their started decides."""
        news = [(one.event.payload, one.told) for one in batch]
        await self._hear(
            connection, [(_heard(said, None, _moment(said.ended_at), said.revision), told) for said, told in news]
        )

    async def _hear(self, connection: Transaction, news: Sequence[tuple[ObservedSession, EventContext]]) -> None:
        heard = [one for one, _ in news]
        await store.lock(connection, [store.connector_lock(one.station_id, one.connector_id) for one in heard])
        claims = await store.hear(connection, heard)
        if not claims:
            return
        numbers = await store.assign(connection, claims)
        told = {one.id: told for one, told in news}
        await insert_async(connection, SCHEMA, _news(claims, numbers, self._clock.now(), told))


def _heard(
    said: SessionStarted | SessionCompleted, started_at: datetime | None, ended_at: datetime | None, revision: int
) -> ObservedSession:
    place = (said.station_id, said.connector_id)
    return ObservedSession(
        said.id, *place, said.session_id, started_at, ended_at, revision, named_request(said.session_id)
    )


def named_request(name: str | None) -> UUID | None:
    """The id of a request that a station may have named its session by. As it was told, but for case."""
    try:
        id_ = UUID(name or "")
    except ValueError:
        return None
    return id_ if name is not None and str(id_) == name.lower() else None


def _news(
    claims: Sequence[RequestMatch], numbers: dict[UUID, int], now: datetime, told: dict[UUID, EventContext]
) -> list[OutboxEvent]:
    """What is to be told of assignments that changed; a session that goes from one request to another is only given."""
    news = []
    given = {claim.session_id for claim in claims if claim.session_id in numbers}
    for request, session_id, ended_at, heard_id in claims:
        left = request.session_id
        if left is not None and left in numbers and left not in given:
            news.append(session_assigned(request, left, numbers[left], now, told[heard_id], withdrawn=True))
        if session_id is None or session_id not in numbers:
            continue
        news.append(session_assigned(request, session_id, numbers[session_id], now, told[heard_id]))
        if request.stop_requested_by is not None and ended_at is None:
            # The stop came first; now that there is a session, it is that which is to be stopped.
            driver_id = request.driver_id if request.stop_requested_by.startswith(DRIVER_PREFIX) else None
            place = (request.station_id, request.connector_id, driver_id)
            news.append(stop_requested(request.id, session_id, *place, now, told[heard_id]))
    return news


def _moment(text: str) -> datetime:
    try:
        return parse_rfc3339(text)
    except ValueError as error:
        raise Unprocessable(f"{text!r} is {error}") from error
