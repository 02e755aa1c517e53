"""The declaration of the stations service."""

from decimal import Decimal
from pathlib import Path
from typing import Final

from fastapi import APIRouter

from api.stations.components import StationsComponents, open_stations
from api.stations.credentials import routes as credential_routes
from api.stations.exchange import routes as exchange_routes
from api.stations.prices.service import target_of
from api.stations.registry import routes as registry_routes
from api.stations.search import routes as search_routes
from api.stations.status import routes as status_routes
from kit.service import Consumes, Contract, Job, Service
from schemas.events import Event, PricingUpdated, ReservationChanged, StationStatusChanged, TelemetryReceived
from schemas.topics import (
    PRICING_UPDATED,
    RESERVATION_CANCELLED,
    RESERVATION_CREATED,
    RESERVATION_EXPIRED,
    RESERVATION_NO_SHOW,
    STATION_CREATED,
    STATION_REMOVED,
    STATION_STATUS_CHANGED,
    STATION_UPDATED,
    TELEMETRY_RECEIVED,
)

_HOUR_S: Final = 3_600.0
_COUNT_S: Final = 60.0

_router = APIRouter()
_router.include_router(search_routes.router)
_router.include_router(status_routes.router)
_router.include_router(exchange_routes.router)
_router.include_router(credential_routes.router)
_router.include_router(registry_routes.router)

SERVICE: Final = Service(
    name="stations",
    summary="stations, their connectors and bays: where they are, what they can do, and what they do now",
    open=open_stations,
    components=StationsComponents,
    router=_router,
    migrations=Path(__file__).parent / "migrations",
    contracts=(
        Contract("stations.rated_powers(text[], smallint[])", "the rated power of each connector that has one"),
        Contract("stations.station_overview", "stations with their address and position, and whose they are"),
        Contract("stations.silence_overview", "stations that are expected to speak at an interval of their own"),
        Contract("stations.charger_credentials(text[])", "hashed passwords and certificate subjects of chargers"),
        Contract("stations.certificate_stations(text[])", "the station of each of these common names that is one's"),
        Contract("stations.connector_overview", "connectors with their kind, rated power and EVSE"),
    ),
    consumes=(
        Consumes(
            STATION_STATUS_CHANGED,
            Event[StationStatusChanged],
            handle_batch=lambda stations: stations.status.handle,
            key=lambda event: event.metadata.event_id,  # of two events of one connector the higher revision counts
        ),
        Consumes(
            TELEMETRY_RECEIVED,
            Event[TelemetryReceived],
            handle_batch=lambda stations: stations.status.receive,
            key=lambda event: event.metadata.event_id,  # sums: in any order
        ),
        *(
            Consumes(
                event_type,
                Event[ReservationChanged],
                handle_batch=lambda stations: stations.status.reserve,
                key=lambda event: event.payload.reservation_id,
            )
            for event_type in (RESERVATION_CREATED, RESERVATION_CANCELLED, RESERVATION_EXPIRED, RESERVATION_NO_SHOW)
        ),
        Consumes(
            PRICING_UPDATED,
            Event[PricingUpdated],
            handle_batch=lambda stations: stations.prices.handle,
            key=lambda event: target_of(event.payload),
            float_hook=Decimal,
        ),
    ),
    publishes=(STATION_CREATED, STATION_UPDATED, STATION_REMOVED),
    jobs=(
        Job("stations that no search finds yet", lambda stations: stations.search.project_missing(), _HOUR_S),
        Job("opening hours of the weeks ahead", lambda stations: stations.search.extend_hours(), _HOUR_S),
        Job("prices of the days ahead", lambda stations: stations.prices.go_on(), _HOUR_S),
        Job("connectors by status", lambda stations: stations.status.count(), _COUNT_S),
        Job("reservations that are over", lambda stations: stations.status.forget(), _HOUR_S),
    ),
)
