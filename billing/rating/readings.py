"""From the stored readings of a session to its usage (docs/adr/0009), and what of them was left out, and why.

Only the set of readings matters, not the order they are given in. Duplicates are not expected here: they are never
stored as readings of a session.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from billing.rating.errors import NoReadings
from billing.rating.meter import EnergyMeter, Mark
from billing.rating.usage import EnergyStretch, TimeStretch, Usage, UsageInterval
from schemas.reading import Status
from schemas.session import UsageKind

POWER_MAX_MW: Final = 1_200_000_000  # 1.2 MW: no connector of today delivers more

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
    """What holds after a reading, until the next says otherwise. As tariffs see it: never said or negative is 0."""

    power_mw: int = 0
    current_ma: int = 0
    kind: UsageKind = UsageKind.CHARGING

    def after(self, reading: StoredReading, believed: bool) -> "_Conditions":
        """What holds after one more reading, whose power is believed or not."""
        power_mw = max(reading.power_mw or 0, 0) if believed else self.power_mw
        current_ma = self.current_ma if reading.current_ma is None else max(reading.current_ma, 0)
        kind = self.kind
        if reading.status != Status.NONE:
            kind = _KIND_OF_STATUS[reading.status]
        elif believed:
            kind = UsageKind.CHARGING if power_mw > 0 else UsageKind.PARKING
        return _Conditions(power_mw, current_ma, kind)


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
    for index in order:
        reading = readings[index]
        believed = reading.power_mw is not None and reading.power_mw <= power_max_mw
        if reading.power_mw is not None and not believed:
            left_out.append(IgnoredReading(index, Reason.POWER_IMPLAUSIBLE))
        before, conditions = conditions, conditions.after(reading, believed)
        now = Mark(index, reading.ts_ms, reading.energy_mwh)
        if marks:
            since_ms = marks[-1].ts_ms
            meter.hold(before.power_mw, now.ts_ms - since_ms)
            time = TimeStretch(since_ms, now.ts_ms, before.kind, before.power_mw, before.current_ma)
            intervals.append(UsageInterval(time, _under(before, meter.read(now, marks[-1]))))
        else:
            meter.begin(now)
            first = conditions
        marks.append(now)
    rest = _under(conditions, meter.rest(marks[-1]))
    if rest is not None:
        intervals.append(UsageInterval(None, rest))
    left_out += [IgnoredReading(mark.index, _doubt(mark, good)) for mark, good in meter.refused]
    left_out += [IgnoredReading(mark.index, Reason.METER_RESTARTED) for mark in meter.restarts]
    left_out.sort(key=lambda one: one.index)
    return Usage(marks[0].ts_ms, first.power_mw, first.current_ma, tuple(intervals)), left_out


def _under(conditions: _Conditions, stretch: EnergyStretch | None) -> EnergyStretch | None:
    """A stretch of energy under the power and current that held before the reading that closes it."""
    return stretch and replace(stretch, power_mw=conditions.power_mw, current_ma=conditions.current_ma)


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
