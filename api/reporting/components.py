"""The parts of the reporting service, opened for a process."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from api.reporting.analytics.cache import Cache, InProcessCache, RedisCache
from api.reporting.analytics.service import AnalyticsService
from api.reporting.analytics.store import AnalyticsStore
from api.reporting.rollups.note_store import NoteStore
from api.reporting.rollups.notes import NoteService
from api.reporting.rollups.service import RollUpService
from api.reporting.rollups.store import RollUpStore
from api.reporting.settings import ReportingSettings
from kit.clock import Clock
from kit.database.postgres import Database
from kit.service import Context

_CACHE_PREFIX: Final = "analytics:"


@dataclass(frozen=True, slots=True)
class ReportingComponents:
    """The objects that handlers, consumers and jobs use."""

    database: Database
    clock: Clock
    notes: NoteService
    note_store: NoteStore
    rollups: RollUpService
    analytics: AnalyticsService
    settings: ReportingSettings

    async def drop_old(self) -> None:
        """Forget what is older than it is kept."""
        await self.rollups.drop_old(timedelta(days=self.settings.reporting_retention_days))
        async with self.database.transaction() as connection:
            await self.note_store.forget_old(connection, self.clock.now())


@asynccontextmanager
async def open_reporting(context: Context) -> AsyncIterator[ReportingComponents]:
    """Open the components on the service's own connection pool."""
    database, clock, notes = context.database, context.clock, NoteStore()
    cache = _cache(context)
    try:
        yield ReportingComponents(
            database,
            clock,
            NoteService(notes, clock),
            notes,
            RollUpService(database, RollUpStore(), clock),
            AnalyticsService(AnalyticsStore(database), cache, clock),
            context.group(ReportingSettings),
        )
    finally:
        await cache.close()


def _cache(context: Context) -> Cache:
    url = context.settings.redis_url
    return RedisCache(url, _CACHE_PREFIX) if url else InProcessCache()
