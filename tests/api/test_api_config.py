"""Settings and flags over HTTP: what may be set, who may, what is recorded, and what a dry run says."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import httpx
import msgspec
import psycopg
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from pydantic import BaseModel

from api.config import examples
from api.config import service as config_service
from api.config.declaration import SERVICE
from api.config.models import ConfigChange, ConfigHistory, NewRule, NewValue, Setting, SettingList
from api.stations.declaration import SERVICE as STATIONS
from kit.auth.authenticator import Authenticator
from kit.auth.token_store import TokenStore
from kit.clock import ManualClock
from kit.config.flags import FlagRule, FlagSubject
from kit.config.runtime import RuntimeConfig
from kit.database.postgres import open_database
from kit.database.roles import Grant, ensure_roles
from kit.web.app import make_app
from kit.web.serving.server import serve
from schemas.events import ConfigUpdated, Event
from tests.described import answers_as_described, asked_only_by, cases_of, described_are, takes_or_refuses
from tests.serving import make_schemas, open_service
from voltstream.runtime.config_updates import CONTRACT, ROLE, read_snapshot
from voltstream.services import setting_owners
from voltstream.settings import load_settings

PATH = "/api/v1/config"
NOW = datetime(2026, 3, 29, 9, 0, tzinfo=UTC)
READERS, WRITERS = {"operator", "finance"}, {"operator"}
OPERATIONS = {
    ("get", PATH): READERS,
    ("post", PATH): WRITERS,
    ("get", f"{PATH}/flags"): READERS,
    ("post", f"{PATH}/flags"): WRITERS,
    ("get", f"{PATH}/history"): READERS,
    ("get", f"{PATH}/{{name}}"): READERS,
    ("delete", f"{PATH}/{{name}}"): WRITERS,
}
SETTLE, DEMAND = "billing.settle_time", "pricing.demand"
TENTH = {"enabled": True, "percentage": 10}


@dataclass
class Config:
    """The service, served."""

    client: httpx.AsyncClient  # with an operator's token
    tokens: dict[str, str]
    clock: ManualClock
    url: str
    base_url: str

    async def ask(
        self, method: str, path: str, status: int, body: Any = None, who: str = "operator", **more: Any
    ) -> Any:
        """The answer's JSON, after a look at its status. `more`: of the query."""
        headers = {"authorization": f"Bearer {self.tokens[who]}"}
        answer = await self.client.request(method, PATH + path, json=body, params=more or None, headers=headers)
        assert answer.status_code == status, answer.text
        return answer.json()

    async def put(self, name: str, value: Any, version: int = 0, status: int = 200, **query: Any) -> Any:
        """Set a value."""
        body = {"name": name, "value": value, "version": version, "reason": "a test"}
        return await self.ask("POST", "", status, body, **query)

    async def rule(self, rule: Any, version: int = 0, status: int = 200, name: str = DEMAND, **query: Any) -> Any:
        """Set a flag's rule."""
        body = {"name": name, "rule": rule, "version": version, "reason": "a test"}
        return await self.ask("POST", "/flags", status, body, **query)

    async def value(self, name: str) -> Any:
        """In force."""
        return (await self.ask("GET", f"/{name}", 200))["value"]

    def rows(self, query: str, *args: Any) -> list[tuple[Any, ...]]:
        """Of a query by the owner of the tables."""
        with psycopg.connect(self.url) as connection:
            return connection.execute(query.encode(), args).fetchall()

    def events(self) -> list[Event[ConfigUpdated]]:
        """What the outbox holds, in order; all of it is to be broadcast."""
        rows = self.rows("SELECT exchange, routing_key, body FROM config.outbox ORDER BY id")
        assert {row[:2] for row in rows} <= {("fanout_broadcast", "config.updated")}
        return [msgspec.json.decode(row[2], type=Event[ConfigUpdated]) for row in rows]


@asynccontextmanager
async def running_config(url: str) -> AsyncIterator[Config]:
    """The service, served from that empty database."""
    make_schemas(url, [STATIONS, SERVICE])
    clock = ManualClock(NOW)
    access = await open_database(url, name="access", connections_max=1)
    store = TokenStore(access)
    tokens = {
        kind: (await store.issue(kind, subject="driver-1" if kind == "driver" else None))[0]
        for kind in ("device", "operator", "finance", "driver")
    }
    app = make_app("config", "0", registry=CollectorRegistry())
    app.state.authenticator = Authenticator(store, clock)
    own = load_settings()
    runtime = RuntimeConfig(own, setting_owners())
    try:
        async with (
            open_service(SERVICE, url, clock, app=app, settings=own, config=runtime),
            serve(app, "127.0.0.1", 0) as server,
            httpx.AsyncClient(base_url=server.url, timeout=30, trust_env=False) as client,
        ):
            yield Config(client, tokens, clock, url, server.url)
    finally:
        runtime.close()
        await access.close()


