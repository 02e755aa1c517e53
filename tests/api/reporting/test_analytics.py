"""Analytics over HTTP: who may ask, what is refused, pages, and answers that are kept."""

import random
from typing import Any

import httpx
import pytest

from api.reporting.analytics.cache import Cache, InProcessCache, RedisCache
from api.reporting.analytics.metrics import METRICS
from kit.auth.scopes import Kind
from schemas.reading import MAIN_METER
from tests.api.reporting.running import served

PATH = "/api/v1/analytics"
SPAN = {"from": "2026-03-27", "to": "2026-03-29"}


async def test_operators_and_finance_ask_and_nobody_else(database_url: str) -> None:
    async with served(database_url) as (_, client, tokens):
        statuses: dict[Kind | None, int] = {"operator": 200, "finance": 200, "driver": 403, "device": 403, None: 401}
        for kind, status in statuses.items():
            headers = {"Authorization": f"Bearer {tokens[kind]}"} if kind else {}
            for path, params in ((PATH, {}), (f"{PATH}/revenue", SPAN)):
                assert (await client.get(path, params=params, headers=headers)).status_code == status, (kind, path)


async def test_every_metric_says_what_it_is_and_what_is_wrong_says_how_to_mend_it(database_url: str) -> None:
    async with served(database_url) as (_, client, tokens):
        client.headers["Authorization"] = f"Bearer {tokens['operator']}"
        listed = (await client.get(PATH)).json()["metrics"]
        assert [one["metric"] for one in listed] == list(METRICS)
        for one in listed:
            answer = (await client.get(f"{PATH}/{one['metric']}", params=SPAN)).json()
            assert {name: answer[name] for name in one} == one
            assert answer["figures"] == []
        wrong: list[tuple[str, dict[str, Any], int, str]] = [
            ("energy_deliverd", {}, 404, "did you mean energy_delivered"),
            ("sessions", {"by": "year"}, 422, "by"),
            ("sessions", {"timezone": "Europe/Nowhere"}, 422, "IANA"),
            ("sessions", {"timezone": "Asia/Kolkata"}, 422, "by hour"),
            ("sessions", {"from": "2026-03-29", "to": "2026-03-27"}, 422, "before"),
            ("sessions", {"from": "1970-01-01", "to": "2199-01-01"}, 422, "at most|more than"),
            ("sessions", {"group": "country"}, 422, "group"),
            ("sessions", {"limit": 0}, 422, "limit"),
            ("sessions", {"cursor": "bm9uZQ"}, 422, "cursor"),
        ]
        for metric, more, status, words in wrong:
            answered = await client.get(f"{PATH}/{metric}", params={**SPAN, **more})
            assert answered.status_code == status, (metric, more, answered.text)
            assert any(word in answered.json()["detail"] for word in words.split("|")), answered.text


async def test_pages_together_are_the_whole_answer(database_url: str) -> None:
    async with served(database_url) as (own, client, tokens):
        client.headers["Authorization"] = f"Bearer {tokens['finance']}"
        await own.play(7)
        for group, by in (("station", "day"), ("plug", "hour"), ("site", "month")):
            asked = {**SPAN, "group": group, "by": by, "timezone": "Europe/Berlin"}
            whole = await _pages(client, {**asked, "limit": 5_000})
            assert whole
            assert await _pages(client, {**asked, "limit": 3}) == whole
            names = sorted({one["group"] for one in whole if one["group"]})
            only = await _pages(client, {**asked, "name": names[0]})
            assert only == [one for one in whole if one["group"] == names[0]]


async def _pages(client: httpx.AsyncClient, asked: dict[str, Any]) -> list[Any]:
    found: list[Any] = []
    answer = await client.get(f"{PATH}/occupancy", params=asked)
    while True:
        page = answer.json()
        found += page["figures"]
        if page["next"] is None:
            return found
        assert page["next"] in answer.headers["link"]
        answer = await client.get(page["next"])


async def test_a_kept_answer_is_gone_once_a_change_is_computed(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with served(database_url) as (own, client, tokens):
        client.headers["Authorization"] = f"Bearer {tokens['operator']}"
        month = await own.play(7)
        computed = 0
        store = own.service.analytics._store
        sums = store.sums

        async def counted(*given: Any) -> Any:
            nonlocal computed
            computed += 1
            return await sums(*given)

        monkeypatch.setattr(store, "sums", counted)

        async def asked() -> Any:
            return (await client.get(f"{PATH}/energy_delivered", params={**SPAN, "group": "station"})).json()

        first = await asked()
        assert await asked() == first
        assert computed == 1
        aggregated = (one for one in month.changes if one.events and "aggregated" in one.events[0].metadata.type)
        change = next(one for one in aggregated if one.events[0].payload.windows[0].connector_id != MAIN_METER)
        own.writer.execute("UPDATE telemetry.window_1m SET in_session_mwh_sum = in_session_mwh_sum + 1")
        await own.handle(change.events)
        noted = await asked()  # not computed yet, and says so
        assert (noted["figures"], computed) == (first["figures"], 1)
        assert noted["pending_hours"] > 0
        await own.compute()
        again = await asked()
        assert computed == 2
        assert again["figures"] != first["figures"]
        assert again["pending_hours"] == 0


@pytest.fixture(params=["in-process", pytest.param("redis", marks=pytest.mark.server)])
async def cache(request: pytest.FixtureRequest) -> Any:
    """Each implementation."""
    made: Cache = InProcessCache(100)
    if request.param == "redis":
        made = RedisCache(request.getfixturevalue("redis_url"), f"test-{random.random()}:")
    yield made
    await made.close()


async def test_a_cache_gives_what_was_put_and_nothing_else(cache: Cache) -> None:
    assert await cache.get("a") is None
    await cache.put("a", b"1")
    await cache.put("b", b"2")
    await cache.put("a", b"3")
    assert (await cache.get("a"), await cache.get("b"), await cache.get("c")) == (b"3", b"2", None)


async def test_a_cache_in_the_process_is_bounded_by_bytes() -> None:
    cache = InProcessCache(100)
    for number in range(10):
        await cache.put(str(number), bytes(30))
        await cache.get("0")
    assert [await cache.get(str(number)) is not None for number in range(10)] == [True, *[False] * 7, True, True]


async def test_without_redis_nothing_is_kept_and_nothing_fails(unused_port: int) -> None:
    cache = RedisCache(f"redis://127.0.0.1:{unused_port}", "test:")
    await cache.put("a", b"1")
    assert await cache.get("a") is None
    await cache.close()
