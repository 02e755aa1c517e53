"""`voltstream worker` as a process of its own."""

from contextlib import AsyncExitStack

from kit.clock import SystemClock
from kit.settings import Settings
from voltstream.process import Life
from voltstream.seams import open_live
from voltstream.services import Announce, serve
from voltstream.web import Web
from voltstream.worker import group_member


async def run(settings: Settings, port: int, life: Life, announce: Announce) -> None:
    """Frames from Kafka into the database."""
    web = Web("voltstream worker", SystemClock())
    async with AsyncExitStack() as stack:
        live = await stack.enter_async_context(open_live(settings, settings.database_url, web.ready))
        await stack.enter_async_context(group_member(settings, settings.database_url, live, life, web))
        await serve(web, settings.host, port, life, announce)
