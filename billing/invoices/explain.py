"""A document derived again: from readings, or a reservation's times, through the tariff to the amounts; where a newer
version of its charge has taken its place, from what its own CDR says was used. Pure."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from itertools import zip_longest
from typing import Any, Final
from zoneinfo import ZoneInfo

import msgspec

from billing import rating
from billing.currency import minor_digits, to_minor
from billing.documents import STANDING, CdrStatus, Invoice, InvoiceKind, Line, Rated, SubjectKind
from billing.errors import BadEvent
from billing.invoicing.rated import to_consumption, to_rated, zone_of
from billing.invoicing.tariffs import parse_tariff
from billing.readings_source import SessionReadings
from kit.clock import to_ms
from schemas.events import Consumption
from schemas.tariff import Tariff

_MICRO_DIGITS: Final = 6
_COUNTS: Final = ("step_size", "min_duration", "max_duration")  # of a tariff, what is no amount: Wh or s, s, s


@dataclass(frozen=True, slots=True)
class Derived:
    """What follows from what is stored."""

    usage: rating.Usage
    left_out: Sequence[rating.LeftOut]
    consumption: tuple[Consumption, ...]
    rated: Rated
    roundings: Sequence[rating.Rounding]

    def negated(self) -> "Derived":
        """As a credit note has it: what was used stays, amounts are below 0."""
        rated = self.rated
        lines = tuple(line.negated() for line in rated.lines)
        return replace(self, rated=Rated(rated.currency, lines, -rated.excl_micros, -rated.incl_micros))


def derive_session(tariff: Tariff, zone: ZoneInfo, stored: SessionReadings) -> Derived:
    """A session, from its stored readings. Raises NoReadings."""
    usage, left_out = rating.usage_of(stored.readings, stored.end_ms)
    return _derive(tariff, zone, usage, left_out)


def derive_reservation(tariff: Tariff, zone: ZoneInfo, cdr: Mapping[str, Any]) -> Derived:
    """A reservation, from its times. `cdr`: its columns."""
    expired = cdr["end_reason"] == "expired"
    usage = rating.reservation_usage(to_ms(cdr["started_at"]), to_ms(cdr["ended_at"]), expired=expired)
    return _derive(tariff, zone, usage, ())


def reprice(tariff: Tariff, cdr: Mapping[str, Any]) -> Derived:
    """A charge from what its CDR says was used. Raises BadEvent."""
    used = stored_consumption(cdr)
    try:
        rated = rating.price(tariff, used, bounded=cdr["subject_kind"] == SubjectKind.SESSION)
    except ValueError as error:
        raise BadEvent(str(error)) from error
    usage = rating.Usage(to_ms(cdr["started_at"]), 0, 0)
    return Derived(usage, (), used, to_rated(rated), [*rated.roundings, *_payable_rounding(rated)])


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
    """The document, its amounts and limits as decimal text, whole or not; seconds and steps stay integers."""
    document: dict[str, object] = json.loads(cdr["tariff"], parse_float=Decimal, object_hook=_plain_numbers)
    return document


def _plain_numbers(members: dict[str, object]) -> dict[str, object]:
    return {name: _plain(value) if name not in _COUNTS else value for name, value in members.items()}


def _plain(value: object) -> object:
    if isinstance(value, Decimal):
        return f"{value:f}"
    return str(value) if type(value) is int else value


def told_by(own: Mapping[str, Any], current: Mapping[str, Any] | None, invoice: Invoice) -> Mapping[str, Any] | None:
    """The CDR that the readings as they are now are to give, for this document to agree; None: they give a newer one,
    and the document is of its own CDR. `own`, `current`: of the document, of its subject."""
    if own["cdr_current"] or current is None:
        return own
    stands = invoice.kind is InvoiceKind.INVOICE and invoice.status in STANDING
    return current if stands and current["cdr_status"] == CdrStatus.INVOICED else None


def line_differences(derived: Derived, lines: Sequence[Line]) -> list[str]:
    """Where the lines of a document are not those that follow; empty where they are."""
    found = []
    for number, (stored, computed) in enumerate(zip_longest(lines, derived.rated.lines), 1):
        if stored != computed:
            found.append(f"line {number}: stored {_line_said(stored)}, computed {_line_said(computed)}")
    return found


def _line_said(line: Line | None) -> str:
    return "nothing" if line is None else f"{line.dimension} {line.billed}, {line.excl_micros}, {line.incl_micros}"


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
