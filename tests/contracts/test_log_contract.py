"""Contract of the partitioned log: laws of the log in memory, and of RabbitMQ with the bridge to Kafka."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from typing import Protocol
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from prometheus_client import CollectorRegistry

from ingest.bridge import Bridge
from ingest.forwarding import BridgeMetrics
from kit.errors import Overloaded, Unavailable
from kit.log.kafka import client_options
from kit.log.partitioned_log import InProcessLog, LogWriter
from kit.log.rabbit_writer import RabbitLogWriter
from tests.private_servers import PrivateServers
from tests.waiting import eventually

PARTITIONS = 3
RECORDS_MAX = 50
BYTES_MAX = 10_000


class Harness(Protocol):
    """One log. Until `begin` nothing becomes durable; from then on everything is read as it comes."""

    @property
    def writer(self) -> LogWriter: ...

    @property
    def read(self) -> dict[int, list[bytes]]: ...

    async def begin(self) -> None: ...

    async def end(self) -> None: ...


class InProcess:
    """A reader a partition acknowledges what it has read, as the worker does after its commit."""

    def __init__(self, timeout_s: float) -> None:
        self.writer = self.log = InProcessLog(records_max=RECORDS_MAX, bytes_max=BYTES_MAX, timeout_s=timeout_s)
        self.read: dict[int, list[bytes]] = {partition: [] for partition in range(PARTITIONS)}
        self._readers: list[asyncio.Task[None]] = []

    async def begin(self) -> None:
        for partition in range(PARTITIONS):
            self.log.start(partition, 1_000)
            self._readers.append(asyncio.create_task(self._read(partition)))

    async def _read(self, partition: int) -> None:
        while True:
            for offset, record in await self.log.read(partition, 7, 60):
                self.read[partition].append(record)
                self.log.ack(partition, offset + 1)

    async def end(self) -> None:
        for reader in self._readers:
            reader.cancel()
        await asyncio.gather(*self._readers, return_exceptions=True)
        await self.writer.close()


class Distributed:
    """RabbitMQ, the bridge, Kafka, and a reader of Kafka."""

    def __init__(self, rabbitmq_url: str, kafka_url: str, timeout_s: float) -> None:
        name = uuid4().hex[:12]
        self.topic = f"t.{name}"
        self.queue_of: Callable[[int], str] = lambda partition: f"t_{name}_{partition}"
        self._urls = (rabbitmq_url, kafka_url)
        self.registry = CollectorRegistry()  # of the newest bridge
        self.writer = self.log = RabbitLogWriter(
            rabbitmq_url,
            PARTITIONS,
            self.queue_of,
            records_max=RECORDS_MAX,
            bytes_max=BYTES_MAX,
            timeout_s=timeout_s,
        )
        self.read: dict[int, list[bytes]] = {partition: [] for partition in range(PARTITIONS)}
        self.bridges: list[tuple[Bridge, asyncio.Task[None]]] = []
        self._consumer = AIOKafkaConsumer(
            **client_options(kafka_url),
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            request_timeout_ms=5_000,
        )
        self._reader: asyncio.Task[None] | None = None

    async def begin(self) -> None:
        self.log.start()
        self.start_bridge()
        await eventually(self.bridges[-1][0].flows, 60)
        await self._consumer.start()
        self._consumer.assign([TopicPartition(self.topic, partition) for partition in range(PARTITIONS)])
        self._reader = asyncio.create_task(self._read())

    def start_bridge(self) -> None:
        rabbitmq_url, kafka_url = self._urls
        self.registry = CollectorRegistry()
        metrics = BridgeMetrics(self.registry)
        bridge = Bridge(rabbitmq_url, kafka_url, PARTITIONS, metrics, topic=self.topic, queue_of=self.queue_of)
        self.bridges.append((bridge, asyncio.create_task(bridge.run())))

    async def _read(self) -> None:
        async for message in self._consumer:
            self.read[message.partition].append(message.value)

    async def has_all_in_order(self, sent: dict[int, list[bytes]]) -> None:
        """Repetitions left out, what was read is what was sent, in that order."""
        await eventually(lambda: all(len(set(self.read[p])) == len(sent[p]) for p in sent), 90)
        assert {partition: list(dict.fromkeys(records)) for partition, records in self.read.items()} == sent

    async def end(self) -> None:
        await self.writer.close()
        for bridge, task in self.bridges:
            bridge.close()
            await asyncio.gather(task, return_exceptions=True)
        if self._reader is not None:
            self._reader.cancel()
            await asyncio.gather(self._reader, return_exceptions=True)
        await self._consumer.stop()


@pytest.fixture
def timeout_s() -> float:
    """How long an append waits: a test that wants to see it end parametrises this."""
    return 60.0


@pytest.fixture(params=["in-process", pytest.param("rabbitmq-kafka", marks=pytest.mark.server)])
async def log(request: pytest.FixtureRequest, timeout_s: float) -> AsyncIterator[Harness]:
    """A log that has not begun."""
    harness: Harness
    if request.param == "in-process":
        harness = InProcess(timeout_s)
    else:
        urls = request.getfixturevalue("rabbitmq_url"), request.getfixturevalue("kafka_url")
        harness = Distributed(*urls, timeout_s)
    yield harness
    await harness.end()


async def test_records_arrive_in_their_partition_in_the_order_of_append(log: Harness, seed: int) -> None:
    chance = random.Random(seed)
    await log.begin()
    sent: dict[int, list[bytes]] = {partition: [] for partition in range(PARTITIONS)}
    for _round in range(8):
        appends = []
        for _ in range(40):
            partition = chance.randrange(PARTITIONS)
            record = b"%d:%d" % (partition, len(sent[partition]))
            sent[partition].append(record)
            appends.append(log.writer.append(partition, record))
        await asyncio.gather(*appends)
    await eventually(lambda: log.read == sent, 30)


async def test_an_append_does_not_return_before_its_record_is_durable(log: Harness) -> None:
    append = asyncio.create_task(log.writer.append(1, b"it"))
    done, _ = await asyncio.wait((append,), timeout=0.05)
    assert not done
    await log.begin()
    await append
    await eventually(lambda: log.read[1] == [b"it"], 30)


async def test_beyond_the_limit_of_records_an_append_is_rejected_at_once_and_not_accepted(log: Harness) -> None:
    appends = [asyncio.create_task(log.writer.append(0, b"%d" % number)) for number in range(RECORDS_MAX)]
    await asyncio.sleep(0)
    with pytest.raises(Overloaded):
        await log.writer.append(1, b"too many")
    await log.begin()
    await asyncio.gather(*appends)
    await log.writer.append(1, b"room again")
    await eventually(lambda: log.read[1] == [b"room again"], 30)


async def test_beyond_the_limit_of_bytes_an_append_is_rejected_at_once_and_not_accepted(log: Harness) -> None:
    append = asyncio.create_task(log.writer.append(0, bytes(BYTES_MAX - 1)))
    await asyncio.sleep(0)
    with pytest.raises(Overloaded):
        await log.writer.append(0, b"xx")
    await log.begin()
    await append
    await log.writer.append(0, b"xx")
    await eventually(lambda: log.read[0] == [bytes(BYTES_MAX - 1), b"xx"], 30)


@pytest.mark.parametrize("timeout_s", [0.05])
async def test_an_accepted_record_arrives_though_its_append_raised_unavailable(log: Harness) -> None:
    outcomes = await asyncio.gather(
        *(log.writer.append(0, b"%d" % number) for number in range(3)), return_exceptions=True
    )
    assert [type(outcome) for outcome in outcomes] == [Unavailable] * 3
    await log.begin()
    await eventually(lambda: log.read[0] == [b"0", b"1", b"2"], 30)


@pytest.mark.parametrize("timeout_s", [0.05])
async def test_a_closed_log_accepts_nothing_and_leaves_no_append_waiting(log: Harness) -> None:
    append = asyncio.create_task(log.writer.append(0, b"never"))
    await asyncio.sleep(0)
    await log.writer.close()
    with pytest.raises(Unavailable):
        await append
    with pytest.raises(Unavailable):
        await log.writer.append(0, b"late")


class Load:
    """Appends numbered records to all partitions until stopped; within the log's limits, so none is rejected."""

    def __init__(self, writer: LogWriter) -> None:
        self.sent: dict[int, list[bytes]] = {partition: [] for partition in range(PARTITIONS)}
        self.confirmed = 0
        self._writer = writer
        self._stop = asyncio.Event()
        self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        appends: set[asyncio.Task[None]] = set()
        while not self._stop.is_set():
            for partition, sent in self.sent.items() if len(appends) + PARTITIONS <= RECORDS_MAX else ():
                record = b"%d:%d" % (partition, len(sent))
                append = asyncio.create_task(self._append(partition, record))
                appends.add(append)
                append.add_done_callback(appends.discard)
            await asyncio.sleep(0.002)
        await asyncio.gather(*appends)  # raises what any of them raised

    async def _append(self, partition: int, record: bytes) -> None:
        self.sent[partition].append(record)
        await self._writer.append(partition, record)
        self.confirmed += 1

    async def progress(self) -> None:
        before = self.confirmed
        await eventually(lambda: self.confirmed > before + 100, 90)

    async def finish(self) -> None:
        self._stop.set()
        await self._task


