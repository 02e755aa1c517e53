"""Laws of the bridge that the log's contract does not see: what it counts, carries and refuses."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count, islice, repeat
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

import pyarrow as pa
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError, TopicAuthorizationFailedError
from hypothesis import given
from hypothesis import strategies as st
from pika import BlockingConnection, URLParameters
from prometheus_client import CollectorRegistry

from deploy.servers import RabbitMQ
from ingest.bridge import Bridge
from ingest.forwarding import BridgeMetrics, PartitionForwarder, ProducerPauses
from kit.errors import ConfigError
from kit.log.kafka import ensure_topic, idempotent_producer
from kit.log.rabbit_writer import RabbitLogWriter, dead_queue_of
from kit.retry import reconnect_pauses_s
from kit.secrets.text import SecretText
from schemas.frame import FrameHeader, encode_frame, split_frames
from tests.private_servers import PrivateServers
from tests.waiting import eventually

TRACE = "0af7651916cd43dd8448eb211c80319c"


def frame(number: int) -> bytes:
    header = FrameHeader(1, 0, "f" * 16, number, 3, 3 * (number + 1), 0, f"00-{TRACE}-b7ad6b7169203331-01")
    return encode_frame(header, pa.record_batch({"x": [1, 2, 3]}))


async def test_it_counts_what_it_moves_and_carries_the_trace(rabbitmq_url: str, kafka_url: str) -> None:
    name = uuid4().hex[:12]
    registry = CollectorRegistry()
    queue_of = lambda partition: f"t_{name}_{partition}"  # noqa: E731  # one line, as a writer takes it
    writer = RabbitLogWriter(rabbitmq_url, 1, queue_of)
    bridge = Bridge(rabbitmq_url, kafka_url, 1, BridgeMetrics(registry), topic=f"t.{name}", queue_of=queue_of)
    running = asyncio.create_task(bridge.run())
    writer.start()
    records = [frame(0), frame(1), b"not a frame"]
    await asyncio.gather(*(writer.append(0, record) for record in records))

    def count(metric: str) -> float | None:
        return registry.get_sample_value(metric, {"partition": "0"})

    await eventually(lambda: count("bridge_frames_total") == 3, 60)
    assert count("bridge_readings_total") == 6
    assert count("bridge_bytes_total") == sum(map(len, records))
    assert count("bridge_unreadable_frames_total") == 1
    await writer.close()
    bridge.close()
    await running
    consumer = AIOKafkaConsumer(bootstrap_servers=kafka_url, auto_offset_reset="earliest", enable_auto_commit=False)
    await consumer.start()
    consumer.assign([TopicPartition(f"t.{name}", 0)])
    messages = [await consumer.getone() for _ in range(int(count("bridge_records_total") or 0))]
    await consumer.stop()
    assert [frame for message in messages for frame in split_frames(message.value)] == records
    carried = [dict(message.headers).get("traceparent", b"").decode() for message in messages]
    assert [traceparent[3:35] for traceparent in carried] == [TRACE] * (len(messages) - 1) + [""]


@dataclass
class ScriptedProducer:
    """Takes records; what it confirms is said."""

    sent: list[tuple[bytes, "asyncio.Future[None]"]] = field(default_factory=list)

    async def send(self, topic: str, record: bytes, **_: object) -> "asyncio.Future[None]":
        await asyncio.sleep(0)
        confirmed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.sent.append((record, confirmed))
        return confirmed


@dataclass
class ScriptedConnection:
    """A delivery's channel."""

    is_open: bool = True


@dataclass
class ScriptedDelivery:
    """What the bridge asks of a delivery."""

    body: bytes
    tag: int
    acked: list[int]
    channel: ScriptedConnection = field(default_factory=ScriptedConnection)

    def ack(self, *, up_to: bool) -> None:
        assert up_to
        self.acked.append(self.tag)


HEADER = FrameHeader(1, 0, "f" * 16, 0, 1, 1, 0)
_body = st.one_of(
    st.integers(0, 300).map(lambda size: encode_frame(HEADER, pa.record_batch({"x": pa.array([0] * size * 8)}))),
    st.sampled_from([b"not a frame", b"", b"x" * 3_000]),
)


