"""The event bus: exchanges, queues, at-least-once delivery, dead letters.

Seam with two implementations, in-process here and RabbitMQ in `bus_rabbit`, under one contract suite. Bodies are
opaque bytes; what an event is, the callers know.

Exchanges, by name: `direct_events` hands a message to every queue bound with its routing key, `fanout_broadcast` to
every queue bound at all, `dlx_events` (dead letters) to the queue `dead_letters` and to those bound with the failed
queue's name. A queue gets what is published from its first subscription on; a message that no queue wants is nobody's
and is dropped.
"""

import asyncio
from collections import deque
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Final, Protocol, cast

from kit.errors import Overloaded, Unavailable
from kit.messaging.delivery import (
    ATTEMPTS,
    DEAD_LETTERS,
    DEAD_QUEUE,
    DIRECT,
    ERROR,
    EVENT_ID,
    EXCHANGES,
    FANOUT,
    LETTER_ID,
    ORIGIN_EXCHANGE,
    ORIGIN_ROUTING_KEY,
    REPLAYS,
    TO_QUEUE,
    Announce,
    GivenUp,
    Handler,
    Message,
    Sleep,
    again,
    attempt_once,
    notice_of,
    replay_of,
    restored,
)
from kit.observability.logs import get_logger
from kit.retry import RetryPolicy

__all__ = [
    "ATTEMPTS",
    "DEAD_LETTERS",
    "DEAD_QUEUE",
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
    "TO_QUEUE",
    "Announce",
    "Bus",
    "GivenUp",
    "Handler",
    "InProcessBus",
    "Message",
    "replay_of",
]

QUEUE_MESSAGES_MAX: Final = (
    10_000  # of one queue; at 2 k events/s a consumer may stand still for 5 s before publishers feel it
)
PREFETCH: Final = 64  # handled at once by one subscription; a handler is one transaction, pools have fewer connections
CLOSE_TIMEOUT_S: Final = (
    10.0  # for handlers that run while the bus is closed; then they are cut off and run again later
)

_log = get_logger(__name__)


class Bus(Protocol):
    """Publish and subscribe."""

    async def publish(self, message: Message) -> None:
        """Return once the broker has taken responsibility (confirmed). Raises Unavailable, Overloaded.

        Calls made in order reach each queue in order. To the exchange TO_QUEUE, the routing key is the queue's name,
        and Unavailable is also that there is none: so a dead letter is replayed (`replay_of`).
        """

    async def subscribe(
        self, queue: str, exchange: str, routing_key: str, handler: Handler, *, prefetch: int = PREFETCH
    ) -> None:
        """Declare the durable queue, bind it, and hand every message to `handler`, up to `prefetch` at once.

        The handler returns: acknowledged. It raises (see `kit.messaging.delivery`): delivered again with `attempt` one
        higher, after the retry policy's pause, and dead-lettered to `dlx_events` (routing key: the queue's name) when
        attempts are used up. What the bus's `announce` makes of that is published then.
        """

    async def declare(self, queue: str, exchange: str, routing_key: str) -> None:
        """Have the durable queue, bound, before anybody subscribes to it: it keeps what is published from now on. Who
        publishes declares the queues of those who are to hear, for a message that no queue wants is dropped."""

    async def subscribe_dead(self, handler: Handler) -> None:
        """Hand every dead letter of every queue to `handler`. Never given up: it comes again until it is taken."""

    async def close(self) -> None:
        """Stop delivering, finish what is being handled, release everything."""


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

    def wants(self, message: Message) -> bool:
        """Is this queue bound for it?"""
        if message.exchange == TO_QUEUE:
            return message.routing_key == self.name
        if message.exchange == DEAD_LETTERS and self.name == DEAD_QUEUE:
            return True
        key = "" if message.exchange == FANOUT else message.routing_key
        return (message.exchange, key) in self.bindings

    def put(self, delivery: _Delivery) -> None:
        """Make it ready."""
        self.ready.append(delivery)
        self.arrived.release()


