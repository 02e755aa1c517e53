"""The SQL of stations, connectors and their changes."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import asyncpg
import msgspec

from api.stations.registry.models import (
    Connector,
    ConnectorFacts,
    PlaceFacts,
    Station,
    StationFacts,
    from_udeg,
    to_udeg,
)
from kit.auth.station_filter import StationFilter, visible
from kit.database.postgres import Database
from kit.messaging.outbox import Transaction

SCHEMA: Final = "stations"
_PLACE_COLUMNS: Final = tuple(
    {"latitude": "latitude_udeg", "longitude": "longitude_udeg"}.get(name, name) for name in PlaceFacts.model_fields
)
_DETAILS: Final = frozenset(StationFacts.model_fields) - frozenset(PlaceFacts.model_fields)
_PLACE: Final = ", ".join(("station_id", "revision", "changed_at", *(f'"{name}"' for name in _PLACE_COLUMNS)))
_STATION: Final = f"{_PLACE}, details"
_CONNECTOR_FACTS: Final = tuple(ConnectorFacts.model_fields)
_CONNECTOR: Final = ", ".join(("station_id", "connector_id", "changed_at", *_CONNECTOR_FACTS))
_STATIONS_BY_ID: Final = f"SELECT {_STATION} FROM stations.station WHERE station_id = ANY ($1::text[])"  # noqa: S608  # our own names
_STATIONS: Final = f"""
SELECT {_PLACE} FROM stations.station WHERE ($1::text IS NULL OR station_id > $1) AND {visible("station_id", 3)}
ORDER BY station_id LIMIT $2
"""  # noqa: S608  # our own names
_WHOLE_STATIONS: Final = f"""
SELECT {_STATION} FROM stations.station WHERE ($1::text IS NULL OR station_id > $1) AND {visible("station_id", 3)}
ORDER BY station_id LIMIT $2
"""  # noqa: S608  # our own names
_CONNECTORS: Final = f"""
SELECT {_CONNECTOR} FROM stations.connector WHERE station_id = ANY ($1::text[]) ORDER BY station_id, connector_id
"""  # noqa: S608  # our own names
_CONNECTOR_BY_ID: Final = f"""
SELECT {_CONNECTOR}, (SELECT revision FROM stations.station AS s WHERE s.station_id = c.station_id) AS revision
FROM stations.connector AS c WHERE (station_id, connector_id) = ($1, $2)
"""  # noqa: S608  # our own names
_PUT_STATION: Final = f"""
INSERT INTO stations.station ({_STATION})
VALUES ({", ".join(f"${place}" for place in range(1, 4 + len(_PLACE_COLUMNS)))}, ${4 + len(_PLACE_COLUMNS)}::jsonb)
ON CONFLICT (station_id) DO UPDATE SET
    ({_STATION}) = ({", ".join(f"excluded.{name.strip()}" for name in _STATION.split(","))})
"""  # noqa: S608  # our own names
_PUT_CONNECTOR: Final = f"""
INSERT INTO stations.connector ({_CONNECTOR})
VALUES ({", ".join(f"${place}" for place in range(1, 4 + len(_CONNECTOR_FACTS)))})
ON CONFLICT (station_id, connector_id) DO UPDATE SET
    (changed_at, {", ".join(_CONNECTOR_FACTS)}) =
    (excluded.changed_at, {", ".join(f"excluded.{name}" for name in _CONNECTOR_FACTS)})
