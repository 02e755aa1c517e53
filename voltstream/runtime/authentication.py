"""The authenticator of a process that serves routes.

A worker has none and does not import this module: what verifies signed tokens takes 12 MB.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from kit.auth.authenticator import Authenticator
from kit.auth.client_certificates import ClientCertificates
from kit.auth.signed_tokens import SignedTokens
from kit.auth.token_lifetimes import TokenLifetimes
from kit.auth.token_store import TokenStore
from kit.database.postgres import open_database
from kit.settings import Settings
from voltstream.runtime.database import ACCESS_ROLE
from voltstream.runtime.web import Web

_CONNECTIONS_MAX: Final = 2  # tokens are remembered; what is looked up is one row by its key


@asynccontextmanager
async def open_authenticator(settings: Settings, url: str, web: Web) -> AsyncIterator[TokenStore]:
    """Let `web.app` authenticate requests within the block. Raises Unavailable, ConfigError."""
    signed = SignedTokens.of(settings, web.clock)
    database = await open_database(
        url,
        name="voltstream access",
        role=ACCESS_ROLE,
        connections_max=_CONNECTIONS_MAX,
        on_query=web.queries.of("access"),
    )
    store = TokenStore(database, lifetimes=TokenLifetimes.of(settings))
    certificates = ClientCertificates(store, web.clock) if settings.client_certificate_header else None
    authenticator = Authenticator(store, web.clock, signed, certificates)
    try:
        web.watch_database(database)
        web.app.state.authenticator = authenticator
        yield store
    finally:
        await authenticator.stop()
        await database.close()
        await asyncio.to_thread(authenticator.close)
