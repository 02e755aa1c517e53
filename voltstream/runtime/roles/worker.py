"""`voltstream worker` as a process of its own."""

from contextlib import AsyncExitStack

from kit.clock import SystemClock
from kit.settings import Settings
from voltstream.runtime.backends import open_live
from voltstream.runtime.process import Lifespan
from voltstream.runtime.web import Web
from voltstream.runtime.worker import group_member
from voltstream.services import Announce, serve


async def run(settings: Settings, port: int, lifespan: Lifespan, announce: Announce) -> None:
    """Frames from Kafka into the database."""
    web = Web("voltstream worker", SystemClock())
    async with AsyncExitStack() as stack:
        live = await stack.enter_async_context(open_live(settings, settings.database_url, web.ready))
        await stack.enter_async_context(group_member(settings, settings.database_url, live, lifespan, web))
        await serve(web, settings.host, port, lifespan, announce)
