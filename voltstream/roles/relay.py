"""`voltstream relay` as a process of its own."""

from contextlib import AsyncExitStack

from kit.clock import SystemClock
from kit.outbox import RelayMetrics
from kit.settings import Settings
from voltstream.dead_letters import open_dead_letters
from voltstream.process import Life
from voltstream.seams import open_bus
from voltstream.services import Announce, serve
from voltstream.telling import relaying
from voltstream.web import Web


async def run(settings: Settings, port: int, life: Life, announce: Announce) -> None:
    """Events from the outbox to RabbitMQ, dead letters from there into the database and back."""
    web = Web("voltstream relay", SystemClock())
    async with AsyncExitStack() as stack:
        bus = await stack.enter_async_context(open_bus(settings, "relay", web.ready))
        metrics = RelayMetrics(web.registry)
        await stack.enter_async_context(open_dead_letters(settings.database_url, bus, metrics, life, web))
        await stack.enter_async_context(relaying(settings.database_url, bus, metrics, life))
        await serve(web, settings.host, port, life, announce)
