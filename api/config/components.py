"""The parts of the config service, opened for a process."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from api.config.service import ConfigService
from api.config.store import ConfigStore
from kit.database.postgres import Database
from kit.service import Context


@dataclass(frozen=True, slots=True)
class ConfigComponents:
    """The objects that handlers use."""

    database: Database
    service: ConfigService


@asynccontextmanager
async def open_config(context: Context) -> AsyncIterator[ConfigComponents]:
    """Open the components on the service's own connection pool."""
    database = context.database
    yield ConfigComponents(database, ConfigService(ConfigStore(database), context.config, context.clock))
