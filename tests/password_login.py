"""A login by password at a private PostgreSQL, which otherwise trusts everyone on loopback."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import psycopg

from kit.database.login import connection_url


@dataclass(frozen=True, slots=True)
class PasswordLogin:
    """A superuser with a password, and the connection of an administrator."""

    user: str
    admin: "psycopg.Connection[tuple[object, ...]]"

    def change(self, password: str) -> None:
        """Give it a new password, and end its connections."""
        self.admin.execute(f"ALTER ROLE {self.user} PASSWORD '{password}'")
        self.admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s", [self.user])


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
            yield PasswordLogin(user, admin)
        finally:
            admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s", [user])
            admin.execute(f"DROP ROLE {user}")
