"""Exports, served on books that are filled by events or by SQL."""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import psycopg
import pytest
from prometheus_client import CollectorRegistry

from billing.edge import install_errors
from billing.exports.composition import mount_exports
from kit.auth.authenticator import Authenticator
from kit.auth.token_store import TokenStore
from kit.database.postgres import open_database
from kit.web.app import make_app
from kit.web.server import serve
from schemas.events import SessionAssigned
from tests.billing.books import Books
from tests.billing.making import START, session
from voltstream.settings import load_settings

ROOT = Path(__file__).parents[3]
EXPORT = "/api/v1/billing/export"


@dataclass
class Office:
    """A running server of exports."""

    books: Books
    client: httpx.AsyncClient
    tokens: dict[str, str]  # finance, operator, device, ann and bob

    async def ask(self, path: str, expected: int = 200, who: str = "finance", **params: Any) -> httpx.Response:
        """The answer, after a look at its status. `start` and `end` are asked for as from and to."""
        names = {"start": "from", "end": "to"}
        asked = {names.get(name, name): value for name, value in params.items()}
        headers = {"Authorization": f"Bearer {self.tokens[who]}"}
        answer = await self.client.get(path, params=asked, headers=headers)
        assert answer.status_code == expected, answer.text
        return answer


@pytest.fixture
async def office(books: Books) -> AsyncIterator[Office]:
    """Served."""
    with psycopg.connect(books.url) as connection:
        for path in sorted((ROOT / "kit/auth/migrations").glob("*.sql")):
            connection.execute(path.read_bytes())
    async with contextlib.AsyncExitStack() as stack:
        access = await open_database(books.url, name="access", connections_max=1)
        stack.push_async_callback(access.close)
        store = TokenStore(access)
        tokens = {kind: (await store.issue(kind))[0] for kind in ("finance", "operator", "device")}
        tokens |= {driver: (await store.issue("driver", subject=driver))[0] for driver in ("ann", "bob")}
        app = make_app("exports", "0", registry=CollectorRegistry(), clock=books.clock)
        app.state.authenticator = Authenticator(store, books.clock)
        install_errors(app)
        mount_exports(
            app,
            books.database,
            load_settings(
                seller_name="Muster Laden GmbH",
                seller_address="Am Kai 1 | 20457 Hamburg",
                seller_vat_id="DE123456789",
                ocpi_country_code="DE",
                ocpi_party_id="MUL",
            ),
        )
        server = await stack.enter_async_context(serve(app, "127.0.0.1", 0))
        client = await stack.enter_async_context(httpx.AsyncClient(base_url=server.url, timeout=30, trust_env=False))
        yield Office(books, client, tokens)


async def fill(books: Books, count: int = 12) -> None:
    """Sessions of several stations and drivers; some corrected by late readings, some with texts that bite."""
    texts = ('=HYPERLINK("http://x")', "+1", "-1", "@a", 'quo"te, comma', "ann", "\uff1d1", "ü\u2028x")
    for number in range(count):
        start = START + timedelta(minutes=number)
        first = session(start=start, energy_mwh=1_000_000 * number + 7, station_id=f"NL-{number % 3}")
        if number % 4 != 3:
            driver = texts[number % len(texts)]
            await books.hear(
                SessionAssigned(
                    session_id=first.id, request_id=uuid4(), driver_id=driver, reservation_id=None, revision=1
                )
            )
        await books.hear(first)
        books.clock.advance(60)
        if number % 5 == 0:
            late = session(
                first.id, revision=2, start=start, energy_mwh=1_000_000 * number + 99_000, station_id=first.station_id
            )
            await books.hear(late)


def add_many(books: Books, count: int) -> None:
    """Invoices of one tariff, by SQL."""
    with psycopg.connect(books.url) as connection:
        connection.execute((Path(__file__).parent / "many.sql").read_bytes(), {"many": count})
