"""The event bus over RabbitMQ: quorum queues, publisher confirms, retries by delay queues.

A failed message is published (confirmed) to a delay queue, whose messages expire back into the queue they came from,
and only then acknowledged: whichever process dies in between, the message is in one of the two, or in both. All queues
share the `delay_<ms>` queues; a message gets there through the fanout exchange of the same name, so that its routing
key can name the queue it returns to. Attempts that crash the consumer's process count too: the broker counts deliveries
that were never acknowledged.
"""

import asyncio
from collections.abc import Collection, Mapping
from contextlib import suppress
from functools import partial
from typing import Any, Final

from pika import BasicProperties

from kit.errors import KitError, Unavailable
from kit.messaging.bus import CLOSE_TIMEOUT_S, PREFETCH
from kit.messaging.delivery_attempts import FailedAttempt, attempt_delivery, deliver_once, publish_dead_letter
from kit.messaging.gate import Gate
from kit.messaging.messages import (
    DEAD_LETTER_QUEUE,
    DEAD_LETTERS,
    DEFAULT_EXCHANGE,
    DIRECT,
    EVENT_ID,
    EXCHANGES,
    FANOUT,
    Announce,
    Binding,
    FailedMessage,
    Handler,
    Message,
    as_published,
    header_text,
    header_texts,
)
from kit.messaging.rabbit_channels import PERSISTENT, AmqpConsumer, Declare, Delivery, Publisher, Unroutable
from kit.messaging.rabbit_connection import Channel, Connection, ConnectionListener, Rabbit
from kit.observability.logs import get_logger
from kit.retry import QueuePolicy, RetryPolicy, reconnect_pauses_s

PUBLISH_TIMEOUT_S: Final = 10.0  # for a confirm; a quorum queue that lost its leader elects one within seconds
QUEUE_MESSAGES_MAX: Final = 1_000_000  # of one queue, ~1 GB on disk: at 200 events/s a consumer may be down for an hour
DELAYED_MESSAGES_MAX: Final = 100_000  # of all queues together, for one pause; others stay unacknowledged
DEAD_MESSAGES_MAX: Final = 1_000_000  # of all queues together, while nobody consumes them
PROCESS_MESSAGES_MAX: Final = 10_000  # of a process's own queue: the oldest are dropped, what counts is the newest
PROCESS_QUEUE_S: Final = 300.0  # without a consumer; a broker that is away for longer makes processes read anew anyway
SUBSCRIBE_TIMEOUT_S: Final = 30.0  # for a broker that is starting; then the service reports what is missing
_WITHOUT_END: Final = {"attempts_max": 1 << 31}  # deliveries to a process's own queue
_ATTEMPT: Final = "x-attempt"
_EXCHANGE: Final = "x-origin-exchange"  # of a message that went through a delay queue
_ROUTING_KEY: Final = "x-origin-routing-key"
_DELIVERIES: Final = "x-delivery-count"  # the broker's: deliveries of this message that were never acknowledged
_OURS: Final = (_ATTEMPT, _EXCHANGE, _ROUTING_KEY, _DELIVERIES)
_SHORT_BYTES_MAX: Final = 255  # of AMQP's short strings
_KINDS: Final = {DIRECT: "direct", FANOUT: "fanout", DEAD_LETTERS: "direct"}
# What is published to the fanout goes on to this exchange, where the queues of consumers are bound by routing key: so
# none of them gets, and is filled by, what it does not handle.
_BROADCAST_BY_KEY: Final = f"{FANOUT}_by_key"

_log = get_logger(__name__)


