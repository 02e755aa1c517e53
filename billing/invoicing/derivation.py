"""A charge derived a second time: from stored readings, or a reservation's times, through the tariff to the amounts.

The one derivation of billing: the check before an invoice is issued, `explain` and `reconcile` all use it. Pure.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final
from zoneinfo import ZoneInfo

import msgspec

from billing import rating
from billing.currency import minor_digits, to_minor
from billing.documents import ChargeAmount, DocumentLine, SubjectKind
from billing.errors import BadEvent
from billing.invoicing.amounts import charge_amount, to_consumption
from billing.readings_source import StoredReadings
from kit.clock import to_ms
from schemas.events import Consumption
from schemas.tariff import Reservation, Tariff

_MICRO_DIGITS: Final = 6


@dataclass(frozen=True, slots=True)
class Derived:
    """What follows from what is stored."""

    usage: rating.Usage
    left_out: Sequence[rating.IgnoredReading]
    consumption: tuple[Consumption, ...]
    amount: ChargeAmount
    roundings: Sequence[rating.RoundingStep]

    def with_line(self, line: DocumentLine) -> "Derived":
        """With another line, of no amount."""
        return replace(self, amount=msgspec.structs.replace(self.amount, lines=(*self.amount.lines, line)))

    def negated(self) -> "Derived":
        """As on a credit note: the same usage, amounts below 0."""
        return replace(self, amount=self.amount.negated())


def derive_session(
    tariff: Tariff, zone: ZoneInfo, stored: StoredReadings, reserved: rating.Reserved = rating.NOTHING_RESERVED
) -> Derived:
    """A session, from its stored readings. `reserved`: what the reservation cost that it used. Raises NoReadings."""
    usage, left_out = rating.usage_of(stored.readings, stored.before)
    return _derive(tariff, zone, usage, left_out, reserved)


def reserved_of(excl_micros: int | None, incl_micros: int | None) -> rating.Reserved:
    """What the reservation cost that a session used; None: it used none."""
    if excl_micros is None or incl_micros is None:
        return rating.NOTHING_RESERVED
    return rating.Reserved(excl_micros, incl_micros)


def derive_reservation(tariff: Tariff, zone: ZoneInfo, cdr: Mapping[str, Any]) -> Derived:
    """A reservation, from its times. `cdr`: its columns."""
    expired = _reservation_of(cdr) is Reservation.RESERVATION_EXPIRES
    usage = rating.reservation_usage(to_ms(cdr["started_at"]), to_ms(cdr["ended_at"]), expired=expired)
    return _derive(tariff, zone, usage, ())


def reprice(tariff: Tariff, cdr: Mapping[str, Any], consumption: tuple[Consumption, ...]) -> Derived:
    """A charge, from the consumption that its CDR has. Raises BadEvent."""
    try:
        reserved = reserved_of(cdr["reserved_excl_micros"], cdr["reserved_incl_micros"])
        rated = rating.price(tariff, consumption, bounds=rating.bounds_of(_reservation_of(cdr)), reserved=reserved)
    except ValueError as error:
        raise BadEvent(str(error)) from error
    usage = rating.Usage(to_ms(cdr["started_at"]), 0, 0)
    return Derived(usage, (), consumption, charge_amount(rated), [*rated.roundings, *_payable_roundings(rated)])


def _reservation_of(cdr: Mapping[str, Any]) -> Reservation | None:
    """How a reservation ended; None: it is of a session."""
    if cdr["subject_kind"] == SubjectKind.SESSION:
        return None
    return Reservation.RESERVATION_EXPIRES if cdr["end_reason"] == "expired" else Reservation.RESERVATION


def _derive(
    tariff: Tariff,
    zone: ZoneInfo,
    usage: rating.Usage,
    left_out: Sequence[rating.IgnoredReading],
    reserved: rating.Reserved = rating.NOTHING_RESERVED,
) -> Derived:
    used, rated = rating.rate_usage(tariff, zone, usage, reserved)
    roundings = [*rated.roundings, *_payable_roundings(rated)]
    return Derived(usage, left_out, to_consumption(used), charge_amount(rated), roundings)


def _payable_roundings(rated: rating.RatedUsage) -> list[rating.RoundingStep]:
    """The roundings of the document itself."""
    unit_micros: int = 10 ** (_MICRO_DIGITS - minor_digits(rated.currency))
    return [
        rating.RoundingStep(what, total, unit_micros, to_minor(total, rated.currency), "minor unit", "half up")
        for what, total in (("payable excl_vat", rated.total_excl_micros), ("payable", rated.total_incl_micros))
        if total % unit_micros
    ]


def differences(
    derived: Derived, consumption: Sequence[Consumption], currency: str, excl_micros: int, incl_micros: int
) -> list[str]:
    """Where these figures are not the derived ones, component by component and in total; empty if they agree."""
    found = []
    ours = {(one.element, one.dimension): one for one in derived.consumption}
    theirs = {(one.element, one.dimension): one for one in consumption}
    if len(theirs) < len(consumption):
        found.append("a component of the tariff is listed twice")
    for place in sorted(ours.keys() | theirs.keys()):
        stored, computed = theirs.get(place), ours.get(place)
        if stored != computed:
            element, dimension = place
            found.append(f"element {element} {dimension}: stored {_quantity(stored)}, computed {_quantity(computed)}")
    for name, stored_value, computed_value in (
        ("currency", currency, derived.amount.currency),
        ("total_excl_vat", excl_micros, derived.amount.excl_micros),
        ("total_incl_vat", incl_micros, derived.amount.incl_micros),
    ):
        if stored_value != computed_value:
            found.append(f"{name}: stored {stored_value}, computed {computed_value}")
    return found


def line_differences(derived: Derived, lines: Sequence[DocumentLine]) -> list[str]:
    """Where the lines of a document are not the derived ones, component by component; empty if they agree.

    In which order they stand on the document is no matter of money.
    """
    computed = {(line.element, line.dimension): line for line in derived.amount.lines}
    found = []
    for number, stored in enumerate(lines, 1):
        ours = computed.pop((stored.element, stored.dimension), None)
        if stored != ours:
            found.append(f"line {number}: stored {_line(stored)}, computed {_line(ours)}")
    return found + [f"no line: stored nothing, computed {_line(ours)}" for ours in computed.values()]


def _quantity(one: Consumption | None) -> str:
    return "nothing" if one is None else f"{one.volume} since {one.since}{' (last)' if one.last else ''}"


def _line(line: DocumentLine | None) -> str:
    return "nothing" if line is None else f"{line.dimension} {line.billed}, {line.excl_micros}, {line.incl_micros}"
