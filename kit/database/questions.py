"""Bounds of the queries that requests to read make: a heavy one holds up neither others nor the service's own work.

The HTTP layer says whose question it is (`asked_by`); everything else, such as consumers, jobs and requests that change
something, has no bounds but the pool's. No SQL here.
"""

import asyncio
from collections.abc import AsyncIterator, Hashable, Iterator
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from typing import Final

from kit.errors import TooSlow

# Of a pool of 8: one token's questions have 2 connections, and all questions together leave 2 to whatever writes.
_SHARE_OF_ONE: Final = 4
_LEFT_TO_WRITERS: Final = 4

_asker: ContextVar[Hashable | None] = ContextVar("asker", default=None)
_turn_of: ContextVar["Questions | None"] = ContextVar("turn_of", default=None)


@contextmanager
def asked_by(asker: Hashable) -> Iterator[None]:
    """Queries of the block, and of tasks that begin in it, are questions of `asker`."""
    token = _asker.set(asker)
    try:
        yield
    finally:
        _asker.reset(token)


class Questions:
    """The bounds of one pool. For one event loop."""

    def __init__(self, connections_max: int, answer_s_max: float) -> None:
        self._one_max = max(1, connections_max // _SHARE_OF_ONE)
        self._all = asyncio.Semaphore(max(1, connections_max - connections_max // _LEFT_TO_WRITERS))
        self._each: dict[Hashable, tuple[asyncio.Semaphore, list[None]]] = {}  # of those that ask now
        self._answer_s_max = answer_s_max

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[float | None]:
        """A turn to ask; the seconds that a query may take, or None where it is no question.

        Raises TooSlow where no turn comes in that time.
        """
        asker = _asker.get()
        outer = _turn_of.get()
        if asker is None or outer is self:  # a query within a snapshot has the snapshot's turn
            yield None if asker is None else self._answer_s_max
            return
        own, asking = self._each.setdefault(asker, (asyncio.Semaphore(self._one_max), []))
        asking.append(None)
        try:
            await self._acquire(own)
            try:
                _turn_of.set(self)
                yield self._answer_s_max
            finally:
                _turn_of.set(outer)
                self._all.release()
                own.release()
        finally:
            asking.pop()
            if not asking:
                del self._each[asker]

    async def _acquire(self, own: asyncio.Semaphore) -> None:
        """Both semaphores, or none."""
        try:
            async with asyncio.timeout(self._answer_s_max):
                await own.acquire()
                try:
                    await self._all.acquire()
                except BaseException:
                    own.release()
                    raise
        except TimeoutError:
            raise TooSlow(
                f"for {self._answer_s_max:g} s other questions, of this token or of all, kept the database busy: ask "
                "again when they are answered"
            ) from None

    @property
    def answer_ms_max(self) -> int:
        """The time of one query."""
        return round(self._answer_s_max * 1_000)

    def too_slow(self) -> TooSlow:
        """The error of a query that took longer."""
        return TooSlow(
            f"answering takes longer than {self._answer_s_max:g} s, which is the bound (VOLTSTREAM_QUERY_S_MAX): ask "
            "for less at once, such as a shorter time or fewer stations"
        )
