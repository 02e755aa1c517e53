"""What consumption costs, in micro-units of the currency: a vectorised product of integers. Rules: docs/adr/0009.

From accumulated quantities to a price each time, so nothing accumulates a rounding.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from streams.kernels.exact import half_up_over, times_rate
from streams.kernels.runs import I64
from streams.kernels.tariff_table import DIMENSIONS, NONE, TariffTable
from streams.kernels.tariff_usage import TariffUsage

PPM: Final = 1_000_000
_BLOCK: Final = 8_192  # sessions at once: a dozen columns of their components stay in the cache of a core
_UNIT: Final = np.array([1_000_000, 3_600_000, 3_600_000, 1])  # by dimension: mWh in a kWh, ms in an hour, one


@dataclass(slots=True)
class Costs:
    """(sessions,) micro-units of the tariff's currency; 0 for sessions without a tariff."""

    excl_vat_micros: I64
    incl_vat_micros: I64
    parts_micros: I64  # (sessions, DIMENSIONS) excl. VAT, before min_price and max_price


def price(book: TariffTable, meters: TariffUsage) -> Costs:
    """The cost of each session, as if it ended with what it has used."""
    rows = len(meters.tariff)
    excl, incl = np.zeros(rows, np.int64), np.zeros(rows, np.int64)
    parts = np.zeros((rows, DIMENSIONS), np.int64)
    for begin in range(0, rows, _BLOCK):
        block = slice(begin, begin + _BLOCK)
        excl[block], incl[block], parts[block] = _price(book, meters.block(block))
    return Costs(*_bounded(book, meters, excl, incl), parts)


def _price(book: TariffTable, meters: TariffUsage) -> tuple[I64, I64, I64]:
    """Totals excl. and incl. VAT before min_price and max_price, and the parts of the first."""
    rows, width = meters.volume.shape
    used = meters.volume.ravel()
    cell = np.flatnonzero(used != 0)  # also what only a step brings, has a volume
    session = cell // width
    if (unpriced := meters.tariff == NONE).any():  # what an earlier session of the connector used may stand there
        kept = ~unpriced[session]
        cell, session = cell[kept], session[kept]
    place = (book.price_base[np.maximum(meters.tariff, 0)] - np.arange(rows) * width)[session] + cell
    dimension = book.dimension[place]
    part = session * DIMENSIONS + dimension
    volume = used[cell]
    if (extra := _steps(book, meters, part, volume)) is not None:
        volume += extra[cell]
    amount = times_rate(volume, book.price_micros[place], _UNIT[dimension])
    vat = times_rate(amount, book.vat_ppm[place], np.int64(PPM))
    parts = np.zeros((rows, DIMENSIONS), np.int64)
    np.add.at(parts.reshape(-1), part, amount)
    excl = parts.sum(axis=1)
    incl = excl.copy()
    np.add.at(incl, session, vat)
    return excl, incl, parts


def _steps(book: TariffTable, meters: TariffUsage, part: I64, volume: I64) -> I64 | None:
    """What step_size adds to each cell of `meters.volume`: to the last used of energy and of time, nothing to others.
    None: nothing at all. `part` says which (session, dimension) each `volume` is of."""
    rows, width = meters.volume.shape
    extra = total = None
    for last in (meters.last_energy, meters.last_time):
        session = np.flatnonzero(last != NONE)
        place = book.price_base[meters.tariff[session]] + last[session]
        stepped = np.flatnonzero(book.step[place] > 1)
        if not len(stepped):
            continue
        session, place = session[stepped], place[stepped]
        if extra is None or total is None:
            extra, total = np.zeros(rows * width, np.int64), np.zeros(rows * DIMENSIONS, np.int64)
            np.add.at(total, part, volume)
        of_dimension = total[session * DIMENSIONS + book.dimension[place]]
        extra[session * width + last[session]] = -of_dimension % book.step[place]
    return extra


def _bounded(book: TariffTable, meters: TariffUsage, excl: I64, incl: I64) -> tuple[I64, I64]:
    """Apply min_price, then max_price."""
    for name, raising in (("min", True), ("max", False)):
        if (book.bounds_micros[f"{name}_excl"] == NONE).all():
            continue
        bound_excl, bound_incl = (
            np.where(meters.tariff == NONE, NONE, book.bounds_micros[f"{name}_{part}"][meters.tariff])
            for part in ("excl", "incl")
        )
        bounded, says_incl = bound_excl != NONE, bound_incl != NONE
        moved = bounded & ((excl < bound_excl) if raising else (excl > bound_excl))
        beyond = says_incl & ((incl < bound_incl) if raising else (incl > bound_incl))
        rows = np.flatnonzero(moved & ~says_incl)
        incl[rows] = np.where(excl[rows] > 0, half_up_over(incl[rows], bound_excl[rows], excl[rows]), bound_excl[rows])
        incl = np.where(beyond, bound_incl, incl)
        excl = np.where(moved, bound_excl, excl)
        incl, excl = (np.maximum(incl, excl), excl) if raising else (incl, np.minimum(excl, incl))
    return excl, incl
