"""The expected bills of the Bolite sessions under one tariff, computed from the readings without product code.

For this tariff and these readings only: no registers (energy is power held until the next reading), a zone without
daylight saving time, power in every reading. docs/adr/0009 defines the result.
"""

from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import pairwise
from math import ceil, floor
from typing import Any, Final, NamedTuple

from tests.proof.bolite import Reading

TIME_ZONE: Final = "Asia/Shanghai"
_UTC_OFFSET_MS: Final = 8 * 3_600_000

NIGHT, WEEKEND, BAND, LONG, ALWAYS = range(5)  # elements
_BAND_MWH, _LONG_MS = 20_000_000, 45 * 60_000


def _component(dimension: str, price: str, step_size: int, vat: str | None) -> dict[str, Any]:
    return {"type": dimension, "price": price, "step_size": step_size} | ({"vat": vat} if vat else {})


TARIFF: Final = {
    "id": "BOLITE-TOU",
    "currency": "CNY",
    "min_price": {"excl_vat": "12.50"},
    "elements": [
        {
            "price_components": [_component("ENERGY", "0.358713", 1, "13")],
            "restrictions": {"start_time": "23:00", "end_time": "07:00"},
        },
        {
            "price_components": [_component("ENERGY", "0.81", 1, "13")],
            "restrictions": {"day_of_week": ["SATURDAY", "SUNDAY"]},
        },
        {"price_components": [_component("ENERGY", "1.2455", 500, "13")], "restrictions": {"min_kwh": "20"}},
        {
            "price_components": [_component("TIME", "3.00", 60, "6")],
            "restrictions": {"min_duration": _LONG_MS // 1_000},
        },
        {
            "price_components": [
                _component("ENERGY", "0.9561", 100, "13"),
                _component("PARKING_TIME", "7.77", 300, "6"),
                _component("FLAT", "1.015", 1, None),
            ]
        },
    ],
}
# (element, dimension) -> micro-units of CNY per kWh, h or session; mWh or ms that are charged in one step; VAT in %
_PRICES: Final = {
    (NIGHT, "ENERGY"): (358_713, 1_000, 13),
    (WEEKEND, "ENERGY"): (810_000, 1_000, 13),
    (BAND, "ENERGY"): (1_245_500, 500_000, 13),
    (LONG, "TIME"): (3_000_000, 60_000, 6),
    (ALWAYS, "ENERGY"): (956_100, 100_000, 13),
    (ALWAYS, "PARKING_TIME"): (7_770_000, 300_000, 6),
    (ALWAYS, "FLAT"): (1_015_000, 1, None),
}
_UNIT: Final = {"ENERGY": 1_000_000, "TIME": 3_600_000, "PARKING_TIME": 3_600_000, "FLAT": 1}
_MIN_EXCL_MICROS: Final = 12_500_000
_UJ_PER_MWH: Final = 3_600_000


class Line(NamedTuple):
    """An invoice line, with the columns of billing.invoice_line."""

    element: int | None
    dimension: str
    volume: int
    billed: int
    price_micros: int | None
    vat_ppm: int | None
    excl_micros: int
    incl_micros: int


class Bill(NamedTuple):
    """The expected bill of a session."""

    energy_uj: int
    readings: int
    lines: tuple[Line, ...]
    excl_micros: int
    incl_micros: int
    payable_fen: int


def bill(readings: Sequence[Reading]) -> Bill:
    """The bill of a session's readings, in any order."""
    rows = sorted(readings, key=lambda reading: (reading.ts, reading.seq))
    used = {(ALWAYS, "FLAT"): 1}
    last: dict[str, tuple[int, str]] = {}
    energy_uj = 0
    for before, now in pairwise(rows):
        after_uj = energy_uj + before.power_mw * (now.ts - before.ts)
        cut = _cut(rows[0].ts, before.ts, now.ts, energy_uj // _UJ_PER_MWH, after_uj // _UJ_PER_MWH)
        for (at_ms, at_mwh), (end_ms, end_mwh) in pairwise(cut):
            pieces = (
                ("energy", (_energy_element(at_ms, at_mwh), "ENERGY"), end_mwh - at_mwh),
                ("time", _time_component(before, at_ms - rows[0].ts), end_ms - at_ms),
            )
            for what, component, quantity in pieces:
                if component is not None and quantity:
                    used[component] = used.get(component, 0) + quantity
                    last[what] = component
        energy_uj = after_uj
    return Bill(energy_uj, len(rows), *_priced(used, list(last.values())))


def _cut(first_ms: int, since_ms: int, until_ms: int, since_mwh: int, until_mwh: int) -> list[tuple[int, int]]:
    """(moment, energy so far) of an interval's ends and of the moments between at which this tariff may change."""
    rise_mwh, length_ms = until_mwh - since_mwh, until_ms - since_ms
    day_ms = 86_400_000
    midnight_ms = (since_ms + _UTC_OFFSET_MS) // day_ms * day_ms - _UTC_OFFSET_MS
    moments = [midnight_ms + hour * 3_600_000 for hour in (7, 23, 24, 31, 47, 48)] + [first_ms + _LONG_MS]
    cut = [(ms, since_mwh + rise_mwh * (ms - since_ms) // length_ms) for ms in moments if since_ms < ms < until_ms]
    if since_mwh < _BAND_MWH < until_mwh:
        cut.append((since_ms + ceil(Fraction((_BAND_MWH - since_mwh) * length_ms, rise_mwh)), _BAND_MWH))
    return [(since_ms, since_mwh), *sorted(cut), (until_ms, until_mwh)]


def _energy_element(at_ms: int, at_mwh: int) -> int:
    days, of_day_ms = divmod(at_ms + _UTC_OFFSET_MS, 86_400_000)
    if not 7 <= of_day_ms // 3_600_000 < 23:
        return NIGHT
    if (days + 3) % 7 >= 5:  # 1970-01-01 was a Thursday
        return WEEKEND
    return BAND if at_mwh >= _BAND_MWH else ALWAYS


def _time_component(held: Reading, duration_ms: int) -> tuple[int, str] | None:
    charging = held.power_mw > 0  # true for these readings, and consistent with those that have a status
    if not charging:
        return ALWAYS, "PARKING_TIME"
    return (LONG, "TIME") if duration_ms >= _LONG_MS else None


def _priced(used: dict[tuple[int, str], int], last: list[tuple[int, str]]) -> tuple[tuple[Line, ...], int, int, int]:
    lines = list(_lines(used, last))
    excl, incl = sum(line.excl_micros for line in lines), sum(line.incl_micros for line in lines)
    if excl < _MIN_EXCL_MICROS:
        raised = max(_half_up(Fraction(incl * _MIN_EXCL_MICROS, excl)), _MIN_EXCL_MICROS)
        lines.append(Line(None, "MIN_PRICE", 1, 1, None, None, _MIN_EXCL_MICROS - excl, raised - incl))
        excl, incl = _MIN_EXCL_MICROS, raised
    return tuple(lines), excl, incl, _half_up(Fraction(incl, 10_000))


def _lines(used: dict[tuple[int, str], int], last: list[tuple[int, str]]) -> Iterator[Line]:
    for component in sorted(used):
        (element, dimension), (price_micros, step, vat_pct) = component, _PRICES[component]
        billed = used[component]
        if component in last:
            billed += -sum(volume for (_, other), volume in used.items() if other == dimension) % step
        excl = _half_up(Fraction(billed * price_micros, _UNIT[dimension]))
        vat = _half_up(Fraction(excl * (vat_pct or 0), 100))
        ppm = None if vat_pct is None else vat_pct * 10_000
        yield Line(element, dimension, used[component], billed, price_micros, ppm, excl, excl + vat)


def _half_up(value: Fraction) -> int:
    return floor(value + Fraction(1, 2))
