"""Who did what: what is recorded of requests, who may read it, and the chain on a real PostgreSQL."""

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any
from uuid import UUID

import asyncpg
import httpx
import psycopg
import pytest
import schemathesis
from fastapi import APIRouter, Depends
from hypothesis import HealthCheck, Phase, given, settings
from prometheus_client import CollectorRegistry

from api.audit import examples
from api.audit.components import Audit
from api.audit.declaration import SERVICE
from api.audit.models import AuditPage
from api.audit.sealing import Sealer, verify
from api.audit.store import AuditStore, EntryCursor, EntryFilter, entries_query
from kit.audit.entry import SIDE_BYTES_MAX, Actor, entry_of
from kit.audit.recording import record
from kit.audit.writer import AuditWriter
from kit.auth.authenticator import Authenticator
from kit.auth.requirements import require_scope
from kit.auth.scopes import KINDS
from kit.auth.token_store import Principal, TokenStore
from kit.clock import ManualClock
from kit.config.runtime import RuntimeConfig
from kit.database.postgres import Database, open_database
from kit.web.app import make_app
from kit.web.problem import Problem
from kit.web.route_rules import counted
from kit.web.serving.server import serve
from tests.described import answers_as_described, asked_only_by, cases_of, described_are
from tests.serving import make_schemas, open_service
from tests.waiting import eventually
from voltstream.runtime.database import AUDIT_ROLE
from voltstream.settings import load_settings

PATH = "/api/v1/audit"
OPERATIONS = {("get", PATH): {"operator"}}
NOW = datetime(2026, 3, 29, 9, tzinfo=UTC)
Operator = Annotated[Principal, Depends(require_scope("stations:write"))]

things = APIRouter(prefix="/api/v1/things", include_in_schema=False)


@things.get("/{name}")
async def _read(name: str, _: Operator) -> str:
    return name


@things.post("/{name}")
async def _change(name: str, _: Operator) -> str:
    status = {"broken": 500, "wrong": 409, "often": 429}.get(name)
    if status is not None:
        raise Problem(status, "no")
    return name


@things.post("", dependencies=[Depends(require_scope("readings:write", heeds_stations=True)), Depends(counted)])
async def _many() -> None:
    """Too many to be recorded one by one."""


@dataclass
class Running:
    """The service, served, with a few routes to be audited."""

    client: httpx.AsyncClient
    tokens: Mapping[Any, str]
    clock: ManualClock
    url: str
    base_url: str
    database: Database  # in the service's role
    audit: Audit
    writer: AuditWriter
    store: AuditStore

    async def ask(self, method: str, path: str, who: str | None = "operator", **more: Any) -> httpx.Response:
        headers = {"x-correlation-id": f"{method} {path}"}
        if who is not None:
            headers["authorization"] = f"Bearer {self.tokens.get(who, who)}"
        return await self.client.request(method, path, headers=headers, **more)

    async def entries(self, **params: Any) -> list[dict[str, Any]]:
        """As an operator reads them, newest first; not those of the test's own tokens."""
        await self.writer.flush()
        answer = await self.ask("GET", PATH, params=params)
        assert answer.status_code == 200, answer.text
        return [entry for entry in answer.json()["entries"] if entry["action"] != "token.issued"]

    async def add(self, count: int, transaction: Any = None) -> None:
        """That many entries."""
        if transaction is None:
            async with self.database.transaction() as own:
                await self.add(count, own)
            return
        for number in range(count):
            await record(transaction, "thing.changed", f"thing/{number}", after={"number": number})

    async def sealed(self) -> None:
        """All that there is. A transaction of the server's own may be in the way for a while."""

        async def all_sealed() -> bool:
            await self.audit.sealer.run()
            return (await verify(self.database)).unsealed == 0

        await eventually(all_sealed, within_s=60)

    def as_owner(self, query: str, *args: Any) -> Any:
        with psycopg.connect(self.url) as connection:
            cursor = connection.execute(query.encode(), args)
            return cursor.fetchall() if cursor.description else None


