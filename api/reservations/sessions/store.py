"""The SQL of sessions, as the events of streams describe them, and of what they claim."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from api.reservations.life import store
from api.reservations.life.rule import Place
from api.reservations.places.free_times import Interval
from kit.messaging.outbox import Transaction

KEEP_DAYS: Final = 30  # of sessions that are over: a redelivered event is as old at most
PAST_HOURS: Final = 1  # of claims whose time is over; the constraint needs them no more

_FIND_PLACES: Final = """
SELECT p.place_key, p.station_id, p.connector_id, p.bay, p.taken_with
FROM unnest($1::text[], $2::int[]) AS named (station_id, connector_id)
JOIN reservations.place AS p ON p.station_id = named.station_id AND p.connector_id = named.connector_id
"""
_NEW_PLACES: Final = """
INSERT INTO reservations.place (station_id, connector_id, registered)
SELECT station_id, connector_id, false FROM unnest($1::text[], $2::int[]) AS named (station_id, connector_id)
ORDER BY 1, 2 ON CONFLICT DO NOTHING
"""
_STARTED: Final = """
INSERT INTO reservations.session AS s (id, station_id, connector_id, place_key, started_at, observed_at)
SELECT id, station_id, connector_id, place_key, started_at, $1
FROM unnest($2::uuid[], $3::text[], $4::int[], $5::bigint[], $6::timestamptz[])
    AS began (id, station_id, connector_id, place_key, started_at) ORDER BY id
ON CONFLICT (id) DO UPDATE SET started_at = excluded.started_at WHERE s.started_at IS NULL
RETURNING id, ended_at IS NOT NULL
"""
_ENDED: Final = """
INSERT INTO reservations.session AS s (id, station_id, connector_id, place_key, ended_at, revision, observed_at)
SELECT id, station_id, connector_id, place_key, ended_at, revision, $1
FROM unnest($2::uuid[], $3::text[], $4::int[], $5::bigint[], $6::timestamptz[], $7::int[])
    AS over (id, station_id, connector_id, place_key, ended_at, revision) ORDER BY id
ON CONFLICT (id) DO UPDATE SET ended_at = excluded.ended_at, revision = excluded.revision
WHERE s.revision < excluded.revision
"""
_GIVE_BACK: Final = "DELETE FROM reservations.claim WHERE holder = ANY ($1::uuid[])"
_TAKEN: Final = """
SELECT key FROM unnest($1::bigint[]) AS keys (key)
WHERE EXISTS (SELECT FROM reservations.claim AS c WHERE c.place_key = keys.key)
"""
_CLAIM_FREE: Final = """
INSERT INTO reservations.claim (place_key, during, kind, holder)
SELECT place_key, tstzrange($1, $2), 'session', holder
FROM unnest($3::bigint[], $4::uuid[]) AS free (place_key, holder) ORDER BY place_key
ON CONFLICT DO NOTHING
"""
# The driver's request to start, by whose claim or whose reservation the session is known to be theirs.
_END_STARTS: Final = """
DELETE FROM reservations.claim WHERE holder IN (
    SELECT c.holder FROM reservations.claim AS c
    WHERE c.kind = 'start' AND c.place_key = $1)
"""
# Open sessions whose claim ends soon, or that have none.
_UNCLAIMED: Final = """
SELECT s.id, p.place_key, p.station_id, p.connector_id, p.bay, p.taken_with
FROM reservations.session AS s JOIN reservations.place AS p ON p.place_key = s.place_key
WHERE s.ended_at IS NULL
  AND NOT EXISTS (SELECT FROM reservations.claim AS c WHERE c.holder = s.id AND upper(c.during) > $1)
ORDER BY s.id LIMIT $2 FOR UPDATE OF s SKIP LOCKED
"""
_ASSIGNED: Final = """
INSERT INTO reservations.session_driver AS d (session_id, driver_id, revision, observed_at)
SELECT id, driver_id, revision, $1
FROM unnest($2::uuid[], $3::text[], $4::int[]) AS assigned (id, driver_id, revision) ORDER BY id
ON CONFLICT (session_id) DO UPDATE SET
    driver_id = excluded.driver_id, revision = excluded.revision, observed_at = excluded.observed_at
WHERE d.revision < excluded.revision
"""
# A session may go on for as long as the events of it are kept.
_FORGET_DRIVERS: Final = """
DELETE FROM reservations.session_driver AS d
WHERE d.observed_at < $1::timestamptz - make_interval(days => $2)
  AND NOT EXISTS (SELECT FROM reservations.session AS s WHERE s.id = d.session_id)
