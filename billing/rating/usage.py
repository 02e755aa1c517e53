"""What a session was used for, whether read from a charger or written by hand (docs/adr/0009).

Moments are ms since the Unix epoch, UTC; energy mWh, power mW, current mA. Stretches are [start, end).
"""

from dataclasses import dataclass, field

from schemas.session import UsageKind
from schemas.tariff import Reservation


@dataclass(frozen=True, slots=True)
class TimeStretch:
    """Time of one kind, under one power and current."""

    start_ms: int
    end_ms: int
    kind: UsageKind
    power_mw: int
    current_ma: int


@dataclass(frozen=True, slots=True)
class EnergyStretch:
    """Energy that is spread evenly over its time; without length it comes at once. Power and current as it ends."""

    start_ms: int
    end_ms: int
    energy_mwh: int
    power_mw: int = 0
    current_ma: int = 0

    def energy_until_mwh(self, moment_ms: int) -> int:
        """The part of its energy that is there at a moment, rounded down to a whole mWh."""
        if moment_ms >= self.end_ms:
            return self.energy_mwh
        if moment_ms <= self.start_ms:
            return 0
        return self.energy_mwh * (moment_ms - self.start_ms) // (self.end_ms - self.start_ms)

    def reaches_ms(self, energy_mwh: int) -> int:
        """The first whole ms at which this part of its energy (above 0, not above all of it) is there."""
        length_ms = self.end_ms - self.start_ms
        return self.start_ms + -(-energy_mwh * length_ms // self.energy_mwh)  # the quotient rounded up


@dataclass(frozen=True, slots=True)
class UsageInterval:
    """The time and the energy that one reading closes. The last may only have energy: that integrated after the last
    register."""

    time: TimeStretch | None
    energy: EnergyStretch | None


@dataclass(frozen=True, slots=True)
class Usage:
    """A session, or a reservation: where it begins, what is known there (None: nothing), and its intervals in order."""

    start_ms: int
    power_mw: int | None
    current_ma: int | None
    intervals: tuple[UsageInterval, ...] = field(default=())
    of_moment: tuple[int, int] | None = None  # of a session without length: power and current, as it ends
    reservation: Reservation | None = None  # how a reservation ended; None: this is charging

    @property
    def end_ms(self) -> int:
        """Where the last stretch ends."""
        ends = [
            part.end_ms for interval in self.intervals for part in (interval.time, interval.energy) if part is not None
        ]
        return max(ends, default=self.start_ms)


def reservation_usage(start_ms: int, end_ms: int, *, expired: bool) -> Usage:
    """The usage of a reservation from its start until charging began, or until it expired. Raises ValueError if it ends
    before it begins."""
    if end_ms < start_ms:
        raise ValueError("a reservation cannot end before it begins")
    kind = UsageKind.RESERVATION_EXPIRED if expired else UsageKind.RESERVATION
    time = TimeStretch(start_ms, end_ms, kind, power_mw=0, current_ma=0)
    outcome = Reservation.RESERVATION_EXPIRES if expired else Reservation.RESERVATION
    return Usage(start_ms, 0, 0, (UsageInterval(time, None),), reservation=outcome)
