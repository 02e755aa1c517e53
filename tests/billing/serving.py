"""Billing served: a token of every kind, payments by hand and by a stand-in of Stripe."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
from fastapi import APIRouter

from billing.declaration import SERVICE
from billing.payments.stripe_provider import StripeProvider
from kit.auth.authenticator import Authenticator
from kit.auth.token_store import TokenStore
from kit.database.postgres import open_database
from kit.service import provide
from kit.web.app import make_app
from kit.web.serving.server import RunningServer, serve
from tests.billing.running import RunningBilling
from tests.billing.stripe_standin import KEY, SECRET, StripeStandIn, stripe_standin
from tests.billing.telemetry import Telemetry

INVOICES = "/api/v1/billing/invoices"
CHARGE = "/api/v1/billing/charge"
CANCEL = "/api/v1/billing/cancel"
PAYMENTS = "/api/v1/billing/payments"


async def _no_pause(_: Any) -> None: ...


@dataclass
class Service:
    """A running server and what is behind it."""

    billing: RunningBilling
    stripe: StripeStandIn
    server: RunningServer
    client: httpx.AsyncClient
    tokens: dict[str, str]  # by principal: finance, operator, device, ann and bob, who are drivers

    @property
    def telemetry(self) -> Telemetry:
        """Of the same database."""
        return self.billing.telemetry

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
        headers = self.stripe.signed(body, self.billing.clock.now_ms() // 1000)
        return (
            await self.ask("POST", f"{PAYMENTS}/stripe/webhook", status, None, content=body, headers=headers)
        ).json()


@asynccontextmanager
async def served(billing: RunningBilling) -> AsyncIterator[Service]:
    """Billing over real HTTP."""
    access = await open_database(billing.url, name="access", connections_max=1)
    store = TokenStore(access)
    tokens = {kind: (await store.issue(kind))[0] for kind in ("finance", "operator", "device")}
    tokens |= {driver: (await store.issue("driver", subject=driver))[0] for driver in ("ann", "bob")}
    app = make_app("billing", "0", registry=billing.registry, clock=billing.clock)
    app.state.authenticator = Authenticator(store, billing.clock)
    provide(app, billing.components)
    assert isinstance(SERVICE.router, APIRouter)
    app.include_router(SERVICE.router)
    async with stripe_standin() as standin:
        stripe = StripeProvider(KEY, SECRET, billing.clock, api_base=standin.url, timeout_s=5, sleep=_no_pause)
        billing.providers["stripe"] = stripe
        try:
            async with (
                serve(app, "127.0.0.1", 0) as server,
                httpx.AsyncClient(base_url=server.url, timeout=30, trust_env=False) as client,
            ):
                yield Service(billing, standin, server, client, tokens)
        finally:
            await stripe.close()
            await access.close()
