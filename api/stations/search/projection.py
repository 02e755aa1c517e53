"""The rows that a search asks, written with each change of a station, in its transaction."""

import math
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import asyncpg

from api.stations.registry.models import Connector, Station, to_udeg
from api.stations.registry.opening_hours import OpeningHours, open_intervals
from api.stations.registry.store import Change
from api.stations.search.words import words_of
from kit.messaging.outbox import Transaction
from schemas.connector import ConnectorStandard

PLUGS: Final = {standard: number for number, standard in enumerate(ConnectorStandard)}  # bits: at most 63 kinds
# Appended only: the numbers are stored. ConnectorStandard is OCPI's, whose next version adds at its end.
HOURS_AHEAD: Final = timedelta(days=16)  # that opening hours are computed for; a job goes on a week before they end

_PUT_PLACE: Final = """
INSERT INTO stations.place
    (station_id, location, x, y, z, latitude_udeg, longitude_udeg, words, plugs, power_w_max, "group", open_hours,
     open_hours_to)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
ON CONFLICT (station_id) DO UPDATE SET
    (location, x, y, z, latitude_udeg, longitude_udeg, words, plugs, power_w_max, "group", open_hours, open_hours_to) =
    ($2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
"""
_NO_PLACE: Final = "DELETE FROM stations.place WHERE station_id = ANY ($1::text[])"
_FORGET_CONNECTORS: Final = """
UPDATE stations.connector_state SET registered = false WHERE station_id = ANY ($1::text[]) AND registered
"""
_PUT_CONNECTORS: Final = """
INSERT INTO stations.connector_state (station_id, connector_id, registered, plug, rated_power_w, evse, shared)
SELECT s, c, true, p, w, e, h
FROM unnest($1::text[], $2::smallint[], $3::smallint[], $4::bigint[], $5::smallint[], $6::boolean[])
    AS known (s, c, p, w, e, h)
ORDER BY s, c
ON CONFLICT (station_id, connector_id) DO UPDATE SET
    (registered, plug, rated_power_w, evse, shared) =
    (true, excluded.plug, excluded.rated_power_w, excluded.evse, excluded.shared)
"""
_HOURS_DUE: Final = """
SELECT p.station_id, s.time_zone, s.details -> 'opening_hours' AS hours
FROM stations.place AS p JOIN stations.station AS s USING (station_id)
WHERE p.open_hours_to < $1 ORDER BY p.station_id LIMIT $2 FOR UPDATE OF p SKIP LOCKED
"""
_UNPROJECTED: Final = """
SELECT station_id FROM stations.station AS s
WHERE latitude_udeg IS NOT NULL AND NOT EXISTS (SELECT FROM stations.place AS p WHERE p.station_id = s.station_id)
LIMIT $1
"""
_PUT_HOURS: Final = "UPDATE stations.place SET (open_hours, open_hours_to) = ($2, $3) WHERE station_id = $1"


async def project(connection: Transaction, changes: Sequence[Change]) -> None:
    """Make the rows those of the stations as they are after these changes."""
    after = [one.after for one in changes if one.after is not None]
    placed = [one for one in after if one.latitude is not None]
    await connection.execute(_NO_PLACE, [one.station_id for one in after if one.latitude is None])
    await connection.executemany(_PUT_PLACE, [_place_row(one) for one in placed])
    await connection.execute(_FORGET_CONNECTORS, [one.station_id for one in changes])
    rows = [_connector_row(plug, one) for one in after for plug in one.connectors]
    if rows:
        await connection.execute(_PUT_CONNECTORS, *map(list, zip(*rows, strict=True)))


async def extend_hours(connection: Transaction, now: datetime, rows_max: int) -> int:
    """Compute the opening hours of up to rows_max stations further; of how many there were any to compute."""
    due = await connection.fetch(_HOURS_DUE, now + HOURS_AHEAD / 2, rows_max)
    rows = [
        (row["station_id"], *_hours(OpeningHours.model_validate_json(row["hours"]), row["time_zone"], now))
        for row in due
    ]
    await connection.executemany(_PUT_HOURS, rows)
    return len(rows)


async def unprojected(connection: Transaction, rows_max: int) -> list[str]:
    """Up to rows_max stations that have a position and no row here."""
    return [row[0] for row in await connection.fetch(_UNPROJECTED, rows_max)]


def on_sphere(latitude_deg: float, longitude_deg: float) -> tuple[float, float, float]:
    """The place on the unit sphere."""
    latitude, longitude = math.radians(latitude_deg), math.radians(longitude_deg)
    return math.cos(latitude) * math.cos(longitude), math.cos(latitude) * math.sin(longitude), math.sin(latitude)


def plug_mask(plugs: Iterable[ConnectorStandard]) -> int:
    """A bit for each."""
    return sum(1 << PLUGS[one] for one in set(plugs))


def _place_row(station: Station) -> tuple[Any, ...]:
    latitude_udeg, longitude_udeg = to_udeg(station.latitude) or 0, to_udeg(station.longitude) or 0
    plugs = [one for one in station.connectors if one.connector_id > 0]
    latitude_deg, longitude_deg = latitude_udeg / 1e6, longitude_udeg / 1e6
    place = (asyncpg.Point(longitude_deg, latitude_deg), *on_sphere(latitude_deg, longitude_deg))
    operator = station.operator.name if station.operator is not None else None
    words = words_of(station.name, station.address, station.city, station.postal_code, station.site, operator)
    mask = plug_mask(one.standard for one in plugs if one.standard is not None)
    power_w_max = max((one.rated_power_w or 0 for one in plugs), default=0)
    hours = (None, None)
    if station.opening_hours is not None:
        hours = _hours(station.opening_hours, station.time_zone, station.changed_at)
    facts = (latitude_udeg, longitude_udeg, words, mask, power_w_max, station.group)
    return (station.station_id, *place, *facts, *hours)


def _hours(hours: OpeningHours, time_zone: str | None, now: datetime) -> tuple[Any, Any]:
    if hours.twentyfourseven and not hours.exceptional_closings:
        return None, None
    since, until = now.astimezone(UTC) - timedelta(days=1), now.astimezone(UTC) + HOURS_AHEAD
    intervals = open_intervals(hours, time_zone or "UTC", since, until)
    return [asyncpg.Range(begin, end) for begin, end in intervals], until


def _connector_row(connector: Connector, station: Station) -> tuple[Any, ...]:
    plug = None if connector.standard is None else PLUGS[connector.standard]
    siblings = [
        one.connector_id
        for one in station.connectors
        if connector.evse_id is not None and one.evse_id == connector.evse_id
    ] or [connector.connector_id]
    key = (connector.station_id, connector.connector_id)
    return (*key, plug, connector.rated_power_w, min(siblings), len(siblings) > 1)
