"""The SQL of stations, connectors and bays, as the registry's events describe them, and of their status."""

from collections.abc import Sequence
from typing import Final

from api.reservations.parking.rule import CHARGING, IDLE, UNKNOWN
from kit.messaging.consumer import moment_of
from kit.messaging.outbox import Transaction
from schemas.events import OccupancyChange, StationBay, StationChanged, StationConnector, StatusChange

UNKNOWN_BAYS_MAX: Final = 256  # as many as may be registered

# Another revision of the station waits for the end of this transaction.
_STATION: Final = """
INSERT INTO reservations.station AS s (station_id, revision, site, removed) VALUES ($1, $2, $3, $4)
ON CONFLICT (station_id) DO UPDATE SET revision = excluded.revision, site = excluded.site, removed = excluded.removed
WHERE s.revision < excluded.revision
RETURNING true
"""
_CONNECTORS: Final = """
INSERT INTO reservations.place (station_id, connector_id, registered, standard, rated_power_w)
SELECT $1, c.connector_id, true, c.standard, c.rated_power_w
FROM unnest($2::smallint[], $3::text[], $4::int[]) AS c (connector_id, standard, rated_power_w)
ON CONFLICT (station_id, connector_id) DO UPDATE SET
    registered = true, standard = excluded.standard, rated_power_w = excluded.rated_power_w
"""
_BAY: Final = """
INSERT INTO reservations.place (station_id, bay, registered, restrictions, time_limit_s) VALUES ($1, $2, true, $3, $4)
ON CONFLICT (station_id, bay) DO UPDATE SET
    registered = true, restrictions = excluded.restrictions, time_limit_s = excluded.time_limit_s
"""
_GONE: Final = """
UPDATE reservations.place SET registered = false, time_limit_s = NULL
WHERE station_id = $1 AND registered
  AND NOT (connector_id IS NOT NULL AND connector_id = ANY ($2::smallint[]))
  AND NOT (bay IS NOT NULL AND bay = ANY ($3::text[]))
RETURNING place_key
"""
# $2, $3: pairs of bay and connector.
_TAKEN_WITH: Final = """
WITH reached AS (
    SELECT b.place_key AS bay_key, c.place_key AS connector_key
    FROM unnest($2::text[], $3::smallint[]) AS pair (bay, connector_id)
    JOIN reservations.place AS b ON b.station_id = $1 AND b.bay = pair.bay AND b.registered
    JOIN reservations.place AS c ON c.station_id = $1 AND c.connector_id = pair.connector_id AND c.registered
)
UPDATE reservations.place AS p SET taken_with = coalesce(
    CASE WHEN p.bay IS NULL
         THEN (SELECT array_agg(bay_key) FROM reached WHERE connector_key = p.place_key HAVING count(*) = 1)
         ELSE (SELECT array_agg(connector_key ORDER BY connector_key) FROM reached WHERE bay_key = p.place_key) END,
    '{}')
WHERE p.station_id = $1
"""
# $6, $7, $8: statuses of a vehicle that is idle, of one that charges, and those that say nothing. Each moment is that
# of the first status in a row; what says nothing leaves those of a vehicle as they were.
_STATUS: Final = """
INSERT INTO reservations.place AS p (station_id, connector_id, registered, status, status_revision,
                                     idle_since, plugged_since, not_charging_since)
SELECT c.station_id, c.connector_id, false, c.status, c.revision,
       CASE WHEN c.status = ANY ($6::text[]) THEN c.since END,
       CASE WHEN c.status = ANY ($6::text[] || $7::text[]) THEN c.since END,
       CASE WHEN NOT c.status = ANY ($7::text[] || $8::text[]) THEN c.since END
FROM unnest($1::text[], $2::smallint[], $3::text[], $4::int[], $5::timestamptz[])
    AS c (station_id, connector_id, status, revision, since)
ORDER BY c.station_id, c.connector_id
ON CONFLICT (station_id, connector_id) DO UPDATE SET
    status = excluded.status, status_revision = excluded.status_revision,
    idle_since = CASE WHEN excluded.idle_since IS NULL THEN NULL ELSE coalesce(p.idle_since, excluded.idle_since) END,
    plugged_since = CASE WHEN excluded.status = ANY ($8::text[]) THEN p.plugged_since
                         WHEN excluded.plugged_since IS NULL THEN NULL
                         ELSE coalesce(p.plugged_since, excluded.plugged_since) END,
    not_charging_since = CASE WHEN excluded.status = ANY ($8::text[]) THEN p.not_charging_since
                              WHEN excluded.not_charging_since IS NULL THEN NULL
                              ELSE coalesce(p.not_charging_since, excluded.not_charging_since) END
WHERE p.status_revision < excluded.status_revision
RETURNING place_key, status
"""
# A bay that is registered nowhere is kept, of each station so many: a device could name any.
_OCCUPANCY: Final = f"""
INSERT INTO reservations.place AS p (station_id, bay, registered, occupied, occupied_since, occupied_revision)
SELECT c.station_id, c.bay, false, c.occupied, c.since, c.revision
FROM (
    SELECT said.*, k.place_key IS NOT NULL AS known,
           count(*) FILTER (WHERE k.place_key IS NULL) OVER (PARTITION BY said.station_id ORDER BY said.bay) AS new
    FROM unnest($1::text[], $2::text[], $3::bool[], $4::timestamptz[], $5::bigint[])
        AS said (station_id, bay, occupied, since, revision)
    LEFT JOIN reservations.place AS k ON k.station_id = said.station_id AND k.bay = said.bay
) AS c
WHERE c.known
   OR c.new + (SELECT count(*) FROM reservations.place AS k
               WHERE k.station_id = c.station_id AND k.bay IS NOT NULL AND NOT k.registered) <= {UNKNOWN_BAYS_MAX}
ORDER BY c.station_id, c.bay
ON CONFLICT (station_id, bay) DO UPDATE SET
    occupied = excluded.occupied, occupied_since = excluded.occupied_since,
    occupied_revision = excluded.occupied_revision
WHERE p.occupied_revision < excluded.occupied_revision
RETURNING place_key, occupied
"""  # noqa: S608  # a constant


