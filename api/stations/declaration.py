"""The declaration of the stations service."""

from pathlib import Path
from typing import Final

from api.stations.components import StationsComponents, open_stations
from api.stations.registry.routes import router
from kit.service import Contract, Service
from schemas.topics import STATION_CREATED, STATION_REMOVED, STATION_UPDATED

SERVICE: Final = Service(
    name="stations",
    summary="stations and their connectors: where they are, and what they can do",
    open=open_stations,
    components=StationsComponents,
    router=router,
    migrations=Path(__file__).parent / "migrations",
    contracts=(
        Contract("stations.rated_powers(text[], smallint[])", "the rated power of each connector that has one"),
        Contract("stations.station_overview", "stations with their address and position"),
        Contract("stations.connector_overview", "connectors with their kind, rated power and EVSE"),
    ),
    publishes=(STATION_CREATED, STATION_UPDATED, STATION_REMOVED),
)