@pytest.fixture
async def distributed(rabbitmq_url: str, kafka_url: str) -> AsyncIterator[Distributed]:
    """RabbitMQ to Kafka, begun."""
    log = Distributed(rabbitmq_url, kafka_url, 120)
    await log.begin()
    # RabbitMQ notes a new queue's place on disk only within half a second: killed before, the queue cannot come back.
    clock = asyncio.get_running_loop().time
    born_s = clock()
    await eventually(lambda: clock() > born_s + 2)
    yield log
    await log.end()


@pytest.mark.parametrize("server", ["rabbitmq", "kafka"])
@pytest.mark.parametrize("how", ["stop", "kill"])
async def test_no_record_is_lost_and_order_holds_when_a_broker_restarts(
    distributed: Distributed, servers: PrivateServers, server: str, how: str
) -> None:
    log = distributed
    load = Load(log.writer)
    await load.progress()
    broker = getattr(servers, server)
    await asyncio.to_thread(getattr(broker, how))
    await asyncio.to_thread(broker.start)
    await load.progress()
    await load.finish()
    await log.has_all_in_order(load.sent)


@pytest.mark.parametrize("how", ["dies", "closes"])
async def test_the_next_bridge_takes_over_in_order(distributed: Distributed, how: str) -> None:
    log = distributed
    log.start_bridge()
    await eventually(log.bridges[1][0].flows, 60)
    load = Load(log.writer)
    await load.progress()
    bridge, running = log.bridges.pop(0)
    if how == "dies":
        running.cancel()
    else:
        bridge.close()
    await asyncio.gather(running, return_exceptions=True)
    await load.progress()
    await load.finish()
    await log.has_all_in_order(load.sent)


