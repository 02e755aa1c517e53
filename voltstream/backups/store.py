"""The SQL of backups: what a server and a database are, and databases made, renamed and dropped."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from urllib.parse import quote, unquote

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from kit.audit.entry import encoded as encoded_entries
from kit.audit.entry import entry_of, side
from kit.audit.recording import local_account
from kit.database.login import SETTING
from kit.database.postgres import connect_sync, outages
from kit.errors import Unavailable
from kit.secrets.text import SecretText, ca_file_of
from kit.secrets.urls import current_url, wrong_url
from schemas.topics import SESSION_COMPLETED, routing_key
from voltstream.backups.ending import check_sessions, end_sessions, ending_sessions
from voltstream.errors import BackupFailed

Connection = psycopg.Connection[tuple[Any, ...]]

_MAINTENANCE: Final = "postgres"  # the database that every server has, to be connected to while ours is renamed
_LOCK_KEY: Final = 0x766F6C72657374  # advisory, in that database: of the one process that restores
_NAME_BYTES_MAX: Final = 40  # of a database's name, of 63, so that a suffix fits
# As libpq reads it, which knows no fragment; what it has for a login, `check_url` has looked at.
_URL: Final = re.compile(r"(?P<server>[a-z]+://[^/?]*)(?:/[^?]*)?(?:\?(?P<options>.*))?", re.DOTALL)
# PostgreSQL waits 5 s for the sessions of a database that it renames or drops, during which nobody gets in.
_ATTEMPTS_MAX: Final = 3
_SERVER: Final = "SELECT current_setting('server_version_num')::int / 10000"
_DATABASE: Final = """
SELECT current_database(), pg_encoding_to_char(encoding), datcollate, datctype,
    (SELECT extversion FROM pg_extension WHERE extname = 'timescaledb')
FROM pg_database WHERE datname = current_database()
"""
# By name and with rows of their own: partitions count in their parents.
_TABLES: Final = """
SELECT format('%I.%I', n.nspname, c.relname) FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relpersistence = 'p'
  AND n.nspname !~ '^(pg_|_?timescaledb_)' AND n.nspname <> 'information_schema'
ORDER BY 1
"""
# What a dump copies, for the progress of it.
_SIZES: Final = """
SELECT c.relname, sum(pg_table_size(c.oid))::bigint FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' GROUP BY 1
"""
_ROLES: Final = """
SELECT DISTINCT r.rolname FROM pg_shdepend AS d JOIN pg_roles AS r ON r.oid = d.refobjid
WHERE d.dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND d.refclassid = 'pg_authid'::regclass AND d.deptype = 'a' AND r.rolname !~ '^pg_' ORDER BY 1
"""
_MIGRATIONS: Final = "SELECT tablename FROM pg_tables WHERE schemaname = 'migrations' ORDER BY 1"
# Sessions of late of which billing does not know the last event.
_WITHOUT_CHARGE: Final = """
SELECT s.session_key FROM telemetry.session AS s LEFT JOIN billing.cdr AS c ON c.subject_id = s.id AND c.current
WHERE s.ended_at IS NOT NULL AND s.last_at >= %s AND (c.id IS NULL OR c.revision < s.revision) ORDER BY 1
"""
_WAITING: Final = """
SELECT telemetry.json_of(body) #>> '{payload,id}' FROM telemetry.outbox WHERE routing_key = %s
"""
# Processes of the server have no login. The kind of a session is hidden from who lacks the privileges of its login.
_OTHERS: Final = """
SELECT coalesce(nullif(application_name, ''), 'unnamed'), count(*) FROM pg_stat_activity
WHERE datname = %s AND pid <> pg_backend_pid() AND usesysid IS NOT NULL
  AND coalesce(backend_type, 'client backend') = 'client backend' GROUP BY 1 ORDER BY 1
