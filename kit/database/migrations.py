"""Migrations: plain SQL files, applied in order, each committed together with the record of it.

A source is a folder of files `NNNN.name.sql`, forward only; `migrations.<source>` records those applied. A run that
is killed at any time is continued by the next. This is less code than calling dbmate took (staged copies of the files,
a subprocess, its own parsing of URLs), and it can apply one folder to several schemas.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psycopg
from psycopg import sql

from kit.database.names import checked_name
from kit.database.postgres import connect_sync, outages
from kit.errors import ConfigError, MigrationError

_SCHEMA: Final = "migrations"
_SOURCE_NAME: Final = re.compile(r"[a-z][a-z0-9_]*")
_FILE_NAME: Final = re.compile(r"(\d{4})\.[a-z0-9_]+\.sql")

_LOCK_KEY: Final = 0x766F6C74  # "volt": any number that is unused in this database
# Longest wait for another process's run, which may rewrite a large table.
_RUN_S_MAX: Final = 600


@dataclass(frozen=True, slots=True)
class Migrations:
    """A source. `name`: a lower-case identifier; `folder`: its files, in which `{schema}` is replaced by `schema`."""

    name: str
    folder: Path
    schema: str = ""

    def text_of(self, id_: str) -> str:
        """The SQL of a migration."""
        text = (self.folder / f"{id_.partition('/')[2]}.sql").read_text(encoding="utf-8")
        return text.replace("{schema}", checked_name(self.schema)) if self.schema else text


def standard_tables(schema: str) -> Migrations:
    """The outbox, the inbox and the idempotency table of a service's schema; applied before its own migrations."""
    return Migrations(f"{schema}_standard", Path(__file__).parent / "standard_tables", schema)


@dataclass(frozen=True, slots=True)
class MigrationStatus:
    """One migration file and whether the database has it."""

    id: str  # "access/0001.access"
    applied: bool


def migrate(url: str, sources: Sequence[Migrations]) -> list[str]:
    """Apply pending migrations, source by source in the order given, and return their ids. Idempotent; concurrent runs
    are safe.

    Raises MigrationError if one fails or the database is ahead, ConfigError if a folder or file is malformed,
    Unavailable.
    """
    files = [_files(source) for source in sources]
    applied: list[str] = []
    with connect_sync(url, name="voltstream migrate", autocommit=True) as connection, _locked(connection):
        pending = [
            _pending(source, known, _versions(connection, source)) for source, known in zip(sources, files, strict=True)
        ]
        for source, missing in zip(sources, pending, strict=True):
            for id_ in missing:
                _apply(connection, source, id_)
                applied.append(id_)
    return applied


def status(url: str, sources: Sequence[Migrations]) -> list[MigrationStatus]:
    """Every migration in order, applied or not. Raises as `migrate` does."""
    found: list[MigrationStatus] = []
    with connect_sync(url, name="voltstream migrate", autocommit=True) as connection, outages():
        for source in sources:
            files = _files(source)
            pending = set(_pending(source, files, _versions(connection, source)))
            found += [MigrationStatus(id_, id_ not in pending) for id_ in files.values()]
    return found


def known_versions(source: Migrations) -> set[str]:
    """The versions that this code has. Raises ConfigError."""
    return set(_files(source))


def keep_schema(connection: psycopg.Connection[tuple[Any, ...]]) -> None:
    """Let nobody migrate until this connection ends; wait for a run under way. A migration would wait for a dump that
    reads the table, and everybody who uses the table behind it."""
    connection.execute("SELECT pg_advisory_lock_shared(%s)", (_LOCK_KEY,))


def _files(source: Migrations) -> dict[str, str]:
    """version -> id of the source's files, in order."""
    if not _SOURCE_NAME.fullmatch(source.name):
        raise ConfigError(f"migrations {source.name!r}: name it with lower-case letters, digits and _")
    files: dict[str, str] = {}
    for path in sorted(source.folder.glob("*.sql")):
        match = _FILE_NAME.fullmatch(path.name)
        if match is None:
            raise ConfigError(f"migration {path.name} of {source.name}: name it NNNN.what.sql")
        if match[1] in files:
            raise ConfigError(f"migration {path.name} of {source.name}: there are two of number {match[1]}")
        files[match[1]] = f"{source.name}/{path.stem}"
    if not files:
        raise ConfigError(f"migrations {source.name}: there are none in {source.folder}")
    return files


def _pending(source: Migrations, files: dict[str, str], applied: set[str]) -> list[str]:
    """The ids still to be applied. Raises MigrationError if the database has migrations that the code does not know."""
    unknown = sorted(applied - files.keys())
    if unknown:
        raise MigrationError(
            f"the database is ahead of this voltstream: it has migration {', '.join(unknown)} of {source.name}, "
            f"this code ends at {max(files)}. Run the version that migrated it, or a newer one"
        )
    missing = [version for version in files if version not in applied]
    if missing and applied and missing[0] < max(applied):
        raise MigrationError(
            f"migration {files[missing[0]]} was never applied, and later ones of {source.name} were. "
            "Give it a number after theirs"
        )
    return [files[version] for version in missing]


def _versions(connection: psycopg.Connection[tuple[Any, ...]], source: Migrations) -> set[str]:
    table = sql.Identifier(_SCHEMA, source.name)
    found = connection.execute("SELECT to_regclass(%s)", (table.as_string(connection),)).fetchone()
    if found is None or found[0] is None:
        return set()
    rows = connection.execute(sql.SQL("SELECT version FROM {}").format(table)).fetchall()
    return {str(row[0]) for row in rows}


@contextmanager
def _locked(connection: psycopg.Connection[tuple[Any, ...]]) -> Iterator[None]:
    """Let one run at a time use this database. The lock ends with the connection, so a killed run leaves none."""
    with outages():
        connection.execute(f"SET lock_timeout = '{_RUN_S_MAX}s'")
        try:
            connection.execute("SELECT pg_advisory_lock(%s)", (_LOCK_KEY,))
        except psycopg.errors.LockNotAvailable:
            raise MigrationError(
                f"another process has been migrating this database for {_RUN_S_MAX} s; see pg_stat_activity"
            ) from None
        yield
        connection.execute("SELECT pg_advisory_unlock(%s)", (_LOCK_KEY,))


def _apply(connection: psycopg.Connection[tuple[Any, ...]], source: Migrations, id_: str) -> None:
    """Apply one migration. If it fails, it is rolled back as a whole: MigrationError."""
    schema, table = sql.Identifier(_SCHEMA), sql.Identifier(_SCHEMA, source.name)
    version = id_.partition("/")[2].partition(".")[0]
    try:
        with connection.transaction():
            connection.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(schema))
            connection.execute(sql.SQL("CREATE TABLE IF NOT EXISTS {} (version text PRIMARY KEY)").format(table))
            connection.execute(source.text_of(id_).encode())
            connection.execute(sql.SQL("INSERT INTO {} VALUES (%s)").format(table), (version,))
    except (psycopg.errors.ProgrammingError, psycopg.errors.DataError, psycopg.errors.IntegrityError) as error:
        raise MigrationError(f"migration {id_} failed: {error.diag.message_primary or error}") from error
