"""How many refused items a token may fill the quarantine with: an item of 10 bytes costs a row of 600 there.

Each gateway counts by itself. A token's budget is that of an hour and comes back evenly. A request of refused items
alone is not taken (429) once it is spent. One with readings among them is taken until as much again is owed, so that a
faulty station does not hold up those that share its requests; what is taken is kept, as ever.
"""

from collections.abc import Callable
from typing import Final

from ingest.limits.declared import QUARANTINE
from kit.web.limits.refusals import Refusals

_HOUR_S: Final = 3_600.0
_TOKENS_MAX: Final = 100_000  # whose budgets are known, ~200 B each; when there are more, all are whole again


class QuarantineBudgets:
    """By token. Not thread-safe."""

    def __init__(self, per_hour: Callable[[], int], monotonic_s: Callable[[], float], refusals: Refusals) -> None:
        """`per_hour`: items that each token may have refused, as it is now; 0: any number."""
        self._per_hour = per_hour
        self._monotonic_s = monotonic_s
        self._refusals = refusals
        self._spent: dict[str, tuple[float, float]] = {}  # items, at that moment

    def spend(self, token_id: str, refused: int, accepted: int, example: str) -> None:
        """Take that many items from the token's budget. `example`: what is wrong with one of them. Raises Problem 429;
        then nothing is taken."""
        per_hour = self._per_hour()
        if not per_hour:
            return
        now_s = self._monotonic_s()
        items, at_s = self._spent.get(token_id, (0.0, now_s))
        items = max(0.0, items - (now_s - at_s) * per_hour / _HOUR_S)
        bound = 2 * per_hour if accepted else per_hour
        if items >= bound:
            wait_s = (items - bound + 1) * _HOUR_S / per_hour
            raise self._refusals.refuse(QUARANTINE, per_hour, wait_s, token_id, f"mend them: {example}")
        if len(self._spent) >= _TOKENS_MAX:
            self._spent.clear()
        self._spent[token_id] = (items + refused, now_s)
