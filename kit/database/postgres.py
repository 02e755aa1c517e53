"""PostgreSQL for services (asyncpg) and for the stream workers and tools (psycopg); outages become Unavailable.

URLs are `postgresql://user:password@host:port/database` or, for a socket, `postgresql://user@/database?host=/folder`.
A process logs in with one URL and takes a service's role at connect (kit/database/roles.py).
"""

import contextlib
import math
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from functools import partial
from threading import Lock, Timer
from typing import Any, Final

import asyncpg
import psycopg

from kit.database.login import OUTAGE_CLASSES, SETTING, connect_async, connection_url
from kit.database.questions import Questions, Turn
from kit.errors import Contended, LoginRefused, Unavailable
from kit.masking import mask_secrets
from kit.secrets.text import is_from_file
from kit.secrets.urls import without_secrets, wrong_url
from kit.tls import refusal, refusal_in

_CONNECT_S: Final = 5  # a server that accepts no connection within this time counts as down
_QUERY_S: Final = 30.0  # a longer query of a service would only block its connection
_CANCEL_S: Final = 5.0  # from the end of that time to the server's answer that it has cancelled the query
QUERY_S_MAX: Final = 20.0  # the default for questions
_POOL_MAX: Final = 8  # connections of one service: of all in one process 96, within the 200 that servers are set to
# Of libpq: a peer whose host answers no TCP probe, or acknowledges no byte, is gone after 10 + 3 * 5 s.
_CUT_OFF: Final[dict[str, Any]] = {
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 25_000,  # ms
}

# Pause between two reads of a COPY. PostgreSQL sends 8 kB at a time; one read costs ~50 us, whether of 8 kB or of the
# ~60 kB that arrive within the pause.
COPY_GATHER_S: Final = 0.001

_LOGIN_CLASS: Final = "28"  # a login that is refused: passwords are changed while others work with them
_CONTENTION: Final = frozenset({"40001", "40P01"})  # serialization failure, deadlock
_NO_OUTAGE: Final = frozenset({"57014"})  # a query cancelled by its own time-out
# 22: data exception; 23: a constraint; 54: beyond a limit of the server, as a document that is too large.
_DATA_CLASSES: Final = ("22", "23", "54")
# libpq gives no SQLSTATE for a refused login, only a message.
_REFUSALS: Final = ("authentication failed", "does not exist", "no pg_hba.conf entry", "no password supplied")


@contextlib.contextmanager
def outages(what: str = "PostgreSQL") -> Generator[None, None, None]:
    """Within the block, a driver's error that means "the server does not answer" becomes Unavailable; one that means
    "try again" (a deadlock, a serialization failure) Contended."""
    try:
        yield
    except (asyncpg.PostgresError, psycopg.Error) as error:
        state = getattr(error, "sqlstate", None) or ""
        if state in _CONTENTION:
            message = mask_secrets(str(error).strip())
            raise Contended(f"{what} rolled back a transaction: {message}") from error
        if state[:2] == _LOGIN_CLASS:
            raise LoginRefused(f"{what} refuses the login: {mask_secrets(str(error).strip())}") from error
        lost = isinstance(error, psycopg.OperationalError) and not state
        if (lost or state[:2] in OUTAGE_CLASSES) and state not in _NO_OUTAGE:
            message = mask_secrets(str(error).strip())
            raise Unavailable(f"{what} does not answer: {refusal_in(message) or message}") from error
        raise
    except (OSError, TimeoutError) as error:
        raise Unavailable(f"{what} does not answer: {refusal(error) or str(error) or type(error).__name__}") from error
    except asyncpg.InternalClientError as error:
        # Raised by a connection that the server is ending, between its last message and the end of the socket:
        # "cannot switch to state 11; another operation (2) is in progress" (asyncpg #1069).
        raise Unavailable(f"{what} does not answer: {error}") from error
    except asyncpg.InterfaceError as error:
        if "clos" in str(error):  # asyncpg has one class for misuse and for a connection or pool that is gone
            raise Unavailable(f"{what} does not answer: {error}") from error
        raise


def is_about_data(error: BaseException) -> bool:
    """Whether a statement failed for what it was given, so that trying it again is of no use. Of any other error, as a
    time-out or a right that is missing, the reason may be gone the next time."""
    if isinstance(error, asyncpg.PostgresError | psycopg.Error):
        return (getattr(error, "sqlstate", None) or "")[:2] in _DATA_CLASSES
    return isinstance(error, ValueError | TypeError | OverflowError | RecursionError)  # as it was encoded


