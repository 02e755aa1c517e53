"""The SQL of schema `sessions`: requests, observed sessions, and the assignment of one to the other.

Changes are made in the caller's transaction, which holds the locks of the driver and the connector.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, NamedTuple
from uuid import UUID

import asyncpg

from api.sessions.models import SessionState
from kit.auth.station_filter import EVERY_STATION, StationFilter, visible
from kit.clock import to_ms
from kit.database.postgres import Database
from kit.messaging.outbox import Transaction
from kit.retention import RecordRetention, delete_old
from kit.web.paging import Cursor, Micros, from_micros, to_micros

SCHEMA: Final = "sessions"
EXPIRY: Final = timedelta(minutes=15)  # of a request that no session came of
# How far outside of a request's time a session may begin and still be the request's, where no other request claims that
# time: for clocks that differ, and for a stop and a start that are on their way at once.
SKEW: Final = timedelta(seconds=30)
KEEP_DAYS: Final = 30  # of sessions without a request; a later event finds such a one unknown, and still without

_COLUMNS: Final = (
    "r.id, r.driver_id, r.station_id, r.connector_id, r.reservation_id, r.requested_at, r.expires_at, r.session_id, "
    "r.completed_at, r.stop_requested_at, r.stop_requested_by"
)
_SELECT: Final = f"SELECT {_COLUMNS} FROM sessions.request AS r"  # noqa: S608  # the names above
_BY_NAME: Final = f"""{_SELECT} JOIN sessions.session AS s ON s.id = r.session_id
WHERE r.driver_id = $1 AND s.name = $2 AND ($3::text IS NULL OR r.station_id = $3)
ORDER BY r.requested_at DESC, r.id DESC LIMIT $4
"""
_PAGE: Final = f"""{_SELECT}
WHERE ($1::text IS NULL OR r.driver_id = $1) AND ($2::text IS NULL OR r.station_id = $2)
  AND ($3::timestamptz IS NULL OR r.requested_at >= $3) AND ($4::timestamptz IS NULL OR r.requested_at < $4)
  AND ($5::text IS NULL OR $5 = CASE
        WHEN r.session_id IS NULL THEN CASE WHEN r.expires_at > $6 THEN 'requested' ELSE 'expired' END
        WHEN r.completed_at IS NULL THEN 'open' ELSE 'completed' END)
  AND ($7::timestamptz IS NULL OR (r.requested_at, r.id) < ($7, $8::uuid))
  AND {visible("r.station_id", 10)}
ORDER BY r.requested_at DESC, r.id DESC LIMIT $9
"""
# Requests whose time is not over: $1 now, $2 the earliest moment of a request that has not expired.
_UNSETTLED: Final = f"""{_SELECT}
WHERE {{whose}} AND r.session_id IS NULL AND r.expires_at > $1 AND r.claims_until > $1 AND r.requested_at > $2
UNION ALL {_SELECT} WHERE {{whose}} AND r.session_id IS NOT NULL AND r.completed_at IS NULL
"""
_OF_DRIVER: Final = _UNSETTLED.format(whose="r.driver_id = $3")
_OF_CONNECTOR: Final = _UNSETTLED.format(whose="r.station_id = $3 AND r.connector_id = $4")

# A new request's time begins SKEW before it. Earlier requests at the connector yield the time that they cannot use any
# more: with a session, the time after its start (all of it, if the session named the request); else that after expiry.
_YIELD: Final = """
UPDATE sessions.request AS r SET claims_until = least(r.claims_until, greatest($3, coalesce(
    (SELECT CASE WHEN s.names_request IS NULL THEN s.started_at + interval '1 microsecond' ELSE r.claims_from END
     FROM sessions.session AS s WHERE s.id = r.session_id),
    r.expires_at)))
WHERE r.station_id = $1 AND r.connector_id = $2 AND r.claims_until > $3
"""
_INSERT: Final = """
INSERT INTO sessions.request (id, driver_id, station_id, connector_id, reservation_id, requested_by, requested_at,
                              expires_at, claims_until, claims_from)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, greatest($10, (
    SELECT max(claims_until) FROM sessions.request
    WHERE station_id = $3 AND connector_id = $4 AND claims_until > $10)))
