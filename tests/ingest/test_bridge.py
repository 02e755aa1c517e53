"""Laws of the bridge that the log's contract does not see: what it counts, carries and refuses."""

import asyncio
from uuid import uuid4

import pyarrow as pa
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from prometheus_client import CollectorRegistry

from ingest.bridge import Bridge, BridgeMetrics
from kit.errors import ConfigError
from kit.log.kafka import ensure_topic
from kit.log.rabbit_writer import RabbitLogWriter
from schemas.frame import FrameHeader, encode_frame
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
    messages = [await consumer.getone() for _ in records]
    await consumer.stop()
    assert [message.value for message in messages] == records
    carried = [dict(message.headers).get("traceparent", b"").decode() for message in messages]
    assert [traceparent[3:35] for traceparent in carried] == [TRACE, TRACE, ""]


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
