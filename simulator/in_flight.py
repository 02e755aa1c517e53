"""Many sends under way at once, acknowledged in the order in which they were started."""

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, Final

SETTLE_S: Final = 5.0  # after Ctrl-C, what is on its way may still be acknowledged: a durable 202 takes well under 1 s


class InFlight:
    """At most `limit` sends under way. `acknowledged(mark)` is called in the order of `put`, without a hole."""

    def __init__(self, limit: int, acknowledged: Callable[[int], None]) -> None:
        """`limit` is at least 1."""
        self._limit, self._acknowledged = limit, acknowledged
        self._tasks: deque[tuple[asyncio.Task[Any], int]] = deque()

    async def put(self, send: Coroutine[Any, Any, Any], mark: int) -> None:
        """Start a send; wait first while `limit` are under way. Raises what an earlier send raised."""
        try:
            while len(self._tasks) >= self._limit:
                await self._first()
        except BaseException:
            send.close()  # it never starts
            raise
        self._tasks.append((asyncio.create_task(send), mark))
        while self._tasks and self._tasks[0][0].done():
            await self._first()

    async def drain(self) -> None:
        """Wait for all of them. Raises what one of them raised."""
        while self._tasks:
            await self._first()

    async def settle(self) -> None:
        """After trouble or Ctrl-C: give what is under way a moment, then cancel it. Raises nothing of theirs."""
        tasks = [task for task, _ in self._tasks]
        if tasks:
            await asyncio.wait(tasks, timeout=SETTLE_S)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        while self._tasks and _went_well(self._tasks[0][0]):
            self._acknowledged(self._tasks.popleft()[1])
        self._tasks.clear()

    async def _first(self) -> None:
        task, mark = self._tasks[0]
        await asyncio.shield(task)  # Ctrl-C cancels the waiting; whether the body arrived stays known
        self._tasks.popleft()
        self._acknowledged(mark)


def _went_well(task: "asyncio.Task[Any]") -> bool:
    return task.done() and not task.cancelled() and task.exception() is None
