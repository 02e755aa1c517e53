"""Energy of a session's readings in order: from registers where there are any, else from power (docs/adr/0007, 0009).

A register that falls, or rises by more than the station can have delivered, is not accepted; it becomes the candidate.
If the next one fits the last accepted register, the candidate was a glitch. If instead it rises plausibly from the
candidate, the meter was reset or replaced: counting goes on from the candidate, and what lies between is not billed.
"""

from dataclasses import dataclass
from typing import Final

from billing.rating.usage import EnergyStretch

HOLD_MS_MAX: Final = 86_400_000  # a power stands for a day at most
LEAP_MS_MAX: Final = 7 * 86_400_000  # a register rises by what a week delivers at most, however long it was silent
REGISTER_SLACK_MWH: Final = 100_000  # 100 Wh: meters that report in steps, clocks of whole seconds
UJ_PER_MWH: Final = 3_600_000  # mW x ms in a mWh


@dataclass(frozen=True, slots=True)
class Mark:
    """Where a stretch of energy can begin or end: a reading."""

    index: int  # of the reading
    ts_ms: int
    register_mwh: int | None

    @property
    def register(self) -> int:
        """The register, where there is one for certain, mWh."""
        if self.register_mwh is None:
            raise ValueError("no register was read here")
        return self.register_mwh

    def rise_from(self, earlier: "Mark") -> int:
        """mWh from an earlier register to this one."""
        return self.register - earlier.register


class EnergyMeter:
    """The stretches of energy of a session: `begin` with its first reading, `hold` and `read` each next."""

    def __init__(self, power_max_mw: int) -> None:
        self.refused: list[tuple[Mark, Mark]] = []  # registers that were not accepted, each with the last accepted one
        self.restarts: list[Mark] = []  # registers from which counting began anew
        self._power_max_mw = power_max_mw
        self._good: Mark | None = None  # the last accepted register
        self._candidate: Mark | None = None  # the register after it, if that was refused
        self._counted_uj = 0  # of all stretches so far
        self._open_uj = 0  # integrated since the last stretch: dropped if registers turn out to cover it

    @property
    def has_register(self) -> bool:
        """Whether a register was accepted so far: what `read` returns then is the rise between two registers."""
        return self._good is not None

    def begin(self, first: Mark) -> None:
        """The session's first reading."""
        self._good = first if first.register_mwh is not None else None

    def hold(self, power_mw: int, held_ms: int) -> None:
        """A power stood until the next reading."""
        self._open_uj += power_mw * min(held_ms, HOLD_MS_MAX)

    def read(self, now: Mark, before: Mark) -> EnergyStretch | None:
        """The next reading, and the one before it. Returns the stretch that it closes, if it closes one."""
        if self._good is None:
            self.begin(now)
            return self._stretch(before, now, self._open_uj)
        if now.register_mwh is None:
            return None
        if self._fits(self._good, now):
            return self._accept(self._good, now)
        if self._candidate is not None and self._restarted(self._good, self._candidate, now):
            self.refused.pop()  # the candidate: it counts after all
            self.restarts.append(self._candidate)
            return self._accept(self._candidate, now)
        self._candidate = now
        self.refused.append((now, self._good))
        return None

    def rest(self, last: Mark) -> EnergyStretch | None:
        """At the end of the session: what was integrated after the last accepted register."""
        if self._good is None or self._open_uj == 0:
            return None
        return self._stretch(self._good, last, self._open_uj)

    def _accept(self, since: Mark, now: Mark) -> EnergyStretch:
        self._good, self._candidate = now, None
        return self._stretch(since, now, now.rise_from(since) * UJ_PER_MWH)

    def _stretch(self, since: Mark, until: Mark, energy_uj: int) -> EnergyStretch:
        """Has the whole mWh of all that is counted, less those of what was counted before: no rest is lost."""
        before_mwh = self._counted_uj // UJ_PER_MWH
        self._counted_uj += energy_uj
        self._open_uj = 0
        energy_mwh = self._counted_uj // UJ_PER_MWH - before_mwh
        return EnergyStretch(since.ts_ms, until.ts_ms, energy_mwh)

    def _fits(self, earlier: Mark, now: Mark) -> bool:
        """Whether the station can have delivered the rise between two registers."""
        ceiling_mwh = min(now.ts_ms - earlier.ts_ms, LEAP_MS_MAX) * self._power_max_mw // UJ_PER_MWH
        return 0 <= now.rise_from(earlier) <= ceiling_mwh + REGISTER_SLACK_MWH

    def _restarted(self, good: Mark, candidate: Mark, now: Mark) -> bool:
        """Whether two registers agree with each other, and not with the past.

        A fall to half or more is never taken for a restart: if it is a glitch, energy would be billed twice.
        """
        elsewhere = candidate.register > good.register or candidate.register * 2 < good.register
        return elsewhere and now.rise_from(candidate) > 0 and self._fits(candidate, now)
