"""Compiled tariffs as tables: which components are active, for many intervals of many tariffs at once.

A tariff's elements are bits of a mask, in the order in which they are examined: the first is the lowest. Each kind of
restriction is a step function from a value (moment, energy, duration, power, current) to the mask of the elements that
it allows; the elements that hold are the AND of all five, and the active component of a dimension is that of the lowest
bit among those that have it. All step functions of one kind are in one sorted column whose keys are
`tariff << KEY_BITS | value`, so that one binary search serves all rows. Rules: docs/adr/0009. Built by
streams/tariffs/compiled.py.
"""

from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from streams.kernels.runs import I64, MAX_I64, Bools

KEY_BITS: Final = 44  # of the value: 2**44 ms are the year 2527, 2**44 mWh are 17 GWh; leaves 500,000 tariffs
_VALUE_MAX: Final = (1 << KEY_BITS) - 1
ENERGY, TIME, PARKING_TIME, FLAT = range(4)  # places of a tariff's dimensions
DIMENSIONS: Final = 4
CALENDAR, MWH, DURATION, POWER, CURRENT = range(5)  # kinds of restrictions
KINDS: Final = 5
NONE: Final = -1

Masks = NDArray[np.uint64]


@dataclass(slots=True)
class PiecewiseMasks:
    """The step functions of one kind of restriction, of all tariffs: from a value to a mask of elements."""

    key: I64  # ascending: tariff << KEY_BITS | the value from which on (inclusive) the mask holds
    mask: Masks
    constant: Bools  # (tariffs,) no restriction: all elements, whatever the value

    def at(self, tariff: I64, value: I64) -> tuple[Masks, I64]:
        """Mask at these values (not negative), and the next value at which it may change (MAX_I64: none)."""
        wanted = (tariff << KEY_BITS) | np.minimum(value, _VALUE_MAX)
        place = np.searchsorted(self.key, wanted, side="right") - 1
        following = np.minimum(place + 1, len(self.key) - 1)
        same = (self.key[following] >> KEY_BITS == tariff) & (following > place)
        return self.mask[place], np.where(same, self.key[following] & _VALUE_MAX, MAX_I64)


@dataclass(slots=True)
class TariffTable:
    """All compiled tariffs. Arrays over tariffs, and over components (those of one tariff are adjacent)."""

    masks: list[PiecewiseMasks]  # by kind of restriction: the elements that it allows
    having: list[Masks]  # by dimension, (tariffs,): the elements that have a component of it
    flat_bounded: dict[int, Bools]  # POWER, CURRENT: (tariffs,) whether an element with FLAT has a bound of it
    component_base: I64  # (tariffs,) where `component_of` of the tariff begins
    component_of: I64  # [component_base + bit * DIMENSIONS + dimension] -> component of the tariff, NONE
    price_base: I64  # (tariffs,) where its components begin
    components: I64  # (tariffs,) how many
    dimension: I64  # (components,)
    price_micros: I64  # (components,) per kWh, per hour, or flat
    vat_ppm: I64  # (components,) millionths of the amount; 0 also where none applies
    step_size: I64  # (components,) mWh or ms; 1: none
    bounds_micros: dict[str, I64]  # min_excl, min_incl, max_excl, max_incl: (tariffs,); NONE: not set
    restricted: list[bool] = field(default_factory=list)  # by kind: whether any tariff is

    def __post_init__(self) -> None:
        self.restricted = [not masks.constant.all() for masks in self.masks]

    def active(self, tariff: I64, elements: Masks, dimension: int) -> I64:
        """The tariff's component (from 0) of that dimension that is active where these elements hold; NONE."""
        found = elements & self.having[dimension][tariff]
        lowest = found & (~found + np.uint64(1))
        element = np.bitwise_count(lowest - np.uint64(1)).astype(np.int64)  # of 0: 64, put right below
        element[found == 0] = 0
        place = self.component_base[tariff] + element * DIMENSIONS + dimension
        return np.where(found == 0, NONE, self.component_of[place])
