"""Pricing, served on a real PostgreSQL: what its tests ask, and the rows behind it."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import httpx
import psycopg
from prometheus_client import CollectorRegistry

from api.pricing.components import PricingComponents
from api.pricing.declaration import SERVICE
from kit.auth.authenticator import Authenticator
from kit.auth.scopes import Kind
from kit.auth.token_store import TokenStore
from kit.clock import ManualClock
from kit.config.runtime import RuntimeConfig
from kit.database.postgres import open_database
from kit.web.app import make_app
from kit.web.serving.server import RunningServer, serve
from tests.serving import Opened, make_schemas, open_service
from voltstream.settings import load_settings

NOW = datetime(2026, 3, 29, 9, 0, tzinfo=UTC)
PATH = "/api/v1/pricing"
STATION = {"station_id": "ST-1"}
ZONE = "Europe/Amsterdam"


@dataclass
class PricingApp:
    """A running server and what stands behind it."""

    client: httpx.AsyncClient  # with an operator's token
    tokens: dict[Kind, str]
    server: RunningServer
    clock: ManualClock
    service: Opened[PricingComponents]
    url: str
    config: RuntimeConfig
    registry: CollectorRegistry

    async def get(self, path: str = "", status: int = 200, **params: Any) -> Any:
        """The answer as JSON, its numbers exact, after a look at its status."""
        answer = await self.client.get(PATH + path, params=params or None)
        assert answer.status_code == status, answer.text
        return exact(answer)

    async def send(self, method: str, path: str, body: Any, status: int, **headers: str) -> Any:
        """As `get`, with a body."""
        answer = await self.client.request(method, PATH + path, json=body, headers=headers)
        assert answer.status_code == status, answer.text
        return exact(answer) if answer.content else None

    async def publish(self, target: Any, price: float = 0.29, status: int = 201, **more: Any) -> Any:
        """Publish a tariff of one ENERGY price; the version, without the warnings, of which there are none."""
        made = await self.publish_warned(target, price, status, **more)
        assert status != 201 or made.pop("warnings") == []
        return made

    async def publish_warned(self, target: Any, price: float = 0.29, status: int = 201, **more: Any) -> Any:
        """The same, whole."""
        body = {"target": target, "time_zone": ZONE, "tariff": tariff(price), **more}
        return await self.send("POST", "", body, status)

    def rows(self, query: str, *args: Any) -> list[tuple[Any, ...]]:
        """Of a query by the owner of the tables."""
        with psycopg.connect(self.url) as connection:
            return connection.execute(query, args).fetchall()

    def waiting(self) -> int:
        """How many of this database's connections wait for a lock."""
        query = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = %s"
        return int(self.rows(query, "Lock")[0][0])


def exact(answer: httpx.Response) -> Any:
    """The answer's JSON, its numbers as they are written."""
    return json.loads(answer.content, parse_float=Decimal)


def tariff(price: float = 0.29, **more: Any) -> dict[str, Any]:
    """A tariff of one ENERGY price."""
    component = {"type": "ENERGY", "price": price, "vat": 21, "step_size": 1}
    return {"currency": "EUR", "elements": [{"price_components": [component]}], **more}


def exact_tariff(price: float) -> Any:
    """As `PricingApp.get` reads it."""
    return json.loads(json.dumps(tariff(price)), parse_float=Decimal)


@asynccontextmanager
async def running_pricing(url: str) -> AsyncIterator[PricingApp]:
    """Pricing, served from that empty database."""
    make_schemas(url, [SERVICE])
    clock = ManualClock(NOW)
    access = await open_database(url, name="access", connections_max=1)
    store = TokenStore(access)
    tokens: dict[Kind, str] = {
        kind: (await store.issue(kind, subject="driver-1" if kind == "driver" else None))[0]
        for kind in ("device", "operator", "finance", "driver")
    }
    app = make_app("pricing", "0", registry=CollectorRegistry())
    app.state.authenticator = Authenticator(store, clock)
    bearer = {"Authorization": f"Bearer {tokens['operator']}"}
    config = RuntimeConfig(load_settings())
    registry = CollectorRegistry()
    try:
        async with (
            open_service(SERVICE, url, clock, app=app, config=config, registry=registry) as service,
            serve(app, "127.0.0.1", 0) as server,
            httpx.AsyncClient(base_url=server.url, headers=bearer, timeout=30) as client,
        ):
            yield PricingApp(client, tokens, server, clock, service, url, config, registry)
    finally:
        config.close()
        await access.close()
