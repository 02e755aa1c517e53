"""What processes mount of the rooms: who may, the door for readings, the queries of telemetry."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from api.queries import ROLE as QUERIES_ROLE
from api.queries import mount_queries
from ingest.service import Ingest
from kit.auth.authenticator import Authenticator
from kit.auth.signed_tokens import SignedTokens
from kit.auth.token_store import TokenStore
from kit.database.postgres import Database, open_database
from kit.live.view import LiveView
from kit.log.partitioned_log import LogWriter
from kit.settings import Settings
from voltstream.runtime.database import ACCESS_ROLE
from voltstream.runtime.web import Web


@asynccontextmanager
async def open_authenticator(settings: Settings, url: str, web: Web) -> AsyncIterator[TokenStore]:
    """Who may: `web.app` can ask within the block. Raises Unavailable, ConfigError."""
    signed = SignedTokens.of(settings, web.clock)
    database = await open_database(url, name="voltstream access", role=ACCESS_ROLE)
    try:
        web.ready["database"] = database.ping
        store = TokenStore(database)
        web.app.state.authenticator = Authenticator(store, web.clock, signed)
        yield store
    finally:
        await database.close()


@asynccontextmanager
async def open_queries(url: str, live: LiveView, web: Web) -> AsyncIterator[Database]:
    """The queries of telemetry, mounted. Raises Unavailable, ConfigError."""
    database = await open_database(url, name="voltstream queries", role=QUERIES_ROLE)
    try:
        web.streams.append(mount_queries(web.app, database, live, web.clock))
        yield database
    finally:
        await database.close()


@asynccontextmanager
async def open_ingest(settings: Settings, log: LogWriter, live: LiveView, web: Web) -> AsyncIterator[Ingest]:
    """The door, mounted and taking readings; needs the authenticator."""
    ingest = Ingest(
        settings,
        log=log,
        live=live,
        authenticator=web.app.state.authenticator,
        clock=web.clock,
        registry=web.registry,
    )
    web.app.include_router(ingest.router)
    ingest.start()
    try:
        yield ingest
    finally:
        await ingest.close()
