"""The queries over real HTTP, on a real PostgreSQL whose tables are filled by SQL, as a role that may only read."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from api.queries import GRANT, ROLE, mount_queries
from api.sessions.composition import GRANT as CHARGING_GRANT
from api.sessions.composition import MIGRATIONS as CHARGING
from api.sessions.composition import ROLE as CHARGING_ROLE
from api.sessions.composition import mount_sessions
from prometheus_client import CollectorRegistry

from api.telemetry.live_streams import LiveStreams
from kit.auth.authenticator import Authenticator
from kit.auth.token_store import Kind, TokenStore
from kit.clock import ManualClock
from kit.database.migrations import migrate
from kit.database.postgres import Database, open_database
from kit.database.roles import ensure_roles
from kit.live.view import InProcessLive
from kit.web.app import make_app
from kit.web.server import RunningServer, serve
from tests.api.pricing_app import Pricing, running_pricing
from tests.api.rows import COARSER_WINDOWS_SQL

ROOT = Path(__file__).parents[2]
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
    charging: Database  # as the sessions' service works

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
    """A database with the telemetry schema, its time-partitioned tables plain, and those of tokens and of charging."""
    with psycopg.connect(database_url) as connection:
        for folder in ("streams/storage/migrations", "kit/auth/migrations"):
            for migration in sorted((ROOT / folder).glob("*.sql")):
                connection.execute(migration.read_bytes())
        connection.execute(COARSER_WINDOWS_SQL)
    migrate(database_url, [CHARGING])
    ensure_roles(database_url, [GRANT, CHARGING_GRANT])
    return database_url


@pytest.fixture
async def api(telemetry_url: str) -> AsyncIterator[Api]:
    """The queries and the sessions, served."""
    clock, live = ManualClock(NOW), InProcessLive()
    database = await open_database(telemetry_url, name="queries", role=ROLE, connections_max=4)
    charging = await open_database(telemetry_url, name="sessions", role=CHARGING_ROLE, connections_max=8)
    access = await open_database(telemetry_url, name="access", connections_max=1)
    tokens = TokenStore(access)
    operator_token, _ = await tokens.issue("operator")
    device_token, _ = await tokens.issue("device")
    app = make_app("queries", "0", registry=CollectorRegistry())
    app.state.authenticator = Authenticator(tokens, clock)
    streams = mount_queries(app, database, live, clock)
    mount_sessions(app, database, charging, clock)
    bearer = {"Authorization": f"Bearer {operator_token}"}
    try:
        async with serve(app, "127.0.0.1", 0) as server:
            async with httpx.AsyncClient(base_url=server.url, headers=bearer, timeout=30) as client:
                ends = (live, streams, server, clock)
                yield Api(client, operator_token, device_token, *ends, telemetry_url, tokens, charging)
            await streams.close()
    finally:
        await live.close()
        await database.close()
        await charging.close()
        await access.close()


@pytest.fixture
async def pricing(database_url: str) -> AsyncIterator[Pricing]:
    """Pricing, served."""
    async with running_pricing(database_url) as running:
        yield running
