"""Reserving, confirming, cancelling and reading. No HTTP and no SQL here.

`of_driver` is the driver who asks, for whom other drivers' reservations do not exist; None: an operator asks.
To whoever is limited to the stations `only`, reservations at others do not exist.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID, uuid4

from api.reservations.life import store
from api.reservations.life.events import reservation_changed
from api.reservations.life.lifecycle import Lifecycle
from api.reservations.life.rule import (
    Cancelled,
    Confirmed,
    Place,
    Reservation,
    ReservationState,
    Terms,
    claimed,
    due_at,
)
from api.reservations.life.store import (
    SCHEMA,
    ReservationCursor,
    ReservationFilter,
    ReservationStore,
    reservation_cursor,
)
from api.reservations.places.free_times import Interval, next_free
from api.reservations.reserving.models import NewReservation
from api.reservations.reserving.responses import Taken
from api.reservations.settings import ReservationSettings
from api.reservations.waiting.store import waiting_before
from kit.auth.station_filter import EVERY_STATION, StationFilter, sees
from kit.clock import Clock, format_rfc3339, from_ms, to_ms
from kit.messaging.outbox import Transaction, insert_async
from kit.web.errors import BadQuery, Conflict, NotFound
from kit.web.paging import decode_cursor, encode_cursor
from schemas.topics import RESERVATION_CREATED

FREE_TIMES_SHOWN: Final = 5
SOON: Final = timedelta(minutes=30)  # what begins sooner would overtake the drivers who wait at the site
PAST_S_MAX: Final = 60  # a start that is past: the client's clock is behind; older is a mistake


def terms_of(settings: ReservationSettings) -> Terms:
    """The operator's terms."""
    return Terms(
        buffer=timedelta(seconds=settings.reservation_buffer_s),
        late=timedelta(seconds=settings.reservation_late_s),
        cancel_free=timedelta(seconds=settings.reservation_cancel_free_s),
        move=timedelta(seconds=settings.reservation_move_s),
        grace=timedelta(seconds=settings.reservation_overstay_s),
    )