@pytest.fixture
async def config(database_url: str) -> AsyncIterator[Config]:
    """Served, with nothing set."""
    async with running_config(database_url) as running:
        yield running


async def test_every_setting_is_shown_with_its_bounds_its_owner_and_where_it_is_from(config: Config) -> None:
    shown = await config.ask("GET", "", 200)
    assert shown["revision"] == 0
    names = [one["name"] for one in shown["settings"]]
    assert names == sorted(names)
    assert {SETTLE, DEMAND, "billing.paused", "sessions.void_time", "telemetry.raw_retention"} <= set(names)
    by_name = {one["name"]: one for one in shown["settings"]}
    assert by_name[SETTLE] == examples.SETTING_BEFORE
    assert by_name["telemetry.raw_retention"]["used_by"] == ["worker", "gateway"]
    assert {one["source"] for one in shown["settings"]} == {"default"}
    assert await config.ask("GET", f"/{SETTLE}", 200) == by_name[SETTLE]
    flags = await config.ask("GET", "/flags", 200)
    assert [one["name"] for one in flags["settings"]] == [DEMAND, "sessions.remote_start"]


async def test_what_is_set_is_in_force_and_recorded_with_before_and_after(config: Config) -> None:
    change = await config.put(SETTLE, 120)
    assert (change["changes"], change["touches"]) == (True, ["billing"])
    assert (change["before"]["value"], change["after"]["value"]) == (60, 120)
    shown = await config.ask("GET", f"/{SETTLE}", 200)
    assert shown == change["after"]
    assert (shown["version"], shown["source"], shown["changed_at"]) == (1, "service", "2026-03-29T09:00:00Z")
    assert shown["changed_by"].startswith("operator/")
    config.clock.advance(60)
    await config.put(SETTLE, 90, version=1)
    history = (await config.ask("GET", "/history", 200))["changes"]
    assert [(one["revision"], one["version"], one["before"], one["after"]) for one in history] == [
        (2, 2, {"value": 120}, {"value": 90}),
        (1, 1, None, {"value": 120}),
    ]
    assert [(one.payload.revision, one.payload.before, one.payload.after) for one in config.events()] == [
        (1, None, {"value": 120}),
        (2, {"value": 120}, {"value": 90}),
    ]
    assert (await config.ask("GET", "", 200))["revision"] == 2


async def test_a_reset_is_back_at_the_default_and_versions_go_on(config: Config) -> None:
    await config.put(SETTLE, 120)
    change = await config.ask("DELETE", f"/{SETTLE}", 200, version=1, reason="done")
    assert (change["after"]["value"], change["after"]["source"], change["after"]["version"]) == (60, "default", 2)
    await config.put(SETTLE, 120, status=409)
    await config.put(SETTLE, 180, version=2)
    assert await config.value(SETTLE) == 180
    assert [event.payload.after for event in config.events()] == [{"value": 120}, None, {"value": 180}]


async def test_whoever_read_an_older_version_is_refused_and_changes_nothing(config: Config) -> None:
    await config.put(SETTLE, 120)
    for version in (0, 2):
        refused = await config.put(SETTLE, 180, version=version, status=409)
        assert "is at version 1" in refused["detail"]
    assert await config.value(SETTLE) == 120
    assert len(config.events()) == 1


