"""A login by password at a private PostgreSQL, which otherwise trusts everyone on loopback."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import psycopg

from kit.database.login import connect_async, connection_url
from kit.database.postgres import Database, connect_sync


@dataclass(frozen=True, slots=True)
class PasswordLogin:
    """A superuser with a password, the address of the server, and the connection of an administrator."""

    user: str
    server: str  # host:port/database
    admin: "psycopg.Connection[tuple[object, ...]]"

    def change(self, password: str) -> None:
        """Give it a new password, and end its connections."""
        self.admin.execute(f"ALTER ROLE {self.user} PASSWORD '{password}'")
        self.admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s", [self.user])

    def url(self, password: str) -> str:
        """The URL with that password."""
        return f"postgresql://{self.user}:{password}@{self.server}"


async def answers(url: str, database: Database) -> None:
    """Every way to the database works. Raises Unavailable."""
    assert await database.fetchval("SELECT 1") == 1
    assert await asyncio.to_thread(database.fetch_blocking, "SELECT 1") == [(1,)]
    (await asyncio.to_thread(connect_sync, url, name="test")).close()
    await (await connect_async(url)).close()


@contextmanager
def password_login(admin_url: str) -> Iterator[PasswordLogin]:
    """One of its own, within the block."""
    user = f"login_{uuid4().hex[:12]}"
    with psycopg.connect(connection_url(admin_url), autocommit=True) as admin:
        admin.execute(f"CREATE ROLE {user} LOGIN SUPERUSER")
        row = admin.execute("SHOW hba_file").fetchone()
        assert row is not None
        hba = Path(str(row[0]))
        hba.write_text(f"host all {user} 127.0.0.1/32 scram-sha-256\n{hba.read_text()}")
        admin.execute("SELECT pg_reload_conf()")
        try:
            parts = urlsplit(admin_url)
            yield PasswordLogin(user, f"{parts.hostname}:{parts.port}{parts.path}", admin)
        finally:
            admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s", [user])
            admin.execute(f"DROP ROLE {user}")
