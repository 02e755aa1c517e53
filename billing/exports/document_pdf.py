"""Renders an invoice or a credit note as PDF. Pure: the same document gives the same bytes."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

from fpdf import FPDF
from fpdf.enums import XPos, YPos

from billing.invoices.models import InvoiceDetail, Line

_MARGIN_MM: Final = 18
_LEFT_MM: Final = 34  # of a label before its value
_ROW_MM: Final = 5.5
_GREY: Final = (95, 95, 95)
_RULE: Final = (190, 190, 190)
_BLACK: Final = (0, 0, 0)
_ENCODING: Final = "cp1252"  # what PDF's own fonts have, which need not be embedded

_TITLES: Final = {"invoice": "Invoice", "credit_note": "Credit note"}
_DIMENSIONS: Final = {
    "ENERGY": "Energy",
    "FLAT": "Start fee",
    "TIME": "Charging time",
    "PARKING_TIME": "Parking time",
    "MIN_PRICE": "Raised to the least price",
    "MAX_PRICE": "Lowered to the highest price",
}
_STATES: Final = {
    "open": "To be paid",
    "paid": "Paid",
    "credited": "Replaced by a corrected invoice",
    "cancelled": "Cancelled: nothing is to be paid",
}
_REFUND_STATES: Final = {
    "open": "To be refunded",
    "paid": "Refunded",
    "settled": "Nothing to be refunded: the invoice had not been paid",
}
_PAYABLE: Final = {
    ("invoice", "open"): "To pay",
    ("invoice", "paid"): "Paid",
    ("credit_note", "open"): "To refund",
    ("credit_note", "paid"): "Refunded",
}
_BOUNDS: Final = ("MIN_PRICE", "MAX_PRICE")
_MONEY: Final = ("Excl. VAT", "VAT", "Incl. VAT")
_LINE_HEADINGS: Final = ("", "Quantity", "Price", "VAT")
_LINE_COLUMNS: Final = ("L", "R", "R", "R", "R", "R")
_LINE_WIDTHS_MM: Final = (50, 26, 26, 16, 28, 28)
_VAT_COLUMNS: Final = ("L", "R", "R", "R")
_VAT_WIDTHS_MM: Final = (50, 40, 40, 44)


class Seller(NamedTuple):
    """The seller."""

    name: str
    address: tuple[str, ...]  # its lines
    vat_id: str
    contact: str


def render_pdf(document: InvoiceDetail, seller: Seller, credited: str | None) -> bytes:
    """The PDF. `credited`: of a credit note, the number of the invoice that it cancels."""
    page = _Page(document)
    page.head(seller)
    page.facts(_facts(document, credited))
    money = tuple(f"{heading} ({document.currency})" for heading in _MONEY)
    page.table((*_LINE_HEADINGS, money[0], money[2]), _lines(document), _LINE_COLUMNS, _LINE_WIDTHS_MM)
    page.table(("VAT rate", *money), _vat(document), _VAT_COLUMNS, _VAT_WIDTHS_MM)
    page.totals(_totals(document))
    page.notes(_notes(document))
    return page.finish()


def _facts(document: InvoiceDetail, credited: str | None) -> list[tuple[str, str]]:
    charge = document.charge
    zone = ZoneInfo(charge.time_zone) if charge.time_zone else ZoneInfo("UTC")
    place = document.station_id + (f", connector {charge.connector_id}" if charge.connector_id is not None else "")
    facts = [
        ("Number", document.number),
        ("Date", _moment(document.issued_at, zone)),
        ("Cancels invoice", credited or ""),
        ("Reason", document.reason),
        ("Customer", document.driver_id or ""),
        ("Station", place),
        ("Reservation", document.reservation_id or ""),
        ("Session", "" if document.session_id is None else str(document.session_id)),
        ("Session at station", charge.device_session_id or ""),
        ("From", _moment(charge.started_at, zone)),
        ("To", _moment(charge.ended_at, zone)),
        ("Duration", _duration(charge.ended_at - charge.started_at)),
        ("Energy", f"{_trimmed(charge.energy_kwh, 3)} kWh" + (" (estimated)" if charge.estimated else "")),
    ]
    return [(label, value) for label, value in facts if value]


def _lines(document: InvoiceDetail) -> list[tuple[str, ...]]:
    return [
        (
            _DIMENSIONS[line.dimension] if document.session_id or line.dimension != "TIME" else "Reserved time",
            f"{_trimmed(line.volume, 3)} {line.unit}" if line.volume and line.unit != "session" else line.volume or "",
            f"{_trimmed(line.price, 2)}{'' if line.unit == 'session' else f' / {line.unit}'}" if line.price else "",
            "" if line.vat_pct is None else f"{line.vat_pct} %",
            _trimmed(line.amount_excl_vat, 2),
            _trimmed(line.amount_incl_vat, 2),
        )
        for line in document.lines
    ]


def _vat(document: InvoiceDetail) -> list[tuple[str, ...]]:
    """A row for each rate, highest first; then lines without a rate, then the adjustment to a minimum or maximum."""
    rates: dict[tuple[Decimal, str], list[Line]] = {}
    for line in document.lines:
        rates.setdefault(_rate(line), []).append(line)
    return [
        (name, *(_sum(lines, column) for column in ("amount_excl_vat", "vat", "amount_incl_vat")))
        for (_, name), lines in sorted(rates.items(), reverse=True)
    ]


def _rate(line: Line) -> tuple[Decimal, str]:
    """Its place among the rates, and its name."""
    if line.vat_pct is not None:
        return Decimal(line.vat_pct), f"{line.vat_pct} %"
    return (Decimal(-2), "Adjustment") if line.dimension in _BOUNDS else (Decimal(-1), "No VAT")


def _totals(document: InvoiceDetail) -> list[tuple[str, str]]:
    vat = Decimal(document.total_incl_vat) - Decimal(document.total_excl_vat)
    rounding = Decimal(document.payable) - Decimal(document.total_incl_vat)
    totals = [
        ("Total excl. VAT", _trimmed(document.total_excl_vat, 2)),
        ("VAT", _trimmed(f"{vat:f}", 2)),
        ("Total incl. VAT", _trimmed(document.total_incl_vat, 2)),
    ]
    if rounding:
        totals.append(("Rounding", _trimmed(f"{rounding:f}", 2)))
    label = _PAYABLE.get((document.kind, document.status), "Amount")
    return [*totals, (f"{label}, {document.currency}", document.payable)]


def _notes(document: InvoiceDetail) -> list[str]:
    state = _REFUND_STATES[document.status] if document.kind == "credit_note" else _STATES[document.status]
    paid = [payment for payment in document.payments if payment.status == "succeeded"]
    if paid:
        state += f" on {paid[-1].changed_at:%Y-%m-%d} by {paid[-1].provider}, reference {paid[-1].id}"
    amounts = f"Amounts are in {document.currency}. Rounding: {document.rounding}."
    return [f"{state}.", amounts, f"Document {document.id}"]


def _sum(lines: Sequence[Line], name: str) -> str:
    return _trimmed(f"{sum(Decimal(getattr(line, name)) for line in lines):f}", 2)


def _trimmed(number: str, digits: int) -> str:
    """Without zeros at the end, but for the first `digits` after the point: exact, and no longer than it need be."""
    whole, _, rest = number.partition(".")
    rest = rest.rstrip("0").ljust(digits, "0")
    return f"{whole}.{rest}" if rest else whole


def _duration(duration: timedelta) -> str:
    """`1 h 31 min 30 s`: whole seconds, cut off."""
    minutes, seconds = divmod(duration // timedelta(seconds=1), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min {seconds} s"


def _moment(moment: datetime, zone: ZoneInfo) -> str:
    local = moment.astimezone(zone)
    offset = local.strftime("%z")
    return f"{local:%Y-%m-%d %H:%M:%S} (UTC{offset[:3]}:{offset[3:]})"


class _Page:
    """The paper, from top to bottom."""

    def __init__(self, document: InvoiceDetail) -> None:
        self._pdf = FPDF(format="A4")
        self._pdf.core_fonts_encoding = _ENCODING
        self._pdf.set_creation_date(document.issued_at)  # and no other moment: the same bytes tomorrow
        self._pdf.set_title(f"{_TITLES[document.kind]} {document.number}")
        self._pdf.set_creator("voltstream")
        self._pdf.set_lang("en")
        self._pdf.set_margin(_MARGIN_MM)
        self._pdf.set_auto_page_break(True, _MARGIN_MM)
        self._pdf.add_page()
        self._title = _TITLES[document.kind]

    def head(self, seller: Seller) -> None:
        """The seller, and the kind of document."""
        self._font(12, bold=True)
        if seller.name:
            self._write(seller.name, 6)
        self._font(9, colour=_GREY)
        vat_id = f"VAT ID {seller.vat_id}" if seller.vat_id else ""
        for line in filter(None, (*seller.address, vat_id, seller.contact)):
            self._write(line, 4.5)
        self._pdf.ln(8)
        self._font(22, bold=True)
        self._write(self._title, 11)
        self._pdf.ln(2)

    def facts(self, facts: Sequence[tuple[str, str]]) -> None:
        """A label and its value a row."""
        for label, value in facts:
            self._font(9.5, colour=_GREY)
            self._pdf.cell(_LEFT_MM, _ROW_MM, label)
            self._font(9.5)
            self._pdf.multi_cell(0, _ROW_MM, _printable(value), align="L", new_x=XPos.LMARGIN, new_y=YPos.NEXT)
        self._pdf.ln(5)

    def table(
        self, headings: Sequence[str], rows: Sequence[Sequence[str]], alignments: Sequence[str], widths: Sequence[float]
    ) -> None:
        """Ruled above and below."""
        self._font(8.5, colour=_GREY)
        self._row(headings, alignments, widths)
        self._rule()
        self._font(9.5)
        for row in rows:
            self._row(row, alignments, widths)
        self._rule()
        self._pdf.ln(5)

    def totals(self, totals: Sequence[tuple[str, str]]) -> None:
        """Right, the last one large."""
        for place, (label, value) in enumerate(totals):
            last = place == len(totals) - 1
            if last:
                self._pdf.ln(1)
            self._font(13 if last else 9.5, bold=last)
            height = 8 if last else _ROW_MM
            self._pdf.cell(self._pdf.epw - 40, height, label, align="R")
            self._pdf.cell(40, height, value, align="R", new_x=XPos.LMARGIN, new_y=YPos.NEXT)
        self._pdf.ln(6)

    def notes(self, notes: Sequence[str]) -> None:
        """The state of the payment first."""
        for place, note in enumerate(notes):
            self._font(10.5 if place == 0 else 8.5, bold=place == 0, colour=_BLACK if place == 0 else _GREY)
            self._pdf.multi_cell(0, _ROW_MM, _printable(note), align="L", new_x=XPos.LMARGIN, new_y=YPos.NEXT)

    def finish(self) -> bytes:
        """The file."""
        return bytes(self._pdf.output())

    def _row(self, cells: Sequence[str], alignments: Sequence[str], widths: Sequence[float]) -> None:
        for text, align, width in zip(cells, alignments, widths, strict=True):
            self._pdf.cell(width, _ROW_MM, _printable(text), align=align)
        self._pdf.ln(_ROW_MM)

    def _rule(self) -> None:
        y = self._pdf.get_y() + 0.5
        self._pdf.set_draw_color(*_RULE)
        self._pdf.line(_MARGIN_MM, y, self._pdf.w - _MARGIN_MM, y)
        self._pdf.ln(1.5)

    def _write(self, text: str, height: float) -> None:
        self._pdf.multi_cell(0, height, _printable(text), align="L", new_x=XPos.LMARGIN, new_y=YPos.NEXT)

    def _font(self, size: float, *, bold: bool = False, colour: tuple[int, int, int] = _BLACK) -> None:
        self._pdf.set_font("Helvetica", "B" if bold else "", size)
        self._pdf.set_text_color(*colour)


def _printable(text: str) -> str:
    """With question marks for characters that the fonts do not have."""
    return text.encode(_ENCODING, "replace").decode(_ENCODING)
