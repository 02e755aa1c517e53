"""A change of the configuration reaches every process as it runs; what was read last stays while anything is away."""

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, asynccontextmanager
from itertools import repeat
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from prometheus_client import CollectorRegistry

from billing.settings import BillingSettings
from kit.config.runtime import RuntimeConfig
from kit.config.values import ConfigSnapshot
from kit.errors import Contended, Unavailable
from kit.messaging.bus import FANOUT, InProcessBus, Message
from kit.retry import RetryPolicy
from kit.service import Job
from schemas.topics import CONFIG_UPDATED, routing_key
from tests.private_servers import PrivateServers
from tests.voltstream.platform import ENOUGH_S, any_station, readings, served, voltstream
from tests.waiting import eventually
from voltstream.runtime import config_updates
from voltstream.runtime.composition import _work
from voltstream.runtime.config_updates import ConfigUpdates, open_config
from voltstream.runtime.database import bring_up_to_date
from voltstream.runtime.process import Lifespan
from voltstream.settings import load_settings

LIMIT, SETTLE = "gateway.readings_per_request", "billing.settle_time"


# -- The part of a process, alone.


@asynccontextmanager
async def following(url: str, **settings: Any) -> AsyncIterator[tuple[RuntimeConfig, ConfigUpdates, CollectorRegistry]]:
    registry = CollectorRegistry()
    async with open_config(load_settings(**settings), url, Lifespan(), registry) as (config, updates):
        yield config, updates, registry


def put(url: str, name: str, value: object) -> None:
    """As the config service stores it, with no event."""
    with psycopg.connect(url) as connection:
        connection.execute("UPDATE config.revision SET revision = revision + 1")
        connection.execute(
            "INSERT INTO config.setting VALUES (%s, %s, 1, now(), 'test', 'test') ON CONFLICT (name) DO UPDATE "
            "SET document = excluded.document, version = config.setting.version + 1",
            (name, json.dumps({"value": value})),
        )


async def test_while_the_database_is_away_the_last_values_stay_and_then_the_new_ones_come(
    database_url: str, servers: PrivateServers, monkeypatch: pytest.MonkeyPatch
) -> None:
    await asyncio.to_thread(bring_up_to_date, database_url, 2)
    put(database_url, SETTLE, 120)
    async with following(database_url) as (config, updates, registry):
        assert config.resolved(SETTLE).value == 120  # before anything else of the process opens
        await asyncio.to_thread(servers.postgres.kill)
        await updates.read()
        assert config.resolved(SETTLE).value == 120
        assert registry.get_sample_value("config_stale") == 1
        await asyncio.to_thread(servers.postgres.start)
        await eventually(lambda: registry.get_sample_value("config_stale") == 0, 60)  # it tries again by itself
        put(database_url, SETTLE, 90)
        await updates.read()
        assert (config.resolved(SETTLE).value, registry.get_sample_value("config_revision")) == (90, 2)


async def test_a_lost_event_is_made_up_for(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config_updates, "READ_EVERY_S", 0.05)
    await asyncio.to_thread(bring_up_to_date, database_url, 2)
    async with following(database_url) as (config, _, _):
        put(database_url, SETTLE, 120)
        await eventually(lambda: config.resolved(SETTLE).value == 120)


async def test_an_event_twice_late_or_of_nonsense_is_a_read_and_no_more(database_url: str) -> None:
    await asyncio.to_thread(bring_up_to_date, database_url, 2)
    bus = InProcessBus(RetryPolicy())
    async with following(database_url) as (config, updates, _):
        await updates.follow(bus, "test")
        put(database_url, SETTLE, 120)
        for body in (b"{}", b"", b"\xff"):
            await bus.publish(Message(FANOUT, routing_key(CONFIG_UPDATED), body))
        assert config.resolved(SETTLE).value == 120
        await bus.close()


async def test_a_database_that_went_back_is_followed(database_url: str) -> None:
    """A gateway goes on while its database is restored: it knew revision 3, and the database is at 1 again."""
    await asyncio.to_thread(bring_up_to_date, database_url, 2)
    put(database_url, SETTLE, 100)
    async with following(database_url) as (config, updates, registry):
        before = _config_rows(database_url)
        put(database_url, SETTLE, 110)
        put(database_url, LIMIT, 7)
        await updates.read()
        assert (config.resolved(SETTLE).value, config.resolved(LIMIT).value) == (110, 7)
        _go_back(database_url, before)
        await updates.read()
        assert (config.resolved(SETTLE).value, config.resolved(LIMIT).source) == (100, "default")
        assert registry.get_sample_value("config_revision") == 1
        put(database_url, SETTLE, 120)
        await updates.read()
        assert config.resolved(SETTLE).value == 120


