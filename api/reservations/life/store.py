"""The SQL of reservations and of what they claim.

Changes are made in the caller's transaction. Whoever changes a reservation has locked its row.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple
from uuid import UUID

import asyncpg

from api.reservations.life.rule import Place, Reservation, ReservationState
from api.reservations.places.free_times import Interval
from kit.auth.station_filter import EVERY_STATION, StationFilter, sees, visible
from kit.database.postgres import Database
from kit.messaging.outbox import Transaction
from kit.retention import RecordRetention
from kit.web.paging import Cursor, Micros, from_micros, to_micros
from schemas.reading import STATUS_LABELS, Status

SCHEMA: Final = "reservations"
OUT_OF_ORDER_STATUSES: Final = (STATUS_LABELS[Status.FAULTED], STATUS_LABELS[Status.UNAVAILABLE])
CANDIDATES_MAX: Final = 200  # connectors of one plug at one site: the largest sites have fewer
INTERVALS_MAX: Final = 5_000  # claims that free times are computed from: 200 connectors, 25 reservations each
SESSION_SKEW: Final = timedelta(seconds=30)  # of stations' clocks
RETENTION: Final = RecordRetention(
    "reservations",
    "reservations.driver_retention",
    """
UPDATE reservations.reservation AS r
SET driver_id = o.pseudonym,
    created_by = CASE WHEN r.created_by LIKE 'driver/%' THEN 'driver/' || o.pseudonym ELSE r.created_by END
