"""Bus over RabbitMQ: quorum queues, confirmed publishes, retries that survive the consumer's death.

A failed message is published (confirmed) to a delay queue, whose messages expire back into the queue they came from,
and only then acknowledged: whoever dies in between, the message is in one of the two, or in both. `delay_<ms>` queues
are shared by all; a message goes there through the fanout exchange of the same name, so that its routing key can name
the queue it is to come back to. A message that takes its consumer's process down with it counts its attempts too: the
broker counts deliveries that were never answered.
"""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Final

from pika import BasicProperties

from kit.bus import (
    CLOSE_TIMEOUT_S,
    DEAD_LETTERS,
    DIRECT,
    EVENT_ID,
    EXCHANGES,
    FANOUT,
    PREFETCH,
    Handler,
    Message,
    attempt_once,
    dead_letter,
    dead_queue,
)
from kit.errors import KitError, Unavailable
from kit.observability import get_logger
from kit.rabbit import Channel, Rabbit
from kit.rabbit_io import PERSISTENT, Consumer, Delivery, Publisher
from kit.retry import QueuePolicy, RetryPolicy, reconnect_pauses_s

PUBLISH_TIMEOUT_S: Final = 10.0  # for a confirm; a quorum queue that lost its leader elects one within a few seconds
QUEUE_MESSAGES_MAX: Final = 1_000_000  # of one queue, ~1 GB on disk: at 200 events/s a consumer may be away for an hour
DELAYED_MESSAGES_MAX: Final = 100_000  # of all queues together, for one pause; then failed messages wait in hand
SUBSCRIBE_TIMEOUT_S: Final = 30.0  # for the broker to come up beside us; then the service says what it misses
_ATTEMPT: Final = "x-attempt"
_EXCHANGE: Final = "x-origin-exchange"  # of a message that went through a delay queue
_ROUTING_KEY: Final = "x-origin-routing-key"
_DELIVERIES: Final = "x-delivery-count"  # the broker's: deliveries of this message that were never answered
_OURS: Final = (_ATTEMPT, _EXCHANGE, _ROUTING_KEY, _DELIVERIES)
_KINDS: Final = {DIRECT: "direct", FANOUT: "fanout", DEAD_LETTERS: "direct"}

_log = get_logger(__name__)


class RabbitBus:
    """See Bus. Two connections: the broker may block the one that publishes, and acknowledgements must still pass."""

    def __init__(
        self, url: str, policy: RetryPolicy, *, name: str, queue_messages_max: int = QUEUE_MESSAGES_MAX
    ) -> None:
        """`name`: the service, as it shows in the broker's list of connections."""
        self._policy = policy
        self._bounds: dict[str, Any] = {"x-overflow": "reject-publish", "x-max-length": queue_messages_max}
        self._out = Rabbit(url, name=f"{name} publisher")
        self._in = Rabbit(url, name=f"{name} consumer")
        self._publisher = Publisher(self._out, declare=_declare_exchanges)
        self._subscriptions: list[_Subscription] = []
        self._closed = False

    def start(self) -> None:
        """Begin to connect."""
        self._out.start()
        self._in.start()

    async def wait_ready(self, timeout_s: float) -> None:
        """Until both connections are up. Raises Unavailable with the reason."""
        await self._out.wait_ready(timeout_s)
        await self._in.wait_ready(timeout_s)

    async def check_ready(self) -> None:
        """Raises Unavailable where events do not flow now."""
        for rabbit in (self._out, self._in):
            if not rabbit.ready:
                raise Unavailable(f"RabbitMQ at {rabbit.address} is not reached")

    async def publish(self, message: Message) -> None:
        """See Bus."""
        if self._closed:
            raise Unavailable("the bus is closed")
        if message.exchange not in EXCHANGES:
            raise ValueError(f"no exchange {message.exchange!r}")
        await self.send(message.exchange, message.routing_key, message.body, dict(message.headers), mandatory=False)

    async def send(
        self, exchange: str, routing_key: str, body: bytes, headers: dict[str, Any], *, mandatory: bool
    ) -> None:
        """Publish to any exchange and wait for the confirm. Raises Unavailable, Overloaded."""
        properties = BasicProperties(
            delivery_mode=PERSISTENT, headers=headers, message_id=headers.get(EVENT_ID), content_type="application/json"
        )
        confirmed = self._publisher.publish(exchange, routing_key, body, properties, mandatory=mandatory)
        await asyncio.wait((confirmed,), timeout=PUBLISH_TIMEOUT_S)
        if not confirmed.done():
            raise Unavailable(f"RabbitMQ did not confirm within {PUBLISH_TIMEOUT_S} s")
        confirmed.result()

    async def subscribe(
        self, queue: str, exchange: str, routing_key: str, handler: Handler, *, prefetch: int = PREFETCH
    ) -> None:
        """See Bus. Raises Unavailable where the broker does not come up in time."""
        if exchange not in EXCHANGES:
            raise ValueError(f"no exchange {exchange!r}")
        subscription = _Subscription(self, queue, handler, self._policy.of(queue))
        binding = (exchange, "" if exchange == FANOUT else routing_key)
        declare = partial(
            _declare_queue,
            queue=queue,
            binding=binding,
            pauses_s=self._policy.of(queue).pauses_s(),
            bounds=self._bounds,
        )
        consumer = Consumer(queue, subscription.deliver, prefetch=prefetch, declare=declare)
        subscription.consumer = consumer
        await self._in.open(consumer, SUBSCRIBE_TIMEOUT_S)
        self._subscriptions.append(subscription)

    async def close(self) -> None:
        """See Bus. What is not handled in time is delivered again, to whoever subscribes next."""
        await asyncio.gather(*(subscription.stop() for subscription in self._subscriptions))
        self._closed = True
        await self._in.close()
        await self._out.close()