async def test_of_operators_who_change_one_setting_at_once_one_does(config: Config) -> None:
    body = {"name": SETTLE, "version": 0, "reason": "a race"}
    headers = {"authorization": f"Bearer {config.tokens['operator']}"}
    answers = await asyncio.gather(
        *(config.client.post(PATH, json={**body, "value": 100 + n}, headers=headers) for n in range(8))
    )
    assert sorted(answer.status_code for answer in answers) == [200, *[409] * 7]
    others = await asyncio.gather(*(config.put(name, 1) for name in ("sessions.void_energy", "gateway.age_max")))
    assert len(others) == 2
    revisions = [row[0] for row in config.rows("SELECT revision FROM config.change ORDER BY revision")]
    assert revisions == [1, 2, 3], "of one configuration, without gaps"


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        (SETTLE, -1, "greater than or equal to 0"),
        (SETTLE, 86_401, "less than or equal to 86400"),
        (SETTLE, "60", "valid integer"),
        (SETTLE, 60.5, "valid integer"),
        (SETTLE, True, "valid integer"),
        (SETTLE, 700, "give the bound at least as long"),
        ("billing.settle_time_max", 30, "give the bound at least as long"),
        ("billing.paused", 1, "valid boolean"),
        (DEMAND, True, "set its rule with POST /api/v1/config/flags"),
    ],
)
async def test_a_value_that_cannot_be_is_refused_with_the_reason(
    config: Config, name: str, value: Any, says: str
) -> None:
    before = await config.value(name)
    assert says in (await config.put(name, value, status=422))["detail"]
    assert (await config.value(name), config.events()) == (before, [])


async def test_an_unknown_setting_is_not_found_with_the_nearest_name(config: Config) -> None:
    for method, path, body in (
        ("GET", "/billing.settel_time", None),
        ("POST", "", {"name": "billing.settel_time", "value": 1, "version": 0, "reason": "x"}),
        ("POST", "/flags", {"name": "billing.settel_time", "rule": TENTH, "version": 0, "reason": "x"}),
        ("DELETE", "/billing.settel_time?version=0&reason=x", None),
        ("GET", "/history?name=billing.settel_time", None),
    ):
        assert "did you mean billing.settle_time" in (await config.ask(method, path, 404, body))["detail"]
    assert "no flag" in (await config.rule(TENTH, name=SETTLE, status=422))["detail"]


async def test_a_dry_run_says_what_would_change_and_changes_nothing(config: Config) -> None:
    planned = await config.put(SETTLE, 120, dry_run="true")
    assert planned["dry_run"] is True
    assert (planned["before"]["value"], planned["after"]["value"], planned["touches"]) == (60, 120, ["billing"])
    assert (await config.put(SETTLE, 60, dry_run="true"))["changes"] is False
    assert await config.value(SETTLE) == 60
    assert (await config.ask("GET", "/history", 200))["changes"] == []
    assert config.events() == []
    made = await config.put(SETTLE, 120)
    assert {**made, "dry_run": True} == planned
    await config.put(SETTLE, 120, status=409, dry_run="true")


async def test_a_dry_run_uses_up_no_idempotency_key(config: Config) -> None:
    body = {"name": SETTLE, "value": 120, "version": 0, "reason": "x"}
    headers = {"authorization": f"Bearer {config.tokens['operator']}", "idempotency-key": "k1"}
    for dry_run in ("true", "false"):
        answer = await config.client.post(PATH, json=body, headers=headers, params={"dry_run": dry_run})
        assert answer.status_code == 200, answer.text
    assert await config.value(SETTLE) == 120


async def test_what_is_set_already_is_not_set_again(config: Config) -> None:
    nothing = await config.ask("DELETE", f"/{SETTLE}", 200, version=0, reason="x")
    assert (nothing["changes"], nothing["after"]["version"]) == (False, 0)
    made = await config.put(SETTLE, 120)
    again = await config.put(SETTLE, 120, version=1)
    assert (again["changes"], again["before"], again["after"]) == (False, made["after"], made["after"])
    await config.rule(TENTH)
    assert (await config.rule(TENTH, version=1))["after"]["version"] == 1
    assert len((await config.ask("GET", "/history", 200))["changes"]) == len(config.events()) == 2


async def test_a_dry_run_of_a_flag_counts_the_stations_that_it_touches(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"ST-{number:03d}" for number in range(200)]
    with psycopg.connect(config.url) as connection:
        for name in names:
            connection.execute("INSERT INTO stations.station (station_id, changed_at) VALUES (%s, now())", (name,))
    rule = FlagRule.model_validate({**TENTH, "targets": {"stations": ["st-001"]}})
    on = [name for name in names if rule.decide(DEMAND, FlagSubject(station_id=name))[0]]
    planned = await config.rule(rule.model_dump(mode="json"), dry_run="true")
    assert planned["stations"] == {
        "looked_at": 200,
        "turned_on": 0,
        "turned_off": 200 - len(on),
        "examples": [name for name in names if name not in on][:20],
    }
    await config.rule(rule.model_dump(mode="json"))
    more = await config.rule({**rule.model_dump(mode="json"), "percentage": 20}, version=1, dry_run="true")
    assert more["stations"]["turned_off"] == 0, "a higher percentage only adds"
    assert more["stations"]["turned_on"] > 0
    monkeypatch.setattr(config_service, "STATIONS_MAX", 5)
    assert (await config.rule(TENTH, version=1, dry_run="true"))["stations"]["looked_at"] == 5


