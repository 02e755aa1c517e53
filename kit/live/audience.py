"""Who looks at a topic of the live view, as its writer knows it: so that a view that nobody looks at costs less."""

from collections.abc import Callable
from typing import Final

from kit.clock import Clock, SystemClock

# So long after somebody has read a topic, or was sent a put of it, it counts as looked at. A page that asks again does
# so more often.
LOOK_S: Final = 10.0


class Audience:
    """Whether anyone looks at a topic: has read it, or watches it.

    Where that is not known, someone does: at first, and after a loss of the view's server.
    """

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._until_s = -float("inf")
        self._listeners: set[Callable[[], None]] = set()
        self.looked()

    @property
    def looking(self) -> bool:
        """Whether anyone has looked within LOOK_S."""
        return self._clock.monotonic_s() < self._until_s

    def looked(self) -> None:
        """Someone looks now."""
        begins = not self.looking
        self._until_s = self._clock.monotonic_s() + LOOK_S
        if begins:
            for listener in tuple(self._listeners):
                listener()

    def call_when_it_begins(self, listener: Callable[[], None]) -> None:
        """Call this whenever someone looks and nobody did before."""
        self._listeners.add(listener)

    def forget(self, listener: Callable[[], None]) -> None:
        """Do not call it any more."""
        self._listeners.discard(listener)
