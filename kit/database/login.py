"""How a connection to PostgreSQL begins, for both drivers: the URL as its file has it now, and the CAs of the server.

TLS is as the URL asks for it, by libpq's words: `sslmode=verify-full` verifies chain and name, `verify-ca` the chain
only; any other mode verifies nothing.
"""

from typing import Any
from urllib.parse import quote

import asyncpg

from kit.secrets.text import ca_file_of, current
from kit.tls import asks_for_tls, existing_ca_file


def connection_url(url: str) -> str:
    """The URL to connect to now. Where it asks for a verified certificate and names no `sslrootcert`, that is
    VOLTSTREAM_TLS_CA_FILE, else the system's. Raises Unavailable if its file cannot be read, ConfigError."""
    now = current(url)
    if not asks_for_tls(now) or "sslrootcert=" in now:
        return now
    return f"{now}&sslrootcert={quote(existing_ca_file(ca_file_of(url)), safe='')}"


async def connect_async(url: str, **options: Any) -> "asyncpg.Connection[asyncpg.Record]":
    """An asyncpg connection. Raises the driver's errors, and those of `connection_url`."""
    return await asyncpg.connect(connection_url(url), **options)
