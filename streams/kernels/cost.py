"""What consumption costs, in micro-units of the currency: a vectorised product of integers. Rules: docs/adr/0009.

A cost is computed from accumulated quantities each time, so that no rounding accumulates.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from streams.kernels.runs import I64, all_true, any_true, rows_where
from streams.kernels.tariff_table import DIMENSIONS, NONE, TariffTable
from streams.kernels.tariff_usage import TariffUsage

PPM: Final = 1_000_000
_BLOCK: Final = 8_192  # sessions at once: a dozen columns of their components stay in the cache of a core
_PRODUCT_MAX: Final = 2.0**62
_UNIT: Final = np.array([1_000_000, 3_600_000, 3_600_000, 1])  # by dimension: mWh in a kWh, ms in an hour, one


@dataclass(slots=True)
class Costs:
    """(sessions,) micro-units of the tariff's currency; 0 for sessions without a tariff."""

    excl_vat_micros: I64
    incl_vat_micros: I64
    parts_micros: I64  # (sessions, DIMENSIONS) excl. VAT, before min_price and max_price


def price(table: TariffTable, usage: TariffUsage) -> Costs:
    """The cost of each session, as if it ended with what it has used."""
    rows = len(usage.tariff)
    excl, incl = np.zeros(rows, np.int64), np.zeros(rows, np.int64)
    parts = np.zeros((rows, DIMENSIONS), np.int64)
    for begin in range(0, rows, _BLOCK):
        block = slice(begin, begin + _BLOCK)
        excl[block], incl[block], parts[block] = _price(table, usage.block(block))
    return Costs(*_bounded(table, usage, excl, incl), parts)


def _price(table: TariffTable, usage: TariffUsage) -> tuple[I64, I64, I64]:
    """Totals excl. and incl. VAT before min_price and max_price, and the parts of the first."""
    rows, width = usage.volume.shape
    used = usage.volume.ravel()
    cell = rows_where(used != 0)  # what only step_size adds has a volume too
    session = cell // width
    if any_true(unpriced := usage.tariff == NONE):  # usage of an earlier session of the connector may be there
        kept = ~unpriced[session]
        cell, session = cell[kept], session[kept]
    place = (table.price_base[np.maximum(usage.tariff, 0)] - np.arange(rows) * width)[session] + cell
    dimension = table.dimension[place]
    part = session * DIMENSIONS + dimension
    volume = used[cell]
    if (extra := _steps(table, usage, part, volume)) is not None:
        volume += extra[cell]
    amount = times_rate(volume, table.price_micros[place], _UNIT[dimension])
    vat = times_rate(amount, table.vat_ppm[place], np.int64(PPM))
    parts = np.zeros((rows, DIMENSIONS), np.int64)
    np.add.at(parts.reshape(-1), part, amount)
    excl = parts.sum(axis=1)
    incl = excl.copy()
    np.add.at(incl, session, vat)
    return excl, incl, parts


def _steps(table: TariffTable, usage: TariffUsage, part: I64, volume: I64) -> I64 | None:
    """What step_size adds to each cell of `usage.volume`: to the last used of energy and of time, nothing to others.
    None: nothing at all. `part` says which (session, dimension) each `volume` is of."""
    rows, width = usage.volume.shape
    extra = total = None
    for last in (usage.last_energy, usage.last_time):
        session = rows_where(last != NONE)
        place = table.price_base[usage.tariff[session]] + last[session]
        stepped = rows_where(table.step_size[place] > 1)
        if not len(stepped):
            continue
        session, place = session[stepped], place[stepped]
        if extra is None or total is None:
            extra, total = np.zeros(rows * width, np.int64), np.zeros(rows * DIMENSIONS, np.int64)
            np.add.at(total, part, volume)
        of_dimension = total[session * DIMENSIONS + table.dimension[place]]
        extra[session * width + last[session]] = -of_dimension % table.step_size[place]
    return extra


def _bounded(table: TariffTable, usage: TariffUsage, excl: I64, incl: I64) -> tuple[I64, I64]:
    """Apply min_price, then max_price."""
    for name, raising in (("min", True), ("max", False)):
        if all_true(table.bounds_micros[f"{name}_excl"] == NONE):
            continue
        bound_excl, bound_incl = (
            np.where(usage.tariff == NONE, NONE, table.bounds_micros[f"{name}_{part}"][usage.tariff])
            for part in ("excl", "incl")
        )
        bounded, says_incl = bound_excl != NONE, bound_incl != NONE
        moved = bounded & ((excl < bound_excl) if raising else (excl > bound_excl))
        beyond = says_incl & ((incl < bound_incl) if raising else (incl > bound_incl))
        rows = rows_where(moved & ~says_incl)
        if len(rows):
            in_proportion = half_up_over(incl[rows], bound_excl[rows], excl[rows])
            incl[rows] = np.where(excl[rows] > 0, in_proportion, bound_excl[rows])
        incl = np.where(beyond, bound_incl, incl)
        excl = np.where(moved, bound_excl, excl)
        incl, excl = (np.maximum(incl, excl), excl) if raising else (incl, np.minimum(excl, incl))
    return excl, incl


def half_up_over(a: I64, b: I64, c: I64) -> I64:
    """a * b / c, half up, not negative; meaningless where c is 0. Where the product leaves an int64, row by row."""
    twice = 2 * np.maximum(c, 1)
    out: I64 = (2 * a * b + c) // twice
    large = a.astype(np.float64) * b.astype(np.float64) > _PRODUCT_MAX / 2
    for row in rows_where(large).tolist():
        out[row] = (2 * int(a[row]) * int(b[row]) + int(c[row])) // int(twice[row])
    return out


def times_rate(quantity: I64, rate: I64, unit: I64 | np.int64) -> I64:
    """quantity * rate / unit, half up, not negative. Units are at most 3.6e6 and rates 1e12: their product fits."""
    whole = quantity // unit
    rest = quantity - whole * unit  # np.divmod takes several times as long
    amount: I64 = whole * rate + (2 * rest * rate + unit) // (2 * unit)
    return amount