"""  # noqa: S608  # our own names
_DELETE_STATIONS: Final = "DELETE FROM stations.station WHERE station_id = ANY ($1::text[])"
_DELETE_CONNECTORS: Final = """
DELETE FROM stations.connector AS c USING unnest($1::text[], $2::smallint[]) AS gone (station_id, connector_id)
WHERE c.station_id = gone.station_id COLLATE "C" AND c.connector_id = gone.connector_id
"""
# Of stations that are not registered the last revision that they had.
_REVISIONS: Final = """
SELECT station_id, max(revision) FROM stations.change WHERE station_id = ANY ($1::text[]) GROUP BY station_id
"""
_ADD_CHANGE: Final = """
INSERT INTO stations.change (station_id, revision, kind, changed_at, changed_by, before, after)
VALUES ($1, $2, $3, $4, $5, $6::jsonb, $7::jsonb)
"""
_CHANGES: Final = """
SELECT revision, kind, changed_at, changed_by, before, after FROM stations.change
WHERE station_id = $1 AND ($2::bigint IS NULL OR revision < $2) ORDER BY revision DESC LIMIT $3
"""
# One change of a station at a time, of others at the same time; an import of many waits for all, and all for it.
_LOCK_SHARED: Final = "SELECT pg_advisory_xact_lock_shared(hashtextextended('voltstream stations', 0))"
_LOCK_ALL: Final = "SELECT pg_advisory_xact_lock(hashtextextended('voltstream stations', 0))"
_LOCK_ONE: Final = "SELECT pg_advisory_xact_lock(hashtextextended('voltstream station ' || $1, 0))"
# Two stations that take the same EVSE id at once: the second waits, and then finds the first's.
_LOCK_EVSE: Final = "SELECT pg_advisory_xact_lock(hashtextextended('voltstream evse ' || $1, 0))"
_HOLDERS: Final = """
SELECT evse_id, min(station_id) AS first, max(station_id) AS last FROM stations.connector
WHERE evse_id = ANY ($1::text[]) GROUP BY evse_id HAVING min(station_id) <> max(station_id) ORDER BY evse_id LIMIT 1
"""


@dataclass(frozen=True, slots=True)
class Change:
    """A station before and after; None: it is not registered."""

    before: Station | None
    after: Station | None
    revision: int
    changed_at: datetime
    changed_by: str

    @property
    def station_id(self) -> str:
        """The station's."""
        one = self.after or self.before
        if one is None:
            raise AssertionError("a change of nothing")
        return one.station_id

    @property
    def kind(self) -> str:
        """As the audit names it."""
        return "created" if self.before is None else "removed" if self.after is None else "updated"


class StationsStore:
    """Reads stations and connectors. Every method raises Unavailable where the database does not answer."""

    def __init__(self, database: Database) -> None:
        self.database = database

    async def station(self, station_id: str) -> Station | None:
        """A station with its connectors."""
        async with self.database.snapshot() as connection:
            return (await stations(connection, [station_id])).get(station_id)

    async def summaries(self, after: str | None, rows_max: int, only: StationFilter) -> list[dict[str, Any]]:
        """Up to rows_max of these stations behind that id, in order, without details and connectors."""
        return [_degrees(row) for row in await self.database.fetch(_STATIONS, after, rows_max, *only.values)]

    async def connector(self, station_id: str, connector_id: int) -> tuple[Connector, int] | None:
        """A connector, and its station's revision."""
        row = await self.database.fetchrow(_CONNECTOR_BY_ID, station_id, connector_id)
        if row is None:
            return None
        facts = dict(row)
        revision: int = facts.pop("revision")
        return _connector(facts), revision

    async def changes(self, station_id: str, before_revision: int | None, rows_max: int) -> list[dict[str, Any]]:
        """Up to rows_max changes of the station, newest first."""
        found = []
        for row in await self.database.fetch(_CHANGES, station_id, before_revision, rows_max):
            documents = {
                name: None if row[name] is None else msgspec.json.decode(row[name]) for name in ("before", "after")
            }
            found.append({**dict(row), **documents})
        return found


async def lock_station(connection: Transaction, station_id: str) -> None:
    """Until the transaction ends nobody else changes the station, registered or not, or its connectors."""
    await connection.execute(_LOCK_SHARED)
    await connection.execute(_LOCK_ONE, station_id)


async def lock_all(connection: Transaction) -> None:
    """Until the transaction ends nobody else changes any station."""
    await connection.execute(_LOCK_ALL)


async def stations(connection: Transaction, station_ids: Sequence[str]) -> dict[str, Station]:
    """These stations with their connectors, those that there are."""
    return await _with_connectors(connection, await connection.fetch(_STATIONS_BY_ID, station_ids))


async def stations_after(
    connection: Transaction, after: str | None, rows_max: int, only: StationFilter
) -> dict[str, Station]:
    """Up to rows_max of these stations with their connectors behind that id, in order."""
    rows = await connection.fetch(_WHOLE_STATIONS, after, rows_max, *only.values)
    return await _with_connectors(connection, rows)


async def last_revisions(connection: Transaction, station_ids: Sequence[str]) -> dict[str, int]:
    """Of those of these stations that were ever changed, the last revision."""
    return {row[0]: row[1] for row in await connection.fetch(_REVISIONS, station_ids)}


