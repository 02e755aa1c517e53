"""Laws of the Idempotency-Key: one effect, one answer, whatever goes wrong in between."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from uuid import uuid4

import httpx
import psycopg
import pytest
from fastapi import APIRouter, Body, Depends, FastAPI
from prometheus_client import CollectorRegistry
from starlette.responses import Response

import kit.web.idempotency
from kit.auth.authenticator import Authenticator
from kit.auth.requirements import require_scope
from kit.auth.token_store import TokenStore
from kit.clock import SystemClock
from kit.database.postgres import Database, open_database
from kit.messaging.outbox import Transaction
from kit.retention import of_standard_tables
from kit.web.app import make_app
from kit.web.idempotency import KEY_HEADER, REPLAYED_HEADER, Idempotent, StoredResponse
from kit.web.json_body import JsonRoute
from tests.serving import ended
from tests.waiting import eventually

TABLES = """
CREATE SCHEMA shop;
CREATE TABLE shop.sale (thing text NOT NULL);
CREATE TABLE shop.idempotency (
    principal text NOT NULL, key text COLLATE "C" NOT NULL, request_hash bytea NOT NULL, status smallint, body bytea,
    media_type text, location text, created_at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (principal, key));
CREATE INDEX ON shop.idempotency (created_at);
"""


@dataclass
class Shop:
    """A service that sells, and can be made to fail after the sale."""

    app: FastAPI
    database: Database
    tokens: list[str]
    sales: int = 0  # begun
    status: int = 201
    crash: bool = False
    open: asyncio.Event = field(default_factory=asyncio.Event)

    async def sell(self, once: Idempotent, thing: str = Body(embed=True)) -> Response:
        async def work(connection: Transaction) -> StoredResponse:
            self.sales += 1
            number = self.sales
            await connection.execute("INSERT INTO shop.sale VALUES ($1)", thing)
            await self.open.wait()
            if self.crash:
                raise RuntimeError("the process dies here")
            body = b"sale %d: %s" % (number, thing.encode())
            return StoredResponse(self.status, body, "text/plain", f"/sales/{number}")

        return await once.do(self.database, "shop", work)

    async def post(self, key: str | None = "k", thing: str = "tea", token: int = 0, **query: str) -> httpx.Response:
        headers = [(b"Authorization", f"Bearer {self.tokens[token]}".encode())]
        if key is not None:
            headers.append((KEY_HEADER.encode(), key.encode("latin-1")))
        transport = httpx.ASGITransport(self.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://shop", headers=headers) as client:
            return await client.post("/sales", json={"thing": thing}, params=query)

    async def stored(self, what: str = "shop.sale") -> int:
        return int(await self.database.fetchval(f"SELECT count(*) FROM {what}"))


@pytest.fixture
async def shop(access: Database, database_url: str) -> AsyncIterator[Shop]:
    """Open for sales, with two customers."""
    with psycopg.connect(database_url) as connection:
        connection.execute(TABLES)
    store = TokenStore(access)
    app = make_app("shop", "0", registry=CollectorRegistry())
    app.state.authenticator = Authenticator(store, SystemClock())
    database = await open_database(database_url, name="shop", connections_max=4)
    made = Shop(app, database, [(await store.issue("operator"))[0] for _ in range(2)])
    made.open.set()
    router = APIRouter(route_class=JsonRoute, dependencies=[Depends(require_scope("stations:write"))])
    router.add_api_route("/sales", made.sell, methods=["POST"])
    app.include_router(router)
    yield made
    await database.close()


async def test_the_same_request_again_has_one_effect_and_the_same_answer(shop: Shop) -> None:
    first = await shop.post()
    assert (first.status_code, first.content, first.headers["location"]) == (201, b"sale 1: tea", "/sales/1")
    assert REPLAYED_HEADER not in first.headers
    for _ in range(3):
        again = await shop.post()
        assert (again.status_code, again.content) == (first.status_code, first.content)
        for header in ("content-type", "location"):
            assert again.headers[header] == first.headers[header]
        assert again.headers[REPLAYED_HEADER] == "true"
    assert await shop.stored() == shop.sales == 1


async def test_another_request_with_the_key_is_a_409_and_has_no_effect(shop: Shop) -> None:
    await shop.post()
    for answer in (await shop.post(thing="coffee"), await shop.post(express="yes")):
        assert answer.status_code == 409
        assert KEY_HEADER in answer.json()["detail"]
    assert await shop.stored() == 1


async def test_keys_are_each_principals_own(shop: Shop) -> None:
    answers = [await shop.post(token=token, thing=thing) for token, thing in enumerate(("tea", "coffee"))]
    assert [answer.content for answer in answers] == [b"sale 1: tea", b"sale 2: coffee"]


async def test_without_a_key_every_request_is_a_new_one(shop: Shop) -> None:
    for number in (1, 2):
        assert (await shop.post(None)).content == b"sale %d: tea" % number
    assert await shop.stored("shop.idempotency") == 0


@pytest.mark.parametrize("key", ["", "x" * 129, "a\tb", "schlüssel"])
async def test_a_key_that_is_none_is_a_422_and_has_no_effect(shop: Shop, key: str) -> None:
    answer = await shop.post(key)
    assert answer.status_code == 422
    assert KEY_HEADER in answer.json()["detail"]
    assert shop.sales == 0


async def test_a_key_may_have_128_signs(shop: Shop) -> None:
    assert (await shop.post("~" * 128)).status_code == 201


async def test_who_comes_while_the_first_is_at_work_gets_its_answer(shop: Shop, database_url: str) -> None:
    shop.open.clear()
    requests = [asyncio.create_task(shop.post()) for _ in range(3)]
    with psycopg.connect(database_url, autocommit=True) as watching:
        waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = 'transactionid'"
        await eventually(lambda: watching.execute(waiting).fetchone() == (2,))
    shop.open.set()
    answers = await asyncio.gather(*requests)
    assert {answer.content for answer in answers} == {b"sale 1: tea"}
    assert sorted(REPLAYED_HEADER in answer.headers for answer in answers) == [False, True, True]
    assert await shop.stored() == 1


async def test_who_waits_for_a_first_request_that_fails_does_the_work(shop: Shop, database_url: str) -> None:
    shop.open.clear()
    first = asyncio.create_task(shop.post())
    await eventually(lambda: shop.sales == 1)
    second = asyncio.create_task(shop.post())
    with psycopg.connect(database_url, autocommit=True) as watching:
        waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = 'transactionid'"
        await eventually(lambda: watching.execute(waiting).fetchone() == (1,))
    first.cancel()  # the client is gone, and its transaction with it
    shop.open.set()
    assert (await second).content == b"sale 2: tea"
    assert await shop.stored() == 1


async def test_who_waits_too_long_is_told_to_come_again(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.open.clear()
    first = asyncio.create_task(shop.post())
    await eventually(lambda: shop.sales == 1)
    with monkeypatch.context() as patched:  # for this one only: a slow machine may take longer where nobody waits
        patched.setattr(kit.web.idempotency, "WAIT_S", 0.05)
        late = await shop.post()
    assert (late.status_code, late.headers["retry-after"]) == (503, "1")
    shop.open.set()
    assert (await first).status_code == 201
    assert (await shop.post()).content == b"sale 1: tea"


async def test_a_crash_before_the_commit_leaves_neither_effect_nor_answer(shop: Shop) -> None:
    shop.crash = True
    assert (await shop.post()).status_code == 500
    assert await shop.stored() == await shop.stored("shop.idempotency") == 0
    shop.crash = False
    assert (await shop.post()).content == b"sale 2: tea"
    assert await shop.stored() == 1


@pytest.mark.parametrize("status", [402, 422, 503])
async def test_an_error_is_answered_rolled_back_and_not_remembered(shop: Shop, status: int) -> None:
    shop.status = status
    answer = await shop.post()
    assert (answer.status_code, answer.content) == (status, b"sale 1: tea")
    assert await shop.stored() == await shop.stored("shop.idempotency") == 0
    shop.status = 200
    assert (await shop.post()).content == b"sale 2: tea"


async def test_a_key_is_forgotten_after_its_time_and_not_before(shop: Shop) -> None:
    old, new = str(uuid4()), str(uuid4())
    for key, hours in ((old, 49), (new, 47)):
        await shop.post(key)
        await shop.database.execute(
            "UPDATE shop.idempotency SET created_at = now() - make_interval(hours => $2) WHERE key = $1", key, hours
        )
    assert await ended(shop.database, "shop", of_standard_tables("shop")[:1], datetime.now(UTC)) == {"responses": 1}
    assert REPLAYED_HEADER in (await shop.post(new)).headers
    assert REPLAYED_HEADER not in (await shop.post(old)).headers


async def test_who_has_no_token_has_no_keys_either(shop: Shop) -> None:
    shop.tokens.append("vso_nobody")
    assert (await shop.post(token=2)).status_code == 401
    assert shop.sales == 0
