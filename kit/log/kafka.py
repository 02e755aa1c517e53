"""Kafka: topics with a fixed number of partitions, and an idempotent producer that can be stopped while Kafka is away.

What aiokafka does against that is in docs/faust-and-pika.md.
"""

import asyncio
from typing import Any, Final

from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.conn import create_conn
from aiokafka.errors import KafkaConnectionError, KafkaError, TopicAlreadyExistsError, for_code

from kit.errors import ConfigError, Unavailable
from kit.log.kafka_url import KafkaUrl, parse_kafka_url
from kit.observability.logs import get_logger
from kit.secrets.text import ca_file_of, current
from kit.secrets.urls import without_secrets, wrong_url
from kit.tls import client_context, refusal

RECORD_BYTES_MAX: Final = 8 << 20  # a full frame is ~1 MB; the log's writer refuses records above 4 MiB
BATCH_BYTES_MAX: Final = 1 << 20  # ten frames of 100 kB; Kafka's own default bound of a request
REQUEST_TIMEOUT_MS: Final = 15_000  # a node that takes longer counts as dead; the producer then tries again
REASON_S_MAX: Final = 3.0  # for the reason of a failure: a handshake takes tens of milliseconds
STOP_TIMEOUT_S: Final = 5.0  # for unconfirmed records; confirms take milliseconds
REPLICAS_MAX: Final = 3  # of a topic, where there are as many brokers
TOPIC_VISIBLE_TIMEOUT_S: Final = 10.0  # from its creation until the metadata show it

_log = get_logger(__name__)


def client_options(kafka_url: str) -> dict[str, Any]:
    """What every client of aiokafka is made with: the brokers, TLS and the login, as the URL's file has them now.

    Raises Unavailable where that file, or the CAs', cannot be read, ConfigError.
    """
    url = _parsed(kafka_url)
    options: dict[str, Any] = {"bootstrap_servers": list(url.servers)}
    if url.scheme:
        try:
            options |= {"security_protocol": url.scheme.upper(), "ssl_context": client_context(ca_file_of(kafka_url))}
        except OSError as error:
            raise Unavailable(str(error)) from None
    if url.user:
        options |= {
            "sasl_mechanism": url.mechanism,
            "sasl_plain_username": url.user,
            "sasl_plain_password": url.password,
        }
    return options


def address_of(kafka_url: str) -> str:
    """`host:port[,host:port]`, without the login, as it was when the process began: for logs."""
    return parse_kafka_url(kafka_url).address


def _parsed(kafka_url: str) -> KafkaUrl:
    try:
        return parse_kafka_url(current(kafka_url))
    except ValueError as error:
        raise wrong_url(kafka_url, error, "VOLTSTREAM_KAFKA_URL") from None


async def unreachable(kafka_url: str, error: BaseException) -> Unavailable:
    """The error of a client that found no broker, with the reason, which aiokafka only logs: with TLS or a login it is
    asked for once more, without either there is none but that nobody answers."""
    reason = without_secrets(repr(error), kafka_url)
    options = client_options(kafka_url)
    host, _, port = options.pop("bootstrap_servers")[0].rpartition(":")
    if options:
        try:
            async with asyncio.timeout(REASON_S_MAX):
                connection = await create_conn(
                    host.strip("[]"), int(port), request_timeout_ms=int(REASON_S_MAX * 1_000), **options
                )
            await connection.close()
        except (KafkaError, OSError) as cause:
            if not isinstance(cause, ConnectionError | TimeoutError):  # a broker that is away needs no more words
                reason = refusal(cause) or without_secrets(repr(cause), kafka_url)
    return Unavailable(f"Kafka at {address_of(kafka_url)}: {reason}")


async def ensure_topic(kafka_url: str, topic: str, partitions: int) -> None:
    """Create the topic if it does not exist, with as many replicas as there are brokers, up to three.

    Raises ConfigError where it exists with another number of partitions, Unavailable where Kafka does not answer.
    """
    admin = AIOKafkaAdminClient(**client_options(kafka_url), request_timeout_ms=REQUEST_TIMEOUT_MS)
    try:
        await admin.start()
        found = len(await describe_partitions(admin, topic))
        if found == 0:
            await _create(admin, topic, partitions)
            async with asyncio.timeout(TOPIC_VISIBLE_TIMEOUT_S):
                while (found := len(await describe_partitions(admin, topic))) == 0:  # noqa: ASYNC110 - no event
                    await asyncio.sleep(0.05)
    except (KafkaError, TimeoutError, OSError) as error:
        raise await unreachable(kafka_url, error) from error
    finally:
        await admin.close()
    if found != partitions:
        raise ConfigError(
            f"topic {topic} has {found} partitions, the setting says {partitions}: the number is fixed for ever, "
            f"set VOLTSTREAM_PARTITIONS={found}"
        )


async def partitions_of(kafka_url: str, topic: str) -> int:
    """The number of partitions of a topic; 0 if it does not exist. Raises Unavailable if Kafka does not answer."""
    admin = AIOKafkaAdminClient(**client_options(kafka_url), request_timeout_ms=REQUEST_TIMEOUT_MS)
    try:
        await admin.start()
        return len(await describe_partitions(admin, topic))
    except (KafkaError, OSError) as error:
        raise await unreachable(kafka_url, error) from error
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
        **client_options(kafka_url),
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
