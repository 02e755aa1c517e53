"""Messages of the event bus, and what both buses do alike with one that its handler did not take.

An attempt ends in one of four ways. The handler returns: handled. It raises Unavailable or Overloaded: a dependency of
ours is away, which is not the message's fault; it rests in hand and is handed over again, for at most the policy's
`outage_s`. It raises Unprocessable: given up at once. Anything else: again after the policy's pause, until its attempts
are used up; then given up. A message given up becomes a dead letter, and is announced.
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
TO_QUEUE: Final = ""  # AMQP's default exchange: to the queue that the routing key names, and to no other
DEAD_QUEUE: Final = "dead_letters"  # gets every dead letter of every queue

EVENT_ID: Final = "event_id"  # header: what consumers dedupe on and logs name
ERROR: Final = "error"  # header of a dead letter: what its last attempt failed with
ATTEMPTS: Final = "attempts"  # header of a dead letter: how many there were
LETTER_ID: Final = "letter_id"  # header of a dead letter: the same one has the same id however often it is sent
ORIGIN_EXCHANGE: Final = "origin_exchange"  # headers of a dead letter: how it was published
ORIGIN_ROUTING_KEY: Final = "origin_routing_key"
REPLAYS: Final = "replays"  # header: how often it was taken out of the dead letters
ERROR_CHARS_MAX: Final = 500  # AMQP headers share one frame of 128 kB with everything else

_CERTIFICATE: Final = (ERROR, ATTEMPTS, LETTER_ID, ORIGIN_EXCHANGE, ORIGIN_ROUTING_KEY)
_LETTERS: Final = UUID("5d0c9f0e-5b86-4a0e-8f11-6a7a8ac3a2f4")

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
class GivenUp:
    """A message that a queue's consumer could not handle."""

    queue: str
    message: Message
    error: str

    @property
    def letter_id(self) -> UUID:
        """Of its dead letter: follows from queue, event and replays, so that sent twice it is kept once."""
        headers = self.message.headers
        event = headers.get(EVENT_ID) or hashlib.sha256(self.message.body).hexdigest()
        return uuid5(_LETTERS, f"{self.queue}/{headers.get(REPLAYS, 0)}/{event}")

    def letter(self) -> Message:
        """What is published to the dead letters."""
        message = self.message
        certificate = {
            ERROR: self.error[:ERROR_CHARS_MAX],
            ATTEMPTS: str(message.attempt),
            LETTER_ID: str(self.letter_id),
            ORIGIN_EXCHANGE: message.exchange,
            ORIGIN_ROUTING_KEY: message.routing_key,
        }
        return Message(DEAD_LETTERS, self.queue, message.body, {**message.headers, **certificate})


Announce = Callable[[GivenUp], Message]
"""Makes the event that tells of a message given up. It may be told twice: its id is to follow from the letter's."""


def replay_of(letter: Message) -> Message:
    """What brings a dead letter to its queue again, and to no other. `restored` is what the handler gets of it."""
    headers = {key: value for key, value in letter.headers.items() if key not in (ERROR, ATTEMPTS, LETTER_ID)}
    times = int(headers.get(REPLAYS, "0")) + 1
    return Message(TO_QUEUE, letter.routing_key, letter.body, {**headers, REPLAYS: str(times)})


def restored(message: Message) -> Message:
    """A replayed message as it was first published."""
    headers = {key: value for key, value in message.headers.items() if key not in _CERTIFICATE}
    return Message(
        message.headers.get(ORIGIN_EXCHANGE, message.exchange),
        message.headers.get(ORIGIN_ROUTING_KEY, message.routing_key),
        message.body,
        headers,
        message.attempt,
    )


def notice_of(given_up: GivenUp, announce: Announce | None) -> Message | None:
    """The event that tells of it. None where the message itself was such an event: that would never end."""
    if announce is None:
        return None
    notice = announce(given_up)
    lost = given_up.message
    return None if (notice.exchange, notice.routing_key) == (lost.exchange, lost.routing_key) else notice


@dataclass(frozen=True, slots=True)
class Failed:
    """How an attempt ended that was none."""

    error: str
    pause_s: float | None  # before the next one; None: given up


async def attempt_once(
    queue: str, message: Message, handler: Handler, policy: QueuePolicy, rest: Sleep
) -> Failed | None:
    """Run the handler; None: handled. Trouble is logged with the event's id.

    `rest` makes the pauses in which a dependency may come back, and raises CancelledError where the bus is closing.
    """
    resting = _Resting(queue, message, policy.outage_s)
    while True:
        try:
            async with asyncio.timeout(policy.handler_timeout_s):
                await handler(message)
            return None
        except (Unavailable, Overloaded) as error:
            pause_s = resting.next_pause_s(error)
            if pause_s is None:
                return Failed(_told(error), _next_pause_s(queue, policy, message.attempt))
        except Unprocessable as error:
            _warn(queue, message)
            return Failed(_told(error), policy.ceiling_s if queue == DEAD_QUEUE else None)
        except Exception as error:
            _warn(queue, message)
            return Failed(_told(error), _next_pause_s(queue, policy, message.attempt))
        await rest(pause_s)


def again(message: Message) -> Message:
    """For the next attempt."""
    return replace(message, attempt=message.attempt + 1)


class _Resting:
    """How long a message has waited in hand."""

    def __init__(self, queue: str, message: Message, outage_s: float) -> None:
        self._queue = queue
        self._message = message
        self._outage_s = outage_s
        self._pauses = reconnect_pauses_s()
        self._rested_s = 0.0
        self._begun_s: float | None = None

    def next_pause_s(self, error: Exception) -> float | None:
        """None: it has waited long enough."""
        now_s = asyncio.get_running_loop().time()
        if self._begun_s is None:
            self._begun_s = now_s
            event_id = self._message.headers.get(EVENT_ID)
            _log.warning("event_waits_for_dependency", queue=self._queue, event_id=event_id, error=str(error))
        # Handlers take their time to find out, too.
        if max(self._rested_s, now_s - self._begun_s) >= self._outage_s:
            _warn(self._queue, self._message)
            return None
        pause_s = next(self._pauses)
        self._rested_s += pause_s
        return pause_s


def _next_pause_s(queue: str, policy: QueuePolicy, attempt: int) -> float | None:
    pause_s = policy.pause_s(attempt)
    return policy.ceiling_s if pause_s is None and queue == DEAD_QUEUE else pause_s  # there is nowhere else to put it


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _warn(queue: str, message: Message) -> None:
    _log.warning(
        "event_handler_failed",
        queue=queue,
        event_id=message.headers.get(EVENT_ID),
        routing_key=message.routing_key,
        attempt=message.attempt,
        exc_info=True,
    )
