"""A tariff made ready for cutting and judging: the components that are meant, and when they apply.

Bounds of restrictions are integers: mWh, mW, mA, ms.
"""

from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from typing import Final
from zoneinfo import ZoneInfo

from billing.rating.local_time import LocalTime, local_time
from schemas.tariff import Dimension, Reservation, Tariff, TariffElement, TariffRestrictions

_DAYS: Final = ("MONDAY", "TUESDAY", "WEDNESDAY", "THURSDAY", "FRIDAY", "SATURDAY", "SUNDAY")
_DAY_MS: Final = 86_400_000
_MINUTE_MS: Final = 60_000


@dataclass(frozen=True, slots=True)
class RestrictionContext:
    """The values that restrictions are evaluated against: those at the beginning of a piece of a session."""

    at_ms: int
    zone: ZoneInfo  # of the station
    duration_ms: int  # since the session began
    energy_mwh: int  # of the session so far
    power_mw: int
    current_ma: int

    def local(self) -> LocalTime:
        """The station's local time."""
        return local_time(self.at_ms, self.zone)


@dataclass(frozen=True, slots=True)
class Range:
    """From a lower bound, inclusive, to an upper one, exclusive."""

    low: int | None
    high: int | None

    def has(self, value: int) -> bool:
        """Whether a value is in it."""
        return (self.low is None or value >= self.low) and (self.high is None or value < self.high)

    def bounds(self) -> tuple[int, ...]:
        """Those that are set."""
        return tuple(bound for bound in (self.low, self.high) if bound is not None)


@dataclass(frozen=True, slots=True)
class Restrictions:
    """When an element applies. None: no restriction of that kind."""

    time_of_day_ms: tuple[int, int] | None
    first_day: date | None
    end_day: date | None
    days: frozenset[int]  # of the week, 0 is Monday; empty: all
    energy_mwh: Range
    power_mw: Range
    current_ma: Range
    duration_ms: Range

    def hold(self, context: RestrictionContext) -> bool:
        """Whether all of them hold."""
        return (
            self.energy_mwh.has(context.energy_mwh)
            and self.power_mw.has(context.power_mw)
            and self.current_ma.has(context.current_ma)
            and self.duration_ms.has(context.duration_ms)
            and self._hold_locally(context)
        )

    def _hold_locally(self, context: RestrictionContext) -> bool:
        if self.time_of_day_ms is None and self.first_day is None and self.end_day is None and not self.days:
            return True
        local = context.local()
        return (
            (self.time_of_day_ms is None or _is_between(local.ms, *self.time_of_day_ms))
            and (self.first_day is None or local.day >= self.first_day)
            and (self.end_day is None or local.day < self.end_day)
            and (not self.days or local.day.weekday() in self.days)
        )

    def minutes_of_day(self) -> tuple[int, ...]:
        """Where the clock changes whether it holds, midnight aside."""
        return tuple(ms // _MINUTE_MS for ms in self.time_of_day_ms or () if ms < _DAY_MS)


@dataclass(frozen=True, slots=True)
class TariffComponent:
    """A price of one dimension, in one element."""

    element: int  # its place in the tariff, from 0
    place: int  # in its element
    dimension: Dimension
    restrictions: Restrictions | None = field(compare=False)


class PreparedTariff:
    """The components of a tariff that are for charging, or for a reservation that ended in a certain way."""

    def __init__(self, tariff: Tariff, reservation: Reservation | None) -> None:
        self._components: dict[Dimension, list[TariffComponent]] = {dimension: [] for dimension in Dimension}
        chosen: list[Restrictions] = []
        for place, element in _elements_for(tariff, reservation):
            restrictions = _restrictions(element.restrictions) if element.restrictions else None
            if restrictions is not None:
                chosen.append(restrictions)
            types = [component.type for component in element.price_components]
            for dimension in set(types):
                component = TariffComponent(place, types.index(dimension), dimension, restrictions)
                self._components[dimension].append(component)
        self.minutes_of_day = {minute for r in chosen for minute in r.minutes_of_day()}
        self.thresholds_mwh = sorted({bound for r in chosen for bound in r.energy_mwh.bounds()})
        flat = [one.restrictions for one in self._components[Dimension.FLAT] if one.restrictions is not None]
        self.flat_bounds_power = any(r.power_mw.bounds() for r in flat)
        self.flat_bounds_current = any(r.current_ma.bounds() for r in flat)
        self.durations_ms = sorted({bound for r in chosen for bound in r.duration_ms.bounds()})

    def active(self, dimension: Dimension, context: RestrictionContext) -> TariffComponent | None:
        """The first component of a dimension whose restrictions all hold."""
        for component in self._components[dimension]:
            if component.restrictions is None or component.restrictions.hold(context):
                return component
        return None


def _elements_for(tariff: Tariff, reservation: Reservation | None) -> list[tuple[int, TariffElement]]:
    """The elements for charging, or for a reservation, with their places, in the order in which they are examined.

    Whoever does not come has reserved all the same, but what the tariff says of that case comes first, wherever it
    stands (OCPI 2.2.1, ReservationRestrictionType).
    """
    wanted: list[Reservation | None] = [reservation]
    if reservation is Reservation.RESERVATION_EXPIRES:
        wanted.append(Reservation.RESERVATION)
    return [
        (place, element)
        for one in wanted
        for place, element in enumerate(tariff.elements)
        if (element.restrictions.reservation if element.restrictions else None) is one
    ]


def _restrictions(written: TariffRestrictions) -> Restrictions:
    return Restrictions(
        time_of_day_ms=_time_of_day_ms(written.start_time, written.end_time),
        first_day=date.fromisoformat(written.start_date) if written.start_date else None,
        end_day=date.fromisoformat(written.end_date) if written.end_date else None,
        days=frozenset(_DAYS.index(day) for day in written.day_of_week),
        energy_mwh=Range(_whole(written.min_kwh, 6), _whole(written.max_kwh, 6)),
        power_mw=Range(_whole(written.min_power, 6), _whole(written.max_power, 6)),
        current_ma=Range(_whole(written.min_current, 3), _whole(written.max_current, 3)),
        duration_ms=Range(_whole(written.min_duration, 3), _whole(written.max_duration, 3)),
    )


def _time_of_day_ms(start: str | None, end: str | None) -> tuple[int, int] | None:
    """From and until, in ms of the day; an end of 00:00 is the end of the day."""
    if start is None and end is None:
        return None
    start_ms = _clock_ms(start) if start is not None else 0
    end_ms = _clock_ms(end) if end is not None else _DAY_MS
    return start_ms, end_ms or _DAY_MS


def _is_between(now_ms: int, start_ms: int, end_ms: int) -> bool:
    """Whether a time of day is in [start, end); an end at or before the start is on the next day."""
    if start_ms < end_ms:
        return start_ms <= now_ms < end_ms
    return now_ms >= start_ms or now_ms < end_ms


def _clock_ms(clock: str) -> int:
    hour, minute = clock.split(":")
    return (int(hour) * 60 + int(minute)) * _MINUTE_MS


def _whole(value: Decimal | int | None, digits: int) -> int | None:
    """A number of units as a whole number of their 10**digits-th parts, exact: the schema admits no finer ones."""
    return None if value is None else int(Decimal(value).scaleb(digits))
