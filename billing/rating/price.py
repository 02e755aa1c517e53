"""From consumption to money (docs/adr/0009): step_size, lines, totals, bounds. Integers all through.

Amounts are micro-units of the tariff's currency, VAT rates millionths. A quantity times a price and an amount times a
rate are rounded half up to the micro-unit, each once; every rounding is written down.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from types import MappingProxyType
from typing import Final, NamedTuple, Protocol, TypeVar

from schemas.tariff import Dimension, Price, PriceComponent, Tariff

MICRO_DIGITS: Final = 6
VAT_DIGITS: Final = 4  # a percentage with four digits is a whole number of millionths
MILLIONTHS: Final = 1_000_000

# What a volume is divided by for the unit that its price is of: mWh in a kWh, ms in an hour.
VOLUME_PER_UNIT: Final[Mapping[str, int]] = MappingProxyType(
    {Dimension.ENERGY: 1_000_000, Dimension.TIME: 3_600_000, Dimension.PARKING_TIME: 3_600_000, Dimension.FLAT: 1}
)
UNITS: Final[Mapping[str, str]] = MappingProxyType(
    {Dimension.ENERGY: "kWh", Dimension.TIME: "h", Dimension.PARKING_TIME: "h", Dimension.FLAT: "session"}
)
# A step of ENERGY is of Wh, one of time of seconds: both a thousand of what volumes are counted in.
VOLUME_PER_STEP: Final = 1_000

MIN_PRICE: Final = "MIN_PRICE"
MAX_PRICE: Final = "MAX_PRICE"
BOUNDS: Final = (MIN_PRICE, MAX_PRICE)


class Reserved(NamedTuple):
    """What the reservation has cost that a session used. Micro-units."""

    excl_micros: int
    incl_micros: int


NOTHING_RESERVED: Final = Reserved(0, 0)


class Consumed(Protocol):
    """What was used of a component: `allocate.ComponentUsage`, or the `Consumption` of an event."""

    @property
    def element(self) -> int: ...
    @property
    def dimension(self) -> str: ...
    @property
    def volume(self) -> int: ...
    @property
    def last(self) -> bool: ...


_Consumed = TypeVar("_Consumed", bound=Consumed)


class PriceLine(NamedTuple):
    """One component's part of a bill."""

    element: int  # its place in the tariff, from 0
    dimension: str
    volume: int  # billed. ENERGY: mWh; TIME, PARKING_TIME: ms; FLAT: 1
    added: int  # the part of it that step_size added
    price_micros: int  # excl. VAT, per unit
    vat_millionths: int | None  # None: no VAT applies
    amount_excl_micros: int
    vat_micros: int

    @property
    def unit(self) -> str:
        """What the price is per."""
        return UNITS[self.dimension]


class Adjustment(NamedTuple):
    """What a minimum or maximum price changes. Below 0 where a maximum lowers."""

    bound: str  # MIN_PRICE | MAX_PRICE
    amount_excl_micros: int
    vat_micros: int


class RoundingStep(NamedTuple):
    """A value that was not whole, as the fraction `numerator / denominator`, and what it became."""

    what: str  # "0 ENERGY step_size" | "0 ENERGY amount" | "0 ENERGY vat" | "MIN_PRICE incl_vat" ...
    numerator: int
    denominator: int
    result: int
    unit: str  # of the result: Wh | s | micro-unit
    rule: str  # up | half up


@dataclass(frozen=True, slots=True)
class RatedUsage:
    """The price of a consumption. Totals are the sums of lines and adjustments."""

    currency: str
    lines: tuple[PriceLine, ...]
    adjustments: tuple[Adjustment, ...]
    roundings: tuple[RoundingStep, ...]
    total_excl_micros: int
    total_incl_micros: int


def price(
    tariff: Tariff,
    consumption: Sequence[Consumed],
    *,
    bounds: Sequence[str] = BOUNDS,
    reserved: Reserved = NOTHING_RESERVED,
) -> RatedUsage:
    """Price the consumption of charging, or of a reservation. `bounds`, `reserved`: see `within_bounds`.

    Lines are in the order of the tariff, whatever the order of the consumption. Raises ValueError if the consumption is
    not of this tariff.
    """
    roundings: list[RoundingStep] = []
    components = _components(tariff)
    consumption = _ordered(components, consumption)
    priced = [(one, components[one.element, one.dimension][1]) for one in consumption]
    added = _steps(priced, roundings)
    lines = [_line(one, component, added.get(place, 0), roundings) for place, (one, component) in enumerate(priced)]
    excl_micros = sum(line.amount_excl_micros for line in lines)
    incl_micros = excl_micros + sum(line.vat_micros for line in lines)
    rated = RatedUsage(tariff.currency, tuple(lines), (), tuple(roundings), excl_micros, incl_micros)
    return within_bounds(tariff, rated, bounds, reserved)


def within_bounds(
    tariff: Tariff, rated: RatedUsage, bounds: Sequence[str] = BOUNDS, reserved: Reserved = NOTHING_RESERVED
) -> RatedUsage:
    """The same with those of the tariff's minimum and maximum price, of which it has none yet.

    They are of it and of what is `reserved` together; what is returned is its part, which is never below 0.
    """
    roundings = list(rated.roundings)
    excl_micros = rated.total_excl_micros + reserved.excl_micros
    incl_micros = rated.total_incl_micros + reserved.incl_micros
    adjustments: list[Adjustment] = []
    for bound, limit in ((MIN_PRICE, tariff.min_price), (MAX_PRICE, tariff.max_price)):
        if limit is not None and bound in bounds:
            before = (excl_micros, incl_micros)
            excl_micros, incl_micros = _bounded(bound, limit, excl_micros, incl_micros, roundings)
            if (excl_micros, incl_micros) != before:
                excl_moved = excl_micros - before[0]
                adjustments.append(Adjustment(bound, excl_moved, incl_micros - before[1] - excl_moved))
    incl_left = max(incl_micros - reserved.incl_micros, 0)
    excl_left = min(max(excl_micros - reserved.excl_micros, 0), incl_left)
    if adjustments:  # the last one has what is below 0, too: without any it is the sum of the lines
        bound, excl_moved, vat_moved = adjustments[-1]
        excl_more = excl_left - (excl_micros - reserved.excl_micros)
        incl_more = incl_left - (incl_micros - reserved.incl_micros)
        adjustments[-1] = Adjustment(bound, excl_moved + excl_more, vat_moved + incl_more - excl_more)
    excl_micros, incl_micros = excl_left, incl_left
    return RatedUsage(rated.currency, rated.lines, tuple(adjustments), tuple(roundings), excl_micros, incl_micros)