@pytest.fixture
async def running(database_url: str) -> AsyncIterator[Running]:
    make_schemas(database_url, [SERVICE])
    clock = ManualClock(NOW)
    access = await open_database(database_url, name="access", connections_max=1)
    writing = await open_database(database_url, name="writing", role=AUDIT_ROLE, connections_max=1)
    tokens_store = TokenStore(access, Actor("cli/root"))
    tokens = {kind: (await tokens_store.issue(kind, subject="d-1" if kind == "driver" else None))[0] for kind in KINDS}
    app = make_app("audit", "0", registry=CollectorRegistry(), clock=clock)
    app.state.authenticator = Authenticator(tokens_store, clock)
    writer = AuditWriter(writing, clock, CollectorRegistry())
    app.state.audit = writer.requests
    config = RuntimeConfig(load_settings())
    app.include_router(things)
    try:
        async with (
            open_service(SERVICE, database_url, clock, app=app, config=config) as opened,
            serve(app, "127.0.0.1", 0) as server,
            httpx.AsyncClient(base_url=server.url, timeout=30, trust_env=False) as client,
        ):
            yield Running(
                client, tokens, clock, database_url, server.url, opened.database, opened.components, writer,
                AuditStore(opened.database),
            )  # fmt: skip
    finally:
        config.close()
        await access.close()
        await writing.close()


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


# -- The chain. -------------------------------------------------------------------------------------------------------


async def test_an_entry_waits_for_transactions_that_may_still_add_one_before_it(running: Running) -> None:
    other = Sealer(running.store, running.clock)
    before = await running.database.fetchval("SELECT count(*) FROM audit.entry")  # the tokens
    async with running.database.transaction() as slow:
        await running.add(1, slow)
        await running.add(2)
        assert (await running.audit.sealer.run(), await other.run()) == (0, 0)
        assert (await verify(running.database)).unsealed == before + 2
    await running.sealed()
    assert await other.run() == 0  # whose mark is an old one
    found = await verify(running.database)
    assert (found.entries, found.unsealed, found.faults) == (before + 3, 0, [])