class _Connection(asyncpg.Connection):  # type: ignore[misc]  # it has no types
    """Needs no reset on its return to the pool, since no query on it changes anything beyond its transaction. asyncpg's
    reset would be a second round trip for each query."""

    def get_reset_query(self) -> str:
        return ""


OnQuery = Callable[[str, float], None]
"""Takes a query and the seconds until its answer was there."""


async def _call_after_queries(on_query: OnQuery, connection: asyncpg.Connection) -> None:
    connection.add_query_logger(lambda logged: on_query(logged.query, logged.elapsed))


class Database:
    """A pool of asyncpg connections. Every method raises Unavailable when the server does not answer."""

    def __init__(
        self, pool: "asyncpg.Pool[asyncpg.Record]", blocking: "_BlockingConnection", questions: Questions
    ) -> None:
        self._pool = pool
        self._blocking = blocking
        self._questions = questions

    async def fetch(self, query: str, *args: object) -> list[asyncpg.Record]:
        """All rows."""
        rows: list[asyncpg.Record] = await self._ask("fetch", query, args)
        return rows

    async def fetchrow(self, query: str, *args: object) -> asyncpg.Record | None:
        """The first row, if any."""
        row: asyncpg.Record | None = await self._ask("fetchrow", query, args)
        return row

    async def fetchval(self, query: str, *args: object) -> Any:
        """The first column of the first row, or None."""
        return await self._ask("fetchval", query, args)

    async def _ask(self, method: str, query: str, args: tuple[object, ...]) -> Any:
        with outages():
            async with self._questions.turn() as turn:
                try:
                    async with self._pool.acquire(timeout=turn.left_s) as connection:
                        turn.begin()
                        return await getattr(connection, method)(query, *args, timeout=turn.left_s)
                except TimeoutError:
                    if turn.is_over:
                        raise turn.too_slow() from None
                    raise

    def fetch_blocking(self, query: str, *args: object) -> list[tuple[Any, ...]]:
        """All rows, on a connection besides the pool. Blocks, for 40 s at most: it is for one thread, which needs no
        event loop."""
        return self._blocking.fetch(query, args)

    async def execute(self, query: str, *args: object) -> str:
        """Run a statement and return its command tag."""
        with outages():
            tag: str = await self._pool.execute(query, *args)
            return tag

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator["asyncpg.pool.PoolConnectionProxy[asyncpg.Record]"]:
        """A connection within a transaction: committed at the end of the block, rolled back on any error. What is set
        on it (SET LOCAL, locks) must end with the transaction."""
        with outages():
            async with self._pool.acquire(timeout=_CONNECT_S) as connection, connection.transaction():
                yield connection

    @contextlib.asynccontextmanager
    async def snapshot(
        self, *, download: bool = False
    ) -> AsyncIterator["asyncpg.pool.PoolConnectionProxy[asyncpg.Record]"]:
        """A connection that sees the database as of the block's begin, without later changes. Read only.

        `download`: it lasts as long as its reader takes, and has no bound of questions.
        To abandon a running statement (a COPY whose reader is gone) call its `terminate`.
        """
        with outages():
            turns = contextlib.nullcontext(Turn()) if download else self._questions.turn()
            async with turns as turn, turn.within(), self._pool.acquire(timeout=_CONNECT_S) as connection:
                turn.begin()
                transaction = connection.transaction(isolation="repeatable_read", readonly=True)
                await transaction.start()
                try:
                    if (left_s := turn.left_s) is not None:
                        await connection.execute(f"SET LOCAL statement_timeout = {math.ceil(left_s * 1_000)}")
                    yield connection
                except asyncpg.QueryCanceledError:
                    if turn.is_over:
                        raise turn.too_slow() from None
                    raise
                finally:
                    with contextlib.suppress(asyncpg.InterfaceError, asyncpg.PostgresConnectionError):  # terminated
                        await transaction.rollback()

    async def ping(self) -> None:
        """Raises Unavailable unless the server answers. A readiness check."""
        await self.fetchval("SELECT 1")

    async def close(self) -> None:
        """Close every connection, waiting for what runs on them, but for `fetch_blocking`, which raises Unavailable;
        where the server is gone, at once."""
        self._blocking.close()
        try:
            with outages():
                await self._pool.close()
        except Unavailable:
            self._pool.terminate()


