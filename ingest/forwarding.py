"""One partition's frames on their way through the bridge: from deliveries of RabbitMQ to confirmed records of Kafka."""

import asyncio
from collections import deque
from dataclasses import dataclass
from functools import partial
from itertools import accumulate, takewhile
from typing import Any, Final

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, KafkaTimeoutError, MessageSizeTooLargeError
from opentelemetry.trace import Span, SpanKind
from prometheus_client import CollectorRegistry, Counter, Gauge

from kit.messaging.rabbit_channels import Delivery
from kit.observability.logs import get_logger
from kit.observability.tracing import end_failed, origin_of, start_span, traceparent_of
from kit.retry import reconnect_pauses_s
from schemas.frame import FrameError, FrameHeader, decode_header, join_frames

RECORD_BYTES_MAX: Final = 128 << 10  # of frames that share a record; a larger frame has one of its own

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
        self.dead = Gauge(
            "bridge_dead_frames", "Frames in the queue of dead ones: acknowledged, and on no way to a worker", labels,
            registry=registry,
        )  # fmt: skip
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


class ProducerPauses:
    """Pauses before another producer. They grow until one has moved something: a login and the topic's description
    succeed also where Kafka takes no record."""

    def __init__(self) -> None:
        self._refused: set[int] = set()  # partitions of which nothing was confirmed since
        self._pauses_s = reconnect_pauses_s()

    def refused(self, partition: int) -> None:
        """Kafka did not take a record of it."""
        self._refused.add(partition)

    def confirmed(self, partition: int) -> None:
        """Kafka has confirmed a record of it. Others do not help one that it refuses."""
        self._refused.discard(partition)
        if not self._refused:
            self._pauses_s = reconnect_pauses_s()

    def next_s(self) -> float:
        """The next pause."""
        return next(self._pauses_s)


class PartitionForwarder:
    """One partition: takes deliveries, sends them in order, and acknowledges them in order.

    What one producer did not bring to Kafka the next one sends. It is not given back to its queue for that: RabbitMQ 4
    counts how often it delivers a message, and after 20 times it is dead.
    """

    def __init__(self, number: int, topic: str, metrics: BridgeMetrics, pauses: ProducerPauses) -> None:
        label = str(number)
        self._number = number
        self._topic = topic
        self._pauses = pauses
        self._delivered: deque[_WaitingFrame] = deque()  # bounded by PREFETCH
        self._arrived = asyncio.Event()
        # In the order sent; at most PREFETCH, and twice it after a reconnect.
        self._unconfirmed: deque[_UnconfirmedRecord] = deque()
        self._settling = False
        self._stopped = False
        self._halted = False  # Kafka refused a record: nothing is sent until another producer is there
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

    def take_back(self) -> None:
        """The producer has stopped: what it did not confirm is sent again, before all that has come since."""
        for record in reversed(self._unconfirmed):
            # Those of a connection that is lost are delivered again.
            again = [waiting for waiting in record.frames if waiting.delivery.channel.is_open]
            self._delivered.extendleft(reversed(again))
            if record.span is not None:
                end_failed(record.span, KafkaError("not confirmed"))
        self._unconfirmed.clear()
        self._halted = False
        self._count()

    async def forward(self, producer: AIOKafkaProducer, failed: "asyncio.Future[None]") -> None:
        """Send what waits, one record after the other, until cancelled. Raises KafkaError; what Kafka did not take
        becomes the exception of `failed`."""
        while True:
            while not self._delivered or self._halted:
                self._arrived.clear()
                await self._arrived.wait()
            frames = self._next_record()
            try:
                sent = await self._send(producer, frames)
            except KafkaError:
                self._pauses.refused(self._number)
                raise
            if self._delivered and self._delivered[0] is frames[0]:  # else they were forgotten meanwhile
                for _ in frames:
                    self._delivered.popleft()
            if sent is not None:
                self._unconfirmed.append(sent)
                sent.confirmed.add_done_callback(partial(self._settle_soon, failed))
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

    async def _send(self, producer: AIOKafkaProducer, frames: list[_WaitingFrame]) -> _UnconfirmedRecord | None:
        traceparents = [waiting.header.traceparent for waiting in frames if waiting.header is not None]
        span = None
        if any(traceparents):
            parent, links = origin_of(traceparents)
            span = start_span("bridge", parent, SpanKind.PRODUCER, links)
        headers = [] if span is None else [("traceparent", traceparent_of(span).encode())]
        record = join_frames([waiting.delivery.body for waiting in frames])
        while True:
            try:
                confirmed = await producer.send(self._topic, record, partition=self._number, headers=headers)
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

    def _settle_soon(self, failed: "asyncio.Future[None]", _: object) -> None:
        """Kafka confirms a batch's frames together: acknowledge them together."""
        if not self._settling:
            self._settling = True
            asyncio.get_running_loop().call_soon(self._settle, failed)

    def _settle(self, failed: "asyncio.Future[None]") -> None:
        self._settling = False
        last = None
        while self._unconfirmed and self._unconfirmed[0].confirmed.done():
            error = None if self._unconfirmed[0].confirmed.cancelled() else self._unconfirmed[0].confirmed.exception()
            if error is not None or self._unconfirmed[0].confirmed.cancelled():
                # What follows may be in Kafka already; it is sent again, after this one.
                self._halted = True
                self._pauses.refused(self._number)
                if not failed.done():
                    failed.set_exception(error or KafkaError("a send was cancelled"))
                break
            if last is not None and last.channel is not self._unconfirmed[0].last.channel:
                last.ack(up_to=True)
            done = self._unconfirmed.popleft()
            last = done.last
            self._confirmed(done)
        if last is not None:
            last.ack(up_to=True)
            self._pauses.confirmed(self._number)
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
        self._gauge.set(len(self._delivered) + sum(len(record.frames) for record in self._unconfirmed))
        if not self._delivered and not self._unconfirmed:
            self.idle.set()
