"""Billing served: every kind of principal, the books behind, payments by hand and by a stand-in of Stripe."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import psycopg

from billing.composition import mount_billing
from billing.errors import NotFound
from billing.payments.manual import ManualProvider
from billing.payments.provider import PaymentProvider
from billing.payments.stripe_provider import StripeProvider
from billing.readings_source import CompletedSession, SessionReadings
from kit.auth.authenticator import Authenticator
from kit.auth.token_store import TokenStore
from kit.database.postgres import open_database
from kit.web.app import make_app
from kit.web.server import RunningServer, serve
from tests.billing.books import Books
from tests.billing.stripe_standin import KEY, SECRET, StripeStandIn, stripe_standin

ROOT = Path(__file__).parents[2]
INVOICES = "/api/v1/billing/invoices"
CHARGE = "/api/v1/billing/charge"
CANCEL = "/api/v1/billing/cancel"
PAYMENTS = "/api/v1/billing/payments"


@dataclass
class StoredSessions:
    """A ReadingsSource in memory."""

    sessions: dict[UUID, SessionReadings] = field(default_factory=dict)
    completed: list[CompletedSession] = field(default_factory=list)

    async def readings(self, session_id: UUID) -> SessionReadings:
        """See ReadingsSource."""
        if session_id not in self.sessions:
            raise NotFound(f"no session {session_id}")
        return self.sessions[session_id]

    async def completed_sessions(self, start: datetime, end: datetime) -> AsyncIterator[CompletedSession]:
        """See ReadingsSource."""
        for session in self.completed:
            if start <= session.started_at < end:
                yield session


async def _no_pause(_: Any) -> None: ...


@dataclass
class Service:
    """A running server and what stands behind it."""

    books: Books
    source: StoredSessions
    stripe: StripeStandIn
    server: RunningServer
    client: httpx.AsyncClient
    tokens: dict[str, str]  # by who: finance, operator, device, ann and bob, who are drivers

    async def ask(
        self, method: str, path: str, status: int, who: str | None = "finance", key: str | None = None, **more: Any
    ) -> httpx.Response:
        """The answer, after a look at its status."""
        headers: dict[str, str] = dict(more.pop("headers", {}))
        if who is not None:
            headers["Authorization"] = f"Bearer {self.tokens[who]}"
        if key is not None:
            headers["Idempotency-Key"] = key
        answer = await self.client.request(method, path, headers=headers, **more)
        assert answer.status_code == status, answer.text
        return answer

    async def get(self, path: str, expected: int = 200, who: str | None = "finance", **params: Any) -> Any:
        """A GET's JSON. `start` and `end` are asked for as from and to."""
        names = {"start": "from", "end": "to"}
        asked = {names.get(name, name): value for name, value in params.items()}
        return (await self.ask("GET", path, expected, who, params=asked or None)).json()

    async def post(
        self, path: str, body: Any, status: int = 201, who: str | None = "finance", key: str | None = None
    ) -> Any:
        """A POST's JSON."""
        return (await self.ask("POST", path, status, who, key, json=body)).json()

    async def stripe_says(self, type_: str, thing: dict[str, Any], event_id: str, status: int = 200) -> Any:
        """A signed webhook of Stripe."""
        body = self.stripe.event(type_, thing, event_id)
        headers = self.stripe.signed(body, self.books.clock.now_ms() // 1000)
        return (
            await self.ask("POST", f"{PAYMENTS}/stripe/webhook", status, None, content=body, headers=headers)
        ).json()


@asynccontextmanager
async def served(books: Books) -> AsyncIterator[Service]:
    """Billing on these books, served over real HTTP."""
    with psycopg.connect(books.url) as connection:
        for path in sorted((ROOT / "kit/auth/migrations").glob("*.sql")):
            connection.execute(path.read_bytes())
    access = await open_database(books.url, name="access", connections_max=1)
    store = TokenStore(access)
    tokens = {kind: (await store.issue(kind))[0] for kind in ("finance", "operator", "device")}
    tokens |= {driver: (await store.issue("driver", subject=driver))[0] for driver in ("ann", "bob")}
    app = make_app("billing", "0", registry=books.registry, clock=books.clock)
    app.state.authenticator = Authenticator(store, books.clock)
    source = StoredSessions()
    async with stripe_standin() as standin:
        stripe = StripeProvider(KEY, SECRET, books.clock, api_base=standin.url, timeout_s=5, sleep=_no_pause)
        providers: dict[str, PaymentProvider] = {"manual": ManualProvider(), "stripe": stripe}
        mount_billing(app, books.database, books.clock, providers=providers, source=source, metrics=books.metrics)
        try:
            async with (
                serve(app, "127.0.0.1", 0) as server,
                httpx.AsyncClient(base_url=server.url, timeout=30, trust_env=False) as client,
            ):
                yield Service(books, source, standin, server, client, tokens)
        finally:
            await stripe.close()
            await access.close()