"""
_RIGHTS: Final = "SELECT rolname, rolsuper OR rolcreatedb FROM pg_roles WHERE rolname = current_user"
_OWNER: Final = """
SELECT datdba::regrole::text, pg_has_role(datdba, 'USAGE'), datallowconn FROM pg_database WHERE datname = %s
"""
_PREPARED_AT: Final = "SELECT prepared_at FROM telemetry.storage"


@dataclass(frozen=True, slots=True)
class DatabaseFacts:
    """A database and its server."""

    name: str
    server_major: int
    encoding: str
    collate: str
    ctype: str
    timescaledb: str | None


def facts_of(connection: Connection) -> DatabaseFacts:
    """Of the database that is connected to."""
    (major,) = _one(connection.execute(_SERVER))
    name, encoding, collate, ctype, timescaledb = _one(connection.execute(_DATABASE))
    return DatabaseFacts(name, major, encoding, collate, ctype, timescaledb)


def count_rows(connection: Connection) -> dict[str, int]:
    """Rows of every table of ours, by name. Reads everything."""
    names = [name for (name,) in connection.execute(_TABLES)]
    return {name: _one(connection.execute(f"SELECT count(*) FROM {name}".encode()))[0] for name in names}  # noqa: S608  # as the server quoted it


def table_sizes(connection: Connection) -> dict[str, int]:
    """Bytes of every table by its name without schema."""
    return dict(connection.execute(_SIZES).fetchall())


def roles_with_rights(connection: Connection) -> tuple[str, ...]:
    """Roles that something in the database is granted to."""
    return tuple(name for (name,) in connection.execute(_ROLES))


def last_migrations(connection: Connection) -> dict[str, str]:
    """The last migration applied, by source."""
    sources = [name for (name,) in connection.execute(_MIGRATIONS)]
    last = {}
    for source in sources:
        table = sql.Identifier("migrations", source)
        (version,) = _one(connection.execute(sql.SQL("SELECT max(version) FROM {}").format(table)))
        if version is not None:
            last[source] = version
    return last


def export_snapshot(connection: Connection) -> tuple[str, datetime]:
    """Begin a transaction of one snapshot, which other connections may take by this name; and its moment."""
    for setting in ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"):
        connection.execute(f"SET {setting} = 0".encode())  # of this server or role; a dump takes hours
    connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY")
    name, moment = _one(connection.execute("SELECT pg_export_snapshot(), clock_timestamp()"))
    return name, moment


def sessions_without_charge(connection: Connection, since: datetime) -> list[int]:
    """Keys of completed sessions, with a reading since then, whose last event billing has not handled."""
    return [key for (key,) in connection.execute(_WITHOUT_CHARGE, (since,))]


def sessions_to_be_published(connection: Connection) -> set[str]:
    """Ids of completed sessions whose event is in the outbox."""
    return {id_ for (id_,) in connection.execute(_WAITING, (routing_key(SESSION_COMPLETED),))}


def missing_roles(connection: Connection, roles: Sequence[str]) -> list[str]:
    """Those that the server does not have."""
    rows = connection.execute("SELECT rolname FROM pg_roles WHERE rolname = ANY(%s)", (list(roles),)).fetchall()
    return sorted({*roles} - {name for (name,) in rows})


# -- databases of a server --------------------------------------------------------------------------------------------


def named_url(url: str, name: str) -> SecretText:
    """The URL of another database of the server, as its file has it now. Raises Unavailable, ConfigError."""
    found = _URL.fullmatch(current_url(url, SETTING))
    if found is None:
        raise wrong_url(url, "write it as postgresql://host/DATABASE", SETTING)
    options = (found["options"] or "").split("&")
    kept = "&".join(option for option in options if unquote(option.partition("=")[0]) != "dbname")
    text = f"{found['server']}/{quote(name, safe='')}{'?' if kept else ''}{kept}"
    return SecretText(text, ca_file=ca_file_of(url))


def database_name(url: str) -> str:
    """The database that the URL names. Raises BackupFailed where it names none, Unavailable, ConfigError."""
    try:
        name = conninfo_to_dict(current_url(url, SETTING)).get("dbname")
    except psycopg.ProgrammingError as error:
        raise wrong_url(url, error, SETTING) from None
    if not name:
        raise BackupFailed(f"{SETTING}: names no database: write it as postgresql://host/DATABASE")
    return str(name)


@contextmanager
def restoring_alone(url: str) -> Iterator[Connection]:
    """A connection to the server's maintenance database, for the one process that restores on it.

    Raises BackupFailed where another does, and where the login lacks what a restore needs in the end.
    """
    name = database_name(url)
    if name == _MAINTENANCE:
        raise BackupFailed(f"{name} is the database from which others are renamed: restore to one of another name")
    with _maintaining(url) as connection:
        with outages():
            (alone,) = _one(connection.execute("SELECT pg_try_advisory_lock(%s)", (_LOCK_KEY,)))
            if not alone:
                raise BackupFailed("another `voltstream restore` is under way on this server; wait for it, or end it")
            _check_rights(connection, name)
        yield connection


def _maintaining(url: str) -> Connection:
    return connect_sync(named_url(url, _MAINTENANCE), name="voltstream restore", autocommit=True)


def _check_rights(connection: Connection, name: str) -> None:
    """Raises BackupFailed where the login may not make a database, or rename this one. One that is closed, as restores
    of before left it when they were killed, is opened."""
    login, makes = _one(connection.execute(_RIGHTS))
    if not makes:
        raise BackupFailed(f"a restore makes a new database, and the login {login} may not: give it CREATEDB")
    there = connection.execute(_OWNER, (name,)).fetchone()
    if there is None:
        return
    owner, owns, is_open = there
    if not owns:
        raise BackupFailed(
            f"{name} is {owner}'s, so that the login {login} may not rename it: GRANT {owner} TO {login}"
        )
    if not is_open:
        connection.execute(sql.SQL("ALTER DATABASE {} WITH ALLOW_CONNECTIONS true").format(sql.Identifier(name)))
    check_sessions(connection, name)


def exists(connection: Connection, name: str) -> bool:
    """Whether the server has a database of that name."""
    return connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,)).fetchone() is not None


def connected(connection: Connection, name: str) -> list[str]:
    """Who is connected to a database: `voltstream worker (3)`."""
    return [f"{who} ({number})" for who, number in connection.execute(_OTHERS, (name,))]


def prepared_at(url: str) -> datetime | None:
    """When the platform's database at the URL was prepared, by which it is known; None: it is no platform's."""
    try:
        with connect_sync(url, name="voltstream restore", autocommit=True) as connection, outages():
            row = connection.execute(_PREPARED_AT).fetchone()
    except psycopg.errors.UndefinedTable:
        return None
    return None if row is None else row[0]


def is_empty(url: str) -> bool:
    """Whether the database has no table."""
    with connect_sync(url, name="voltstream restore", autocommit=True) as connection, outages():
        return connection.execute(_TABLES).fetchone() is None


def temporary_name(name: str, word: str) -> str:
    """Of a database that may be dropped at any time."""
    return f"{_stem(name)}_restoring_{word}"


def kept_name(name: str, moment: datetime) -> str:
    """Of the database that was replaced at that moment."""
    return f"{_stem(name)}_before_{moment:%Y%m%d_%H%M%S}"


def drop_unfinished(connection: Connection, name: str) -> list[str]:
    """Drop what restores of before left that were killed."""
    like = f"{_stem(name)}_restoring_"
    names = [found for (found,) in connection.execute("SELECT datname FROM pg_database") if found.startswith(like)]
    for found in names:
        drop_database(connection, found)
    return names


def create_database(connection: Connection, name: str, encoding: str, collate: str, ctype: str) -> None:
    """As the one that was backed up; where the server lacks its locale, as the server's own. Raises BackupFailed."""
    made = sql.SQL("CREATE DATABASE {} TEMPLATE template0 ENCODING {}").format(sql.Identifier(name), encoding)
    locale = sql.SQL(" LC_COLLATE {} LC_CTYPE {}").format(collate, ctype)
    try:
        try:
            connection.execute(made + locale)
        except (psycopg.errors.WrongObjectType, psycopg.errors.InvalidParameterValue):
            connection.execute(made)
    except psycopg.errors.InsufficientPrivilege as error:
        raise BackupFailed(
            f"a restore makes a new database, and the login may not ({error.diag.message_primary}): give it CREATEDB"
        ) from None


