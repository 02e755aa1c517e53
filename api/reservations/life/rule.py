"""The life of a reservation: one pure function from a reservation and what happened to a changed reservation.

    held ──▶ confirmed ──▶ active ──▶ used      the driver began to charge
      │          │            ├─────▶ used      without connectors: a vehicle came
      │          │            ├─────▶ no-show   the driver did not come in time
      ├─▶ expired│            │
      └──────────┴────────────┴─────▶ cancelled by the driver or an operator, or because its place was lost

Of a change the caller publishes one event, gives back, moves or hands over the claim, and has billing charge the fee.
What happens to a reservation that is over changes nothing; so events may come twice and late.
"""

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final
from uuid import UUID

from schemas.topics import (
    RESERVATION_CANCELLED,
    RESERVATION_CREATED,
    RESERVATION_EXPIRED,
    RESERVATION_NO_SHOW,
)


class ReservationState(StrEnum):
    """State of a reservation."""

    HELD = "held"  # given back at `held_until` unless the driver confirms
    CONFIRMED = "confirmed"
    ACTIVE = "active"  # its time, with the buffer before, has begun
    USED = "used"
    EXPIRED = "expired"  # held, and not confirmed in time
    NO_SHOW = "no-show"
    CANCELLED = "cancelled"


LIVE: Final = frozenset({ReservationState.HELD, ReservationState.CONFIRMED, ReservationState.ACTIVE})
# The event of a session's start takes so long at most, as a rule: nobody is a no-show before.
SETTLE: Final = timedelta(seconds=60)


@dataclass(frozen=True, slots=True)
class Place:
    """A connector or a parking bay."""

    key: int
    station_id: str
    connector_id: int | None
    bay: str | None
    taken_with: tuple[int, ...] = field(default=(), compare=False)  # keys; empty too where it is only shown

    @property
    def keys(self) -> list[int]:
        """Of all that is taken with it, in the order in which everyone takes them."""
        return sorted({self.key, *self.taken_with})

    def __str__(self) -> str:
        what = f"bay {self.bay}" if self.connector_id is None else f"connector {self.connector_id}"
        return f"{what} of station {self.station_id}"


@dataclass(frozen=True, slots=True)
class Terms:
    """The operator's terms of reservations."""

    buffer: timedelta  # kept free before and after
    late: timedelta  # after the start, until a driver who has not come is a no-show
    cancel_free: timedelta  # before the start, until when cancelling is free
    move: timedelta  # before the start, from when on one whose place is out of order is moved
    grace: timedelta  # a vehicle may stand so long after it should have left


@dataclass(frozen=True, slots=True)
class Reservation:
    """A reservation. It is for [starts_at, ends_at)."""

    id: UUID
    driver_id: str
    place: Place
    starts_at: datetime
    ends_at: datetime
    state: ReservationState
    revision: int
    created_at: datetime
    held_until: datetime | None = None
    reason: str | None = None
    moved_from: str | None = None
    request_id: UUID | None = None  # the driver's request to start there
    request_until: datetime | None = None
    session_id: UUID | None = None
    charged: bool = False

    @property
    def live(self) -> bool:
        """Whether it is not over."""
        return self.state in LIVE


@dataclass(frozen=True, slots=True)
class Confirmed:
    """The driver confirmed what was held."""

    at: datetime


@dataclass(frozen=True, slots=True)
class Cancelled:
    """The driver, or an operator, cancelled it."""

    at: datetime
    by_driver: bool
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class TimePassed:
    """It is `at` now."""

    at: datetime


@dataclass(frozen=True, slots=True)
class ChargingBegan:
    """The driver's session began at its place at that moment."""

    at: datetime
    session_id: UUID


@dataclass(frozen=True, slots=True)
class PlaceLost:
    """It cannot have its place. `other`: a place like it that is free for all of its time, and is taken already."""

    at: datetime
    why: str
    other: Place | None


@dataclass(frozen=True, slots=True)
class Arrived:
    """The driver's vehicle came at that moment to its place, where there is nothing to charge with."""

    at: datetime


Trigger = Confirmed | Cancelled | TimePassed | ChargingBegan | PlaceLost | Arrived


@dataclass(frozen=True, slots=True)
class Fee:
    """A time to be charged by the tariff's elements for reservations: [starts_at, ends_at]."""

    starts_at: datetime
    ends_at: datetime
    expired: bool  # by the elements for reservations that expired


@dataclass(frozen=True, slots=True)
class Change:
    """What came of it. `event_type`: of the event to publish."""

    reservation: Reservation
    event_type: str | None
    fee: Fee | None = None


def claimed(starts_at: datetime, ends_at: datetime, made_at: datetime, terms: Terms) -> tuple[datetime, datetime]:
    """The time that a reservation takes, with its buffers; none of it was before it was made."""
    return max(made_at, starts_at - terms.buffer), ends_at + terms.buffer


