"""What 10 kWh cost at a moment, by a tariff. Pure.

An estimate to compare by: energy and the flat fee as the elements in force at that moment have them, VAT included.
Time has no part in it, as nobody knows how long it takes: elements for a least duration do not count, nor do those
that depend on power or current, nor steps of quantities. The bill is rated elsewhere (docs/adr/0009).
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import ROUND_HALF_UP, Decimal
from itertools import pairwise
from typing import Final
from uuid import UUID
from zoneinfo import ZoneInfo

from schemas.tariff import MICROS, DayOfWeek, Dimension, PriceComponent, Tariff, TariffRestrictions

ENERGY_KWH: Final = Decimal(10)
_DAYS: Final = tuple(DayOfWeek)
_DAY: Final = timedelta(days=1)
_QUARTER: Final = timedelta(minutes=15)
_HUNDRED: Final = Decimal(100)
_BY_POWER: Final = ("min_current", "max_current", "min_power", "max_power")


@dataclass(frozen=True, slots=True)
class TariffVersion:
    """A version of a target's tariff."""

    version: UUID
    time_zone: str
    effective_from: datetime
    published_at: datetime
    tariff: Tariff

    def in_force(self, at: datetime) -> bool:
        """Whether it may be the one in force."""
        first, end = self.tariff.start_date_time, self.tariff.end_date_time
        return self.effective_from <= at and (first is None or first <= at) and (end is None or at < end)

    @property
    def always(self) -> bool:
        """Whether nothing but another version ends it."""
        return self.tariff.start_date_time is None and self.tariff.end_date_time is None


@dataclass(frozen=True, slots=True)
class Price:
    """Of 10 kWh, from when to when."""

    starts_at: datetime
    ends_at: datetime
    micros: int | None  # None: the tariff has no price for energy then
    currency: str


def version_at(versions: Iterable[TariffVersion], at: datetime) -> TariffVersion | None:
    """The version in force: of those that may be, the one effective last, of equals the one published last."""
    found = [one for one in versions if one.in_force(at)]
    return max(found, key=_precedence, default=None)


def needed(versions: Sequence[TariffVersion], now: datetime) -> list[TariffVersion]:
    """Those that may be in force now or later."""
    kept: list[TariffVersion] = []
    for one in sorted(versions, key=_precedence, reverse=True):
        kept.append(one)
        if one.effective_from <= now and one.always:
            break
    return kept


def schedule(versions: Sequence[TariffVersion], since: datetime, until: datetime) -> list[Price]:
    """The prices within [since, until), in order; there is none while no version is in force."""
    moments = sorted({since, *(moment for moment in _moments(versions, since, until) if since < moment < until)})
    found: list[Price] = []
    for begin, end in zip(moments, [*moments[1:], until], strict=True):
        version = version_at(versions, begin)
        if version is None:
            continue
        micros = price_micros(version.tariff, begin.astimezone(ZoneInfo(version.time_zone)))
        currency = version.tariff.currency
        last = found[-1] if found else None
        if last is not None and (last.ends_at, last.micros, last.currency) == (begin, micros, currency):
            found[-1] = Price(last.starts_at, end, micros, currency)
        else:
            found.append(Price(begin, end, micros, currency))
    return found


def price_micros(tariff: Tariff, local: datetime) -> int | None:
    """What 10 kWh cost that begin then, VAT included; None: no element has a price for some of it."""
    limits = [one.restrictions for one in tariff.elements if one.restrictions is not None]
    bounds = {bound for one in limits for bound in (one.min_kwh, one.max_kwh) if bound is not None}
    edges = sorted({Decimal(0), ENERGY_KWH, *(bound for bound in bounds if bound < ENERGY_KWH)})
    excl, incl = Decimal(0), Decimal(0)
    for begin, end in pairwise(edges):
        component = _component(tariff, local, Dimension.ENERGY, begin)
        if component is None:
            return None
        excl, incl = _added(excl, incl, component, end - begin)
    flat = _component(tariff, local, Dimension.FLAT, Decimal(0))
    if flat is not None:
        excl, incl = _added(excl, incl, flat, Decimal(1))
    return int((_bounded(tariff, excl, incl) * MICROS).quantize(Decimal(1), ROUND_HALF_UP))