class InProcessBus:
    """Bus within one process. Nothing is written to disk: `publish` returns when every bound queue's handler has
    returned, or the message given up is where its dead letter and its notice go, so a publisher that keeps its event
    until then (the outbox relay) loses none in a crash. Dead letters that nobody subscribed to stay in memory, the
    newest `QUEUE_MESSAGES_MAX` of a queue; they are logged as errors. A handler must not publish to its own queue and
    wait: at the prefetch bound that waits for itself.
    """

    def __init__(
        self,
        policy: RetryPolicy,
        *,
        announce: Announce | None = None,
        sleep: Sleep = asyncio.sleep,
        queue_messages_max: int = QUEUE_MESSAGES_MAX,
    ) -> None:
        """`sleep` makes the pauses between attempts."""
        self._policy = policy
        self._announce = announce
        self._sleep = sleep
        self._messages_max = queue_messages_max
        self._queues: dict[str, _Queue] = {}
        self._unread: dict[str, deque[Message]] = {}  # queue -> its dead letters
        self._consumers: list[asyncio.Task[None]] = []
        self._handling: set[asyncio.Task[None]] = set()  # consumers with a handler running
        self._pending: set[asyncio.Task[None]] = set()  # pauses before the next attempt; letters on their way
        self._unsettled: set[asyncio.Future[None]] = set()
        self._closed = False

    async def publish(self, message: Message) -> None:
        """See Bus."""
        if self._closed:
            raise Unavailable("the bus is closed")
        if message.exchange not in (*EXCHANGES, TO_QUEUE):
            raise ValueError(f"no exchange {message.exchange!r}")
        queues = [queue for queue in self._queues.values() if queue.wants(message)]
        if message.exchange == TO_QUEUE:
            if not queues:
                raise Unavailable(f"nobody consumes the queue {message.routing_key}")
            message = restored(message)
        for queue in queues:
            if queue.held >= queue.messages_max:
                raise Overloaded(f"queue {queue.name} holds {queue.held} messages: its bound is reached")
        settled = [self._deliver(queue, message) for queue in queues]
        if len(settled) > 1:
            await asyncio.wait(settled)
        for future in settled:
            await asyncio.shield(future)

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
        self._start(self._bound(queue, exchange, routing_key), handler, prefetch)

    async def declare(self, queue: str, exchange: str, routing_key: str) -> None:
        """See Bus. A publisher waits until somebody subscribes and has handled the message."""
        self._bound(queue, exchange, routing_key)

    def _bound(self, queue: str, exchange: str, routing_key: str) -> _Queue:
        if exchange not in EXCHANGES:
            raise ValueError(f"no exchange {exchange!r}")
        known = self._queues.setdefault(queue, _Queue(queue, self._messages_max))
        known.bindings.add((exchange, "" if exchange == FANOUT else routing_key))
        return known

    async def subscribe_dead(self, handler: Handler) -> None:
        """See Bus."""
        queue = self._queues.setdefault(DEAD_QUEUE, _Queue(DEAD_QUEUE, self._messages_max))
        self._start(queue, handler, PREFETCH)
        for letter in [letter for letters in self._unread.values() for letter in letters]:
            self._deliver(queue, letter)
        self._unread.clear()

    def _start(self, queue: _Queue, handler: Handler, prefetch: int) -> None:
        self._consumers += [asyncio.create_task(self._consume(queue, handler)) for _ in range(prefetch)]

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
        message = delivery.message
        failed = await attempt_once(queue.name, message, handler, self._policy.of(queue.name), self._rest)
        if failed is None:
            self._settle(queue, delivery)
        elif failed.pause_s is not None:
            self._spawn(self._later(queue, _Delivery(again(message), delivery.settled), failed.pause_s))
        else:
            self._spawn(self._bury(queue, delivery, GivenUp(queue.name, message, failed.error)))

    async def _rest(self, pause_s: float) -> None:
        """A pause within a handler's turn; closing the bus does not wait for it."""
        me = cast("asyncio.Task[None]", asyncio.current_task())
        if self._closed:
            raise asyncio.CancelledError
        self._handling.discard(me)
        await self._sleep(pause_s)
        self._handling.add(me)

    def _settle(self, queue: _Queue, delivery: _Delivery) -> None:
        queue.held -= 1
        if not delivery.settled.done():
            delivery.settled.set_result(None)

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._pending.add(task)
        task.add_done_callback(self._pending.discard)

    async def _later(self, queue: _Queue, delivery: _Delivery, pause_s: float) -> None:
        await self._sleep(pause_s)
        queue.put(delivery)

    async def _bury(self, queue: _Queue, delivery: _Delivery, given_up: GivenUp) -> None:
        """The bounds of queues do not count here: what is given up still counts in its own."""
        event_id = given_up.message.headers.get(EVENT_ID)
        _log.error("event_given_up", queue=queue.name, event_id=event_id, error=given_up.error)
        letter = given_up.letter()
        if DEAD_QUEUE not in self._queues:
            self._unread.setdefault(queue.name, deque(maxlen=self._messages_max)).append(letter)
        told = [letter]
        if (notice := notice_of(given_up, self._announce)) is not None:
            told.append(notice)
        wanted = [(other, message) for message in told for other in self._queues.values() if other.wants(message)]
        settled = [self._deliver(other, message) for other, message in wanted]
        if settled:
            await asyncio.wait(settled)
        self._settle(queue, delivery)

    def dead_letters(self, queue: str) -> list[Message]:
        """What that queue has given up while nobody subscribed to dead letters."""
        return list(self._unread.get(queue, ()))

    async def close(self) -> None:
        """See Bus. Publishers still waiting get Unavailable: their events were not handled."""
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
