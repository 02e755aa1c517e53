"""Publishing past full queues: a consumer that is away for good must not keep events from the others.

A queue that is full refuses what is published, and the event stays in its outbox; the other queues of its routing key
have it, those of later events wait. That is right for minutes: nothing is lost, and the publisher learns that it is too
fast. Where it lasts, each queue is given the event by name, and one that still refuses it gets it as a dead letter:
kept in the database, announced, and to be replayed when the consumer is back (docs/adr/0021).
"""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Final

from kit.errors import QueueFull
from kit.messaging.bus import Bus
from kit.messaging.messages import EVENT_ID, Announce, FailedMessage, Message, addressed_to, failure_event_of
from kit.observability.logs import get_logger

REFUSED_S: Final = 60.0  # a consumer that restarts, or drains a backlog at its pace, frees room within seconds

Route = tuple[str, str]
"""An exchange and a routing key."""

_log = get_logger(__name__)


class PublisherPastFullQueues:
    """Publishes to a bus; what full queues refuse for long becomes their dead letter. Does not own the bus."""

    def __init__(
        self,
        bus: Bus,
        queues: Mapping[Route, Sequence[str]],
        announce: Announce | None = None,
        *,
        refused_s: float = REFUSED_S,
    ) -> None:
        """`queues`: the durable queues of consumers. One of another system that is full misses the event."""
        self._bus = bus
        self._queues = queues
        self._announce = announce
        self._refused_s = refused_s
        self._refused_since: dict[Route, float] = {}  # of those refused at the last publish, when they first were

    async def publish(self, message: Message) -> None:
        """As `Bus.publish`. Raises QueueFull where a queue has been full for less than `refused_s`."""
        route = message.exchange, message.routing_key
        try:
            await self._bus.publish(message)
        except QueueFull:
            now_s = asyncio.get_running_loop().time()
            since_s = self._refused_since.setdefault(route, now_s)
            if route not in self._queues or now_s - since_s < self._refused_s:
                raise
            for queue in self._queues[route]:
                await self._publish_to(queue, message)
        else:
            self._refused_since.pop(route, None)

    async def _publish_to(self, queue: str, message: Message) -> None:
        """The queue may have it already: consumers handle an event once."""
        try:
            await self._bus.publish(addressed_to(queue, message))
        except QueueFull as full:
            failed = FailedMessage(queue, message, f"the queue is full, nobody consumes it: {full}")
            await self._bus.publish(failed.dead_letter())
            if (event := failure_event_of(failed, self._announce)) is not None:
                with suppress(QueueFull):  # the letter is kept, whoever is told
                    await self._bus.publish(event)
            _log.error("event_dead_lettered", queue=queue, event_id=message.headers.get(EVENT_ID), error=failed.error)
