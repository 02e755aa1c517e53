"""A question that takes too long is answered with its mend, and holds up nobody else's."""

import asyncio
from collections.abc import AsyncIterator

import httpx
import psycopg
import pytest
from prometheus_client import CollectorRegistry

from api.telemetry.declaration import SERVICE
from kit.auth.authenticator import Authenticator
from kit.auth.token_store import TokenStore
from kit.clock import SystemClock
from kit.database.postgres import open_database
from kit.live.view import InProcessLive
from kit.web.app import make_app
from kit.web.serving.server import serve
from tests.serving import open_service


@pytest.fixture
async def clients(telemetry_url: str) -> AsyncIterator[list[httpx.AsyncClient]]:
    """Of two operators. Their questions have 1 s."""
    clock, live = SystemClock(), InProcessLive()
    access = await open_database(telemetry_url, name="access", connections_max=2)
    store = TokenStore(access)
    app = make_app("queries", "0", registry=CollectorRegistry())
    app.state.authenticator = Authenticator(store, clock)
    tokens = [(await store.issue("operator"))[0] for _ in range(2)]
    try:
        async with (
            open_service(SERVICE, telemetry_url, clock, app=app, live=live, query_s_max=1.0) as service,
            serve(app, "127.0.0.1", 0) as server,
            httpx.AsyncClient(base_url=server.url, headers={"Authorization": f"Bearer {tokens[0]}"}, timeout=30) as one,
            httpx.AsyncClient(base_url=server.url, headers={"Authorization": f"Bearer {tokens[1]}"}, timeout=30) as two,
        ):
            yield [one, two]
            await service.components.streams.close()
    finally:
        await live.close()
        await access.close()


async def test_a_question_that_waits_is_a_503_with_its_mend_and_others_are_answered(
    clients: list[httpx.AsyncClient], telemetry_url: str
) -> None:
    heavy, other = clients
    with psycopg.connect(telemetry_url) as connection:
        connection.execute("LOCK TABLE telemetry.quarantine")
        asked = [asyncio.create_task(heavy.get("/api/v1/telemetry/quarantine")) for _ in range(12)]
        assert (await other.get("/api/v1/telemetry/ledger")).status_code == 200
        assert not any(task.done() and task.result().status_code == 200 for task in asked)
        answers = await asyncio.gather(*asked)
        connection.rollback()
    assert {answer.status_code for answer in answers} == {503}
    assert all(answer.headers["retry-after"] for answer in answers)
    details = {answer.json()["detail"] for answer in answers}
    assert any("ask for less" in detail for detail in details), details
    assert (await heavy.get("/api/v1/telemetry/quarantine")).status_code == 200