def in_the_way(since: datetime, reservation: Reservation, terms: Terms) -> bool:
    """Whether the vehicle that has stood at its place since then is another driver's: it came before the driver might.

    The driver of a reservation that was made from then on, buffer included, saw the vehicle: it is theirs.
    """
    may_come = reservation.starts_at - terms.buffer
    own = since < reservation.created_at and may_come <= reservation.created_at
    return since < may_come and not own


def late_at(reservation: Reservation, terms: Terms) -> datetime:
    """When a driver who has not begun to charge is a no-show. Not while the station is asked to start."""
    late = min(reservation.starts_at + terms.late, reservation.ends_at)
    return late if reservation.request_until is None else max(late, reservation.request_until)


def due_at(reservation: Reservation, terms: Terms, after: datetime) -> datetime | None:
    """The next moment, past `after`, at which the clock may change it; `after` where one is past. None: it is over."""
    starts_at, buffered = reservation.starts_at, reservation.starts_at - terms.buffer
    moments: dict[ReservationState, tuple[datetime | None, ...]] = {
        ReservationState.HELD: (reservation.held_until,),
        ReservationState.CONFIRMED: (min(starts_at - terms.move, buffered), buffered),
        ReservationState.ACTIVE: (starts_at, late_at(reservation, terms) + SETTLE),
    }
    if not reservation.live:
        return None
    ahead = [moment for moment in moments[reservation.state] if moment is not None and moment > after]
    return min(ahead, default=after)


def transition(reservation: Reservation, trigger: Trigger, terms: Terms) -> Change | None:
    """What comes of it; None: nothing."""
    if not reservation.live:
        return None
    match trigger:
        case Confirmed(at):
            return _confirmed(reservation, at)
        case Cancelled(at, by_driver, reason):
            return _cancelled(reservation, at, terms, by_driver=by_driver, reason=reason)
        case TimePassed(at):
            return _time_passed(reservation, at, terms)
        case ChargingBegan(at, session_id):
            used = replace(reservation, session_id=session_id)
            fee = Fee(reservation.starts_at, max(at, reservation.starts_at), expired=False)
            return _ended(used, ReservationState.USED, None, None, fee)
        case Arrived(at):
            fee = Fee(reservation.starts_at, max(at, reservation.starts_at), expired=False)
            return _ended(reservation, ReservationState.USED, None, None, fee)
        case PlaceLost(_, why, other):
            return _lost(reservation, why, other)


def _confirmed(reservation: Reservation, at: datetime) -> Change | None:
    if reservation.state is not ReservationState.HELD or (reservation.held_until or at) < at:
        return None
    return _changed(
        replace(reservation, state=ReservationState.CONFIRMED, held_until=None, reason=None), RESERVATION_CREATED
    )


def _cancelled(
    reservation: Reservation, at: datetime, terms: Terms, *, by_driver: bool, reason: str | None
) -> Change | None:
    fee = None
    free = reservation.state is ReservationState.HELD or at <= reservation.starts_at - terms.cancel_free
    if by_driver and not free:
        fee = Fee(reservation.starts_at, max(at, reservation.starts_at), expired=True)
    return _ended(reservation, ReservationState.CANCELLED, reason, RESERVATION_CANCELLED, fee)


def _lost(reservation: Reservation, why: str, other: Place | None) -> Change:
    if other is None:
        return _ended(reservation, ReservationState.CANCELLED, why, RESERVATION_CANCELLED)
    moved = replace(reservation, place=other, moved_from=reservation.place.station_id, reason=why)
    return _changed(replace(moved, request_id=None, request_until=None), RESERVATION_CREATED)


def _time_passed(reservation: Reservation, at: datetime, terms: Terms) -> Change | None:
    if reservation.state is ReservationState.HELD:
        if reservation.held_until is not None and at >= reservation.held_until:
            return _ended(reservation, ReservationState.EXPIRED, "it was not confirmed in time", RESERVATION_EXPIRED)
        return None
    if reservation.state is ReservationState.CONFIRMED:
        if at >= reservation.starts_at - terms.buffer:
            return _changed(replace(reservation, state=ReservationState.ACTIVE), RESERVATION_CREATED)
        return None
    late = late_at(reservation, terms)
    if at < late + SETTLE:
        return None
    fee = Fee(reservation.starts_at, late, expired=True)
    why = "nobody began to charge in time"
    return _ended(reservation, ReservationState.NO_SHOW, why, RESERVATION_NO_SHOW, fee)


def _ended(
    reservation: Reservation,
    state: ReservationState,
    reason: str | None,
    event_type: str | None,
    fee: Fee | None = None,
) -> Change:
    over = replace(reservation, state=state, reason=reason, held_until=None)
    return _changed(over, event_type, fee)


def _changed(reservation: Reservation, event_type: str | None, fee: Fee | None = None) -> Change:
    return Change(replace(reservation, revision=reservation.revision + 1), event_type, fee)
