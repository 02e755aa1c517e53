"""The SQL of connectors' status and of reservations."""

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

import asyncpg
import msgspec

from kit.database.postgres import Database
from kit.messaging.outbox import Transaction
from schemas.events import StatusChange

RECENT_MAX: Final = 10  # changes of a connector that are kept, ~150 bytes each

# Ordered, so that two batches of the same connectors wait for each other in one order.
_PUT_STATUS: Final = """
INSERT INTO stations.connector_state AS c (station_id, connector_id, status, error_code, since, revision)
SELECT s, n, k, e, t, r
FROM unnest($1::text[], $2::smallint[], $3::smallint[], $4::text[], $5::timestamptz[], $6::int[])
    AS seen (s, n, k, e, t, r)
ORDER BY s, n
ON CONFLICT (station_id, connector_id) DO UPDATE SET
    (status, error_code, since, revision) = (excluded.status, excluded.error_code, excluded.since, excluded.revision)
WHERE c.revision < excluded.revision
"""
_ADD_RECENT: Final = """
INSERT INTO stations.connector_recent AS c (station_id, connector_id, changes)
SELECT s, n, jsonb_agg(one ORDER BY (one ->> 'revision')::int DESC)
FROM unnest($1::text[], $2::smallint[], $3::text[]) AS seen (s, n, text), LATERAL (SELECT text::jsonb) AS j (one)
GROUP BY s, n ORDER BY s, n
ON CONFLICT (station_id, connector_id) DO UPDATE SET changes = (
    SELECT jsonb_agg(one ORDER BY revision DESC)
    FROM (
        SELECT DISTINCT ON (revision) revision, one
        FROM jsonb_array_elements(excluded.changes || c.changes) AS of_both (one),
             LATERAL (SELECT (one ->> 'revision')::int) AS r (revision)
        ORDER BY revision DESC LIMIT $4
    ) AS newest
)
"""
_PUT_RESERVATIONS: Final = """
INSERT INTO stations.reservation AS r
    (reservation_id, revision, station_id, connector_id, bay, starts_at, ends_at, open)
SELECT i, n, s, c, b, f, t, o
FROM unnest($1::text[], $2::int[], $3::text[], $4::smallint[], $5::text[], $6::timestamptz[], $7::timestamptz[],
            $8::boolean[]) AS seen (i, n, s, c, b, f, t, o)
ORDER BY i
ON CONFLICT (reservation_id) DO UPDATE SET
    (revision, station_id, connector_id, bay, starts_at, ends_at, open) =
    (excluded.revision, excluded.station_id, excluded.connector_id, excluded.bay, excluded.starts_at,
     excluded.ends_at, excluded.open)
WHERE r.revision < excluded.revision
"""
# It only ever grows: beyond it a search asks no reservation.
_RESERVED: Final = """
INSERT INTO stations.connector_state AS c (station_id, connector_id, reserved_until)
SELECT s, n, max(t) FROM unnest($1::text[], $2::smallint[], $3::timestamptz[]) AS seen (s, n, t)
GROUP BY s, n ORDER BY s, n
ON CONFLICT (station_id, connector_id) DO UPDATE SET reserved_until = excluded.reserved_until
WHERE c.reserved_until IS NULL OR c.reserved_until < excluded.reserved_until
"""
_BY_STATUS: Final = "SELECT status, count(*) FROM stations.connector_state GROUP BY 1"
_FORGET: Final = "DELETE FROM stations.reservation WHERE ends_at < $1"
_ADD_RECEIVED: Final = """
INSERT INTO stations.received AS r (station_id, newest_ts, readings, counted_at)
SELECT s, max(t), sum(n), max(c)
FROM unnest($1::text[], $2::timestamptz[], $3::bigint[], $4::timestamptz[]) AS given (s, t, n, c)
GROUP BY s ORDER BY s
ON CONFLICT (station_id) DO UPDATE SET
    newest_ts = greatest(r.newest_ts, excluded.newest_ts),
    readings = r.readings + excluded.readings,
    counted_at = greatest(r.counted_at, excluded.counted_at)
"""
# Connectors that are registered or have spoken, with the reservation that they are kept for now.
_STATION: Final = """
SELECT connector_id, coalesce(c.registered, false) AS registered, k.connector_id IS NOT NULL AS known,
       coalesce(c.status, 0) AS status, c.error_code, c.since, coalesce(c.revision, 0) AS revision, k.evse_id,
       k.standard, k.rated_power_w, recent.changes, r.starts_at AS reserved_from, r.ends_at AS reserved_until
FROM (SELECT * FROM stations.connector_state WHERE station_id = $1) AS c
FULL JOIN (SELECT * FROM stations.connector WHERE station_id = $1) AS k USING (connector_id)
LEFT JOIN (SELECT * FROM stations.connector_recent WHERE station_id = $1) AS recent USING (connector_id)
LEFT JOIN LATERAL (
    SELECT r.starts_at, r.ends_at FROM stations.reservation AS r
    WHERE r.station_id = $1 AND r.connector_id = coalesce(c.connector_id, k.connector_id)
      AND r.open AND r.starts_at <= $2 AND r.ends_at > $2
    ORDER BY r.ends_at DESC LIMIT 1
) AS r ON true
ORDER BY connector_id
"""


