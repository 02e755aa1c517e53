"""`voltstream api` as a process of its own."""

from contextlib import AsyncExitStack

from kit.clock import SystemClock
from kit.settings import Settings
from voltstream.business import open_business
from voltstream.mounts import open_authenticator, open_queries
from voltstream.process import Life
from voltstream.seams import open_bus, open_live
from voltstream.services import Announce, serve
from voltstream.web import Web


async def run(settings: Settings, port: int, life: Life, announce: Announce) -> None:
    """The operators' queries, and pricing, sessions and billing with the events that they hear."""
    web = Web("voltstream api", SystemClock())
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(open_authenticator(settings, settings.database_url, web))
        live = await stack.enter_async_context(open_live(settings, settings.database_url, web.ready))
        await stack.enter_async_context(open_queries(settings.database_url, live, web))
        business = await stack.enter_async_context(open_business(settings, settings.database_url, life, web))
        await business.hear(settings, await stack.enter_async_context(open_bus(settings, "api", web.ready)), web)
        await serve(web, settings.host, port, life, announce)
