"""The HTTP side of every process: health and metrics, and the routes of its services (voltstream/runtime/composition).

A process that mounts nothing imports nothing of the rooms: a worker's memory is for its state.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

from fastapi import FastAPI
from fastapi.routing import iter_route_contexts
from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector

from kit.clock import Clock
from kit.database.postgres import Database
from kit.database.query_metrics import QueryMetrics
from kit.database.write_probe import WriteProbe
from kit.errors import Unavailable
from kit.messaging.gate import Gate
from kit.service import StreamingResponses
from kit.settings import Settings
from kit.web.app import RunningServer, make_app, serve
from kit.web.health import ReadyCheck
from kit.web.serving.connections import ConnectionLimits
from kit.web.serving.proxies import TrustedProxies
from voltstream import __version__
from voltstream.runtime.process import Lifespan


async def _stopping() -> None:
    raise Unavailable("it is stopping: send requests to another")


_DESCRIPTION: Final = "Telemetry of EV chargers in, exact per-station metrics and sessions out, live."


@dataclass(slots=True)
class Web:
    """An app in the making: every part mounts its routes and adds what /ready is to look at."""

    title: str
    clock: Clock
    ready: dict[str, ReadyCheck] = field(default_factory=dict)
    registry: CollectorRegistry = field(default_factory=CollectorRegistry)
    app: FastAPI = field(init=False)
    queries: QueryMetrics = field(init=False)
    streaming_responses: list[StreamingResponses] = field(default_factory=list)
    accepting: Gate = field(default_factory=lambda: Gate(is_open=False))
    """Open once requests are accepted. Events wait for it: behind a backlog the start and health checks would wait."""

    def __post_init__(self) -> None:
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self.registry)
        self.queries = QueryMetrics(self.registry)
        self.app = make_app(
            self.title,
            __version__,
            description=_DESCRIPTION,
            registry=self.registry,
            ready=self.ready,
            clock=self.clock,
        )

    def watch_database(self, database: Database) -> None:
        """Let /ready say whether it takes writes; one pool of a process is enough."""
        if "database" not in self.ready:
            self.ready["database"] = WriteProbe(database, self.clock.monotonic_s).check

    @asynccontextmanager
    async def serving(
        self, lifespan: Lifespan, settings: Settings, *, port: int | None = None
    ) -> AsyncIterator[RunningServer]:
        """Serve within the block; at its end, unless by an error, drain first where the process serves the API. Raises
        ConfigError where the address cannot be listened on."""
        limits = ConnectionLimits(settings.connections_max, settings.connections_per_address_max)
        hosts = [name.strip() for name in settings.hosts.split(",") if name.strip()]
        proxies = TrustedProxies.of(settings.trusted_proxies, settings.client_certificate_header)
        port = settings.port if port is None else port
        async with serve(self.app, settings.host, port, limits, hosts, proxies) as server:
            watching = lifespan.spawn(server.wait(), "http server")
            self.accepting.set(is_open=True)
            try:
                yield server
                if any(str(route.path).startswith("/api/") for route in iter_route_contexts(self.app.routes)):
                    self.ready["process"] = _stopping
                    await server.drain(settings.drain_s)
            finally:
                for responses in self.streaming_responses:
                    await responses.close()  # the server waits for them, and only this ends them
                await server.stop()
                await asyncio.wait((watching,))
