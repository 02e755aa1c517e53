"""The services as processes of their own: each is told the servers where it meets the others, and serves /healthz,
/ready and /metrics beside what it is for."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Final

from ingest.bridge import Bridge, BridgeMetrics
from kit.clock import SystemClock
from kit.outbox import RelayMetrics
from kit.settings import Settings
from voltstream.business import open_business, relaying
from voltstream.dead_letters import open_dead_letters
from voltstream.process import Life
from voltstream.seams import open_bus, open_live, open_log_writer
from voltstream.web import Web, open_authenticator, open_ingest, open_queries
from voltstream.worker import group_member

# Where those listen that serve nothing but their own health; gateway and api listen on VOLTSTREAM_PORT.
PORTS: Final = {"bridge": 8082, "worker": 8083, "relay": 8084}
NEEDS: Final = {
    "gateway": ("database_url", "rabbitmq_url", "kafka_url", "redis_url"),
    "api": ("database_url", "rabbitmq_url", "redis_url"),
    "bridge": ("rabbitmq_url", "kafka_url"),
    "worker": ("database_url", "kafka_url", "redis_url"),
    "relay": ("database_url", "rabbitmq_url"),
}

Announce = Callable[[str], None]
"""Told the service's base URL once it is ready."""
Service = Callable[[Settings, int, Life, Announce], Awaitable[None]]
"""Runs until its Life stops, listening on the port given."""


async def run_gateway(settings: Settings, port: int, life: Life, announce: Announce) -> None:
    """HTTP and events in, frames out to RabbitMQ."""
    web = Web("voltstream gateway", SystemClock())
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(open_authenticator(settings, settings.database_url, web))
        live = await stack.enter_async_context(open_live(settings, settings.database_url, web.ready))
        log = await open_log_writer(settings, web.ready)
        stack.push_async_callback(log.close)
        ingest = await stack.enter_async_context(open_ingest(settings, log, live, web))
        await ingest.consume(await stack.enter_async_context(open_bus(settings, "gateway", web.ready)))
        await _serve(web, settings.host, port, life, announce)


async def run_api(settings: Settings, port: int, life: Life, announce: Announce) -> None:
    """The operators' queries, and pricing, sessions and billing with the events that they hear."""
    web = Web("voltstream api", SystemClock())
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(open_authenticator(settings, settings.database_url, web))
        live = await stack.enter_async_context(open_live(settings, settings.database_url, web.ready))
        await stack.enter_async_context(open_queries(settings.database_url, live, web))
        business = await stack.enter_async_context(open_business(settings, settings.database_url, life, web))
        await business.hear(settings, await stack.enter_async_context(open_bus(settings, "api", web.ready)), web)
        await _serve(web, settings.host, port, life, announce)


async def run_bridge(settings: Settings, port: int, life: Life, announce: Announce) -> None:
    """Frames from RabbitMQ to Kafka."""
    web = Web("voltstream bridge", SystemClock())
    bridge = Bridge(settings.rabbitmq_url, settings.kafka_url, settings.partitions, BridgeMetrics(web.registry))
    web.ready["frames"] = bridge.check_ready
    running = life.spawn(bridge.run(), "bridge")
    try:
        await _serve(web, settings.host, port, life, announce)
    finally:
        bridge.close()
        await asyncio.wait((running,))


async def run_worker(settings: Settings, port: int, life: Life, announce: Announce) -> None:
    """Frames from Kafka into the database."""
    web = Web("voltstream worker", SystemClock())
    async with AsyncExitStack() as stack:
        live = await stack.enter_async_context(open_live(settings, settings.database_url, web.ready))
        await stack.enter_async_context(group_member(settings, settings.database_url, live, life, web))
        await _serve(web, settings.host, port, life, announce)


async def run_relay(settings: Settings, port: int, life: Life, announce: Announce) -> None:
    """Events from the outbox to RabbitMQ, dead letters from there into the database and back."""
    web = Web("voltstream relay", SystemClock())
    async with AsyncExitStack() as stack:
        bus = await stack.enter_async_context(open_bus(settings, "relay", web.ready))
        metrics = RelayMetrics(web.registry)
        await stack.enter_async_context(open_dead_letters(settings.database_url, bus, metrics, life, web))
        await stack.enter_async_context(relaying(settings.database_url, bus, metrics, life))
        await _serve(web, settings.host, port, life, announce)


async def _serve(web: Web, host: str, port: int, life: Life, announce: Announce) -> None:
    async with web.serving(life, host, port) as server:
        announce(server.url)
        await life.wait()


SERVICES: Final[dict[str, Service]] = {
    "gateway": run_gateway,
    "api": run_api,
    "bridge": run_bridge,
    "worker": run_worker,
    "relay": run_relay,
}
