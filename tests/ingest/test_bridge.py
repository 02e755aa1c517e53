"""Laws of the bridge that the log's contract does not see: what it counts, carries and refuses."""

import asyncio
from dataclasses import dataclass, field
from typing import Any, cast
from uuid import uuid4

import pyarrow as pa
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from ingest.bridge import Bridge, BridgeMetrics, _PartitionForwarder
from kit.errors import ConfigError
from kit.log.kafka import ensure_topic
from kit.log.rabbit_writer import RabbitLogWriter
from schemas.frame import FrameHeader, encode_frame, split_frames
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
class ScriptedDelivery:
    """What the bridge asks of a delivery."""

    body: bytes
    tag: int
    acked: list[int]
    channel: None = None

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
        forwarder = _PartitionForwarder(0, cast("Any", producer), "t", metrics, failed)
        forwarding = asyncio.create_task(forwarder.forward())
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
        patched.setattr("ingest.bridge.RECORD_BYTES_MAX", bytes_max)
        asyncio.run(scenario())


async def test_what_waits_together_shares_one_record() -> None:
    producer = ScriptedProducer()
    failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    forwarder = _PartitionForwarder(0, cast("Any", producer), "t", BridgeMetrics(CollectorRegistry()), failed)
    for number in range(9):
        forwarder.deliver(cast("Any", ScriptedDelivery(frame(number), number + 1, [])))
    forwarding = asyncio.create_task(forwarder.forward())
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
