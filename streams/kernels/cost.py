"""What consumption costs, in micro-units of the currency: a vectorised product of integers. Rules: docs/adr/0009.

From accumulated quantities to a price each time, so nothing accumulates a rounding.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from streams.kernels.book import DIMENSIONS, NONE, Book
from streams.kernels.exact import times_rate
from streams.kernels.meters import Meters
from streams.kernels.runs import I64

PPM: Final = 1_000_000
_UNIT: Final = np.array([1_000_000, 3_600_000, 3_600_000, 1])  # by dimension: mWh in a kWh, ms in an hour, one


@dataclass(slots=True)
class Costs:
    """(sessions,) micro-units of the tariff's currency; 0 for sessions without a tariff."""

    excl_vat_micros: I64
    incl_vat_micros: I64
    parts_micros: I64  # (sessions, DIMENSIONS) excl. VAT, before min_price and max_price


def price(book: Book, meters: Meters) -> Costs:
    """The cost of each session, as if it ended with what it has used."""
    rows = len(meters.tariff)
    excl, incl = np.zeros(rows, np.int64), np.zeros(rows, np.int64)
    tariff = np.maximum(meters.tariff, 0)
    session, component = np.nonzero(meters.volume)  # also what only a step brings, has a volume
    place = book.price_base[tariff[session]] + component
    volume = meters.volume[session, component] + _steps(book, meters, tariff, session, component, place)
    dimension = book.dimension[place]
    amount = times_rate(volume, book.price_micros[place], _UNIT[dimension])
    vat = times_rate(amount, book.vat_ppm[place], np.int64(PPM))
    np.add.at(excl, session, amount)
    np.add.at(incl, session, amount + vat)
    parts = np.zeros((rows, DIMENSIONS), np.int64)
    np.add.at(parts.reshape(-1), session * DIMENSIONS + dimension, amount)
    return Costs(*_bounded(book, meters, excl, incl), parts)


def _steps(book: Book, meters: Meters, tariff: I64, session: I64, component: I64, place: I64) -> I64:
    """What step_size adds to each (session, component): to the last used of energy and of time, nothing to others."""
    extra = np.zeros(len(session), np.int64)
    for last in (meters.last_energy, meters.last_time):
        is_last = component == last[session]
        if not (is_last & (book.step[place] > 1)).any():
            continue
        wanted = np.where(last == NONE, NONE, book.dimension[book.price_base[tariff] + np.maximum(last, 0)])
        same = book.dimension[place] == wanted[session]
        total = np.zeros(len(meters.tariff), np.int64)
        np.add.at(total, session[same], meters.volume[session[same], component[same]])
        rows = np.flatnonzero(is_last)
        extra[rows] = -total[session[rows]] % book.step[place[rows]]
    return extra


def _bounded(book: Book, meters: Meters, excl: I64, incl: I64) -> tuple[I64, I64]:
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
        for row in np.flatnonzero(moved & ~says_incl).tolist():
            incl[row] = _in_proportion(int(incl[row]), int(bound_excl[row]), int(excl[row]))
        incl = np.where(beyond, bound_incl, incl)
        excl = np.where(moved, bound_excl, excl)
        incl, excl = (np.maximum(incl, excl), excl) if raising else (incl, np.minimum(excl, incl))
    return excl, incl


def _in_proportion(incl: int, bound_excl: int, excl: int) -> int:
    """Half up; whole numbers without limit, for two amounts are multiplied."""
    return (2 * incl * bound_excl + excl) // (2 * excl) if excl else bound_excl
