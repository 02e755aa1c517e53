"""The services as processes of their own: each is told the servers where it meets the others, and serves /healthz,
/ready and /metrics beside what it is for."""

from collections.abc import Awaitable, Callable
from importlib import import_module
from typing import Final

from kit.settings import Settings
from voltstream.runtime.process import Lifespan
from voltstream.runtime.web import Web

# Where those listen that serve nothing but their own health; gateway and api listen on VOLTSTREAM_PORT.
PORTS: Final = {"bridge": 8082, "worker": 8083, "relay": 8084}
NEEDS: Final = {
    "gateway": ("database_url", "rabbitmq_url", "kafka_url", "redis_url"),
    "api": ("database_url", "rabbitmq_url", "redis_url"),
    "bridge": ("rabbitmq_url", "kafka_url"),
    "worker": ("database_url", "kafka_url", "redis_url"),
    "relay": ("database_url", "rabbitmq_url"),
}

Announce = Callable[[str], None]
"""Told the service's base URL once it is ready."""
Service = Callable[[Settings, int, Lifespan, Announce], Awaitable[None]]
"""Runs until its Life stops, listening on the port given."""


def service(name: str) -> Service:
    """The service of that name. Imported when it is run: each needs only a part of the product."""
    run: Service = import_module(f"voltstream.runtime.roles.{name}").run
    return run


async def serve(web: Web, host: str, port: int, lifespan: Lifespan, announce: Announce) -> None:
    """Serve until `life` stops."""
    async with web.serving(lifespan, host, port) as server:
        announce(server.url)
        await lifespan.wait()
