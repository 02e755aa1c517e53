"""Kafka: topics with a fixed number of partitions, and an idempotent producer that can be stopped while Kafka is away.

What aiokafka does against that is in docs/faust-and-pika.md.
"""

import asyncio
from typing import Final

from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaConnectionError, KafkaError, TopicAlreadyExistsError, for_code

from kit.errors import ConfigError, Unavailable
from kit.observability.logs import get_logger

RECORD_BYTES_MAX: Final = 8 << 20  # a full frame is ~1 MB; the log's writer refuses records above 4 MiB
BATCH_BYTES_MAX: Final = 1 << 20  # ten frames of 100 kB; Kafka's own default bound of a request
REQUEST_TIMEOUT_MS: Final = 15_000  # a node that takes longer counts as dead; the producer then tries again
STOP_TIMEOUT_S: Final = 5.0  # for unconfirmed records; confirms take milliseconds
REPLICAS_MAX: Final = 3  # of a topic, where there are as many brokers
TOPIC_VISIBLE_TIMEOUT_S: Final = 10.0  # from its creation until the metadata show it

_log = get_logger(__name__)


def brokers(kafka_url: str) -> list[str]:
    """`host:port[,host:port]` as a list."""
    return [part.strip() for part in kafka_url.split(",")]


async def ensure_topic(kafka_url: str, topic: str, partitions: int) -> None:
    """Create the topic if it does not exist, with as many replicas as there are brokers, up to three.

    Raises ConfigError where it exists with another number of partitions, Unavailable where Kafka does not answer.
    """
    admin = AIOKafkaAdminClient(bootstrap_servers=brokers(kafka_url), request_timeout_ms=REQUEST_TIMEOUT_MS)
    try:
        await admin.start()
        found = len(await describe_partitions(admin, topic))
        if found == 0:
            await _create(admin, topic, partitions)
            async with asyncio.timeout(TOPIC_VISIBLE_TIMEOUT_S):
                while (found := len(await describe_partitions(admin, topic))) == 0:  # noqa: ASYNC110 - no event
                    await asyncio.sleep(0.05)
    except (KafkaError, TimeoutError, OSError) as error:
        raise Unavailable(f"Kafka at {kafka_url}: {error!r}") from error
    finally:
        await admin.close()
    if found != partitions:
        raise ConfigError(
            f"topic {topic} has {found} partitions, the setting says {partitions}: the number is fixed for ever, "
            f"set VOLTSTREAM_PARTITIONS={found}"
        )


async def partitions_of(kafka_url: str, topic: str) -> int:
    """The number of partitions of a topic; 0 if it does not exist. Raises Unavailable if Kafka does not answer."""
    admin = AIOKafkaAdminClient(bootstrap_servers=brokers(kafka_url), request_timeout_ms=REQUEST_TIMEOUT_MS)
    try:
        await admin.start()
        return len(await describe_partitions(admin, topic))
    except (KafkaError, OSError) as error:
        raise Unavailable(f"Kafka at {kafka_url}: {error!r}") from error
    finally:
        await admin.close()


async def describe_partitions(admin: AIOKafkaAdminClient, topic: str) -> frozenset[int]:
    """The partitions of a topic; none where it does not exist."""
    (described,) = await admin.describe_topics([topic])
    if described["error_code"] != 0:
        return frozenset()
    return frozenset(partition["partition"] for partition in described["partitions"])


async def _create(admin: AIOKafkaAdminClient, topic: str, partitions: int) -> None:
    replicas = min(REPLICAS_MAX, len((await admin.describe_cluster())["brokers"]))
    configs = {"max.message.bytes": str(RECORD_BYTES_MAX), "min.insync.replicas": str(max(1, replicas - 1))}
    answer = await admin.create_topics([NewTopic(topic, partitions, replicas, topic_configs=configs)])
    for _, code, *_message in answer.topic_errors:
        error = for_code(code)
        if code != 0 and error is not TopicAlreadyExistsError:  # another process was faster: the caller compares
            raise error(f"topic {topic}")
    _log.info("topic_created", topic=topic, partitions=partitions, replicas=replicas)


def idempotent_producer(kafka_url: str, *, linger_ms: int) -> AIOKafkaProducer:
    """A producer that keeps the order of each partition and sends again, without end, what Kafka has not confirmed."""
    return AIOKafkaProducer(
        bootstrap_servers=brokers(kafka_url),
        enable_idempotence=True,
        acks="all",
        linger_ms=linger_ms,
        max_batch_size=BATCH_BYTES_MAX,
        max_request_size=RECORD_BYTES_MAX,
        request_timeout_ms=REQUEST_TIMEOUT_MS,
    )


async def stop_producer(producer: AIOKafkaProducer) -> None:
    """Flush and stop; where Kafka is away, fail what is unconfirmed after `STOP_TIMEOUT_S` instead of waiting on."""
    stopping = asyncio.ensure_future(producer.stop())
    await asyncio.wait((stopping,), timeout=STOP_TIMEOUT_S)
    if not stopping.done():
        # There is no public way: stop() waits for the accumulator, which the sender tries to empty for ever.
        producer._message_accumulator.fail_all(KafkaConnectionError("given up: Kafka does not answer"))
        await producer.client.close()
        await asyncio.wait((stopping,), timeout=STOP_TIMEOUT_S)
    if not stopping.done():
        stopping.cancel()
        await asyncio.wait((stopping,))
    if not stopping.cancelled() and (error := stopping.exception()) is not None:
        _log.warning("kafka_producer_stop_failed", error=repr(error))
