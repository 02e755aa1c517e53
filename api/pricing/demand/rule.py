"""The demand rule: how far demand moves a tariff's ENERGY prices. Pure, in Decimal.

A rule takes one step at a time, up or down, from a base tariff. Whatever the steps, prices stay within the rule's
bounds, and of two demands the higher never leads to the lower price.
"""

from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_UP, Decimal
from typing import Final

from api.pricing.demand.models import Bounds, DemandRule
from schemas.tariff import Dimension, Tariff

_GRID: Final = Decimal("0.0001")  # moved prices have four digits
_HUNDRED: Final = Decimal(100)


@dataclass(frozen=True, slots=True)
class Demand:
    """How many connectors of a target are known, and how many of them charge."""

    connectors: int
    charging: int


def next_level(rule: DemandRule, base: Tariff, level: int, demand: Demand) -> int:
    """The level after `demand`: one step from `level`, or `level` itself.

    Where every price is at its bound already no further step is counted: it would only have to be undone later.
    """
    direction = _direction(rule, demand)
    if direction == 0 or _all_at_bound(rule, base, level, direction):
        return level
    return level + direction


def moved(rule: DemandRule, base: Tariff, level: int) -> Tariff:
    """The base tariff with its ENERGY prices `level` steps up or, below zero, down, within the rule's bounds."""
    elements = [
        element.model_copy(
            update={
                "price_components": [
                    component.model_copy(update={"price": moved_price(rule, component.price, level)})
                    if component.type is Dimension.ENERGY
                    else component
                    for component in element.price_components
                ]
            }
        )
        for element in base.elements
    ]
    return base.model_copy(update={"elements": elements})


def moved_price(rule: DemandRule, base: Decimal, level: int) -> Decimal:
    """A price per kWh, moved. Rising with `level`; of four digits, or the base price, or a bound of its own digits."""
    price = base
    if level != 0:
        exact = base * (1 + level * rule.step_pct / _HUNDRED)
        rounded = exact.quantize(_GRID, ROUND_HALF_UP)
        price = max(base, rounded) if level > 0 else min(base, rounded)
    low, high = price_bounds(rule.bounds, base)
    return min(max(price, low), high)


def price_bounds(bounds: Bounds, base: Decimal) -> tuple[Decimal, Decimal]:
    """Lowest and highest price that this base price may be moved to, rounded inwards to four digits."""
    if bounds.min_price is not None and bounds.max_price is not None:
        return bounds.min_price, bounds.max_price
    if bounds.min_factor is None or bounds.max_factor is None:
        raise AssertionError("the model has one pair of bounds")
    low = min((base * bounds.min_factor).quantize(_GRID, ROUND_CEILING), base)
    high = max((base * bounds.max_factor).quantize(_GRID, ROUND_FLOOR), base)
    return low, high


def energy_prices(tariff: Tariff) -> list[Decimal]:
    """The prices that the rule moves, in the tariff's order."""
    return [
        component.price
        for element in tariff.elements
        for component in element.price_components
        if component.type is Dimension.ENERGY
    ]


def _direction(rule: DemandRule, demand: Demand) -> int:
    """+1, 0 or -1. Of a target without known connectors: 0."""
    if demand.connectors == 0:
        return 0
    charging = demand.charging * _HUNDRED
    if charging >= rule.raise_above_pct * demand.connectors:
        return 1
    return -1 if charging <= rule.lower_below_pct * demand.connectors else 0


def _all_at_bound(rule: DemandRule, base: Tariff, level: int, direction: int) -> bool:
    side = 1 if direction > 0 else 0
    return all(
        price == 0 or moved_price(rule, price, level) == price_bounds(rule.bounds, price)[side]  # 0 has no steps
        for price in energy_prices(base)
    )
