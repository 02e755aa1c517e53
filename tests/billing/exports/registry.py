"""Stations and connectors as the registry has them, by SQL."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import psycopg

Facts = dict[str, Any]

STATION: Facts = {
    "name": 'Rathaus "Süd"',
    "address": "Am Kai 1",
    "city": "Hamburg",
    "postal_code": "20457",
    "country": "DEU",
    "latitude_udeg": 53_543_210,
    "longitude_udeg": -9_000_001,
}
CONNECTOR: Facts = {
    "rated_power_w": 22_000,
    "standard": "IEC_62196_T2",
    "format": "SOCKET",
    "power_type": "AC_3_PHASE",
    "evse_id": "DE*MUL*E1",
}


@dataclass
class Station:
    """A registered station."""

    facts: Facts = field(default_factory=lambda: dict(STATION))
    connectors: Mapping[int, Facts] = field(default_factory=lambda: {1: dict(CONNECTOR)})


def register(url: str, stations: Mapping[str, Station]) -> None:
    """In place of whatever was registered."""
    with psycopg.connect(url) as connection:
        connection.execute("DELETE FROM stations.station")
        for station_id, station in stations.items():
            _insert(connection, "station", {"station_id": station_id, **station.facts})
            for connector_id, facts in station.connectors.items():
                _insert(connection, "connector", {"station_id": station_id, "connector_id": connector_id, **facts})


def register_whole(url: str, station_ids: Iterable[str]) -> None:
    """Stations with connector 1, none of whose facts is missing."""
    register(url, {station_id: Station() for station_id in station_ids})


def _insert(connection: psycopg.Connection[Any], table: str, row: Facts) -> None:
    names = [*row, "changed_at"]
    values = ", ".join(["%s"] * len(row))
    connection.execute(
        f"INSERT INTO stations.{table} ({', '.join(names)}) VALUES ({values}, now())".encode(), list(row.values())
    )
