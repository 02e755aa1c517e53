"""The SQL of who stands where: places, sessions and reservations of stations; when overstays are due and were told."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

import asyncpg

from api.reservations.life.rule import Place
from api.reservations.parking.rule import ConnectorStatus, Sensor
from api.reservations.parking.stay import PlaceFacts, ReservationFacts, SessionFacts
from kit.auth.station_filter import StationFilter, visible
from kit.database.postgres import Database
from kit.messaging.outbox import Transaction

# A reservation lasts a day at most, and who stands there a day after it has been told of that.
_BEGUN_HOURS: Final = 48
_PLACES: Final = """
SELECT p.place_key, p.station_id, p.connector_id, p.bay, p.taken_with, p.registered, p.status, p.idle_since,
       p.plugged_since, p.not_charging_since, p.time_limit_s, p.occupied, p.occupied_since
FROM reservations.place AS p
WHERE p.station_id = ANY ($1::text[]) AND (p.registered OR p.occupied IS NOT NULL)
ORDER BY p.station_id, p.connector_id, p.bay
"""
_SESSIONS: Final = """
SELECT p.station_id, p.place_key, s.id, coalesce(d.driver_id, r.driver_id) AS driver_id, s.ended_at
FROM reservations.place AS p CROSS JOIN LATERAL (
    SELECT * FROM reservations.session WHERE place_key = p.place_key AND started_at IS NOT NULL
    ORDER BY started_at DESC, id LIMIT 1
) AS s
LEFT JOIN reservations.session_driver AS d ON d.session_id = s.id
LEFT JOIN LATERAL (
    SELECT driver_id FROM reservations.reservation WHERE session_id = s.id LIMIT 1
) AS r ON true
WHERE p.station_id = ANY ($1::text[]) AND p.connector_id IS NOT NULL
"""
_RESERVATIONS: Final = f"""
SELECT r.station_id, r.place_key, r.driver_id, greatest(r.created_at, r.starts_at - $3::interval) AS may_come_from,
       r.ends_at
FROM reservations.reservation AS r
WHERE r.station_id = ANY ($1::text[]) AND r.state IN ('active', 'used')
  AND r.starts_at > $2::timestamptz - interval '{_BEGUN_HOURS} hours' AND r.starts_at <= $2::timestamptz + $3::interval
ORDER BY r.starts_at, r.id
"""  # noqa: S608  # a constant
# Whoever looks at a station's stays sees all that others have committed who did, so that the last look is right.
# Stations share 256 locks, for the server has room for some thousands in all.
_LOCK: Final = """
SELECT pg_advisory_xact_lock(hashtext('reservations/stays'), key)
FROM (SELECT DISTINCT hashtext(one) & 255 AS key FROM unnest($1::text[]) AS one ORDER BY key) AS sorted
"""
_STAYS: Final = """
SELECT s.place_key, s.due_at, s.told_at FROM reservations.stay AS s
JOIN reservations.place AS p USING (place_key) WHERE p.station_id = ANY ($1::text[])
"""
_PUT_STAYS: Final = """
INSERT INTO reservations.stay (place_key, station_id, due_at, told_at)
SELECT * FROM unnest($1::bigint[], $2::text[], $3::timestamptz[], $4::timestamptz[])
ON CONFLICT (place_key) DO UPDATE SET due_at = excluded.due_at, told_at = excluded.told_at
"""
_END_STAYS: Final = "UPDATE reservations.stay SET due_at = NULL WHERE place_key = ANY ($1::bigint[])"
_DUE: Final = """
SELECT s.station_id FROM reservations.stay AS s WHERE s.due_at <= $1 ORDER BY s.due_at LIMIT $2
"""


_UNREGISTERED: Final = f"""
SELECT p.place_key, p.station_id, p.bay, p.occupied, p.occupied_since AS since FROM reservations.place AS p
WHERE NOT p.registered AND p.bay IS NOT NULL AND p.occupied IS NOT NULL AND p.place_key > $1
  AND {visible("p.station_id", 3)}
ORDER BY p.place_key LIMIT $2
"""  # noqa: S608  # our own names


class Watch(NamedTuple):
    """When an overstay at a place is due, and when the last one was told."""

    due_at: datetime | None = None
    told_at: datetime | None = None


async def places(database: Database | Transaction, station_ids: Sequence[str]) -> dict[str, list[PlaceFacts]]:
    """Of each station its connectors, then its bays, then those that only their sensors know."""
    found: dict[str, list[PlaceFacts]] = {}
    for row in await database.fetch(_PLACES, station_ids):
        found.setdefault(row["station_id"], []).append(_facts(row))
    return found


async def sessions(database: Database | Transaction, station_ids: Sequence[str]) -> dict[str, list[SessionFacts]]:
    """Of each station the newest session at each connector."""
    found: dict[str, list[SessionFacts]] = {}
    for station_id, *session in await database.fetch(_SESSIONS, station_ids):
        found.setdefault(station_id, []).append(SessionFacts(*session))
    return found


async def reservations(
    database: Database | Transaction, station_ids: Sequence[str], now: datetime, buffer: timedelta
) -> dict[str, list[ReservationFacts]]:
    """Of each station those that have begun, with their buffers, within the last two days."""
    found: dict[str, list[ReservationFacts]] = {}
    for station_id, *reservation in await database.fetch(_RESERVATIONS, station_ids, now, buffer):
        found.setdefault(station_id, []).append(ReservationFacts(*reservation))
    return found


async def lock_stays(connection: Transaction, station_ids: Sequence[str]) -> None:
    """Wait until no other transaction looks at the stays of these stations."""
    await connection.execute(_LOCK, station_ids)


async def watches(connection: Transaction, station_ids: Sequence[str]) -> dict[int, Watch]:
    """By place, of those that have one."""
    return {
        row["place_key"]: Watch(row["due_at"], row["told_at"]) for row in await connection.fetch(_STAYS, station_ids)
    }


async def put_watches(connection: Transaction, changed: Mapping[Place, Watch]) -> None:
    """Store these."""
    rows = [(place.key, place.station_id, *watch) for place, watch in changed.items()]
    await connection.execute(_PUT_STAYS, *zip(*rows, strict=True))


async def end_watches(connection: Transaction, place_keys: Sequence[int]) -> None:
    """Nothing is due any more at these places, which are not there any more."""
    if place_keys:
        await connection.execute(_END_STAYS, place_keys)


async def due_stations(database: Database, now: datetime, rows_max: int) -> list[str]:
    """Stations at which an overstay is due, those due first before others."""
    return [row["station_id"] for row in await database.fetch(_DUE, now, rows_max)]


async def unregistered(database: Database, after: int, rows_max: int, only: StationFilter) -> list[asyncpg.Record]:
    """Up to rows_max bays of these stations that a sensor tells of and the registry does not have, by their keys,
    behind this one."""
    return await database.fetch(_UNREGISTERED, after, rows_max, *only.values)


def _facts(row: Mapping[str, Any]) -> PlaceFacts:
    moments = (row["idle_since"], row["plugged_since"], row["not_charging_since"])
    return PlaceFacts(
        place=Place(row["place_key"], row["station_id"], row["connector_id"], row["bay"], tuple(row["taken_with"])),
        registered=row["registered"],
        status=ConnectorStatus(row["status"], *moments),
        sensor=None if row["occupied"] is None else Sensor(row["occupied"], row["occupied_since"]),
        time_limit=None if row["time_limit_s"] is None else timedelta(seconds=row["time_limit_s"]),
    )
