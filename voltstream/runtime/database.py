"""Where the database is (by URL, or embedded in the data folder), and bringing it up to date."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Final

from psycopg import sql

import kit
from kit.audit.entry import AUDIT, COUNT_TELEMETRY, RECORD, RECORD_BATCH
from kit.clock import format_rfc3339
from kit.database.embedded import EmbeddedPostgres, running_url
from kit.database.migrations import Migrations, MigrationStatus, migrate, standard_tables, status
from kit.database.postgres import connect_sync, outages
from kit.database.roles import Grant, ensure_roles
from kit.database.supervision import supervise
from kit.errors import ConfigError
from kit.service import Service
from kit.settings import Settings
from streams.storage.schema import stored_partitions
from voltstream.runtime.config_updates import CONTRACT, ROLE
from voltstream.runtime.process import Lifespan
from voltstream.services import all_services

ACCESS: Final = Migrations("access", Path(kit.__file__).parent / "auth" / "migrations")
ACCESS_ROLE: Final = "access_service"
AUDIT_ROLE: Final = "audit_writer"  # of every process that serves routes; it adds entries and sees none
# What the authenticator asks of the registry: whose a station is, and which one a certificate is of.
ACCESS_READS: Final = ("stations.station_overview", "stations.certificate_stations(text[])")
OWN_GRANTS: Final = (
    Grant(ACCESS_ROLE, "access", contracts=(RECORD, *ACCESS_READS)),
    Grant(AUDIT_ROLE, contracts=(RECORD_BATCH, COUNT_TELEMETRY)),
)
# Of the embedded database's platform. They share one interpreter: while one commits, the other computes. More of them
# make smaller flushes, of which each costs ~10 ms, and wait for each other.
EMBEDDED_PARTITIONS: Final = 2
# Names of before: schemas, and their records of migrations.
_RENAMED: Final = {"charging": "sessions"}


def bring_up_to_date(url: str, partitions: int, services: Sequence[Service[Any]] | None = None) -> list[str]:
    """Migrate the schemas of all services, make their roles and give them their rights; the migrations applied.

    Idempotent, safe to run at once. Blocks. Raises ConfigError, MigrationError, Unavailable.
    """
    services = all_services() if services is None else services
    _rename(url)
    applied = migrate(url, sources_of(services))
    for service in services:
        if service.prepare is not None:
            service.prepare(url, partitions)
    ensure_roles(url, _all_grants(services))
    return applied


def roles_of_platform() -> set[str]:
    """Every role that `bring_up_to_date` makes."""
    return {grant.role for grant in _all_grants(all_services())}


def _all_grants(services: Sequence[Service[Any]]) -> list[Grant]:
    return [*OWN_GRANTS, Grant(ROLE, contracts=(CONTRACT,)), *grants_of(services)]


def sources_of(services: Sequence[Service[Any]]) -> list[Migrations]:
    """The migrations of these services, each schema's standard tables first, and those of access tokens and
    the audit."""
    sources = [AUDIT, ACCESS]
    for service in services:
        if service.migrations is not None:
            schema = service.owned_schema
            sources += [standard_tables(schema), Migrations(schema, service.migrations)]
    return sources


def grants_of(services: Sequence[Service[Any]]) -> list[Grant]:
    """What each service's role may do: its schema, its own contracts, those of others that it declares to read, and
    to add entries to the audit."""
    return [
        Grant(service.role, service.owned_schema, service.writes, (*service.reads, RECORD), service.by_functions)
        for service in services
        if service.has_database
    ]


def _rename(url: str) -> None:
    """Schemas that an older voltstream made under another name."""
    with connect_sync(url, name="voltstream migrate") as connection, outages():
        for old, new in _RENAMED.items():
            for schema, what in (("", f"SCHEMA {old}"), ("migrations", f"TABLE migrations.{old}")):
                found = "SELECT to_regnamespace(%s)" if not schema else "SELECT to_regclass('migrations.' || %s)"
                if connection.execute(found, (old,)).fetchone() != (None,):
                    connection.execute(sql.SQL(f"ALTER {what} RENAME TO {new}"))


def with_partitions(settings: Settings, url: str) -> Settings:
    """With the number of partitions that the database was prepared for, where another one is not set.

    Blocks. Raises Unavailable.
    """
    if "partitions" in settings.model_fields_set:
        return settings
    with connect_sync(url, name="voltstream partitions", autocommit=True) as connection, outages():
        try:
            partitions = stored_partitions(connection)
        except ConfigError:  # it is new
            alone = not (settings.database_url or settings.distributed_log)
            partitions = EMBEDDED_PARTITIONS if alone else settings.partitions
    return settings.model_copy(update={"partitions": partitions})


def database_id_of(url: str) -> str:
    """What tells this database from every other, also from one of the same name that was dropped. Blocks.

    Raises ConfigError where it was not prepared.
    """
    with connect_sync(url, name="voltstream", autocommit=True) as connection, outages():
        stored_partitions(connection)
        row = connection.execute("SELECT prepared_at FROM telemetry.storage").fetchone()
    if row is None:
        raise AssertionError("stored_partitions found a row here")
    return format_rfc3339(row[0])


def statuses(url: str) -> list[MigrationStatus]:
    """Every migration, applied or not. Blocks. Raises as `bring_up_to_date` does."""
    return status(url, sources_of(all_services()))


@asynccontextmanager
async def owned_database(settings: Settings, lifespan: Lifespan) -> AsyncIterator[str]:
    """The URL for `up`: as set, or of the embedded server, which runs within the block and belongs to this process.

    The embedded server is started again where it dies; where that fails, DatabaseLost ends the process.
    """
    if settings.database_url:
        yield settings.database_url
        return
    starting = asyncio.ensure_future(asyncio.to_thread(EmbeddedPostgres.start, settings.data_dir))
    try:
        server = await asyncio.shield(starting)
    except asyncio.CancelledError:
        # The thread goes on, and nothing else would stop the server that it starts.
        server = await starting
        await asyncio.to_thread(server.stop)
        raise
    supervision = lifespan.spawn(supervise(server), "database")
    try:
        yield server.url
    finally:
        supervision.cancel()
        stopping = asyncio.ensure_future(asyncio.to_thread(server.stop))
        await asyncio.wait((supervision, stopping))
        stopping.result()
        if not supervision.cancelled():
            supervision.result()  # the database was lost while everything else was being stopped


@contextmanager
def any_database(settings: Settings) -> Iterator[str]:
    """The URL for tools: as set, of the embedded server that runs, or of one that runs within the block."""
    url = settings.database_url or running_url(settings.data_dir)
    if url:
        yield url
    else:
        with EmbeddedPostgres.start(settings.data_dir) as server:
            yield server.url