def drop_database(connection: Connection, name: str) -> None:
    """Whoever is connected to it."""
    # Not WITH (FORCE), which would end autovacuum's processes too and refuses that to whoever is no superuser.
    for left in reversed(range(_ATTEMPTS_MAX)):
        end_sessions(connection, [name])
        try:
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {}").format(sql.Identifier(name)))
            return
        except psycopg.errors.ObjectInUse:
            if not left:
                raise


def take_place(connection: Connection, url: str, new: str, name: str, old: str | None) -> None:
    """Rename `new` to `name`, and what has that name to `old`, both or neither. Whoever is connected to it is cut off.

    A rename locks the database, so that nobody gets in, and waits until nobody is connected. Sessions are ended beside
    it: nothing is changed before, so a restore that is killed at any moment leaves the database as it was.

    `url`: of a database of the server. `old` is None where there is none. Raises BackupFailed, Unavailable.
    """
    try:
        with _maintaining(url) as beside, ending_sessions(beside, [new, name]):
            _rename(connection, [(new, name)] if old is None else [(name, old), (new, name)])
    except psycopg.Error as error:
        check_sessions(connection, name)
        raise BackupFailed(f"{name} cannot be replaced: {error.diag.message_primary or error}") from None


def _rename(connection: Connection, names: Sequence[tuple[str, str]]) -> None:
    for left in reversed(range(_ATTEMPTS_MAX)):
        try:
            with connection.transaction():
                for old, new in names:
                    connection.execute(
                        sql.SQL("ALTER DATABASE {} RENAME TO {}").format(sql.Identifier(old), sql.Identifier(new))
                    )
            return
        except psycopg.errors.ObjectInUse:
            if not left:
                raise


def before_timescale(connection: Connection, version: str) -> None:
    """The extension, ready for a restore. Raises BackupFailed where the server lacks this version of it."""
    try:
        connection.execute(sql.SQL("CREATE EXTENSION timescaledb VERSION {}").format(version))
    except psycopg.Error as error:
        raise BackupFailed(
            f"the backup has TimescaleDB {version}, which this server does not offer "
            f"({error.diag.message_primary}): install that version, and update the extension after the restore"
        ) from None
    connection.execute("SELECT timescaledb_pre_restore()")


def after_timescale(connection: Connection) -> None:
    """The end of a restore."""
    connection.execute("SELECT timescaledb_post_restore()")


def note_restored(connection: Connection, action: str, entity: str, after: dict[str, Any]) -> None:
    """An entry in the audit, within the caller's transaction."""
    entry = entry_of(local_account(), at=None, action=action, correlation_id="", entity=entity, after=side(after))
    connection.execute("SELECT audit.record(%s::jsonb)", (encoded_entries([entry]),))


def _stem(name: str) -> str:
    return name.encode()[:_NAME_BYTES_MAX].decode(errors="ignore")


def _one(cursor: psycopg.Cursor[tuple[Any, ...]]) -> tuple[Any, ...]:
    row = cursor.fetchone()
    if row is None:
        raise Unavailable("PostgreSQL gave no row where there is one")
    return row
