"""A share of a process's time, for work that may wait."""

from kit.clock import Clock


class Allowance:
    """What has been spent is waited for afterwards, by everybody who draws on it together.

    With little to do nobody waits to speak of; the more there is, the more of it is done at once.
    """

    def __init__(self, clock: Clock, share: float) -> None:
        """`share`: of the time, above 0."""
        self._clock = clock
        self._share = share
        self._again_at_s = -float("inf")

    def spend(self, seconds: float) -> None:
        """So long it took."""
        self._again_at_s = max(self._again_at_s, self._clock.monotonic_s()) + seconds / self._share

    def wait_s(self) -> float:
        """Until it is to be done again; 0: now."""
        return max(0.0, self._again_at_s - self._clock.monotonic_s())