@given(turns=st.lists(st.lists(_body, max_size=8), max_size=5), confirm=st.lists(st.integers(0, 3)))
def test_small_frames_share_records_in_their_order_and_are_acknowledged_after_them(
    turns: list[list[bytes]], confirm: list[int]
) -> None:
    bytes_max = 4_096

    async def scenario() -> None:
        producer = ScriptedProducer()
        acked: list[int] = []
        failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        metrics = BridgeMetrics(CollectorRegistry())
        forwarder = PartitionForwarder(0, "t", metrics, ProducerPauses())
        forwarding = asyncio.create_task(forwarder.forward(cast("Any", producer), failed))
        bodies = [body for turn in turns for body in turn]
        tag = confirmed = 0
        counts = iter(confirm)
        for turn in [*turns, []]:
            for body in turn:
                tag += 1
                forwarder.deliver(cast("Any", ScriptedDelivery(body, tag, acked)))
            for _ in range(3 * len(bodies) if not turn else 2):
                await asyncio.sleep(0)
            wanted = len(producer.sent) if not turn else min(len(producer.sent), confirmed + next(counts, 0))
            for _, future in producer.sent[confirmed:wanted]:
                future.set_result(None)
            confirmed = wanted
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            done = sum(len(split_frames(record)) for record, _ in producer.sent[:confirmed])
            assert max(acked, default=0) == done
        assert acked == sorted(acked)
        assert [frame for record, _ in producer.sent for frame in split_frames(record)] == bodies
        for record, _ in producer.sent:
            frames = split_frames(record)
            assert len(frames) == 1 or sum(map(len, frames)) <= bytes_max
        await forwarder.idle.wait()
        forwarding.cancel()

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("ingest.forwarding.RECORD_BYTES_MAX", bytes_max)
        asyncio.run(scenario())


_life = st.tuples(st.lists(_body, max_size=4), st.integers(0, 3), st.booleans())


@given(lives=st.lists(_life, max_size=6))
def test_what_one_producer_did_not_bring_the_next_one_sends_in_its_place(
    lives: list[tuple[list[bytes], int, bool]],
) -> None:
    """Of each producer: what is delivered meanwhile, how much it confirms, and whether RabbitMQ's connection is lost.
    Nothing is left out, nothing is given back, and what is acknowledged was confirmed."""

    async def scenario() -> None:
        forwarder = PartitionForwarder(0, "t", BridgeMetrics(CollectorRegistry()), ProducerPauses())
        queue: list[bytes] = []  # all that was put into it
        acked: list[int] = []
        channel, first = ScriptedConnection(), 0  # the oldest that this connection has delivered
        in_kafka: list[bytes] = []
        for bodies, confirms, is_lost in [*lives, ([], 10_000, False)]:
            producer, failed = ScriptedProducer(), asyncio.get_running_loop().create_future()
            forwarding = asyncio.create_task(forwarder.forward(cast("Any", producer), failed))
            for body in bodies:
                queue.append(body)
                forwarder.deliver(cast("Any", ScriptedDelivery(body, len(queue) - first, acked, channel)))
                await asyncio.sleep(0)
            for _ in range(3 * len(queue) + 9):
                await asyncio.sleep(0)
            for at, (record, confirmed) in enumerate(producer.sent):
                if at < confirms:
                    confirmed.set_result(None)
                    in_kafka += split_frames(record)
                else:
                    confirmed.set_exception(KafkaError("refused"))
                    confirmed.exception()
            for _ in range(9):
                await asyncio.sleep(0)
            assert failed.done() == (len(producer.sent) > confirms)
            failed.cancel() or failed.exception()
            forwarding.cancel()
            await asyncio.gather(forwarding, return_exceptions=True)
            forwarder.take_back()
            assert first + max(acked, default=0) == len(in_kafka)
            if is_lost:  # the broker delivers again what has no answer
                channel.is_open = False
                forwarder.forget()
                channel, first = ScriptedConnection(), len(in_kafka)
                acked.clear()
                for tag, body in enumerate(queue[first:], 1):
                    forwarder.deliver(cast("Any", ScriptedDelivery(body, tag, acked, channel)))
        assert in_kafka == queue
        await forwarder.idle.wait()

    asyncio.run(scenario())


def test_pauses_grow_until_what_was_refused_is_confirmed() -> None:
    pauses = ProducerPauses()
    usual = list(islice(reconnect_pauses_s(), 9))
    pauses.refused(1)
    assert [pauses.next_s() for _ in range(8)] == usual[:8]
    pauses.confirmed(0)  # another partition: its records are taken each time
    assert pauses.next_s() == usual[8]
    pauses.confirmed(1)
    assert pauses.next_s() == usual[0]


