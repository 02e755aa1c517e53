"""The servers of a test session: started at first use, shared, destroyed at the end."""

import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Final
from uuid import uuid4

import psycopg
import pytest

from deploy.servers import (
    SERVERS,
    TEST_SERVERS,
    Kafka,
    Keycloak,
    MongoDB,
    Nginx,
    OidcProvider,
    Postgres,
    RabbitMQ,
    Redis,
    Server,
    ServerTls,
    ServerUnavailable,
    Traefik,
    run_folder,
    sweep,
)

# TimescaleDB's jobs would connect to a template, which can then not be cloned, and refresh and compress at any moment:
# tests do both where they are about it. Without the extension the setting means nothing.
_POSTGRES_SETTINGS: Final = {"timescaledb.max_background_workers": "0"}


class PrivateServers:
    """Servers by name. Their methods block: from async code, `await asyncio.to_thread(servers.kafka.kill)`."""

    def __init__(self, tls: ServerTls | None = None) -> None:
        """With `tls` they listen so, and are others than those without."""
        if tls is None:
            sweep()
        self._run = run_folder("tls" if tls else "")
        self.postgres: Server = Postgres(self._run / Postgres.name, _POSTGRES_SETTINGS)
        self.rabbitmq: Server = SERVERS[RabbitMQ.name](self._run)
        self.kafka: Server = SERVERS[Kafka.name](self._run)
        self.redis: Server = SERVERS[Redis.name](self._run)
        self.mongodb: Server = SERVERS[MongoDB.name](self._run)
        self.distributed = (self.postgres, self.rabbitmq, self.kafka, self.redis)
        self.oidc: Server = TEST_SERVERS[OidcProvider.name](self._run)
        self.nginx: Server = TEST_SERVERS[Nginx.name](self._run)
        self.traefik: Server = TEST_SERVERS[Traefik.name](self._run)
        self.keycloak: Server = TEST_SERVERS[Keycloak.name](self._run)
        self.all = (*self.distributed, self.mongodb, self.oidc, self.nginx, self.traefik, self.keycloak)
        for server in (*self.distributed, self.nginx, self.traefik):
            server.tls = tls
        self._started: set[Server] = set()

    def url_of(self, server: Server) -> str:
        """The server's URL; starts it if necessary. If it is unavailable, skips the test, or with CI=true fails it."""
        try:
            url = server.start()
        except ServerUnavailable as error:
            if os.environ.get("CI") == "true":
                pytest.fail(str(error), pytrace=False)
            pytest.skip(str(error))
        self._started.add(server)
        return url

    def settings(self, database_url: str) -> dict[str, str]:
        """The settings that make a run a distributed one, on these servers; starts them if necessary."""
        servers = {"rabbitmq_url": self.rabbitmq, "kafka_url": self.kafka, "redis_url": self.redis}
        return {"database_url": database_url, **{name: self.url_of(server) for name, server in servers.items()}}

    def start_all(self) -> None:
        """Start the four of a distributed run concurrently."""
        with ThreadPoolExecutor(len(self.distributed)) as pool:
            for start in [pool.submit(self.url_of, server) for server in self.distributed]:
                start.result()

    def mend(self) -> None:
        """Start the servers again that a test left stopped."""
        for server in self._started:
            server.start()

    def destroy(self) -> None:
        """Stop them all and remove their data."""
        for server in self.all:
            server.destroy()
        shutil.rmtree(self._run, ignore_errors=True)


@contextmanager
def fresh_database(admin_url: str) -> Iterator[str]:
    """The URL of a new, empty database, dropped at the end even if clients are connected."""
    name = f"test_{uuid4().hex}"
    with psycopg.connect(admin_url, autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name}")
    try:
        yield f"{admin_url.rpartition('/')[0]}/{name}"
    finally:
        with psycopg.connect(admin_url, autocommit=True) as admin:
            admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
