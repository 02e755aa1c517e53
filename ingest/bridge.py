"""The bridge: moves frames from the partitions' RabbitMQ queues to the partitions of the Kafka topic, as they are.

Small frames that wait for the same partition share a record: a record costs Kafka and a worker more than a frame does.

A frame leaves its queue only after Kafka has confirmed it, so no crash of any process loses one; after a crash some
frames may be produced twice. Order of a partition: its queue has one active consumer, and its frames go to Kafka one
after the other. Several bridges may run: where one dies the next becomes the active consumer of its queues. One that
lives keeps the frames it has while Kafka refuses them, and sends them again; where it does not reach Kafka at all it
gives its queues to another, which may.
"""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from aiokafka.errors import KafkaError

from ingest.forwarding import BridgeMetrics, PartitionForwarder, ProducerPauses
from kit.clock import Clock, SystemClock
from kit.errors import Unavailable
from kit.log.kafka import address_of, ensure_topic, idempotent_producer, stop_producer
from kit.log.rabbit_writer import QueueLengths, dead_queue_of, declare_partition
from kit.messaging.rabbit_channels import AmqpConsumer
from kit.messaging.rabbit_connection import Rabbit
from kit.observability.logs import get_logger
from kit.secrets.text import current
from kit.secrets.urls import changed_since, without_secrets
from schemas.topics import READINGS_TOPIC, frames_queue

PREFETCH: Final = 128  # unconfirmed frames of one partition: 12.8 MB of 100 kB, more than Kafka takes in one round trip
LINGER_MS: Final = 5  # a frame waits this long for others: at most one request each 5 ms and partition
DRAIN_TIMEOUT_S: Final = 5.0  # on close, for Kafka's confirms of the frames sent; the rest is delivered again
HANDOVER_S: Final = 30.0  # without Kafka; given back costs a frame one of the deliveries that RabbitMQ 4 counts
QUEUE_LOOK_S: Final = 5.0  # between looks at the queues' lengths, two passive declarations a partition

_log = get_logger(__name__)


