"""Preparing the database: what the server can do decides how the two large tables are stored, once and for all.

TimescaleDB with the community licence: hypertables, continuous aggregates, columnstore. With the Apache licence:
hypertables, ordinary views. Without it: native partitions, ordinary views. Names, columns and answers are the same.
"""

import hashlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from importlib.resources import files
from pathlib import Path
from typing import Final

import psycopg
from psycopg import sql

from kit.database.migrations import Migrations, migrate, standard_tables
from kit.database.postgres import connect_sync, outages
from kit.database.roles import Grant, ensure_roles
from kit.errors import ConfigError
from streams.storage.table_drops import dropping
from streams.storage.tables import WEEK_MS
from streams.storage.windows.relations import Connection, Layout, coarse_relations, interval, renew_coarse

MIGRATIONS: Final = Migrations("telemetry", Path(__file__).parent / "migrations")
WRITER_ROLE: Final = "worker_service"
READER_ROLE: Final = "telemetry_service"  # the operators' queries
GRANTS: Final = (Grant(WRITER_ROLE, "telemetry"), Grant(READER_ROLE, "telemetry", write=False))

_LOCK_KEY: Final = 0x766F6C73  # any number that is locked for nothing else in this database
# A minute's row is rewritten with every merge into it: with room in its page no index needs an update (measured:
# 3.5 us a merged row at 60 %, 7 us at 100 %).
_WINDOW_FILLFACTOR: Final = 60
# Raw rows older than two pieces are no longer written, except by back-fills, which TimescaleDB also accepts.
_COLUMNSTORE_AFTER: Final = timedelta(milliseconds=2 * WEEK_MS)


@dataclass(frozen=True, slots=True)
class Prepared:
    """What `prepare` found or made."""

    applied: list[str]  # migrations
    layout: Layout


def prepare(url: str, partitions: int) -> Prepared:
    """Migrate the telemetry schema, lay out its storage, make the roles. Idempotent, safe to run concurrently.

    `url` is that of an owner. Raises ConfigError where the database was prepared for another number of partitions,
    MigrationError, Unavailable.
    """
    applied = migrate(url, [standard_tables("telemetry"), MIGRATIONS])
    layout = lay_out(url, partitions)
    ensure_roles(url, GRANTS)
    return Prepared(applied, layout)


def lay_out(url: str, partitions: int) -> Layout:
    """Give the migrated tables their storage, as the server can; or find what was laid out before. Idempotent. Blocks.

    Raises ConfigError where the database was prepared for another number of partitions, Unavailable.
    """
    with connect_sync(url, name="voltstream prepare lock", autocommit=True) as lock, outages():
        lock.execute("SELECT pg_advisory_lock(%s)", (_LOCK_KEY,))
        _try_extension(url)
        with connect_sync(url, name="voltstream prepare") as connection:
            layout = _layout_of(connection, partitions)
            if layout is None:
                return _lay_out(connection, partitions)
            _renew_functions(connection, layout)
            renew_coarse(connection, layout)
            return layout


def stored_partitions(connection: Connection) -> int:
    """The number of partitions that the database was prepared for. Raises ConfigError where it was not."""
    try:
        row = connection.execute("SELECT partitions FROM telemetry.storage").fetchone()
    except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName):
        row = None
    if row is None:
        raise ConfigError("the database is not prepared: run voltstream migrate")
    return int(row[0])


def check_partitions(stored: int, partitions: int) -> None:
    """Raises ConfigError where the setting and the database disagree."""
    if stored != partitions:
        raise ConfigError(
            f"VOLTSTREAM_PARTITIONS={partitions}, but this database was prepared for {stored}: the number is fixed "
            f"for ever, set VOLTSTREAM_PARTITIONS={stored}"
        )


def statements(layout: Layout, extension_schema: str = "public") -> list[str]:
    """The DDL that gives a freshly migrated database this layout, one statement or script each."""
    functions = _functions(layout, extension_schema)
    if layout == "plain":
        return [
            functions,
            _noted(functions),
            "SELECT telemetry.partition_by_week('reading', 'ts', '')",
            f"SELECT telemetry.partition_by_week('window_1m', 'bucket', 'WITH (fillfactor = {_WINDOW_FILLFACTOR})')",
            *coarse_relations(layout),
        ]
    week = f"INTERVAL '{WEEK_MS // 86_400_000} days'"
    return [
        f"ALTER TABLE telemetry.window_1m SET (fillfactor = {_WINDOW_FILLFACTOR})",
        *(
            f"SELECT create_hypertable('telemetry.{table}', '{column}', chunk_time_interval => {week}, "
            "create_default_indexes => false)"
            for table, column in (("reading", "ts"), ("window_1m", "bucket"))
        ),
        functions,
        _noted(functions),
        *coarse_relations(layout),
        *(_columnstore() if layout == "community" else ()),
    ]


