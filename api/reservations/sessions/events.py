"""What charging sessions mean for reservations: the handlers of session.started.v1, .completed.v1 and .assigned.v1.

A session at a reserved connector is the driver's if they asked to start it (`reservations.claim` noted the request in
the transaction of the request, so before the station knew of it); any other is somebody else's.
"""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from api.reservations.life import store
from api.reservations.life.lifecycle import OCCUPIED, Lifecycle
from api.reservations.life.rule import ChargingBegan, Reservation
from api.reservations.parking.service import ParkingService
from api.reservations.sessions import store as session_store
from kit.clock import Clock
from kit.database.postgres import Database
from kit.messaging.consumer import Delivered, in_event_context, moment_of
from kit.messaging.outbox import Transaction
from schemas.events import Event, SessionAssigned, SessionCompleted, SessionStarted

EXTEND: Final = timedelta(minutes=15)  # a session that lasts longer than expected claims so much more at a time
AHEAD: Final = timedelta(minutes=5)  # before its claim ends
BATCH: Final = 200


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

    async def started(self, connection: Transaction, batch: Sequence[Delivered[Event[SessionStarted]]]) -> None:
        """Handle session.started.v1, at most one a connector: the driver uses the reservation, or another vehicle is
        in its way. Nearly all connectors are nobody's: those are claimed together."""
        now = self._clock.now()
        places = await session_store.connectors(connection, [place_of(one) for one in batch])
        began = [
            session_store.Began(one.event.payload.id, places[place_of(one)], moment_of(one.event.payload.started_at))
            for one in batch
        ]
        over = await session_store.started(connection, began, now)
        taken = await session_store.taken(connection, [one.place for one in began])
        free = [one for one in began if one.place.key not in taken and over.get(one.id) is False]
        await session_store.claim_free(connection, free, (now, now + self._expected()))
        reserved: list[str] = []  # stations where a reservation is used: its driver may stand there until it ends
        for delivered, one in zip(batch, began, strict=True):
            if one.place.key in taken and one.id in over:
                with in_event_context(delivered.context, "session at a claimed connector"):
                    if await self._started(connection, delivered.event.payload, one, over=over[one.id]):
                        reserved.append(one.place.station_id)
        await self._parking.observe(connection, reserved)

    async def _started(
        self, connection: Transaction, session: SessionStarted, began: session_store.Began, *, over: bool
    ) -> bool:
        """A session at a connector that somebody has claimed. `over`: its end is known already. Whether a reservation
        is used by it."""
        now, place = self._clock.now(), began.place
        until = now + self._expected()
        claiming = await store.claiming(connection, [place.key])
        own = next((one for one in claiming if _is_of(session, one, began.at)), None)
        if own is not None:
            await self._lifecycle.apply(connection, own, ChargingBegan(began.at, session.id))
            until = max(own.ends_at, now + EXTEND)
        elif not over:
            for reservation in claiming:
                if reservation.starts_at <= now < reservation.ends_at:
                    await self._lifecycle.lose(connection, reservation, OCCUPIED)
        if not over:
            await session_store.end_start_requests(connection, place)
            await session_store.claim_for_session(connection, session.id, place, now, until)
        return own is not None

    async def assigned(self, connection: Transaction, batch: Sequence[Delivered[Event[SessionAssigned]]]) -> None:
        """Handle session.assigned.v1, at most one a session: it is known whose vehicle stands there."""
        rows = [
            (one.session_id, None if one.withdrawn else one.driver_id, one.revision)
            for one in (delivered.event.payload for delivered in batch)
        ]
        await session_store.assigned(connection, rows, self._clock.now())

    async def completed(self, connection: Transaction, batch: Sequence[Delivered[Event[SessionCompleted]]]) -> None:
        """Handle session.completed.v1, at most one a session: its connector is free again."""
        places = await session_store.connectors(connection, [place_of(one) for one in batch])
        ended = [
            session_store.Ended(
                session.id, places[session.station_id, session.connector_id], moment_of(session.ended_at),
                session.revision,
            )
            for session in (one.event.payload for one in batch)
        ]  # fmt: skip
        await session_store.ended(connection, ended, self._clock.now())

    async def extend(self, database: Database) -> None:
        """Sessions that last longer than expected keep their connectors. A job."""
        async with database.transaction() as connection:
            now = self._clock.now()
            until = now + AHEAD + EXTEND
            for session in await session_store.unclaimed(connection, now + AHEAD, BATCH):
                await session_store.claim_for_session(connection, session.id, session.place, now, until)

    async def forget_old(self, database: Database) -> None:
        """Delete what no event can concern any more. A job."""
        async with database.transaction() as connection:
            await session_store.forget_old(connection, self._clock.now())


def place_of(delivered: Delivered[Any]) -> tuple[str, int]:
    """Station and connector of the session of an event."""
    return delivered.event.payload.station_id, delivered.event.payload.connector_id


def _is_of(session: SessionStarted, reservation: Reservation, began_at: datetime) -> bool:
    """Whether the driver of the reservation asked for the session: the station names it by the request, or it began
    before the request expired."""
    if reservation.request_id is None or reservation.request_until is None:
        return False
    if session.session_id is not None and session.session_id.lower() == str(reservation.request_id):
        return True
    return began_at <= reservation.request_until + store.SESSION_SKEW