class RabbitBus:
    """See Bus. Two connections: the broker may block the publishing one, and acknowledgements must still pass."""

    def __init__(
        self,
        url: str,
        policy: RetryPolicy,
        *,
        name: str,
        announce: Announce | None = None,
        queue_messages_max: int = QUEUE_MESSAGES_MAX,
    ) -> None:
        """`name`: of the service, for the broker's list of connections."""
        self.announce = announce
        self._policy = policy
        self._messages_max = queue_messages_max
        self._out = Rabbit(url, name=f"{name} publisher")
        self._in = Rabbit(url, name=f"{name} consumer")
        self._declared = _Declarations()
        self._out.add(self._declared)  # before the publisher: it publishes nothing until all queues are there
        self._publisher = Publisher(self._out)
        self._subscriptions: list[_Subscription] = []
        self._closed = False

    def start(self) -> None:
        """Start connecting."""
        self._out.start()
        self._in.start()

    async def wait_ready(self, timeout_s: float) -> None:
        """Until both connections are up. Raises Unavailable with the reason."""
        await self._out.wait_ready(timeout_s)
        await self._in.wait_ready(timeout_s)

    async def check_ready(self) -> None:
        """Raises Unavailable while a connection is down. A readiness check."""
        for rabbit in (self._out, self._in):
            if not rabbit.ready:
                raise Unavailable(f"RabbitMQ at {rabbit.address} is not reached")

    async def publish(self, message: Message) -> None:
        """See Bus."""
        if self._closed:
            raise Unavailable("the bus is closed")
        if message.exchange == DEFAULT_EXCHANGE:
            headers = _headers_with_origin(as_published(message))
            await self.send(DEFAULT_EXCHANGE, message.routing_key, message.body, headers, mandatory=True)
            return
        if message.exchange not in EXCHANGES:
            raise ValueError(f"no exchange {message.exchange!r}")
        # An event may have no consumer; a letter without a queue is lost, and so is an event whose queues are gone.
        has_queues = (message.exchange, message.routing_key) in self._declared
        mandatory = message.exchange == DEAD_LETTERS or has_queues
        try:
            await self.send(
                message.exchange, message.routing_key, message.body, dict(message.headers), mandatory=mandatory
            )
        except Unroutable:
            await self._declared.again()
            raise

    async def send(
        self, exchange: str, routing_key: str, body: bytes, headers: dict[str, Any], *, mandatory: bool
    ) -> None:
        """Publish to any exchange and wait for the confirm. Raises Unavailable, Overloaded."""
        properties = BasicProperties(
            delivery_mode=PERSISTENT,
            headers=headers,
            message_id=_message_id(headers),
            content_type="application/json",
        )
        confirmed = self._publisher.publish(exchange, routing_key, body, properties, mandatory=mandatory)
        await asyncio.wait((confirmed,), timeout=PUBLISH_TIMEOUT_S)
        if not confirmed.done():
            raise Unavailable(f"RabbitMQ did not confirm within {PUBLISH_TIMEOUT_S} s")
        confirmed.result()

    async def subscribe(
        self,
        queue: str,
        exchange: str,
        routing_key: str,
        handler: Handler,
        *,
        prefetch: int = PREFETCH,
        gate: Gate | None = None,
    ) -> None:
        """See Bus. Raises Unavailable where the broker is not up in time."""
        declare = self._declaration(queue, exchange, routing_key)
        await self._consume(queue, handler, prefetch, declare, gate)

    async def subscribe_process(self, queue: str, exchange: str, routing_key: str, handler: Handler) -> None:
        """See Bus. Raises as `subscribe`."""
        declare = partial(_declare_process_queue, queue=queue, binding=_binding(exchange, routing_key))
        timeout_s = self._policy.of(queue).handler_timeout_s

        async def once(message: Message) -> None:
            await deliver_once(queue, message, handler, timeout_s)

        # Never dead-lettered: nobody would look for it there.
        await self._consume(queue, once, 1, declare, policy=self._policy.of(queue).model_copy(update=_WITHOUT_END))

    async def declare(self, queue: str, exchange: str, routing_key: str) -> None:
        """See Bus. Raises as `subscribe`. Declared again with every connection that publishes, before it does: a broker
        may come back empty, and would confirm what it drops."""
        declare = self._declaration(queue, exchange, routing_key)
        await self._declared.add((exchange, routing_key), declare, self._out)

    def _declaration(self, queue: str, exchange: str, routing_key: str) -> Declare:
        return partial(
            _declare_queue,
            queue=queue,
            binding=_binding(exchange, routing_key),
            pauses_s=self._policy.of(queue).pauses_s(),
            messages_max=self._messages_max,
        )

    async def subscribe_dead_letters(self, handler: Handler) -> None:
        """See Bus. Raises as `subscribe` does."""
        policy = self._policy.of(DEAD_LETTER_QUEUE)
        declare = partial(_declare_dead_queue, pauses_s={*policy.pauses_s(), policy.ceiling_s})
        await self._consume(DEAD_LETTER_QUEUE, handler, PREFETCH, declare)

    async def _consume(
        self,
        queue: str,
        handler: Handler,
        prefetch: int,
        declare: Declare,
        gate: Gate | None = None,
        policy: QueuePolicy | None = None,
    ) -> None:
        subscription = _Subscription(self, queue, handler, policy or self._policy.of(queue))
        consumer = AmqpConsumer(queue, subscription.deliver, prefetch=prefetch, declare=declare, gate=gate)
        subscription.consumer = consumer
        await self._in.open(consumer, SUBSCRIBE_TIMEOUT_S)
        self._subscriptions.append(subscription)

    async def close(self) -> None:
        """See Bus. Messages not handled in time are redelivered to the next consumer."""
        await asyncio.gather(*(subscription.stop() for subscription in self._subscriptions))
        self._closed = True
        await self._in.close()
        await self._out.close()