async def test_a_rule_is_shown_as_it_was_set(config: Config) -> None:
    await config.rule(examples.RULE)
    flag = (await config.ask("GET", "/flags", 200))["settings"][0]
    assert (flag["rule"], flag["value"], flag["source"]) == (examples.RULE, False, "flag")
    assert (await config.ask("GET", f"/{DEMAND}", 200)) == flag


async def test_the_history_in_pages_is_every_change_once(config: Config) -> None:
    for version in range(7):
        await config.put(SETTLE, 100 + version, version=version)
    await config.put("billing.paused", True)
    seen: list[int] = []
    address: str | None = f"{PATH}/history?limit=3"
    headers = {"authorization": f"Bearer {config.tokens['operator']}"}
    while address:
        page = (await config.client.get(address, headers=headers)).json()
        seen += [one["revision"] for one in page["changes"]]
        address = page["next"]
        await config.put("gateway.age_max", 10 + len(seen), version=await _version(config, "gateway.age_max"))
    assert seen == list(range(8, 0, -1))
    own = (await config.ask("GET", "/history", 200, name="billing.paused"))["changes"]
    assert [one["revision"] for one in own] == [8]
    assert "cursor" in (await config.ask("GET", "/history", 422, cursor="x"))["detail"]


async def _version(config: Config, name: str) -> int:
    return int((await config.ask("GET", f"/{name}", 200))["version"])


async def test_finance_sees_the_settings_of_money_and_no_other(config: Config) -> None:
    await config.put(SETTLE, 120)
    await config.put("gateway.age_max", 10)
    seen = await config.ask("GET", "", 200, who="finance")
    names = {one["name"] for one in seen["settings"]}
    assert SETTLE in names
    assert "gateway.age_max" not in names
    await config.ask("GET", "/gateway.age_max", 404, who="finance")
    await config.ask("GET", "/history", 404, who="finance", name="gateway.age_max")
    history = (await config.ask("GET", "/history", 200, who="finance"))["changes"]
    assert [one["name"] for one in history] == [SETTLE]


async def test_with_an_idempotency_key_a_change_is_made_once(config: Config) -> None:
    body = {"name": SETTLE, "value": 120, "version": 0, "reason": "x"}
    headers = {"authorization": f"Bearer {config.tokens['operator']}", "idempotency-key": "k1"}
    answers = [await config.client.post(PATH, json=body, headers=headers) for _ in range(3)]
    assert {(answer.status_code, answer.text) for answer in answers} == {(200, answers[0].text)}
    assert len(config.events()) == 1


async def test_the_contract_is_all_that_is_set_and_a_reader_sees_nothing_else(config: Config) -> None:
    await config.put(SETTLE, 120)
    await config.put("billing.paused", True)
    await config.rule(TENTH)
    await config.ask("DELETE", "/billing.paused", 200, version=1, reason="over")
    ensure_roles(config.url, [Grant(ROLE, contracts=(CONTRACT,))])
    database = await open_database(config.url, name="test", role=ROLE)
    try:
        snapshot = await read_snapshot(database)
        with pytest.raises(Exception, match="permission denied"):
            await database.fetch("SELECT * FROM config.change")
        with pytest.raises(Exception, match="permission denied"):
            await database.fetch("UPDATE config.revision SET revision = 9")
    finally:
        await database.close()
    assert snapshot.revision == 4
    assert set(snapshot.documents) == {SETTLE, DEMAND}
    assert snapshot.documents[SETTLE] == {"value": 120, "version": 1}


