"""A message's headers are whatever its publisher chose: none of them stops a queue; its letter is kept and replayed."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import pika
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit.database.postgres import Database
from kit.errors import Unavailable, Unprocessable
from kit.messaging.dead_letters import DeadLetterStore
from kit.messaging.messages import (
    ATTEMPTS,
    DIRECT,
    EVENT_ID,
    HEADER_CHARS_MAX,
    HEADERS_MAX,
    REPLAYS,
    FailedMessage,
    Message,
    header_texts,
    replay_of,
)
from kit.messaging.rabbit_bus import RabbitBus
from kit.messaging.rabbit_connection import Connection, ConnectionListener, Rabbit
from tests.kit.letters_database import POLICY, letters_database
from tests.waiting import eventually

VALUES = st.one_of(
    st.text(max_size=700),
    st.integers(),
    st.binary(max_size=300),
    st.none(),
    st.lists(st.integers(), max_size=3),
    st.sampled_from(["\0", "\ud800", "x" * 5_000, "٣", "-1", "1e9", "９" * 9, "9" * 400]),
)
NAMES = st.one_of(st.sampled_from([EVENT_ID, REPLAYS, ATTEMPTS, "letter_id", "origin_exchange"]), st.text(max_size=300))


@given(st.dictionaries(NAMES, VALUES, max_size=60))
def test_whatever_headers_are_a_letter_of_them_can_be_published_stored_and_replayed(given: dict[str, Any]) -> None:
    headers = header_texts(given.items())
    assert len(headers) <= HEADERS_MAX
    letter = FailedMessage("q", Message(DIRECT, "k", b"", headers), "a\0\ud800").dead_letter()
    replayed = replay_of(letter)
    assert int(replayed.headers[REPLAYS]) >= 1
    for name, value in {**letter.headers, **replayed.headers}.items():
        assert "\0" not in name + value
        assert len(name.encode()) <= 255  # AMQP's bound
        assert len(value.encode()) <= 4 * HEADER_CHARS_MAX


@given(st.text(min_size=HEADER_CHARS_MAX, max_size=HEADER_CHARS_MAX + 50), st.binary(), st.binary())
def test_letters_of_two_events_are_two_though_their_ids_were_cut(event_id: str, one: bytes, other: bytes) -> None:
    def letter_id(body: bytes) -> object:
        headers = header_texts([(EVENT_ID, event_id)])
        return FailedMessage("q", Message(DIRECT, "k", body, headers), "").letter_id

    assert (letter_id(one) == letter_id(other)) == (one == other)


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """With the schema `events`, as its role."""
    async with letters_database(database_url) as opened:
        yield opened


@pytest.fixture
async def bus(rabbitmq_url: str) -> AsyncIterator[RabbitBus]:
    """At work."""
    made = RabbitBus(rabbitmq_url, POLICY, name="test")
    made.start()
    await made.wait_ready(30)
    yield made
    await made.close()


def _publish(url: str, queue: str, headers: dict[str, Any], body: bytes) -> None:
    with pika.BlockingConnection(pika.URLParameters(url)) as connection:
        properties = pika.BasicProperties(headers=headers)
        connection.channel().basic_publish("", queue, body, properties)


async def test_a_foreign_message_becomes_a_letter_and_stops_nobody(
    bus: RabbitBus, database: Database, rabbitmq_url: str
) -> None:
    queue, store = f"foreign-{uuid4().hex[:8]}", DeadLetterStore(database)
    handled: list[Message] = []

    async def fails(message: Message) -> None:
        handled.append(message)
        if message.body != b"ours":
            raise Unprocessable("no\0good")

    async def keep(letter: Message) -> None:
        if letter.routing_key == queue:  # the queue of letters is the server's, not this test's
            await store.keep(letter)

    await bus.subscribe(queue, DIRECT, queue, fails)
    await bus.subscribe_dead_letters(keep)
    headers: list[dict[str, Any]] = [
        {EVENT_ID: "ü" * 200},
        {EVENT_ID: "a\0b", "c\0": "d\0"},
        {REPLAYS: "x"},
        {ATTEMPTS: "٣"},
        {"n": [1, {"m": b"\xff"}]},
    ]
    for number, one in enumerate(headers):
        await asyncio.to_thread(_publish, rabbitmq_url, queue, one, bytes([number]))
    await bus.publish(Message(DIRECT, queue, b"ours", {EVENT_ID: "1"}))

    async def kept() -> bool:
        return len(await store.some(queue, 10)) == len(headers) and any(one.body == b"ours" for one in handled)

    await eventually(kept, 60)
    replayed = [letter for some in [some async for some in store.replay(queue=queue)] for letter in some]
    assert len(replayed) == len(headers)


async def test_an_event_waits_until_the_queues_of_its_consumers_are_there_again(
    bus: RabbitBus, rabbitmq_url: str
) -> None:
    """The broker came back empty, or a queue was deleted: what it confirmed then, nobody would get."""
    queue = f"gone-{uuid4().hex[:8]}"
    await bus.declare(queue, DIRECT, queue)

    def on_broker(method: str) -> int:
        with pika.BlockingConnection(pika.URLParameters(rabbitmq_url)) as connection:
            if method == "delete":
                connection.channel().queue_delete(queue)
                return 0
            return int(connection.channel().queue_declare(queue, passive=True).method.message_count)

    for lost in (False, True):
        await asyncio.to_thread(on_broker, "delete")
        if lost:
            connection = bus._out._connection
            assert connection is not None
            connection.fail(Unavailable("as if the broker had been replaced"))

        async def publish() -> bool:
            try:
                await bus.publish(Message(DIRECT, queue, b"x"))
            except Unavailable:
                return False
            return True

        await eventually(publish, 60)
        assert await asyncio.to_thread(on_broker, "count") == 1


async def test_an_error_of_a_listener_ends_the_connection_and_not_the_task(rabbitmq_url: str) -> None:
    """Whatever it is: without the task a process would never publish or consume again."""

    class Breaks(ConnectionListener):
        times = 0

        async def opened(self, connection: Connection) -> None:
            Breaks.times += 1
            if Breaks.times == 1:
                raise RuntimeError("a bug")
            if Breaks.times == 2:
                connection.raw.close()
                await asyncio.wait((connection.lost,))
                await connection.channel()  # of a connection that is closed

    rabbit = Rabbit(rabbitmq_url, name="test")
    rabbit.add(Breaks())
    rabbit.start()
    await rabbit.wait_ready(30)
    assert Breaks.times == 3
    await rabbit.close()