class _Declarations(ConnectionListener):
    """The exchanges, and queues that exist before anything is published, with a consumer or without."""

    def __init__(self) -> None:
        self._all: list[tuple[Binding, Declare]] = []
        self._bindings: set[Binding] = set()  # of these
        self._channel: Channel | None = None

    def __contains__(self, binding: Binding) -> bool:
        """Whether one of the queues gets what is published so."""
        return binding in self._bindings

    async def add(self, binding: Binding, declare: Declare, rabbit: Rabbit) -> None:
        """Return once the queue exists. Raises Unavailable: it is not declared again either."""
        self._all.append((binding, declare))
        try:
            if self._channel is not None:
                await declare(self._channel)
            else:
                await rabbit.wait_ready(SUBSCRIBE_TIMEOUT_S)
        except BaseException:
            self._all.remove((binding, declare))
            raise
        self._bindings.add(binding)

    async def again(self) -> None:
        """One of them is gone though the connection is not. Raises Unavailable."""
        if self._channel is not None:
            await self._declare_all(self._channel)

    async def opened(self, connection: Connection) -> None:
        """See ConnectionListener."""
        channel = await connection.channel()
        await channel.once("exchanges", _declare_exchanges)
        await self._declare_all(channel)
        self._channel = channel

    def lost(self, error: Unavailable) -> None:
        """See ConnectionListener."""
        self._channel = None

    async def _declare_all(self, channel: Channel) -> None:
        for _, declare in self._all:  # may grow meanwhile
            await declare(channel)


class _Subscription:
    """One consumer and its running handlers, at most as many as its prefetch."""

    def __init__(self, bus: RabbitBus, queue: str, handler: Handler, policy: QueuePolicy) -> None:
        self.consumer: AmqpConsumer | None = None
        self._bus = bus
        self._queue = queue
        self._handler = handler
        self._policy = policy
        self._handling: set[asyncio.Task[None]] = set()
        self._stopping = asyncio.Event()

    def deliver(self, delivery: Delivery) -> None:
        """Start the handler of this delivery."""
        task = asyncio.create_task(self._handle(delivery))
        self._handling.add(task)
        task.add_done_callback(self._handling.discard)

    async def stop(self) -> None:
        """Cancel the consumer, let running handlers finish, cancel those that do not in time."""
        self._stopping.set()
        if self.consumer is not None:
            with suppress(Unavailable):  # not connected: nothing is delivered
                await self.consumer.cancel()
        if self._handling:
            await asyncio.wait(set(self._handling), timeout=CLOSE_TIMEOUT_S)
        late = list(self._handling)
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)

    async def _handle(self, delivery: Delivery) -> None:
        message = _message_of(delivery)
        pause = partial(self._pause, delivery)
        # A dead letter is never dead-lettered: through a delay queue it returns with its deliveries counted from zero.
        pause_s = self._policy.ceiling_s if self._queue == DEAD_LETTER_QUEUE else None
        crashed = "the consumer's process ended at every delivery of this message"
        failed: FailedAttempt | None = FailedAttempt(crashed, pause_s)
        if message.attempt <= self._policy.attempts_max:
            failed = await attempt_delivery(self._queue, message, self._handler, self._policy, pause)
        if failed is not None:
            await self._redeliver_or_dead_letter(delivery, message, failed)
        delivery.ack()

    async def _pause(self, delivery: Delivery, pause_s: float) -> None:
        """Sleep with the message unacknowledged. Raises CancelledError on `stop` and where the channel is closed."""
        with suppress(TimeoutError):
            async with asyncio.timeout(pause_s):
                await self._stopping.wait()
        if self._stopping.is_set() or not delivery.channel.is_open:
            raise asyncio.CancelledError

    async def _redeliver_or_dead_letter(self, delivery: Delivery, message: Message, failed: FailedAttempt) -> None:
        """Return once the broker has confirmed the message in its delay queue or dead-letter exchange."""
        pauses = reconnect_pauses_s()
        while True:
            try:
                if failed.pause_s is None:
                    failed_message = FailedMessage(self._queue, message, failed.error)
                    await publish_dead_letter(self._bus, failed_message, self._bus.announce)
                else:
                    attempt = min(message.attempt + 1, self._policy.attempts_max)
                    headers = {**_headers_with_origin(message), _ATTEMPT: attempt}
                    await self._bus.send(
                        delay_queue(failed.pause_s), self._queue, message.body, headers, mandatory=True
                    )
            except KitError as unavailable:
                _log.warning("event_retry_waits", queue=self._queue, error=str(unavailable))
                await self._pause(delivery, next(pauses))
            else:
                return


