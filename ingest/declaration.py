"""The services `gateway` (readings in, frames out) and `bridge` (frames from RabbitMQ to Kafka)."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from ingest.bridge import Bridge, BridgeMetrics
from ingest.service import Ingest
from ingest.settings import IngestSettings
from ingest.telemetry_consumer import PREFETCH
from kit.service import Consumes, Context, Service
from schemas.topics import TELEMETRY_GENERATED


@asynccontextmanager
async def open_gateway(context: Context) -> AsyncIterator[Ingest]:
    """Accept readings within the block; at its end all that was accepted is durable or has failed."""
    ingest = Ingest(
        context.group(IngestSettings),
        context.settings.partitions,
        log=context.writer,
        live=context.live,
        authenticator=context.app.state.authenticator,
        clock=context.clock,
        registry=context.registry,
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
