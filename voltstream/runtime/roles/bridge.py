"""`voltstream bridge` as a process of its own."""

import asyncio

from ingest.bridge import Bridge, BridgeMetrics
from kit.clock import SystemClock
from kit.settings import Settings
from voltstream.runtime.process import Lifespan
from voltstream.runtime.web import Web
from voltstream.services import Announce, serve


async def run(settings: Settings, port: int, lifespan: Lifespan, announce: Announce) -> None:
    """Frames from RabbitMQ to Kafka."""
    web = Web("voltstream bridge", SystemClock())
    bridge = Bridge(settings.rabbitmq_url, settings.kafka_url, settings.partitions, BridgeMetrics(web.registry))
    web.ready["frames"] = bridge.check_ready
    running = lifespan.spawn(bridge.run(), "bridge")
    try:
        await serve(web, settings.host, port, lifespan, announce)
    finally:
        bridge.close()
        await asyncio.wait((running,))
