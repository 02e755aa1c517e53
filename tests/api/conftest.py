"""The queries over real HTTP, on a real PostgreSQL whose tables are filled by SQL, as a role that may only read."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from prometheus_client import CollectorRegistry

from api.pricing.declaration import SERVICE as PRICING
from api.reservations.declaration import SERVICE as RESERVATIONS
from api.sessions.declaration import SERVICE as SESSIONS
from api.stations.declaration import SERVICE as STATIONS
from api.telemetry.declaration import SERVICE as TELEMETRY
from api.telemetry.live_streams import LiveStreams
from kit.auth.authenticator import Authenticator
from kit.auth.scopes import Kind
from kit.auth.token_store import TokenStore
from kit.clock import ManualClock
from kit.config.runtime import RuntimeConfig
from kit.database.postgres import open_database
from kit.live.view import InProcessLive
from kit.service import Service
from kit.web.app import make_app
from kit.web.serving.server import RunningServer, serve
from streams.declaration import SERVICE as WORKER
from tests.api.pricing_app import PricingApp, running_pricing
from tests.api.rows import COARSER_WINDOWS_SQL
from tests.api.stations_app import StationsApp, running_stations
from tests.serving import make_schemas, open_service
from voltstream.settings import load_settings

NOW = datetime(2026, 3, 29, 9, 0, tzinfo=UTC)


@dataclass
class Api:
    """A running server and what stands behind it."""

    client: httpx.AsyncClient  # with an operator's token
    operator_token: str
    device_token: str
    live: InProcessLive
    streams: LiveStreams
    server: RunningServer
    clock: ManualClock
    database_url: str
    tokens: TokenStore
    config: RuntimeConfig  # of sessions

    async def token(self, kind: Kind, subject: str | None = None) -> str:
        """A new token."""
        return (await self.tokens.issue(kind, subject=subject))[0]

    async def get(self, path: str, status: int = 200, **params: Any) -> httpx.Response:
        """The answer, after a look at its status. `start` and `end` are asked for as from and to."""
        names = {"start": "from", "end": "to"}
        asked = {names.get(name, name): value for name, value in params.items() if value is not None}
        answer = await self.client.get(path, params=asked or None)
        assert answer.status_code == status, answer.text
        return answer


@pytest.fixture
def telemetry_url(database_url: str) -> str:
    """A database with the schemas of telemetry, its large tables not partitioned, of sessions and of tokens."""
    services: list[Service[Any]] = [STATIONS, PRICING, WORKER, TELEMETRY, RESERVATIONS, SESSIONS]
    make_schemas(database_url, services, prepared=COARSER_WINDOWS_SQL)
    return database_url


@pytest.fixture
async def api(telemetry_url: str) -> AsyncIterator[Api]:
    """The queries and the sessions, served."""
    clock, live = ManualClock(NOW), InProcessLive()
    access = await open_database(telemetry_url, name="access", connections_max=1)
    tokens = TokenStore(access)
    operator_token, _ = await tokens.issue("operator")
    device_token, _ = await tokens.issue("device")
    app = make_app("queries", "0", registry=CollectorRegistry())
    app.state.authenticator = Authenticator(tokens, clock)
    bearer = {"Authorization": f"Bearer {operator_token}"}
    config = RuntimeConfig(load_settings())
    try:
        async with (
            open_service(TELEMETRY, telemetry_url, clock, app=app, live=live, connections_max=4) as telemetry,
            open_service(SESSIONS, telemetry_url, clock, app=app, config=config),
            serve(app, "127.0.0.1", 0) as server,
        ):
            streams = telemetry.components.streams
            async with httpx.AsyncClient(base_url=server.url, headers=bearer, timeout=30) as client:
                ends = (live, streams, server, clock)
                yield Api(client, operator_token, device_token, *ends, telemetry_url, tokens, config)
            await streams.close()
    finally:
        config.close()
        await live.close()
        await access.close()


@pytest.fixture
async def pricing(database_url: str) -> AsyncIterator[PricingApp]:
    """Pricing, served."""
    async with running_pricing(database_url) as running:
        yield running


@pytest.fixture
async def stations(database_url: str) -> AsyncIterator[StationsApp]:
    """The stations service, served, with no station."""
    async with running_stations(database_url) as running:
        yield running
