"""The bridge: moves frames from the partitions' RabbitMQ queues to the partitions of the Kafka topic, as they are.

Small frames that wait for the same partition share a record: a record costs Kafka and a worker more than a frame does.

A frame leaves its queue only after Kafka has confirmed it, so no crash of any process loses one; after a crash some
frames may be produced twice. Order of a partition: its queue has one active consumer, and its frames go to Kafka one
after the other. Several bridges may run: where one dies the next becomes the active consumer of its queues.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import accumulate, takewhile
from typing import Any, Final

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, KafkaTimeoutError, MessageSizeTooLargeError
from opentelemetry.trace import Span, SpanKind
from prometheus_client import CollectorRegistry, Counter, Gauge

from kit.errors import Unavailable
from kit.log.kafka import address_of, ensure_topic, idempotent_producer, stop_producer
from kit.log.rabbit_writer import declare_partition
from kit.messaging.rabbit_channels import AmqpConsumer, Delivery
from kit.messaging.rabbit_connection import Rabbit
from kit.observability.logs import get_logger
from kit.observability.tracing import end_failed, origin_of, start_span, traceparent_of
from kit.retry import reconnect_pauses_s
from kit.secrets.text import current
from kit.secrets.urls import changed_since, without_secrets
from schemas.frame import FrameError, FrameHeader, decode_header, join_frames
from schemas.topics import READINGS_TOPIC, frames_queue

PREFETCH: Final = 128  # unconfirmed frames of one partition: 12.8 MB of 100 kB, more than Kafka takes in one round trip
LINGER_MS: Final = 5  # a frame waits this long for others: at most one request each 5 ms and partition
DRAIN_TIMEOUT_S: Final = 5.0  # on close, for Kafka's confirms of the frames sent; the rest is delivered again
RECORD_BYTES_MAX: Final = 128 << 10  # of frames that share a record; a larger frame has one of its own
QUEUE_LOOK_S: Final = 5.0  # between looks at the queues' lengths, one passive declaration a partition

_log = get_logger(__name__)


class BridgeMetrics:
    """Counters of the frames moved, gauges of those that wait."""

    def __init__(self, registry: CollectorRegistry) -> None:
        labels = ("partition",)
        self.frames = Counter("bridge_frames", "Frames confirmed by Kafka", labels, registry=registry)
        self.records = Counter("bridge_records", "Records that had those frames", labels, registry=registry)
        self.readings = Counter("bridge_readings", "Items of those frames", labels, registry=registry)
        self.bytes = Counter("bridge_bytes", "Bytes of those frames", labels, registry=registry)
        self.unreadable = Counter(
            "bridge_unreadable_frames", "Passed on, though their header cannot be read", labels, registry=registry
        )
        self.refused = Counter("bridge_refused_frames", "Too large for Kafka: dead-lettered", labels, registry=registry)
        self.in_hand = Gauge("bridge_frames_in_hand", "Taken and not confirmed yet", labels, registry=registry)
        self.queued = Gauge("bridge_queue_frames", "Frames ready in the queue", labels, registry=registry)
        self.restarts = Counter("bridge_restarts", "Times the producer was given up and made anew", registry=registry)


@dataclass(slots=True)
class _WaitingFrame:
    """A frame from the queue."""

    delivery: Delivery
    header: FrameHeader | None  # None: unreadable

    @classmethod
    def of(cls, delivery: Delivery) -> "_WaitingFrame":
        """Read its header."""
        try:
            return cls(delivery, decode_header(delivery.body))
        except FrameError:
            return cls(delivery, None)


@dataclass(slots=True)
class _UnconfirmedRecord:
    """A record sent to Kafka."""

    frames: list[_WaitingFrame]
    confirmed: "asyncio.Future[Any]"
    span: Span | None  # None: none of them has a trace

    @property
    def last(self) -> Delivery:
        """Of its frames."""
        return self.frames[-1].delivery


class _PartitionForwarder:
    """One partition: takes deliveries, sends them in order, and acknowledges them in order."""

    def __init__(
        self,
        number: int,
        producer: AIOKafkaProducer,
        topic: str,
        metrics: BridgeMetrics,
        failed: "asyncio.Future[None]",
    ) -> None:
        label = str(number)
        self._number = number
        self._producer = producer
        self._topic = topic
        self._failed = failed
        self._delivered: deque[_WaitingFrame] = deque()  # bounded by PREFETCH
        self._arrived = asyncio.Event()
        # In the order sent; at most PREFETCH, and twice it after a reconnect.
        self._unconfirmed: deque[_UnconfirmedRecord] = deque()
        self._settling = False
        self._stopped = False
        self.idle = asyncio.Event()  # everything that was delivered is confirmed
        self.idle.set()
        self._frames = metrics.frames.labels(label)
        self._records = metrics.records.labels(label)
        self._readings = metrics.readings.labels(label)
        self._bytes = metrics.bytes.labels(label)
        self._unreadable = metrics.unreadable.labels(label)
        self._refused = metrics.refused.labels(label)
        self._gauge = metrics.in_hand.labels(label)

    def deliver(self, delivery: Delivery) -> None:
        """Take a frame from the queue."""
        if not self._stopped:
            self._delivered.append(_WaitingFrame.of(delivery))
            self._arrived.set()
            self.idle.clear()

    def stop(self) -> None:
        """Send nothing more; what has been sent may still be confirmed."""
        self._stopped = True
        self.forget()

    def forget(self) -> None:
        """The connection to RabbitMQ is lost: drop what is not sent, it is delivered again."""
        self._delivered.clear()
        self._count()

    async def forward(self) -> None:
        """Send what waits, one record after the other, until cancelled. Raises KafkaError."""
        while True:
            while not self._delivered:
                self._arrived.clear()
                await self._arrived.wait()
            frames = self._next_record()
            sent = await self._send(frames)
            if self._delivered and self._delivered[0] is frames[0]:  # else they were forgotten meanwhile
                for _ in frames:
                    self._delivered.popleft()
            if sent is not None:
                self._unconfirmed.append(sent)
                sent.confirmed.add_done_callback(self._settle_soon)
            self._count()

    def _next_record(self) -> list[_WaitingFrame]:
        """The oldest frame, and those after it that may share its record: readable ones, as far as RECORD_BYTES_MAX."""
        first = self._delivered[0]
        if first.header is None:
            return [first]
        readable = takewhile(lambda waiting: waiting.header is not None, self._delivered)
        sizes = accumulate(len(waiting.delivery.body) for waiting in self._delivered)
        small = takewhile(lambda pair: pair[1] <= RECORD_BYTES_MAX, zip(readable, sizes, strict=False))
        return [waiting for waiting, _ in small] or [first]

    async def _send(self, frames: list[_WaitingFrame]) -> _UnconfirmedRecord | None:
        traceparents = [waiting.header.traceparent for waiting in frames if waiting.header is not None]
        span = None
        if any(traceparents):
            parent, links = origin_of(traceparents)
            span = start_span("bridge", parent, SpanKind.PRODUCER, links)
        headers = [] if span is None else [("traceparent", traceparent_of(span).encode())]
        record = join_frames([waiting.delivery.body for waiting in frames])
        while True:
            try:
                confirmed = await self._producer.send(self._topic, record, partition=self._number, headers=headers)
            except KafkaTimeoutError:  # no room because Kafka is slow or away: the record was not taken
                continue
            except MessageSizeTooLargeError as error:  # a frame by itself: those that share a record are far smaller
                self._refused.inc()
                _log.error("frame_refused", partition=self._number, bytes=len(record), error=str(error))
                for waiting in frames:
                    waiting.delivery.reject(requeue=False)
                if span is not None:
                    end_failed(span, error)
                return None
            return _UnconfirmedRecord(frames, confirmed, span)

    def _settle_soon(self, _: object) -> None:
        """Kafka confirms a batch's frames together: acknowledge them together."""
        if not self._settling:
            self._settling = True
            asyncio.get_running_loop().call_soon(self._settle)

    def _settle(self) -> None:
        self._settling = False
        last = None
        while self._unconfirmed and self._unconfirmed[0].confirmed.done():
            error = None if self._unconfirmed[0].confirmed.cancelled() else self._unconfirmed[0].confirmed.exception()
            if error is not None or self._unconfirmed[0].confirmed.cancelled():
                # What follows may be in Kafka already; it is delivered again, after this one.
                if not self._failed.done():
                    self._failed.set_exception(error or KafkaError("a send was cancelled"))
                break
            if last is not None and last.channel is not self._unconfirmed[0].last.channel:
                last.ack(up_to=True)
            done = self._unconfirmed.popleft()
            last = done.last
            self._confirmed(done)
        if last is not None:
            last.ack(up_to=True)
        self._count()

    def _confirmed(self, record: _UnconfirmedRecord) -> None:
        self._records.inc()
        self._frames.inc(len(record.frames))
        self._unreadable.inc(sum(waiting.header is None for waiting in record.frames))
        self._bytes.inc(sum(len(waiting.delivery.body) for waiting in record.frames))
        self._readings.inc(sum(waiting.header.items for waiting in record.frames if waiting.header is not None))
        if record.span is not None:
            record.span.end()

    def _count(self) -> None:
        self._gauge.set(sum(len(record.frames) for record in self._unconfirmed))
        if not self._delivered and not self._unconfirmed:
            self.idle.set()


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
    ) -> None:
        """`linger_ms`: how long a frame waits for others to share a request."""
        self._rabbitmq_url = rabbitmq_url
        self._kafka_url = kafka_url
        self._partitions = partitions
        self._metrics = metrics
        self._topic = topic
        self._queue_of = queue_of
        self._linger_ms = linger_ms
        self._closing = asyncio.Event()
        self._pauses_s = reconnect_pauses_s()
        self._rabbit: Rabbit | None = None

    def flows(self) -> bool:
        """Whether both brokers are connected."""
        return self._rabbit is not None and self._rabbit.ready

    async def check_ready(self) -> None:
        """Raises Unavailable where frames do not flow now."""
        if self._rabbit is None:
            raise Unavailable(f"Kafka at {address_of(self._kafka_url)} is not reached yet")
        if not self._rabbit.ready:
            raise Unavailable(f"RabbitMQ at {self._rabbit.address} is not reached")

    async def run(self) -> None:
        """Work until `close`. Raises ConfigError where the topic has another number of partitions."""
        while not self._closing.is_set():
            try:
                await self._run_producer()
            except (Unavailable, KafkaError, OSError) as error:
                self._metrics.restarts.inc()
                _log.warning("bridge_restarts", error=without_secrets(repr(error), self._kafka_url))
                closing = asyncio.ensure_future(self._closing.wait())
                await asyncio.wait((closing,), timeout=next(self._pauses_s))
                closing.cancel()

    def close(self) -> None:
        """Have `run` wait for the confirms of what is sent, and return."""
        self._closing.set()

    async def _run_producer(self) -> None:
        """Work with one producer. Returns on close, raises the error that ended it."""
        used = current(self._kafka_url)
        await ensure_topic(self._kafka_url, self._topic, self._partitions)
        producer = idempotent_producer(self._kafka_url, linger_ms=self._linger_ms)
        failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        forwarders = [
            _PartitionForwarder(number, producer, self._topic, self._metrics, failed)
            for number in range(self._partitions)
        ]
        rabbit = Rabbit(self._rabbitmq_url, name="bridge")
        consumers = [self._consumer(number, forwarder) for number, forwarder in enumerate(forwarders)]
        for consumer in consumers:
            rabbit.add(consumer)
        tasks: list[asyncio.Future[Any]] = [failed]
        try:
            await producer.start()
            self._pauses_s = reconnect_pauses_s()
            self._rabbit = rabbit
            rabbit.start()
            tasks += [asyncio.create_task(forwarder.forward()) for forwarder in forwarders]
            tasks.append(asyncio.create_task(self._look_at_queues(consumers, used)))
            tasks.append(asyncio.create_task(self._closing.wait()))
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
            await self._drain(forwarders)
        finally:
            self._rabbit = None
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await rabbit.close()
            await stop_producer(producer)

    def _consumer(self, number: int, forwarder: _PartitionForwarder) -> AmqpConsumer:
        queue = self._queue_of(number)
        declare = partial(declare_partition, queue=queue)
        return AmqpConsumer(queue, forwarder.deliver, prefetch=PREFETCH, declare=declare, on_lost=forwarder.forget)

    async def _drain(self, forwarders: list[_PartitionForwarder]) -> None:
        """Wait for Kafka's confirms, bounded. Until then no other bridge may consume the queues: order."""
        for forwarder in forwarders:
            forwarder.stop()
        try:
            async with asyncio.timeout(DRAIN_TIMEOUT_S):
                for forwarder in forwarders:
                    await forwarder.idle.wait()
        except TimeoutError:
            _log.info("bridge_closed_with_unconfirmed_frames")  # they are delivered again to the next bridge

    async def _look_at_queues(self, consumers: list[AmqpConsumer], used: str) -> None:
        """Raises Unavailable where Kafka's URL is another one by now: the producer keeps its login for ever."""
        while True:
            if changed_since(self._kafka_url, used):
                raise Unavailable("Kafka's URL has changed")
            for number, consumer in enumerate(consumers):
                ready = await consumer.queue_length()
                if ready is not None:
                    self._metrics.queued.labels(str(number)).set(ready)
            await asyncio.sleep(QUEUE_LOOK_S)
