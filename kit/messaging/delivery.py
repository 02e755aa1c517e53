"""Delivery of a message to its handler, in both buses alike: attempts, outages, redelivery, dead letters.

An attempt ends in one of four ways:

- the handler returns: the message is handled;
- it raises Unavailable or Overloaded: a dependency is away, which is not the message's fault. The message stays in the
  consumer's memory, unacknowledged, and the handler is called again, for at most the policy's `outage_s`;
- it raises Unprocessable: the message is dead-lettered at once;
- it raises anything else: the message is redelivered after the policy's pause, and dead-lettered when its attempts are
  used up.

A dead-lettered message is published to the dead-letter exchange and announced by an event.
"""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final
from uuid import UUID, uuid5

from kit.errors import Overloaded, Unavailable, Unprocessable
from kit.observability.logs import get_logger
from kit.retry import QueuePolicy, reconnect_pauses_s

DIRECT: Final = "direct_events"
FANOUT: Final = "fanout_broadcast"
DEAD_LETTERS: Final = "dlx_events"
EXCHANGES: Final = (DIRECT, FANOUT, DEAD_LETTERS)
DEFAULT_EXCHANGE: Final = ""  # AMQP's own: to the queue that the routing key names, and to no other
DEAD_LETTER_QUEUE: Final = "dead_letters"  # gets every dead letter of every queue

EVENT_ID: Final = "event_id"  # header: consumers dedupe on it, logs name it
ERROR: Final = "error"  # header of a dead letter: the error of its last attempt
ATTEMPTS: Final = "attempts"  # header of a dead letter: the number of its attempts
LETTER_ID: Final = "letter_id"  # header of a dead letter: the same one has the same id however often it is published
ORIGIN_EXCHANGE: Final = "origin_exchange"  # headers of a dead letter: as its message was published
ORIGIN_ROUTING_KEY: Final = "origin_routing_key"
REPLAYS: Final = "replays"  # header: how often the message was replayed from the dead letters
ERROR_CHARS_MAX: Final = 500  # AMQP headers share one frame of 128 kB with everything else

_DEAD_LETTER_HEADERS: Final = (ERROR, ATTEMPTS, LETTER_ID, ORIGIN_EXCHANGE, ORIGIN_ROUTING_KEY)
_LETTER_ID_NAMESPACE: Final = UUID("5d0c9f0e-5b86-4a0e-8f11-6a7a8ac3a2f4")

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


@dataclass(frozen=True, slots=True)
class FailedMessage:
    """A message whose handling failed for good, and the queue in which it failed."""

    queue: str
    message: Message
    error: str

    @property
    def letter_id(self) -> UUID:
        """Id of its dead letter. It follows from queue, event and replays, so a letter published twice is kept once."""
        headers = self.message.headers
        event = headers.get(EVENT_ID) or hashlib.sha256(self.message.body).hexdigest()
        return uuid5(_LETTER_ID_NAMESPACE, f"{self.queue}/{headers.get(REPLAYS, 0)}/{event}")

    def dead_letter(self) -> Message:
        """The message to publish to the dead-letter exchange."""
        message = self.message
        headers = {
            ERROR: self.error[:ERROR_CHARS_MAX],
            ATTEMPTS: str(message.attempt),
            LETTER_ID: str(self.letter_id),
            ORIGIN_EXCHANGE: message.exchange,
            ORIGIN_ROUTING_KEY: message.routing_key,
        }
        return Message(DEAD_LETTERS, self.queue, message.body, {**message.headers, **headers})


Announce = Callable[[FailedMessage], Message]
"""Makes the event that announces a failed message. It may be published twice: derive its id from the letter's."""


def replay_of(letter: Message) -> Message:
    """The message that returns a dead letter to the queue it failed in, and to no other (see `as_published`)."""
    headers = {key: value for key, value in letter.headers.items() if key not in (ERROR, ATTEMPTS, LETTER_ID)}
    times = int(headers.get(REPLAYS, "0")) + 1
    return Message(DEFAULT_EXCHANGE, letter.routing_key, letter.body, {**headers, REPLAYS: str(times)})


