"""PostgreSQL for services (asyncpg) and for the sink (psycopg), outages told as Unavailable.

URLs are `postgresql://user:password@host:port/database` or, for a socket, `postgresql://user@/database?host=/folder`.
Roles: every service works as a role of its own that has no login and sees only its schema. A process logs in by the
one URL and takes the role at connect; who wants a login of its own for a service makes one and grants it the role.
"""

import contextlib
from collections.abc import AsyncIterator, Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import asyncpg
import psycopg
from psycopg import sql

from kit.errors import ConfigError, Unavailable
from kit.masking import mask_secrets

_CONNECT_S: Final = 5  # a server that does not take a connection within this does not answer
_QUERY_S: Final = 30.0  # a service's query that runs longer would only keep its connection from others
_POOL_MAX: Final = 8  # connections of one service: 8 services stay within PostgreSQL's default of 100

# Between two pieces of a COPY that is read: PostgreSQL sends 8 kB at a time, and taking them costs ~50 us, as does
# taking the ~60 kB that it sends within this.
COPY_GATHER_S: Final = 0.001

# What both drivers raise when the server went away, is starting, stopping or full. Class 08: connection; 53: resources;
# 57: operator intervention. A query cancelled by its own time-out (57014) is no outage.
_OUTAGE_CLASSES: Final = ("08", "53", "57")
_NO_OUTAGE: Final = frozenset({"57014"})


@contextlib.contextmanager
def outages(what: str = "PostgreSQL") -> Generator[None, None, None]:
    """Within the block, a driver's error that means "the server does not answer" becomes Unavailable."""
    try:
        yield
    except (asyncpg.PostgresError, psycopg.Error) as error:
        state = getattr(error, "sqlstate", None) or ""
        lost = isinstance(error, psycopg.OperationalError) and not state
        if (lost or state[:2] in _OUTAGE_CLASSES) and state not in _NO_OUTAGE:
            raise Unavailable(f"{what} does not answer: {mask_secrets(str(error).strip())}") from error
        raise
    except (OSError, TimeoutError) as error:
        raise Unavailable(f"{what} does not answer: {str(error) or type(error).__name__}") from error
    except asyncpg.InternalClientError as error:
        # What a connection raises that the server is just ending, between its last words and the end of the socket:
        # "cannot switch to state 11; another operation (2) is in progress" (asyncpg #1069).
        raise Unavailable(f"{what} does not answer: {error}") from error
    except asyncpg.InterfaceError as error:
        if "clos" in str(error):  # asyncpg has one class for misuse and for a connection or pool that is gone
            raise Unavailable(f"{what} does not answer: {error}") from error
        raise


class Database:
    """A pool of asyncpg connections. Every method raises Unavailable when the server does not answer."""

    def __init__(self, pool: "asyncpg.Pool[asyncpg.Record]") -> None:
        self._pool = pool

    async def fetch(self, query: str, *args: object) -> list[asyncpg.Record]:
        """All rows."""
        with outages():
            rows: list[asyncpg.Record] = await self._pool.fetch(query, *args)
            return rows

    async def fetchrow(self, query: str, *args: object) -> asyncpg.Record | None:
        """The first row, if any."""
        with outages():
            return await self._pool.fetchrow(query, *args)

    async def fetchval(self, query: str, *args: object) -> Any:
        """The first column of the first row, or None."""
        with outages():
            return await self._pool.fetchval(query, *args)

    async def execute(self, query: str, *args: object) -> str:
        """Run a statement; its command tag."""
        with outages():
            tag: str = await self._pool.execute(query, *args)
            return tag

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator["asyncpg.pool.PoolConnectionProxy[asyncpg.Record]"]:
        """A connection within a transaction: committed at the end of the block, rolled back on any error."""
        with outages():
            async with self._pool.acquire(timeout=_CONNECT_S) as connection, connection.transaction():
                yield connection

    @contextlib.asynccontextmanager
    async def snapshot(self) -> AsyncIterator["asyncpg.pool.PoolConnectionProxy[asyncpg.Record]"]:
        """A connection that reads the database as it is now, and nothing of what comes, for as long as the block.

        Who abandons a statement half-way (a COPY that nobody reads any more) calls its `terminate`.
        """
        with outages():
            async with self._pool.acquire(timeout=_CONNECT_S) as connection:
                transaction = connection.transaction(isolation="repeatable_read", readonly=True)
                await transaction.start()
                try:
                    yield connection
                finally:
                    with contextlib.suppress(asyncpg.InterfaceError, asyncpg.PostgresConnectionError):  # terminated
                        await transaction.rollback()

    async def ping(self) -> None:
        """Raises Unavailable unless the server answers. A readiness check."""
        await self.fetchval("SELECT 1")

    async def close(self) -> None:
        """Close every connection, waiting for what runs on them."""
        await self._pool.close()


