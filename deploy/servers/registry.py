"""The set of all servers: their folders, their settings for voltstream, and the removal of dead runs."""

import fcntl
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from deploy.servers import kafka, keycloak, mongodb, oidc
from deploy.servers.base import Server
from deploy.servers.kafka import Kafka
from deploy.servers.keycloak import Keycloak, KeycloakDistribution
from deploy.servers.maven import Jars
from deploy.servers.mongodb import MongoDB
from deploy.servers.nginx import Nginx
from deploy.servers.npm import NodePackages
from deploy.servers.oidc import OidcProvider
from deploy.servers.postgres import Postgres
from deploy.servers.rabbitmq import RabbitMQ
from deploy.servers.redis import Redis
from deploy.servers.traefik import Traefik

ROOT: Final = Path(__file__).resolve().parents[2] / ".servers"
KAFKA_JARS: Final = Jars("Kafka", kafka.POM, ROOT / "kafka-libs")
MONGODB_JARS: Final = Jars("MongoDB", mongodb.POM, ROOT / "mongodb-libs")
KEYCLOAK: Final = KeycloakDistribution(Jars("Keycloak", keycloak.POM, ROOT / "keycloak"))
OIDC_PACKAGES: Final = NodePackages("OpenID provider", oidc.SOURCE, ROOT / "oidc-provider")
_RUN_PREFIX: Final = "run-"

SERVERS: Final[dict[str, Callable[[Path], Server]]] = {
    Postgres.name: lambda run: Postgres(run / Postgres.name),
    RabbitMQ.name: lambda run: RabbitMQ(run / RabbitMQ.name),
    Kafka.name: lambda run: Kafka(run / Kafka.name, KAFKA_JARS),
    Redis.name: lambda run: Redis(run / Redis.name),
    MongoDB.name: lambda run: MongoDB(run / MongoDB.name, MONGODB_JARS),
}

TEST_SERVERS: Final[dict[str, Callable[[Path], Server]]] = {
    OidcProvider.name: lambda run: OidcProvider(run / OidcProvider.name, OIDC_PACKAGES),
    Nginx.name: lambda run: Nginx(run / Nginx.name),
    Traefik.name: lambda run: Traefik(run / Traefik.name),
    Keycloak.name: lambda run: Keycloak(run / Keycloak.name, KEYCLOAK),
}
"""Those that tests start, and that no platform needs to run."""


def run_folder(variant: str = "") -> Path:
    """The folder for servers of this process; `variant` names another, for other servers of the same kinds."""
    return ROOT / f"{_RUN_PREFIX}{os.getpid()}{f'-{variant}' if variant else ''}"


def environment(servers: Iterable[Server]) -> dict[str, str]:
    """The settings that make voltstream use these servers."""
    return {server.variable: server.url for server in servers}


def sweep() -> None:
    """End the servers, and remove the data, of runs whose process died without cleaning up.

    Call it before this process starts any server: a run folder with its pid is an earlier process's.
    """
    for run in ROOT.glob(f"{_RUN_PREFIX}*"):
        if _pid(run) == _pid(run_folder()) or not Path(f"/proc/{_pid(run)}").exists():
            for make in (SERVERS | TEST_SERVERS).values():
                make(run).destroy()
            shutil.rmtree(run, ignore_errors=True)


def _pid(run: Path) -> str:
    """Of the process whose folder it is."""
    return run.name.removeprefix(_RUN_PREFIX).partition("-")[0]


@contextmanager
def alone() -> Iterator[None]:
    """Hold this checkout's lock, so that only one process installs or starts the standing servers at a time."""
    ROOT.mkdir(exist_ok=True)
    with (ROOT / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