FROM (
    SELECT id, 'erased-' || gen_random_uuid() AS pseudonym FROM reservations.reservation
    WHERE ends_at < $1 AND due_at IS NULL AND driver_id NOT LIKE 'erased-________-____-____-____-____________'
    ORDER BY ends_at LIMIT $2 FOR UPDATE SKIP LOCKED
) AS o
WHERE r.id = o.id
""",
)

_COLUMNS: Final = (
    "r.id, r.driver_id, r.place_key, r.station_id, r.connector_id, r.bay, r.starts_at, r.ends_at, r.state, r.revision, "
    "r.created_at, r.held_until, r.reason, r.moved_from, r.request_id, r.request_until, r.session_id, r.charged"
)
_SELECT: Final = f"SELECT {_COLUMNS} FROM reservations.reservation AS r"  # noqa: S608  # the names above
_BY_ID: Final = f"{_SELECT} WHERE r.id = $1 AND {visible('r.station_id', 2)}"
_PLACE: Final = "p.place_key, p.station_id, p.connector_id, p.bay, p.taken_with"

_LOCK_DRIVER: Final = "SELECT reservations.lock_driver($1)"
_TAKE: Final = """
INSERT INTO reservations.claim (place_key, during, kind, holder)
SELECT key, tstzrange($2, $3), $4, $5 FROM unnest($1::bigint[]) AS keys (key)
ON CONFLICT DO NOTHING
"""
_GIVE_BACK: Final = "DELETE FROM reservations.claim WHERE holder = $1"
_INSERT: Final = """
INSERT INTO reservations.reservation (id, driver_id, place_key, station_id, connector_id, bay, starts_at, ends_at,
                                      state, revision, created_at, held_until, created_by, due_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
"""
_UPDATE: Final = """
UPDATE reservations.reservation SET place_key = $2, station_id = $3, connector_id = $4, bay = $5, state = $6,
    revision = $7, held_until = $8, reason = $9, moved_from = $10, request_id = $11, request_until = $12,
    session_id = $13, charged = $14, due_at = $15
WHERE id = $1
"""
_POSTPONE: Final = "UPDATE reservations.reservation SET due_at = $2 WHERE id = $1"
_PAGE: Final = f"""{_SELECT}
WHERE ($1::text IS NULL OR r.driver_id = $1) AND ($2::text IS NULL OR r.station_id = $2)
  AND ($3::text IS NULL OR r.state = $3)
  AND ($4::timestamptz IS NULL OR r.starts_at >= $4) AND ($5::timestamptz IS NULL OR r.starts_at < $5)
  AND ($6::timestamptz IS NULL OR (r.starts_at, r.id) < ($6, $7::uuid))
  AND {visible("r.station_id", 9)}
ORDER BY r.starts_at DESC, r.id DESC LIMIT $8
"""
# Whether a place is out of order: a bay with connectors if all of these are.
_OUT: Final = """(NOT p.registered OR coalesce(p.status = ANY ({0}::text[]), false)
    OR p.bay IS NOT NULL AND p.taken_with <> '{{}}' AND NOT EXISTS (
        SELECT FROM reservations.place AS c
        WHERE c.place_key = ANY (p.taken_with) AND NOT coalesce(c.status = ANY ({0}::text[]), false)))"""
# The vehicle that the sensor of a bay sees at the place of r: since when, whether there is nothing to charge with, and
# whether it is the driver's by a session of theirs.
_VEHICLE: Final = """
p.bay IS NOT NULL AND p.taken_with = '{}' AS alone, v.since AS vehicle_since,
EXISTS (SELECT FROM reservations.session AS s JOIN reservations.session_driver AS d ON d.session_id = s.id
        WHERE s.place_key = ANY (p.place_key || p.taken_with) AND d.driver_id = r.driver_id
          AND (s.ended_at IS NULL OR s.ended_at >= v.since)) AS of_driver
"""
_SEEN: Final = """
CROSS JOIN LATERAL (SELECT max(b.occupied_since) AS since FROM reservations.place AS b
                    WHERE b.place_key = ANY (p.place_key || p.taken_with) AND b.occupied) AS v
"""
_VEHICLE_AT: Final = f"""
SELECT {_VEHICLE} FROM reservations.reservation AS r JOIN reservations.place AS p ON p.place_key = r.place_key {_SEEN}
WHERE r.id = $1
"""  # noqa: S608  # the texts above
# Of reservations that a vehicle used where there is nothing to charge with.
_END_ARRIVALS: Final = """
DELETE FROM reservations.claim AS c USING reservations.reservation AS r
WHERE c.place_key = ANY ($1::bigint[]) AND c.kind = 'session' AND r.id = c.holder
"""
_DUE: Final = f"""
SELECT {_COLUMNS}, {_VEHICLE}, {_OUT.format("$2")} AS out_of_order,
       EXISTS (SELECT FROM reservations.session AS s
               WHERE s.ended_at IS NULL AND s.place_key = ANY (p.place_key || p.taken_with)) AS occupied
FROM reservations.reservation AS r JOIN reservations.place AS p ON p.place_key = r.place_key {_SEEN}
WHERE r.due_at <= $1
ORDER BY r.due_at LIMIT $3
FOR UPDATE OF r SKIP LOCKED
"""  # noqa: S608  # the names above
# The reservations that have a claim of one of these places.
_CLAIMING: Final = f"""{_SELECT}
WHERE r.due_at IS NOT NULL AND r.id IN (
    SELECT c.holder FROM unnest($1::bigint[]) AS keys (key) JOIN reservations.claim AS c
        ON c.place_key = keys.key AND c.kind = 'reservation')
ORDER BY r.id FOR UPDATE
"""  # noqa: S608  # the names above
_AT_PLACES: Final = f"""{_SELECT}
WHERE r.due_at IS NOT NULL AND r.place_key = ANY ($1::bigint[]) ORDER BY r.id FOR UPDATE
"""
_AT_OUT_OF_ORDER: Final = f"""{_SELECT} JOIN reservations.place AS p ON p.place_key = r.place_key
WHERE r.due_at IS NOT NULL AND (p.place_key = ANY ($1::bigint[]) OR p.taken_with && $1::bigint[])
  AND r.station_id IN (SELECT o.station_id FROM reservations.place AS o WHERE o.place_key = ANY ($1::bigint[]))
  AND {_OUT.format("$2")}
ORDER BY r.id FOR UPDATE OF r
"""  # noqa: S608  # the names above

_NAMED: Final = f"""
SELECT {_PLACE}, {_OUT.format("$3")} AS out_of_order FROM reservations.place AS p
WHERE p.station_id = $1 AND p.{{what}} = $2 AND p.registered
"""  # noqa: S608  # the names above
_NAMED_CONNECTOR: Final = _NAMED.replace("{what}", "connector_id")
_NAMED_BAY: Final = _NAMED.replace("{what}", "bay")
_FREE: Final = """NOT EXISTS (
    SELECT FROM unnest(p.place_key || p.taken_with) AS keys (key)
    JOIN reservations.claim AS c ON c.place_key = keys.key AND c.during && tstzrange($1, $2))
"""
# Free ones first, each time in another order, so that drivers who ask at once do not all try the same connector.
_OF_PLUG: Final = f"""
SELECT {_PLACE} FROM reservations.station AS s JOIN reservations.place AS p ON p.station_id = s.station_id
WHERE s.site = $3 AND NOT s.removed AND p.registered AND p.standard = $4 AND coalesce(p.rated_power_w, 0) >= $5
  AND NOT coalesce(p.status = ANY ($6::text[]), false) AND {visible("p.station_id", 8)}
ORDER BY {_FREE} DESC, hashint8extended(p.place_key, $7) LIMIT {CANDIDATES_MAX}
"""  # noqa: S608  # the names above
# Places that can stand in for another, and are free.
_LIKE: Final = f"""
SELECT {_PLACE}
FROM reservations.place AS old
JOIN reservations.station AS at ON at.station_id = old.station_id
JOIN reservations.station AS s ON s.site = at.site AND NOT s.removed OR s.station_id = at.station_id
JOIN reservations.place AS p ON p.station_id = s.station_id
WHERE old.place_key = $3 AND p.place_key <> old.place_key AND NOT {_OUT.format("$4")}
  AND ($5 OR NOT EXISTS (SELECT FROM reservations.place AS b
                         WHERE b.place_key = ANY (p.place_key || p.taken_with) AND b.occupied))
  AND CASE WHEN old.bay IS NULL THEN p.standard = old.standard
           ELSE p.bay IS NOT NULL AND p.restrictions = old.restrictions END
  AND {_FREE}
ORDER BY p.station_id <> old.station_id, coalesce(p.rated_power_w, 0) < coalesce(old.rated_power_w, 0), p.place_key
LIMIT 20
"""  # noqa: S608  # the names above
_TAKEN: Final = f"""
SELECT keys.place, lower(c.during), upper(c.during)
FROM unnest($1::bigint[], $2::bigint[]) AS keys (place, key)
JOIN reservations.claim AS c ON c.place_key = keys.key AND c.during && tstzrange($3, $4)
ORDER BY 2 LIMIT {INTERVALS_MAX}
"""  # noqa: S608  # the names above
_NEXT_CLAIM: Final = """
SELECT min(lower(c.during))
FROM reservations.place AS p
CROSS JOIN LATERAL unnest(p.place_key || p.taken_with) AS keys (key)
JOIN reservations.claim AS c ON c.place_key = keys.key AND c.during && tstzrange($2, $3) AND c.holder <> $4
WHERE p.place_key = $1
"""
_TARIFF: Final = """
SELECT d.id, d.time_zone, d.tariff::text AS tariff
FROM pricing.tariffs_at(ARRAY[$1::text], ARRAY[$2::bigint]) AS t
CROSS JOIN LATERAL pricing.documents(ARRAY[t.version_key]) AS d
"""


@dataclass(frozen=True, slots=True)
class ReservationFilter:
    """A filter of reservations; None: any. They begin in [start, end)."""

    driver_id: str | None
    station_id: str | None
    state: ReservationState | None
    start: datetime | None
    end: datetime | None
    only: StationFilter = EVERY_STATION


class ReservationCursor(Cursor, frozen=True, tag="rv"):
    """The last reservation seen."""

    starts_us: Micros
    id: UUID


class DueReservation(NamedTuple):
    """A reservation that the clock may change."""

    reservation: Reservation
    out_of_order: bool  # its place
    occupied: bool  # a session is open there
    vehicle: "Vehicle"


class Vehicle(NamedTuple):
    """What the sensor of a bay sees at a reservation's place."""

    alone: bool  # there is nothing to charge with: whoever has reserved the bay uses it by standing in it
    since: datetime | None  # None: no vehicle
    of_driver: bool  # the driver has a session there


def reservation_cursor(reservation: Reservation) -> ReservationCursor:
    """The cursor key of a row of `page`."""
    return ReservationCursor(to_micros(reservation.starts_at), reservation.id)


class ReservationStore:
    """Reads reservations. Every method raises Unavailable where the database does not answer."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def sees(self, only: StationFilter, station_id: str) -> bool:
        """Whether the station passes the filter now."""
        return await sees(self._database, only, station_id)

    async def by_id(self, id_: UUID, only: StationFilter) -> Reservation | None:
        """The reservation of that id, at one of these stations."""
        return await by_id(self._database, id_, only)

    async def page(
        self, selected: ReservationFilter, after: ReservationCursor | None, rows_max: int
    ) -> list[Reservation]:
        """Up to rows_max reservations, those that begin last first."""
        behind = (None, None) if after is None else (from_micros(after.starts_us), after.id)
        rows = await self._database.fetch(
            _PAGE,
            selected.driver_id,
            selected.station_id,
            selected.state,
            selected.start,
            selected.end,
            *behind,
            rows_max,
            *selected.only.values,
        )
        return [_reservation(row) for row in rows]


async def by_id(database: Database | Transaction, id_: UUID, only: StationFilter = EVERY_STATION) -> Reservation | None:
    """The reservation of that id, at one of these stations."""
    row = await database.fetchrow(_BY_ID, id_, *only.values)
    return None if row is None else _reservation(row)


async def lock_driver(connection: Transaction, driver_id: str) -> int:
    """Wait until no other transaction reserves for the driver; how many reservations they have that are not over."""
    count: int = await connection.fetchval(_LOCK_DRIVER, driver_id)
    return count


async def named_place(
    connection: Transaction, station_id: str, connector_id: int | None, bay: str | None
) -> tuple[Place, bool] | None:
    """A registered connector or bay, and whether it is out of order."""
    query, what = (_NAMED_BAY, bay) if connector_id is None else (_NAMED_CONNECTOR, connector_id)
    row = await connection.fetchrow(query, station_id, what, OUT_OF_ORDER_STATUSES)
    return None if row is None else (_place(row), row["out_of_order"])


async def places_of_plug(
    connection: Transaction,
    site: str,
    standard: str,
    power_w_min: int,
    during: Interval,
    seed: int,
    only: StationFilter,
) -> list[Place]:
    """The site's connectors of that standard at these stations that are not out of order, those first that seem
    free."""
    wanted = (site, standard, power_w_min, OUT_OF_ORDER_STATUSES, seed)
    rows = await connection.fetch(_OF_PLUG, *during, *wanted, *only.values)
    return [_place(row) for row in rows]


async def places_like(connection: Transaction, place: Place, during: Interval, *, vehicles_may_go: bool) -> list[Place]:
    """Places of the same plug (bays: of the same restrictions) at the same site that are in order and seem free.

    `vehicles_may_go`: also those where a sensor sees a vehicle now."""
    rows = await connection.fetch(_LIKE, *during, place.key, OUT_OF_ORDER_STATUSES, vehicles_may_go)
    return [_place(row) for row in rows]


async def vehicle_at(connection: Transaction, reservation: Reservation) -> Vehicle:
    """What the sensor sees at the reservation's place."""
    row = await connection.fetchrow(_VEHICLE_AT, reservation.id)
    assert row is not None  # noqa: S101  # the caller has locked it
    return _vehicle(row)


async def end_arrivals(connection: Transaction, place_keys: Sequence[int]) -> None:
    """Delete what used reservations claim of these bays, whose vehicles have gone."""
    await connection.execute(_END_ARRIVALS, place_keys)


async def take(connection: Transaction, place: Place, during: Interval, kind: str, holder: UUID) -> bool:
    """Claim the place, and what is taken with it; whether it was free for all of that time."""
    keys = place.keys  # in one order for all, so that two transactions seldom wait for each other
    tag: str = await connection.execute(_TAKE, keys, *during, kind, holder)
    taken_now = int(tag.rpartition(" ")[2])
    if taken_now == len(keys):
        return True
    if taken_now:
        await give_back(connection, holder)
    return False


async def give_back(connection: Transaction, holder: UUID) -> None:
    """Delete the claims of a reservation, a request or a session."""
    await connection.execute(_GIVE_BACK, holder)


async def taken(connection: Transaction, places: Sequence[Place], within: Interval) -> Mapping[Place, list[Interval]]:
    """Of these places the times that are taken, in order."""
    found: dict[int, list[Interval]] = {place.key: [] for place in places}
    pairs = [(place.key, key) for place in places for key in place.keys]
    owners, keys = [owner for owner, _ in pairs], [key for _, key in pairs]
    for key, start, end in await connection.fetch(_TAKEN, owners, keys, *within):
        found[key].append((start, end))
    return {place: found[place.key] for place in places}


async def free_until(connection: Transaction, place_key: int, during: Interval, holder: UUID) -> datetime | None:
    """When the next claim of another begins within that time; None: none does."""
    found: datetime | None = await connection.fetchval(_NEXT_CLAIM, place_key, *during, holder)
    return found


async def add(connection: Transaction, reservation: Reservation, created_by: str, due_at: datetime) -> None:
    """Store a new reservation."""
    await connection.execute(
        _INSERT,
        reservation.id,
        reservation.driver_id,
        *_columns_of(reservation.place),
        reservation.starts_at,
        reservation.ends_at,
        reservation.state,
        reservation.revision,
        reservation.created_at,
        reservation.held_until,
        created_by,
        due_at,
    )


async def locked(connection: Transaction, id_: UUID, only: StationFilter = EVERY_STATION) -> Reservation | None:
    """The reservation, at one of these stations, which nobody else changes until the transaction ends."""
    row = await connection.fetchrow(f"{_BY_ID} FOR UPDATE", id_, *only.values)
    return None if row is None else _reservation(row)


async def due(connection: Transaction, now: datetime, rows_max: int) -> list[DueReservation]:
    """Up to rows_max reservations that the clock may change, locked; without those that others have locked."""
    rows = await connection.fetch(_DUE, now, OUT_OF_ORDER_STATUSES, rows_max)
    return [DueReservation(_reservation(row), row["out_of_order"], row["occupied"], _vehicle(row)) for row in rows]


async def claiming(connection: Transaction, place_keys: Sequence[int]) -> list[Reservation]:
    """The live reservations that claim one of these places, locked."""
    return [_reservation(row) for row in await connection.fetch(_CLAIMING, place_keys)]


async def at_places(connection: Transaction, place_keys: Sequence[int]) -> list[Reservation]:
    """The live reservations of these places, locked."""
    return [_reservation(row) for row in await connection.fetch(_AT_PLACES, place_keys)]


async def at_places_out_of_order(connection: Transaction, place_keys: Sequence[int]) -> list[Reservation]:
    """The live reservations of these connectors, and of bays whose connectors are all out of order, locked."""
    return [_reservation(row) for row in await connection.fetch(_AT_OUT_OF_ORDER, place_keys, OUT_OF_ORDER_STATUSES)]


async def save(connection: Transaction, reservation: Reservation, due_at: datetime | None) -> None:
    """Store a changed reservation."""
    await connection.execute(
        _UPDATE,
        reservation.id,
        *_columns_of(reservation.place),
        reservation.state,
        reservation.revision,
        reservation.held_until,
        reservation.reason,
        reservation.moved_from,
        reservation.request_id,
        reservation.request_until,
        reservation.session_id,
        reservation.charged,
        due_at,
    )


async def postpone(connection: Transaction, reservation: Reservation, due_at: datetime | None) -> None:
    """Store when the clock may change it next."""
    await connection.execute(_POSTPONE, reservation.id, due_at)


async def tariff_at(database: Database | Transaction, station_id: str, moment_ms: int) -> asyncpg.Record | None:
    """`id`, `time_zone` and `tariff` (its JSON) of the tariff version in force at the station then, if any."""
    return await database.fetchrow(_TARIFF, station_id, moment_ms)


def _vehicle(row: Mapping[str, Any]) -> Vehicle:
    return Vehicle(row["alone"], row["vehicle_since"], row["of_driver"])


def _columns_of(place: Place) -> tuple[int, str, int | None, str | None]:
    return place.key, place.station_id, place.connector_id, place.bay


def _place(row: Mapping[str, Any]) -> Place:
    return Place(row["place_key"], row["station_id"], row["connector_id"], row["bay"], tuple(row.get("taken_with", ())))


def _reservation(row: Mapping[str, Any]) -> Reservation:
    return Reservation(
        id=row["id"],
        driver_id=row["driver_id"],
        place=_place(row),
        starts_at=row["starts_at"],
        ends_at=row["ends_at"],
        state=ReservationState(row["state"]),
        revision=row["revision"],
        created_at=row["created_at"],
        held_until=row["held_until"],
        reason=row["reason"],
        moved_from=row["moved_from"],
        request_id=row["request_id"],
        request_until=row["request_until"],
        session_id=row["session_id"],
        charged=row["charged"],
    )
