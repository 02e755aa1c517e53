"""Tariffs compiled for the kernels: OCPI documents and time zones into a TariffTable (kernels/tariff_table).

One `CompiledTariffs` a partition, filled as sessions need them. Versions never change, so what is compiled stays; what
follows the calendar is computed by spans of 32 days, when a session is in one.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

import numpy as np

from schemas.session import UsageKind
from schemas.tariff import Dimension, Price, PriceComponent, Reservation, TariffRestrictions
from streams.kernels.runs import I64, Bools, rows_where, union
from streams.kernels.tariff_table import (
    CALENDAR,
    CURRENT,
    DIMENSIONS,
    DURATION,
    KEY_BITS,
    KINDS,
    MWH,
    NONE,
    POWER,
    Masks,
    PiecewiseMasks,
    TariffTable,
)
from streams.tariffs.calendar import SPAN_MS, changes, follows_calendar
from streams.tariffs.version import TariffVersion

SPANS_MAX: Final = 50_000  # (tariff, span) kept; ~100 changes each: 80 MB. Beyond, all are computed again
_SPAN_BITS: Final = 24  # of a span's number since 1970: 1.4 million years
_MICRO: Final = Decimal(1_000_000)
_DIMENSIONS: Final = (
    Dimension.ENERGY,
    Dimension.TIME,
    Dimension.PARKING_TIME,
    Dimension.FLAT,
)  # as in kernels/tariff_table
_PRICE_BOUNDS: Final = ("min_excl", "min_incl", "max_excl", "max_incl")
# A used reservation is priced before the session is, which can only cost more; an expired one is of no session.
_BOUNDS_OF: Final = {
    UsageKind.CHARGING: ("min", "max"),
    UsageKind.RESERVATION: ("max",),
    UsageKind.RESERVATION_EXPIRED: (),
}
_ALL: Final = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class CompiledComponent:
    """A priced dimension of an element: consumption is counted by these."""

    element: int
    bit: int  # of its element: elements are examined in this order
    place: int  # in its element
    dimension: Dimension
    price: PriceComponent


@dataclass(slots=True)
class _Compiled:
    """A version's part of the tables, so that another version costs little."""

    version: TariffVersion
    components: list[CompiledComponent]
    restrictions: list[TariffRestrictions]  # by bit
    active: int  # mask of elements that apply to this kind of use at all
    by_calendar: bool
    masks: list[tuple[I64, Masks]]  # by kind of restriction: values, and the mask from each on
    constant: list[bool]  # by kind
    component_of: list[int]  # as TariffTable's
    having: list[int]  # by dimension
    flat_bounded: dict[int, bool]  # as TariffTable's
    prices: I64  # (4, components): dimension, price_micros, vat_ppm, step_size
    bounds: list[int]  # by _PRICE_BOUNDS


