"""Group commit: items that arrive while one batch is processed form the next batch.

Event handlers run concurrently, each in a transaction of its own, and may wait for each other's locks. As a batch they
share one transaction.
"""

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Sequence
from copy import copy
from typing import Final, Generic, Protocol, TypeVar

from kit.errors import Overloaded, Unavailable

ITEMS_MAX: Final = 256  # ~2 kB each in memory; ~60 ms of work for billing, whose three queues deliver 384 at most


class Item(Protocol):
    """An element of a batch."""

    @property
    def key(self) -> Hashable:
        """Two items with equal keys are never in one batch: the second waits for the next."""


T = TypeVar("T", bound=Item)


class GroupCommit(Generic[T]):
    """Collects submitted items and runs `work` on them, one batch at a time."""

    def __init__(self, work: Callable[[Sequence[T]], Awaitable[None]], items_max: int = ITEMS_MAX) -> None:
        self._work = work
        self._items_max = items_max
        self._waiting: list[tuple[T, asyncio.Future[None]]] = []
        self._runner: asyncio.Task[None] | None = None

    async def submit(self, item: T) -> None:
        """Return when the batch with this item is processed. Raises what `work` raised for it."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, done))
        if self._runner is None or self._runner.done():
            self._runner = asyncio.create_task(self._run())
        await done

    async def _run(self) -> None:
        while self._waiting:
            batch = self._take()
            error = await self._attempt([item for item, _ in batch])
            if error is not None and len(batch) > 1 and not isinstance(error, Unavailable | Overloaded):
                for item, done in batch:  # one item may have failed all: each is tried alone
                    _settle(done, await self._attempt([item]))
            else:
                for _, done in batch:
                    _settle(done, error)

    def _take(self) -> list[tuple[T, asyncio.Future[None]]]:
        """The oldest item of each key whose caller still waits, at most items_max."""
        taken: list[tuple[T, asyncio.Future[None]]] = []
        left: list[tuple[T, asyncio.Future[None]]] = []
        keys: set[Hashable] = set()
        for item, done in self._waiting:
            if done.done():
                continue
            (left if item.key in keys or len(taken) >= self._items_max else taken).append((item, done))
            keys.add(item.key)
        self._waiting = left
        return taken

    async def _attempt(self, items: Sequence[T]) -> Exception | None:
        try:
            await self._work(items)
        except Exception as error:
            return error
        return None


def _settle(done: "asyncio.Future[None]", error: Exception | None) -> None:
    if done.done():  # its caller was cancelled
        return
    if error is None:
        done.set_result(None)
    else:
        # A copy each: an error that many callers raise collects the tracebacks of all.
        done.set_exception(copy(error).with_traceback(error.__traceback__))