def _precedence(version: TariffVersion) -> tuple[datetime, datetime, UUID]:
    return version.effective_from, version.published_at, version.version


def _added(excl: Decimal, incl: Decimal, component: PriceComponent, quantity: Decimal) -> tuple[Decimal, Decimal]:
    amount = component.price * quantity
    return excl + amount, incl + amount * (1 + (component.vat or 0) / _HUNDRED)


def _bounded(tariff: Tariff, excl: Decimal, incl: Decimal) -> Decimal:
    """Within the tariff's least and greatest total; without its VAT a bound has the share of what it bounds."""
    share = incl / excl if excl else Decimal(1)
    if (low := tariff.min_price) is not None:
        incl = max(incl, low.incl_vat if low.incl_vat is not None else low.excl_vat * share)
    if (high := tariff.max_price) is not None:
        incl = min(incl, high.incl_vat if high.incl_vat is not None else high.excl_vat * share)
    return incl


def _component(tariff: Tariff, local: datetime, dimension: Dimension, kwh: Decimal) -> PriceComponent | None:
    for element in tariff.elements:
        if _holds(element.restrictions, local) and _within_kwh(element.restrictions, kwh):
            for component in element.price_components:
                if component.type is dimension:
                    return component
    return None


def _within_kwh(restrictions: TariffRestrictions | None, kwh: Decimal) -> bool:
    if restrictions is None:
        return True
    low, high = restrictions.min_kwh, restrictions.max_kwh
    return (low is None or kwh >= low) and (high is None or kwh < high)


def _holds(restrictions: TariffRestrictions | None, local: datetime) -> bool:
    """At that moment, for a session that begins then, whatever it has charged."""
    if restrictions is None:
        return True
    if restrictions.reservation is not None or restrictions.min_duration:
        return False
    if any(getattr(restrictions, name) is not None for name in _BY_POWER):
        return False
    day = local.date().isoformat()
    if restrictions.start_date is not None and day < restrictions.start_date:
        return False
    if restrictions.end_date is not None and day >= restrictions.end_date:
        return False
    if restrictions.day_of_week and _DAYS[local.weekday()] not in restrictions.day_of_week:
        return False
    return _in_day(restrictions.start_time, restrictions.end_time, local.strftime("%H:%M"))


def _in_day(start: str | None, end: str | None, clock: str) -> bool:
    """An end at or before the start is on the next day; of equal times the day is whole."""
    first, last = start or "00:00", end or "24:00"
    return first <= clock < last if first < last else clock >= first or clock < last


def _moments(versions: Sequence[TariffVersion], since: datetime, until: datetime) -> Iterator[datetime]:
    """Where the price may change."""
    for version in versions:
        yield version.effective_from
        yield from (one for one in (version.tariff.start_date_time, version.tariff.end_date_time) if one is not None)
        zone = ZoneInfo(version.time_zone)
        clocks = {"00:00"}
        for element in version.tariff.elements:
            if (limits := element.restrictions) is not None:
                clocks |= {one for one in (limits.start_time, limits.end_time) if one is not None}
        day, last = (since - _DAY).astimezone(zone).date(), (until + _DAY).astimezone(zone).date()
        while day <= last:
            yield from _of_day(day, clocks, zone)
            day += _DAY


def _of_day(day: date, clocks: Iterable[str], zone: ZoneInfo) -> Iterator[datetime]:
    """When the local clock shows these times; where it is put forward or back, also when that is."""
    for clock in clocks:
        local = datetime.combine(day, time.fromisoformat(clock), zone)
        yield from {local.replace(fold=fold).astimezone(UTC) for fold in (0, 1)}
    begin, end = (datetime.combine(at, time(0), zone).astimezone(UTC) for at in (day, day + _DAY))
    if end - begin != _DAY:
        yield from (begin + number * _QUARTER for number in range((end - begin) // _QUARTER))