class CompiledTariffs:
    """The tariffs of a partition. `place` of a version is its row in the table."""

    def __init__(self, width: int = 1) -> None:
        """`width`: of TariffUsage made before; it never falls, for rows of it are mixed with new ones."""
        self._compiled: list[_Compiled] = []
        self._place: dict[tuple[int, UsageKind], int] = {}
        self._spans: dict[int, tuple[I64, Masks]] = {}  # place << _SPAN_BITS | span -> moments, masks
        self._computed: I64 = np.empty(0, np.int64)  # their keys, ascending
        self._followed: Bools = np.empty(0, np.bool_)  # by place: whether the calendar matters
        self._ascending: I64 | None = None  # (2, versions): keys of those for sessions and 0, their places
        self._table: TariffTable | None = None
        self.width = width  # of TariffUsage: the most components of a tariff

    def __len__(self) -> int:
        return len(self._compiled)

    def add(self, version: TariffVersion, kind: UsageKind = UsageKind.CHARGING) -> int:
        """Compile a version for sessions (CHARGING) or for reservations of that kind; its place."""
        place = self._place.get((version.key, kind))
        if place is None:
            compiled = _compile(version, kind)
            place = self._place[version.key, kind] = len(self._compiled)
            self._compiled.append(compiled)
            self.width = max(self.width, len(compiled.components))
            self._table = self._ascending = None
        return place

    def unknown(self, keys: I64) -> list[int]:
        """Which of these versions are not compiled; 0 is no version."""
        return [key for key in np.unique(keys).tolist() if key and (key, UsageKind.CHARGING) not in self._place]

    def places(self, keys: I64) -> I64:
        """Places of versions by their keys; NONE for key 0 (no tariff). KeyError for one that is not compiled: taken
        for none, it would make the session free of charge."""
        if self._ascending is None:
            of_sessions = [(key, place) for (key, kind), place in self._place.items() if kind == UsageKind.CHARGING]
            self._ascending = np.array(sorted([(0, NONE), *of_sessions]), np.int64).T.copy()
        known, place = self._ascending
        at = np.minimum(np.searchsorted(known, keys), len(known) - 1)
        if (known[at] != keys).any():
            raise KeyError(f"tariff versions are not compiled: {self.unknown(keys)}")
        places: I64 = place[at]
        return places

    def versions(self, keys: Iterable[int]) -> dict[int, TariffVersion]:
        """Those versions by their keys; 0 and those not compiled are left out."""
        places = {key: self._place.get((key, UsageKind.CHARGING)) for key in keys}
        return {key: self._compiled[place].version for key, place in places.items() if place is not None}

    def components(self, place: int) -> list[CompiledComponent]:
        """The components that TariffUsage counts, in order."""
        return self._compiled[place].components

    def table(self, place: I64, first_ms: I64, last_ms: I64) -> TariffTable:
        """The table, with the calendar of these tariffs from first to last moment, row by row."""
        changed = self._cover(place, first_ms, last_ms)
        if self._table is None or changed:
            self._table = self._make_table()
        return self._table

    def _cover(self, place: I64, first_ms: I64, last_ms: I64) -> bool:
        """Compute the spans that are missing. Returns whether there were any."""
        if len(self._followed) != len(self._compiled):
            self._followed = np.array([compiled.by_calendar for compiled in self._compiled], np.bool_)
        followed = self._followed
        rows = rows_where((place != NONE) & followed[place]) if len(followed) else np.empty(0, np.int64)
        if not len(rows):
            return False
        missing = self._missing(place[rows], first_ms[rows] // SPAN_MS, last_ms[rows] // SPAN_MS)
        if len(self._spans) + len(missing) > SPANS_MAX:
            self._spans.clear()
            self._computed = np.empty(0, np.int64)
            missing = self._missing(place[rows], first_ms[rows] // SPAN_MS, last_ms[rows] // SPAN_MS)
        for packed in missing:
            at, span = packed >> _SPAN_BITS, packed & ((1 << _SPAN_BITS) - 1)
            compiled = self._compiled[at]
            zone = compiled.version.time_zone
            self._spans[packed] = changes(compiled.restrictions, compiled.active, zone, span * SPAN_MS)
        if missing:
            self._computed = np.array(sorted(self._spans), np.int64)
        return bool(missing)

    def _missing(self, place: I64, first: I64, last: I64) -> list[int]:
        wanted, later = (place << _SPAN_BITS) | first, np.empty(0, np.int64)
        long = rows_where(last > first)
        if len(long):
            of_long = zip(place[long].tolist(), first[long].tolist(), last[long].tolist(), strict=True)
            spans = {(at << _SPAN_BITS) | span for at, begin, end in of_long for span in range(begin + 1, end + 1)}
            later = np.array(sorted(spans), np.int64)
        wanted = union(wanted, later)
        if len(self._computed):
            nearest = np.minimum(np.searchsorted(self._computed, wanted), len(self._computed) - 1)
            wanted = wanted[self._computed[nearest] != wanted]
        missing: list[int] = wanted.tolist()
        return missing

    def _make_table(self) -> TariffTable:
        compiled = self._compiled
        counts = np.array([len(c.components) for c in compiled], np.int64)
        bounds = np.array([c.bounds for c in compiled], np.int64).reshape(-1, len(_PRICE_BOUNDS)).T
        # One more at the end that costs nothing: a last tariff without components (all are of reservations) begins
        # there.
        nothing = np.array([[0], [0], [0], [1]])
        dimension, price_micros, vat_ppm, step_size = np.concatenate([*(c.prices for c in compiled), nothing], axis=1)
        return TariffTable(
            masks=[self._piecewise_masks(kind) for kind in range(KINDS)],
            having=list(np.array([c.having for c in compiled], np.uint64).reshape(-1, DIMENSIONS).T.copy()),
            flat_bounded={kind: np.array([c.flat_bounded[kind] for c in compiled]) for kind in (POWER, CURRENT)},
            component_base=_begins([len(c.component_of) for c in compiled]),
            component_of=np.array([one for c in compiled for one in c.component_of], np.int64),
            price_base=_begins(counts.tolist()),
            components=counts,
            dimension=dimension,
            price_micros=price_micros,
            vat_ppm=vat_ppm,
            step_size=step_size,
            bounds_micros=dict(zip(_PRICE_BOUNDS, bounds.copy(), strict=True)),
        )

    def _piecewise_masks(self, kind: int) -> PiecewiseMasks:
        constant = np.array([c.constant[kind] for c in self._compiled], np.bool_)
        places: list[int] = []
        parts: list[tuple[I64, Masks]] = []
        if kind == CALENDAR:
            for packed in self._computed.tolist():
                places.append(packed >> _SPAN_BITS)
                parts.append(self._spans[packed])
        for place, compiled in enumerate(self._compiled):
            if not (kind == CALENDAR and compiled.by_calendar):
                places.append(place)
                parts.append(compiled.masks[kind])
        values = np.concatenate([np.empty(0, np.int64), *(values for values, _ in parts)])
        key = (np.repeat(places, [len(values) for values, _ in parts]).astype(np.int64) << KEY_BITS) | values
        mask = np.concatenate([np.empty(0, np.uint64), *(masks for _, masks in parts)])
        if kind == CALENDAR:  # the others are in order
            order = np.argsort(key, kind="stable")
            key, mask = key[order], mask[order]
        return PiecewiseMasks(key, mask, constant)


def _compile(version: TariffVersion, kind: UsageKind) -> _Compiled:
    elements, allowed = version.tariff.elements, _ALLOWED[kind]
    by_place = [element.restrictions or TariffRestrictions() for element in elements]
    first_of_all = [place for place, r in enumerate(by_place) if r.reservation == allowed[0]]
    order = [*first_of_all, *(place for place in range(len(elements)) if place not in first_of_all)]
    restrictions = [by_place[place] for place in order]
    active = sum(1 << bit for bit, r in enumerate(restrictions) if r.reservation in allowed)
    components = []
    for bit, place in enumerate(order):
        for dimension in _DIMENSIONS:
            written = enumerate(elements[place].price_components)
            first = next((number for number, c in written if c.type == dimension), None)
            if first is not None and active >> bit & 1:
                price = elements[place].price_components[first]
                components.append(CompiledComponent(place, bit, first, dimension, price))
    by_calendar = any(follows_calendar(r) for r in restrictions)
    masks = [_thresholds(restrictions, of_kind) for of_kind in range(KINDS)]
    everything = (1 << len(restrictions)) - 1
    prices = [(_DIMENSIONS.index(c.dimension), *_rates(c), _step_size(c)) for c in components]
    return _Compiled(
        version,
        components,
        restrictions,
        active,
        by_calendar,
        masks=[(np.array([v for v, _ in s], np.int64), np.array([m for _, m in s], np.uint64)) for s in masks],
        constant=[
            not (of_kind == CALENDAR and by_calendar) and all(mask & everything == everything for _, mask in pieces)
            for of_kind, pieces in enumerate(masks)
        ],
        component_of=_component_of(components, len(restrictions)),
        having=[sum(1 << c.bit for c in components if c.dimension == dimension) for dimension in _DIMENSIONS],
        flat_bounded={of_kind: _flat_bounded(components, restrictions, of_kind) for of_kind in (POWER, CURRENT)},
        prices=np.array(prices, np.int64).reshape(-1, 4).T,
        bounds=[_bound(version, name) if name.split("_")[0] in _BOUNDS_OF[kind] else NONE for name in _PRICE_BOUNDS],
    )


# Of each kind of use, the elements that are for it; those with the first are examined before the others.
_ALLOWED: Final[dict[UsageKind, tuple[Reservation | None, ...]]] = {
    UsageKind.CHARGING: (None,),
    UsageKind.RESERVATION: (Reservation.RESERVATION,),
    UsageKind.RESERVATION_EXPIRED: (Reservation.RESERVATION_EXPIRES, Reservation.RESERVATION),
}


def _component_of(components: Sequence[CompiledComponent], elements: int) -> list[int]:
    table = [NONE] * (elements * DIMENSIONS)
    for number, component in enumerate(components):
        table[component.bit * DIMENSIONS + _DIMENSIONS.index(component.dimension)] = number
    return table


def _begins(lengths: Sequence[int]) -> I64:
    return np.concatenate([[0], np.cumsum(lengths)[:-1]]).astype(np.int64)


def _step_size(component: CompiledComponent) -> int:
    """Wh and s as mWh and ms; 1 where nothing is rounded."""
    return (
        component.price.step_size * 1_000 if component.dimension != Dimension.FLAT and component.price.step_size else 1
    )


def _rates(component: CompiledComponent) -> tuple[int, int]:
    """price_micros and vat_ppm."""
    return int(component.price.price * _MICRO), int((component.price.vat or 0) * 10_000)


def _bound(version: TariffVersion, name: str) -> int:
    bound, part = name.split("_")
    price: Price | None = getattr(version.tariff, f"{bound}_price")
    value = None if price is None else getattr(price, f"{part}_vat")
    return NONE if value is None else int(value * _MICRO)


# -- step functions that do not follow the calendar ---------------------------------------------------------------

_BOUNDS: Final = {  # kind -> (lower field, upper field, what one of its unit is in the kernels')
    MWH: ("min_kwh", "max_kwh", 1_000_000),
    DURATION: ("min_duration", "max_duration", 1_000),
    POWER: ("min_power", "max_power", 1_000_000),
    CURRENT: ("min_current", "max_current", 1_000),
}


def _flat_bounded(
    components: Sequence[CompiledComponent], restrictions: Sequence[TariffRestrictions], kind: int
) -> bool:
    lower, upper, _ = _BOUNDS[kind]
    with_flat = [restrictions[c.bit] for c in components if c.dimension == Dimension.FLAT]
    return any(getattr(r, bound) is not None for r in with_flat for bound in (lower, upper))


def _thresholds(restrictions: Sequence[TariffRestrictions], kind: int) -> list[tuple[int, int]]:
    """(value, mask from there on), ascending from 0."""
    if kind == CALENDAR:
        return [(0, _ALL)]
    lower, upper, unit = _BOUNDS[kind]
    bounds = [
        (0 if low is None else int(low * unit), None if high is None else int(high * unit))
        for r in restrictions
        for low, high in [(getattr(r, lower), getattr(r, upper))]
    ]
    values = {0, *(low for low, _ in bounds), *(high for _, high in bounds if high is not None)}
    return [
        (value, _mask_of(low <= value and (high is None or value < high) for low, high in bounds))
        for value in sorted(values)
    ]


def _mask_of(holds: Iterable[bool]) -> int:
    return sum(1 << place for place, one in enumerate(holds) if one)