"""
_CLAIM: Final = "SELECT reservation_id, refused FROM reservations.claim($1, $2, $3, $4, $5, $6, $7)"
_STOP: Final = """
UPDATE sessions.request SET stop_requested_at = $2, stop_requested_by = $3,
    expires_at = CASE WHEN session_id IS NULL THEN least(expires_at, $2) ELSE expires_at END,
    claims_until = CASE WHEN session_id IS NULL THEN least(claims_until, $4) ELSE claims_until END
WHERE id = $1
"""

_LOCK: Final = """
SELECT pg_advisory_xact_lock(lock) FROM (
    SELECT DISTINCT hashtextextended('sessions/' || name, 0) AS lock FROM unnest($1::text[]) AS names (name)
    ORDER BY lock
) AS locks
"""
# A session's start comes from session.started.v1 alone, its name and its end from whichever event has them. Rows are
# inserted in the given order, because each draws its arrival number.
_RECORD: Final = """
INSERT INTO sessions.session AS s (id, station_id, connector_id, name, started_at, ended_at, revision, withdrawn,
                                   names_request)
SELECT o.id, o.station_id, o.connector_id, o.name, o.started_at, o.ended_at, o.revision, o.withdrawn, r.id
FROM unnest($1::uuid[], $2::text[], $3::smallint[], $4::text[], $5::timestamptz[], $6::timestamptz[], $7::int[],
            $8::bool[], $9::uuid[]) WITH ORDINALITY
    AS o (id, station_id, connector_id, name, started_at, ended_at, revision, withdrawn, names, place)
LEFT JOIN sessions.request AS r
    ON r.id = o.names AND r.station_id = o.station_id AND r.connector_id = o.connector_id
ORDER BY o.place
ON CONFLICT (id) DO UPDATE SET
    name = coalesce(s.name, excluded.name),
    names_request = coalesce(s.names_request, excluded.names_request),
    started_at = coalesce(s.started_at, excluded.started_at),
    ended_at = CASE WHEN excluded.revision > s.revision THEN excluded.ended_at ELSE s.ended_at END,
    withdrawn = CASE WHEN excluded.revision > s.revision THEN excluded.withdrawn ELSE s.withdrawn END,
    revision = greatest(s.revision, excluded.revision)
"""
# The requests that these sessions may belong to, did belong to or name, each with the session that is now its own: the
# one that names it, else the first that began in its time and was not known before it. Never one that was withdrawn.
_MATCHES: Final = f"""
SELECT DISTINCT ON (r.id) {_COLUMNS}, best.id AS best_id, best.ended_at AS best_ended_at, observed.id AS observed_id
FROM sessions.session AS observed
JOIN sessions.request AS r ON r.station_id = observed.station_id AND r.connector_id = observed.connector_id
    AND (r.session_id = observed.id OR r.id = observed.names_request
         OR (r.claims_from <= observed.started_at AND r.claims_until > observed.started_at))
LEFT JOIN LATERAL (
    SELECT s.id, s.ended_at
    FROM sessions.session AS s
    WHERE s.station_id = r.station_id AND s.connector_id = r.connector_id AND s.started_at IS NOT NULL
      AND NOT s.withdrawn
      AND (s.names_request = r.id
           OR (s.names_request IS NULL AND s.arrival > r.arrival
               AND s.started_at >= r.claims_from AND s.started_at < r.claims_until))
    ORDER BY s.names_request IS NULL, s.started_at, s.id
    LIMIT 1
) AS best ON true
WHERE observed.id = ANY($1::uuid[])
ORDER BY r.id, observed.id
"""  # noqa: S608  # the names above
_LEAVE: Final = "UPDATE sessions.request SET session_id = NULL, completed_at = NULL WHERE id = ANY($1::uuid[])"
_TAKE: Final = "UPDATE sessions.request SET session_id = $2, completed_at = $3 WHERE id = $1"
_COUNT: Final = "UPDATE sessions.session SET assignment = assignment + 1 WHERE id = $1 RETURNING assignment"
_FORGET: Final = """
DELETE FROM sessions.session AS s
WHERE s.observed_at < now() - make_interval(days => $1) AND s.ended_at IS NOT NULL AND s.assignment = 0
  AND NOT EXISTS (SELECT FROM sessions.request AS r WHERE r.session_id = s.id)
"""
RETENTION: Final = (
    RecordRetention(
        "charging_requests",
        "sessions.driver_retention",
        """
UPDATE sessions.request AS r
SET driver_id = o.pseudonym,
    requested_by = CASE WHEN r.requested_by LIKE 'driver/%' THEN 'driver/' || o.pseudonym ELSE r.requested_by END,
    stop_requested_by = CASE WHEN r.stop_requested_by LIKE 'driver/%' THEN 'driver/' || o.pseudonym
                             ELSE r.stop_requested_by END