class ReservationService:
    """The use cases, one method each."""

    def __init__(
        self,
        reservations: ReservationStore,
        lifecycle: Lifecycle,
        clock: Clock,
        settings: Callable[[], ReservationSettings],
    ) -> None:
        self._store = reservations
        self._lifecycle = lifecycle
        self._clock = clock
        self._settings = settings

    def terms(self) -> Terms:
        """The operator's terms as they are now."""
        return terms_of(self._settings())

    async def reserve(
        self,
        connection: Transaction,
        new: NewReservation,
        driver_id: str,
        created_by: str,
        only: StationFilter = EVERY_STATION,
    ) -> Reservation:
        """Reserve, in the open transaction; of a site's connectors one of these stations. Raises NotFound, BadQuery,
        Conflict, and Taken where nothing is free."""
        settings, terms, now = self._settings(), self.terms(), self._now()
        starts_at, ends_at = _times(new, settings, now)
        during = claimed(starts_at, ends_at, now, terms)
        if await store.lock_driver(connection, driver_id) >= settings.reservation_per_driver_max:
            raise Conflict(
                f"driver {driver_id} has {settings.reservation_per_driver_max} reservations, and may have no more; "
                "cancel one first"
            )
        id_ = uuid4()
        candidates = await self._candidates(connection, new, during, id_, only, out_of_order_from=now + terms.move)
        if starts_at < now + SOON:
            await self._check_line(connection, candidates, driver_id, now)
        for place in candidates:
            if await store.take(connection, place, during, "reservation", id_):
                break
        else:
            raise await self._taken(connection, candidates, starts_at, ends_at - starts_at)
        reservation = Reservation(
            id=id_,
            driver_id=driver_id,
            place=place,
            starts_at=starts_at,
            ends_at=ends_at,
            state=ReservationState.HELD if new.hold else ReservationState.CONFIRMED,
            revision=1,
            created_at=now,
            held_until=now + timedelta(seconds=settings.reservation_hold_s) if new.hold else None,
        )
        await self.record(connection, reservation, created_by)
        return reservation

    async def record(self, connection: Transaction, reservation: Reservation, created_by: str) -> None:
        """Store and publish a new reservation, whose place is taken."""
        now = self._clock.now()
        due = due_at(reservation, self.terms(), now)
        assert due is not None  # noqa: S101  # a new one is not over
        await store.add(connection, reservation, created_by, due)
        await insert_async(connection, SCHEMA, [reservation_changed(RESERVATION_CREATED, reservation, now)])

    async def get(self, id_: UUID, of_driver: str | None, only: StationFilter) -> Reservation:
        """A reservation. Raises NotFound."""
        return await self._shown(_own(await self._store.by_id(id_, only), id_, of_driver), only)

    async def page(
        self, selected: ReservationFilter, limit: int, cursor: str | None
    ) -> tuple[Sequence[Reservation], str | None]:
        """A page, and the next page's cursor. Raises BadQuery."""
        if selected.start and selected.end and selected.start >= selected.end:
            bounds = f"from ({format_rfc3339(selected.start)}) must be before to ({format_rfc3339(selected.end)})"
            raise BadQuery(bounds)
        after = decode_cursor(cursor, ReservationCursor) if cursor else None
        rows = await self._store.page(selected, after, limit + 1)
        following = encode_cursor(reservation_cursor(rows[limit - 1])) if len(rows) > limit else None
        return [await self._shown(one, selected.only) for one in rows[:limit]], following

    async def _shown(
        self, reservation: Reservation, only: StationFilter, connection: Transaction | None = None
    ) -> Reservation:
        """Without the station that it was at before and why it is not there, where the caller does not see that one."""
        before = reservation.moved_from
        if before is None or await (sees(connection, only, before) if connection else self._store.sees(only, before)):
            return reservation
        return replace(reservation, moved_from=None, reason=None)

    async def confirm(
        self, connection: Transaction, id_: UUID, of_driver: str | None, only: StationFilter
    ) -> Reservation:
        """Confirm what is held; again, nothing. Raises NotFound, and Conflict where it is over."""
        reservation = _own(await store.locked(connection, id_, only), id_, of_driver)
        confirmed = await self._lifecycle.apply(connection, reservation, Confirmed(self._now()))
        if confirmed.state not in (ReservationState.CONFIRMED, ReservationState.ACTIVE):
            past = "was not confirmed in time" if confirmed.live else f"is {confirmed.state}"
            raise Conflict(f"reservation {id_} {past}; make another")
        return await self._shown(confirmed, only, connection)

    async def cancel(
        self, connection: Transaction, id_: UUID, of_driver: str | None, only: StationFilter, reason: str | None
    ) -> Reservation:
        """Cancel it; again, nothing. Raises NotFound, and Conflict where it is over otherwise."""
        reservation = _own(await store.locked(connection, id_, only), id_, of_driver)
        by_driver = of_driver is not None
        why = reason or ("cancelled by the driver" if by_driver else "cancelled by the operator")
        cancelled = await self._lifecycle.apply(
            connection, reservation, Cancelled(self._now(), by_driver=by_driver, reason=why)
        )
        if cancelled.state is not ReservationState.CANCELLED:
            raise Conflict(f"reservation {id_} is over: it is {cancelled.state}")
        return await self._shown(cancelled, only, connection)

    async def _candidates(
        self,
        connection: Transaction,
        new: NewReservation,
        during: Interval,
        id_: UUID,
        only: StationFilter,
        *,
        out_of_order_from: datetime,
    ) -> list[Place]:
        if new.station_id is None:
            assert new.site is not None  # noqa: S101  # the model says so
            assert new.standard is not None  # noqa: S101  # the model says so
            seed = id_.int & (2**63 - 1)
            found = await store.places_of_plug(connection, new.site, new.standard, new.power_w_min, during, seed, only)
            if not found:
                power = f" of {new.power_w_min} W or more" if new.power_w_min else ""
                raise NotFound(f"site {new.site} has no {new.standard}{power} that is in order")
            return found
        named = await store.named_place(connection, new.station_id, new.connector_id, new.bay)
        if named is None:
            what = f"bay {new.bay}" if new.connector_id is None else f"connector {new.connector_id}"
            raise NotFound(f"there is no {what} of station {new.station_id} that can be reserved")
        place, out_of_order = named
        if out_of_order and during[0] < out_of_order_from:
            raise Conflict(f"{place} is out of order; choose another")
        return [place]

    async def _check_line(
        self, connection: Transaction, candidates: Sequence[Place], driver_id: str, now: datetime
    ) -> None:
        """Raises Conflict where others wait for such a connector: nobody overtakes them by reserving it."""
        waiting = await waiting_before(connection, candidates, driver_id, now)
        if waiting:
            raise Conflict(f"{waiting} drivers wait for such a connector at this site: POST /waiting joins their line")

    async def _taken(
        self, connection: Transaction, candidates: Sequence[Place], starts_at: datetime, duration: timedelta
    ) -> Taken:
        settings, terms, now = self._settings(), self.terms(), self._now()
        last = now + timedelta(days=settings.reservation_horizon_days)
        within = (starts_at, max(starts_at, last))
        margin = 2 * terms.buffer + duration
        taken = await store.taken(connection, candidates, (now - margin, within[1] + margin))
        free = next_free(taken, within, duration, terms.buffer, now, FREE_TIMES_SHOWN)
        several = f"all {len(candidates)} connectors of that plug are"
        what = f"{candidates[0]} is" if len(candidates) == 1 else several
        return Taken(f"{what} taken then; next_free says when to try", free)

    def _now(self) -> datetime:
        """The time in whole milliseconds, as requests and events have it."""
        return from_ms(self._clock.now_ms())


def _times(new: NewReservation, settings: ReservationSettings, now: datetime) -> Interval:
    """Raises BadQuery."""
    starts_at = now if new.starts_at is None else from_ms(to_ms(new.starts_at))
    if starts_at < now - timedelta(seconds=PAST_S_MAX):
        raise BadQuery("body/starts_at: is past; leave it out to reserve from now")
    starts_at = max(starts_at, now)
    if starts_at > now + timedelta(days=settings.reservation_horizon_days):
        raise BadQuery(f"body/starts_at: must be within {settings.reservation_horizon_days} days")
    if new.duration_s > settings.reservation_duration_s_max:
        raise BadQuery(f"body/duration_s: must be {settings.reservation_duration_s_max} at most")
    return starts_at, starts_at + timedelta(seconds=new.duration_s)


def _own(reservation: Reservation | None, id_: UUID, of_driver: str | None) -> Reservation:
    if reservation is None or of_driver not in (None, reservation.driver_id):
        raise NotFound(f"there is no reservation {id_}, or it is not yours")
    return reservation
