"""The SQL of sessions, as the events of streams describe them, and of what they claim."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from api.reservations.life import store
from api.reservations.life.rule import Place
from kit.messaging.outbox import Transaction

KEEP_DAYS: Final = 30  # of sessions that are over: a redelivered event is as old at most
PAST_HOURS: Final = 1  # of claims whose time is over; the constraint needs them no more

_PLACE: Final = """
INSERT INTO reservations.place (station_id, connector_id, registered) VALUES ($1, $2, false) ON CONFLICT DO NOTHING
"""
_FIND_PLACE: Final = """
SELECT place_key, station_id, connector_id, bay, taken_with FROM reservations.place
WHERE station_id = $1 AND connector_id = $2
"""
_STARTED: Final = """
INSERT INTO reservations.session AS s (id, station_id, connector_id, place_key, started_at, observed_at)
VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (id) DO UPDATE SET started_at = excluded.started_at WHERE s.started_at IS NULL
RETURNING ended_at IS NOT NULL
"""
_ENDED: Final = """
INSERT INTO reservations.session AS s (id, station_id, connector_id, place_key, ended_at, revision, observed_at)
VALUES ($1, $2, $3, $4, $5, $6, $7)
ON CONFLICT (id) DO UPDATE SET ended_at = excluded.ended_at, revision = excluded.revision
WHERE s.revision < excluded.revision
"""
# The driver's request to start, by whose claim or whose reservation the session is known to be theirs.
_END_STARTS: Final = """
DELETE FROM reservations.claim WHERE holder IN (
    SELECT c.holder FROM reservations.claim AS c
    WHERE c.kind = 'start' AND int8range(c.place_key, c.place_key, '[]') && int8range($1, $1, '[]'))
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
INSERT INTO reservations.session_driver AS d (session_id, driver_id, revision, observed_at) VALUES ($1, $2, $3, $4)
ON CONFLICT (session_id) DO UPDATE SET
    driver_id = excluded.driver_id, revision = excluded.revision, observed_at = excluded.observed_at
WHERE d.revision < excluded.revision
"""
_STATION_OF: Final = "SELECT station_id FROM reservations.session WHERE id = $1"
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


async def connector(connection: Transaction, station_id: str, connector_id: int) -> Place:
    """The connector, registered or not."""
    await connection.execute(_PLACE, station_id, connector_id)
    row = await connection.fetchrow(_FIND_PLACE, station_id, connector_id)
    assert row is not None  # noqa: S101  # places are never deleted
    return _place(*row)


async def started(connection: Transaction, id_: UUID, place: Place, started_at: datetime, now: datetime) -> bool | None:
    """Store that a session began: whether its end is known already. None: that it began was known."""
    columns = (id_, place.station_id, place.connector_id, place.key, started_at, now)
    over: bool | None = await connection.fetchval(_STARTED, *columns)
    return over


async def ended(
    connection: Transaction, id_: UUID, place: Place, ended_at: datetime, revision: int, now: datetime
) -> None:
    """Store that a session ended; of several revisions the highest counts."""
    columns = (id_, place.station_id, place.connector_id, place.key, ended_at, revision, now)
    await connection.execute(_ENDED, *columns)


async def assigned(
    connection: Transaction, id_: UUID, driver_id: str | None, revision: int, now: datetime
) -> str | None:
    """Store whose session it is; of several assignments the highest revision counts. Its station, if that is known."""
    await connection.execute(_ASSIGNED, id_, driver_id, revision, now)
    station_id: str | None = await connection.fetchval(_STATION_OF, id_)
    return station_id


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
