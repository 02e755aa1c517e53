"""Laws of the outbox, its relay and the inbox, on a real PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from functools import partial
from itertools import repeat
from uuid import UUID, uuid4

import asyncpg
import psycopg
import pytest
from prometheus_client import CollectorRegistry

from kit.errors import QueueFull, Unavailable
from kit.messaging import outbox
from kit.messaging.bus import DIRECT, EVENT_ID, Handler, InProcessBus, Message
from kit.messaging.gate import Gate
from kit.messaging.inbox import record_new_events
from kit.messaging.outbox import WINDOW, OutboxEvent, Relay, RelayMetrics, insert, insert_async
from kit.retry import RetryPolicy
from tests.private_servers import PrivateServers
from tests.waiting import eventually

TABLES = """
CREATE SCHEMA shop;
CREATE TABLE shop.outbox (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, event_id uuid NOT NULL, exchange text NOT NULL,
    routing_key text NOT NULL, body bytea NOT NULL, headers jsonb, created_at timestamptz NOT NULL DEFAULT now());
CREATE TABLE shop.events_processed (
    queue text NOT NULL, event_id uuid NOT NULL, processed_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (queue, event_id));
"""


class StubbornBus:
    """A bus that notes what it takes. It takes nothing while `down`, and no body in `too_much`: its queue is full."""

    def __init__(self) -> None:
        self.taken: list[Message] = []
        self.refused = 0
        self.down = False
        self.too_much: set[bytes] = set()

    def has_taken(self, body: bytes) -> bool:
        return any(message.body == body for message in self.taken)

    async def publish(self, message: Message) -> None:
        if message.body in self.too_much:
            self.refused += 1
            raise QueueFull("full")
        if self.down:
            self.refused += 1
            raise Unavailable("down")
        await asyncio.sleep(0)
        self.taken.append(message)

    async def subscribe(
        self,
        queue: str,
        exchange: str,
        routing_key: str,
        handler: Handler,
        *,
        prefetch: int = 1,
        gate: Gate | None = None,
    ) -> None: ...

    async def subscribe_process(self, queue: str, exchange: str, routing_key: str, handler: Handler) -> None: ...

    async def declare(self, queue: str, exchange: str, routing_key: str) -> None: ...

    async def subscribe_dead_letters(self, handler: Handler) -> None: ...

    async def close(self) -> None: ...


@pytest.fixture
def database(database_url: str) -> Iterator["psycopg.Connection[tuple[object, ...]]"]:
    """A connection to a database with an outbox."""
    with psycopg.connect(database_url) as connection:
        connection.execute(TABLES)
        connection.commit()
        yield connection


@pytest.fixture
async def connection(database: object, database_url: str) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    """The same by asyncpg."""
    opened = await asyncpg.connect(database_url)
    yield opened
    await opened.close()


@pytest.fixture
def bus() -> StubbornBus:
    """Where events go."""
    return StubbornBus()


class Relays:
    """Relays on one outbox."""

    def __init__(self, database_url: str, bus: StubbornBus) -> None:
        self.running: list[tuple[Relay, asyncio.Task[None], CollectorRegistry]] = []
        self._of = (database_url, bus)

    def start(self) -> None:
        registry = CollectorRegistry()
        database_url, bus = self._of
        relay = Relay(database_url, "shop", bus, RelayMetrics(registry))
        self.running.append((relay, asyncio.create_task(relay.run()), registry))

    def metric(self, name: str) -> list[float | None]:
        return [registry.get_sample_value(name, {"schema": "shop"}) for _, _, registry in self.running]

    async def close(self) -> None:
        for relay, task, _ in self.running:
            relay.close()
            await task


@pytest.fixture
async def relays(database: object, database_url: str, bus: StubbornBus) -> AsyncIterator[Relays]:
    """Relays, closed in the end."""
    made = Relays(database_url, bus)
    yield made
    await made.close()


def events(*bodies: str) -> list[OutboxEvent]:
    return [OutboxEvent(uuid4(), DIRECT, "shop.sold", body.encode()) for body in bodies]


def left(database: "psycopg.Connection[tuple[object, ...]]") -> int:
    row = database.execute("SELECT count(*) FROM shop.outbox").fetchone()
    database.commit()
    assert row is not None
    return int(str(row[0]))


async def test_committed_events_go_out_once_in_order_and_leave_the_table(
    database: "psycopg.Connection[tuple[object, ...]]", relays: Relays, bus: StubbornBus
) -> None:
    sold = events(*(str(number) for number in range(2_500)))
    with database.cursor() as cursor:
        insert(cursor, "shop", sold[:2_000])
    database.commit()
    relays.start()
    await eventually(lambda: len(bus.taken) == 2_000)
    with database.cursor() as cursor:
        insert(cursor, "shop", sold[2_000:])
    database.commit()
    await eventually(lambda: left(database) == 0)
    expected = [Message(DIRECT, "shop.sold", event.body, {EVENT_ID: str(event.event_id)}) for event in sold]
    assert bus.taken == expected
    # They are gone from the table before the relay hears of it and counts them.
    await eventually(lambda: relays.metric("events_published_total") == [2_500])


async def test_what_is_rolled_back_never_goes_out(
    connection: "asyncpg.Connection[asyncpg.Record]", relays: Relays, bus: StubbornBus
) -> None:
    relays.start()
    transaction = connection.transaction()
    await transaction.start()
    await insert_async(connection, "shop", events("never"))
    await transaction.rollback()
    async with connection.transaction():
        await insert_async(connection, "shop", events("sold"))
    await eventually(lambda: bus.taken)
    assert [message.body for message in bus.taken] == [b"sold"]


async def test_an_event_whose_transaction_commits_late_is_not_passed_over(
    connection: "asyncpg.Connection[asyncpg.Record]",
    database: "psycopg.Connection[tuple[object, ...]]",
    relays: Relays,
    bus: StubbornBus,
) -> None:
    relays.start()
    with database.cursor() as cursor:
        insert(cursor, "shop", events("lower id, commits last"))
    await insert_async(connection, "shop", events("higher id, commits first"))
    await eventually(lambda: len(bus.taken) == 1)
    database.commit()
    await eventually(lambda: len(bus.taken) == 2)
    assert [message.body for message in bus.taken] == [b"higher id, commits first", b"lower id, commits last"]


async def test_while_the_bus_is_down_events_wait(
    database: "psycopg.Connection[tuple[object, ...]]", relays: Relays, bus: StubbornBus
) -> None:
    bus.down = True
    with database.cursor() as cursor:
        insert(cursor, "shop", events("a", "b", "c"))
    database.commit()
    relays.start()
    await eventually(lambda: bus.refused > 6)
    assert left(database) == 3
    bus.down = False
    await eventually(lambda: left(database) == 0, 30)
    assert [message.body for message in bus.taken] == [b"a", b"b", b"c"]


@pytest.mark.parametrize(
    "too_much", [{b"0", b"1", b"2", b"3"}, {b"0", b"2"}, {b"1", b"3"}], ids=["all", "until the last", "the last too"]
)
async def test_events_that_a_full_queue_refuses_hold_up_no_others(
    database: "psycopg.Connection[tuple[object, ...]]",
    relays: Relays,
    bus: StubbornBus,
    monkeypatch: pytest.MonkeyPatch,
    too_much: set[bytes],
) -> None:
    monkeypatch.setattr(outbox, "reconnect_pauses_s", lambda: repeat(3_600.0))
    bus.too_much = too_much
    with database.cursor() as cursor:
        insert(cursor, "shop", [OutboxEvent(uuid4(), DIRECT, "shop.made", b"%d" % number) for number in range(4)])
    database.commit()
    relays.start()
    await eventually(lambda: left(database) == len(too_much))
    for body in ("sold", "sold again", "sold out"):
        with database.cursor() as cursor:
            insert(cursor, "shop", events(body))
        database.commit()
        await eventually(partial(bus.has_taken, body.encode()))
    await eventually(lambda: left(database) == len(too_much))
    assert bus.refused == len(too_much)


async def test_events_that_a_full_queue_refused_go_out_when_it_has_room(
    database: "psycopg.Connection[tuple[object, ...]]", relays: Relays, bus: StubbornBus
) -> None:
    bus.too_much = {b"a", b"b", b"c"}
    with database.cursor() as cursor:
        insert(cursor, "shop", events("a", "b", "c"))
    database.commit()
    relays.start()
    await eventually(lambda: bus.refused > 6)
    assert left(database) == 3
    bus.too_much.clear()
    await eventually(lambda: left(database) == 0, 30)
    assert [message.body for message in bus.taken] == [b"a", b"b", b"c"]


async def test_events_of_a_paused_consumer_wait_and_hold_up_no_others(
    database: "psycopg.Connection[tuple[object, ...]]", database_url: str
) -> None:
    bus, gate = InProcessBus(RetryPolicy()), Gate(is_open=False)
    paused: list[bytes] = []
    sold: list[bytes] = []

    async def pause(message: Message) -> None:
        paused.append(message.body)

    async def sell(message: Message) -> None:
        sold.append(message.body)

    await bus.subscribe("paused", DIRECT, "shop.paused", pause, gate=gate)
    await bus.subscribe("sold", DIRECT, "shop.sold", sell)
    waiting = [OutboxEvent(uuid4(), DIRECT, "shop.paused", b"%d" % number) for number in range(2 * WINDOW)]
    with database.cursor() as cursor:
        insert(cursor, "shop", waiting)
        insert(cursor, "shop", events("a", "b"))
    database.commit()
    relay = Relay(database_url, "shop", bus, RelayMetrics(CollectorRegistry()))
    running = asyncio.create_task(relay.run())
    await eventually(lambda: sold == [b"a", b"b"])
    await eventually(lambda: left(database) == len(waiting))
    assert paused == []
    gate.set(is_open=True)
    await eventually(lambda: left(database) == 0, 30)
    assert sorted(paused) == sorted(event.body for event in waiting)
    relay.close()
    await running
    await bus.close()


async def test_of_two_relays_one_is_active_and_the_other_follows_when_its_connection_dies(
    database: "psycopg.Connection[tuple[object, ...]]", relays: Relays, bus: StubbornBus
) -> None:
    relays.start()
    await eventually(lambda: relays.metric("outbox_relay_active") == [1])
    relays.start()
    for number in range(20):
        with database.cursor() as cursor:
            insert(cursor, "shop", events(f"before {number}"))
        database.commit()
    await eventually(lambda: left(database) == 0)
    assert len(bus.taken) == 20, "two relays published the same event"
    assert relays.metric("outbox_relay_active") == [1, 0]
    database.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND granted"
        " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    )
    with database.cursor() as cursor:
        insert(cursor, "shop", events("after"))
    database.commit()
    await eventually(lambda: b"after" in [message.body for message in bus.taken], 30)


async def test_events_go_out_after_the_database_was_away(
    database_url: str, relays: Relays, bus: StubbornBus, servers: PrivateServers
) -> None:
    relays.start()
    await eventually(lambda: relays.metric("outbox_relay_active") == [1])
    await asyncio.to_thread(servers.postgres.restart)
    with psycopg.connect(database_url) as again, again.cursor() as cursor:
        insert(cursor, "shop", events("after"))
    await eventually(lambda: [message.body for message in bus.taken] == [b"after"], 60)


def test_an_event_for_an_exchange_that_does_not_exist_is_refused_before_it_is_written(
    database: "psycopg.Connection[tuple[object, ...]]",
) -> None:
    with database.cursor() as cursor, pytest.raises(ValueError, match="no exchange"):
        insert(cursor, "shop", [OutboxEvent(uuid4(), "nonesuch", "shop.sold", b"{}")])


@pytest.mark.parametrize("schema", ["", "Shop", 'shop"; DROP TABLE x', "shop.outbox", "1shop"])
def test_a_schema_is_a_plain_name(schema: str, bus: StubbornBus) -> None:
    with pytest.raises(ValueError, match="no name of a schema"):
        Relay("postgresql://nowhere", schema, bus, RelayMetrics(CollectorRegistry()))


async def test_an_event_is_new_once_per_queue_and_only_when_its_transaction_commits(
    connection: "asyncpg.Connection[asyncpg.Record]",
) -> None:
    event_id = UUID(int=7)
    transaction = connection.transaction()
    await transaction.start()
    assert await record_new_events(connection, "shop", [("billing_sold", event_id)])
    await transaction.rollback()
    assert await record_new_events(connection, "shop", [("billing_sold", event_id)])
    assert not await record_new_events(connection, "shop", [("billing_sold", event_id)])
    assert await record_new_events(connection, "shop", [("mail_sold", event_id)])
    assert await record_new_events(connection, "shop", [("other", event_id)])
