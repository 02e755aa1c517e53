"""The declaration of the pricing service."""

from pathlib import Path
from typing import Final

from fastapi import APIRouter

from api.pricing import routes
from api.pricing.components import PricingComponents, open_pricing
from api.pricing.demand import routes as demand_routes
from api.pricing.settings import PricingSettings
from api.pricing.stations import routes as station_routes
from kit.service import Consumes, Contract, Service
from schemas.events import Event, ReservationChanged, StationChanged, TelemetryAggregated
from schemas.topics import (
    PRICING_UPDATED,
    RESERVATION_CANCELLED,
    RESERVATION_CREATED,
    RESERVATION_EXPIRED,
    RESERVATION_NO_SHOW,
    STATION_CREATED,
    STATION_REMOVED,
    STATION_UPDATED,
    TELEMETRY_AGGREGATED,
)

_router = APIRouter()
_router.include_router(demand_routes.router)
_router.include_router(station_routes.router)
_router.include_router(routes.router)

SERVICE: Final = Service(
    name="pricing",
    summary="tariffs: their versions, and the rules that move prices with demand",
    open=open_pricing,
    components=PricingComponents,
    router=_router,
    migrations=Path(__file__).parent / "migrations",
    contracts=(
        Contract("pricing.tariffs_at(text[], bigint[])", "the tariff version in force at each station and moment"),
        Contract("pricing.documents(bigint[])", "the tariffs of these versions, as they were published"),
        Contract("pricing.bases(uuid[])", "the tariffs that demand rules moved to make these versions"),
    ),
    reads=("stations.station_overview",),
    consumes=(
        # One at a time: each step of a rule follows the last one, and every event of a minute concerns the same rules.
        Consumes(
            TELEMETRY_AGGREGATED,
            Event[TelemetryAggregated],
            handle=lambda pricing: pricing.demand.handle,
            prefetch=1,
        ),
        *(
            Consumes(
                event_type,
                Event[StationChanged],
                handle_batch=lambda pricing: pricing.stations.handle,
                key=lambda event: event.payload.station_id,
            )
            for event_type in (STATION_CREATED, STATION_UPDATED, STATION_REMOVED)
        ),
        *(
            Consumes(
                event_type,
                Event[ReservationChanged],
                handle_batch=lambda pricing: pricing.demand.reservations_changed,
                key=lambda event: event.payload.reservation_id,
            )
            for event_type in (RESERVATION_CREATED, RESERVATION_CANCELLED, RESERVATION_EXPIRED, RESERVATION_NO_SHOW)
        ),
    ),
    publishes=(PRICING_UPDATED,),
    settings=PricingSettings,
)
