"""The live view: the newest document of every key, and a stream of its changes.

Seam with two implementations, in-process here and Redis in `live_redis`, under one contract suite. A view can be lost
and is then rebuilt by its writers: nothing that must survive lives here.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Final, Protocol

WATCH_PUTS_MAX: Final = 256  # puts a lagging watcher keeps apart: a minute of 4 flushes/s; beyond it they are merged


class LiveView(Protocol):
    """Documents (bytes, JSON by convention) grouped in topics: topic -> key -> document."""

    async def put(self, topic: str, documents: Mapping[str, bytes]) -> None:
        """Replace these keys' documents and tell the watchers, as one step. Raises Unavailable."""

    async def get(self, topic: str, keys: Sequence[str]) -> dict[str, bytes]:
        """The documents of those keys that have one."""

    async def all(self, topic: str) -> dict[str, bytes]:
        """Every key's document."""

    def watch(self, topic: str) -> AbstractAsyncContextManager[AsyncIterator[Mapping[str, bytes]]]:
        """Changes as they are put, one mapping a put. A watcher that lags loses the oldest, never the newest, puts.

        Where puts may have been missed (the view's server was away), the whole topic is delivered as one mapping.
        """

    async def close(self) -> None:
        """Release everything; watchers end."""


class Watcher(AsyncIterator[Mapping[str, bytes]]):
    """What one watcher has not taken yet. Beyond `puts_max` the two oldest puts become one: no key goes stale."""

    def __init__(self, puts_max: int = WATCH_PUTS_MAX) -> None:
        self._puts_max = puts_max
        self._puts: deque[Mapping[str, bytes]] = deque()
        self._changed = asyncio.Event()
        self._closed = False

    def offer(self, documents: Mapping[str, bytes]) -> None:
        """One put more."""
        if len(self._puts) >= self._puts_max:
            oldest = self._puts.popleft()
            self._puts[0] = {**oldest, **self._puts[0]}
        self._puts.append(documents)
        self._changed.set()

    def restart(self, documents: Mapping[str, bytes]) -> None:
        """Puts may have been missed: `documents`, the whole topic, takes the place of everything not taken yet."""
        self._puts.clear()
        self.offer(documents)

    def close(self) -> None:
        """End the iteration after what is there."""
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

    def __init__(self, *, watch_puts_max: int = WATCH_PUTS_MAX) -> None:
        self._watch_puts_max = watch_puts_max
        self._topics: dict[str, dict[str, bytes]] = {}
        self._watchers: dict[str, set[Watcher]] = {}

    async def put(self, topic: str, documents: Mapping[str, bytes]) -> None:
        """See LiveView."""
        if not documents:
            return
        kept = dict(documents)
        self._topics.setdefault(topic, {}).update(kept)
        for watcher in self._watchers.get(topic, ()):
            watcher.offer(kept)

    async def get(self, topic: str, keys: Sequence[str]) -> dict[str, bytes]:
        """See LiveView."""
        documents = self._topics.get(topic, {})
        return {key: documents[key] for key in keys if key in documents}

    async def all(self, topic: str) -> dict[str, bytes]:
        """See LiveView."""
        return dict(self._topics.get(topic, {}))

    @asynccontextmanager
    async def watch(self, topic: str) -> AsyncIterator[AsyncIterator[Mapping[str, bytes]]]:
        """See LiveView."""
        watcher = Watcher(self._watch_puts_max)
        watchers = self._watchers.setdefault(topic, set())
        watchers.add(watcher)
        try:
            yield watcher
        finally:
            watchers.discard(watcher)

    async def close(self) -> None:
        """See LiveView."""
        for watchers in self._watchers.values():
            for watcher in watchers:
                watcher.close()
