"""`voltstream relay` as a process of its own."""

from contextlib import AsyncExitStack

from kit.clock import SystemClock
from kit.messaging.outbox import RelayMetrics
from kit.settings import Settings
from voltstream.runtime.backends import open_bus
from voltstream.runtime.dead_letters import open_dead_letters
from voltstream.runtime.process import Lifespan
from voltstream.runtime.relays import relaying
from voltstream.runtime.web import Web
from voltstream.services import Announce, serve


async def run(settings: Settings, port: int, lifespan: Lifespan, announce: Announce) -> None:
    """Events from the outbox to RabbitMQ, dead letters from there into the database and back."""
    web = Web("voltstream relay", SystemClock())
    async with AsyncExitStack() as stack:
        bus = await stack.enter_async_context(open_bus(settings, "relay", web.ready))
        metrics = RelayMetrics(web.registry)
        await stack.enter_async_context(open_dead_letters(settings.database_url, bus, metrics, lifespan, web))
        await stack.enter_async_context(relaying(settings.database_url, bus, metrics, lifespan))
        await serve(web, settings.host, port, lifespan, announce)