class RefusedProducer:
    """A producer that logs in, and whose records Kafka refuses of these partitions."""

    def __init__(self, producer: Any, refuses: set[int]) -> None:
        self._producer = producer
        self._refuses = refuses

    def __getattr__(self, name: str) -> Any:
        return getattr(self._producer, name)

    async def send(self, topic: str, record: bytes, *, partition: int, **more: Any) -> "asyncio.Future[Any]":
        if partition not in self._refuses:
            sent = await self._producer.send(topic, record, partition=partition, **more)
            return cast("asyncio.Future[Any]", sent)
        refused: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        refused.set_exception(TopicAuthorizationFailedError(topic))
        return refused


def started(rabbitmq_url: str, kafka_url: str, name: str) -> tuple[RabbitLogWriter, Bridge, CollectorRegistry]:
    """A writer at work on two partitions of that name, and a bridge to be run, with its metrics."""

    def queue_of(partition: int) -> str:
        return f"t_{name}_{partition}"

    registry, writer = CollectorRegistry(), RabbitLogWriter(rabbitmq_url, 2, queue_of)
    writer.start()
    bridge = Bridge(rabbitmq_url, kafka_url, 2, BridgeMetrics(registry), topic=f"t.{name}", queue_of=queue_of)
    return writer, bridge, registry


def publish_one(rabbitmq_url: str, queue: str) -> None:
    with BlockingConnection(URLParameters(rabbitmq_url)) as connection:
        connection.channel().basic_publish("", queue, b"one that is dead")


