"""Allocates the usage of a session to the components of its tariff (docs/adr/0009).

Every stretch is cut wherever the tariff may see a difference, and each piece goes to the component that is active at
its beginning.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

from billing.rating.local_time import boundaries_ms
from billing.rating.tariffs import PreparedTariff, RestrictionContext, TariffComponent
from billing.rating.usage import EnergyStretch, TimeStretch, Usage
from schemas.session import UsageKind
from schemas.tariff import Dimension, Tariff

_TIME_DIMENSION: Final = {
    UsageKind.CHARGING: Dimension.TIME,
    UsageKind.PARKING: Dimension.PARKING_TIME,
    UsageKind.RESERVATION: Dimension.TIME,
    UsageKind.RESERVATION_EXPIRED: Dimension.TIME,
}


@dataclass(frozen=True, slots=True)
class ComponentUsage:
    """What was consumed of one component, before step_size."""

    element: int  # its place in the tariff, from 0
    dimension: Dimension
    volume: int  # ENERGY: mWh; TIME, PARKING_TIME: ms; FLAT: 1
    since_ms: int  # when it was first active for it
    last: bool  # the last used of ENERGY, or the last used of TIME and PARKING_TIME together: step_size applies to it


class _Cut(NamedTuple):
    """Where a piece begins or ends: when, and with how much energy of the session."""

    at_ms: int
    energy_mwh: int


def allocate_usage(tariff: Tariff, zone: ZoneInfo, usage: Usage) -> list[ComponentUsage]:
    """Returns what the usage consumed of each component, in the order of the tariff. `zone`: the station's.

    Charging and a reservation are different usages, each with components of its own.
    """
    account = _Account(PreparedTariff(tariff, usage.reservation), zone, usage)
    account.look_for_flat_at_first(usage)
    energy_mwh = 0
    for interval in usage.intervals:
        if interval.time is not None:
            account.add_time(interval.time, interval.energy, energy_mwh)
        if interval.energy is not None:
            account.add_energy(interval.energy, energy_mwh)
            energy_mwh += interval.energy.energy_mwh
    if usage.of_moment is not None:
        account.look_for_flat(_Cut(usage.start_ms, 0), *usage.of_moment)
    return account.used()


class _Account:
    """Quantities per component, as the stretches of one usage are added."""

    def __init__(self, ready: PreparedTariff, zone: ZoneInfo, usage: Usage) -> None:
        self._ready = ready
        self._zone = zone
        self._start_ms = usage.start_ms
        self._boundaries_ms = sorted(
            {
                *boundaries_ms(usage.start_ms, usage.end_ms, zone, ready.minutes_of_day),
                *(usage.start_ms + duration_ms for duration_ms in ready.durations_ms),
            }
        )
        self._volume: dict[TariffComponent, int] = {}
        self._since_ms: dict[TariffComponent, int] = {}
        self._last_energy: TariffComponent | None = None
        self._last_time: TariffComponent | None = None
        self._flat: TariffComponent | None = None

    def look_for_flat_at_first(self, usage: Usage) -> None:
        """Where the session begins, unless that depends on what is not known there."""
        power_mw, current_ma = usage.power_mw, usage.current_ma
        if (power_mw is None and self._ready.flat_bounds_power) or (
            current_ma is None and self._ready.flat_bounds_current
        ):
            return
        self.look_for_flat(_Cut(usage.start_ms, 0), power_mw or 0, current_ma or 0)

    def look_for_flat(self, at: _Cut, power_mw: int, current_ma: int) -> None:
        """Charge FLAT if it was not yet and is active here."""
        if self._flat is None:
            self._flat = self._active(Dimension.FLAT, at, power_mw, current_ma)
            if self._flat is not None:
                self._add(self._flat, 1, at.at_ms)

    def add_energy(self, stretch: EnergyStretch, before_mwh: int) -> None:
        """Energy, whatever the kind of time. `before_mwh`: the session's when the stretch begins."""
        if stretch.energy_mwh == 0:
            return
        after_mwh = before_mwh + stretch.energy_mwh
        cuts = [
            _Cut(at_ms, before_mwh + stretch.energy_until_mwh(at_ms))
            for at_ms in self._boundaries_in(stretch.start_ms, stretch.end_ms)
        ]
        cuts += [
            _Cut(stretch.reaches_ms(threshold_mwh - before_mwh), threshold_mwh)
            for threshold_mwh in _between(self._ready.thresholds_mwh, before_mwh, after_mwh)
        ]
        cuts = [_Cut(stretch.start_ms, before_mwh), *sorted(cuts), _Cut(stretch.end_ms, after_mwh)]
        for begin, end in pairwise(cuts):
            component = self._active(Dimension.ENERGY, begin, stretch.power_mw, stretch.current_ma)
            if component is not None:
                self._add(component, end.energy_mwh - begin.energy_mwh, begin.at_ms)
                if end.energy_mwh > begin.energy_mwh:
                    self._last_energy = component

    def add_time(self, stretch: TimeStretch, energy: EnergyStretch | None, before_mwh: int) -> None:
        """Time, with the energy that the same reading closes. A stretch without length has no piece."""

        def energy_at_mwh(at_ms: int) -> int:
            return before_mwh + (energy.energy_until_mwh(at_ms) if energy is not None else 0)

        moments_ms = {stretch.start_ms, *self._boundaries_in(stretch.start_ms, stretch.end_ms)}
        if energy is not None:
            low_mwh, high_mwh = energy_at_mwh(stretch.start_ms), energy_at_mwh(stretch.end_ms)
            for threshold_mwh in _between(self._ready.thresholds_mwh, low_mwh, high_mwh):
                moments_ms.add(energy.reaches_ms(threshold_mwh - before_mwh))
        ends_ms = sorted({*moments_ms, stretch.end_ms})
        for begin_ms, end_ms in pairwise(ends_ms):
            begin = _Cut(begin_ms, energy_at_mwh(begin_ms))
            self.look_for_flat(begin, stretch.power_mw, stretch.current_ma)
            dimension = _TIME_DIMENSION.get(stretch.kind)
            if dimension is None:  # nobody pays for it
                continue
            component = self._active(dimension, begin, stretch.power_mw, stretch.current_ma)
            if component is not None:
                self._add(component, end_ms - begin_ms, begin_ms)
                self._last_time = component

    def used(self) -> list[ComponentUsage]:
        """All of it, in the order of the tariff."""
        last = (self._last_energy, self._last_time)
        components = sorted(self._volume, key=lambda component: (component.element, component.place))
        return [
            ComponentUsage(c.element, c.dimension, self._volume[c], self._since_ms[c], c in last)
            for c in components
            if self._volume[c] > 0
        ]

    def _active(self, dimension: Dimension, at: _Cut, power_mw: int, current_ma: int) -> TariffComponent | None:
        duration_ms = at.at_ms - self._start_ms
        context = RestrictionContext(at.at_ms, self._zone, duration_ms, at.energy_mwh, power_mw, current_ma)
        return self._ready.active(dimension, context)

    def _add(self, component: TariffComponent, quantity: int, since_ms: int) -> None:
        self._volume[component] = self._volume.get(component, 0) + quantity
        self._since_ms.setdefault(component, since_ms)

    def _boundaries_in(self, start_ms: int, end_ms: int) -> Sequence[int]:
        """Those inside (start, end)."""
        first = bisect_right(self._boundaries_ms, start_ms)
        return self._boundaries_ms[first : bisect_left(self._boundaries_ms, end_ms)]


def _between(values: Sequence[int], low: int, high: int) -> list[int]:
    """Those strictly between two values."""
    return [value for value in values if low < value < high]
