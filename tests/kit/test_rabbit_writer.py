"""Laws of the log's writer over RabbitMQ, on a channel that answers when it is told to."""

import asyncio
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pika.spec import Basic

from kit.errors import Unavailable
from kit.log.rabbit_writer import RabbitLogWriter

PARTITIONS = 4
SENDING_MAX = 2


@dataclass
class ConfirmingChannel:
    """A connection and its channel at once, with everything declared. Keeps what is published."""

    published: list[tuple[str, bytes]] = field(default_factory=list)
    broken: bool = False  # a publish raises what no broker answers
    failed: list[Unavailable] = field(default_factory=list)
    is_open: bool = True

    @property
    def raw(self) -> "ConfirmingChannel":
        """pika's channel."""
        return self

    async def channel(self) -> "ConfirmingChannel":
        return self

    async def declare_queue(self, _name: str, _arguments: object) -> None:
        """They stand."""

    def add_on_return_callback(self, _callback: object) -> None:
        """Nothing is returned."""

    async def call(self, _method: object, **_arguments: object) -> None:
        """Confirms are on."""

    def confirm_delivery(self) -> None:
        """See `call`."""

    def basic_publish(self, _exchange: str, queue: str, body: bytes, _properties: object, *, mandatory: bool) -> None:
        assert mandatory
        if self.broken:
            raise RuntimeError("a bug")
        self.published.append((queue, body))

    def fail(self, error: Unavailable) -> None:
        """See Connection."""
        self.failed.append(error)


@dataclass(frozen=True)
class ScriptedAnswer:
    """As pika hands it over."""

    method: Any


def writer_of(partitions: int = PARTITIONS) -> RabbitLogWriter:
    return RabbitLogWriter("amqp://guest:guest@127.0.0.1/%2F", partitions, str)


async def connected(writer: RabbitLogWriter, channel: ConfirmingChannel) -> None:
    opened: Any = writer.opened
    await opened(channel)


_steps = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.integers(0, PARTITIONS - 1)),
        st.tuples(st.just("confirm"), st.booleans()),
    ),
    min_size=12,
    max_size=80,
)


@given(steps=_steps)
def test_partitions_take_turns_whichever_has_more_and_keep_their_order(steps: list[tuple[str, int]]) -> None:
    """While a partition's record waits, no other partition publishes two."""

    async def scenario() -> None:
        writer, channel = writer_of(), ConfirmingChannel()
        await connected(writer, channel)
        appends: list[asyncio.Task[None]] = []
        sent: dict[str, list[bytes]] = {str(partition): [] for partition in range(PARTITIONS)}
        confirmed = 0
        since: dict[str, list[str]] = {}  # who published, while a record of that partition waits
        for step, value in [*steps, *[("confirm", False)] * len(steps)]:
            before = len(channel.published)
            if step == "append":
                body = b"%d" % len(appends)
                sent[str(value)].append(body)
                appends.append(asyncio.create_task(writer.append(value, body)))
                await asyncio.sleep(0)
            elif confirmed < len(channel.published):
                confirmed = len(channel.published) if value else confirmed + 1
                answered: Any = writer._answered
                answered(ScriptedAnswer(Basic.Ack(confirmed, multiple=True)))
            for queue, _ in channel.published[before:]:
                since.pop(queue, None)
                for others in since.values():
                    others.append(queue)
            done = [queue for queue, _ in channel.published]
            for queue, bodies in sent.items():
                if done.count(queue) < len(bodies):
                    others = since.setdefault(queue, [])
                    assert len(set(others)) == len(others), f"{queue} waits: {others}"
            assert len(channel.published) - confirmed <= SENDING_MAX
        await asyncio.gather(*appends)
        for queue, bodies in sent.items():
            assert [body for name, body in channel.published if name == queue] == bodies

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("kit.log.rabbit_writer.SENDING_MAX", SENDING_MAX)
        asyncio.run(scenario())


async def test_every_partition_makes_progress_while_records_come_faster_than_confirms() -> None:
    writer, channel = writer_of(16), ConfirmingChannel()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("kit.log.rabbit_writer.SENDING_MAX", SENDING_MAX)
        await connected(writer, channel)
        appends = []
        for number in range(160):
            appends += [asyncio.create_task(writer.append(partition, b"%d" % number)) for partition in range(16)]
            await asyncio.sleep(0)
            answered: Any = writer._answered
            answered(ScriptedAnswer(Basic.Ack(number + 1, multiple=False)))
        counts = [sum(queue == str(partition) for queue, _ in channel.published) for partition in range(16)]
        assert max(counts) - min(counts) <= SENDING_MAX
        answered(ScriptedAnswer(Basic.Ack(len(channel.published), multiple=True)))
        while len(channel.published) < len(appends):
            answered(ScriptedAnswer(Basic.Ack(len(channel.published), multiple=True)))
        answered(ScriptedAnswer(Basic.Ack(len(channel.published), multiple=True)))
        await asyncio.gather(*appends)


async def test_a_record_that_was_taken_is_published_again_whatever_publishing_raises() -> None:
    """`append` raises before it first waits only what it has not taken: its caller gives the number to the next."""
    writer, channel = writer_of(), ConfirmingChannel(broken=True)
    await connected(writer, channel)
    append = asyncio.create_task(writer.append(0, b"taken"))
    await asyncio.sleep(0)
    assert not append.done()
    assert [str(error) for error in channel.failed] == ["RabbitMQ: RuntimeError('a bug')"]
    writer.lost(channel.failed[0])
    again = ConfirmingChannel()
    await connected(writer, again)
    assert again.published == [("0", b"taken")]
    answered: Any = writer._answered
    answered(ScriptedAnswer(Basic.Ack(1, multiple=False)))
    await append