def _headers_with_origin(message: Message) -> dict[str, Any]:
    """Headers of a message that reaches its queue by another route than it was published."""
    return {**message.headers, _EXCHANGE: message.exchange, _ROUTING_KEY: message.routing_key}


def _message_id(headers: Mapping[str, Any]) -> str | None:
    """The event's id, which the broker shows; None where AMQP has no room for it there."""
    given = headers.get(EVENT_ID)
    return given if isinstance(given, str) and len(given.encode()) <= _SHORT_BYTES_MAX else None


def _message_of(delivery: Delivery) -> Message:
    headers = delivery.properties.headers or {}
    return Message(
        exchange=header_text(headers.get(_EXCHANGE, delivery.exchange)),
        routing_key=original_key(headers, delivery.routing_key),
        body=delivery.body,
        headers=header_texts(
            (key, value) for key, value in headers.items() if key not in _OURS and not key.startswith("x-")
        ),
        attempt=_number(headers.get(_ATTEMPT), 1) + _number(headers.get(_DELIVERIES), 0),
    )


def original_key(headers: Mapping[str, Any] | None, delivered_key: str) -> str:
    """The routing key that a message was published with, whichever route it was delivered by."""
    return header_text((headers or {}).get(_ROUTING_KEY, delivered_key))


def _number(value: object, default: int) -> int:
    """A header's value is whatever its publisher chose."""
    return value if isinstance(value, int) and 0 <= value < 1_000_000 else default


def _binding(exchange: str, routing_key: str) -> Binding:
    if exchange not in EXCHANGES:
        raise ValueError(f"no exchange {exchange!r}")
    return _BROADCAST_BY_KEY if exchange == FANOUT else exchange, routing_key


def delay_queue(pause_s: float) -> str:
    """The queue in which messages wait so long for another attempt, of all queues alike."""
    return f"delay_{max(1, round(pause_s * 1_000))}"


async def _declare_exchanges(channel: Channel) -> None:
    for exchange in EXCHANGES:
        await channel.declare_exchange(exchange, _KINDS[exchange])
    await channel.declare_exchange(_BROADCAST_BY_KEY, "direct")
    await channel.bind_exchange(_BROADCAST_BY_KEY, FANOUT)


async def _declare_queue(
    channel: Channel, queue: str, binding: Binding, pauses_s: Collection[float], messages_max: int
) -> None:
    """The queue, the routing of its dead letters, and the delay queues of its policy."""
    await channel.once("exchanges", _declare_exchanges)
    await channel.declare_queue(queue, _length_limit(messages_max))
    await _bind(channel, queue, binding)
    await channel.once("dead letters", partial(_declare_dead_queue, pauses_s=()))
    await channel.bind(DEAD_LETTER_QUEUE, DEAD_LETTERS, queue)
    await _declare_delays(channel, pauses_s)


async def _declare_process_queue(channel: Channel, queue: str, binding: Binding) -> None:
    """A queue without dead letters and retries, which ends after its process."""
    await channel.once("exchanges", _declare_exchanges)
    arguments = {
        "x-overflow": "drop-head",
        "x-max-length": PROCESS_MESSAGES_MAX,
        "x-expires": int(PROCESS_QUEUE_S * 1_000),
    }
    await channel.declare_queue(queue, arguments)
    await _bind(channel, queue, binding)


async def _bind(channel: Channel, queue: str, binding: Binding) -> None:
    await channel.bind(queue, *binding)
    if binding[0] == _BROADCAST_BY_KEY:
        await channel.unbind(queue, FANOUT)  # as earlier versions bound it


async def _declare_dead_queue(channel: Channel, pauses_s: Collection[float]) -> None:
    await channel.once("exchanges", _declare_exchanges)
    await channel.declare_queue(DEAD_LETTER_QUEUE, _length_limit(DEAD_MESSAGES_MAX))
    await _declare_delays(channel, pauses_s)


async def _declare_delays(channel: Channel, pauses_s: Collection[float]) -> None:
    for delay in map(delay_queue, pauses_s):
        await channel.once(delay, partial(_declare_delay, delay=delay))


async def _declare_delay(channel: Channel, delay: str) -> None:
    await channel.declare_exchange(delay, "fanout")
    arguments = {
        "x-overflow": "reject-publish",
        "x-max-length": DELAYED_MESSAGES_MAX,  # the same for every bus: they share the queue
        "x-message-ttl": int(delay.removeprefix("delay_")),
        "x-dead-letter-exchange": "",  # the default exchange: by routing key to the queue of that name
        "x-dead-letter-strategy": "at-least-once",
    }
    await channel.declare_queue(delay, arguments)
    await channel.bind(delay, delay, "")


def _length_limit(messages_max: int) -> dict[str, Any]:
    return {"x-overflow": "reject-publish", "x-max-length": messages_max}