class Bridge:
    """Runs until closed, through any outage of either broker."""

    def __init__(
        self,
        rabbitmq_url: str,
        kafka_url: str,
        partitions: int,
        metrics: BridgeMetrics,
        *,
        topic: str = READINGS_TOPIC,
        queue_of: Callable[[int], str] = frames_queue,
        linger_ms: int = LINGER_MS,
        handover_s: float = HANDOVER_S,
        clock: Clock | None = None,
    ) -> None:
        """`linger_ms`: how long a frame waits for others to share a request. `handover_s`: without Kafka, and another
        bridge gets the queues."""
        self._rabbitmq_url = rabbitmq_url
        self._kafka_url = kafka_url
        self._partitions = partitions
        self._metrics = metrics
        self._topic = topic
        self._queue_of = queue_of
        self._linger_ms = linger_ms
        self._handover_s = handover_s
        self._clock = clock or SystemClock()
        self._reached_s = 0.0  # when Kafka was, last
        self._closing = asyncio.Event()
        self._pauses = ProducerPauses()
        self._forwarders = [PartitionForwarder(at, topic, metrics, self._pauses) for at in range(partitions)]
        self._producing = False  # Kafka is reached
        self._rabbit: Rabbit | None = None  # None: Kafka is not reached, and another bridge has the queues
        queues = [queue_of(at) for at in range(partitions)]
        self._lengths = QueueLengths([*queues, *map(dead_queue_of, queues)])

    def flows(self) -> bool:
        """Whether both brokers are connected."""
        return self._producing and self._rabbit is not None and self._rabbit.ready

    async def check_ready(self) -> None:
        """Raises Unavailable where frames do not flow now."""
        if not self._producing or self._rabbit is None:
            raise Unavailable(f"Kafka at {address_of(self._kafka_url)} is not reached yet")
        if not self._rabbit.ready:
            raise Unavailable(f"RabbitMQ at {self._rabbit.address} is not reached")

    async def run(self) -> None:
        """Work until `close`. Raises ConfigError where the topic has another number of partitions."""
        try:
            while not self._closing.is_set():
                try:
                    await self._run_producer()
                except (Unavailable, KafkaError, OSError) as error:
                    self._gave_up(error)
                    await self._hand_over()
                    closing = asyncio.ensure_future(self._closing.wait())
                    await asyncio.wait((closing,), timeout=self._pauses.next_s())
                    closing.cancel()
        finally:
            if self._rabbit is not None:
                await self._rabbit.close()

    def close(self) -> None:
        """Have `run` wait for the confirms of what is sent, and return."""
        self._closing.set()

    def _gave_up(self, error: BaseException) -> None:
        self._metrics.restarts.inc()
        _log.warning("bridge_restarts", error=without_secrets(repr(error), self._kafka_url))

    async def _hand_over(self) -> None:
        """Let another bridge have the queues, where this one has been without Kafka for long. It takes them again once
        it reaches Kafka."""
        without_s = self._clock.monotonic_s() - self._reached_s
        if self._rabbit is not None and without_s >= self._handover_s:
            _log.warning("bridge_gives_its_queues_away", without_kafka_s=round(without_s))
            rabbit, self._rabbit = self._rabbit, None
            await rabbit.close()

    async def _run_producer(self) -> None:
        """Work with one producer. Returns on close, and a pause after Kafka has refused a record, in which other
        partitions go on. Raises the error that ended it otherwise.

        The connection to RabbitMQ stays for the next producer, and with it the frames in hand.
        """
        used = current(self._kafka_url)
        await ensure_topic(self._kafka_url, self._topic, self._partitions)
        producer = idempotent_producer(self._kafka_url, linger_ms=self._linger_ms)
        failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        tasks: list[asyncio.Future[Any]] = [failed]
        try:
            await producer.start()
            if self._rabbit is None:
                self._rabbit = self._connect()
            self._producing = True
            tasks += [asyncio.create_task(forwarder.forward(producer, failed)) for forwarder in self._forwarders]
            tasks.append(asyncio.create_task(self._look_at_queues(used)))
            tasks.append(asyncio.create_task(self._closing.wait()))
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            refused, *others = tasks
            if refused.done() and (error := refused.exception()) is not None:
                self._gave_up(error)
                await asyncio.wait(others, timeout=self._pauses.next_s(), return_when=asyncio.FIRST_COMPLETED)
            for task in others:
                if task.done():
                    task.result()
            if self._closing.is_set():
                await self._drain()
        finally:
            if self._producing:
                self._producing, self._reached_s = False, self._clock.monotonic_s()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await stop_producer(producer)
            for forwarder in self._forwarders:
                forwarder.take_back()

    def _connect(self) -> Rabbit:
        """Begin to consume."""
        rabbit = Rabbit(self._rabbitmq_url, name="bridge")
        for number, forwarder in enumerate(self._forwarders):
            rabbit.add(self._consumer(number, forwarder))
        rabbit.add(self._lengths)  # after the consumers, which declare its queues
        rabbit.start()
        return rabbit

    def _consumer(self, number: int, forwarder: PartitionForwarder) -> AmqpConsumer:
        queue = self._queue_of(number)
        declare = partial(declare_partition, queue=queue)
        return AmqpConsumer(queue, forwarder.deliver, prefetch=PREFETCH, declare=declare, on_lost=forwarder.forget)

    async def _drain(self) -> None:
        """Wait for Kafka's confirms, bounded. Until then no other bridge may consume the queues: order."""
        for forwarder in self._forwarders:
            forwarder.stop()
        try:
            async with asyncio.timeout(DRAIN_TIMEOUT_S):
                for forwarder in self._forwarders:
                    await forwarder.idle.wait()
        except TimeoutError:
            _log.info("bridge_closed_with_unconfirmed_frames")  # they are delivered again to the next bridge

    async def _look_at_queues(self, used: str) -> None:
        """Raises Unavailable where Kafka's URL is another one by now: the producer keeps its login for ever."""
        while True:
            if changed_since(self._kafka_url, used):
                raise Unavailable("Kafka's URL has changed")
            gauges = (self._metrics.queued, self._metrics.dead)
            places = [gauge.labels(str(number)) for gauge in gauges for number in range(self._partitions)]
            for place, length in zip(places, await self._lengths.lengths(), strict=False):  # none: not connected
                place.set(length)
            await asyncio.sleep(QUEUE_LOOK_S)
