"""Requests to start and to stop charging, and the events that publish them. No HTTP and no SQL here.

Each works in the caller's transaction, so that the record of the response (kit.web.idempotency) is committed with it.
"""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID, uuid4

from api.sessions import request_store as store
from api.sessions.events import session_requested, stop_requested
from api.sessions.models import SessionRequest, SessionRequestAccepted, SessionState, StopAccepted
from api.sessions.request_store import EXPIRY, SCHEMA, StoredRequest
from api.sessions.responses import state_of
from api.sessions.service import Found
from api.sessions.store import SessionStore
from kit.auth.station_filter import EVERY_STATION, StationFilter
from kit.clock import Clock
from kit.messaging.consumer import current_event_context
from kit.messaging.outbox import Transaction, insert_async
from kit.web.errors import Conflict
from schemas.session import END_REASON_NAMES


class RequestService:
    """The use cases, one method each."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    async def start(
        self,
        connection: Transaction,
        new: SessionRequest,
        driver_id: str,
        requested_by: str,
        only: StationFilter = EVERY_STATION,
    ) -> SessionRequestAccepted:
        """Store and publish the request. Raises Conflict where the driver or the connector has a request or a session
        open, or the connector is reserved for another driver. One at the driver's reserved connector uses the
        reservation, whether or not it names it. `only`: the stations of which the caller is told."""
        sessions, place = SessionStore(connection), (new.station_id, new.connector_id)
        await store.lock(connection, [store.driver_lock(driver_id)])
        await store.lock(connection, [store.connector_lock(*place)])
        now = self._clock.now()
        own = await _running(sessions, await store.unsettled_of_driver(connection, driver_id, now))
        if own:
            seen = await sessions.sees(only, own[0].station_id)
            what = _described(own[0]) if seen else "a request or a session open at another station"
            raise Conflict(f"driver {driver_id} has {what}; stop it first")
        others = await _running(sessions, await store.unsettled_at(connection, *place, now))
        if others or await sessions.open_at(*place):
            where = f"connector {new.connector_id} of station {new.station_id}"
            raise Conflict(f"{where} is in use; choose another, or try again once it is free")
        request = StoredRequest(
            id=uuid4(),
            driver_id=driver_id,
            station_id=new.station_id,
            connector_id=new.connector_id,
            reservation_id=new.reservation_id,
            requested_at=now,
            expires_at=now + EXPIRY,
            session_id=None,
            completed_at=None,
            stop_requested_at=None,
            stop_requested_by=None,
        )
        reservation_id, refused = await store.claim_connector(connection, request)
        if refused is not None:
            if only.is_limited and new.reservation_id is not None:  # which may be at a station of others
                refused = f"reservation {new.reservation_id} is not for this driver and connector now"
            raise Conflict(refused)
        request = request._replace(reservation_id=reservation_id)
        await store.add(connection, request, requested_by)
        await insert_async(connection, SCHEMA, [session_requested(request, current_event_context())])
        return SessionRequestAccepted(
            request_id=request.id,
            state=SessionState.REQUESTED,
            station_id=request.station_id,
            connector_id=request.connector_id,
            driver_id=driver_id,
            reservation_id=request.reservation_id,
            requested_at=request.requested_at,
            expires_at=request.expires_at,
        )

    async def stop(
        self, connection: Transaction, found: Found, driver_id: str | None, requested_by: str
    ) -> StopAccepted:
        """Store and publish the stop once; not where the session is over. `driver_id` None: an operator asks.

        A request of which no session came so far expires.
        """
        place = found.place
        await store.lock(connection, [store.connector_lock(*place)])
        over = found.row is not None and found.row["end_reason"] in END_REASON_NAMES
        if found.request is None:
            return await self._stop_without_request(connection, found, over, requested_by)
        request = await store.fresh(connection, found.request.id)
        now = self._clock.now()
        state = SessionState.COMPLETED if over else state_of(request, now)
        if state in (SessionState.REQUESTED, SessionState.OPEN) and request.stop_requested_at is None:
            await store.stop(connection, request.id, now, requested_by)
            event = stop_requested(request.id, request.session_id, *place, driver_id, now, current_event_context())
            await insert_async(connection, SCHEMA, [event])
            request = await store.fresh(connection, request.id)
            state = state_of(request, now)
        return _stopped(request.session_id, request.id, state, request.stop_requested_at)

    async def _stop_without_request(
        self, connection: Transaction, found: Found, over: bool, requested_by: str
    ) -> StopAccepted:
        assert found.row is not None  # noqa: S101  # it is a session or a request
        session_id: UUID = found.row["id"]
        if over:
            return _stopped(session_id, None, SessionState.COMPLETED, None)
        now = self._clock.now()
        since = await store.stop_without_request(connection, session_id, now, requested_by)
        if since is None:
            event = stop_requested(None, session_id, *found.place, None, now, current_event_context())
            await insert_async(connection, SCHEMA, [event])
        return _stopped(session_id, None, SessionState.OPEN, since or now)


async def _running(sessions: SessionStore, unsettled: Sequence[StoredRequest]) -> list[StoredRequest]:
    """Without those whose session is over, also where its event has not come here yet."""
    rows = await sessions.by_ids([request.session_id for request in unsettled if request.session_id])
    over = {id_ for id_, row in rows.items() if row["end_reason"] in END_REASON_NAMES}
    return [request for request in unsettled if request.session_id not in over]


def _stopped(
    session_id: UUID | None, request_id: UUID | None, state: SessionState, since: datetime | None
) -> StopAccepted:
    return StopAccepted(id=session_id, request_id=request_id, state=state, stop_requested_at=since)


def _described(request: StoredRequest) -> str:
    if request.session_id is None:
        return f"the request {request.id} open"
    return f"the session {request.session_id} running"
