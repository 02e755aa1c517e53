"""Contract of the live view: laws that both implementations keep, in memory and in Redis."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from uuid import uuid4

import pytest

from kit.clock import ManualClock
from kit.errors import Unavailable
from kit.live.audience import LOOK_S
from kit.live.redis_view import RedisLive
from kit.live.view import InProcessLive, LiveView
from tests.private_servers import PrivateServers
from tests.waiting import eventually

WATCH_PUTS_MAX = 3


@pytest.fixture
def clock() -> ManualClock:
    """By which the view knows how long ago someone looked."""
    return ManualClock()


@pytest.fixture(
    params=[
        "in-process",
        pytest.param("redis", marks=pytest.mark.server),
        pytest.param("redis-tls", marks=pytest.mark.server),
    ]
)
async def live(request: pytest.FixtureRequest, clock: ManualClock) -> AsyncIterator[LiveView]:
    """A view whose watchers may lag by three puts."""
    view: LiveView
    if request.param == "in-process":
        view = InProcessLive(watch_puts_max=WATCH_PUTS_MAX, clock=clock)
    else:
        over_tls = request.param == "redis-tls"
        url = request.getfixturevalue("tls_url")("redis") if over_tls else request.getfixturevalue("redis_url")
        view = RedisLive(url, watch_puts_max=WATCH_PUTS_MAX, clock=clock)
    yield view
    await view.close()


@pytest.fixture
def topic() -> str:
    """A topic of this test's own."""
    return f"t_{uuid4().hex[:12]}"


async def collect_until(
    watcher: AsyncIterator[Mapping[str, bytes]], key: str, value: bytes
) -> list[Mapping[str, bytes]]:
    """The changes up to the one in which that key has that value."""
    changes = []
    async with asyncio.timeout(30):
        async for change in watcher:
            changes.append(change)
            if change.get(key) == value:
                break
    return changes


async def test_a_key_has_the_document_put_last(live: LiveView, topic: str) -> None:
    await live.put(topic, {"A/1": b"old", "B/1": b"b"})
    await live.put(topic, {"A/1": b"new"})
    assert await live.get(topic, ["A/1", "nonesuch", "B/1"]) == {"A/1": b"new", "B/1": b"b"}
    assert await live.all(topic) == {"A/1": b"new", "B/1": b"b"}


async def test_topics_do_not_mix(live: LiveView, topic: str) -> None:
    await live.put(topic, {"A/1": b"x"})
    assert await live.all(f"{topic}_other") == {}
    assert await live.get(f"{topic}_other", ["A/1"]) == {}
    assert await live.get(topic, []) == {}


async def test_a_watcher_sees_every_put_as_one_mapping_in_order(live: LiveView, topic: str) -> None:
    puts = [{"A/1": b"1", "B/1": b"x"}, {"A/1": b"2"}, {"A/1": b"3"}]
    async with live.watch(topic) as watcher:
        seen = []
        for put in puts:
            await live.put(topic, put)
            seen += await collect_until(watcher, "A/1", put["A/1"])
    assert seen == puts


async def test_every_watcher_sees_every_put(live: LiveView, topic: str) -> None:
    async with live.watch(topic) as one, live.watch(topic) as two:
        await live.put(topic, {"A/1": b"1"})
        assert await collect_until(one, "A/1", b"1") == await collect_until(two, "A/1", b"1") == [{"A/1": b"1"}]


async def test_a_watcher_that_lags_still_has_the_newest_document_of_every_key(live: LiveView, topic: str) -> None:
    async with live.watch(topic) as watcher:
        for number in range(50):
            await live.put(topic, {f"{number % 7}": b"%d" % number})
        changes = await collect_until(watcher, "0", b"49")
    latest: dict[str, bytes] = {}
    for change in changes:
        latest.update(change)
    assert latest == await live.all(topic)


async def test_thousands_of_keys_go_in_one_put(live: LiveView, topic: str) -> None:
    documents = {f"STATION{number}/1": b"%d" % number * 50 for number in range(12_000)}
    await live.put(topic, documents)
    assert await live.all(topic) == documents


async def test_a_writer_knows_whether_anyone_looks(live: LiveView, topic: str, clock: ManualClock) -> None:
    audience = live.audience(topic)
    assert audience.looking  # until it is known that nobody does

    async def sees_a_reader() -> bool:
        clock.advance(LOOK_S)
        assert not audience.looking
        await live.get(topic, ["A/1"])
        with suppress(AssertionError):
            await eventually(lambda: audience.looking, 0.5)
        return audience.looking

    await eventually(sees_a_reader, 30)  # in Redis once it is subscribed
    clock.advance(LOOK_S)
    began = asyncio.Event()
    audience.call_when_it_begins(began.set)
    await live.all(topic)
    await asyncio.wait_for(began.wait(), 30)
    clock.advance(LOOK_S)
    await live.all(f"{topic}_other")
    await live.put(topic, {"A/1": b"1"})
    assert not audience.looking
    async with live.watch(topic):
        await eventually(lambda: audience.looking, 30)
        clock.advance(LOOK_S)
        assert not audience.looking
        await live.put(topic, {"A/1": b"2"})
        assert audience.looking  # whoever watches does so without asking again


async def test_closing_ends_the_watchers(live: LiveView, topic: str) -> None:
    async with live.watch(topic) as watcher:
        await live.put(topic, {"A/1": b"1"})
        await collect_until(watcher, "A/1", b"1")
        await live.close()
        async with asyncio.timeout(10):
            assert [change async for change in watcher] == []


async def test_after_an_outage_a_watcher_gets_the_whole_topic(
    redis_url: str, servers: PrivateServers, topic: str
) -> None:
    live, writer = RedisLive(redis_url), RedisLive(redis_url)
    async with live.watch(topic) as watcher:
        await writer.put(topic, {"A/1": b"1", "B/1": b"1"})
        await collect_until(watcher, "B/1", b"1")
        await asyncio.to_thread(servers.redis.stop)
        with pytest.raises(Unavailable):
            await writer.put(topic, {"A/1": b"lost"})
        with pytest.raises(Unavailable):
            await writer.get(topic, ["A/1"])
        await asyncio.to_thread(servers.redis.start)

        async def put_again() -> None:
            """The server came back empty, or not: the writers write again in either case."""
            while True:
                try:
                    return await writer.put(topic, {"A/1": b"2", "B/1": b"2"})
                except Unavailable:
                    await asyncio.sleep(0.01)

        await put_again()
        latest: dict[str, bytes] = {}

        async def follow() -> None:
            async for change in watcher:
                latest.update(change)

        following = asyncio.create_task(follow())
        await eventually(lambda: latest == {"A/1": b"2", "B/1": b"2"}, 60)
        await writer.put(topic, {"A/1": b"3"})
        await eventually(lambda: latest == {"A/1": b"3", "B/1": b"2"}, 30)
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
    await live.close()
    await writer.close()


async def test_an_unreachable_view_is_unavailable(unused_port: int, topic: str) -> None:
    live = RedisLive(f"redis://127.0.0.1:{unused_port}/0")
    with pytest.raises(Unavailable):
        await live.put(topic, {"A/1": b"1"})
    with pytest.raises(Unavailable):
        await live.all(topic)
    with pytest.raises(Unavailable):
        await live.check_ready()
    await live.close()
