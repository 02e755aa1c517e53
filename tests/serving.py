"""Declared services on a database, opened for a test without the rest of a process."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, TypeVar

from fastapi import APIRouter, FastAPI
from prometheus_client import CollectorRegistry

from api.stations.declaration import SERVICE as STATIONS
from kit.clock import Clock
from kit.config.runtime import RuntimeConfig
from kit.database.migrations import migrate
from kit.database.postgres import QUERY_S_MAX, Database, connect_sync, open_database
from kit.database.roles import ensure_roles
from kit.live.view import LiveView
from kit.log.partitioned_log import LogWriter
from kit.messaging.bus import Bus
from kit.messaging.consumer import ConsumerMetrics
from kit.retention import RecordRetention, RetentionMetrics, end_records
from kit.service import Context, Service, provide
from kit.settings import Settings
from voltstream.runtime.composition import subscribe
from voltstream.runtime.database import OWN_GRANTS, grants_of, sources_of
from voltstream.services import personal_data
from voltstream.settings import load_settings

C = TypeVar("C")


def make_schemas(url: str, services: Sequence[Service[Any]], *, prepared: str = "") -> None:
    """The tables, roles and rights of these services, of the registry of stations, which says whose a station is, and
    those of access tokens.

    Of what a service prepares beyond its migrations there is only the SQL `prepared`: telemetry's tables are not
    partitioned by time.
    """
    if STATIONS not in services:
        services = [STATIONS, *services]
    migrate(url, sources_of(services))
    with connect_sync(url, name="prepare") as connection:
        connection.execute(prepared.encode())
    ensure_roles(url, [*OWN_GRANTS, *grants_of(services)])


@dataclass(frozen=True, slots=True)
class Opened(Generic[C]):
    """A service at work."""

    service: Service[C]
    components: C
    database: Database  # in the service's role

    async def consume(self, bus: Bus) -> None:
        """Subscribe it to all that it consumes."""
        metrics = ConsumerMetrics(CollectorRegistry())
        for consumes in self.service.consumes:
            await subscribe(bus, self.service, consumes, self.components, self.database, metrics)

    async def run_jobs(self) -> None:
        """Each of its jobs once."""
        for job in self.service.jobs:
            await job.run(self.components)

    async def end_records(self, now: datetime) -> dict[str, int]:
        """What is past its retention by then, by the defaults."""
        return await ended(self.database, self.service.owned_schema, self.service.retentions, now)


async def ended(
    database: Database, schema: str, retentions: Sequence[RecordRetention], now: datetime
) -> dict[str, int]:
    """End what is past its retention by then, by the defaults; records by kind."""
    config = RuntimeConfig(load_settings())
    try:
        return await end_records(database, schema, retentions, config, now, RetentionMetrics(CollectorRegistry()))
    finally:
        config.close()


@asynccontextmanager
async def open_service(
    service: Service[C],
    url: str,
    clock: Clock,
    *,
    app: FastAPI | None = None,
    live: LiveView | None = None,
    writer: LogWriter | None = None,
    settings: Settings | None = None,
    registry: CollectorRegistry | None = None,
    connections_max: int = 8,
    query_s_max: float = QUERY_S_MAX,
    config: RuntimeConfig | None = None,
) -> AsyncIterator[Opened[C]]:
    """The service on a database that has its schema; its routes are mounted on `app`, if one is given.

    Streaming responses are not ended here: close `service.streaming_responses(components)` before the server stops.
    """
    database = await open_database(
        url, name=service.name, role=service.role, connections_max=connections_max, query_s_max=query_s_max
    )
    context = Context(
        settings=settings or load_settings(),
        clock=clock,
        registry=registry or CollectorRegistry(),
        database_url=url,
        spawn=lambda work, name: asyncio.create_task(work, name=name),
        checks={},
        app=app or FastAPI(),
        own_database=database,
        live_view=live,
        log_writer=writer,
        services=(service,),
        runtime_config=config,
        personal_data=personal_data,
    )
    try:
        async with service.open(context) as components:
            if app is not None and service.router is not None:
                provide(app, components)
                router = service.router if isinstance(service.router, APIRouter) else service.router(components)
                app.include_router(router)
            yield Opened(service, components, database)
    finally:
        await database.close()
