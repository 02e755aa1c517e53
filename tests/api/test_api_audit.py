"""Who did what: what is recorded of requests, and who may read it."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings

from api.audit import examples
from api.audit.models import AuditPage
from kit.audit.entry import SIDE_BYTES_MAX, Actor, entry_of
from kit.audit.recording import record
from kit.auth.scopes import KINDS
from kit.auth.token_store import TokenStore
from kit.database.postgres import open_database
from tests.api.audit_app import NOW, PATH, Running, running_audit
from tests.described import answers_as_described, asked_only_by, cases_of, described_are

OPERATIONS = {("get", PATH): {"operator"}}


@pytest.fixture
async def running(database_url: str) -> AsyncIterator[Running]:
    async with running_audit(database_url) as opened:
        yield opened


# -- What is recorded. ------------------------------------------------------------------------------------------------


async def test_a_change_is_recorded_with_who_what_and_from_where_and_a_question_is_not(running: Running) -> None:
    assert (await running.ask("GET", "/api/v1/things/x")).status_code == 200
    assert (await running.ask("POST", "/api/v1/things/x")).status_code == 200
    assert (await running.ask("POST", "/api/v1/things/wrong")).status_code == 409  # nothing was changed
    assert (await running.ask("POST", "/api/v1/things/broken")).status_code == 500  # something may have been
    broken, changed = await running.entries()
    expected = {
        "action": "request", "role": "operator", "token": "stored", "method": "POST", "address": "127.0.0.1",
        "endpoint": "/api/v1/things/{name}", "requests": 1, "entity": None,
    }  # fmt: skip
    assert changed.items() >= {**expected, "status": 200, "correlation_id": "POST /api/v1/things/x"}.items()
    assert broken.items() >= {**expected, "status": 500}.items()
    assert changed["actor"] == f"operator/{changed['token_id']}"
    assert running.tokens["operator"] not in str(changed)


async def test_who_is_not_allowed_is_recorded_once_and_counted(running: Running) -> None:
    unknown = "vso_" + "x" * 43
    for who in ("driver", "driver", "driver", None, unknown):
        await running.ask("GET", "/api/v1/things/x", who)
    await running.ask("POST", "/api/v1/things/often")
    often, stranger, driver = await running.entries()
    assert (driver["actor"], driver["status"], driver["requests"]) == ("driver/d-1", 403, 1)
    assert (stranger["actor"], stranger["status"], stranger["token_id"]) == ("anonymous", 401, None)
    assert (often["actor"], often["status"]) == (f"operator/{often['token_id']}", 429)
    running.clock.advance(60)
    running.writer.close_minute()
    counted_entries = await running.entries(action="request.refused", limit=2)
    assert {(entry["actor"], entry["requests"]) for entry in counted_entries} == {("driver/d-1", 2), ("anonymous", 1)}


async def test_what_comes_too_often_is_counted_by_token_and_minute(running: Running) -> None:
    for _ in range(3):
        assert (await running.ask("POST", "/api/v1/things", "device")).status_code == 200
    await running.ask("POST", "/api/v1/things", "driver")
    running.writer.close_minute()
    (refused,) = await running.entries()
    assert refused["status"] == 403
    rows = running.as_owner("SELECT minute, requests, others FROM audit.telemetry_minute")
    assert rows == [(NOW, [3], 0)]


async def test_while_the_database_is_away_nothing_waits_and_what_is_lost_is_counted(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kit.audit.writer.QUEUED_MAX", 2)
    for name in "abcd":
        assert (await running.ask("POST", f"/api/v1/things/{name}")).status_code == 200
    entries = await running.entries()
    assert {(entry["action"], entry["requests"]) for entry in entries} == {("request", 1), ("audit.lost", 2)}
    assert len(entries) == 3


async def test_an_entry_that_the_database_refuses_takes_no_other_with_it(running: Running) -> None:
    for name in "ab":
        await running.ask("POST", f"/api/v1/things/{name}")
    bad = entry_of(Actor("x\0"), at=None, action="request", correlation_id="")
    running.writer.put(bad)
    await running.ask("POST", "/api/v1/things/c")
    assert [entry["correlation_id"][-1] for entry in await running.entries()] == ["c", "b", "a"]


async def test_a_change_and_its_entry_are_one_transaction(running: Running) -> None:
    async def fail() -> None:
        async with running.database.transaction() as connection:
            await running.add(1, connection)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    assert await running.entries() == []
    async with running.database.transaction() as connection:
        await running.add(1, connection)
    (entry,) = await running.entries()
    assert (entry["actor"], entry["entity"], entry["after"]) == ("system", "thing/0", {"number": 0})


async def test_of_what_is_too_long_the_hash_is_kept(running: Running) -> None:
    async with running.database.transaction() as connection:
        await record(connection, "thing.changed", "thing/1", after="x" * SIDE_BYTES_MAX)
    (entry,) = await running.entries()
    assert entry["after"]["omitted_bytes"] == SIDE_BYTES_MAX + 2


async def test_a_token_is_issued_and_revoked_by_somebody(running: Running) -> None:
    issued = (await running.ask("GET", PATH, params={"action": "token.issued", "limit": 1})).json()["entries"][0]
    assert (issued["actor"], issued["after"]["kind"]) == ("cli/root", KINDS[-1])
    token_id = UUID(issued["entity"].removeprefix("token/"))
    database = await open_database(running.url, name="owner")
    try:
        store = TokenStore(database, Actor("cli/ada"))
        assert await store.revoke(token_id)
        assert not await store.revoke(token_id)
    finally:
        await database.close()
    (revoked,) = await running.entries(entity=issued["entity"], action="token.revoked")
    assert (revoked["actor"], revoked["before"]) == ("cli/ada", issued["after"])


# -- Who reads it. ----------------------------------------------------------------------------------------------------


async def test_every_operation_is_described_and_for_operators_alone(running: Running) -> None:
    await described_are(running.client, OPERATIONS)
    for (method, path), kinds in OPERATIONS.items():
        await asked_only_by(running.client, running.tokens, method, path, kinds)
    AuditPage.model_validate(examples.PAGE)


async def test_no_question_is_a_server_error_or_answered_otherwise_than_described(running: Running) -> None:
    await running.add(3)
    schema = schemathesis.openapi.from_dict((await running.client.get("/openapi.json")).json())
    headers = {"authorization": f"Bearer {running.tokens['operator']}"}

    @settings(max_examples=60, suppress_health_check=list(HealthCheck), phases=[Phase.generate])
    @given(case=cases_of(schema[PATH]["get"]))
    def ask(case: schemathesis.Case[Any]) -> None:
        answers_as_described(case, running.base_url, headers)

    await asyncio.to_thread(ask)


async def test_filters_and_pages(running: Running) -> None:
    for number in range(7):
        running.clock.advance(1)
        await running.ask("POST", f"/api/v1/things/{number}")
    await running.ask("GET", "/api/v1/things/x", "driver")
    ids = [entry["id"] for entry in await running.entries(action="request")]
    assert len(ids) == 7
    paged, following = [], f"{PATH}?action=request&limit=3"
    while following:
        page = (await running.ask("GET", following)).json()
        paged += [entry["id"] for entry in page["entries"]]
        following = page["next"]
    assert paged == ids == sorted(ids, reverse=True)
    since, until = NOW + timedelta(seconds=2), NOW + timedelta(seconds=4)
    between = await running.entries(**{"from": since.isoformat(), "to": until.isoformat(), "action": "request"})
    assert [entry["correlation_id"][-1] for entry in between] == ["2", "1"]
    assert [entry["status"] for entry in await running.entries(status=403)] == [403]
    assert len(await running.entries(actor="driver/d-1", endpoint="/api/v1/things/{name}")) == 1
    assert await running.entries(entity="thing/1") == []
    wrong = await running.ask("GET", PATH, params={"from": "2026-02-01", "to": "2026-01-01"})
    assert wrong.status_code == 422
