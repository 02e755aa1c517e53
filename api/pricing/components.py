"""The parts of the pricing service, opened for a process."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from api.pricing.demand.service import DemandService
from api.pricing.demand.store import DemandStore
from api.pricing.models import TariffTarget
from api.pricing.service import PricingService
from api.pricing.settings import DEMAND
from api.pricing.stations.service import StationService
from api.pricing.stations.store import StationStore
from api.pricing.store import PricingStore
from kit.config.flags import FlagSubject
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

    def demand_moves(target: TariffTarget) -> bool:
        return config.enabled(DEMAND, _subject(target))

    demand = DemandService(DemandStore(database), clock, demand_moves)
    stations = StationService(StationStore(database), clock, context.registry)
    yield PricingComponents(database, service, demand, stations)


def _subject(target: TariffTarget) -> FlagSubject:
    """Of a station's rule the station; a group's or the default's is one of those that a percentage divides."""
    if target.kind == "station":
        return FlagSubject(station_id=target.name.upper())
    return FlagSubject(key=f"{target.kind} {target.name}".strip())