async def test_two_writers_and_two_sealers_at_once(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.audit.sealing.BLOCK_ENTRIES_MAX", 7)
    done = asyncio.Event()

    async def write(seed: int) -> None:
        for number in range(30):
            async with running.database.transaction() as connection:
                await running.add(1 + (number + seed) % 3, connection)

    async def sealing() -> None:
        sealer = Sealer(running.store, running.clock)
        while not done.is_set():
            await sealer.run()

    sealers = [asyncio.create_task(sealing()) for _ in range(2)]
    await asyncio.gather(write(0), write(1))
    done.set()
    await asyncio.gather(*sealers)
    await running.sealed()
    found = await verify(running.database)
    total = await running.database.fetchval("SELECT count(*) FROM audit.entry")
    assert (found.entries, found.unsealed, found.faults) == (total, 0, [])
    assert found.blocks > 10


@pytest.mark.parametrize(
    ("tamper", "what"),
    [
        ("UPDATE audit.entry SET actor = 'operator/B' WHERE id = %s", "was changed"),
        ("UPDATE audit.entry SET after = '{\"number\": 9}' WHERE id = %s", "was changed"),
        ("DELETE FROM audit.entry WHERE id = %s", "was deleted"),
    ],
)
async def test_whoever_changes_a_sealed_entry_is_found(running: Running, tamper: str, what: str) -> None:
    await running.add(5)
    await running.sealed()
    await running.add(2)
    entry_id = running.as_owner("SELECT min(id) FROM audit.entry WHERE action = 'thing.changed'")[0][0]
    with psycopg.connect(running.url) as owner:
        owner.execute("ALTER TABLE audit.entry DISABLE TRIGGER entry_is_never_changed")
        owner.execute(tamper.encode(), (entry_id,))
    found = await verify(running.database)
    assert [(fault.entry_id, fault.what) for fault in found.faults] == [(entry_id, what)]
    assert found.unsealed == 2


async def test_no_role_changes_or_deletes_an_entry_and_its_owner_does_not_by_mistake(running: Running) -> None:
    await running.add(1)
    for statement in (
        "UPDATE audit.entry SET actor = ''", "DELETE FROM audit.entry", "TRUNCATE audit.entry",
        "INSERT INTO audit.entry (action) VALUES ('x')", "DELETE FROM audit.block", "UPDATE audit.block SET hash = ''",
    ):  # fmt: skip
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await running.database.execute(statement)
    with pytest.raises(psycopg.errors.RaiseException, match="are not changed"):
        running.as_owner("UPDATE audit.entry SET actor = ''")


async def test_entries_past_retention_are_deleted_by_whole_blocks_and_their_hashes_stay(running: Running) -> None:
    with psycopg.connect(running.url) as owner:  # in place of the test's tokens, entries of long ago
        owner.execute("ALTER TABLE audit.entry DISABLE TRIGGER entry_is_never_changed")
        owner.execute("TRUNCATE audit.entry")
        owner.execute(_OLD.encode(), ("2010-01-01", "2010-01-01"))
        owner.execute(_OLD.encode(), ("2010-01-01", "2010-01-02"))
        owner.execute("INSERT INTO audit.telemetry_minute VALUES ('2020-01-01', 'x', '{}', '{}', 1)")
    running.clock.set_wall(datetime(2010, 1, 3, tzinfo=UTC))
    await running.sealed()
    running.clock.set_wall(NOW)
    first = await running.store.head()
    await running.add(2)
    await running.sealed()
    assert await running.audit.retention.run() == 2
    assert await running.audit.retention.run() == 0
    assert running.as_owner("SELECT count(*) FROM audit.telemetry_minute") == [(0,)]
    newest, *others = await running.entries()
    assert (newest["action"], newest["entity"]) == ("audit.forgotten", "audit")
    assert newest["before"] == {"first_block": 1, "last_block": 1, "entries": 2}
    assert [entry["action"] for entry in others] == ["thing.changed"] * 2
    found = await verify(running.database)
    assert (found.forgotten_blocks, found.forgotten_entries, found.entries, found.faults) == (1, 2, 2, [])
    assert (found.forgotten_days_min or 0) > 5_000
    running.as_owner("UPDATE audit.block SET entries = 3 WHERE number = %s", first.number)
    assert [fault.what for fault in (await verify(running.database)).faults] == [
        "its header was changed", "retention deleted 2 entries up to it, and 3 were sealed"
    ]  # fmt: skip


async def test_nothing_young_is_deleted_whatever_the_process_says(running: Running) -> None:
    await running.add(1)
    await running.sealed()
    running.clock.set_wall(datetime(2100, 1, 1, tzinfo=UTC))
    assert await running.audit.retention.run() == 0
    with pytest.raises(asyncpg.RaiseError, match="last 360 days"):
        await running.store.forget(359, 1, 1)


_OLD = """
INSERT INTO audit.entry (at, recorded_at, action, actor, role, token, correlation_id, address, requests)
VALUES (%s, %s, 'request', 'operator/A', 'operator', 'stored', '', '', 1)
"""


async def test_a_sealer_that_is_killed_leaves_the_chain_whole(running: Running) -> None:
    script = f"""
import asyncio
from api.audit.sealing import Sealer
from api.audit import sealing
from api.audit.store import AuditStore, EntryCursor, EntryFilter, entries_query
from kit.clock import SystemClock
from kit.database.postgres import open_database
sealing.BLOCK_ENTRIES_MAX = 2
async def main():
    database = await open_database({running.url!r}, name="sealer", role="audit_service")
    sealer = Sealer(AuditStore(database), SystemClock())
    while True:
        await sealer.run()
asyncio.run(main())
"""
    await running.add(40)
    for _ in range(3):
        before = (await running.store.head()).number
        process = subprocess.Popen([sys.executable, "-c", script])  # noqa: ASYNC220  # our own words; killed below
        try:

            async def grown(before: int = before) -> bool:
                await running.add(3)
                return (await running.store.head()).number > before + 2

            await eventually(grown, within_s=60)
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()
    await running.sealed()
    found = await verify(running.database)
    assert (found.faults, found.unsealed) == ([], 0)
    assert found.blocks > 9


# -- What the chain cannot excuse, on a real PostgreSQL. --------------------------------------------------------------


_UNLISTED = "UPDATE audit.block SET entry_ids = NULL, digests = NULL, forgotten_at = now()"


@pytest.mark.parametrize("where", ["true", "number = 1"])
async def test_entries_that_were_deleted_with_their_lists_are_found(running: Running, where: str) -> None:
    for _ in range(3):
        await running.add(2)
        await running.sealed()
    blocks = (await running.store.head()).number
    assert blocks > 2
    running.as_owner(f"DELETE FROM audit.entry WHERE id <= (SELECT max(last_id) FROM audit.block WHERE {where})")
    running.as_owner(f"{_UNLISTED} WHERE {where}")
    found = await verify(running.database)
    gone = blocks if where == "true" else 1
    assert [(fault.block, fault.what) for fault in found.faults] == [
        (number, "its entries were deleted, and retention has no record of it") for number in range(1, gone + 1)
    ]
    assert (found.forgotten_blocks, found.forgotten_days_min) == (gone, None)


async def test_an_entry_whose_id_was_never_given_is_found(running: Running) -> None:
    await running.add(2)
    await running.sealed()
    insert = """
    INSERT INTO audit.entry (id, at, action, actor, role, token, correlation_id, address, requests)
    OVERRIDING SYSTEM VALUE VALUES (%s, now(), 'request', 'operator/A', '', '', '', '', 1)
    """
    with pytest.raises(psycopg.errors.CheckViolation):
        running.as_owner(insert, -5)
    running.as_owner("ALTER TABLE audit.entry DROP CONSTRAINT entry_id_check")
    for entry_id in (-5, 0, 1_000_000):
        running.as_owner(insert, entry_id)
    found = await verify(running.database)
    assert [(fault.entry_id, fault.what) for fault in found.faults] == [
        (entry_id, "was added with an id that was never given") for entry_id in (-5, 0, 1_000_000)
    ]


async def test_the_first_entry_of_all_is_sealed(running: Running) -> None:
    with psycopg.connect(running.url) as owner:
        owner.execute("ALTER TABLE audit.entry DISABLE TRIGGER entry_is_never_changed")
        owner.execute("TRUNCATE audit.entry RESTART IDENTITY")
    await running.audit.sealer.run()  # there is none yet
    await running.add(1)
    await running.sealed()
    assert (await verify(running.database)).entries == 1


async def test_a_clock_that_steps_back_leaves_nothing_unsealed_and_no_fault(running: Running) -> None:
    for step_s in (0, -7 * 86_400, 3_600, -60):
        running.clock.set_wall(running.clock.now() + timedelta(seconds=step_s))
        await running.add(2)
        await running.sealed()
    found = await verify(running.database)
    assert (found.unsealed, found.faults) == (0, [])


@pytest.mark.parametrize(
    "arguments", [(None, 1, 1), (360, None, 1), (360, 1, None), (0, 1, 1), (-1, 1, 1), (360, 0, 1), (360, 1, -5)]
)
async def test_retention_refuses_what_says_nothing_and_deletes_nothing(
    running: Running, arguments: tuple[int | None, ...]
) -> None:
    await running.add(2)
    await running.sealed()
    running.as_owner("INSERT INTO audit.telemetry_minute VALUES ('2020-01-01', 'x', '{}', '{}', 1)")
    before = running.as_owner("SELECT count(*), (SELECT count(*) FROM audit.telemetry_minute) FROM audit.entry")
    with pytest.raises(asyncpg.RaiseError):
        await running.database.execute("SELECT audit.forget($1, $2, $3)", *arguments)
    after = running.as_owner("SELECT count(*), (SELECT count(*) FROM audit.telemetry_minute) FROM audit.entry")
    assert after == before


async def test_retention_deletes_in_steps_of_a_bounded_size(running: Running) -> None:
    running.as_owner("""
    INSERT INTO audit.telemetry_minute
    SELECT '2020-01-01'::timestamptz + n * interval '1 min', 'x', '{}', '{}', 1 FROM generate_series(1, 2500) AS n
    """)
    steps = [(await running.store.forget(3_653, 1, 90)).minutes for _ in range(4)]
    assert steps == [1_000, 1_000, 500, 0]


async def test_what_a_clock_of_long_ago_recorded_is_kept_as_long_as_what_was_sealed_with_it(running: Running) -> None:
    running.as_owner(_OLD, "2010-01-01", "2010-01-01")
    await running.sealed()
    assert await running.audit.retention.run() == 0
    assert (await verify(running.database)).faults == []


# -- Many entries. ----------------------------------------------------------------------------------------------------

_MANY = """
INSERT INTO audit.entry (at, action, actor, role, token, method, endpoint, status, correlation_id, address, requests,
                         entity)
SELECT '2026-01-01'::timestamptz + n * interval '7 s',
       CASE WHEN n %% 1000 = 0 THEN 'setting.changed' ELSE 'request' END,
       'operator/' || n %% 500, 'operator', 'stored', 'POST', '/api/v1/things/' || n %% 40,
       CASE WHEN n %% 1000 = 0 THEN NULL WHEN n %% 700 = 0 THEN 403 ELSE 200 END, 'c' || n, '192.0.2.1', 1,
       CASE WHEN n %% 1000 = 0 THEN 'setting/' || n %% 7 END
FROM generate_series(1, 120000) AS n
"""
_QUESTIONS: dict[str, EntryFilter] = {
    "all": EntryFilter(),
    "actor": EntryFilter(actor="operator/7"),
    "actor, who did nothing": EntryFilter(actor="operator/x"),
    "action": EntryFilter(action="setting.changed"),
    "endpoint": EntryFilter(endpoint="/api/v1/things/7"),
    "status": EntryFilter(status=403),
    "entity": EntryFilter(entity="setting/3"),
    "request": EntryFilter(correlation_id="c77777"),
    "time": EntryFilter(start=datetime(2026, 1, 3, tzinfo=UTC), end=datetime(2026, 1, 4, tzinfo=UTC)),
    "actor and time": EntryFilter(actor="operator/7", end=datetime(2026, 1, 3, tzinfo=UTC)),
    "actor and status": EntryFilter(actor="operator/7", status=200),
}


def _nodes(plan: dict[str, Any]) -> list[dict[str, Any]]:
    return [plan, *(node for inner in plan.get("Plans", ()) for node in _nodes(inner))]


async def test_no_question_reads_more_than_it_answers_of_many_entries(running: Running) -> None:
    """By the plan that PostgreSQL runs: by an index, with few rows that are read in vain."""
    running.as_owner(_MANY)
    with psycopg.connect(running.url, autocommit=True) as owner:
        owner.execute("VACUUM ANALYZE audit.entry")
    cursor = EntryCursor(int(datetime(2026, 1, 6, tzinfo=UTC).timestamp() * 1_000_000), 1)
    for name, wanted in _QUESTIONS.items():
        for after in (None, cursor):
            query, arguments = entries_query(wanted, after, 101)
            explained = await running.database.fetchval(f"EXPLAIN (ANALYZE, FORMAT JSON) {query}", *arguments)
            nodes = _nodes(json.loads(explained)[0]["Plan"])
            scans = [node for node in nodes if "Scan" in node["Node Type"]]
            assert all("Index" in one["Node Type"] or "Bitmap" in one["Node Type"] for one in scans), (name, explained)
            read = sum(one["Actual Rows"] + one.get("Rows Removed by Filter", 0) for one in scans)
            assert read <= 2_000, (name, read, explained)
