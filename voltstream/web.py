"""The HTTP side of processes: apps put together of the rooms' routes, and the small app of those that have none."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

from fastapi import FastAPI
from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector

from api.queries import ROLE as QUERIES_ROLE
from api.queries import mount_queries
from api.telemetry.live_streams import LiveStreams
from ingest.service import Ingest
from kit.auth import Authenticator
from kit.clock import Clock
from kit.http import RunningServer, make_app, serve
from kit.live import LiveView
from kit.log import LogWriter
from kit.postgres import Database, open_database
from kit.readiness import ReadyCheck
from kit.settings import Settings
from kit.signed_tokens import SignedTokens
from kit.token_store import TokenStore
from voltstream import __version__
from voltstream.database import ACCESS_ROLE
from voltstream.process import Life

_DESCRIPTION: Final = "Telemetry of EV chargers in, exact per-station metrics and sessions out, live."


@dataclass(slots=True)
class Web:
    """An app in the making: every part mounts its routes and adds what /ready is to look at."""

    title: str
    clock: Clock
    ready: dict[str, ReadyCheck] = field(default_factory=dict)
    registry: CollectorRegistry = field(default_factory=CollectorRegistry)
    app: FastAPI = field(init=False)
    streams: list[LiveStreams] = field(default_factory=list)

    def __post_init__(self) -> None:
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self.registry)
        self.app = make_app(
            self.title,
            __version__,
            description=_DESCRIPTION,
            registry=self.registry,
            ready=self.ready,
            clock=self.clock,
        )

    @asynccontextmanager
    async def serving(self, life: Life, host: str, port: int) -> AsyncIterator[RunningServer]:
        """Serve within the block. Raises ConfigError where the address cannot be listened on."""
        async with serve(self.app, host, port) as server:
            watching = life.spawn(server.wait(), "http server")
            try:
                yield server
            finally:
                for streams in self.streams:
                    await streams.close()  # the server waits for them, and only this ends them
                await server.stop()
                await asyncio.wait((watching,))


@asynccontextmanager
async def open_authenticator(settings: Settings, url: str, web: Web) -> AsyncIterator[TokenStore]:
    """Who may: `web.app` can ask within the block. Raises Unavailable, ConfigError."""
    signed = SignedTokens.of(settings, web.clock)
    database = await open_database(url, name="voltstream access", role=ACCESS_ROLE)
    try:
        web.ready["database"] = database.ping
        store = TokenStore(database)
        web.app.state.authenticator = Authenticator(store, web.clock, signed)
        yield store
    finally:
        await database.close()


@asynccontextmanager
async def open_queries(url: str, live: LiveView, web: Web) -> AsyncIterator[Database]:
    """The queries of telemetry, mounted. Raises Unavailable, ConfigError."""
    database = await open_database(url, name="voltstream queries", role=QUERIES_ROLE)
    try:
        web.streams.append(mount_queries(web.app, database, live, web.clock))
        yield database
    finally:
        await database.close()


@asynccontextmanager
async def open_ingest(settings: Settings, log: LogWriter, live: LiveView, web: Web) -> AsyncIterator[Ingest]:
    """The door, mounted and taking readings; needs the authenticator."""
    ingest = Ingest(
        settings,
        log=log,
        live=live,
        authenticator=web.app.state.authenticator,
        clock=web.clock,
        registry=web.registry,
    )
    web.app.include_router(ingest.router)
    ingest.start()
    try:
        yield ingest
    finally:
        await ingest.close()
