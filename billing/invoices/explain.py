"""An invoice derived again: from readings, or a reservation's times, through the tariff to the amounts. Pure."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final
from zoneinfo import ZoneInfo

import msgspec

from billing import rating
from billing.currency import minor_digits, to_minor
from billing.documents import Rated
from billing.posting.rated import to_consumption, to_rated, zone_of
from billing.posting.tariffs import parse_tariff
from billing.readings_source import SessionReadings
from kit.clock import to_ms
from schemas.events import Consumption
from schemas.tariff import Tariff

_MICRO_DIGITS: Final = 6


@dataclass(frozen=True, slots=True)
class Derived:
    """What follows from what is stored."""

    usage: rating.Usage
    left_out: Sequence[rating.LeftOut]
    consumption: tuple[Consumption, ...]
    rated: Rated
    roundings: Sequence[rating.Rounding]


def derive_session(tariff: Tariff, zone: ZoneInfo, stored: SessionReadings) -> Derived:
    """A session, from its stored readings. Raises NoReadings."""
    usage, left_out = rating.usage_of(stored.readings, stored.end_ms)
    return _derive(tariff, zone, usage, left_out)


def derive_reservation(tariff: Tariff, zone: ZoneInfo, cdr: Mapping[str, Any]) -> Derived:
    """A reservation, from its times. `cdr`: its columns."""
    expired = cdr["end_reason"] == "expired"
    usage = rating.reservation_usage(to_ms(cdr["started_at"]), to_ms(cdr["ended_at"]), expired=expired)
    return _derive(tariff, zone, usage, ())


def _derive(tariff: Tariff, zone: ZoneInfo, usage: rating.Usage, left_out: Sequence[rating.LeftOut]) -> Derived:
    used, rated = rating.rate_usage(tariff, zone, usage)
    roundings = [*rated.roundings, *_payable_rounding(rated)]
    return Derived(usage, left_out, to_consumption(used), to_rated(rated), roundings)


def _payable_rounding(rated: rating.Rated) -> list[rating.Rounding]:
    """What the document itself rounds."""
    unit_micros: int = 10 ** (_MICRO_DIGITS - minor_digits(rated.currency))
    return [
        rating.Rounding(what, total, unit_micros, to_minor(total, rated.currency), "minor unit", "half up")
        for what, total in (("payable excl_vat", rated.total_excl_micros), ("payable", rated.total_incl_micros))
        if total % unit_micros
    ]


def tariff_of(cdr: Mapping[str, Any]) -> tuple[Tariff, ZoneInfo]:
    """The tariff and the zone that a CDR was priced by. Raises BadEvent."""
    return parse_tariff(cdr["tariff"]), zone_of(cdr["time_zone"])


def stored_consumption(cdr: Mapping[str, Any]) -> tuple[Consumption, ...]:
    """What the stream said was used."""
    return msgspec.json.decode(cdr["consumption"], type=tuple[Consumption, ...])


def plain_tariff(cdr: Mapping[str, Any]) -> dict[str, object]:
    """The document, its numbers as text where they are no integers."""
    document: dict[str, object] = json.loads(cdr["tariff"], parse_float=lambda text: str(Decimal(text)))
    return document


def differences(
    derived: Derived, consumption: Sequence[Consumption], currency: str, excl_micros: int, incl_micros: int
) -> list[str]:
    """Where what is stored is not what follows; empty where it is."""
    found = []
    ours = {(one.element, one.dimension): one for one in derived.consumption}
    theirs = {(one.element, one.dimension): one for one in consumption}
    for place in sorted(ours.keys() | theirs.keys()):
        stored, computed = theirs.get(place), ours.get(place)
        if stored != computed:
            element, dimension = place
            found.append(f"element {element} {dimension}: stored {_said(stored)}, computed {_said(computed)}")
    for name, stored_value, computed_value in (
        ("currency", currency, derived.rated.currency),
        ("total_excl_vat", excl_micros, derived.rated.excl_micros),
        ("total_incl_vat", incl_micros, derived.rated.incl_micros),
    ):
        if stored_value != computed_value:
            found.append(f"{name}: stored {stored_value}, computed {computed_value}")
    return found


def _said(one: Consumption | None) -> str:
    return "nothing" if one is None else f"{one.volume} since {one.since}{' (last)' if one.last else ''}"
