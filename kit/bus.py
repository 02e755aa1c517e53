"""The event bus: exchanges, queues, at-least-once delivery, dead letters.

Seam with two implementations, in-process here and RabbitMQ in `bus_rabbit`, under one contract suite. Bodies are
opaque bytes; what an event is, the callers know.

Exchanges, by name: `direct_events` hands a message to every queue bound with its routing key, `fanout_broadcast` to
every queue bound at all, `dlx_events` (dead letters) to the queues bound with the failed queue's name. A queue gets
what is published from its first subscription on; a message that no queue wants is nobody's and is dropped.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Protocol, cast

from kit.errors import Overloaded, Unavailable
from kit.observability import get_logger
from kit.retry import RetryPolicy

DIRECT: Final = "direct_events"
FANOUT: Final = "fanout_broadcast"
DEAD_LETTERS: Final = "dlx_events"
EXCHANGES: Final = (DIRECT, FANOUT, DEAD_LETTERS)

EVENT_ID: Final = "event_id"  # header: what consumers dedupe on and logs name
ERROR: Final = "error"  # header of a dead letter: what its last attempt failed with
ORIGIN_EXCHANGE: Final = "origin_exchange"  # headers of a dead letter: how it was published
ORIGIN_ROUTING_KEY: Final = "origin_routing_key"
ERROR_CHARS_MAX: Final = 500  # AMQP headers share one frame of 128 kB with everything else

QUEUE_MESSAGES_MAX: Final = (
    10_000  # of one queue; at 2 k events/s a consumer may stand still for 5 s before publishers feel it
)
PREFETCH: Final = 64  # handled at once by one subscription; a handler is one transaction, pools have fewer connections
CLOSE_TIMEOUT_S: Final = (
    10.0  # for handlers that run while the bus is closed; then they are cut off and run again later
)

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Message:
    """A message as published or delivered."""

    exchange: str
    routing_key: str
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    attempt: int = 1  # of this delivery, from 1


Handler = Callable[[Message], Awaitable[None]]
Sleep = Callable[[float], Awaitable[None]]


class Bus(Protocol):
    """Publish and subscribe."""

    async def publish(self, message: Message) -> None:
        """Return once the broker has taken responsibility (confirmed). Raises Unavailable, Overloaded.

        Calls made in order reach each queue in order.
        """

    async def subscribe(
        self, queue: str, exchange: str, routing_key: str, handler: Handler, *, prefetch: int = PREFETCH
    ) -> None:
        """Declare the durable queue, bind it, and hand every message to `handler`, up to `prefetch` at once.

        The handler returns: acknowledged. It raises: delivered again with `attempt` one higher, after the retry
        policy's pause, and dead-lettered to `dlx_events` (routing key: the queue's name) when attempts are used up.
        """

    async def close(self) -> None:
        """Stop delivering, finish what is being handled, release everything."""


def dead_queue(queue: str) -> str:
    """The queue that keeps `queue`'s dead letters until somebody looks."""
    return f"{queue}_dead"


def dead_letter(queue: str, message: Message, error: str) -> Message:
    """What `queue` publishes when it gives `message` up."""
    why = {ERROR: error[:ERROR_CHARS_MAX], ORIGIN_EXCHANGE: message.exchange, ORIGIN_ROUTING_KEY: message.routing_key}
    return Message(DEAD_LETTERS, queue, message.body, {**message.headers, **why})


async def attempt_once(queue: str, message: Message, handler: Handler, timeout_s: float) -> str | None:
    """Run the handler. Returns what went wrong, logged with the event's id, or None."""
    try:
        async with asyncio.timeout(timeout_s):
            await handler(message)
    except Exception as error:
        _log.warning(
            "event_handler_failed",
            queue=queue,
            event_id=message.headers.get(EVENT_ID),
            routing_key=message.routing_key,
            attempt=message.attempt,
            exc_info=True,
        )
        return f"{type(error).__name__}: {error}"
    return None


@dataclass(slots=True)
class _Delivery:
    """A message in one queue; `settled` resolves when it is handled or dead-lettered."""

    message: Message
    settled: asyncio.Future[None]


class _Queue:
    """One queue and its consumers."""

    def __init__(self, name: str, messages_max: int) -> None:
        self.name = name
        self.messages_max = messages_max
        self.bindings: set[tuple[str, str]] = set()
        self.held = 0  # ready, in a handler, or pausing before the next attempt
        self.ready: deque[_Delivery] = deque()
        self.arrived = asyncio.Semaphore(0)  # one permit a ready delivery
        self.dead: deque[Message] = deque()  # dead letters nobody has subscribed to

    def wants(self, message: Message) -> bool:
        """Is this queue bound for it?"""
        key = "" if message.exchange == FANOUT else message.routing_key
        return (message.exchange, key) in self.bindings

    def put(self, delivery: _Delivery) -> None:
        """Make it ready."""
        self.ready.append(delivery)
        self.arrived.release()


