"""The event bus: its interface (exchanges, queues, at-least-once delivery, dead letters), and the bus in one process.

The other implementation is RabbitMQ (rabbit_bus.py); both pass one contract suite. Bodies are opaque bytes.

Exchanges, by name: `direct_events` and `fanout_broadcast` route a message to every queue bound with its routing key
(over RabbitMQ the latter is a fanout: other systems may bind queues there that get everything), `dlx_events` (dead
letters) to the queue `dead_letters` and to those bound with the name of the queue that failed. A queue receives what is
published after its declaration; a message with no queue bound for it is dropped.
"""

import asyncio
from collections import deque
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Final, Protocol, cast

from kit.errors import QueueFull, Unavailable
from kit.messaging.delivery_attempts import Sleep, attempt_delivery, deliver_once, next_attempt
from kit.messaging.gate import Gate
from kit.messaging.messages import (
    ATTEMPTS,
    DEAD_LETTER_QUEUE,
    DEAD_LETTERS,
    DEFAULT_EXCHANGE,
    DIRECT,
    ERROR,
    EVENT_ID,
    EXCHANGES,
    FANOUT,
    LETTER_ID,
    ORIGIN_EXCHANGE,
    ORIGIN_ROUTING_KEY,
    REPLAYS,
    Announce,
    Binding,
    FailedMessage,
    Handler,
    Message,
    as_published,
    failure_event_of,
    replay_of,
)
from kit.observability.logs import get_logger
from kit.retry import RetryPolicy

__all__ = [
    "ATTEMPTS",
    "DEAD_LETTERS",
    "DEAD_LETTER_QUEUE",
    "DEFAULT_EXCHANGE",
    "DIRECT",
    "ERROR",
    "EVENT_ID",
    "EXCHANGES",
    "FANOUT",
    "LETTER_ID",
    "ORIGIN_EXCHANGE",
    "ORIGIN_ROUTING_KEY",
    "PREFETCH",
    "REPLAYS",
    "Announce",
    "Bus",
    "FailedMessage",
    "Handler",
    "InProcessBus",
    "Message",
    "replay_of",
]

QUEUE_MESSAGES_MAX: Final = (
    10_000  # of one queue: at 2 k events/s its consumer may stop for 5 s before publishers are refused
)
PREFETCH: Final = 64  # handled at once by one subscription; each is a transaction, and pools have fewer connections
CLOSE_TIMEOUT_S: Final = (
    10.0  # for handlers that run when the bus is closed; later they are cancelled, and their messages redelivered
)

_log = get_logger(__name__)


class Bus(Protocol):
    """Publish events, and subscribe to queues."""

    async def publish(self, message: Message) -> None:
        """Return once the broker has confirmed. Raises Unavailable, Overloaded, QueueFull.

        Calls made in order reach each queue in order. With DEFAULT_EXCHANGE the routing key is the queue's name, and
        Unavailable is raised also where there is no such queue; dead letters are replayed that way (`replay_of`).
        """

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
        """Declare the durable queue, bind it, and deliver every message with that routing key to `handler`, up to
        `prefetch` at once. While `gate` is closed messages stay in the queue; what was delivered before is finished.

        A message is acknowledged when the handler returns. When it raises (see `delivery_attempts`), the message is
        redelivered with `attempt` one higher after the retry policy's pause. When its attempts are used up it is
        dead-lettered to `dlx_events` (routing key: the queue's name), and the event that `announce` makes is published.
        """

    async def subscribe_process(self, queue: str, exchange: str, routing_key: str, handler: Handler) -> None:
        """Deliver to `handler`, one after the other, what is broadcast with that routing key, by a queue of this
        process alone: name it after the process. The queue is deleted some minutes after its process is gone.

        A message is delivered once: where the handler fails that is logged. So it suits state that is read again
        anyway, and nothing that has to be done for each message.
        """

    async def declare(self, queue: str, exchange: str, routing_key: str) -> None:
        """Declare the durable queue and bind it, before anybody subscribes: it keeps what is published from now on.

        Publishers declare the queues of their consumers, because a message with no queue bound for it is dropped.
        """

    async def subscribe_dead_letters(self, handler: Handler) -> None:
        """Deliver every dead letter of every queue to `handler`, again and again until it is acknowledged."""

    async def close(self) -> None:
        """Stop delivering, let running handlers finish, release everything."""


