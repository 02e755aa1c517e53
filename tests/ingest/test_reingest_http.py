"""The replay over HTTP: who may ask, that it is as described, and that the same request is done once."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx
import psycopg
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from prometheus_client import CollectorRegistry

from api.telemetry.store import QuarantineCursor
from ingest.reingest.declaration import SERVICE
from ingest.reingest.models import EXAMPLE, ReplayAnswer, ReplayCursor
from ingest.reingest.routes import PATH
from kit.auth.authenticator import Authenticator
from kit.auth.token_store import TokenStore
from kit.clock import ManualClock, from_ms
from kit.database.postgres import open_database
from kit.live.view import InProcessLive
from kit.web.app import make_app
from kit.web.paging import encode_cursor
from kit.web.serving.server import serve
from tests.described import answers_as_described, asked_only_by, cases_of, described_are, takes_or_refuses
from tests.ingest.reingest_app import ALL, Stream, fill, make_tables, marked
from tests.ingest.test_reingest import rows_of
from tests.ingest.wire_strategies import NOW_MS
from tests.serving import open_service

OPERATIONS = {("post", PATH)}


@dataclass
class App:
    """A served replay."""

    client: httpx.AsyncClient  # with an operator's token
    base_url: str
    tokens: dict[str, str]
    bound: str  # an operator's, for station S2
    stream: Stream
    url: str


@pytest.fixture
async def app(database_url: str) -> AsyncIterator[App]:
    """With three items that wait, and can be readings now."""
    make_tables(database_url)
    fill(database_url, rows_of(3))
    clock, live, stream = ManualClock(from_ms(NOW_MS)), InProcessLive(), Stream()
    access = await open_database(database_url, name="access", connections_max=1)
    store = TokenStore(access)
    tokens = {
        kind: (await store.issue(kind, subject="driver-1" if kind == "driver" else None))[0]
        for kind in ("device", "operator", "finance", "driver")
    }
    bound, _ = await store.issue("operator", stations=["S2"])
    web = make_app("reingest", "0", registry=CollectorRegistry())
    web.state.authenticator = Authenticator(store, clock)
    bearer = {"Authorization": f"Bearer {tokens['operator']}"}
    try:
        async with (
            open_service(SERVICE, database_url, clock, app=web, live=live, writer=stream),
            serve(web, "127.0.0.1", 0) as server,
            httpx.AsyncClient(base_url=server.url, headers=bearer, timeout=30) as client,
        ):
            yield App(client, server.url, dict(tokens), bound, stream, database_url)
    finally:
        await live.close()
        await access.close()


async def test_operators_ask_and_it_is_described(app: App) -> None:
    await asked_only_by(app.client, app.tokens, "POST", PATH, {"operator"})
    await described_are(app.client, OPERATIONS)
    ReplayAnswer.model_validate(EXAMPLE)


async def test_the_same_key_replays_once_and_answers_the_same(app: App) -> None:
    asked = [app.client.post(PATH, json=ALL, headers={"Idempotency-Key": "k"}) for _ in range(3)]
    answers = await asyncio.gather(*asked)
    assert [one.status_code for one in answers] == [200] * 3, [one.text for one in answers]
    assert {one.content for one in answers} == {answers[0].content}
    assert (answers[0].json()["replayed"], app.stream.accepted, marked(app.url)) == (3, 3, {1, 2, 3})
    other = await app.client.post(PATH, json={**ALL, "limit": 1}, headers={"Idempotency-Key": "k"})
    assert other.status_code == 409


async def test_a_dry_run_waits_for_no_replay_and_leaves_its_key(app: App) -> None:
    with psycopg.connect(app.url) as holder:
        holder.execute("SELECT FROM telemetry.quarantine FOR UPDATE")
        headers = {"Idempotency-Key": "k"}
        dry = await app.client.post(PATH, json={**ALL, "dry_run": True}, headers=headers)
        assert (dry.status_code, dry.json()["replayed"], app.stream.accepted) == (200, 3, 0)
    done = await app.client.post(PATH, json=ALL, headers=headers)
    assert (done.status_code, done.json()["replayed"], marked(app.url)) == (200, 3, {1, 2, 3})


async def test_a_token_for_some_stations_is_one_to_replay_with(app: App) -> None:
    bearer = {"Authorization": f"Bearer {app.bound}"}
    answer = await app.client.post(PATH, json=ALL, headers=bearer)
    assert (answer.status_code, [one["id"] for one in answer.json()["refused"]]) == (200, [2]), "S2's, but of CP1"
    assert (await app.client.post(PATH, json={"station_id": "S1"}, headers=bearer)).status_code == 403
    assert marked(app.url) == set()


async def test_a_cursor_of_another_page_is_refused(app: App) -> None:
    for cursor in ("", "x", "17", encode_cursor(QuarantineCursor(1))):
        assert (await app.client.post(PATH, json={**ALL, "cursor": cursor})).status_code == 422


async def test_a_log_that_is_away_is_a_503_and_the_same_key_may_be_used_again(app: App) -> None:
    app.stream.faults = ["before"] * 2
    headers = {"Idempotency-Key": "k"}
    away = await app.client.post(PATH, json=ALL, headers=headers)
    assert (away.status_code, bool(away.headers["retry-after"])) == (503, True)
    app.stream.faults = []
    again = await app.client.post(PATH, json=ALL, headers=headers)
    assert (again.status_code, again.json()["replayed"], len(app.stream.stored)) == (200, 3, 3)


async def test_no_request_is_a_server_error_or_answered_otherwise_than_described(app: App) -> None:
    schema = schemathesis.openapi.from_dict((await app.client.get("/openapi.json")).json())
    headers = {"authorization": f"Bearer {app.tokens['operator']}"}

    @settings(max_examples=60, suppress_health_check=list(HealthCheck), phases=[Phase.generate])
    @given(case=cases_of(schema[PATH]["POST"]))
    def ask(case: schemathesis.Case[Any]) -> None:
        answers_as_described(case, app.base_url, headers)

    await asyncio.to_thread(ask)


async def test_anything_anywhere_in_a_body_is_taken_or_refused(app: App) -> None:
    good = {
        "ids": [1, 2],
        "reason": "ts_future",
        "from": "2026-01-01",
        "cursor": encode_cursor(ReplayCursor(0, 9)),
        "limit": 10,
        "dry_run": False,
    }
    await takes_or_refuses(app.client, "POST", PATH, good, examples=100)


async def test_a_replay_is_audited_once_and_a_dry_run_is_not(app: App) -> None:
    def entries() -> list[tuple[Any, ...]]:
        query = "SELECT actor, entity, before, after FROM audit.entry WHERE action = 'quarantine.replayed'"
        with psycopg.connect(app.url) as connection:
            return connection.execute(query).fetchall()

    await app.client.post(PATH, json={**ALL, "dry_run": True})
    app.stream.faults = ["before"] * 2
    assert (await app.client.post(PATH, json=ALL, headers={"Idempotency-Key": "k"})).status_code == 503
    app.stream.faults = []
    assert entries() == []
    for _ in range(2):
        assert (await app.client.post(PATH, json=ALL, headers={"Idempotency-Key": "k"})).status_code == 200
    assert (await app.client.post(PATH, json=ALL)).json()["replayed"] == 0
    ((actor, entity, before, after),) = entries()
    assert (actor.partition("/")[0], entity, before) == ("operator", "quarantine", None)
    assert after == {"items": [1, 2, 3], "readings": 3, "refused": 0}
