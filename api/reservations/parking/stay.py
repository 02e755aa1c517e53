"""Who stands where: a station's places, with what is known of the vehicle at each, and whose it is. Pure.

A vehicle at a connector that one bay alone reaches is at both of these places, and is watched at the bay.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from uuid import UUID

from api.reservations.life.rule import Place
from api.reservations.parking.rule import ConnectorStatus, Limits, Parking, Sensor, parking_of


@dataclass(frozen=True, slots=True)
class PlaceFacts:
    """A place, of a connector its status, of a bay its sensor and time limit."""

    place: Place
    registered: bool
    status: ConnectorStatus
    sensor: Sensor | None
    time_limit: timedelta | None


@dataclass(frozen=True, slots=True)
class SessionFacts:
    """The newest session at a connector."""

    place_key: int
    session_id: UUID
    driver_id: str | None
    ended_at: datetime | None  # None: it goes on


@dataclass(frozen=True, slots=True)
class ReservationFacts:
    """A reservation that has begun: active, or used."""

    place_key: int
    driver_id: str
    may_come_from: datetime  # the buffer before its start, but not before it was made
    ends_at: datetime


@dataclass(frozen=True, slots=True)
class Stay:
    """A place, and the vehicle there, if any."""

    place: Place
    registered: bool
    parking: Parking
    driver_id: str | None = None
    session_id: UUID | None = None
    watched: bool = False  # whether its overstay is told: not of two places of one vehicle


def stays_of(
    places: Sequence[PlaceFacts],
    sessions: Iterable[SessionFacts],
    reservations: Sequence[ReservationFacts],
    grace: timedelta,
    now: datetime,
) -> list[Stay]:
    """Of all places of one station, in their order."""
    connectors = {one.place.key: one for one in places if one.place.bay is None}
    by_place = {one.place_key: one for one in sessions}
    watched_bays = {
        one.place.key
        for one in places
        if one.place.bay is not None and (one.sensor is not None or _alone(one.place, connectors))
    }
    reaching: dict[int, list[int]] = {}
    for one in places:
        if one.place.bay is not None and one.registered:
            for key in one.place.taken_with:
                reaching.setdefault(key, []).append(one.place.key)
    found = []
    for one in places:
        own = _own(one.place, connectors)
        reached = [one.place.key] if one.place.bay is None else [k for k in one.place.taken_with if k in connectors]
        statuses = [connectors[key].status for key in reached]
        keys = {one.place.key, *own}
        bays = reaching.get(one.place.key, [])
        covered = bool(bays) and watched_bays.issuperset(bays)
        watched = not covered if one.place.bay is None else one.place.key in watched_bays
        first = parking_of(statuses, Limits(grace, one.time_limit), now, one.sensor)
        stay = _whose(Stay(one.place, one.registered, first, watched=watched), own, keys, by_place, reservations)
        until = _reserved_until(stay, keys, reservations)
        limits = Limits(grace, one.time_limit, until)
        found.append(replace(stay, parking=parking_of(statuses, limits, now, one.sensor)))
    return found


def _own(place: Place, connectors: dict[int, PlaceFacts]) -> list[int]:
    """Keys of the connectors that only a vehicle at this place reaches."""
    if place.bay is None:
        return [place.key]
    return [key for key in place.taken_with if key in connectors and place.key in connectors[key].place.taken_with]


def _alone(place: Place, connectors: dict[int, PlaceFacts]) -> bool:
    """Whether a bay reaches connectors, and no other bay reaches these."""
    reached = [key for key in place.taken_with if key in connectors]
    return bool(reached) and len(_own(place, connectors)) == len(reached)


def _whose(
    stay: Stay,
    own: Iterable[int],
    keys: set[int],
    sessions: dict[int, SessionFacts],
    reservations: Iterable[ReservationFacts],
) -> Stay:
    """With the driver: whose session is there, or who has reserved it and came when they might."""
    since = stay.parking.since or stay.parking.idle_since
    if not stay.parking.occupied or since is None:
        return stay
    for key in own:
        session = sessions.get(key)
        if session is not None and (session.ended_at is None or session.ended_at >= since):
            return replace(stay, driver_id=session.driver_id, session_id=session.session_id)
    for one in reservations:
        if one.place_key in keys and one.may_come_from <= since < one.ends_at:
            return replace(stay, driver_id=one.driver_id)
    return stay


def _reserved_until(stay: Stay, keys: set[int], reservations: Iterable[ReservationFacts]) -> datetime | None:
    since = stay.parking.since or stay.parking.idle_since
    if stay.driver_id is None or since is None:
        return None
    ends = [
        one.ends_at
        for one in reservations
        if one.place_key in keys and one.driver_id == stay.driver_id and one.ends_at > since
    ]
    return max(ends, default=None)
