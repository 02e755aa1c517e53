"""The platform behind a proxy: two processes of the services that answer, one of those that store."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import httpx

from deploy.gateways.site import Site
from deploy.servers import unused_port
from tests.certificates import Authority
from tests.deploy.proxies import Front, addresses, fronting
from tests.private_servers import PrivateServers
from tests.proof.cluster import PARTITIONS, clear_brokers
from tests.proof.processes import SupervisedService, is_ready, kept_alive, run_once
from tests.waiting import eventually

ANSWERING: Final = ("gateway", "telemetry", "audit")
STORING: Final = ("worker", "bridge")
ASKED: Final = (("POST", "/api/v1/telemetry"), ("GET", "/api/v1/telemetry/live"))  # one of each service under load
START_S: Final = 180  # against hanging


@dataclass
class Fronted:
    """The processes, the proxy, and tokens."""

    front: Front
    answering: Sequence[SupervisedService]
    device_token: str
    operator_token: str
    admin_token: str
    database_url: str

    async def ready(self, service: SupervisedService) -> None:
        """Wait until a process is."""
        async with httpx.AsyncClient(trust_env=False, timeout=30) as client:
            await eventually(partial(is_ready, client, service), START_S)

    async def counted(self, service: SupervisedService) -> None:
        """Wait until the proxy asks a process for each service: only then may another be stopped."""
        async with httpx.AsyncClient(trust_env=False, timeout=30) as client:
            await self.ready(service)
            await eventually(partial(_was_asked, client, service), START_S)

    def answers(self) -> bool:
        """Whether the proxy has somebody to ask, who asks for a token."""
        with self.front.client() as client:
            return client.get("/api/v1/telemetry/ledger").status_code == httpx.codes.UNAUTHORIZED

    def unexpected(self) -> list[str]:
        """Ends of processes that nobody asked for."""
        return [line for service in self.answering for line in service.unexpected]


@asynccontextmanager
async def fronted(
    proxy: str,
    servers: PrivateServers,
    tls_servers: PrivateServers,
    authority: Authority,
    database_url: str,
    folder: Path,
    *,
    drain_s: float,
    upstream_idle_s: int,
    stores: bool = True,
) -> AsyncIterator[Fronted]:
    """All of it at work. Without `stores` what is taken waits in RabbitMQ, and Kafka is not needed."""
    urls = {"rabbitmq": servers.rabbitmq, "redis": servers.redis, **({"kafka": servers.kafka} if stores else {})}
    started = {name: await asyncio.to_thread(servers.url_of, server) for name, server in urls.items()}
    started.setdefault("kafka", "127.0.0.1:1")
    environment = {
        "VOLTSTREAM_DATABASE_URL": database_url,
        **{f"VOLTSTREAM_{name.upper()}_URL": url for name, url in started.items()},
        "VOLTSTREAM_PARTITIONS": str(PARTITIONS),  # of every topic of these servers: the number is fixed for ever
        "VOLTSTREAM_DRAIN_S": str(drain_s),
        "VOLTSTREAM_TRUSTED_PROXIES": "127.0.0.1",
        "VOLTSTREAM_HOSTS": "localhost",
        "VOLTSTREAM_DATA_DIR": str(folder / "data"),
    }
    if stores:
        await clear_brokers(servers)
    tokens = await _prepared(environment)
    answering = [
        SupervisedService(f"answering {number}", _arguments(ANSWERING, unused_port()), environment, folder)
        for number in (1, 2)
    ]
    storing = [SupervisedService("storing", _arguments(STORING, 0), environment, folder)] if stores else []
    async with kept_alive([*answering, *storing]):
        servers_of = {name: [f"127.0.0.1:{service.port}" for service in answering] for name in ANSWERING}
        site = Site(addresses(servers_of), upstream_idle_s=upstream_idle_s)
        manager = fronting(proxy, tls_servers, authority, site)
        front = await asyncio.to_thread(manager.__enter__)
        try:
            found = Fronted(front, answering, *tokens, database_url)
            await asyncio.gather(*(found.ready(service) for service in (*answering, *storing)))
            await eventually(found.answers, START_S)  # Traefik looks once a second
            yield found
        finally:
            await asyncio.to_thread(manager.__exit__, None, None, None)


async def _was_asked(client: httpx.AsyncClient, service: SupervisedService) -> bool:
    """Whether it answered for each service that the load asks: clients have the proxy's address alone."""
    try:
        metrics = (await client.get(f"{service.url}/metrics")).text
    except httpx.TransportError:
        return False
    return all(f'http_requests_total{{method="{method}",route="{path}"' in metrics for method, path in ASKED)


def _arguments(services: Sequence[str], port: int) -> Sequence[str]:
    return ("serve", *services, "--json", "--supervised", "--port", str(port))


async def _prepared(environment: dict[str, str]) -> tuple[str, str, str]:
    """Tokens of a device, an operator, an admin, in a database that is up to date."""
    await run_once(environment, "migrate")
    kinds = (("device", "--any-station"), ("operator",), ("admin",))
    device, operator, admin = await asyncio.gather(
        *(run_once(environment, "token", "issue", "--kind", *kind) for kind in kinds)
    )
    return device["token"], operator["token"], admin["token"]
