"""The parts of the reporting service, opened for a process."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Final

from fastapi import Depends

from api.reporting.analytics.cache import Cache, InProcessCache, RedisCache
from api.reporting.analytics.figures import FigureReader
from api.reporting.analytics.service import AnalyticsService
from api.reporting.analytics.store import AnalyticsStore
from api.reporting.charts.service import HeatMapService
from api.reporting.co2.service import Co2Service
from api.reporting.co2.store import Co2Store
from api.reporting.exclusions.service import ExclusionService
from api.reporting.exclusions.store import ExclusionStore
from api.reporting.reports.computing import ReportComputation
from api.reporting.reports.content import ReportContent
from api.reporting.reports.service import ReportService
from api.reporting.reports.store import ReportStore
from api.reporting.reports.worker import ReportWorker
from api.reporting.rollups.note_store import NoteStore
from api.reporting.rollups.notes import NoteService
from api.reporting.rollups.service import RollUpService
from api.reporting.rollups.store import RollUpStore
from api.reporting.schema import SCHEMA
from api.reporting.settings import ReportingSettings
from api.reporting.uptime.loading import PortLoader
from api.reporting.uptime.registry_events import RegistryEvents
from api.reporting.uptime.store import UptimeStore
from kit.clock import Clock
from kit.config.runtime import RuntimeConfig
from kit.database.postgres import Database
from kit.documents.postgres import PostgresDocuments
from kit.documents.store import DocumentStore
from kit.service import Context, provided

_STATUS_RETENTION: Final = "telemetry.status_retention"
_FOR_EVER: Final = timedelta(days=100 * 365)  # as far back as instants reach
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
    heat_maps: HeatMapService
    co2: Co2Service
    exclusions: ExclusionService
    registry: RegistryEvents
    uptime: UptimeStore
    reports: ReportService
    report_worker: ReportWorker
    documents: DocumentStore
    config: RuntimeConfig

    async def drop_old(self) -> None:
        """Forget what is older than it is kept."""
        retention = timedelta(days=self.config.group(ReportingSettings).reporting_retention_days)
        await self.rollups.drop_old(retention)
        async with self.database.transaction() as connection:
            await self.note_store.forget_old(connection, self.clock.now())


Provided = Annotated[ReportingComponents, Depends(provided(ReportingComponents))]


@asynccontextmanager
async def open_reporting(context: Context) -> AsyncIterator[ReportingComponents]:
    """Open the components on the service's own connection pool."""
    database, clock = context.database, context.clock
    notes, rollups, co2 = NoteStore(), RollUpStore(), Co2Store()
    cache, documents = _cache(context), _documents(context)
    if context.settings.mongodb_url:
        context.checks["mongodb"] = documents.check_ready
    analytics = AnalyticsService(AnalyticsStore(database), cache, clock)
    exclusions, uptime = ExclusionStore(database), UptimeStore(database)
    reports, content = ReportStore(database), ReportContent(documents)
    figures = FigureReader(analytics)
    computation = ReportComputation(PortLoader(uptime, exclusions), figures)
    config = context.config

    def keep_reports() -> timedelta:
        return timedelta(days=config.group(ReportingSettings).reporting_reports_days)

    def statuses_kept() -> timedelta:
        days = int(config.resolved(_STATUS_RETENTION).value)
        return timedelta(days=days) if days else _FOR_EVER

    worker = ReportWorker(reports, content, computation, clock, keep_reports)
    try:
        yield ReportingComponents(
            database,
            clock,
            NoteService(notes, co2, clock),
            notes,
            RollUpService(database, rollups, notes, co2, clock, statuses_kept),
            analytics,
            HeatMapService(figures, clock),
            Co2Service(co2, rollups, clock),
            ExclusionService(exclusions, notes, clock),
            RegistryEvents(notes, clock),
            uptime,
            ReportService(reports, content, clock, statuses_kept),
            worker,
            documents,
            config,
        )
    finally:
        await worker.close()
        await cache.close()
        await documents.close()


def _documents(context: Context) -> DocumentStore:
    if not context.settings.mongodb_url:
        return PostgresDocuments(context.database, SCHEMA)
    from kit.documents.mongodb import MongoDocuments  # few use it, and its driver takes a while to import

    return MongoDocuments(context.settings.mongodb_url)


def _cache(context: Context) -> Cache:
    url = context.settings.redis_url
    return RedisCache(url, _CACHE_PREFIX) if url else InProcessCache()
