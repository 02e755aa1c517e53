"""The audit of a process that serves routes: what is kept of its requests is written by a connection of its own."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from kit.audit.writer import AuditWriter
from kit.database.postgres import open_database
from voltstream.runtime.database import AUDIT_ROLE
from voltstream.runtime.process import Lifespan
from voltstream.runtime.web import Web


@asynccontextmanager
async def open_audit(url: str, web: Web, lifespan: Lifespan) -> AsyncIterator[AuditWriter]:
    """Let `web.app` audit its requests within the block. Raises Unavailable, ConfigError."""
    database = await open_database(
        url, name="voltstream audit writer", role=AUDIT_ROLE, connections_max=1, on_query=web.queries.of("audit writer")
    )
    writer = AuditWriter(database, web.clock, web.registry)
    web.app.state.audit = writer.requests
    running = lifespan.spawn(writer.run(), "audit")
    try:
        yield writer
    finally:
        running.cancel()
        await asyncio.wait((running,))
        await writer.close()
        await database.close()