@dataclass(slots=True)
class _Delivery:
    """A message in one queue; `settled` resolves when it is handled or its dead letter is."""

    message: Message
    settled: asyncio.Future[None]


class _Queue:
    """One queue and its consumers."""

    def __init__(self, name: str, messages_max: int) -> None:
        self.name = name
        self.messages_max = messages_max
        self.bindings: set[Binding] = set()
        self.unsettled = 0  # ready, in a handler, or pausing before the next attempt
        self.ready: deque[_Delivery] = deque()
        self.arrived = asyncio.Semaphore(0)  # one permit per ready delivery

    def is_bound_for(self, message: Message) -> bool:
        """Whether the exchange routes this message here."""
        if message.exchange == DEFAULT_EXCHANGE:
            return message.routing_key == self.name
        if message.exchange == DEAD_LETTERS and self.name == DEAD_LETTER_QUEUE:
            return True
        return (message.exchange, message.routing_key) in self.bindings

    def put(self, delivery: _Delivery) -> None:
        """Make it ready for a consumer."""
        self.ready.append(delivery)
        self.arrived.release()


class InProcessBus:
    """Bus within one process. Nothing is written to disk: `publish` returns when the handler of every bound queue has
    returned, or those of its dead letter and of the announcing event have. So a publisher that keeps its
    event until then (the outbox relay) loses none in a crash. Dead letters without a subscriber stay in memory, the
    newest `QUEUE_MESSAGES_MAX` of a queue; they are logged as errors. A handler must not publish to its own queue and
    wait for it: at the prefetch limit that is a deadlock.
    """

    def __init__(
        self,
        policy: RetryPolicy,
        *,
        announce: Announce | None = None,
        sleep: Sleep = asyncio.sleep,
        queue_messages_max: int = QUEUE_MESSAGES_MAX,
    ) -> None:
        """`sleep` pauses between attempts."""
        self._policy = policy
        self._announce = announce
        self._sleep = sleep
        self._messages_max = queue_messages_max
        self._queues: dict[str, _Queue] = {}
        self._kept_letters: dict[str, deque[Message]] = {}  # queue -> its dead letters, while nobody subscribes to them
        self._consumers: list[asyncio.Task[None]] = []
        self._handling: set[asyncio.Task[None]] = set()  # consumers with a handler running
        self._pending: set[asyncio.Task[None]] = set()  # pauses before a redelivery; dead letters being published
        self._unsettled: set[asyncio.Future[None]] = set()
        self._closed = False

    async def publish(self, message: Message) -> None:
        """See Bus."""
        if self._closed:
            raise Unavailable("the bus is closed")
        if message.exchange not in (*EXCHANGES, DEFAULT_EXCHANGE):
            raise ValueError(f"no exchange {message.exchange!r}")
        queues = [queue for queue in self._queues.values() if queue.is_bound_for(message)]
        if message.exchange == DEFAULT_EXCHANGE:
            if not queues:
                raise Unavailable(f"there is no queue {message.routing_key}")
            message = as_published(message)
        for queue in queues:
            if queue.unsettled >= queue.messages_max:
                raise QueueFull(f"queue {queue.name} holds {queue.unsettled} messages: it is full")
        settled = [self._deliver(queue, message) for queue in queues]
        if len(settled) > 1:
            await asyncio.wait(settled)
        for future in settled:
            await asyncio.shield(future)

    def _deliver(self, queue: _Queue, message: Message) -> asyncio.Future[None]:
        settled: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._unsettled.add(settled)
        settled.add_done_callback(self._discard)
        queue.unsettled += 1
        queue.put(_Delivery(message, settled))
        return settled

    def _discard(self, settled: asyncio.Future[None]) -> None:
        self._unsettled.discard(settled)
        if not settled.cancelled():
            settled.exception()  # retrieved: its publisher may have stopped waiting

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
        """See Bus."""
        self._start(self._declare(queue, exchange, routing_key), handler, prefetch, gate or Gate())

    async def subscribe_process(self, queue: str, exchange: str, routing_key: str, handler: Handler) -> None:
        """See Bus."""
        timeout_s = self._policy.of(queue).handler_timeout_s

        async def once(message: Message) -> None:
            await deliver_once(queue, message, handler, timeout_s)

        self._start(self._declare(queue, exchange, routing_key), once, 1, Gate())

    async def declare(self, queue: str, exchange: str, routing_key: str) -> None:
        """See Bus. A publisher waits until a subscriber has handled the message."""
        self._declare(queue, exchange, routing_key)

    def _declare(self, queue: str, exchange: str, routing_key: str) -> _Queue:
        if exchange not in EXCHANGES:
            raise ValueError(f"no exchange {exchange!r}")
        known = self._queues.setdefault(queue, _Queue(queue, self._messages_max))
        known.bindings.add((exchange, routing_key))
        return known

    async def subscribe_dead_letters(self, handler: Handler) -> None:
        """See Bus."""
        queue = self._queues.setdefault(DEAD_LETTER_QUEUE, _Queue(DEAD_LETTER_QUEUE, self._messages_max))
        self._start(queue, handler, PREFETCH, Gate())
        for letter in [letter for letters in self._kept_letters.values() for letter in letters]:
            self._deliver(queue, letter)
        self._kept_letters.clear()

    def _start(self, queue: _Queue, handler: Handler, prefetch: int, gate: Gate) -> None:
        self._consumers += [asyncio.create_task(self._consume(queue, handler, gate)) for _ in range(prefetch)]

    async def _consume(self, queue: _Queue, handler: Handler, gate: Gate) -> None:
        me = cast("asyncio.Task[None]", asyncio.current_task())
        while not self._closed:
            await queue.arrived.acquire()
            await gate.passable()
            self._handling.add(me)
            try:
                await self._handle(queue, queue.ready.popleft(), handler)
            finally:
                self._handling.discard(me)

    async def _handle(self, queue: _Queue, delivery: _Delivery, handler: Handler) -> None:
        message = delivery.message
        failed = await attempt_delivery(queue.name, message, handler, self._policy.of(queue.name), self._pause)
        if failed is None:
            self._settle(queue, delivery)
        elif failed.pause_s is not None:
            self._spawn(self._redeliver(queue, _Delivery(next_attempt(message), delivery.settled), failed.pause_s))
        else:
            self._spawn(self._dead_letter(queue, delivery, FailedMessage(queue.name, message, failed.error)))

    async def _pause(self, pause_s: float) -> None:
        """Sleep while a handler's dependency is away; closing the bus does not wait for it."""
        me = cast("asyncio.Task[None]", asyncio.current_task())
        if self._closed:
            raise asyncio.CancelledError
        self._handling.discard(me)
        await self._sleep(pause_s)
        self._handling.add(me)

    def _settle(self, queue: _Queue, delivery: _Delivery) -> None:
        queue.unsettled -= 1
        if not delivery.settled.done():
            delivery.settled.set_result(None)

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._pending.add(task)
        task.add_done_callback(self._pending.discard)

    async def _redeliver(self, queue: _Queue, delivery: _Delivery, pause_s: float) -> None:
        await self._sleep(pause_s)
        queue.put(delivery)

    async def _dead_letter(self, queue: _Queue, delivery: _Delivery, failed_message: FailedMessage) -> None:
        """The limits of queues do not apply here: the failed message still counts in its own queue."""
        event_id = failed_message.message.headers.get(EVENT_ID)
        _log.error("event_dead_lettered", queue=queue.name, event_id=event_id, error=failed_message.error)
        letter = failed_message.dead_letter()
        if DEAD_LETTER_QUEUE not in self._queues:
            self._kept_letters.setdefault(queue.name, deque(maxlen=self._messages_max)).append(letter)
        messages = [letter]
        if (event := failure_event_of(failed_message, self._announce)) is not None:
            messages.append(event)
        routes = [(other, each) for each in messages for other in self._queues.values() if other.is_bound_for(each)]
        settled = [self._deliver(other, each) for other, each in routes]
        if settled:
            await asyncio.wait(settled)
        self._settle(queue, delivery)

    def dead_letters(self, queue: str) -> list[Message]:
        """The dead letters of that queue, where nobody has subscribed to dead letters."""
        return list(self._kept_letters.get(queue, ()))

    async def close(self) -> None:
        """See Bus. Publishers that still wait get Unavailable: their events were not handled."""
        self._closed = True
        for task in [*self._pending, *(consumer for consumer in self._consumers if consumer not in self._handling)]:
            task.cancel()
        if self._handling:
            await asyncio.wait(set(self._handling), timeout=CLOSE_TIMEOUT_S)
        for task in [*self._consumers, *self._pending]:
            task.cancel()
        await asyncio.gather(*self._consumers, *self._pending, return_exceptions=True)
        for settled in list(self._unsettled):
            settled.set_exception(Unavailable("the bus was closed before this was handled"))
