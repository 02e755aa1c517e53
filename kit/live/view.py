"""The live view, a key-value cache with change streams: its interface, and the implementation in memory.

It holds the newest document of every key. The other implementation is Redis (redis_view.py); both pass one contract
suite. A view can be lost and is then rebuilt by its writers: nothing durable is kept here.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Final, Protocol

from kit.clock import Clock
from kit.live.audience import Audience

WATCH_PUTS_MAX: Final = 256  # puts buffered for a lagging watcher: a minute of 4 flushes/s; beyond it they are merged


class LiveView(Protocol):
    """Documents (bytes, JSON by convention) grouped in topics: topic -> key -> document."""

    async def put(self, topic: str, documents: Mapping[str, bytes]) -> None:
        """Replace these keys' documents and notify the watchers, atomically. Raises Unavailable."""

    async def get(self, topic: str, keys: Sequence[str]) -> dict[str, bytes]:
        """The documents of these keys, those without one left out."""

    async def all(self, topic: str) -> dict[str, bytes]:
        """The documents of all keys."""

    def watch(self, topic: str) -> AbstractAsyncContextManager[AsyncIterator[Mapping[str, bytes]]]:
        """Changes as they are put, one mapping per put. For a watcher that lags, its oldest puts are merged.

        Where puts may have been missed (the view's server was down), the whole topic is delivered as one mapping.
        """

    def audience(self, topic: str) -> Audience:
        """Whether anyone looks at the topic, in any process: reads count at once, watchers with the next put."""

    async def close(self) -> None:
        """Release everything; watchers end."""


class Watcher(AsyncIterator[Mapping[str, bytes]]):
    """Buffer of one watcher. Beyond `puts_max` the two oldest puts are merged: no key goes stale."""

    def __init__(self, puts_max: int = WATCH_PUTS_MAX) -> None:
        self._puts_max = puts_max
        self._puts: deque[Mapping[str, bytes]] = deque()
        self._changed = asyncio.Event()
        self._closed = False

    def offer(self, documents: Mapping[str, bytes]) -> None:
        """Append a put."""
        if len(self._puts) >= self._puts_max:
            oldest = self._puts.popleft()
            self._puts[0] = {**oldest, **self._puts[0]}
        self._puts.append(documents)
        self._changed.set()

    def restart(self, documents: Mapping[str, bytes]) -> None:
        """Replace the buffer by `documents`, the whole topic: puts may have been missed."""
        self._puts.clear()
        self.offer(documents)

    def close(self) -> None:
        """End the iteration after the buffered puts."""
        self._closed = True
        self._changed.set()

    def __aiter__(self) -> AsyncIterator[Mapping[str, bytes]]:
        return self

    async def __anext__(self) -> Mapping[str, bytes]:
        while not self._puts:
            if self._closed:
                raise StopAsyncIteration
            self._changed.clear()
            await self._changed.wait()
        return self._puts.popleft()


class InProcessLive:
    """LiveView in memory."""

    def __init__(self, *, watch_puts_max: int = WATCH_PUTS_MAX, clock: Clock | None = None) -> None:
        self._watch_puts_max = watch_puts_max
        self._clock = clock
        self._topics: dict[str, dict[str, bytes]] = {}
        self._audiences: dict[str, Audience] = {}
        self._watchers: dict[str, set[Watcher]] = {}

    async def put(self, topic: str, documents: Mapping[str, bytes]) -> None:
        """See LiveView."""
        if not documents:
            return
        kept = dict(documents)
        self._topics.setdefault(topic, {}).update(kept)
        if watchers := self._watchers.get(topic):
            self._looked(topic)
            for watcher in watchers:
                watcher.offer(kept)

    async def get(self, topic: str, keys: Sequence[str]) -> dict[str, bytes]:
        """See LiveView."""
        self._looked(topic)
        documents = self._topics.get(topic, {})
        return {key: documents[key] for key in keys if key in documents}

    async def all(self, topic: str) -> dict[str, bytes]:
        """See LiveView."""
        self._looked(topic)
        return dict(self._topics.get(topic, {}))

    @asynccontextmanager
    async def watch(self, topic: str) -> AsyncIterator[AsyncIterator[Mapping[str, bytes]]]:
        """See LiveView."""
        watcher = Watcher(self._watch_puts_max)
        watchers = self._watchers.setdefault(topic, set())
        watchers.add(watcher)
        self._looked(topic)
        try:
            yield watcher
        finally:
            watchers.discard(watcher)

    def audience(self, topic: str) -> Audience:
        """See LiveView."""
        if topic not in self._audiences:
            self._audiences[topic] = Audience(self._clock)
        return self._audiences[topic]

    def _looked(self, topic: str) -> None:
        if topic in self._audiences:
            self._audiences[topic].looked()

    async def close(self) -> None:
        """See LiveView."""
        for watchers in self._watchers.values():
            for watcher in watchers:
                watcher.close()
