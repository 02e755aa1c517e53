"""The lines of documents. Pure."""

from typing import Final

import msgspec

CORRECTION: Final = "CORRECTION"
CREDIT: Final = "CREDIT"
"""Dimensions of lines that are of no component."""


class DocumentLine(msgspec.Struct, frozen=True):
    """A line of a document: a component of the tariff, an adjustment to its least or most price, the remark that the
    consumption was corrected (CORRECTION: an amount of 0), or a part that is credited (CREDIT: by rate of VAT)."""

    dimension: str
    element: int | None
    volume: int  # mWh, ms or times
    billed: int  # after step_size
    price_micros: int | None
    vat_ppm: int | None
    excl_micros: int
    incl_micros: int

    def negated(self) -> "DocumentLine":
        """The line that cancels this one."""
        return DocumentLine(
            self.dimension,
            self.element,
            -self.volume,
            -self.billed,
            self.price_micros,
            self.vat_ppm,
            -self.excl_micros,
            -self.incl_micros,
        )