FROM (
    SELECT id, 'erased-' || gen_random_uuid() AS pseudonym FROM sessions.request
    WHERE requested_at < $1 AND driver_id NOT LIKE 'erased-________-____-____-____-____________'
      AND (session_id IS NULL OR completed_at IS NOT NULL)
    ORDER BY requested_at LIMIT $2 FOR UPDATE SKIP LOCKED
) AS o
WHERE r.id = o.id
""",
    ),
    RecordRetention("stops", "sessions.driver_retention", delete_old("sessions.stop", "requested_at")),
)


class StoredRequest(NamedTuple):
    """A row of sessions.request."""

    id: UUID
    driver_id: str
    station_id: str
    connector_id: int
    reservation_id: str | None
    requested_at: datetime
    expires_at: datetime
    session_id: UUID | None  # voltstream's
    completed_at: datetime | None
    stop_requested_at: datetime | None
    stop_requested_by: str | None


class RequestMatch(NamedTuple):
    """A request as stored, and the session that is to be assigned to it."""

    request: StoredRequest
    session_id: UUID | None
    ended_at: datetime | None
    observed_id: UUID  # the observed session that concerns the request


class ObservedSession(NamedTuple):
    """A session as an event describes it; None: not in the event."""

    id: UUID
    station_id: str
    connector_id: int
    name: str | None
    started_at: datetime | None
    ended_at: datetime | None
    revision: int  # of ended_at; 0: without the end
    withdrawn: bool  # its readings are other sessions' after all, or none's
    names: UUID | None  # the request's id that is its name, if it is one


@dataclass(frozen=True, slots=True)
class RequestFilter:
    """A filter of requests; None: any. They were made in [start, end)."""

    driver_id: str | None
    station_id: str | None
    start: datetime | None
    end: datetime | None
    state: SessionState | None
    only: StationFilter = EVERY_STATION


class RequestCursor(Cursor, frozen=True, tag="q"):
    """The last request seen."""

    requested_us: Micros
    id: UUID


def request_cursor(request: StoredRequest) -> RequestCursor:
    """The cursor key of a row of `page`."""
    return RequestCursor(to_micros(request.requested_at), request.id)


class RequestStore:
    """Reads requests. Every method raises Unavailable where the database does not answer."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def by_id(self, id_: UUID) -> StoredRequest | None:
        """The request of that id, or the one that the session of that id (voltstream's) came of."""
        rows = await self._database.fetch(f"{_SELECT} WHERE r.id = $1 OR r.session_id = $1", id_)
        return StoredRequest(*rows[0]) if rows else None

    async def by_name(self, driver_id: str, name: str, station_id: str | None, rows_max: int) -> list[StoredRequest]:
        """Up to rows_max requests of a driver whose sessions devices gave this id, newest first."""
        return [
            StoredRequest(*row) for row in await self._database.fetch(_BY_NAME, driver_id, name, station_id, rows_max)
        ]

    async def of_sessions(self, session_ids: Sequence[UUID]) -> dict[UUID, StoredRequest]:
        """By session, the requests that those sessions came of, if any."""
        rows = await self._database.fetch(f"{_SELECT} WHERE r.session_id = ANY($1::uuid[])", session_ids)
        return {request.session_id: request for request in _requests(rows) if request.session_id is not None}

    async def page(
        self, selected: RequestFilter, now: datetime, after: RequestCursor | None, rows_max: int
    ) -> list[StoredRequest]:
        """Up to rows_max requests, newest first."""
        behind = (None, None) if after is None else (from_micros(after.requested_us), after.id)
        state = None if selected.state is None else selected.state.value
        whose = (selected.driver_id, selected.station_id, selected.start, selected.end, state)
        rows = await self._database.fetch(_PAGE, *whose, now, *behind, rows_max, *selected.only.values)
        return _requests(rows)


def _requests(rows: Sequence[asyncpg.Record]) -> list[StoredRequest]:
    return [StoredRequest(*row) for row in rows]


async def lock(connection: Transaction, names: Sequence[str]) -> None:
    """Wait for these locks, in one order for all; the end of the transaction releases them.

    A driver's lock is always taken before a connector's.
    """
    await connection.execute(_LOCK, names)


def driver_lock(driver_id: str) -> str:
    """The lock of a driver's requests."""
    return f"driver/{driver_id}"