"""
_FORGET: Final = """
DELETE FROM reservations.session
WHERE ended_at IS NOT NULL AND observed_at < $1::timestamptz - make_interval(days => $2)
"""
_FORGET_CLAIMS: Final = """
DELETE FROM reservations.claim
WHERE kind <> 'reservation' AND upper(during) < $1::timestamptz - make_interval(hours => $2)
"""


@dataclass(frozen=True, slots=True)
class OpenSession:
    """A session that goes on."""

    id: UUID
    place: Place


@dataclass(frozen=True, slots=True)
class Began:
    """A session that began."""

    id: UUID
    place: Place
    at: datetime


@dataclass(frozen=True, slots=True)
class Ended:
    """A session that ended."""

    id: UUID
    place: Place
    at: datetime
    revision: int


async def connectors(connection: Transaction, names: Sequence[tuple[str, int]]) -> dict[tuple[str, int], Place]:
    """These connectors by station and number, registered or not."""
    found = await _connectors(connection, names)
    missing = sorted({*names} - found.keys())
    if missing:
        await connection.execute(_NEW_PLACES, *_columns(missing))
        found |= await _connectors(connection, missing)
    return found


async def _connectors(connection: Transaction, names: Sequence[tuple[str, int]]) -> dict[tuple[str, int], Place]:
    rows = await connection.fetch(_FIND_PLACES, *_columns(names))
    return {(row["station_id"], row["connector_id"]): _place(*row) for row in rows}


def _columns(names: Sequence[tuple[str, int]]) -> tuple[list[str], list[int]]:
    return [station_id for station_id, _ in names], [connector_id for _, connector_id in names]


async def started(connection: Transaction, began: Sequence[Began], now: datetime) -> dict[UUID, bool]:
    """Store that sessions began. By id whether its end is known already, of those that were not known to have begun."""
    return dict(map(tuple, await connection.fetch(_STARTED, now, *_session_columns(began), [one.at for one in began])))


async def taken(connection: Transaction, places: Sequence[Place]) -> set[int]:
    """The keys of these places that anybody has claimed, at whatever time, and of those that are taken with others."""
    keys = [place.key for place in places if len(place.keys) == 1]
    claimed = {row["key"] for row in await connection.fetch(_TAKEN, keys)}
    return claimed | {place.key for place in places if len(place.keys) > 1}


async def claim_free(connection: Transaction, began: Sequence[Began], during: Interval) -> None:
    """Claim the places of these sessions, which nobody had claimed. Who took one since has it: see `unclaimed`."""
    if began:
        columns = [one.place.key for one in began], [one.id for one in began]
        await connection.execute(_CLAIM_FREE, *during, *columns)


async def ended(connection: Transaction, ended: Sequence[Ended], now: datetime) -> None:
    """Store that sessions ended, of several revisions the highest, and give back what they have claimed."""
    columns = [one.at for one in ended], [one.revision for one in ended]
    await connection.execute(_ENDED, now, *_session_columns(ended), *columns)
    await connection.execute(_GIVE_BACK, [one.id for one in ended])


def _session_columns(
    sessions: Sequence[Began] | Sequence[Ended],
) -> tuple[list[UUID], list[str], list[int | None], list[int]]:
    places = [one.place for one in sessions]
    return (
        [one.id for one in sessions],
        [place.station_id for place in places],
        [place.connector_id for place in places],
        [place.key for place in places],
    )


async def assigned(connection: Transaction, assignments: Sequence[tuple[UUID, str | None, int]], now: datetime) -> None:
    """Store whose sessions these are (id, driver, revision); of several assignments the highest revision counts."""
    await connection.execute(_ASSIGNED, now, *zip(*assignments, strict=True))


async def end_start_requests(connection: Transaction, place: Place) -> None:
    """Delete the claims of requests to start at the connector: a session has come of one, or came before it."""
    await connection.execute(_END_STARTS, place.key)


async def claim_for_session(
    connection: Transaction, session: UUID, place: Place, now: datetime, until: datetime
) -> None:
    """Claim the place from now until then, or until the next claim of it begins. Nothing where it is taken now."""
    await store.give_back(connection, session)
    next_at = await store.free_until(connection, place.key, (now, until), session)
    end = until if next_at is None else min(until, next_at)
    if end > now:
        await store.take(connection, place, (now, end), "session", session)


async def unclaimed(connection: Transaction, by: datetime, rows_max: int) -> list[OpenSession]:
    """Up to rows_max open sessions whose claim ends by then, locked."""
    rows = await connection.fetch(_UNCLAIMED, by, rows_max)
    return [OpenSession(row["id"], _place(*row[1:])) for row in rows]


async def forget_old(connection: Transaction, now: datetime) -> None:
    """Delete sessions that have been over for KEEP_DAYS, and claims of the past."""
    await connection.execute(_FORGET, now, KEEP_DAYS)
    await connection.execute(_FORGET_DRIVERS, now, KEEP_DAYS)
    await connection.execute(_FORGET_CLAIMS, now, PAST_HOURS)


def _place(key: int, station_id: str, connector_id: int | None, bay: str | None, taken_with: Sequence[int]) -> Place:
    return Place(key, station_id, connector_id, bay, tuple(taken_with))
