"""Keeps the configuration of a process up to date: from the config service's contract, and from a folder of files.

The process reads the contract when it starts, when `config.updated.v1` arrives by its own queue, and now and then in
case an event was lost. What it read last stays while the database is away.
"""

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final

import asyncpg
import msgspec
from prometheus_client import CollectorRegistry, Gauge

from kit.config.folder import LOOK_EVERY_S, ConfigFolder
from kit.config.runtime import RuntimeConfig
from kit.config.values import EMPTY, ConfigSnapshot
from kit.database.postgres import Database, open_database
from kit.errors import Unavailable
from kit.messaging.bus import Bus, Message
from kit.observability.logs import get_logger
from kit.retry import reconnect_pauses_s
from kit.settings import Settings
from schemas.topics import CONFIG_UPDATED, exchange_of, process_queue, routing_key
from voltstream.runtime.process import Lifespan
from voltstream.services import setting_owners

CONTRACT: Final = "config.snapshot"
ROLE: Final = "config_reader"  # of every process that follows the configuration; it sees the contract alone
READ_EVERY_S: Final = 30.0  # one row of one table

_log = get_logger(__name__)


class ConfigUpdates:
    """Reads the config service's contract into `config`."""

    def __init__(self, config: RuntimeConfig, database: Database, registry: CollectorRegistry) -> None:
        self._config = config
        self._database = database
        self._failed = asyncio.Event()  # the last read did: try again soon
        self._reading = asyncio.Lock()  # one after the other, so that what is read last is what the database has now
        revision = Gauge("config_revision", "Revision of the configuration in force here", registry=registry)
        revision.set_function(lambda: config.snapshot.revision)
        stale = Gauge("config_stale", "1 while the configuration cannot be read: the last one stays", registry=registry)
        stale.set_function(self._failed.is_set)

    async def read(self) -> None:
        """Take over what operators have set. Where the database does not answer, what was read last stays."""
        async with self._reading:
            try:
                snapshot = await read_snapshot(self._database)
            except (Unavailable, asyncpg.PostgresError) as error:
                if not self._failed.is_set():
                    _log.warning("config_unreachable", error=str(error), revision=self._config.snapshot.revision)
                self._failed.set()
                self._config.stale(str(error))
                return
            self._failed.clear()
            self._config.stale("")
            self._config.apply_snapshot(snapshot)

    async def receive(self, _message: Message) -> None:
        """config.updated.v1: whatever it says, read all of it, so that order and repetition do not matter."""
        await self.read()

    async def run(self) -> None:
        """Read now and then, and often while the database is away. Without an end."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(READ_EVERY_S):
                    await self._failed.wait()
            for pause_s in reconnect_pauses_s():
                await self.read()
                if not self._failed.is_set():
                    break
                await asyncio.sleep(pause_s)

    async def follow(self, bus: Bus, group: str) -> None:
        """Subscribe to every change, by a queue of this process alone, as soon as the broker is there."""
        queue = process_queue(group, secrets.token_hex(4), CONFIG_UPDATED)
        binding = (exchange_of(CONFIG_UPDATED), routing_key(CONFIG_UPDATED))
        for pause_s in reconnect_pauses_s():
            try:
                await bus.subscribe_process(queue, *binding, self.receive)
                break
            except Unavailable as error:
                _log.warning("config_events_unreachable", error=str(error))
            await asyncio.sleep(pause_s)
        await self.read()  # what was changed before the queue was there


async def read_snapshot(database: Database) -> ConfigSnapshot:
    """All that operators have set. Raises Unavailable."""
    row = await database.fetchrow("SELECT revision, settings FROM config.snapshot")
    return EMPTY if row is None else ConfigSnapshot(row["revision"], msgspec.json.decode(row["settings"]))


@asynccontextmanager
async def open_config(
    settings: Settings, url: str, lifespan: Lifespan, registry: CollectorRegistry
) -> AsyncIterator[tuple[RuntimeConfig, ConfigUpdates]]:
    """The configuration, read once and kept up to date within the block. Raises Unavailable."""
    config = RuntimeConfig(settings, setting_owners())
    database = await open_database(url, name="voltstream config reader", role=ROLE, connections_max=1)
    tasks: list[asyncio.Task[None]] = []
    try:
        updates = ConfigUpdates(config, database, registry)
        if settings.config_dir:
            folder = ConfigFolder(Path(settings.config_dir), config.adjustables)
            _look(folder, config)
            tasks.append(lifespan.spawn(_watch(folder, config), "config folder"))
        await updates.read()
        tasks.append(lifespan.spawn(updates.run(), "config"))
        yield config, updates
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        config.close()
        await database.close()


async def _watch(folder: ConfigFolder, config: RuntimeConfig) -> None:
    while True:
        await asyncio.sleep(LOOK_EVERY_S)
        values = await asyncio.to_thread(folder.look)  # a network's file system may hang
        if values is not None:
            config.apply_folder(values)


def _look(folder: ConfigFolder, config: RuntimeConfig) -> None:
    values = folder.look()
    if values is not None:
        config.apply_folder(values)