def connector_lock(station_id: str, connector_id: int) -> str:
    """The lock of the requests and sessions of a connector."""
    return f"connector/{station_id}/{connector_id}"


async def unsettled_of_driver(connection: Transaction, driver_id: str, now: datetime) -> list[StoredRequest]:
    """The driver's requests that wait for a session or have one that runs."""
    return _requests(await connection.fetch(_OF_DRIVER, now, now - EXPIRY, driver_id))


async def unsettled_at(
    connection: Transaction, station_id: str, connector_id: int, now: datetime
) -> list[StoredRequest]:
    """The connector's requests that wait for a session or have one that runs."""
    return _requests(await connection.fetch(_OF_CONNECTOR, now, now - EXPIRY, station_id, connector_id))


async def add(connection: Transaction, request: StoredRequest, requested_by: str) -> None:
    """Store a new request; earlier ones at the connector yield their time to it."""
    claims_from = request.requested_at - SKEW
    await connection.execute(_YIELD, request.station_id, request.connector_id, claims_from)
    named = (request.id, request.driver_id, request.station_id, request.connector_id, request.reservation_id)
    times = (request.requested_at, request.expires_at, request.expires_at + SKEW, claims_from)
    await connection.execute(_INSERT, *named, requested_by, *times)


async def claim_connector(connection: Transaction, request: StoredRequest) -> tuple[str | None, str | None]:
    """Claim the connector until the request expires: the reservation that it uses, and why not, if it is refused.

    No other request and no session may be open there.
    """
    times = (to_ms(request.requested_at), to_ms(request.expires_at))
    place = (request.station_id, request.connector_id, request.reservation_id)
    row = await connection.fetchrow(_CLAIM, request.id, request.driver_id, *place, *times)
    assert row is not None  # noqa: S101  # it always answers
    return row["reservation_id"], row["refused"]


async def fresh(connection: Transaction, request_id: UUID) -> StoredRequest:
    """The request as it is now that its connector is locked."""
    row = await connection.fetchrow(f"{_SELECT} WHERE r.id = $1", request_id)
    if row is None:
        raise AssertionError(f"request {request_id} was there, and requests are never deleted")
    return StoredRequest(*row)


async def stop(connection: Transaction, request_id: UUID, now: datetime, stopped_by: str) -> None:
    """Record that a request, or the session that came of it, is to be stopped."""
    await connection.execute(_STOP, request_id, now, stopped_by, now + SKEW)


async def stop_without_request(
    connection: Transaction, session_id: UUID, now: datetime, stopped_by: str
) -> datetime | None:
    """Record that a session without a request is to be stopped; since when, if that was recorded before."""
    since: datetime | None = await connection.fetchval(
        "SELECT requested_at FROM sessions.stop WHERE session_id = $1", session_id
    )
    if since is None:
        await connection.execute("INSERT INTO sessions.stop VALUES ($1, $2, $3)", session_id, now, stopped_by)
    return since


async def record_observations(connection: Transaction, observed: Sequence[ObservedSession]) -> list[RequestMatch]:
    """Store these observations, one of each session; the requests that they concern."""
    await connection.execute(_RECORD, *zip(*observed, strict=True))
    width = len(StoredRequest._fields)
    rows = await connection.fetch(_MATCHES, [one.id for one in observed])
    return [
        RequestMatch(StoredRequest(*row[:width]), row["best_id"], row["best_ended_at"], row["observed_id"])
        for row in rows
    ]


async def assign(connection: Transaction, matches: Sequence[RequestMatch]) -> dict[UUID, int]:
    """Assign these requests their sessions. By session, the revision of the assignment where it has changed."""
    changed = [match for match in matches if match.session_id != match.request.session_id]
    if changed:
        await connection.execute(_LEAVE, [match.request.id for match in changed])
    for request, session_id, ended_at, _ in matches:
        if (session_id, ended_at) != (request.session_id, request.completed_at):
            await connection.execute(_TAKE, request.id, session_id, ended_at)
    touched = {id_ for match in changed for id_ in (match.request.session_id, match.session_id) if id_ is not None}
    return {id_: await connection.fetchval(_COUNT, id_) for id_ in sorted(touched)}


async def delete_old_unrequested(connection: Transaction) -> None:
    """Delete ended sessions that never had a request, KEEP_DAYS after they were first observed."""
    await connection.execute(_FORGET, KEEP_DAYS)
