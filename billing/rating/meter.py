"""Energy of a session's readings in order: from registers where there are any, else from power (docs/adr/0014, 0009).

A register that does not fit the last accepted one is the candidate. If the next one fits, the candidate was a glitch.
If instead it rises plausibly from the candidate, the meter was reset or replaced: counting goes on from the candidate.
If later a register fits the one before the reset, two registers were mixed, and the first is the true one.
"""

from dataclasses import dataclass, replace
from typing import Final

from billing.rating.usage import EnergyStretch

HOLD_MS_MAX: Final = 86_400_000  # a power stands for a day at most
LEAP_MS_MAX: Final = 7 * 86_400_000  # a register rises by what a week delivers at most, however long it was silent
REGISTER_SLACK_MWH: Final = 100_000  # 100 Wh: meters that report in steps, clocks of whole seconds
OWN_POWER_MS_MAX: Final = 15 * 60_000  # over which the device's own power says something of its register
OWN_POWER_FACTOR: Final = 4
OWN_POWER_SLACK_MWH: Final = 1_000_000
WHOLE_WH_MWH: Final = 1_000  # what a register is rounded down to that is written in whole Wh
UJ_PER_MWH: Final = 3_600_000  # mW x ms in a mWh
BEFORE: Final = -1
"""Index of the connector's last register before the session."""


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


@dataclass(frozen=True, slots=True)
class _Reset:
    """What was before the meter was reset."""

    good: Mark
    counted_mwh: int


