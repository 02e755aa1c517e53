"""The parts of the pricing service, opened for a process."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from api.pricing.demand.service import DemandService
from api.pricing.demand.store import DemandStore
from api.pricing.service import PricingService
from api.pricing.settings import DEMAND
from api.pricing.stations.service import StationService
from api.pricing.stations.store import StationStore
from api.pricing.store import PricingStore
from kit.database.postgres import Database
from kit.service import Context


@dataclass(frozen=True, slots=True)
class PricingComponents:
    """The objects that handlers and consumers use."""

    database: Database
    service: PricingService
    demand: DemandService
    stations: StationService


@asynccontextmanager
async def open_pricing(context: Context) -> AsyncIterator[PricingComponents]:
    """Open the components on the service's own connection pool."""
    database, clock = context.database, context.clock
    service = PricingService(PricingStore(database), clock)
    config = context.config
    demand = DemandService(DemandStore(database), clock, lambda subject: config.enabled(DEMAND, subject))
    stations = StationService(StationStore(database), clock, context.registry)
    yield PricingComponents(database, service, demand, stations)
