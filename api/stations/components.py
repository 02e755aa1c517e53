"""The parts of the stations service, opened for a process."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from api.stations.service import StationsService
from api.stations.store import StationsStore
from kit.database.postgres import Database
from kit.service import Context


@dataclass(frozen=True, slots=True)
class StationsComponents:
    """The objects that handlers use."""

    database: Database
    service: StationsService


@asynccontextmanager
async def open_stations(context: Context) -> AsyncIterator[StationsComponents]:
    """Open the components on the service's own connection pool."""
    yield StationsComponents(context.database, StationsService(StationsStore(context.database), context.clock))
