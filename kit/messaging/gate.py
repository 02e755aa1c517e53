"""A gate before a consumer or a job: while it is closed, events stay in their queue."""

import asyncio
from collections.abc import Callable


class Gate:
    """Open or closed. Used from one event loop."""

    def __init__(self, *, is_open: bool = True) -> None:
        self._opened = asyncio.Event()
        self._watchers: list[Callable[[bool], None]] = []
        if is_open:
            self._opened.set()

    @property
    def is_open(self) -> bool:
        """Whether it is open now."""
        return self._opened.is_set()

    def set(self, *, is_open: bool) -> None:
        """Open or close it, and call the watchers if that is a change."""
        if is_open == self.is_open:
            return
        if is_open:
            self._opened.set()
        else:
            self._opened.clear()
        for watcher in self._watchers:
            watcher(is_open)

    def watch(self, watcher: Callable[[bool], None]) -> None:
        """Call it with each change: whether the gate is open now."""
        self._watchers.append(watcher)

    def behind(self, other: "Gate | None") -> "Gate":
        """A gate that is open while both are; of None, this one."""
        if other is None:
            return self
        both = Gate(is_open=self.is_open and other.is_open)
        for gate in (self, other):
            gate.watch(lambda _: both.set(is_open=self.is_open and other.is_open))
        return both

    async def passable(self) -> None:
        """Wait until it is open."""
        while not self._opened.is_set():  # it may be closed again before the waiter runs
            await self._opened.wait()
