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


class Totals(msgspec.Struct, frozen=True):
    """Of one export, over all its documents."""

    documents: int
    currencies: dict[str, CurrencyTotals]

    def as_json(self) -> bytes:
        """One line, ASCII."""
        return msgspec.json.encode(self)


def totals_of(rows: Iterable[Mapping[str, Any]]) -> Totals:
    """From the store's rows, one a currency."""
    currencies = {
        row["currency"]: CurrencyTotals(
            documents=row["documents"],
            credit_notes=row["credit_notes"],
            total_excl_vat=format_micros(int(row["excl_micros"])),
            total_incl_vat=format_micros(int(row["incl_micros"])),
            payable_excl_vat=format_minor(int(row["payable_excl_minor"]), row["minor_digits"]),
            payable=format_minor(int(row["payable_minor"]), row["minor_digits"]),
        )
        for row in rows
    }
    return Totals(sum(one.documents for one in currencies.values()), currencies)
