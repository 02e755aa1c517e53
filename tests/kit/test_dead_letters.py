"""Laws of the dead-letter store: no letter is lost, stored or replayed twice. On PostgreSQL, with both buses."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from uuid import UUID, uuid4

import psycopg
import pytest
from prometheus_client import CollectorRegistry

from kit.database.postgres import Database
from kit.errors import Unprocessable
from kit.messaging.bus import ATTEMPTS, DEAD_LETTERS, DIRECT, EVENT_ID, LETTER_ID, REPLAYS, Bus, InProcessBus, Message
from kit.messaging.dead_letters import RETENTION, SCHEMA, DeadLetterMetrics, DeadLetterStore
from kit.messaging.outbox import Relay, RelayMetrics
from kit.messaging.rabbit_bus import RabbitBus
from tests.kit.letters_database import POLICY, letters_database
from tests.serving import ended
from tests.waiting import eventually


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """With the schema `events`, as its role."""
    async with letters_database(database_url) as opened:
        yield opened


@pytest.fixture
def store(database: Database) -> DeadLetterStore:
    """The store in the database at `url`."""
    return DeadLetterStore(database)


@pytest.fixture(params=["in-process", pytest.param("rabbitmq", marks=pytest.mark.server)])
async def bus(request: pytest.FixtureRequest) -> AsyncIterator[Bus]:
    """Either."""
    if request.param == "in-process":
        made: Bus = InProcessBus(POLICY)
    else:
        made = rabbit = RabbitBus(request.getfixturevalue("rabbitmq_url"), POLICY, name="test")
        rabbit.start()
        await rabbit.wait_ready(30)
    yield made
    await made.close()


@asynccontextmanager
async def relaying(url: str, bus: Bus) -> AsyncIterator[None]:
    """The relay of the letters' way back."""
    relay = Relay(url, SCHEMA, bus, RelayMetrics(CollectorRegistry()))
    running = asyncio.create_task(relay.run())
    try:
        yield
    finally:
        relay.close()
        await running


def letter(queue: str = "q", letter_id: UUID | None = None, **headers: str) -> Message:
    own = {LETTER_ID: str(letter_id or uuid4()), ATTEMPTS: "8", "error": "RuntimeError: no", EVENT_ID: "7"}
    origin = {"origin_exchange": DIRECT, "origin_routing_key": "shop.sold"}
    return Message(DEAD_LETTERS, queue, b"\x00it", {**own, **origin, **headers})


async def replay(store: DeadLetterStore, ids: list[UUID] | None = None, queue: str | None = None) -> list[UUID]:
    return [letter.id async for some in store.replay(ids, queue) for letter in some]


async def test_a_letter_is_stored_once_and_unchanged(store: DeadLetterStore, database: Database) -> None:
    registry = CollectorRegistry()
    counting = DeadLetterStore(database, DeadLetterMetrics(registry))
    it = letter(more="ü")
    for _ in range(3):
        await counting.keep(it)
    (kept,) = await store.some(None, 10)
    assert (kept.queue, kept.body, kept.headers, kept.event_id) == ("q", it.body, dict(it.headers), "7")
    assert (kept.exchange, kept.routing_key, kept.error) == (DIRECT, "shop.sold", "RuntimeError: no")
    assert (kept.attempts, kept.state) == (8, "dead")
    assert await store.find(kept.id) == kept
    assert registry.get_sample_value("dead_letters_total", {"queue": "q"}) == 1


async def test_letters_of_other_programs_are_stored_too(store: DeadLetterStore) -> None:
    for body in (b"a", b"b", b"a"):
        await store.keep(Message(DEAD_LETTERS, "q", body, {ATTEMPTS: "many", LETTER_ID: "none"}))
    assert {kept.body for kept in await store.some("q", 10)} == {b"a", b"b"}


async def test_a_list_has_the_oldest_letters_of_one_queue_or_of_all(store: DeadLetterStore) -> None:
    for number in range(6):
        await store.keep(letter(f"q{number % 2}", UUID(int=number)))
    assert [kept.id.int for kept in await store.some(None, 4)] == [0, 1, 2, 3]
    assert [kept.id.int for kept in await store.some("q1", 10)] == [1, 3, 5]


async def test_concurrent_replays_replay_each_letter_once(store: DeadLetterStore, database: Database) -> None:
    for number in range(50):
        await store.keep(letter("q", UUID(int=number)))
    done = await asyncio.gather(*(replay(store, queue="q") for _ in range(4)))
    assert sorted(number.int for ids in done for number in ids) == list(range(50))
    assert await database.fetchval("SELECT count(DISTINCT event_id) = count(*) FROM events.outbox") is True


async def test_a_letter_redelivered_after_its_replay_stays_replayed(store: DeadLetterStore) -> None:
    it = letter()
    await store.keep(it)
    await replay(store, queue="q")
    await store.keep(it)
    assert [kept.state for kept in await store.some(None, 10)] == ["replaying"]
    assert await replay(store, queue="q") == []


async def test_only_the_selected_letters_are_replayed(store: DeadLetterStore) -> None:
    ids = [uuid4() for _ in range(3)]
    for number, letter_id in enumerate(ids):
        await store.keep(letter(f"q{number}", letter_id))
    assert await replay(store, ids[:1]) == ids[:1]
    assert await replay(store, ids[:2], "q0") == []
    assert await replay(store, queue="q1") == [ids[1]]
    assert await replay(store, [uuid4()]) == []
    assert {kept.queue: kept.state for kept in await store.some(None, 10)} == {
        "q0": "replaying",
        "q1": "replaying",
        "q2": "dead",
    }