def as_published(message: Message) -> Message:
    """A replayed message as it was first published: this is what its handler gets."""
    headers = {key: value for key, value in message.headers.items() if key not in _DEAD_LETTER_HEADERS}
    return Message(
        message.headers.get(ORIGIN_EXCHANGE, message.exchange),
        message.headers.get(ORIGIN_ROUTING_KEY, message.routing_key),
        message.body,
        headers,
        message.attempt,
    )


def failure_event_of(failed_message: FailedMessage, announce: Announce | None) -> Message | None:
    """The event that announces it. None where the failed message was itself such an event: that would never end."""
    if announce is None:
        return None
    event = announce(failed_message)
    message = failed_message.message
    return None if (event.exchange, event.routing_key) == (message.exchange, message.routing_key) else event


@dataclass(frozen=True, slots=True)
class FailedAttempt:
    """Result of a failed delivery attempt."""

    error: str
    pause_s: float | None  # before the next attempt; None: there is none, dead-letter it


async def attempt_delivery(
    queue: str, message: Message, handler: Handler, policy: QueuePolicy, pause: Sleep
) -> FailedAttempt | None:
    """Run the handler. None: the message is handled. Failures are logged with the event's id.

    `pause` sleeps while a dependency is away, and raises CancelledError where the bus is closing.
    """
    outage = _OutageBackoff(queue, message, policy.outage_s)
    while True:
        try:
            async with asyncio.timeout(policy.handler_timeout_s):
                await handler(message)
            return None
        except (Unavailable, Overloaded) as error:
            pause_s = outage.next_pause_s(error)
            if pause_s is None:
                return FailedAttempt(_describe(error), _next_pause_s(queue, policy, message.attempt))
        except Unprocessable as error:
            _log_failed_attempt(queue, message)
            return FailedAttempt(_describe(error), policy.ceiling_s if queue == DEAD_LETTER_QUEUE else None)
        except Exception as error:
            _log_failed_attempt(queue, message)
            return FailedAttempt(_describe(error), _next_pause_s(queue, policy, message.attempt))
        await pause(pause_s)


def next_attempt(message: Message) -> Message:
    """The message as it is redelivered."""
    return replace(message, attempt=message.attempt + 1)


class _OutageBackoff:
    """Pauses between the calls of a handler whose dependency is away, until `outage_s` are over."""

    def __init__(self, queue: str, message: Message, outage_s: float) -> None:
        self._queue = queue
        self._message = message
        self._outage_s = outage_s
        self._pauses = reconnect_pauses_s()
        self._paused_s = 0.0
        self._begun_s: float | None = None

    def next_pause_s(self, error: Exception) -> float | None:
        """The next pause. None: the outage has lasted too long, the attempt counts as failed."""
        now_s = asyncio.get_running_loop().time()
        if self._begun_s is None:
            self._begun_s = now_s
            event_id = self._message.headers.get(EVENT_ID)
            _log.warning("event_waits_for_dependency", queue=self._queue, event_id=event_id, error=str(error))
        # Time that handlers take to notice counts too.
        if max(self._paused_s, now_s - self._begun_s) >= self._outage_s:
            _log_failed_attempt(self._queue, self._message)
            return None
        pause_s = next(self._pauses)
        self._paused_s += pause_s
        return pause_s


def _next_pause_s(queue: str, policy: QueuePolicy, attempt: int) -> float | None:
    pause_s = policy.pause_s(attempt)
    # A dead letter has nowhere else to go.
    return policy.ceiling_s if pause_s is None and queue == DEAD_LETTER_QUEUE else pause_s


def _describe(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _log_failed_attempt(queue: str, message: Message) -> None:
    _log.warning(
        "event_handler_failed",
        queue=queue,
        event_id=message.headers.get(EVENT_ID),
        routing_key=message.routing_key,
        attempt=message.attempt,
        exc_info=True,
    )
