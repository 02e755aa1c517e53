"""Attempts to deliver a message to its handler, in both buses alike: outages, redelivery, dead-lettering.

An attempt ends in one of four ways:

- the handler returns: the message is handled;
- it raises Unavailable or Overloaded: a dependency is away, which is not the message's fault. The message stays in the
  consumer's memory, unacknowledged, and the handler is called again, for at most the policy's `outage_s`;
- it raises Unprocessable: the message is dead-lettered at once;
- it raises anything else: the message is redelivered after the policy's pause, and dead-lettered when its attempts are
  used up.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, replace

from kit.errors import Overloaded, QueueFull, Unavailable, Unprocessable
from kit.messaging.messages import (
    DEAD_LETTER_QUEUE,
    EVENT_ID,
    Announce,
    FailedMessage,
    Handler,
    Message,
    Publishes,
    failure_event_of,
)
from kit.observability.logs import get_logger
from kit.retry import QueuePolicy, reconnect_pauses_s

Sleep = Callable[[float], Awaitable[None]]

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class FailedAttempt:
    """Result of a failed delivery attempt."""

    error: str
    pause_s: float | None  # before the next attempt; None: there is none, dead-letter it


async def publish_dead_letter(bus: Publishes, failed: FailedMessage, announce: Announce | None) -> None:
    """Return once the dead letter and its announcement are confirmed. Raises as `Bus.publish`, but no QueueFull for the
    announcement."""
    await bus.publish(failed.dead_letter())
    if (event := failure_event_of(failed, announce)) is not None:
        with suppress(QueueFull):  # the letter is kept, whoever is told
            await bus.publish(event)
    event_id = failed.message.headers.get(EVENT_ID)
    _log.error("event_dead_lettered", queue=failed.queue, event_id=event_id, error=failed.error)


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


async def deliver_once(queue: str, message: Message, handler: Handler, timeout_s: float) -> None:
    """Run the handler of a process's own queue. A failure is logged and not tried again: the process would not miss the
    message for long."""
    try:
        async with asyncio.timeout(timeout_s):
            await handler(message)
    except Exception:
        _log_failed_attempt(queue, message)


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
