"""A publisher with pipelined confirms and a consumer with explicit acknowledgement, on a `Rabbit` connection."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

from pika import BasicProperties
from pika.exceptions import AMQPError
from pika.spec import Basic

from kit.errors import Overloaded, QueueFull, Unavailable
from kit.futures import mark_seen
from kit.messaging.gate import Gate
from kit.messaging.rabbit_connection import Channel, Connection, ConnectionListener, Rabbit

UNCONFIRMED_MAX: Final = 4_096  # confirms take ~10 ms: room for 400 k messages/s, and a bound when they stop
PERSISTENT: Final = 2

Declare = Callable[[Channel], Awaitable[None]]


class Unroutable(Unavailable):
    """No queue gets a message that must have one."""


class Publisher(ConnectionListener):
    """A channel in confirm mode. Every publish gets a future of its own."""

    def __init__(self, rabbit: Rabbit, *, unconfirmed_max: int = UNCONFIRMED_MAX) -> None:
        """Registers itself with `rabbit`: what was registered before it is open when it publishes."""
        self._rabbit = rabbit
        self._unconfirmed_max = unconfirmed_max
        self._channel: Channel | None = None
        self._tag = 0  # of the newest publish on this channel
        self._unconfirmed: dict[int, asyncio.Future[None]] = {}  # tag -> its future, ascending
        rabbit.add(self)

    @property
    def unconfirmed(self) -> int:
        """The number of publishes that the broker has not answered."""
        return len(self._unconfirmed)

    def publish(
        self, exchange: str, routing_key: str, body: bytes, properties: BasicProperties, *, mandatory: bool
    ) -> asyncio.Future[None]:
        """Send now, in call order. The future resolves when the broker has confirmed it (quorum queue: on disk).

        It fails with QueueFull on a nack, with Unroutable on a mandatory message, with Unavailable on connection loss.
        Raises Unavailable and Overloaded at once, without sending. `properties.correlation_id` is overwritten.
        """
        channel = self._channel
        if channel is None or not channel.is_open:
            raise Unavailable(f"RabbitMQ at {self._rabbit.address} is not connected")
        if self._rabbit.blocked:
            raise Unavailable("RabbitMQ takes no messages: memory or disk alarm")
        if len(self._unconfirmed) >= self._unconfirmed_max:
            raise Overloaded(f"{len(self._unconfirmed)} messages wait for RabbitMQ's confirm: the bound is reached")
        tag = self._tag + 1
        if mandatory:
            properties.correlation_id = str(tag)  # a return comes back with the properties, not with the tag
        try:
            channel.raw.basic_publish(exchange, routing_key, body, properties, mandatory)
        except AMQPError as error:
            raise Unavailable(f"RabbitMQ: {error!r}") from error
        self._tag = tag
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        future.add_done_callback(mark_seen)
        self._unconfirmed[tag] = future
        return future

    async def opened(self, connection: Connection) -> None:
        """See ConnectionListener."""
        channel = await connection.channel()
        self._tag = 0
        channel.raw.add_on_return_callback(self._returned)
        await channel.call(channel.raw.confirm_delivery, ack_nack_callback=self._answered)
        self._channel = channel

    def lost(self, error: Unavailable) -> None:
        """See ConnectionListener."""
        self._channel = None
        unconfirmed, self._unconfirmed = self._unconfirmed, {}
        for future in unconfirmed.values():
            if not future.done():
                future.set_exception(error)

    def _answered(self, answer: Any) -> None:
        method = answer.method
        settle = _confirm if isinstance(method, Basic.Ack) else _refuse
        if not method.multiple:
            if (future := self._unconfirmed.pop(method.delivery_tag, None)) is not None:
                settle(future)
            return
        while self._unconfirmed and (oldest := next(iter(self._unconfirmed))) <= method.delivery_tag:
            settle(self._unconfirmed.pop(oldest))

    def _returned(self, _channel: Any, method: Basic.Return, properties: BasicProperties, _body: bytes) -> None:
        """Unroutable. The broker acknowledges it right after; the future fails first."""
        future = self._unconfirmed.get(int(properties.correlation_id or 0))
        if future is not None and not future.done():
            where = f"exchange {method.exchange!r}, routing key {method.routing_key!r}"
            future.set_exception(Unroutable(f"RabbitMQ has no queue for {where}"))


def _confirm(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _refuse(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_exception(QueueFull("RabbitMQ refused a message: its queue is full"))


@dataclass(frozen=True, slots=True)
class Delivery:
    """A delivered message. An answer after the connection's end does nothing: the broker delivers it again."""

    channel: Channel
    tag: int
    exchange: str
    routing_key: str
    redelivered: bool
    properties: BasicProperties
    body: bytes

    def ack(self, *, up_to: bool = False) -> None:
        """Acknowledge it (`up_to`: and everything delivered on this channel before it)."""
        if self.channel.is_open:
            self.channel.raw.basic_ack(self.tag, multiple=up_to)

    def reject(self, *, requeue: bool) -> None:
        """Return it to the queue, or (not `requeue`) have it dead-lettered."""
        if self.channel.is_open:
            self.channel.raw.basic_reject(self.tag, requeue=requeue)