def _config_rows(url: str) -> tuple[int, str]:
    with psycopg.connect(url) as connection:
        row = connection.execute("SELECT revision, document FROM config.revision, config.setting").fetchone()
    assert row is not None
    return row[0], json.dumps(row[1])


def _go_back(url: str, rows: tuple[int, str]) -> None:
    with psycopg.connect(url) as connection:
        connection.execute("UPDATE config.revision SET revision = %s", rows[:1])
        connection.execute("DELETE FROM config.setting WHERE name <> %s", (SETTLE,))
        connection.execute("UPDATE config.setting SET document = %s, version = 1", rows[1:])


class InTurn:
    """A database that answers when it is told to, in any order."""

    def __init__(self) -> None:
        self.asked: list[asyncio.Future[dict[str, object]]] = []

    async def fetchrow(self, _: str) -> dict[str, object]:
        self.asked.append(asyncio.get_running_loop().create_future())
        return await self.asked[-1]

    async def answer(self, number: int, value: int) -> None:
        await eventually(lambda: len(self.asked) >= number)
        settings = json.dumps({SETTLE: {"value": value, "version": number}})
        self.asked[number - 1].set_result({"revision": number, "settings": settings})


async def test_an_answer_of_before_does_not_replace_a_later_one() -> None:
    database: Any = InTurn()
    config = RuntimeConfig(load_settings())
    updates = ConfigUpdates(config, database, CollectorRegistry())
    first, second = (asyncio.create_task(updates.read()) for _ in range(2))
    await eventually(lambda: database.asked)
    assert len(database.asked) == 1, "one question after the other"
    await database.answer(1, 90)
    await database.answer(2, 120)
    await asyncio.gather(first, second)
    assert config.resolved(SETTLE).value == 120
    config.close()


async def test_a_folder_is_followed_and_the_service_is_before_it(database_url: str, tmp_path: Path) -> None:
    await asyncio.to_thread(bring_up_to_date, database_url, 2)
    (tmp_path / SETTLE).write_text("90")
    async with following(database_url, config_dir=str(tmp_path)) as (config, updates, _):
        assert (config.resolved(SETTLE).value, config.resolved(SETTLE).source) == (90, "file")
        (tmp_path / SETTLE).write_text("100")
        await eventually(lambda: config.resolved(SETTLE).value == 100)
        put(database_url, SETTLE, 120)
        await updates.read()
        assert (config.resolved(SETTLE).value, config.resolved(SETTLE).source) == (120, "service")


class Away:
    """A database and a broker, both away; the broker for the first attempts only."""

    def __init__(self, attempts: int) -> None:
        self.attempts = attempts
        self.queues: list[str] = []

    async def fetchrow(self, _: str) -> None:
        raise Unavailable("away")

    async def subscribe_process(self, queue: str, exchange: str, *_: object) -> None:
        self.attempts -= 1
        if self.attempts >= 0:
            raise Unavailable("away")
        self.queues.append(f"{exchange} {queue}")


async def test_a_process_follows_once_the_broker_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config_updates, "reconnect_pauses_s", lambda: repeat(0.0))
    away: Any = Away(3)
    config = RuntimeConfig(load_settings(invoice_settle_s=90))
    await ConfigUpdates(config, away, CollectorRegistry()).follow(away, "billing")
    (queue,) = away.queues
    assert re.fullmatch(r"fanout_broadcast billing_[0-9a-f]{8}_config_updated", queue)
    assert config.group(BillingSettings).invoice_settle_s == 90
    config.close()


async def test_a_paused_job_does_not_run_and_the_others_do() -> None:
    config, paused, other = RuntimeConfig(load_settings(billing_paused=True)), [0], [0]

    def counting(count: list[int]) -> Callable[[object], Awaitable[None]]:
        async def run(_: object) -> None:
            count[0] += 1

        return run

    jobs: list[Job[Any]] = [Job("a", counting(paused), 0.001, "billing.paused"), Job("b", counting(other), 0.001)]
    working = asyncio.create_task(_work(jobs, None, config))
    await eventually(lambda: other[0] >= 3)
    assert paused == [0]
    config.apply_snapshot(ConfigSnapshot(1, {"billing.paused": {"value": False, "version": 1}}))
    await eventually(lambda: paused[0] >= 3)
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)
    config.close()


