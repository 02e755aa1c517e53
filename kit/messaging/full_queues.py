"""Publishing past full queues: a consumer that is away for good must not keep events from the others.

A queue that is full refuses what is published, and the event stays in its outbox; the other queues of its routing key
have it, those of later events wait. That is right for minutes: nothing is lost, and the publisher learns that it is too
fast. Where it lasts, each queue is given the event by name, and one that still refuses it gets it as a dead letter:
kept in the database, and to be replayed when the consumer is back (docs/adr/0021). Only the first of a full queue is
announced by an event: there may be a million of them.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Final

from kit.errors import QueueFull
from kit.messaging.delivery_attempts import publish_dead_letter
from kit.messaging.messages import Announce, Binding, FailedMessage, Message, Publishes, addressed_to

REFUSED_S: Final = 60.0  # a consumer that restarts, or drains a backlog at its pace, frees room within seconds


class PublisherPastFullQueues:
    """Publishes to a bus; what full queues refuse for long becomes their dead letter. Does not own the bus."""

    def __init__(
        self,
        bus: Publishes,
        queues_by_binding: Mapping[Binding, Sequence[str]],
        announce: Announce | None = None,
        *,
        refused_s: float = REFUSED_S,
    ) -> None:
        """`queues_by_binding`: the durable queues of consumers. One of another system that is full misses the event."""
        self._bus = bus
        self._queues_by_binding = queues_by_binding
        self._announce = announce
        self._refused_s = refused_s
        self._refused_since: dict[Binding, float] = {}  # of those refused at the last publish, when they first were
        self._announced: set[str] = set()  # full queues, of each of which a dead letter was announced

    async def publish(self, message: Message) -> None:
        """As `Bus.publish`. Raises QueueFull where a queue has been full for less than `refused_s`."""
        binding = message.exchange, message.routing_key
        try:
            await self._bus.publish(message)
        except QueueFull:
            now_s = asyncio.get_running_loop().time()
            since_s = self._refused_since.setdefault(binding, now_s)
            if binding not in self._queues_by_binding or now_s - since_s < self._refused_s:
                raise
            for queue in self._queues_by_binding[binding]:
                await self._publish_to(queue, message)
        else:
            if self._refused_since.pop(binding, None) is not None:
                self._announced.difference_update(self._queues_by_binding.get(binding, ()))

    async def _publish_to(self, queue: str, message: Message) -> None:
        """The queue may have it already: consumers handle an event once."""
        try:
            await self._bus.publish(addressed_to(queue, message))
        except QueueFull as full:
            await self._dead_letter(FailedMessage(queue, message, f"the queue is full, nobody consumes it: {full}"))
        else:
            self._announced.discard(queue)

    async def _dead_letter(self, failed: FailedMessage) -> None:
        """Publish it; announce it where it is the first since the queue last took something."""
        announced = failed.queue in self._announced
        self._announced.add(failed.queue)  # others are published at the same time
        try:
            await publish_dead_letter(self._bus, failed, None if announced else self._announce)
        except BaseException:
            if not announced:
                self._announced.discard(failed.queue)
            raise
