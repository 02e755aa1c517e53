"""The services `gateway` (readings in, frames out) and `bridge` (frames from RabbitMQ to Kafka)."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

from fastapi import APIRouter
from prometheus_client import CollectorRegistry

from ingest.admission import AdmissionRules
from ingest.bridge import Bridge
from ingest.forwarding import BridgeMetrics
from ingest.framing import Framer
from ingest.gateway import Gateway, make_router
from ingest.ledger import LedgerReporter
from ingest.metrics import IngestMetrics
from ingest.request_limits import Limits, limits_of
from ingest.settings import IngestSettings
from ingest.telemetry_consumer import PREFETCH, TelemetryConsumer
from kit.auth.authenticator import Authenticator
from kit.clock import Clock
from kit.live.view import LiveView
from kit.log.partitioned_log import LogWriter
from kit.messaging.bus import Message
from kit.service import Consumes, Context, Service
from kit.web.limits.refusals import Refusals
from schemas.topics import TELEMETRY_GENERATED


class Ingest:
    """One run of one gateway. Created inside a running event loop; does not close log, bus or live view."""

    def __init__(
        self,
        settings: Callable[[], IngestSettings],
        partitions: int,
        *,
        log: LogWriter,
        live: LiveView,
        authenticator: Authenticator,
        clock: Clock,
        registry: CollectorRegistry,
        refusals: Refusals,
    ) -> None:
        """`settings`: as they are now. Of a request's body the bound of the start stays: it is in the OpenAPI."""
        self.source = secrets.token_hex(8)
        self._clock = clock
        self._settings = settings
        self._limits_of: tuple[IngestSettings, Limits] = (settings(), limits_of(settings()))
        metrics = IngestMetrics(registry)
        self._reporter = LedgerReporter(live, self.source)
        self._framer = Framer(
            log,
            source=self.source,
            partitions=partitions,
            linger_ms=settings().linger_ms,
            linger_batch_ms=settings().linger_batch_ms,
            clock=clock,
            metrics=metrics,
            on_durable=self._reporter.note,
        )
        self._telemetry_consumer = TelemetryConsumer(self._framer, self._rules, metrics)
        self.router: APIRouter = make_router(
            Gateway(self._framer, authenticator, clock, self._limits, metrics, refusals), settings().body_bytes_max
        )

    def start(self) -> None:
        """Start accepting readings."""
        self._reporter.start()
        self._framer.start()

    async def receive(self, message: Message) -> None:
        """Accept a telemetry.generated.v1 event. See TelemetryConsumer.handle."""
        await self._telemetry_consumer.handle(message)

    async def close(self) -> None:
        """Accept nothing new; return when all that was accepted is durable or has failed."""
        await self._framer.close()
        await self._reporter.close()

    def _limits(self) -> Limits:
        settings = self._settings()
        if settings is not self._limits_of[0]:
            self._limits_of = settings, limits_of(settings)
        return self._limits_of[1]

    def _rules(self) -> AdmissionRules:
        limits = self._limits()
        return AdmissionRules(self._clock.now_ms(), limits.age_ms_max, limits.future_ms_max, limits.readings_max)


@asynccontextmanager
async def open_gateway(context: Context) -> AsyncIterator[Ingest]:
    """Accept readings within the block; at its end all that was accepted is durable or has failed."""
    config = context.config
    ingest = Ingest(
        lambda: config.group(IngestSettings),
        context.settings.partitions,
        log=context.writer,
        live=context.live,
        authenticator=context.app.state.authenticator,
        clock=context.clock,
        registry=context.registry,
        refusals=context.app.state.refusals,
    )
    ingest.start()
    try:
        yield ingest
    finally:
        await ingest.close()


@asynccontextmanager
async def open_bridge(context: Context) -> AsyncIterator[Bridge]:
    """Move frames within the block."""
    settings = context.settings
    bridge = Bridge(settings.rabbitmq_url, settings.kafka_url, settings.partitions, BridgeMetrics(context.registry))
    context.checks["frames"] = bridge.check_ready
    running = context.spawn(bridge.run(), "bridge")
    try:
        yield bridge
    finally:
        bridge.close()
        await asyncio.wait((running,))


GATEWAY: Final = Service(
    name="gateway",
    summary="readings over HTTP and from the bus become durable frames; 202 once they are",
    open=open_gateway,
    components=Ingest,
    router=lambda ingest: ingest.router,
    consumes=(Consumes(TELEMETRY_GENERATED, receive=lambda ingest: ingest.receive, prefetch=PREFETCH, group="ingest"),),
    settings=IngestSettings,
    backends=frozenset({"live", "log_writer"}),
)
BRIDGE: Final = Service(
    name="bridge",
    summary="frames from RabbitMQ's queues to the partitions of the Kafka topic",
    open=open_bridge,
    components=Bridge,
    backends=frozenset({"frames"}),
    health_port=8082,
)