async def test_records_unconfirmed_by_kafka_survive_the_death_of_their_bridge(
    distributed: Distributed, servers: PrivateServers
) -> None:
    log = distributed
    await asyncio.to_thread(servers.kafka.stop)
    sent = {partition: [b"%d:%d" % (partition, number) for number in range(10)] for partition in range(PARTITIONS)}
    await asyncio.gather(*(log.writer.append(partition, record) for partition in sent for record in sent[partition]))

    def in_hand() -> list[float | None]:
        labels = ({"partition": str(partition)} for partition in range(PARTITIONS))
        return [log.registry.get_sample_value("bridge_frames_in_hand", label) for label in labels]

    def given_up() -> float | None:
        return log.registry.get_sample_value("bridge_restarts_total")

    # Kafka's way of stopping decides which: the producer tries on, or it fails and the bridge takes nothing any more.
    await eventually(lambda: all(in_hand()) or given_up(), 60)
    _, running = log.bridges.pop(0)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await asyncio.to_thread(servers.kafka.start)
    log.start_bridge()
    await log.has_all_in_order(sent)


async def test_over_tls_records_arrive_in_the_order_of_append(tls_url: Callable[[str], str]) -> None:
    log = Distributed(tls_url("rabbitmq"), tls_url("kafka"), 60)
    try:
        await log.begin()
        sent: dict[int, list[bytes]] = {partition: [] for partition in range(PARTITIONS)}
        for number in range(40):
            for partition, records in sent.items():
                records.append(b"%d:%d" % (partition, number) + bytes(BYTES_MAX // 2 if number == 20 else 0))
                await log.writer.append(partition, records[-1])
        await log.has_all_in_order(sent)
    finally:
        await log.end()