class _Subscription:
    """One consumer and its running handlers, as many as the prefetch lets the broker deliver."""

    def __init__(self, bus: RabbitBus, queue: str, handler: Handler, policy: QueuePolicy) -> None:
        self.consumer: Consumer | None = None
        self._bus = bus
        self._queue = queue
        self._handler = handler
        self._policy = policy
        self._handling: set[asyncio.Task[None]] = set()

    def deliver(self, delivery: Delivery) -> None:
        """Start its handler."""
        task = asyncio.create_task(self._handle(delivery))
        self._handling.add(task)
        task.add_done_callback(self._handling.discard)

    async def stop(self) -> None:
        """Get no more, let the running handlers finish, cut off those that do not in time."""
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
        error: str | None = "the consumer's process ended each time it was handed this message"
        if message.attempt <= self._policy.attempts_max:
            error = await attempt_once(self._queue, message, self._handler, self._policy.handler_timeout_s)
        if error is not None:
            await self._again_or_bury(delivery, message, error)
        delivery.ack()

    async def _again_or_bury(self, delivery: Delivery, message: Message, error: str) -> None:
        """Returns once the broker has the message in its next place, or the connection it came by is gone."""
        pause_s = self._policy.pause_s(message.attempt)
        pauses = reconnect_pauses_s()
        while delivery.channel.is_open:
            try:
                if pause_s is None:
                    letter = dead_letter(self._queue, message, error)
                    await self._bus.send(DEAD_LETTERS, self._queue, letter.body, dict(letter.headers), mandatory=True)
                    event_id = message.headers.get(EVENT_ID)
                    _log.error("event_given_up", queue=self._queue, event_id=event_id, error=error)
                else:
                    place = {
                        _ATTEMPT: message.attempt + 1,
                        _EXCHANGE: message.exchange,
                        _ROUTING_KEY: message.routing_key,
                    }
                    headers = {**message.headers, **place}
                    await self._bus.send(_delay(pause_s), self._queue, message.body, headers, mandatory=True)
            except KitError as unavailable:
                _log.warning("event_retry_waits", queue=self._queue, error=str(unavailable))
                await asyncio.sleep(next(pauses))
            else:
                return


def _message_of(delivery: Delivery) -> Message:
    headers = delivery.properties.headers or {}
    return Message(
        exchange=headers.get(_EXCHANGE, delivery.exchange),
        routing_key=headers.get(_ROUTING_KEY, delivery.routing_key),
        body=delivery.body,
        headers={key: str(value) for key, value in headers.items() if key not in _OURS and not key.startswith("x-")},
        attempt=_number(headers.get(_ATTEMPT), 1) + _number(headers.get(_DELIVERIES), 0),
    )


def _number(value: object, default: int) -> int:
    """A header may be anything that its publisher liked."""
    return value if isinstance(value, int) and 0 <= value < 1_000_000 else default


def _delay(pause_s: float) -> str:
    return f"delay_{max(1, round(pause_s * 1_000))}"


async def _declare_exchanges(channel: Channel) -> None:
    for exchange in EXCHANGES:
        await channel.declare_exchange(exchange, _KINDS[exchange])


async def _declare_queue(
    channel: Channel, queue: str, binding: tuple[str, str], pauses_s: Sequence[float], bounds: Mapping[str, Any]
) -> None:
    """The queue, its dead letters' queue, and the delay queues its policy needs."""
    await _declare_exchanges(channel)
    await channel.declare_queue(queue, bounds)
    await channel.bind(queue, *binding)
    await channel.declare_queue(dead_queue(queue), bounds)
    await channel.bind(dead_queue(queue), DEAD_LETTERS, queue)
    for pause_s in pauses_s:
        delay = _delay(pause_s)
        await channel.declare_exchange(delay, "fanout")
        arguments = {
            "x-overflow": "reject-publish",
            "x-max-length": DELAYED_MESSAGES_MAX,  # not a bus's own bound: they share the queue
            "x-message-ttl": int(delay.removeprefix("delay_")),
            "x-dead-letter-exchange": "",  # the default exchange: by routing key to the queue of that name
            "x-dead-letter-strategy": "at-least-once",
        }
        await channel.declare_queue(delay, arguments)
        await channel.bind(delay, delay, "")
