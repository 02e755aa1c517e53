"""What pika does not do for a connection, one test each (docs/faust-and-pika.md)."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from pika import BasicProperties
from pika.channel import Channel as PikaChannel

from kit.errors import Overloaded, Unavailable
from kit.messaging.rabbit_channels import Publisher
from kit.messaging.rabbit_connection import (
    RECEIVE_BYTES,
    SEND_BYTES,
    Channel,
    Connection,
    ConnectionListener,
    Rabbit,
    _receive_more_at_once,
    _send_more_at_once,
)
from tests.waiting import eventually

URL = "amqp://guest:guest@127.0.0.1:{}/%2F"


class Opened(ConnectionListener):
    """Keeps the connection that it was opened with."""

    def __init__(self) -> None:
        self.connection: Connection | None = None

    async def opened(self, connection: Connection) -> None:
        self.connection = connection


@pytest.fixture
async def rabbit(rabbitmq_url: str) -> AsyncIterator[Rabbit]:
    """Not started yet."""
    rabbit = Rabbit(rabbitmq_url, name="test")
    yield rabbit
    await rabbit.close()


async def test_a_refused_connection_is_one_line_with_its_cause(
    unused_port: int, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    rabbit = Rabbit(URL.format(unused_port), name="test")
    rabbit.start()
    with caplog.at_level(logging.DEBUG), pytest.raises(Unavailable, match=r"not ready.*ConnectionRefusedError"):
        await rabbit.wait_ready(0.5)
    await rabbit.close()
    assert not [record for record in caplog.records if record.name.startswith("pika")]
    lost = [line for line in capsys.readouterr().out.splitlines() if "rabbitmq_lost" in line]
    assert lost
    assert all("ConnectionRefusedError" in line for line in lost)


def test_a_transport_that_pika_has_changed_stays_as_it_is() -> None:
    changed = type("_AsyncPlaintextTransport", (), {})()
    connection: Any = SimpleNamespace(_transport=changed)
    _receive_more_at_once(connection)
    _send_more_at_once(connection)
    assert vars(changed) == {}


class ConsumingListener(Opened):
    """Writes down what it does, and when others have declared."""

    def __init__(self, steps: list[str]) -> None:
        super().__init__()
        self.steps = steps

    async def opened(self, connection: Connection) -> None:
        channel = await connection.channel()
        await channel.once("shared", self.declare_shared)
        self.steps.append("declared")

    async def declare_shared(self, channel: Channel) -> None:
        await channel.declare_exchange("direct_events", "direct")
        self.steps.append("shared")

    async def begin(self) -> None:
        self.steps.append("began")


async def test_all_is_declared_before_anything_is_consumed_and_what_many_share_once_a_connection(
    rabbit: Rabbit,
) -> None:
    steps: list[str] = []
    first = Opened()
    rabbit.add(first)
    for _ in range(3):
        rabbit.add(ConsumingListener(steps))
    rabbit.start()
    await rabbit.wait_ready(30)
    assert steps == ["shared", *["declared"] * 3, *["began"] * 3]
    await rabbit.open(ConsumingListener(steps), 30)
    assert steps[7:] == ["declared", "began"]
    assert first.connection is not None
    first.connection.fail(Unavailable("as if it were lost"))
    await eventually(lambda: len(steps) == 18, within_s=30)
    assert steps[9:] == ["shared", *["declared"] * 4, *["began"] * 4]


async def test_a_frame_is_received_in_few_pieces(rabbit: Rabbit) -> None:
    user = Opened()
    rabbit.add(user)
    rabbit.start()
    await rabbit.wait_ready(30)
    assert user.connection is not None
    transport = user.connection.raw._transport
    assert transport._MAX_RECV_BYTES == RECEIVE_BYTES
    assert type(transport)._MAX_RECV_BYTES < RECEIVE_BYTES, "pika has changed: ours may not be needed"


async def test_what_is_buffered_is_sent_in_few_pieces(rabbit: Rabbit, monkeypatch: pytest.MonkeyPatch) -> None:
    user = Opened()
    publisher = Publisher(rabbit)
    rabbit.add(user)
    rabbit.start()
    await rabbit.wait_ready(30)
    assert user.connection is not None
    transport = user.connection.raw._transport
    send, sent = type(transport)._sigint_safe_send, []

    def counted(sock: Any, data: bytes) -> int:
        sent.append(len(data))
        return int(send(sock, data))

    monkeypatch.setattr(transport, "_sigint_safe_send", counted)
    confirms = [publisher.publish("", "nowhere", b"x", BasicProperties(), mandatory=False) for _ in range(100)]
    async with asyncio.timeout(30):
        await asyncio.gather(*confirms)
    assert len(sent) == 1
    large = [publisher.publish("", "nowhere", bytes(100_000), BasicProperties(), mandatory=False) for _ in range(20)]
    async with asyncio.timeout(30):
        await asyncio.gather(*large)
    assert sum(sent) > 20 * 100_000, "though a send takes a part of it"
    assert max(sent) < 2 * SEND_BYTES + 100_000


async def test_a_call_whose_answer_never_comes_ends_with_its_connection() -> None:
    """pika calls back when the broker answers, and never where the connection is lost before."""
    lost: asyncio.Future[Unavailable] = asyncio.get_running_loop().create_future()
    channel = Channel(PikaChannel.__new__(PikaChannel), lost, set())

    def never(callback: Callable[[Any], None]) -> None:
        """As `basic_qos` on a connection that is about to be lost."""

    calling = asyncio.create_task(channel.call(never))
    await asyncio.sleep(0)
    assert not calling.done()
    lost.set_result(Unavailable("the connection is lost"))
    with pytest.raises(Unavailable, match="the connection is lost"):
        await calling


async def test_publishing_has_a_bound_and_ends_while_the_broker_reads_nothing(rabbit: Rabbit) -> None:
    """pika buffers whatever is published, without a bound, also while the broker has blocked the connection."""
    publisher = Publisher(rabbit, unconfirmed_max=1)
    rabbit.start()
    await rabbit.wait_ready(30)
    queue = f"t_{uuid4().hex[:12]}"

    def publish() -> asyncio.Future[None]:
        return publisher.publish("", queue, b"x", BasicProperties(), mandatory=False)

    confirmed = publish()
    with pytest.raises(Overloaded, match="the bound is reached"):
        publish()
    await confirmed
    rabbit._set_blocked(True)  # as the broker's connection.blocked does
    with pytest.raises(Unavailable, match="memory or disk alarm"):
        publish()
    rabbit._set_blocked(False)
    await publish()


async def test_an_unroutable_mandatory_message_is_no_confirmed_one(rabbit: Rabbit) -> None:
    """The return has no delivery tag, and the broker's acknowledgement follows it."""
    publisher = Publisher(rabbit)
    rabbit.start()
    await rabbit.wait_ready(30)
    with pytest.raises(Unavailable, match="has no queue for"):
        await publisher.publish("", f"t_{uuid4().hex[:12]}", b"x", BasicProperties(), mandatory=True)
    await eventually(lambda: publisher.unconfirmed == 0)
