"""`voltstream api` as a process of its own."""

from contextlib import AsyncExitStack

from kit.clock import SystemClock
from kit.settings import Settings
from voltstream.runtime.backends import open_bus, open_live
from voltstream.runtime.business import open_business
from voltstream.runtime.mounts import open_authenticator, open_queries
from voltstream.runtime.process import Lifespan
from voltstream.runtime.web import Web
from voltstream.services import Announce, serve


async def run(settings: Settings, port: int, lifespan: Lifespan, announce: Announce) -> None:
    """The operators' queries, and pricing, sessions and billing with the events that they hear."""
    web = Web("voltstream api", SystemClock())
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(open_authenticator(settings, settings.database_url, web))
        live = await stack.enter_async_context(open_live(settings, settings.database_url, web.ready))
        await stack.enter_async_context(open_queries(settings.database_url, live, web))
        business = await stack.enter_async_context(open_business(settings, settings.database_url, lifespan, web))
        await business.hear(settings, await stack.enter_async_context(open_bus(settings, "api", web.ready)), web)
        await serve(web, settings.host, port, lifespan, announce)
