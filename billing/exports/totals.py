"""The sums of an export, for its header or a terminal. Pure."""

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from billing.currency import format_micros, format_minor


class CurrencyTotals(msgspec.Struct, frozen=True):
    """Sums over an export's documents of one currency; a credit note's amounts are below 0."""

    documents: int
    credit_notes: int
    total_excl_vat: str
    total_incl_vat: str
    payable_excl_vat: str
    payable: str
    set_off: str  # paid by credit notes, less what credit notes have paid


class DocumentTotals(msgspec.Struct, frozen=True):
    """Over some documents."""

    documents: int
    currencies: dict[str, CurrencyTotals]


class Totals(msgspec.Struct, frozen=True, omit_defaults=True):
    """Of one export, over all its documents."""

    documents: int
    currencies: dict[str, CurrencyTotals]
    left_out: DocumentTotals | None = None  # documents that are not in the file; none: all are

    def as_json(self) -> bytes:
        """One line, ASCII."""
        return msgspec.json.encode(self)


def totals_of(rows: Iterable[Mapping[str, Any]]) -> Totals:
    """From the store's rows, one a currency; of OCPI's CDRs those that are `left_out` apart."""
    exported: list[Mapping[str, Any]] = []
    left_out: list[Mapping[str, Any]] = []
    for row in rows:
        (left_out if row.get("left_out") else exported).append(row)
    inside, outside = _sums(exported), _sums(left_out)
    return Totals(inside.documents, inside.currencies, outside if outside.documents else None)


def _sums(rows: Iterable[Mapping[str, Any]]) -> DocumentTotals:
    currencies = {
        row["currency"]: CurrencyTotals(
            documents=int(row["documents"]),
            credit_notes=int(row["credit_notes"]),
            total_excl_vat=format_micros(int(row["excl_micros"])),
            total_incl_vat=format_micros(int(row["incl_micros"])),
            payable_excl_vat=format_minor(int(row["payable_excl_minor"]), row["minor_digits"]),
            payable=format_minor(int(row["payable_minor"]), row["minor_digits"]),
            set_off=format_minor(int(row["set_off_minor"]), row["minor_digits"]),
        )
        for row in rows
    }
    return DocumentTotals(sum(one.documents for one in currencies.values()), currencies)