class AmqpConsumer(ConnectionListener):
    """Consumes one queue, again after every reconnect."""

    def __init__(
        self,
        queue: str,
        on_delivery: Callable[[Delivery], None],
        *,
        prefetch: int,
        declare: Declare | None = None,
        on_lost: Callable[[], None] | None = None,
        gate: Gate | None = None,
    ) -> None:
        """Register it with a `Rabbit`. `on_lost`: all deliveries so far are void, they are delivered again. `gate`:
        nothing is consumed while it is closed."""
        self._queue = queue
        self._gate = gate or Gate()
        self._gate.watch(self._gate_changed)
        self._adjusting = asyncio.Lock()  # consuming begins or ends
        self._adjustments: set[asyncio.Task[None]] = set()
        self._cancelled = False
        self._deliver: Callable[..., None] | None = None  # None: not connected
        self._connection: Connection | None = None
        self._on_delivery = on_delivery
        self._prefetch = prefetch
        self._declare = declare
        self._on_lost = on_lost
        self._channel: Channel | None = None

    async def opened(self, connection: Connection) -> None:
        """See ConnectionListener."""
        channel = await connection.channel()
        if self._declare is not None:
            await self._declare(channel)
        await channel.call(channel.raw.basic_qos, prefetch_count=self._prefetch)
        self._channel = channel

        def deliver(_raw: Any, method: Basic.Deliver, properties: BasicProperties, body: bytes) -> None:
            self._on_delivery(
                Delivery(
                    channel,
                    method.delivery_tag or 0,
                    method.exchange or "",
                    method.routing_key or "",
                    bool(method.redelivered),
                    properties,
                    body,
                )
            )

        def cancelled(_: Any) -> None:  # by the broker: the queue was deleted or lost its leader
            connection.fail(Unavailable(f"RabbitMQ ended the consumer of {self._queue}"))

        channel.raw.add_on_cancel_callback(cancelled)
        self._deliver = deliver
        self._connection = connection

    async def begin(self) -> None:
        """See ConnectionListener."""
        await self._adjust()

    def lost(self, _error: Unavailable) -> None:
        """See ConnectionListener."""
        self._connection = self._channel = self._deliver = None
        if self._on_lost is not None:
            self._on_lost()

    async def cancel(self) -> None:
        """Have nothing more delivered; what is delivered can still be acknowledged."""
        self._cancelled = True
        await self._adjust()

    def _gate_changed(self, _is_open: bool) -> None:
        task = asyncio.create_task(self._follow_gate())
        self._adjustments.add(task)
        task.add_done_callback(self._adjustments.discard)

    async def _follow_gate(self) -> None:
        try:
            await self._adjust()
        except Unavailable as error:  # the next connection begins as the gate is then
            if self._connection is not None:
                self._connection.fail(error)

    async def _adjust(self) -> None:
        """Consume, or do not, as it is to be now. Raises Unavailable."""
        async with self._adjusting:
            channel, deliver = self._channel, self._deliver
            if channel is None or deliver is None or not channel.is_open:
                return
            tags = channel.raw.consumer_tags
            if self._gate.is_open and not self._cancelled:
                if not tags:
                    await channel.call(channel.raw.basic_consume, queue=self._queue, on_message_callback=deliver)
                return
            for tag in tags:
                await channel.call(channel.raw.basic_cancel, consumer_tag=tag)
