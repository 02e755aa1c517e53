"""The SQL of stations and connectors."""

from collections.abc import Mapping
from datetime import datetime
from typing import Final

import asyncpg

from api.stations.models import ConnectorFacts, StationFacts, to_udeg
from kit.database.postgres import Database
from kit.messaging.outbox import Transaction

_STATION: Final = """station_id, name, address, city, postal_code, country, latitude_udeg, longitude_udeg, time_zone,
changed_at"""
_CONNECTOR: Final = "station_id, connector_id, rated_power_w, standard, format, power_type, evse_id, changed_at"
_ADD_STATION: Final = f"INSERT INTO stations.station ({_STATION}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)"  # noqa: S608  # our own names
_ADD_CONNECTOR: Final = f"INSERT INTO stations.connector ({_CONNECTOR}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)"  # noqa: S608  # our own names
# Of a row that was there before, xmax is the transaction that locks it to update it.
_PUT_STATION: Final = f"""
{_ADD_STATION}
ON CONFLICT (station_id) DO UPDATE SET
    (name, address, city, postal_code, country, latitude_udeg, longitude_udeg, time_zone, changed_at) =
    ($2, $3, $4, $5, $6, $7, $8, $9, $10)
RETURNING xmax = 0
"""  # our own names
_PUT_CONNECTOR: Final = f"""
{_ADD_CONNECTOR}
ON CONFLICT (station_id, connector_id) DO UPDATE SET
    (rated_power_w, standard, format, power_type, evse_id, changed_at) = ($3, $4, $5, $6, $7, $8)
RETURNING xmax = 0
"""  # our own names
_STATION_BY_ID: Final = f"SELECT {_STATION} FROM stations.station WHERE station_id = $1"  # noqa: S608  # as above
_STATIONS: Final = f"""
SELECT {_STATION} FROM stations.station WHERE $1::text IS NULL OR station_id > $1 ORDER BY station_id LIMIT $2
"""  # noqa: S608  # our own names
_CONNECTORS: Final = f"""
SELECT {_CONNECTOR} FROM stations.connector WHERE station_id = $1 ORDER BY connector_id
"""  # noqa: S608  # our own names
_CONNECTOR_BY_ID: Final = f"""
SELECT {_CONNECTOR} FROM stations.connector WHERE (station_id, connector_id) = ($1, $2)
"""  # noqa: S608  # our own names
_LOCK_STATION: Final = "SELECT true FROM stations.station WHERE station_id = $1 FOR UPDATE"
# Two stations that take the same EVSE id at once: the second waits, and then finds the first's.
_LOCK_EVSE: Final = "SELECT pg_advisory_xact_lock(hashtextextended('voltstream evse ' || $1, 0))"
_HOLDER: Final = "SELECT station_id FROM stations.connector WHERE evse_id = $1 AND station_id <> $2 LIMIT 1"
_OTHERS: Final = "SELECT count(*) FROM stations.connector WHERE station_id = $1 AND connector_id <> $2"

Registered = tuple[StationFacts, Mapping[int, ConnectorFacts]]
"""A station, and its connectors by their numbers."""


class StationsStore:
    """Stations and connectors. Every method raises Unavailable where the database does not answer."""

    def __init__(self, database: Database) -> None:
        self.database = database

    async def put_station(self, station_id: str, facts: StationFacts, now: datetime) -> bool:
        """Store these facts and no others; whether the station is new."""
        return bool(await self.database.fetchval(_PUT_STATION, *_station_row(station_id, facts, now)))

    async def station(self, station_id: str) -> asyncpg.Record | None:
        """A station's row."""
        return await self.database.fetchrow(_STATION_BY_ID, station_id)

    async def stations(self, after: str | None, rows_max: int) -> list[asyncpg.Record]:
        """Up to rows_max stations behind that id, in order."""
        return await self.database.fetch(_STATIONS, after, rows_max)

    async def connectors(self, station_id: str) -> list[asyncpg.Record]:
        """The station's connectors, in order."""
        return await self.database.fetch(_CONNECTORS, station_id)

    async def connector(self, station_id: str, connector_id: int) -> asyncpg.Record | None:
        """A connector's row."""
        return await self.database.fetchrow(_CONNECTOR_BY_ID, station_id, connector_id)

    async def delete_station(self, station_id: str) -> bool:
        """With its connectors; whether it was there."""
        return (
            await self.database.execute("DELETE FROM stations.station WHERE station_id = $1", station_id) != "DELETE 0"
        )

    async def delete_connector(self, station_id: str, connector_id: int) -> bool:
        """Whether it was there."""
        delete = "DELETE FROM stations.connector WHERE (station_id, connector_id) = ($1, $2)"
        return await self.database.execute(delete, station_id, connector_id) != "DELETE 0"

    async def add_missing(self, stations: Mapping[str, Registered], now: datetime) -> None:
        """Store those stations, with their connectors, that are not there."""
        async with self.database.transaction() as connection:
            known = await connection.fetch("SELECT station_id FROM stations.station FOR UPDATE")
            new = {name: one for name, one in stations.items() if name not in {row[0] for row in known}}
            await connection.executemany(
                _ADD_STATION, [_station_row(name, facts, now) for name, (facts, _) in new.items()]
            )
            await connection.executemany(
                _ADD_CONNECTOR,
                [
                    _connector_row(name, number, facts, now)
                    for name, (_, connectors) in new.items()
                    for number, facts in connectors.items()
                ],
            )


async def lock_station(connection: Transaction, station_id: str) -> bool:
    """Until the transaction ends nobody else changes the station or its connectors; whether it is there."""
    return bool(await connection.fetchval(_LOCK_STATION, station_id))


async def other_holder(connection: Transaction, evse_id: str, station_id: str) -> str | None:
    """Another station that has the EVSE. Until the transaction ends no other takes it."""
    await connection.execute(_LOCK_EVSE, evse_id)
    holder: str | None = await connection.fetchval(_HOLDER, evse_id, station_id)
    return holder


async def other_connectors(connection: Transaction, station_id: str, connector_id: int) -> int:
    """How many connectors the station has besides this one."""
    return int(await connection.fetchval(_OTHERS, station_id, connector_id))


async def put_connector(
    connection: Transaction, station_id: str, connector_id: int, facts: ConnectorFacts, now: datetime
) -> bool:
    """Store these facts and no others, in the open transaction; whether the connector is new."""
    return bool(await connection.fetchval(_PUT_CONNECTOR, *_connector_row(station_id, connector_id, facts, now)))


def _station_row(station_id: str, facts: StationFacts, now: datetime) -> tuple[object, ...]:
    place = (facts.name, facts.address, facts.city, facts.postal_code, facts.country)
    return (station_id, *place, to_udeg(facts.latitude), to_udeg(facts.longitude), facts.time_zone, now)


def _connector_row(station_id: str, connector_id: int, facts: ConnectorFacts, now: datetime) -> tuple[object, ...]:
    kind = (facts.standard, facts.format, facts.power_type)
    return (station_id, connector_id, facts.rated_power_w, *kind, facts.evse_id, now)