async def test_letters_are_deleted_after_their_time_and_replayed_ones_earlier(
    store: DeadLetterStore, database: Database, database_url: str
) -> None:
    for queue in ("old", "new", "dead", "long dead"):
        await store.keep(letter(queue))
    for queue in ("old", "new"):
        await replay(store, queue=queue)
    with psycopg.connect(database_url) as connection:
        connection.execute("DELETE FROM events.outbox")
        connection.execute("UPDATE events.dead_letter SET died_at = died_at - interval '364 days'")
        connection.execute(
            "UPDATE events.dead_letter SET died_at = died_at - interval '2 days' WHERE queue = 'long dead'"
        )
        connection.execute("UPDATE events.dead_letter SET replayed_at = now() - interval '31 days' WHERE queue = 'old'")
    assert await ended(database, SCHEMA, RETENTION, datetime.now(UTC)) == {"dead_letters": 2}
    assert {kept.queue: kept.state for kept in await store.some(None, 10, replayed=True)} == {
        "new": "replayed",
        "dead": "dead",
    }


class Fragile:
    """A handler that fails until it is fixed."""

    def __init__(self) -> None:
        self.fixed = False
        self.handled: list[Message] = []

    async def __call__(self, message: Message) -> None:
        if not self.fixed:
            raise Unprocessable("too new")
        self.handled.append(message)


async def test_a_replayed_message_is_handled_once_and_only_by_the_queue_that_failed(
    bus: Bus, store: DeadLetterStore, database_url: str
) -> None:
    name = f"t_{uuid4().hex[:12]}"
    fragile, other = Fragile(), Fragile()
    other.fixed = True
    await bus.subscribe_dead_letters(store.keep)
    await bus.subscribe(name, DIRECT, name, fragile)
    await bus.subscribe(f"{name}_other", DIRECT, name, other)
    sent = [Message(DIRECT, name, b"%d" % number, {EVENT_ID: str(number)}) for number in range(20)]
    await asyncio.gather(*(bus.publish(message) for message in sent))

    async def kept(count: int) -> bool:
        return len(await store.some(name, 100)) == count

    await eventually(lambda: kept(20))
    async with relaying(database_url, bus):
        # Not fixed yet: each fails again, as a new letter.
        first = await replay(store, queue=name)
        await eventually(_dead(store, name, 20))
        assert {found.headers[REPLAYS] for found in await store.some(name, 100)} == {"1"}
        fragile.fixed = True
        second = await replay(store, queue=name)
        await eventually(lambda: kept(0))
        await eventually(lambda: len(fragile.handled) == 20)
    assert len({*first, *second}) == 40
    assert sorted(fragile.handled, key=lambda message: int(message.body)) == [
        Message(DIRECT, name, message.body, {**message.headers, REPLAYS: "2"}) for message in sent
    ]
    await eventually(lambda: len(other.handled) >= 20)  # another queue, at its own pace
    assert len(other.handled) == 20
    assert {found.state for found in await store.some(name, 100, replayed=True)} == {"replayed"}


def _dead(store: DeadLetterStore, queue: str, count: int) -> Callable[[], Awaitable[bool]]:
    async def found() -> bool:
        return [letter.state for letter in await store.some(queue, 100)] == ["dead"] * count

    return found


async def test_a_replayed_letter_waits_for_its_queue_and_for_the_broker(
    bus: Bus, store: DeadLetterStore, database_url: str
) -> None:
    name = f"t_{uuid4().hex[:12]}"
    await store.keep(letter(name))
    fragile = Fragile()
    fragile.fixed = True
    await replay(store, queue=name)
    async with relaying(database_url, bus):
        await bus.subscribe(name, DIRECT, name, fragile)
        await eventually(lambda: fragile.handled, 30)
    (message,) = fragile.handled
    assert (message.exchange, message.routing_key, message.body) == (DIRECT, "shop.sold", b"\x00it")


async def test_a_letter_that_cannot_be_stored_stays_in_the_bus(
    bus: Bus, store: DeadLetterStore, database_url: str
) -> None:
    name = f"t_{uuid4().hex[:12]}"
    await bus.subscribe_dead_letters(store.keep)
    await bus.subscribe(name, DIRECT, name, Fragile())
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("ALTER TABLE events.dead_letter RENAME TO away")
        publishing = asyncio.create_task(bus.publish(Message(DIRECT, name, b"it")))
        await asyncio.wait((publishing,), timeout=0.5)
        connection.execute("ALTER TABLE events.away RENAME TO dead_letter")
    await eventually(_dead(store, name, 1), 30)
    await publishing


async def test_a_letter_that_crashes_its_consumer_every_time_is_never_dropped(
    rabbitmq_url: str, store: DeadLetterStore
) -> None:
    """RabbitMQ 4 drops a message after 20 deliveries without an acknowledgement."""
    name = f"t_{uuid4().hex[:12]}"
    begun = 0

    async def never(message: Message) -> None:
        nonlocal begun
        begun += message.routing_key == name
        await asyncio.Event().wait()

    async def open_bus() -> RabbitBus:
        bus = RabbitBus(rabbitmq_url, POLICY, name="test")
        bus.start()
        await bus.wait_ready(30)
        return bus

    first = await open_bus()
    await first.subscribe(name, DIRECT, name, Fragile())
    await first.publish(Message(DIRECT, name, b"it"))
    for times in range(1, 5):
        reader = await open_bus()
        await reader.subscribe_dead_letters(never)
        await eventually(lambda times=times: begun == times)  # type: ignore[misc]  # mypy does not infer it
        await reader._in.close()  # its connection ends without an answer, as when its process is killed
        for task in [task for subscription in reader._subscriptions for task in subscription._handling]:
            task.cancel()
        await reader.close()
    await first.subscribe_dead_letters(store.keep)
    await eventually(_dead(store, name, 1))
    await first.close()
