"""Ending the sessions of databases that are renamed or dropped.

Sessions have a login. Processes of the server have none, as those of autovacuum, which only a superuser may end, and
which a rename or a drop ends by itself.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Event
from typing import Any, Final

import psycopg

from voltstream.errors import BackupFailed

Connection = psycopg.Connection[tuple[Any, ...]]

_PAUSE_S: Final = 0.1
_SESSIONS: Final = """
FROM pg_stat_activity AS a LEFT JOIN pg_roles AS r ON r.oid = a.usesysid,
    (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) AS me,
    LATERAL (SELECT me.rolsuper OR NOT r.rolsuper
        AND (pg_has_role(r.oid, 'USAGE') OR pg_has_role('pg_signal_backend', 'USAGE')) AS ends) AS may
WHERE a.datname = ANY(%s) AND a.pid <> pg_backend_pid() AND a.usesysid IS NOT NULL
"""
_END: Final = f"SELECT pg_terminate_backend(a.pid) {_SESSIONS} AND may.ends"
_REFUSED: Final = f"SELECT DISTINCT a.usename::text {_SESSIONS} AND may.ends IS NOT TRUE ORDER BY 1"


def check_sessions(connection: Connection, name: str) -> None:
    """Raises BackupFailed where sessions of the database may not be ended."""
    if logins := [login for (login,) in connection.execute(_REFUSED, ([name],))]:
        raise BackupFailed(
            f"sessions of {', '.join(logins)} are connected to {name}, which this login may not end: end them, or make "
            "it a member of pg_signal_backend (sessions of a superuser are ended by a superuser alone)"
        )


def end_sessions(connection: Connection, names: list[str]) -> None:
    """End those that this login may end. They are told to, and may take a moment."""
    connection.execute(_END, (names,))


@contextmanager
def ending_sessions(connection: Connection, names: list[str]) -> Iterator[None]:
    """Within the block, sessions of these databases are ended again and again by this connection, which nobody else
    uses meanwhile."""
    done = Event()

    def end() -> None:
        end_sessions(connection, names)
        while not done.wait(_PAUSE_S):
            end_sessions(connection, names)

    with ThreadPoolExecutor(1, thread_name_prefix="restore") as pool:
        pool.submit(end)
        try:
            yield
        finally:
            done.set()
