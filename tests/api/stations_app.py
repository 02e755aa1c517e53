"""The stations service, served on a real PostgreSQL: what its tests ask, and the rows behind it."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import httpx
import psycopg
from prometheus_client import CollectorRegistry

from api.stations.components import StationsComponents
from api.stations.declaration import SERVICE
from kit.auth.authenticator import Authenticator
from kit.auth.token_store import TokenStore
from kit.clock import ManualClock
from kit.database.postgres import open_database
from kit.web.app import make_app
from kit.web.serving.server import serve
from tests.serving import Opened, make_schemas, open_service

PATH = "/api/v1/stations"
NOW = datetime(2026, 3, 29, 9, 0, tzinfo=UTC)


@dataclass
class StationsApp:
    """The service, served."""

    client: httpx.AsyncClient  # with an operator's token
    tokens: dict[str, str]
    clock: ManualClock
    url: str
    base_url: str
    service: Opened[StationsComponents]

    async def ask(
        self, method: str, path: str, status: int, body: Any = None, *, match: str | None = None, **params: Any
    ) -> Any:
        """The answer's JSON, after a look at its status. `match`: If-Match."""
        headers = {} if match is None else {"If-Match": match}
        answer = await self.client.request(method, PATH + path, json=body, params=params or None, headers=headers)
        assert answer.status_code == status, answer.text
        return answer.json() if answer.content else None

    def published(self) -> list[tuple[str, Any]]:
        """Types and payloads of the events in the outbox, in order."""
        bodies = [json.loads(row[0]) for row in self.rows("SELECT body FROM stations.outbox ORDER BY id")]
        return [(body["metadata"]["type"], body["payload"]) for body in bodies]

    def rows(self, query: str, *args: Any) -> list[tuple[Any, ...]]:
        """Of a query by the owner of the tables."""
        with psycopg.connect(self.url) as connection:
            return connection.execute(query.encode(), args).fetchall()


@asynccontextmanager
async def running_stations(url: str) -> AsyncIterator[StationsApp]:
    """The service, served from that empty database."""
    make_schemas(url, [SERVICE])
    clock = ManualClock(NOW)
    access = await open_database(url, name="access", connections_max=1)
    store = TokenStore(access)
    tokens = {
        kind: (await store.issue(kind, subject="driver-1" if kind == "driver" else None))[0]
        for kind in ("device", "operator", "finance", "driver")
    }
    registry = CollectorRegistry()
    app = make_app("stations", "0", registry=registry)
    app.state.authenticator = Authenticator(store, clock)
    bearer = {"Authorization": f"Bearer {tokens['operator']}"}
    try:
        async with (
            open_service(SERVICE, url, clock, app=app, registry=registry) as service,
            serve(app, "127.0.0.1", 0) as server,
            httpx.AsyncClient(base_url=server.url, headers=bearer, timeout=30, trust_env=False) as client,
        ):
            yield StationsApp(client, tokens, clock, url, server.url, service)
    finally:
        await access.close()