async def write(connection: Transaction, changes: Sequence[Change]) -> None:
    """Store what these changes make of the stations, and the changes themselves."""
    after = [one.after for one in changes if one.after is not None]
    await connection.execute(_DELETE_STATIONS, [one.station_id for one in changes if one.after is None])
    await connection.executemany(_PUT_STATION, [_station_row(one) for one in after])
    gone = [pair for one in changes if one.after is not None for pair in _gone(one)]
    await connection.execute(_DELETE_CONNECTORS, [pair[0] for pair in gone], [pair[1] for pair in gone])
    await connection.executemany(_PUT_CONNECTOR, [_connector_row(plug) for one in changes for plug in _changed(one)])
    await connection.executemany(_ADD_CHANGE, [_change_row(one) for one in changes])


async def lock_evses(connection: Transaction, evse_ids: Iterable[str]) -> None:
    """Until the transaction ends nobody else takes these EVSE ids."""
    for evse_id in sorted(evse_ids):  # in one order
        await connection.execute(_LOCK_EVSE, evse_id)


async def twice_held(connection: Transaction, evse_ids: Iterable[str]) -> tuple[str, str, str] | None:
    """An EVSE that two stations have now, with both."""
    row = await connection.fetchrow(_HOLDERS, sorted(evse_ids))
    return None if row is None else (row["evse_id"], row["first"], row["last"])


async def registered_of(connection: Transaction, station_ids: Sequence[str]) -> set[str]:
    """Those of these stations that are registered."""
    query = "SELECT station_id FROM stations.station WHERE station_id = ANY ($1::text[])"
    return {row[0] for row in await connection.fetch(query, station_ids)}


async def held_evses(connection: Transaction, evse_ids: Iterable[str]) -> set[str]:
    """Those of these EVSE ids that some station has."""
    query = "SELECT evse_id FROM stations.connector WHERE evse_id = ANY ($1::text[])"
    return {row[0] for row in await connection.fetch(query, list(evse_ids))}


async def evse_holders(connection: Transaction, evse_ids: Iterable[str]) -> dict[str, str]:
    """The station of each of these EVSE ids that some station has."""
    query = "SELECT DISTINCT evse_id, station_id FROM stations.connector WHERE evse_id = ANY ($1::text[])"
    return {row[0]: row[1] for row in await connection.fetch(query, list(evse_ids))}


async def _with_connectors(connection: Transaction, rows: Sequence[asyncpg.Record]) -> dict[str, Station]:
    plugs: dict[str, list[Connector]] = {row["station_id"]: [] for row in rows}
    for row in await connection.fetch(_CONNECTORS, list(plugs)):
        plugs[row["station_id"]].append(_connector(row))
    return {row["station_id"]: _station(row, plugs[row["station_id"]]) for row in rows}


def _station(row: Mapping[str, Any], connectors: Sequence[Connector]) -> Station:
    facts = _degrees(row)
    details = msgspec.json.decode(facts.pop("details"))
    return Station.model_validate({**facts, **details, "connectors": list(connectors)})


def _degrees(row: Mapping[str, Any]) -> dict[str, Any]:
    facts = dict(row)
    latitude, longitude = (from_udeg(facts.pop(f"{name}_udeg")) for name in ("latitude", "longitude"))
    return {**facts, "latitude": latitude, "longitude": longitude}


def _connector(row: Mapping[str, Any]) -> Connector:
    return Connector(**dict(row))


def _station_row(station: Station) -> tuple[object, ...]:
    place = {
        **station.model_dump(include=set(PlaceFacts.model_fields)),
        "latitude_udeg": to_udeg(station.latitude),
        "longitude_udeg": to_udeg(station.longitude),
    }
    details = station.model_dump_json(include=set(_DETAILS), exclude_defaults=True)
    return (
        station.station_id,
        station.revision,
        station.changed_at,
        *(place[name] for name in _PLACE_COLUMNS),
        details,
    )


def _connector_row(connector: Connector) -> tuple[object, ...]:
    facts = (getattr(connector, name) for name in _CONNECTOR_FACTS)
    return (connector.station_id, connector.connector_id, connector.changed_at, *facts)


def _gone(change: Change) -> list[tuple[str, int]]:
    kept = {one.connector_id for one in change.after.connectors} if change.after is not None else set()
    before = change.before.connectors if change.before is not None else []
    return [(change.station_id, one.connector_id) for one in before if one.connector_id not in kept]


def _changed(change: Change) -> list[Connector]:
    before = [] if change.before is None else change.before.connectors
    return [] if change.after is None else [one for one in change.after.connectors if one not in before]


def _change_row(change: Change) -> tuple[object, ...]:
    documents = (None if one is None else one.model_dump_json() for one in (change.before, change.after))
    key = (change.station_id, change.revision, change.kind)
    return (*key, change.changed_at, change.changed_by, *documents)