class _BlockingConnection:
    """A psycopg connection for one thread: opened when it is needed, closed after any error on it, and for good by
    another thread."""

    def __init__(self, connect: Callable[[], psycopg.Connection[tuple[Any, ...]]], answer_s: float) -> None:
        """`answer_s`: a server that has not answered a query by then does not answer."""
        self._connect = connect
        self._answer_s = answer_s
        self._connection: psycopg.Connection[tuple[Any, ...]] | None = None
        self._closed = False
        self._lock = Lock()  # of the two attributes above

    def fetch(self, query: str, args: tuple[object, ...]) -> list[tuple[Any, ...]]:
        """All rows of a query whose parameters are $1, $2 and so on. Raises Unavailable."""
        connection = self._connection or self._opened()
        # Whether the server is frozen or cut off: psycopg itself waits without end.
        limit = Timer(self._answer_s, connection.close)
        limit.daemon = True
        limit.start()
        try:
            with outages():
                return psycopg.RawCursor(connection).execute(query.encode(), args).fetchall()
        except BaseException:
            self._connection = None
            connection.close()
            raise
        finally:
            limit.cancel()

    def close(self) -> None:
        """Close it for good; a query under way raises Unavailable."""
        with self._lock:
            self._closed = True
            if self._connection is not None:
                self._connection.close()

    def _opened(self) -> psycopg.Connection[tuple[Any, ...]]:
        connection = self._connect()
        with self._lock:
            if not self._closed:
                self._connection = connection
                return connection
        connection.close()
        raise Unavailable("the database is closed")


async def open_database(
    url: str,
    *,
    name: str,
    role: str | None = None,
    connections_max: int = _POOL_MAX,
    query_s_max: float = QUERY_S_MAX,
    on_query: OnQuery | None = None,
) -> Database:
    """A pool for the service `name` (as PostgreSQL shows it), as `role` if given. Raises Unavailable, ConfigError.

    `query_s_max`: of one query of a request to read (kit/database/questions.py). `on_query`: called after each query of
    the pool, failed ones among them, but for COPY.
    """
    # Just-in-time compilation takes up to 0.5 s a statement, more than the short ones of a service could save by it.
    settings = {"application_name": name, "timezone": "UTC", "jit": "off"} | ({"role": role} if role else {})
    with _wrong_login(url), outages():
        pool = await asyncpg.create_pool(
            url,
            min_size=0,  # else asyncpg keeps trying in the background and logs a traceback each time
            max_size=connections_max,
            timeout=_CONNECT_S,
            command_timeout=_QUERY_S,
            server_settings=settings,
            connection_class=_Connection,
            connect=connect_async,
            init=None if on_query is None else partial(_call_after_queries, on_query),
        )
        connect = partial(connect_sync, url, name=name, role=role, autocommit=True, query_s=_QUERY_S)
        blocking = _BlockingConnection(connect, _QUERY_S + _CANCEL_S)
        database = Database(pool, blocking, Questions(connections_max, query_s_max))
        try:
            await pool.fetchval("SELECT 1")
        except BaseException:
            await pool.close()
            raise
    return database


def connect_sync(
    url: str, *, name: str, role: str | None = None, autocommit: bool = False, query_s: float | None = None
) -> psycopg.Connection[tuple[Any, ...]]:
    """A psycopg connection for the stream workers and tools. Raises Unavailable, ConfigError.

    Use it within `outages()`. `query_s`: the server cancels a query that takes longer, and a server that is cut off is
    noticed within 25 s; None: neither has a limit.
    """
    settings = {"timezone": "UTC"} | ({"role": role} if role else {})
    network: dict[str, Any] = {}
    if query_s is not None:
        settings["statement_timeout"] = str(round(query_s * 1_000))
        network = _CUT_OFF
    options = " ".join(f"-c {key}={value}" for key, value in settings.items())
    with _wrong_login(url), outages():
        try:
            return psycopg.connect(
                connection_url(url),
                application_name=name,
                options=options,
                connect_timeout=_CONNECT_S,
                autocommit=autocommit,
                **network,
            )
        except psycopg.Error as error:
            said = without_secrets(error, url)
            if isinstance(error, psycopg.ProgrammingError) or any(word in str(error) for word in _REFUSALS):
                raise LoginRefused(f"PostgreSQL refuses the login: {said}") from None
            raise Unavailable(f"PostgreSQL does not answer: {refusal_in(said) or said}") from None


@contextlib.contextmanager
def _wrong_login(url: str) -> Iterator[None]:
    """Within the block, a login, database or URL that is refused, which no retry would mend, becomes ConfigError, but
    of a URL from a file, which may be about to change."""
    try:
        yield
    except LoginRefused as error:
        if is_from_file(url):
            raise
        raise wrong_url(url, error, SETTING) from None
