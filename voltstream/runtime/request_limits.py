"""The limits of requests of a process that serves routes: they follow the configuration, and are shared on Redis."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from kit.config.runtime import RuntimeConfig
from kit.settings import Settings
from kit.web.limits.requests import RequestLimits
from kit.web.limits.settings import RequestLimitSettings
from voltstream.runtime.database import database_id_of
from voltstream.runtime.process import Lifespan
from voltstream.runtime.web import Web


@asynccontextmanager
async def open_request_limits(
    settings: Settings, database_url: str, config: RuntimeConfig, lifespan: Lifespan, web: Web
) -> AsyncIterator[None]:
    """Let the requests to `web.app` obey the configuration within the block. Raises Unavailable, ConfigError.

    Where there is a Redis, processes of one database share what they counted; that it answers is not waited for.
    """
    limits: RequestLimits = web.app.state.request_limits
    limits.follow(lambda: config.group(RequestLimitSettings))
    if not settings.redis_url:
        yield
        return
    from kit.web.limits.shared import SharedRequestCounts  # Redis' client takes 10 MB

    database_id = await asyncio.to_thread(database_id_of, database_url)
    shared = SharedRequestCounts(settings.redis_url, f"requests:{database_id}:", web.clock)
    summing = lifespan.spawn(shared.run(), "shared limits")
    limits.shared = shared
    try:
        yield
    finally:
        limits.shared = None
        summing.cancel()
        await shared.close()