async def test_frames_that_kafka_refuses_again_and_again_are_not_dead_and_arrive(
    rabbitmq_url: str, kafka_url: str, session_servers: PrivateServers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RabbitMQ 4 gives a message up after 20 deliveries; here it does so after two."""
    name = uuid4().hex[:12]
    policy = (f"limit_{name}", f"^t_{name}_", '{"delivery-limit": 2}', "--apply-to", "queues")
    await asyncio.to_thread(cast("RabbitMQ", session_servers.rabbitmq).control, "set_policy", *policy)
    refuses = {0, 1}
    paused: list[int] = []  # how often the pause had grown, at each

    def pauses_s() -> Iterator[float]:
        for grown in count(1):
            paused.append(grown)
            yield 0.001

    monkeypatch.setattr("ingest.forwarding.reconnect_pauses_s", pauses_s)
    monkeypatch.setattr(
        "ingest.bridge.idempotent_producer",
        lambda url, linger_ms: RefusedProducer(idempotent_producer(url, linger_ms=linger_ms), refuses),
    )
    monkeypatch.setattr("ingest.bridge.QUEUE_LOOK_S", 0.05)
    writer, bridge, registry = started(rabbitmq_url, kafka_url, name)
    running = asyncio.create_task(bridge.run())

    def of(metric: str, partition: int) -> float:
        return registry.get_sample_value(metric, {"partition": str(partition)}) or 0.0

    def restarts() -> float:
        return registry.get_sample_value("bridge_restarts_total") or 0.0

    try:
        await asyncio.gather(*(writer.append(number % 2, frame(number)) for number in range(20)))
        await eventually(lambda: all(of("bridge_frames_in_hand", at) == 10 for at in (0, 1)), 60)
        before = restarts()
        await eventually(lambda: restarts() > before + 21, 60)
        assert paused[-1] > 20
        assert [of("bridge_dead_frames", at) for at in (0, 1)] == [0, 0]
        refuses.clear()
        await eventually(lambda: all(of("bridge_frames_total", at) == 10 for at in (0, 1)), 60)
        assert [of("bridge_dead_frames", at) for at in (0, 1)] == [0, 0]
        publish_one(rabbitmq_url, dead_queue_of(f"t_{name}_1"))
        await eventually(lambda: [of("bridge_dead_frames", at) for at in (0, 1)] == [0, 1], 60)
    finally:
        await writer.close()
        bridge.close()
        await running


async def test_a_partition_that_kafka_refuses_holds_up_no_other(
    rabbitmq_url: str, kafka_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though the pause before another producer is an hour."""
    name, refuses = uuid4().hex[:12], {0}
    monkeypatch.setattr("ingest.forwarding.reconnect_pauses_s", lambda: repeat(3_600.0))
    monkeypatch.setattr(
        "ingest.bridge.idempotent_producer",
        lambda url, linger_ms: RefusedProducer(idempotent_producer(url, linger_ms=linger_ms), refuses),
    )
    monkeypatch.setattr("ingest.bridge.DRAIN_TIMEOUT_S", 0.0)
    writer, bridge, registry = started(rabbitmq_url, kafka_url, name)
    running = asyncio.create_task(bridge.run())

    def of(metric: str, partition: int) -> float:
        return registry.get_sample_value(metric, {"partition": str(partition)}) or 0.0

    try:
        await writer.append(0, frame(0))
        await eventually(lambda: registry.get_sample_value("bridge_restarts_total") == 1, 60)
        await asyncio.gather(*(writer.append(at, frame(number)) for number in range(1, 9) for at in (0, 1)))
        await eventually(lambda: of("bridge_frames_total", 1) == 8, 60)
        assert of("bridge_frames_total", 0) == 0
        assert bridge.flows()
    finally:
        await writer.close()
        bridge.close()
        async with asyncio.timeout(60):  # not the hour
            await running


async def test_a_bridge_that_does_not_reach_kafka_gives_its_queues_to_another(
    rabbitmq_url: str, kafka_url: str, unused_port: int, tmp_path: Path
) -> None:
    """Its network may be the only one that is broken; and it takes them again."""
    name = uuid4().hex[:12]
    registry = CollectorRegistry()

    def queue_of(partition: int) -> str:
        return f"t_{name}_{partition}"

    file = tmp_path / "kafka_url"
    file.write_text(kafka_url)
    bridge = Bridge(
        rabbitmq_url, SecretText(kafka_url, file), 1, BridgeMetrics(registry), topic=f"t.{name}", queue_of=queue_of,
        handover_s=0.0,
    )  # fmt: skip
    running = asyncio.create_task(bridge.run())

    def is_free() -> bool:
        with BlockingConnection(URLParameters(rabbitmq_url)) as connection:
            declared = connection.channel().queue_declare(queue_of(0), passive=True)
            return int(declared.method.consumer_count) == 0

    def moved() -> float:
        return registry.get_sample_value("bridge_frames_total", {"partition": "0"}) or 0.0

    async with asyncio.timeout(120):
        await eventually(bridge.flows, 60)
        file.write_text(f"127.0.0.1:{unused_port}")
        await eventually(lambda: asyncio.to_thread(is_free), 60)
        writer = RabbitLogWriter(rabbitmq_url, 1, queue_of)
        writer.start()
        await writer.append(0, frame(0))
        file.write_text(kafka_url)
        await eventually(lambda: moved() == 1, 60)
        await writer.close()
    bridge.close()
    await running


async def test_what_waits_together_shares_one_record() -> None:
    producer = ScriptedProducer()
    failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    forwarder = PartitionForwarder(0, "t", BridgeMetrics(CollectorRegistry()), ProducerPauses())
    for number in range(9):
        forwarder.deliver(cast("Any", ScriptedDelivery(frame(number), number + 1, [])))
    forwarding = asyncio.create_task(forwarder.forward(cast("Any", producer), failed))
    await eventually(lambda: producer.sent)
    forwarding.cancel()
    assert [len(split_frames(record)) for record, _ in producer.sent] == [9]


async def test_a_topic_with_another_number_of_partitions_is_a_clear_error(kafka_url: str) -> None:
    topic = f"t.{uuid4().hex[:12]}"
    await ensure_topic(kafka_url, topic, 3)
    await ensure_topic(kafka_url, topic, 3)
    with pytest.raises(ConfigError, match=r"has 3 partitions.*VOLTSTREAM_PARTITIONS=3"):
        await ensure_topic(kafka_url, topic, 4)


async def test_a_bridge_closes_though_no_broker_is_there(unused_port: int) -> None:
    nowhere = f"127.0.0.1:{unused_port}"
    bridge = Bridge(f"amqp://guest:guest@{nowhere}/%2F", nowhere, 1, BridgeMetrics(CollectorRegistry()))
    running = asyncio.create_task(bridge.run())
    await asyncio.sleep(0)
    bridge.close()
    async with asyncio.timeout(30):
        await running
