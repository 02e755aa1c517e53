"""Bounds of the queries that requests to read make: a heavy one holds up neither others nor the service's own work.

The HTTP layer says whose question it is (`asked_by`); everything else, such as consumers, jobs and requests that change
something, has no bounds but the pool's. A question's time begins when it is asked: it waits for its turn, for a
connection and for its answer within one bound. No SQL here.
"""

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Hashable, Iterator
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from typing import Final

from kit.errors import TooSlow

# Of a pool of 8: one token's questions have 2 connections, and all questions together leave 2 to whatever writes.
_SHARE_OF_ONE: Final = 4
_LEFT_TO_WRITERS: Final = 4
_TIMER_S: Final = 0.005

Asker = Callable[[], Hashable]
"""Who asks. Called with each question: a request's token is verified after the request has begun."""

_asker: ContextVar[Asker | None] = ContextVar("asker", default=None)
_turn: ContextVar["tuple[Questions, Turn] | None"] = ContextVar("turn", default=None)


@contextmanager
def asked_by(asker: Asker | None) -> Iterator[None]:
    """Queries of the block, and of tasks that begin in it, are questions of `asker`; None: they are no questions."""
    token = _asker.set(asker)
    try:
        yield
    finally:
        _asker.reset(token)


class Turn:
    """The turn of one question, whose time began when it was asked; without a bound, that of a query that is none."""

    def __init__(self, bound_s: float = math.inf) -> None:
        self._now_s = asyncio.get_running_loop().time
        self._bound_s = bound_s
        self._due_s = self._now_s() + bound_s
        self._mostly_waited = True

    def begin(self) -> None:
        """It has a connection now."""
        self._mostly_waited = self._due_s - self._now_s() < self._bound_s / 2

    @property
    def is_over(self) -> bool:
        """Whether no time is left. Timers are some ms early."""
        return self._due_s - self._now_s() < _TIMER_S

    @property
    def left_s(self) -> float | None:
        """Of its time, above 0; None: it has no bound. Raises TooSlow where none is left."""
        if self.is_over:
            raise self.too_slow()
        left_s = self._due_s - self._now_s()
        return None if left_s == math.inf else left_s

    @asynccontextmanager
    async def within(self) -> AsyncIterator[None]:
        """The block has the time that is left. Raises TooSlow where it is cancelled when that ends."""
        try:
            async with asyncio.timeout(self.left_s) as limit:
                yield
        except TimeoutError:
            if limit.expired():
                raise self.too_slow() from None
            raise

    def too_slow(self) -> TooSlow:
        """The error of a question that took longer: what to do depends on what took the time."""
        if self._mostly_waited:
            return TooSlow(
                f"for most of {self._bound_s:g} s other questions, of this token or of all, kept the database busy: "
                "ask again when they are answered"
            )
        return TooSlow(
            f"answering takes longer than {self._bound_s:g} s, which is the bound (VOLTSTREAM_QUERY_S_MAX): ask for "
            "less at once, such as a shorter time or fewer stations"
        )


class Questions:
    """The bounds of one pool. For one event loop."""

    def __init__(self, connections_max: int, answer_s_max: float) -> None:
        self._one_max = max(1, connections_max // _SHARE_OF_ONE)
        self._all = asyncio.Semaphore(max(1, connections_max - connections_max // _LEFT_TO_WRITERS))
        self._each: dict[Hashable, tuple[asyncio.Semaphore, list[None]]] = {}  # of those that ask now
        self._answer_s_max = answer_s_max

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[Turn]:
        """A turn to ask. Raises TooSlow where none comes in the time of a question."""
        asker, outer = _asker.get(), _turn.get()
        if asker is None:
            yield Turn()
            return
        if outer is not None and outer[0] is self:  # a query within a snapshot has the snapshot's turn
            yield outer[1]
            return
        turn = Turn(self._answer_s_max)
        name = asker()
        own, asking = self._each.setdefault(name, (asyncio.Semaphore(self._one_max), []))
        asking.append(None)
        try:
            await self._acquire(own, turn)
            try:
                _turn.set((self, turn))
                yield turn
            finally:
                _turn.set(outer)
                self._all.release()
                own.release()
        finally:
            asking.pop()
            if not asking:
                del self._each[name]

    async def _acquire(self, own: asyncio.Semaphore, turn: Turn) -> None:
        """Both semaphores, or none."""
        async with turn.within():
            await own.acquire()
            try:
                await self._all.acquire()
            except BaseException:
                own.release()
                raise
