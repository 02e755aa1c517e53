"""Where the database is (by URL, or embedded in the data folder), and bringing it up to date."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Final

import kit
from api.pricing.composition import GRANT as PRICING_GRANT
from api.pricing.composition import MIGRATIONS as PRICING
from api.pricing.composition import grant_readers
from api.queries import GRANT as QUERIES_GRANT
from api.sessions.composition import GRANT as CHARGING_GRANT
from api.sessions.composition import MIGRATIONS as CHARGING
from billing.composition import GRANT as BILLING_GRANT
from billing.composition import MIGRATIONS as BILLING
from kit.database.embedded import EmbeddedPostgres, running_url
from kit.database.migrations import Migrations, MigrationStatus, migrate, status
from kit.database.postgres import Grant, connect_sync, ensure_roles, outages
from kit.database.supervision import supervise
from kit.errors import ConfigError
from kit.messaging.dead_letters import GRANT as EVENTS_GRANT
from kit.messaging.dead_letters import MIGRATIONS as EVENTS
from kit.settings import Settings
from streams.storage.schema import MIGRATIONS as TELEMETRY
from streams.storage.schema import WRITER_ROLE, prepare, stored_partitions
from voltstream.runtime.process import Lifespan

ACCESS: Final = Migrations("access", Path(kit.__file__).parent / "auth" / "migrations")
ACCESS_ROLE: Final = "voltstream_access"
# Of the embedded database's platform. They share one interpreter: while one commits, the other computes. More of them
# make smaller flushes, of which each costs ~10 ms, and wait for each other.
EMBEDDED_PARTITIONS: Final = 2
SOURCES: Final = (ACCESS, EVENTS, TELEMETRY, PRICING, CHARGING, BILLING)


def bring_up_to_date(url: str, partitions: int) -> list[str]:
    """Migrate every room's tables and make the roles; the migrations applied. Idempotent. Blocks.

    Raises ConfigError, MigrationError, Unavailable.
    """
    applied = migrate(url, [ACCESS, EVENTS])
    ensure_roles(url, [Grant(ACCESS_ROLE, "access"), EVENTS_GRANT])
    applied += prepare(url, partitions).applied
    applied += migrate(url, [PRICING, CHARGING, BILLING])
    ensure_roles(url, [QUERIES_GRANT, PRICING_GRANT, CHARGING_GRANT, BILLING_GRANT])
    grant_readers(url, [WRITER_ROLE])  # workers ask which tariff is in force as a session opens
    return applied


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


def statuses(url: str) -> list[MigrationStatus]:
    """Every migration, applied or not. Blocks. Raises as `bring_up_to_date` does."""
    return status(url, SOURCES)


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
        # The thread goes on: what it starts, nobody else would stop.
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
