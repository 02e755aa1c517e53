"""The writer of the partitioned log over RabbitMQ: one quorum queue per partition, publisher confirms.

A record is kept until it is confirmed, whatever happens to the connection: after a reconnect all unconfirmed records
are published again, oldest first and before new ones. So the records of a partition arrive in order, and after a lost
connection some of them twice. One exception: where the broker rejects a record (its queue is full) it may accept the
next one, and the rejected one, published again, then follows it.

Seen with RabbitMQ 3.10: a broker that is killed (not stopped) within half a second of a queue's first declaration has
not stored the queue's location, and the queue never answers again. Declare queues when setting up, not under load (the
bridge or a gateway, whichever starts first, declares them all).
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from pika import BasicProperties
from pika.exceptions import AMQPError
from pika.spec import Basic

from kit.errors import Unavailable
from kit.futures import done_within, mark_seen
from kit.log.partitioned_log import BYTES_MAX, RECORDS_MAX, UnconfirmedLimit
from kit.messaging.rabbit_channels import PERSISTENT
from kit.messaging.rabbit_connection import Channel, Connection, ConnectionListener, Rabbit
from kit.observability.logs import get_logger

RECORD_BYTES_MAX: Final = 4 << 20  # a full frame is ~1 MB; the Kafka topic takes 8 MiB
QUEUE_BYTES_MAX: Final = 8 << 30  # of one partition: at 25 MB/s five minutes without Kafka; then gateways get nacks
REJECTED_PAUSE_S: Final = 0.2  # before rejected records are published again: the queue drains ~200 frames meanwhile
SENDING_MAX: Final = 256  # unconfirmed at once: confirms take ~10 ms, so 25 k frames/s; 25 MB in pika's buffer

_log = get_logger(__name__)


def dead_queue_of(queue: str) -> str:
    """The queue of the records that left this partition's queue without reaching the log's reader."""
    return f"{queue}_dead"


async def declare_partition(channel: Channel, queue: str) -> None:
    """Declare a partition's queue, and the one for records that its consumer rejects, or that RabbitMQ 4 gives up.

    A single active consumer keeps the order; when it dies the next takes over. RabbitMQ 4 gives a record up after 20
    deliveries, unless a policy says otherwise (deploy/README.md). An argument cannot: the queues stand already, and the
    version before declares them as they are.
    """
    await channel.declare_queue(dead_queue_of(queue), {"x-overflow": "reject-publish"})
    arguments = {
        "x-single-active-consumer": True,
        "x-overflow": "reject-publish",
        "x-max-length-bytes": QUEUE_BYTES_MAX,
        "x-dead-letter-exchange": "",
        "x-dead-letter-routing-key": dead_queue_of(queue),
    }
    await channel.declare_queue(queue, arguments)


class QueueLengths(ConnectionListener):
    """Asks for the lengths of queues that others declare. Add it after them."""

    def __init__(self, queues: Sequence[str]) -> None:
        self._queues = queues
        self._channel: Channel | None = None

    async def opened(self, connection: Connection) -> None:
        """See ConnectionListener."""
        self._channel = await connection.channel()

    def lost(self, _error: Unavailable) -> None:
        """See ConnectionListener."""
        self._channel = None

    async def lengths(self) -> list[int]:
        """The number of records ready in each; none while not connected."""
        channel = self._channel
        if channel is None or not channel.is_open:
            return []
        declare = partial(channel.call, channel.raw.queue_declare, passive=True)
        try:
            answers = [await declare(queue=queue) for queue in self._queues]
        except Unavailable:
            return []
        return [int(answer.method.message_count) for answer in answers]


@dataclass(slots=True)
class _Record:
    partition: int
    body: bytes
    durable: asyncio.Future[None]


class _Partition:
    """Records of one partition that are still to be published."""

    def __init__(self, queue: str) -> None:
        self.queue = queue
        self.waiting: deque[_Record] = deque()  # oldest first
        self.rejected: dict[int, _Record] = {}  # by delivery tag; older than those that wait
        self.resume: asyncio.TimerHandle | None = None  # set: the rejected ones are published again before any other


class RabbitLogWriter(ConnectionListener):
    """See LogWriter. Owns its connection."""

    def __init__(
        self,
        url: str,
        partitions: int,
        queue_of: Callable[[int], str],
        *,
        records_max: int = RECORDS_MAX,
        bytes_max: int = BYTES_MAX,
        timeout_s: float = 10.0,
    ) -> None:
        """`timeout_s`: how long an append waits for the confirm before its caller gets Unavailable."""
        self.rabbit = Rabbit(url, name="telemetry log writer")
        self.rabbit.add(self)
        self._partitions = [_Partition(queue_of(partition)) for partition in range(partitions)]
        self._unconfirmed = UnconfirmedLimit(records_max, bytes_max)
        self._timeout_s = timeout_s
        self._sent: dict[int, _Record] = {}  # tag -> record, ascending
        self._tag = 0  # of the newest publish on this channel
        self._turn = 0  # the partition whose turn it is to publish
        self._connection: Connection | None = None
        self._channel: Channel | None = None
        self._closed = False

    def start(self) -> None:
        """Start connecting. Appends are accepted from now on, connected or not."""
        self.rabbit.start()

    @property
    def unconfirmed(self) -> tuple[int, int]:
        """Number of unconfirmed records, and of their bytes."""
        return self._unconfirmed.records, self._unconfirmed.bytes

    async def append(self, partition: int, record: bytes) -> None:
        """See LogWriter. After a time-out the record is kept and still published: no gap in numbered records.

        Raises ValueError for a record above RECORD_BYTES_MAX or a partition that does not exist.
        """
        if len(record) > RECORD_BYTES_MAX or not 0 <= partition < len(self._partitions):
            raise ValueError(f"a record of {len(record)} bytes for partition {partition}")
        if self._closed:
            raise Unavailable("the log is closed")
        self._unconfirmed.take(len(record))
        durable: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        durable.add_done_callback(mark_seen)
        self._partitions[partition].waiting.append(_Record(partition, record, durable))
        if len(self._sent) < SENDING_MAX:
            self._send_next(self._partitions[partition])
        if not await done_within(durable, self._timeout_s):
            raise Unavailable(f"partition {partition}: RabbitMQ did not confirm within {self._timeout_s} s")
        durable.result()

    async def close(self) -> None:
        """Give the broker the append time-out to confirm pending records, then fail the rest and disconnect."""
        self._closed = True
        pending = [*self._sent.values()]
        for partition in self._partitions:
            pending += [*partition.rejected.values(), *partition.waiting]
        if pending:
            await asyncio.wait([record.durable for record in pending], timeout=self._timeout_s)
        await self.rabbit.close()
        for record in pending:
            if not record.durable.done():
                record.durable.set_exception(Unavailable("the log was closed before this was confirmed"))

    async def opened(self, connection: Connection) -> None:
        """See ConnectionListener."""
        channel = await connection.channel()
        for partition in self._partitions:
            await declare_partition(channel, partition.queue)
        channel.raw.add_on_return_callback(self._returned)
        await channel.call(channel.raw.confirm_delivery, ack_nack_callback=self._answered)
        self._tag = 0
        self._connection, self._channel = connection, channel
        self.unblocked()

    def lost(self, _error: Unavailable) -> None:
        """See ConnectionListener. Unconfirmed records are published again, in order, before those that wait."""
        self._connection = self._channel = None
        sent, self._sent = self._sent, {}
        for tag, record in sent.items():
            self._partitions[record.partition].rejected[tag] = record
        for partition in self._partitions:
            _requeue_rejected(partition)

    def unblocked(self) -> None:
        """See ConnectionListener."""
        self._send_waiting()

    def _send_waiting(self) -> None:
        """Publish what waits while there is room, by turns: a record of one partition, then of the next. The one that
        found no room is the first the next time."""
        count = len(self._partitions)
        passed = 0  # one after the other that have nothing to send
        while passed < count and len(self._sent) < SENDING_MAX:
            passed = 0 if self._send_next(self._partitions[self._turn]) else passed + 1
            self._turn = (self._turn + 1) % count

    def _send_next(self, partition: _Partition) -> bool:
        """Publish the oldest record that waits; there is room. False: there is none, or it cannot be published now."""
        channel = self._channel
        if not partition.waiting or channel is None or self.rabbit.blocked or partition.resume is not None:
            return False
        if not channel.is_open:
            return False
        properties = BasicProperties(delivery_mode=PERSISTENT, correlation_id=str(self._tag + 1))
        try:
            channel.raw.basic_publish("", partition.queue, partition.waiting[0].body, properties, mandatory=True)
        except AMQPError:
            return False  # the connection is closing; `lost` follows
        except Exception as error:  # a bug: the record is taken, so it is published again on another connection
            _log.exception("publish_failed", queue=partition.queue)
            if self._connection is not None:
                self._connection.fail(Unavailable(f"RabbitMQ: {error!r}"))
            return False
        self._tag += 1
        self._sent[self._tag] = partition.waiting.popleft()
        return True

    def _answered(self, answer: Any) -> None:
        method = answer.method
        settle = self._confirm if isinstance(method, Basic.Ack) else self._reject
        if not method.multiple:
            if (record := self._sent.pop(method.delivery_tag, None)) is not None:
                settle(method.delivery_tag, record)
        else:
            while self._sent and (oldest := next(iter(self._sent))) <= method.delivery_tag:
                settle(oldest, self._sent.pop(oldest))
        if self._unconfirmed.records > len(self._sent):
            self._send_waiting()

    def _confirm(self, _tag: int, record: _Record) -> None:
        self._unconfirmed.release(len(record.body))
        if not record.durable.done():
            record.durable.set_result(None)

    def _reject(self, tag: int, record: _Record) -> None:
        partition = self._partitions[record.partition]
        partition.rejected[tag] = record
        if partition.resume is None:
            partition.resume = asyncio.get_running_loop().call_later(
                REJECTED_PAUSE_S, self._publish_rejected, partition
            )

    def _publish_rejected(self, partition: _Partition) -> None:
        _requeue_rejected(partition)
        self._send_waiting()

    def _returned(self, _channel: Any, _method: Any, properties: BasicProperties, _body: bytes) -> None:
        """The queue is gone: do not let the record be confirmed, and reconnect, which declares the queue again."""
        tag = int(properties.correlation_id or 0)
        if (record := self._sent.pop(tag, None)) is not None:
            self._partitions[record.partition].rejected[tag] = record
        if self._connection is not None:
            self._connection.fail(Unavailable("a queue of the telemetry log was deleted"))


def _requeue_rejected(partition: _Partition) -> None:
    """Put rejected records before those that wait, in the order in which they were published."""
    if partition.resume is not None:
        partition.resume.cancel()
        partition.resume = None
    partition.waiting.extendleft(partition.rejected[tag] for tag in sorted(partition.rejected, reverse=True))
    partition.rejected.clear()
