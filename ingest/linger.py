"""How long pending items wait for others to share their frames: by the rate at which they come, within bounds. Pure.

A frame costs what it costs, however few readings it has; a wait costs latency, and throughput where clients wait for
their answer before they send again. So:

- Where the longest wait would not bring a second reading to a frame, nobody waits but for what is here already.
- Else items wait while others keep coming, for the longest wait at most: that of batches where most requests are such,
  for whoever sends many readings at once has collected them for longer. Requests that come at a rate r leave a gap of
  4/r once in e^4 = 55 gaps; such a silence means that all clients wait for us.
"""

from math import exp
from typing import Final

SHORTEST_S: Final = 0.001  # what timers resolve; requests that are sent at once come within
_SILENCE_GAPS: Final = 4.0
_READINGS_A_FRAME_MIN: Final = 2.0
BATCH_READINGS_MIN: Final = 16.0  # of a request, on average: such requests are batches
_MEMORY_S: Final = 0.5  # of the rates: half of a change shows after 0.35 s
_ELAPSED_S_MIN: Final = 1e-6


class Linger:
    """The wait of one flush after the other. Times are of one clock, in seconds."""

    def __init__(self, longest_s: float, partitions: int, longest_batch_s: float = 0.0) -> None:
        """The longest waits of requests with few readings, and of batches where that is longer."""
        self._longest_single_s, self._longest_batch_s = longest_s, max(longest_s, longest_batch_s)
        self._longest_s = longest_s
        self._shortest_s = min(SHORTEST_S, longest_s)
        self._items_per_s_min = _READINGS_A_FRAME_MIN * partitions / longest_s if longest_s > 0 else 0.0
        self._requests_per_s = self._items_per_s = 0.0
        self._requests = self._items = 0  # since the flush began
        self._began_s = self._newest_s = 0.0
        self._silence_s = self._shortest_s

    def begin(self, now_s: float) -> None:
        """The first request of a flush is here; `add` it."""
        elapsed_s = max(now_s - self._began_s, _ELAPSED_S_MIN)
        weight = 1.0 - exp(-elapsed_s / _MEMORY_S)
        self._requests_per_s += weight * (self._requests / elapsed_s - self._requests_per_s)
        self._items_per_s += weight * (self._items / elapsed_s - self._items_per_s)
        self._began_s, self._requests, self._items = now_s, 0, 0
        batches = self._items_per_s >= BATCH_READINGS_MIN * self._requests_per_s > 0.0
        self._longest_s = self._longest_batch_s if batches else self._longest_single_s
        self._silence_s = self._shortest_s
        if self._items_per_s >= self._items_per_s_min and self._requests_per_s > 0.0:
            self._silence_s = max(self._silence_s, min(_SILENCE_GAPS / self._requests_per_s, self._longest_s))

    def add(self, items: int, now_s: float) -> None:
        """A request with so many items is here."""
        self._requests += 1
        self._items += items
        self._newest_s = now_s

    @property
    def due_s(self) -> float:
        """When to flush if no other request comes."""
        return min(self._began_s + self._longest_s, self._newest_s + self._silence_s)