class EnergyMeter:
    """The stretches of energy of a session: `begin` with its first reading, `hold` and `read` each next."""

    def __init__(self, power_max_mw: int, before: Mark | None = None, series_mwh: int | None = None) -> None:
        """`before`: the connector's last accepted register before the session; `series_mwh`: the first register of its
        session before."""
        self.refused: list[tuple[Mark, Mark]] = []  # registers that were not accepted, each with the last accepted one
        self.restarts: list[Mark] = []  # registers from which counting began anew
        self.by_register = False  # whether the last stretch is a rise between two registers
        self._power_max_mw = power_max_mw
        self._good = before  # the last accepted register
        self._series_mwh = series_mwh
        self._registered = False  # whether it is of this session
        self._first_mwh: int | None = None
        self._earlier: Mark | None = None  # the last accepted register of an earlier moment than `_good`
        self._candidate: Mark | None = None  # the register after it, if that was refused
        self._reset: _Reset | None = None
        self._peak_mw = 0  # the highest power since the last accepted register, that held then included
        self._held_mw = 0
        self._counted_uj = 0  # of all stretches so far
        self._counted_mwh = 0  # of it between registers
        self._open_uj = 0  # integrated since the last stretch: dropped if registers turn out to cover it

    def begin(self, first: Mark, power_mw: int | None) -> None:
        """The session's first reading, with its power if that is believed."""
        self._power(power_mw)
        if first.register_mwh is not None:
            self._judge(first)

    def hold(self, power_mw: int, held_ms: int) -> None:
        """A power stood until the next reading."""
        self._open_uj += power_mw * min(held_ms, HOLD_MS_MAX)

    def read(self, now: Mark, before: Mark, power_mw: int | None) -> EnergyStretch | None:
        """The next reading, with its power if that is believed, and the one before it. Returns the stretch that it
        closes, if it closes one."""
        self._power(power_mw)
        self.by_register = False
        registered, pending, good = self._registered, self._candidate, self._good
        if now.register_mwh is None:
            # What was integrated after a candidate waits until that is judged.
            return None if registered or pending is not None else self._integrated(before, now)
        rise_mwh, since = self._judge(now)
        if since is not None:
            self.by_register = True
            return self._stretch(since, now, rise_mwh * UJ_PER_MWH)
        if registered and good is not None:
            return None
        return self._integrated(pending or before, now)

    def rest(self, last: Mark) -> EnergyStretch | None:
        """At the end of the session: what was integrated after the last accepted register, or the candidate."""
        since = self._good if self._registered else self._candidate
        if since is None or self._open_uj == 0:
            return None
        return self._stretch(since, last, self._open_uj)

    def _power(self, power_mw: int | None) -> None:
        if power_mw is not None:
            self._held_mw = max(power_mw, 0)
            self._peak_mw = max(self._peak_mw, power_mw)

    def _judge(self, now: Mark) -> tuple[int, Mark | None]:
        """Judge a register: what it counts, mWh, and from where; None: it closes no rise within the session."""
        good = self._good
        if good is None:
            self._accept(now, earlier=None)
            return 0, None
        if -WHOLE_WH_MWH < now.rise_from(good) < 0 and now.register % WHOLE_WH_MWH == 0:
            now = replace(now, register_mwh=good.register)  # the meter has not fallen
        same = now.ts_ms == good.ts_ms
        earlier = self._earlier if same else good
        since = (self._earlier or good) if same else good
        if now.rise_from(good) >= 0 and self._fits(since, now, 0 if same else self._peak_mw):
            return self._count(now, good, now.rise_from(good), earlier)
        if not self._registered and now.register_mwh == self._series_mwh:
            self._accept(now, earlier=self._earlier if same else None)
            return 0, None
        if self._reset is not None and self._fits(self._reset.good, now, 0):
            return self._return_to_first(now, good, self._reset, same=same)
        candidate = self._candidate
        if candidate is not None and self._restarted(good, candidate, now):
            self._restart(good, candidate)
            return self._count(now, candidate, now.rise_from(candidate), self._earlier if same else candidate)
        self._candidate = now
        self.refused.append((now, good))
        return 0, None

    def _count(self, now: Mark, since: Mark, rise_mwh: int, earlier: Mark | None) -> tuple[int, Mark | None]:
        own = self._registered
        self._accept(now, earlier=earlier)
        if not own:  # it rose before the session
            return 0, None
        self._counted_mwh += rise_mwh
        return rise_mwh, since

    def _restart(self, good: Mark, candidate: Mark) -> None:
        """The meter was reset: what is registered goes on from the candidate."""
        self.refused.pop()  # the candidate: it counts after all
        self.restarts.append(candidate)
        self._reset = _Reset(good, self._counted_mwh)
        self._registered = True

    def _return_to_first(self, now: Mark, good: Mark, reset: _Reset, *, same: bool) -> tuple[int, Mark | None]:
        """Two registers were mixed: the rise of the first replaces what was counted of the second."""
        missing_mwh = max(reset.counted_mwh + now.rise_from(reset.good) - self._counted_mwh, 0)
        self._reset = None
        return self._count(now, good, missing_mwh, self._earlier if same else reset.good)

    def _accept(self, now: Mark, *, earlier: Mark | None) -> None:
        self._good, self._earlier, self._candidate = now, earlier, None
        self._registered = True
        self._peak_mw = self._held_mw

    def _integrated(self, since: Mark, now: Mark) -> EnergyStretch:
        return self._stretch(since, now, self._open_uj)

    def _stretch(self, since: Mark, until: Mark, energy_uj: int) -> EnergyStretch:
        """Has the whole mWh of all that is counted, less those of what was counted before: no rest is lost."""
        before_mwh = self._counted_uj // UJ_PER_MWH
        self._counted_uj += energy_uj
        self._open_uj = 0
        energy_mwh = self._counted_uj // UJ_PER_MWH - before_mwh
        return EnergyStretch(since.ts_ms, until.ts_ms, energy_mwh)

    def _fits(self, earlier: Mark, now: Mark, peak_mw: int) -> bool:
        """Whether the station can have delivered the rise between two registers, by its rating and its own power."""
        time_ms, rise_mwh = min(now.ts_ms - earlier.ts_ms, LEAP_MS_MAX), now.rise_from(earlier)
        if not 0 <= rise_mwh <= time_ms * self._power_max_mw // UJ_PER_MWH + REGISTER_SLACK_MWH:
            return False
        if peak_mw > 0 and time_ms <= OWN_POWER_MS_MAX:
            return rise_mwh <= time_ms * peak_mw // UJ_PER_MWH * OWN_POWER_FACTOR + OWN_POWER_SLACK_MWH
        return True

    def _restarted(self, good: Mark, candidate: Mark, now: Mark) -> bool:
        """Whether two registers agree with each other, and not with the past.

        A fall to half or more is never taken for a restart: if it is a glitch, energy would be billed twice.
        """
        elsewhere = candidate.register > good.register or candidate.register * 2 < good.register
        return elsewhere and now.rise_from(candidate) > 0 and self._fits(candidate, now, self._peak_mw)