def in_tariff_order(tariff: Tariff, consumption: Iterable[_Consumed]) -> list[_Consumed]:
    """The same consumption, its components as the tariff has them. Raises ValueError if it is not of this tariff."""
    return _ordered(_components(tariff), consumption)


def together(parts: Iterable[RatedUsage]) -> RatedUsage:
    """A bill of a reservation and the charging that followed it, of one tariff."""
    parts = list(parts)
    return RatedUsage(
        parts[0].currency,
        tuple(line for part in parts for line in part.lines),
        tuple(adjustment for part in parts for adjustment in part.adjustments),
        tuple(rounding for part in parts for rounding in part.roundings),
        sum(part.total_excl_micros for part in parts),
        sum(part.total_incl_micros for part in parts),
    )


def half_up(numerator: int, denominator: int) -> int:
    """The whole number nearest to a fraction of no negative numbers; of two equally near the higher."""
    return (2 * numerator + denominator) // (2 * denominator)


def micros_of(amount: Decimal) -> int:
    """A price of a tariff in micro-units: exact, the schema admits no finer ones."""
    return int(amount.scaleb(MICRO_DIGITS))


def _steps(priced: Sequence[tuple[Consumed, PriceComponent]], roundings: list[RoundingStep]) -> dict[int, int]:
    """What step_size adds, by place in the consumption: once for energy, once for time, to the last used of either."""
    added: dict[int, int] = {}
    for place, (one, component) in enumerate(priced):
        if not one.last or one.dimension == Dimension.FLAT:
            continue
        step = component.step_size * VOLUME_PER_STEP
        total = sum(other.volume for other, _ in priced if other.dimension == one.dimension)
        if step and total % step:
            stepped = -(-total // step) * step  # the quotient rounded up
            added[place] = stepped - total
            what, whole = f"{one.element} {one.dimension} step_size", stepped // VOLUME_PER_STEP
            unit = "Wh" if one.dimension == Dimension.ENERGY else "s"
            roundings.append(RoundingStep(what, total, VOLUME_PER_STEP, whole, unit, "up"))
    return added


def _line(one: Consumed, component: PriceComponent, added: int, roundings: list[RoundingStep]) -> PriceLine:
    volume, price_micros = one.volume + added, micros_of(component.price)
    name = f"{one.element} {one.dimension}"
    per_unit = VOLUME_PER_UNIT[one.dimension]
    amount_micros = _rounded(f"{name} amount", volume * price_micros, per_unit, roundings)
    vat_millionths, vat_micros = None, 0
    if component.vat is not None:
        vat_millionths = int(component.vat.scaleb(VAT_DIGITS))
        vat_micros = _rounded(f"{name} vat", amount_micros * vat_millionths, MILLIONTHS, roundings)
    return PriceLine(one.element, one.dimension, volume, added, price_micros, vat_millionths, amount_micros, vat_micros)


def _bounded(
    bound: str, limit: Price, excl_micros: int, incl_micros: int, roundings: list[RoundingStep]
) -> tuple[int, int]:
    """Totals excl. and incl. VAT, limited to a minimum or a maximum."""
    nearer = max if bound == MIN_PRICE else min
    limit_micros = micros_of(limit.excl_vat)
    excl_after = nearer(excl_micros, limit_micros)
    if limit.incl_vat is not None:
        incl_after = nearer(incl_micros, micros_of(limit.incl_vat))
    elif excl_after == excl_micros:
        incl_after = incl_micros
    elif excl_micros == 0:
        incl_after = limit_micros
    else:
        incl_after = _rounded(f"{bound} incl_vat", incl_micros * excl_after, excl_micros, roundings)
    if bound == MIN_PRICE:
        return excl_after, max(incl_after, excl_after)
    return min(excl_after, incl_after), incl_after


def _rounded(what: str, numerator: int, denominator: int, roundings: list[RoundingStep]) -> int:
    result = half_up(numerator, denominator)
    if result * denominator != numerator:
        roundings.append(RoundingStep(what, numerator, denominator, result, "micro-unit", "half up"))
    return result


_Components = Mapping[tuple[int, str], tuple[int, PriceComponent]]


def _components(tariff: Tariff) -> _Components:
    """By element and dimension the first component, with its place in the tariff."""
    found: dict[tuple[int, str], tuple[int, PriceComponent]] = {}
    for number, element in enumerate(tariff.elements):
        for component in element.price_components:
            found.setdefault((number, component.type), (len(found), component))
    return found


def _ordered(components: _Components, consumption: Iterable[_Consumed]) -> list[_Consumed]:
    """In the order of the tariff. Raises ValueError if it is not of this tariff."""
    try:
        return sorted(consumption, key=lambda one: components[one.element, one.dimension][0])
    except KeyError as error:
        element, dimension = error.args[0]
        raise ValueError(f"the tariff has no {dimension} in element {element}") from None
