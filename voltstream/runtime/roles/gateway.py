"""`voltstream gateway` as a process of its own."""

from contextlib import AsyncExitStack

from kit.clock import SystemClock
from kit.settings import Settings
from voltstream.runtime.backends import open_bus, open_live, open_log_writer
from voltstream.runtime.mounts import open_authenticator, open_ingest
from voltstream.runtime.process import Lifespan
from voltstream.runtime.web import Web
from voltstream.services import Announce, serve


async def run(settings: Settings, port: int, lifespan: Lifespan, announce: Announce) -> None:
    """HTTP and events in, frames out to RabbitMQ."""
    web = Web("voltstream gateway", SystemClock())
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(open_authenticator(settings, settings.database_url, web))
        live = await stack.enter_async_context(open_live(settings, settings.database_url, web.ready))
        log = await open_log_writer(settings, web.ready)
        stack.push_async_callback(log.close)
        ingest = await stack.enter_async_context(open_ingest(settings, log, live, web))
        await ingest.consume(await stack.enter_async_context(open_bus(settings, "gateway", web.ready)))
        await serve(web, settings.host, port, lifespan, announce)
