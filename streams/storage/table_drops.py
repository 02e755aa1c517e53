"""Who may drop tables of readings and windows: one process at a time, and nobody while a backup is taken.

A drop waits for everyone who reads the table, as a dump does for its whole length, and every writer waits behind the
drop. So a drop is put off: it is due again ten seconds or an hour later.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

import psycopg

Connection = psycopg.Connection[tuple[Any, ...]]

_LOCK_KEY: Final = 0x766F6C6B  # advisory, any unused number


@contextmanager
def dropping(connection: Connection) -> Iterator[bool]:
    """Whether nobody else drops or takes a backup. The lock ends with the connection, so a killed one leaves none."""
    (alone,) = connection.execute("SELECT pg_try_advisory_lock(%s)", (_LOCK_KEY,)).fetchone() or (False,)
    try:
        yield alone
    finally:
        if alone:
            with suppress(psycopg.Error):
                connection.execute("SELECT pg_advisory_unlock(%s)", (_LOCK_KEY,))


def keep_tables(connection: Connection) -> None:
    """Let nobody drop until this connection ends; wait for one that does. Blocks."""
    connection.execute("SELECT pg_advisory_lock_shared(%s)", (_LOCK_KEY,))
