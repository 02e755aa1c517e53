"""How a connection to PostgreSQL begins, for both drivers: the URL as its file has it now, and the CAs of the server.

TLS is as the URL asks for it, by libpq's words: `sslmode=verify-full` verifies chain and name, `verify-ca` the chain
only; any other mode verifies nothing.
"""

import asyncio
from typing import Any, Final
from urllib.parse import quote

import asyncpg

from kit.errors import LoginRefused
from kit.secrets.text import ca_file_of, is_from_file
from kit.secrets.urls import current_url, without_secrets
from kit.tls import libpq_ca_file

SETTING: Final = "VOLTSTREAM_DATABASE_URL"
# SQLSTATE classes of errors when the server is gone, starting, stopping or full. 08: connection; 53: resources;
# 57: operator intervention.
OUTAGE_CLASSES: Final = ("08", "53", "57")


def connection_url(url: str) -> str:
    """The URL to connect to now. Where it asks for a verified certificate, it names the file of the CAs, unless libpq
    finds that by itself. Raises Unavailable if its file cannot be read or has no URL, ConfigError."""
    now = current_url(url, SETTING)
    ca_file = libpq_ca_file(now, ca_file_of(url))
    return f"{now}&sslrootcert={quote(ca_file, safe='')}" if ca_file else now


async def connect_async(url: str, **options: Any) -> "asyncpg.Connection[asyncpg.Record]":
    """An asyncpg connection. Raises LoginRefused where another URL would be needed, the driver's errors of an outage,
    and those of `connection_url`."""
    now = await asyncio.to_thread(connection_url, url) if is_from_file(url) else connection_url(url)
    try:
        return await asyncpg.connect(now, **options)
    except (ValueError, asyncpg.PostgresError) as error:  # of a refused certificate OpenSSL's is both
        if isinstance(error, OSError) or (getattr(error, "sqlstate", None) or "")[:2] in OUTAGE_CLASSES:
            raise
        raise LoginRefused(f"PostgreSQL refuses the login: {without_secrets(error, url)}") from None
