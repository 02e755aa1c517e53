"""The parts of the stations service, opened for a process."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Annotated, Final

from fastapi import Depends

from api.stations.credentials.service import CredentialService
from api.stations.credentials.store import CredentialStore
from api.stations.exchange.service import ExchangeService
from api.stations.prices.service import PriceService
from api.stations.registry.service import StationsService
from api.stations.registry.store import StationsStore
from api.stations.search.service import SearchService
from api.stations.status.metrics import StatusMetrics
from api.stations.status.service import StatusService
from api.stations.status.store import StatusStore
from kit.auth.requirements import require_scope
from kit.auth.token_store import Principal
from kit.database.postgres import Database
from kit.service import Context, provided

PATH: Final = "/api/v1/stations"


@dataclass(frozen=True, slots=True)
class StationsComponents:
    """The objects that handlers use."""

    database: Database
    registry: StationsService
    search: SearchService
    prices: PriceService
    status: StatusService
    exchange: ExchangeService
    credentials: CredentialService


Provided = Annotated[StationsComponents, Depends(provided(StationsComponents))]
Editor = Annotated[Principal, Depends(require_scope("stations:write"))]
READS: Final = Depends(require_scope("stations:read"))
Reader = Annotated[Principal, Depends(require_scope("stations:read", heeds_stations=True))]
Seeker = Annotated[Principal, Depends(require_scope("locations:read", heeds_stations=True))]
"""Of routes about many stations, which keep to those of the token."""
LOCATES: Final = Depends(require_scope("locations:read"))  # as drivers may


@asynccontextmanager
async def open_stations(context: Context) -> AsyncIterator[StationsComponents]:
    """Open the components on the service's own connection pool."""
    database, clock = context.database, context.clock
    registry = StationsService(StationsStore(database), clock)
    yield StationsComponents(
        database,
        registry=registry,
        search=SearchService(database, clock),
        prices=PriceService(database, clock),
        status=StatusService(StatusStore(database), clock, StatusMetrics(context.registry)),
        exchange=ExchangeService(database, registry),
        credentials=CredentialService(CredentialStore(database), clock),
    )