async def test_a_job_that_meets_a_deadlock_is_repeated_soon_and_ends_nothing() -> None:
    config, runs, other = RuntimeConfig(load_settings()), [0], [0]

    async def deadlocked_once(_: object) -> None:
        runs[0] += 1
        if runs[0] == 1:
            raise Contended("a deadlock")

    async def counting(_: object) -> None:
        other[0] += 1

    jobs: list[Job[Any]] = [Job("a", deadlocked_once, 0.001), Job("b", counting, 0.001)]
    working = asyncio.create_task(_work(jobs, None, config))
    await eventually(lambda: runs[0] >= 2 and other[0] >= 2)
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)
    config.close()


# -- Processes.


class Operator:
    """Asks the config service with a token of its own, and a gateway with a device's."""

    def __init__(self, settings: dict[str, str]) -> None:
        self._tokens = {kind: _token(kind, settings) for kind in ("operator", "device")}
        self.client = httpx.AsyncClient(timeout=30, trust_env=False)
        self._ts_ms = int(time.time() * 1_000) - 3_600_000

    async def set(self, at: str, name: str, value: object) -> None:
        """Whatever its version is."""
        bearer = {"authorization": f"Bearer {self._tokens['operator']}"}
        shown = (await self.client.get(f"{at}/api/v1/config/{name}", headers=bearer)).json()
        body = {"name": name, "value": value, "version": shown["version"], "reason": "a test"}
        answer = await self.client.post(f"{at}/api/v1/config", json=body, headers=bearer)
        assert answer.status_code == 200, answer.text

    async def history(self, at: str) -> list[object]:
        """The values that were set, oldest first."""
        bearer = {"authorization": f"Bearer {self._tokens['operator']}"}
        changes = (await self.client.get(f"{at}/api/v1/config/history", headers=bearer)).json()["changes"]
        return [one["after"]["value"] for one in changes[::-1]]

    async def takes(self, at: str, count: int) -> bool:
        """Whether a gateway takes so many readings at once."""
        bearer = {"authorization": f"Bearer {self._tokens['device']}"}
        body = readings("CP1", count, self._ts_ms)
        answer = await self.client.post(f"{at}/api/v1/telemetry", json=body, headers=bearer)
        assert answer.status_code in (202, 413), answer.text
        return answer.status_code == 202


def _token(kind: str, settings: dict[str, str]) -> str:
    issued = voltstream("token", "issue", "--kind", kind, *any_station(kind), "--json", **settings)
    return str(json.loads(issued.stdout)["token"])


async def test_a_change_is_in_force_in_every_process_without_a_restart_and_outlives_its_service(
    database_url: str, running_servers: PrivateServers, tmp_path: Path
) -> None:
    """Two gateways, which share all but this: each has a queue of its own."""
    settings = running_servers.settings(database_url) | {"data_dir": str(tmp_path / "data")}
    assert voltstream("migrate", "--json", **settings).returncode == 0
    with ExitStack() as stack:

        def start(*names: str) -> Process:
            log = tmp_path / f"log{len(list(tmp_path.iterdir()))}"
            process, line = stack.enter_context(served(log, *names, **settings))
            return Process(process, line["url"])

        gateways, service = [start("gateway"), start("gateway")], start("config", "relay")
        operator = Operator(settings)

        async def all_take(count: int) -> list[bool]:
            return [await operator.takes(one.url, count) for one in gateways]

        await eventually(lambda: _all_ready(operator, [service.url, *(one.url for one in gateways)]), ENOUGH_S)
        assert await all_take(2) == [True, True]
        began_s = time.monotonic()
        await operator.set(service.url, LIMIT, 1)
        await eventually(lambda: _is(all_take(2), [False, False]), ENOUGH_S)
        print(f"in force in both after {time.monotonic() - began_s:.3f} s (the test waits up to {ENOUGH_S:.0f} s)")

        service.kill()
        assert await all_take(2) == [False, False], "the last value stays"
        gateways.append(start("gateway"))
        assert await operator.takes(gateways[2].url, 2) is False, "also in one that starts without the service"
        gateways.pop(0).kill()

        service = start("config", "relay")
        assert await operator.history(service.url) == [1]
        await operator.set(service.url, LIMIT, 3)
        await eventually(lambda: _is(all_take(3), [True, True]), ENOUGH_S)
        assert await all_take(4) == [False, False]
        await operator.client.aclose()


class Process:
    """A process and where it is."""

    def __init__(self, process: Any, url: str) -> None:
        self._process = process
        self.url = url

    def kill(self) -> None:
        """As kill -9 does."""
        self._process.kill()
        self._process.wait(ENOUGH_S)


async def _all_ready(operator: Operator, urls: list[str]) -> bool:
    return {(await operator.client.get(f"{url}/ready")).status_code for url in urls} == {200}


async def _is(found: Any, expected: object) -> bool:
    return bool(await found == expected)
