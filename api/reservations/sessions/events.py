"""What charging sessions mean for reservations: the handlers of session.started.v1, .completed.v1
and .assigned.v1.

A session at a reserved connector is the driver's if they asked to start it (`reservations.claim` noted the request in
the transaction of the request, so before the station knew of it); any other is somebody else's.
"""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

from api.reservations.life import store
from api.reservations.life.lifecycle import OCCUPIED, Lifecycle
from api.reservations.life.rule import ChargingBegan, Reservation
from api.reservations.parking.service import ParkingService
from api.reservations.sessions import store as session_store
from kit.clock import Clock
from kit.database.postgres import Database
from kit.errors import Overloaded
from kit.messaging.consumer import moment_of
from kit.messaging.outbox import Transaction
from kit.observability.logs import get_logger
from schemas.events import Event, SessionAssigned, SessionCompleted, SessionStarted

EXTEND: Final = timedelta(minutes=15)  # a session that lasts longer than expected claims so much more at a time
AHEAD: Final = timedelta(minutes=5)  # before its claim ends
BATCH: Final = 200

_log = get_logger(__name__)


class SessionEvents:
    """The handlers; each works in the transaction that it is given."""

    def __init__(
        self, lifecycle: Lifecycle, parking: ParkingService, clock: Clock, expected: Callable[[], timedelta]
    ) -> None:
        """`expected`: how long a session is expected to last."""
        self._lifecycle = lifecycle
        self._parking = parking
        self._clock = clock
        self._expected = expected

    async def started(self, connection: Transaction, event: Event[SessionStarted]) -> None:
        """Handle session.started.v1: the driver uses the reservation, or another vehicle is in its way."""
        session, now = event.payload, self._clock.now()
        began_at = moment_of(session.started_at)
        place = await session_store.connector(connection, session.station_id, session.connector_id)
        over = await session_store.started(connection, session.id, place, began_at, now)
        if over is None:
            return
        until = now + self._expected()
        claiming = await store.claiming(connection, [place.key])
        own = next((one for one in claiming if _is_of(session, one, began_at)), None)
        if own is not None:
            await self._lifecycle.apply(connection, own, ChargingBegan(began_at, session.id))
            until = max(own.ends_at, now + EXTEND)
        elif not over:
            for reservation in claiming:
                if reservation.starts_at <= now < reservation.ends_at:
                    await self._lifecycle.lose(connection, reservation, OCCUPIED)
        if not over:
            await session_store.end_start_requests(connection, place)
            await session_store.claim_for_session(connection, session.id, place, now, until)
        await self._parking.observe(connection, [place.station_id])

    async def assigned(self, connection: Transaction, event: Event[SessionAssigned]) -> None:
        """Handle session.assigned.v1: it is known whose vehicle stands there."""
        session = event.payload
        driver_id = None if session.withdrawn else session.driver_id
        now = self._clock.now()
        station_id = await session_store.assigned(connection, session.session_id, driver_id, session.revision, now)
        if station_id is not None:
            await self._parking.observe(connection, [station_id])

    async def completed(self, connection: Transaction, event: Event[SessionCompleted]) -> None:
        """Handle session.completed.v1: the connector is free again."""
        session = event.payload
        place = await session_store.connector(connection, session.station_id, session.connector_id)
        ended_at, now = moment_of(session.ended_at), self._clock.now()
        await session_store.ended(connection, session.id, place, ended_at, session.revision, now)
        await store.give_back(connection, session.id)
        await self._parking.observe(connection, [place.station_id])

    async def extend(self, database: Database) -> None:
        """Sessions that last longer than expected keep their connectors. A job."""
        try:
            async with database.transaction() as connection:
                now = self._clock.now()
                until = now + AHEAD + EXTEND
                for session in await session_store.unclaimed(connection, now + AHEAD, BATCH):
                    await session_store.claim_for_session(connection, session.id, session.place, now, until)
        except Overloaded as error:  # the next run finds them again
            _log.warning("sessions_postponed", error=str(error))

    async def forget_old(self, database: Database) -> None:
        """Delete what no event can concern any more. A job."""
        async with database.transaction() as connection:
            await session_store.forget_old(connection, self._clock.now())


def _is_of(session: SessionStarted, reservation: Reservation, began_at: datetime) -> bool:
    """Whether the driver of the reservation asked for the session: the station names it by the request, or it began
    before the request expired."""
    if reservation.request_id is None or reservation.request_until is None:
        return False
    if session.session_id is not None and session.session_id.lower() == str(reservation.request_id):
        return True
    return began_at <= reservation.request_until + store.SESSION_SKEW