async def open_database(url: str, *, name: str, role: str | None = None, connections_max: int = _POOL_MAX) -> Database:
    """A pool for the service `name` (as PostgreSQL shows it), as `role` if given. Raises Unavailable, ConfigError."""
    settings = {"application_name": name, "timezone": "UTC"} | ({"role": role} if role else {})
    with _wrong_login(url), outages():
        pool = await asyncpg.create_pool(
            url,
            min_size=0,  # else asyncpg keeps trying in the background and logs a traceback each time
            max_size=connections_max,
            timeout=_CONNECT_S,
            command_timeout=_QUERY_S,
            server_settings=settings,
        )
        database = Database(pool)
        try:
            await pool.fetchval("SELECT 1")
        except BaseException:
            await pool.close()
            raise
    return database


def connect_sync(
    url: str, *, name: str, role: str | None = None, autocommit: bool = False
) -> psycopg.Connection[tuple[Any, ...]]:
    """A psycopg connection for the sink and for tools. Raises Unavailable, ConfigError.

    What is then done with it is to stand within `outages()`.
    """
    options = f"-c timezone=UTC -c role={role}" if role else "-c timezone=UTC"
    with _wrong_login(url), outages():
        return psycopg.connect(
            url, application_name=name, options=options, connect_timeout=_CONNECT_S, autocommit=autocommit
        )


@contextlib.contextmanager
def _wrong_login(url: str) -> Iterator[None]:
    """What trying again will not mend: the login, the database's name, the URL itself."""
    try:
        yield
    except (asyncpg.InvalidAuthorizationSpecificationError, asyncpg.InvalidCatalogNameError) as error:
        raise _refused(url, error) from None
    except (psycopg.ProgrammingError, ValueError) as error:
        raise _refused(url, error) from None
    except Unavailable as error:
        # libpq gives no SQLSTATE for a refused login, only its words.
        if any(words in str(error) for words in ("authentication failed", "does not exist")):
            raise _refused(url, error) from None
        raise


def _refused(url: str, error: Exception) -> ConfigError:
    return ConfigError(f"VOLTSTREAM_DATABASE_URL={mask_secrets(url)}: {mask_secrets(str(error).strip())}")


@dataclass(frozen=True, slots=True)
class Grant:
    """What a role may do in a schema: read, and write if `write`. It never may change the schema's tables."""

    role: str
    schema: str
    write: bool = True


def ensure_roles(url: str, grants: Sequence[Grant]) -> None:
    """Make the roles and give them exactly these rights, on tables to come too. Idempotent.

    To be called after migrating, with the URL that migrated. Raises ConfigError where that login may not make roles.
    """
    with connect_sync(url, name="voltstream roles") as connection, outages():
        try:
            for grant in grants:
                _make_role(connection, grant.role)
                _grant(connection, grant)
        except psycopg.errors.InsufficientPrivilege as error:
            wanted = ", ".join(sorted({grant.role for grant in grants}))
            raise ConfigError(
                f"VOLTSTREAM_DATABASE_URL: its login may not make roles ({error.diag.message_primary}). "
                f"Give it CREATEROLE, or have an administrator make these, granted to it: {wanted}"
            ) from None


def _make_role(connection: psycopg.Connection[tuple[Any, ...]], role: str) -> None:
    if connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (role,)).fetchone() is None:
        # Roles are the whole server's: another database's migration may make it at this moment.
        made_meanwhile = contextlib.suppress(psycopg.errors.DuplicateObject, psycopg.errors.UniqueViolation)
        with made_meanwhile, connection.transaction():
            connection.execute(sql.SQL("CREATE ROLE {} NOLOGIN").format(sql.Identifier(role)))
    member = "SELECT pg_has_role(current_user, %s, 'MEMBER')"
    if connection.execute(member, (role,)).fetchone() != (True,):
        connection.execute(sql.SQL("GRANT {} TO CURRENT_USER").format(sql.Identifier(role)))


def _grant(connection: psycopg.Connection[tuple[Any, ...]], grant: Grant) -> None:
    names = {"schema": sql.Identifier(grant.schema), "role": sql.Identifier(grant.role)}
    tables = sql.SQL("SELECT, INSERT, UPDATE, DELETE" if grant.write else "SELECT")
    sequences = sql.SQL("USAGE, SELECT" if grant.write else "SELECT")
    for statement in (
        "GRANT USAGE ON SCHEMA {schema} TO {role}",
        "GRANT {tables} ON ALL TABLES IN SCHEMA {schema} TO {role}",
        "GRANT {sequences} ON ALL SEQUENCES IN SCHEMA {schema} TO {role}",
        "ALTER DEFAULT PRIVILEGES IN SCHEMA {schema} GRANT {tables} ON TABLES TO {role}",
        "ALTER DEFAULT PRIVILEGES IN SCHEMA {schema} GRANT {sequences} ON SEQUENCES TO {role}",
    ):
        connection.execute(sql.SQL(statement).format(**names, tables=tables, sequences=sequences))