async def test_any_sequence_of_changes_leaves_what_the_history_says(config: Config, seed: int) -> None:
    """The last entry of each setting in the history is what is in force; entries follow one another, and differ."""
    chance = random.Random(seed)
    names = [SETTLE, "sessions.void_time", "billing.paused"]
    versions = dict.fromkeys(names, 0)
    values: dict[str, Any] = {}
    for _ in range(40):
        name = chance.choice(names)
        stale = chance.random() < 0.2
        version = versions[name] - 1 if stale and versions[name] else versions[name]
        status = 409 if version != versions[name] else 200
        value: Any = None
        if chance.random() < 0.3:
            await config.ask("DELETE", f"/{name}", status, version=version, reason="x")
        else:
            value = bool(chance.getrandbits(1)) if name == names[2] else chance.choice((0, 60, 120, 599))
            await config.put(name, value, version, status)
        if status == 200 and value != values.get(name):
            versions[name] += 1
            values[name] = value
    changes = (await config.ask("GET", "/history", 200, limit=500))["changes"][::-1]
    assert [one["revision"] for one in changes] == list(range(1, len(changes) + 1))
    after: dict[str, Any] = {}
    for one in changes:
        assert one["before"] == after.get(one["name"]) != one["after"]
        after[one["name"]] = one["after"]
    for name in names:
        shown = await config.ask("GET", f"/{name}", 200)
        kept = after.get(name)
        assert shown["value"] == (kept["value"] if kept else shown["default"])
        assert shown["version"] == versions[name]
    assert [event.payload.revision for event in config.events()] == [one["revision"] for one in changes]


# -- What every operation has in common.


@pytest.mark.parametrize(("operation", "kinds"), OPERATIONS.items())
async def test_only_those_may_ask_who_should(config: Config, operation: tuple[str, str], kinds: set[str]) -> None:
    method, path = operation
    await asked_only_by(config.client, config.tokens, method, path.format(name=SETTLE), kinds)


async def test_every_operation_is_described_with_an_example_and_its_problems(config: Config) -> None:
    await described_are(config.client, OPERATIONS)


@pytest.mark.parametrize(
    ("model", "example"),
    [
        (NewValue, examples.NEW_VALUE),
        (NewRule, examples.NEW_RULE),
        (FlagRule, examples.RULE),
        (Setting, examples.SETTING),
        (Setting, examples.SETTING_BEFORE),
        (Setting, examples.FLAG),
        (SettingList, examples.SETTINGS),
        (SettingList, examples.FLAGS),
        (ConfigChange, examples.CHANGE),
        (ConfigChange, examples.RULE_CHANGE),
        (ConfigHistory, examples.HISTORY),
    ],
)
def test_examples_are_what_the_models_say(model: type[BaseModel], example: dict[str, Any]) -> None:
    model.model_validate(example)


@pytest.mark.parametrize(("method", "path"), OPERATIONS)
async def test_no_question_is_a_server_error_or_answered_otherwise_than_described(
    config: Config, method: str, path: str
) -> None:
    await config.put(SETTLE, 120)
    await config.rule(TENTH)
    schema = schemathesis.openapi.from_dict((await config.client.get("/openapi.json")).json())
    headers = {"authorization": f"Bearer {config.tokens['operator']}"}
    cases = cases_of(schema[path][method.upper()])

    @settings(max_examples=60, suppress_health_check=list(HealthCheck), phases=[Phase.generate])
    @given(case=cases, known=st.booleans())
    def ask(case: schemathesis.Case[Any], known: bool) -> None:
        if known and "{name}" in path:
            case.path_parameters = {**(case.path_parameters or {}), "name": SETTLE}
        answers_as_described(case, config.base_url, headers)

    await asyncio.to_thread(ask)


@pytest.mark.parametrize(("path", "good"), [("", examples.NEW_VALUE), ("/flags", examples.NEW_RULE)])
async def test_anything_anywhere_in_a_body_is_taken_or_refused(config: Config, path: str, good: dict[str, Any]) -> None:
    bearer = {"authorization": f"Bearer {config.tokens['operator']}"}
    await takes_or_refuses(config.client, "POST", PATH + path, good, headers=bearer, refusals=(400, 404, 409, 422))


async def test_a_change_is_audited_and_a_dry_run_or_a_repetition_is_not(config: Config) -> None:
    await config.put(SETTLE, 90)
    await config.put(SETTLE, 90, 1)  # the same
    await config.put(SETTLE, 60, 1, dry_run=True)
    await config.rule(TENTH)
    query = "SELECT action, entity, before, after, reason FROM audit.entry WHERE action ~ 'changed$' ORDER BY id"
    setting, flag = config.rows(query)
    assert setting == ("setting.changed", f"setting/{SETTLE}", None, {"value": 90}, "a test")
    assert flag[:3] == ("flag.changed", f"flag/{DEMAND}", None)
    assert flag[3]["rule"]["percentage"] == "10"
