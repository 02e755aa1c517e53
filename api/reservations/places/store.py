"""The SQL of stations, connectors and bays, as the registry's events describe them, and of their status."""

from collections.abc import Sequence
from typing import Final

from api.reservations.parking.rule import IDLE
from kit.messaging.consumer import moment_of
from kit.messaging.outbox import Transaction
from schemas.events import StationBay, StationChanged, StationConnector, StatusChange

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
INSERT INTO reservations.place (station_id, bay, registered, restrictions) VALUES ($1, $2, true, $3)
ON CONFLICT (station_id, bay) DO UPDATE SET registered = true, restrictions = excluded.restrictions
"""
_GONE: Final = """
UPDATE reservations.place SET registered = false
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
_STATUS: Final = """
INSERT INTO reservations.place AS p (station_id, connector_id, registered, status, status_revision, idle_since)
SELECT c.station_id, c.connector_id, false, c.status, c.revision, c.idle_since
FROM unnest($1::text[], $2::smallint[], $3::text[], $4::int[], $5::timestamptz[])
    AS c (station_id, connector_id, status, revision, idle_since)
ORDER BY c.station_id, c.connector_id
ON CONFLICT (station_id, connector_id) DO UPDATE SET
    status = excluded.status, status_revision = excluded.status_revision,
    idle_since = CASE WHEN excluded.idle_since IS NULL THEN NULL ELSE coalesce(p.idle_since, excluded.idle_since) END
WHERE p.status_revision < excluded.status_revision
RETURNING place_key, status
"""


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
        await connection.execute(_BAY, station_id, bay.bay, sorted(bay.restrictions))
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
    idle_since = [moment_of(change.since) if change.status in IDLE else None for change in newest.values()]
    rows = await connection.fetch(_STATUS, stations, connectors, statuses, revisions, idle_since)
    return {row["place_key"]: row["status"] for row in rows}
