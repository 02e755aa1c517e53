"""From the stored readings of a session to its usage (docs/adr/0009), and what of them was left out, and why.

Only the set of readings matters, not the order they are given in. Duplicates are not expected here: they are never
stored as readings of a session.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from billing.rating.errors import NoReadings
from billing.rating.meter import UJ_PER_MWH, EnergyMeter, Mark
from billing.rating.usage import EnergyStretch, TimeStretch, Usage, UsageInterval
from schemas.reading import Status
from schemas.session import UsageKind

POWER_MAX_MW: Final = 1_200_000_000  # 1.2 MW: no connector of today delivers more

# Phase to neutral (IEC 60038). Bounds of current are of the sum over all phases, so that their number does not matter.
NOMINAL_VOLTAGE_V: Final = 230

_KIND_OF_STATUS: Final[dict[int, UsageKind]] = {
    Status.CHARGING: UsageKind.CHARGING,
    Status.PREPARING: UsageKind.IDLE,
    Status.SUSPENDED_EV: UsageKind.PARKING,
    Status.SUSPENDED_EVSE: UsageKind.IDLE,
    Status.FINISHING: UsageKind.PARKING,
    Status.AVAILABLE: UsageKind.IDLE,
    Status.RESERVED: UsageKind.IDLE,
    Status.UNAVAILABLE: UsageKind.IDLE,
    Status.FAULTED: UsageKind.IDLE,
}


class Reason(StrEnum):
    """Why something that was read does not count. Kept in explanations: never rename."""

    AFTER_END = "after_end"  # the whole reading: it is later than the session's explicit end
    REPEATED = "repeated"  # the whole reading: another of the same ts and seq comes first
    POWER_IMPLAUSIBLE = "power_implausible"  # the power: above what the station can deliver
    REGISTER_ZERO = "register_zero"  # the register: a placeholder, between higher ones
    REGISTER_FELL = "register_fell"  # the register: below the last accepted one
    REGISTER_LEAPT = "register_leapt"  # the register: above what can have been delivered since the last accepted one
    METER_RESTARTED = "meter_restarted"  # the rise from the last accepted register to this; it counts from here on


@dataclass(frozen=True, slots=True)
class StoredReading:
    """A reading as telemetry keeps it. Integers of thousandths; None where the device said nothing."""

    ts_ms: int
    seq: int | None = None
    energy_mwh: int | None = None
    power_mw: int | None = None
    current_ma: int | None = None
    status: int = Status.NONE


@dataclass(frozen=True, slots=True)
class IgnoredReading:
    """Something of a reading that does not count."""

    index: int  # of the reading, in the order they were given
    reason: Reason


@dataclass(frozen=True, slots=True)
class _Conditions:
    """What readings have said so far (negative is 0), and what registers have shown. None: nothing yet."""

    said_power_mw: int | None = None
    said_current_ma: int | None = None
    said_kind: UsageKind | None = None
    register_power_mw: int | None = None

    @property
    def power_mw(self) -> int | None:
        """As tariffs see it: what was never said follows from the register."""
        return self.register_power_mw if self.said_power_mw is None else self.said_power_mw

    @property
    def current_ma(self) -> int | None:
        """As tariffs see it: what was never said follows from the power, at the nominal voltage."""
        if self.said_current_ma is not None:
            return self.said_current_ma
        return None if self.power_mw is None else self.power_mw // NOMINAL_VOLTAGE_V

    @property
    def kind(self) -> UsageKind:
        """Of time. Where neither a status nor a power was ever said, a register that stands is parking."""
        if self.said_kind is not None:
            return self.said_kind
        return UsageKind.PARKING if self.register_power_mw == 0 else UsageKind.CHARGING

    def after(self, reading: StoredReading, believed: bool) -> "_Conditions":
        """With what one more reading says, whose power is believed or not."""
        power_mw = max(reading.power_mw or 0, 0) if believed else self.said_power_mw
        current_ma = self.said_current_ma if reading.current_ma is None else max(reading.current_ma, 0)
        kind = self.said_kind
        if reading.status != Status.NONE:
            kind = _KIND_OF_STATUS[reading.status]
        elif power_mw is not None and believed:
            kind = UsageKind.CHARGING if power_mw > 0 else UsageKind.PARKING
        return _Conditions(power_mw, current_ma, kind, self.register_power_mw)

    def with_rise(self, rise: EnergyStretch) -> "_Conditions":
        """With the power of a rise between two registers, which has a length."""
        return replace(self, register_power_mw=rise.energy_mwh * UJ_PER_MWH // (rise.end_ms - rise.start_ms))

    def says_more_than(self, before: "_Conditions") -> bool:
        """Whether the reading after which these hold closes the time before it.

        While no power was ever said, one that says no power and no other current or kind leaves that to the next, with
        which the register may show what the time was.
        """
        return (
            self.said_power_mw is not None
            or self.said_current_ma != before.said_current_ma
            or self.said_kind is not before.said_kind
        )

    def during(self, start_ms: int, end_ms: int) -> TimeStretch:
        """Time under these conditions."""
        return TimeStretch(start_ms, end_ms, self.kind, self.power_mw or 0, self.current_ma or 0)


def usage_of(
    readings: Sequence[StoredReading], end_ms: int | None = None, power_max_mw: int = POWER_MAX_MW
) -> tuple[Usage, list[IgnoredReading]]:
    """The usage of a session, and what was left out. `end_ms`: the explicit end, where the session has one.

    Raises NoReadings if there is no reading up to the end.
    """
    order, left_out = _in_order(readings, end_ms)
    if not order:
        raise NoReadings("a session without a reading up to its end has no usage")
    meter, conditions = EnergyMeter(power_max_mw), _Conditions()
    first = conditions
    marks: list[Mark] = []
    intervals: list[UsageInterval] = []
    since_ms = 0  # where the time begins that is not closed yet
    for index in order:
        reading = readings[index]
        believed = reading.power_mw is not None and reading.power_mw <= power_max_mw
        if reading.power_mw is not None and not believed:
            left_out.append(IgnoredReading(index, Reason.POWER_IMPLAUSIBLE))
        now = Mark(index, reading.ts_ms, reading.energy_mwh)
        if marks:
            metered = meter.has_register
            meter.hold(conditions.said_power_mw or 0, now.ts_ms - marks[-1].ts_ms)
            energy = meter.read(now, marks[-1])
            shows_power = energy is not None and metered and energy.end_ms > energy.start_ms
            if energy is not None and shows_power and conditions.said_power_mw is None:
                conditions = conditions.with_rise(energy)
            after = conditions.after(reading, believed)
            time = None
            if shows_power or after.says_more_than(conditions):
                time = conditions.during(since_ms, now.ts_ms)
                since_ms = now.ts_ms
            if time is not None or energy is not None:
                intervals.append(UsageInterval(time, _under(conditions, energy)))
            conditions = after
        else:
            meter.begin(now)
            first = conditions = conditions.after(reading, believed)
            since_ms = now.ts_ms
        marks.append(now)
    if since_ms < marks[-1].ts_ms:
        intervals.append(UsageInterval(conditions.during(since_ms, marks[-1].ts_ms), None))
    rest = _under(conditions, meter.rest(marks[-1]))
    if rest is not None:
        intervals.append(UsageInterval(None, rest))
    left_out += [IgnoredReading(mark.index, _doubt(mark, good)) for mark, good in meter.refused]
    left_out += [IgnoredReading(mark.index, Reason.METER_RESTARTED) for mark in meter.restarts]
    left_out.sort(key=lambda one: one.index)
    of_moment = None
    if marks[0].ts_ms == marks[-1].ts_ms:
        of_moment = (conditions.power_mw or 0, conditions.current_ma or 0)
    return Usage(marks[0].ts_ms, first.power_mw, first.current_ma, tuple(intervals), of_moment), left_out


def _under(conditions: _Conditions, stretch: EnergyStretch | None) -> EnergyStretch | None:
    """A stretch of energy under the power and current of the interval."""
    return stretch and replace(stretch, power_mw=conditions.power_mw or 0, current_ma=conditions.current_ma or 0)


def _in_order(readings: Sequence[StoredReading], end_ms: int | None) -> tuple[list[int], list[IgnoredReading]]:
    """Indices of the readings that count, in the order in which they count, and the readings that do not."""

    def key(index: int) -> tuple[tuple[bool, int], ...]:
        r = readings[index]
        values = (r.ts_ms, r.seq, r.energy_mwh, r.power_mw, r.current_ma, r.status)
        return tuple((value is not None, value or 0) for value in values)  # nothing comes before something

    order: list[int] = []
    left_out: list[IgnoredReading] = []
    for index in sorted(range(len(readings)), key=key):
        this, last = readings[index], readings[order[-1]] if order else None
        if end_ms is not None and this.ts_ms > end_ms:
            left_out.append(IgnoredReading(index, Reason.AFTER_END))
        elif last is not None and (this.ts_ms, this.seq) == (last.ts_ms, last.seq):
            left_out.append(IgnoredReading(index, Reason.REPEATED))
        else:
            order.append(index)
    return order, left_out


def _doubt(refused: Mark, good: Mark) -> Reason:
    if refused.register_mwh == 0:
        return Reason.REGISTER_ZERO
    return Reason.REGISTER_FELL if refused.rise_from(good) < 0 else Reason.REGISTER_LEAPT