async def put_station(connection: Transaction, station: StationChanged, *, removed: bool) -> list[int] | None:
    """Store what the registry says of a station: the places that are no longer there. None: it is known better."""
    station_id = station.station_id.upper()
    known = await connection.fetchval(_STATION, station_id, station.revision, station.site, removed)
    if not known:
        return None
    connectors: Sequence[StationConnector] = () if removed else station.connectors
    bays: Sequence[StationBay] = () if removed else station.bays
    numbers = [one.connector_id for one in connectors]
    described = ([one.standard for one in connectors], [one.rated_power_w for one in connectors])
    await connection.execute(_CONNECTORS, station_id, numbers, *described)
    for bay in bays:
        await connection.execute(_BAY, station_id, bay.bay, sorted(bay.restrictions), bay.time_limit_s)
    gone = await connection.fetch(_GONE, station_id, numbers, [bay.bay for bay in bays])
    pairs = [(bay.bay, number) for bay in bays for number in bay.connectors]
    await connection.execute(_TAKEN_WITH, station_id, [bay for bay, _ in pairs], [number for _, number in pairs])
    return [row["place_key"] for row in gone]


async def put_statuses(connection: Transaction, changes: Sequence[StatusChange]) -> dict[int, str]:
    """Store these statuses where they are newer; those that were, by place."""
    newest: dict[tuple[str, int], StatusChange] = {}
    for change in sorted(changes, key=lambda one: one.revision):
        newest[change.station_id.upper(), change.connector_id] = change
    if not newest:
        return {}
    stations, connectors = zip(*newest, strict=True)
    statuses = [change.status for change in newest.values()]
    revisions = [change.revision for change in newest.values()]
    since = [moment_of(change.since) for change in newest.values()]
    kinds = (sorted(IDLE), sorted(CHARGING), sorted(UNKNOWN))
    rows = await connection.fetch(_STATUS, stations, connectors, statuses, revisions, since, *kinds)
    return {row["place_key"]: row["status"] for row in rows}


async def put_occupancies(connection: Transaction, changes: Sequence[OccupancyChange]) -> dict[int, bool]:
    """Store what these sensors say where it is newer; what is, by place."""
    newest: dict[tuple[str, str], OccupancyChange] = {}
    for change in sorted(changes, key=lambda one: one.revision):
        newest[change.station_id.upper(), change.bay] = change
    if not newest:
        return {}
    stations, bays = zip(*newest, strict=True)
    occupied = [change.occupied for change in newest.values()]
    since = [moment_of(change.since) for change in newest.values()]
    revisions = [change.revision for change in newest.values()]
    rows = await connection.fetch(_OCCUPANCY, stations, bays, occupied, since, revisions)
    return {row["place_key"]: row["occupied"] for row in rows}
