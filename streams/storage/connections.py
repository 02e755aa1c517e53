"""A pool of a few PostgreSQL connections for the worker's threads."""

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from threading import BoundedSemaphore
from typing import Any, Final

import psycopg

from kit.database.postgres import connect_sync, outages
from kit.errors import Unavailable
from kit.masking import mask_secrets
from streams.storage.binary_copy import BinaryArray, BinaryArrayDumper
from streams.storage.schema import WRITER_ROLE

Connection = psycopg.Connection[tuple[Any, ...]]

DELETED_ROWS_MAX: Final = 50_000  # by retention at once, ~0.5 s of one connection; the rest an hour later
_LEASE_S_MAX: Final = 60.0  # every lease is one transaction; the longest, a full batch, takes a few seconds
# A worker that is gone locks its rows until the server notices: within 25 s when its host vanished (10 s + 3 * 5 s),
# within 30 s when it hangs between two statements. Where it hangs within one, its successor ends it (Store.acquire).
# What a pass changes of old readings is stored, however many are compressed with them: refused, it would be tried for
# ever. Without TimescaleDB that setting means nothing.
_SETTINGS: Final = """
SET tcp_keepalives_idle = 10; SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 3;
SET idle_in_transaction_session_timeout = '30s'; SET lock_timeout = '60s'; SET jit = off;
SET timescaledb.max_tuples_decompressed_per_dml_transaction = 0;
"""


def open_writer(url: str) -> Connection:
    """A connection of a worker: autocommit, the writer's role, binary arrays known. Raises Unavailable, ConfigError."""
    connection = connect_sync(url, name="voltstream worker", role=WRITER_ROLE, autocommit=True)
    connection.adapters.register_dumper(BinaryArray, BinaryArrayDumper)
    with outages():
        connection.execute(_SETTINGS.encode())
    return connection


class Connections:
    """At most `connections_max`, opened when first needed, closed after any error on them."""

    def __init__(self, connect: Callable[[], Connection], connections_max: int) -> None:
        self._connect = connect
        self._free: deque[Connection] = deque()
        self._places = BoundedSemaphore(connections_max)

    @contextmanager
    def lend(self) -> Iterator[Connection]:
        """A connection for this block and thread.

        Raises Unavailable for every error of the database except those caused by the data (psycopg's DataError and
        IntegrityError): a dead server, a deadlock or a missing right is no reason to quarantine readings.
        """
        if not self._places.acquire(timeout=_LEASE_S_MAX):
            raise Unavailable(f"no database connection came free within {_LEASE_S_MAX:.0f} s")
        try:
            with _unavailable(), outages():
                connection = self._free.pop() if self._free else self._connect()
                try:
                    yield connection
                except BaseException:
                    connection.close()  # its transaction, if any, is rolled back by that
                    raise
                self._free.append(connection)
        finally:
            self._places.release()

    def close(self) -> None:
        """Close those that are not lent."""
        while self._free:
            with suppress(psycopg.Error):
                self._free.pop().close()


@contextmanager
def _unavailable() -> Iterator[None]:
    try:
        yield
    except (psycopg.DataError, psycopg.IntegrityError):
        raise
    except psycopg.Error as error:
        raise Unavailable(f"PostgreSQL refuses: {mask_secrets(str(error).strip())}") from error
