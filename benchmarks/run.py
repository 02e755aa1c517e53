"""BenchmarkRun: what the stages of a run share (console, sizes, databases, and servers that start when first used)."""

import asyncio
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Final, Self
from uuid import uuid4

import pika
import psycopg
from aiokafka.admin import AIOKafkaAdminClient
from rich.console import Console

from deploy.servers import SERVERS, Server, environment, run_folder, sweep
from kit.auth.scopes import Kind
from kit.auth.token_store import TokenStore
from kit.database.postgres import open_database
from kit.log.kafka import ensure_topic
from schemas.topics import READINGS_TOPIC, frames_queue
from voltstream.runtime.database import bring_up_to_date

PARTITIONS: Final = 4  # of a worker: while one waits for the database, another computes
_WAIT_S_MAX: Final = 600.0  # against hanging: the slowest drain of a full run takes a tenth of it
_GONE_S_MAX: Final = 30.0  # for Kafka to delete a topic


class BenchmarkRun:
    """One run of the benchmarks. Leaving the block ends every server it started."""

    def __init__(self, console: Console, *, quick: bool) -> None:
        """`quick`: everything as small as possible, to check that it works."""
        self.console = console
        self.quick = quick
        sweep()
        self._folders = 0
        self._servers = {name: make(run_folder()) for name, make in SERVERS.items()}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for server in self._servers.values():
            server.destroy()
        shutil.rmtree(run_folder(), ignore_errors=True)

    def alone(self) -> dict[str, str]:
        """Settings of a process with a new, empty data folder instead of this checkout's."""
        self._folders += 1
        folder = run_folder() / f"data-{self._folders}"
        return {
            "VOLTSTREAM_DATA_DIR": str(folder),
            "VOLTSTREAM_LOG_LEVEL": "warning",
            "VOLTSTREAM_NEW_STATIONS_PER_HOUR_MAX": "0",  # every turn of a load has a fleet of its own
        }

    def pick(self, full: int, quick: int) -> int:
        """The size for this run: `full`, or `quick` in a quick one."""
        return quick if self.quick else full

    def server(self, name: str) -> Server:
        """A server by name, started if necessary. Raises ServerError."""
        server = self._servers[name]
        server.start()
        return server

    def pids(self, *names: str) -> dict[str, int]:
        """The process ids of these running servers."""
        return {name: int((self._servers[name].home / "pid").read_text().split()[0]) for name in names}

    def environment(self, database_url: str, partitions: int = PARTITIONS) -> dict[str, str]:
        """The settings that make voltstream use all servers, and this database. Raises ServerError."""
        given = environment(self.server(name) for name in self._servers)
        return (
            given | {"VOLTSTREAM_DATABASE_URL": database_url, "VOLTSTREAM_PARTITIONS": str(partitions)} | self.alone()
        )

    @contextmanager
    def database(self, partitions: int = PARTITIONS) -> Iterator[str]:
        """The URL of a new database with voltstream's tables, dropped at the end even if clients are connected."""
        admin_url = self.server("postgres").url
        name = f"bench_{uuid4().hex}"
        with psycopg.connect(admin_url, autocommit=True) as admin:
            admin.execute(f"CREATE DATABASE {name}".encode())
        try:
            url = f"{admin_url.rpartition('/')[0]}/{name}"
            bring_up_to_date(url, partitions)
            yield url
        finally:
            with psycopg.connect(admin_url, autocommit=True) as admin:
                admin.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())

    def fresh_log(self, partitions: int = PARTITIONS) -> str:
        """Empty the queues and the topic of earlier stages; returns Kafka's address."""
        kafka = self.server("kafka").url
        asyncio.run(_fresh_topic(kafka, partitions))
        self.drop_queues()
        return kafka

    def drop_queues(self) -> None:
        """Delete the queues of frames; the next publisher declares them again."""
        connection = pika.BlockingConnection(pika.URLParameters(self.server("rabbitmq").url))
        channel = connection.channel()
        for partition in range(PARTITIONS):
            channel.queue_delete(frames_queue(partition))
        connection.close()


def issue_token(database_url: str, kind: Kind) -> str:
    """A token for all stations."""

    async def issue() -> str:
        database = await open_database(database_url, name="benchmarks", connections_max=1)
        try:
            token, _ = await TokenStore(database).issue(kind, "benchmarks")
            return token
        finally:
            await database.close()

    return asyncio.run(issue())


async def _fresh_topic(kafka: str, partitions: int) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    try:
        if READINGS_TOPIC in await admin.list_topics():
            await admin.delete_topics([READINGS_TOPIC])
            async with asyncio.timeout(_GONE_S_MAX):
                while READINGS_TOPIC in await admin.list_topics():  # noqa: ASYNC110  # Kafka does not notify
                    await asyncio.sleep(0.1)
    finally:
        await admin.close()
    await ensure_topic(kafka, READINGS_TOPIC, partitions)


class Deadline:
    """A bound against hanging."""

    def __init__(self, what: str, within_s: float = _WAIT_S_MAX) -> None:
        self._what, self._within_s = what, within_s
        self._end_s = time.monotonic() + within_s

    def check(self) -> None:
        """Raises TimeoutError when it is over."""
        if time.monotonic() > self._end_s:
            raise TimeoutError(f"{self._what}: not within {self._within_s:.0f} s")
