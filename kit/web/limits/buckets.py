"""Rate limits by key: each key has a budget that refills evenly within a window. One float a key. No I/O.

The algorithm is GCRA: a key's level is the time until its budget is full again (the theoretical arrival time). What
costs a share of the bound costs the same share of the window: of 60 requests a minute each costs a second. So in any t
seconds a key spends at most `window_s + t`: the bound at once, and what has refilled. A caller that requires less than
it then spends (`least_s`) lets a key owe the rest.
"""

from collections.abc import Callable, Hashable
from typing import Final, Generic, TypeVar

K = TypeVar("K", bound=Hashable)

KEYS_MAX: Final = 100_000  # ~200 B each: 20 MB. Beyond, those that are whole are forgotten; if most are not, all
_TOLERANCE_S: Final = 1e-6  # of floats: who waits as long as it was told is not refused for the last bit


class Buckets(Generic[K]):
    """By key. Not thread-safe."""

    def __init__(self, window_s: float, monotonic_s: Callable[[], float], keys_max: int = KEYS_MAX) -> None:
        self.window_s = window_s
        self._monotonic_s = monotonic_s
        self._keys_max = keys_max
        self._whole_s: dict[K, float] = {}  # when all of it is back

    def spend(self, key: K, cost_s: float, least_s: float) -> float:
        """Spend `cost_s`, if `least_s` is left. Above 0: it is not, for so many seconds, and nothing is spent. Else the
        seconds that are left then, negated."""
        now_s = self._monotonic_s()
        whole_s = self._whole_s.get(key, now_s)
        if whole_s < now_s:
            whole_s = now_s
        beyond_s = whole_s - now_s - self.window_s
        if beyond_s + least_s > _TOLERANCE_S:
            return beyond_s + least_s
        if len(self._whole_s) >= self._keys_max and key not in self._whole_s:
            self._make_room(now_s)
        self._whole_s[key] = whole_s + cost_s
        return min(0.0, beyond_s + cost_s)

    def wait_s(self, key: K, least_s: float) -> float:
        """Seconds until `least_s` is left; 0: it is."""
        now_s = self._monotonic_s()
        wait_s = max(0.0, self._whole_s.get(key, now_s) - now_s) - self.window_s + least_s
        return wait_s if wait_s > _TOLERANCE_S else 0.0

    def give_back(self, key: K, cost_s: float) -> None:
        """Refund what was spent and not used."""
        if key in self._whole_s:
            self._whole_s[key] -= cost_s

    def _make_room(self, now_s: float) -> None:
        self._whole_s = {key: whole_s for key, whole_s in self._whole_s.items() if whole_s > now_s}
        if len(self._whole_s) > self._keys_max // 2:  # or the next key would search all of them again
            self._whole_s.clear()
