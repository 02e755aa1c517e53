"""What changes reservations: one place that stores a change, moves claims, publishes events and has fees charged.

Everything is done in the transaction that has locked the reservation.
"""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Final

from api.reservations.life import store
from api.reservations.life.events import reservation_changed, reservation_confirmed
from api.reservations.life.rule import (
    Arrived,
    Change,
    Fee,
    Place,
    PlaceLost,
    Reservation,
    ReservationState,
    Terms,
    TimePassed,
    Trigger,
    claimed,
    due_at,
    in_the_way,
    transition,
)
from api.reservations.life.store import SCHEMA, DueReservation, Vehicle
from kit.clock import Clock, to_ms
from kit.database.postgres import Database
from kit.messaging.outbox import OutboxEvent, Transaction, insert_async
from kit.observability.logs import get_logger

BATCH: Final = 100  # reservations of one transaction of the job: ~0.1 s
BATCHES_MAX: Final = 100  # of one run: what is left is due at the next
OCCUPIED: Final = "another vehicle is charging there"
STANDING: Final = "another vehicle stands there"
OUT_OF_ORDER: Final = "it is out of order"

_log = get_logger(__name__)


class Lifecycle:
    """Applies what happens to reservations."""

    def __init__(self, clock: Clock, terms: Callable[[], Terms]) -> None:
        """`terms`: as they are now."""
        self._clock = clock
        self._terms = terms

    async def apply(self, connection: Transaction, reservation: Reservation, trigger: Trigger) -> Reservation:
        """Store what comes of it, publish it, and charge for it. The reservation afterwards."""
        terms, now = self._terms(), self._clock.now()
        change = transition(reservation, trigger, terms)
        if change is None:
            return reservation
        after = change.reservation
        if not after.live:
            await store.give_back(connection, after.id)
        events: list[OutboxEvent] = []
        if change.fee is not None:
            after, events = await self._charged(connection, change, change.fee, now)
        if change.event_type is not None:
            events.append(reservation_changed(change.event_type, after, now, before=reservation))
        await store.save(connection, after, due_at(after, terms, now))
        await insert_async(connection, SCHEMA, events)
        return after

    async def lose(self, connection: Transaction, reservation: Reservation, why: str) -> Reservation:
        """It cannot have its place: move it to another one like it, or give it up."""
        now = self._clock.now()
        other = await self._taken_instead(connection, reservation, now)
        reason = f"{reservation.place}: {why}" + ("" if other is None else f"; you have {other} instead")
        return await self.apply(connection, reservation, PlaceLost(now, reason, other))

    async def vehicle_seen(self, connection: Transaction, reservation: Reservation) -> None:
        """A sensor says that a vehicle stands at the place of a locked reservation, or of what is taken with it."""
        vehicle = await store.vehicle_at(connection, reservation)
        await self._consider(connection, reservation, vehicle, self._clock.now())

    async def advance(self, database: Database) -> None:
        """Change the reservations whose time has come. A job; several processes may run it at once."""
        for _ in range(BATCHES_MAX):
            async with database.transaction() as connection:
                due = await store.due(connection, self._clock.now(), BATCH)
                for one in due:
                    await self._advance(connection, one)
            if len(due) < BATCH:
                return

    async def _advance(self, connection: Transaction, due: DueReservation) -> None:
        now, terms, reservation = self._clock.now(), self._terms(), due.reservation
        if due.occupied and now >= reservation.starts_at and reservation.state is not ReservationState.HELD:
            after = await self.lose(connection, reservation, OCCUPIED)
        elif due.out_of_order and now >= reservation.starts_at - terms.move:
            after = await self.lose(connection, reservation, OUT_OF_ORDER)
        else:
            after = await self._consider(connection, reservation, due.vehicle, now)
        if after.live:
            passed = await self.apply(connection, after, TimePassed(now))
            if passed is reservation:  # nothing came of it
                await store.postpone(connection, reservation, due_at(reservation, terms, now))

    async def _consider(
        self, connection: Transaction, reservation: Reservation, vehicle: Vehicle, now: datetime
    ) -> Reservation:
        """The vehicle is another driver's, and in the way once the reservation begins; or it is the driver's, who uses
        the reservation with that where there is nothing to charge with."""
        terms, since = self._terms(), vehicle.since
        if since is None or not reservation.live or reservation.state is ReservationState.HELD:
            return reservation
        if in_the_way(since, reservation, terms) and not vehicle.of_driver:
            if now < reservation.starts_at:  # it may leave until then
                return reservation
            return await self.lose(connection, reservation, STANDING)
        if not vehicle.alone or now < reservation.starts_at - terms.buffer or since >= reservation.ends_at:
            return reservation
        used = await self.apply(connection, reservation, Arrived(max(since, reservation.created_at)))
        if now < reservation.ends_at:
            await store.take(connection, reservation.place, (now, reservation.ends_at), "session", reservation.id)
        return used

    async def _taken_instead(self, connection: Transaction, reservation: Reservation, now: datetime) -> Place | None:
        during = claimed(reservation.starts_at, reservation.ends_at, now, self._terms())
        await store.give_back(connection, reservation.id)
        if during[0] >= during[1]:
            return None
        later = during[0] > now
        for place in await store.places_like(connection, reservation.place, during, vehicles_may_go=later):
            if await store.take(connection, place, during, "reservation", reservation.id):
                return place
        return None

    async def _charged(
        self, connection: Transaction, change: Change, fee: Fee, now: datetime
    ) -> tuple[Reservation, list[OutboxEvent]]:
        """With the event that has billing charge the fee, if the station has a tariff."""
        reservation = change.reservation
        tariff = await store.tariff_at(connection, reservation.place.station_id, to_ms(reservation.starts_at))
        if tariff is None:
            return reservation, []
        reservation = replace(reservation, charged=True)
        version = (tariff["id"], tariff["time_zone"], tariff["tariff"])
        return reservation, [reservation_confirmed(reservation, fee, *version, now)]