class InProcessBus:
    """Bus within one process. Nothing is written to disk: `publish` returns when every bound queue's handler has
    returned (or given the message up), so a publisher that keeps its event until then (the outbox relay) loses none in
    a crash. Dead letters without a subscriber stay in memory, the newest `QUEUE_MESSAGES_MAX` of a queue; they are
    logged as errors. A handler must not publish to its own queue and wait: at the prefetch bound that waits for itself.
    """

    def __init__(
        self, policy: RetryPolicy, *, sleep: Sleep = asyncio.sleep, queue_messages_max: int = QUEUE_MESSAGES_MAX
    ) -> None:
        """`sleep` makes the pauses between attempts."""
        self._policy = policy
        self._sleep = sleep
        self._messages_max = queue_messages_max
        self._queues: dict[str, _Queue] = {}
        self._consumers: list[asyncio.Task[None]] = []
        self._handling: set[asyncio.Task[None]] = set()  # consumers with a handler running
        self._retries: set[asyncio.Task[None]] = set()
        self._unsettled: set[asyncio.Future[None]] = set()
        self._closed = False

    async def publish(self, message: Message) -> None:
        """See Bus."""
        if self._closed:
            raise Unavailable("the bus is closed")
        if message.exchange not in EXCHANGES:
            raise ValueError(f"no exchange {message.exchange!r}")
        queues = [queue for queue in self._queues.values() if queue.wants(message)]
        for queue in queues:
            if queue.held >= queue.messages_max:
                raise Overloaded(f"queue {queue.name} holds {queue.held} messages: its bound is reached")
        settled = [self._deliver(queue, message) for queue in queues]
        if settled:
            await asyncio.wait(settled)
            for future in settled:
                future.result()

    def _deliver(self, queue: _Queue, message: Message) -> asyncio.Future[None]:
        settled: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._unsettled.add(settled)
        settled.add_done_callback(self._forget)
        queue.held += 1
        queue.put(_Delivery(message, settled))
        return settled

    def _forget(self, settled: asyncio.Future[None]) -> None:
        self._unsettled.discard(settled)
        if not settled.cancelled():
            settled.exception()  # a publisher that gave up waiting is not told

    async def subscribe(
        self, queue: str, exchange: str, routing_key: str, handler: Handler, *, prefetch: int = PREFETCH
    ) -> None:
        """See Bus."""
        if exchange not in EXCHANGES:
            raise ValueError(f"no exchange {exchange!r}")
        known = self._queues.setdefault(queue, _Queue(queue, self._messages_max))
        known.bindings.add((exchange, "" if exchange == FANOUT else routing_key))
        self._consumers += [asyncio.create_task(self._consume(known, handler)) for _ in range(prefetch)]

    async def _consume(self, queue: _Queue, handler: Handler) -> None:
        me = cast("asyncio.Task[None]", asyncio.current_task())
        while not self._closed:
            await queue.arrived.acquire()
            self._handling.add(me)
            try:
                await self._handle(queue, queue.ready.popleft(), handler)
            finally:
                self._handling.discard(me)

    async def _handle(self, queue: _Queue, delivery: _Delivery, handler: Handler) -> None:
        policy = self._policy.of(queue.name)
        message = delivery.message
        error = await attempt_once(queue.name, message, handler, policy.handler_timeout_s)
        pause_s = policy.pause_s(message.attempt)
        if error is not None and pause_s is not None:
            again = _Delivery(replace(message, attempt=message.attempt + 1), delivery.settled)
            retry = asyncio.create_task(self._later(queue, again, pause_s))
            self._retries.add(retry)
            retry.add_done_callback(self._retries.discard)
            return
        if error is not None:
            self._bury(queue, message, error)
        queue.held -= 1
        if not delivery.settled.done():
            delivery.settled.set_result(None)

    async def _later(self, queue: _Queue, delivery: _Delivery, pause_s: float) -> None:
        await self._sleep(pause_s)
        queue.put(delivery)

    def _bury(self, queue: _Queue, message: Message, error: str) -> None:
        letter = dead_letter(queue.name, message, error)
        _log.error("event_given_up", queue=queue.name, event_id=message.headers.get(EVENT_ID), error=error)
        wanting = [other for other in self._queues.values() if other.wants(letter)]
        for other in wanting:
            self._deliver(other, letter)
        if not wanting:
            queue.dead.append(letter)
            if len(queue.dead) > self._messages_max:
                queue.dead.popleft()

    def dead_letters(self, queue: str) -> list[Message]:
        """What that queue has given up and nobody subscribed to."""
        return list(self._queues[queue].dead) if queue in self._queues else []

    async def close(self) -> None:
        """See Bus. Publishers still waiting get Unavailable: their events were not handled."""
        self._closed = True
        for task in [*self._retries, *(consumer for consumer in self._consumers if consumer not in self._handling)]:
            task.cancel()
        if self._handling:
            await asyncio.wait(set(self._handling), timeout=CLOSE_TIMEOUT_S)
        for consumer in self._consumers:
            consumer.cancel()
        await asyncio.gather(*self._consumers, *self._retries, return_exceptions=True)
        for settled in list(self._unsettled):
            settled.set_exception(Unavailable("the bus was closed before this was handled"))