class Reservation(NamedTuple):
    """A reservation, as an event has it."""

    reservation_id: str
    revision: int
    station_id: str
    connector_id: int | None
    bay: str | None
    starts_at: datetime
    ends_at: datetime
    open: bool


class ReceivedOf(NamedTuple):
    """What one event says of one station."""

    station_id: str
    newest_ts: datetime
    readings: int
    counted_at: datetime


class Seen(NamedTuple):
    """The newest status of a connector."""

    station_id: str
    connector_id: int
    status: int
    error_code: str | None
    since: datetime
    revision: int


class StatusStore:
    """Every method raises Unavailable where the database does not answer."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def connectors(self, station_id: str, now: datetime) -> list[asyncpg.Record]:
        """The station's connectors, in order."""
        return await self._database.fetch(_STATION, station_id, now)

    async def by_status(self) -> dict[int, int]:
        """How many connectors have each status, by its number."""
        return dict(map(tuple, await self._database.fetch(_BY_STATUS)))

    async def is_registered(self, station_id: str) -> bool:
        """Whether the station is registered, with connectors or without."""
        query = "SELECT EXISTS (SELECT FROM stations.station WHERE station_id = $1)"
        return bool(await self._database.fetchval(query, station_id))

    async def received(self, station_id: str) -> asyncpg.Record | None:
        """What it sent; None where no event told of it."""
        query = "SELECT readings, newest_ts, counted_at FROM stations.received WHERE station_id = $1"
        return await self._database.fetchrow(query, station_id)

    async def forget_reservations(self, before: datetime) -> None:
        """Delete those that ended before."""
        await self._database.execute(_FORGET, before)


async def statuses(connection: Transaction, station_ids: Sequence[str]) -> dict[str, dict[int, int]]:
    """Numbers of the statuses of these stations' connectors, those that said one."""
    query = (
        """SELECT station_id, connector_id, status FROM stations.connector_state WHERE station_id = ANY ($1::text[])"""
    )
    found: defaultdict[str, dict[int, int]] = defaultdict(dict)
    for row in await connection.fetch(query, station_ids):
        found[row["station_id"]][row["connector_id"]] = row["status"]
    return found


async def put_statuses(connection: Transaction, newest: Sequence[Seen], changes: Sequence[StatusChange]) -> None:
    """Store the newest status of each connector where nothing newer is known, and add all changes to the last ones."""
    await connection.execute(_PUT_STATUS, *_columns(newest))
    by_revision = {(one.station_id, one.connector_id, one.revision): one for one in changes}
    kept: defaultdict[tuple[str, int], int] = defaultdict(int)
    last = []
    for key in sorted(by_revision, reverse=True):  # of more than are kept, the newest
        kept[key[:2]] += 1
        if kept[key[:2]] <= RECENT_MAX:
            last.append(by_revision[key])
    documents = [msgspec.json.encode(_recent(one)).decode() for one in last]
    keys = ([one.station_id for one in last], [one.connector_id for one in last])
    await connection.execute(_ADD_RECENT, *keys, documents, RECENT_MAX)


async def add_received(connection: Transaction, received: Sequence[ReceivedOf]) -> None:
    """Add readings that no earlier call was told of."""
    await connection.execute(_ADD_RECEIVED, *_columns(received))


async def put_reservations(connection: Transaction, reservations: Sequence[Reservation]) -> None:
    """Store these, one each, where nothing newer is known."""
    await connection.execute(_PUT_RESERVATIONS, *_columns(reservations))
    reserved = [(one.station_id, one.connector_id, one.ends_at) for one in reservations if one.connector_id is not None]
    if reserved:
        await connection.execute(_RESERVED, *_columns(reserved))


def _columns(rows: Sequence[tuple[Any, ...]]) -> list[list[Any]]:
    return list(map(list, zip(*rows, strict=True)))


def _recent(change: StatusChange) -> dict[str, Any]:
    return {name: getattr(change, name) for name in ("revision", "status", "previous", "error_code", "since")}