def _layout_of(connection: Connection, partitions: int) -> Layout | None:
    row = connection.execute("SELECT layout, partitions FROM telemetry.storage").fetchone()
    if row is None:
        return None
    check_partitions(row[1], partitions)
    layout: Layout = row[0]
    return layout


def _lay_out(connection: Connection, partitions: int) -> Layout:
    layout, extension_schema = _probe(connection)
    for statement in statements(layout, extension_schema):
        connection.execute(statement.encode())
    connection.execute("INSERT INTO telemetry.storage (layout, partitions) VALUES (%s, %s)", (layout, partitions))
    for table in ("stream_offset", "ledger"):
        connection.execute(
            sql.SQL("INSERT INTO telemetry.{} (partition) SELECT generate_series(0, %s - 1)").format(
                sql.Identifier(table)
            ),
            (partitions,),
        )
    return layout


def _renew_functions(connection: Connection, layout: Layout) -> None:
    """Make the layout's functions as this version has them, where an older one laid the database out."""
    functions = _functions(layout, _extension(connection)[1])
    found = connection.execute("SELECT obj_description(to_regprocedure('telemetry.ensure_weeks(int[])'))").fetchone()
    if found != (_version_of(functions),):  # else other processes' grants on them would meet ours
        connection.execute(functions.encode())
        connection.execute(_noted(functions).encode())


def _functions(layout: Layout, extension_schema: str) -> str:
    if layout == "plain":
        return _file("plain.sql")
    return _file("timescale.sql").replace("{extension_schema}", extension_schema)


def _noted(functions: str) -> str:
    """SQL: which version of the functions the database has."""
    return f"COMMENT ON FUNCTION telemetry.ensure_weeks(int[]) IS '{_version_of(functions)}'"


def _version_of(functions: str) -> str:
    return hashlib.sha256(functions.encode()).hexdigest()[:16]


def _try_extension(url: str) -> None:
    """Create TimescaleDB's extension where the server offers it; without the library or the right, go on without it."""
    with connect_sync(url, name="voltstream prepare", autocommit=True) as connection, outages():
        offered = connection.execute(
            "SELECT 1 FROM pg_available_extensions WHERE name = 'timescaledb' AND installed_version IS NULL"
        ).fetchone()
        if offered is not None:
            with suppress(psycopg.DatabaseError):
                connection.execute("CREATE EXTENSION IF NOT EXISTS timescaledb")


def _probe(connection: Connection) -> tuple[Layout, str]:
    """What the server can do, and the schema of the extension's functions."""
    installed, extension_schema = _extension(connection)
    if not installed:
        return "plain", extension_schema
    try:
        with connection.transaction(force_rollback=True):
            for statement in statements("community", extension_schema):
                connection.execute(statement.encode())
    except psycopg.errors.FeatureNotSupported:
        return "apache", extension_schema
    return "community", extension_schema


def _extension(connection: Connection) -> tuple[bool, str]:
    """Whether TimescaleDB is there, and the schema of its functions."""
    row = connection.execute(
        "SELECT n.nspname FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace "
        "WHERE e.extname = 'timescaledb'"
    ).fetchone()
    return (False, "public") if row is None else (True, row[0])


def _columnstore() -> list[str]:
    """Of raw readings and windows of a minute. The names from before 2.18 are understood by every version."""
    return [
        statement
        for table, moment in (("reading", "ts"), ("window_1m", "bucket"))
        for statement in (
            f"ALTER TABLE telemetry.{table} SET (timescaledb.compress, "
            f"timescaledb.compress_segmentby = 'connector_key', timescaledb.compress_orderby = '{moment}')",
            f"SELECT add_compression_policy('telemetry.{table}', {interval(_COLUMNSTORE_AFTER)})",
        )
    ]


def _file(name: str) -> str:
    return files("streams.storage").joinpath("sql", name).read_text(encoding="utf-8")


def drop_before(connection: Connection, before: datetime) -> int:
    """Drop the pieces of raw readings that end at or before the moment; how many. As the writer's role."""
    with dropping(connection) as alone:
        row = connection.execute("SELECT telemetry.drop_readings(%s)", (before,)).fetchone() if alone else None
        return int(row[0]) if row else 0


def summarize(connection: Connection, weeks: Sequence[int]) -> None:
    """Bring the readings' index up to date for these weeks. Skipped where autovacuum is doing the same."""
    # Shorter than deadlock_timeout: waiting longer would make PostgreSQL cancel the autovacuum that we wait for.
    with suppress(psycopg.errors.LockNotAvailable), connection.transaction():
        connection.execute("SET LOCAL lock_timeout = '100ms'")
        connection.execute("SELECT telemetry.summarize_weeks(%s)", (list(weeks),))
