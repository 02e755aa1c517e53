"""Renders an invoice or a credit note as PDF/A-3. Pure: the same document gives the same bytes.

Amounts are in the currency's digits: lines sum to the net amounts of their rates, those with VAT and the rounding to
what is to be paid (docs/adr/0010). The exact amounts are in the API's answer.
"""

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Final
from zoneinfo import ZoneInfo

from billing.invoices.models import InvoiceDetail, Party, PayableLine
from billing.lines import CREDIT
from kit.printing.paper import WIDTH_MM, Attachment, Paper, document_metadata

_TITLES: Final = {"invoice": "Invoice", "credit_note": "Credit note"}
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
_LINE_COLUMNS: Final = ("L", "R", "R", "R", "R")
_LINE_WIDTHS_MM: Final = (60, 32, 34, 18, 30)
_VAT_COLUMNS: Final = ("L", "R", "R", "R")
_VAT_WIDTHS_MM: Final = (54, 40, 40, 40)
_PRICE_DIGITS: Final = 2  # at the least
_PAID_BY_CREDIT: Final = {
    "invoice": "Paid by what was to be refunded to you",
    "credit_note": "Nothing is left to be refunded: it has paid the invoices above",
}
_SET_OFFS_MAX: Final = 5  # listed one by one
FACTURX_NAME: Final = "factur-x.xml"


def render_pdf(document: InvoiceDetail, xml: bytes | None = None) -> bytes:
    """The PDF. `xml`: the document as CII, which makes it a Factur-X invoice."""
    title = f"{_TITLES[document.kind]} {document.number}"
    paper = Paper(title, document.issued_at)
    seller = document.seller
    if seller.name:
        paper.text(seller.name, 12, bold=True)
    contact = [f"VAT ID {seller.vat_id}" if seller.vat_id else "", seller.contact]
    tax_number = f"Tax number {seller.tax_number}" if seller.tax_number else ""
    for line in filter(None, (*_address(seller), tax_number, *contact)):
        paper.text(line, 9, grey=True)
    paper.space(7)
    paper.text(title, 18, bold=True)
    paper.space(3)
    if document.customer is not None:
        paper.block(_customer(document), WIDTH_MM // 2)
        paper.space(3)
    paper.facts(_facts(document))
    paper.space(4)
    currency = document.currency
    headings = ("", "Quantity", f"Price ({currency})", "VAT", f"Net ({currency})")
    paper.table(headings, _lines(document), _LINE_COLUMNS, _LINE_WIDTHS_MM)
    money = tuple(f"{heading} ({currency})" for heading in ("Net", "VAT", "Gross"))
    paper.table(("VAT rate", *money), _vat(document), _VAT_COLUMNS, _VAT_WIDTHS_MM)
    paper.totals(_totals(document))
    for place, note in enumerate(_notes(document)):
        paper.text(note, 10 if place == 0 else 8.5, bold=place == 0, grey=place > 0)
        paper.space(1)
    attachment = None
    if xml is not None:
        attachment = Attachment(FACTURX_NAME, xml, "text/xml", "The invoice as structured data (Factur-X, EN 16931)")
    return paper.finish(attachment, _metadata(document, title, facturx=xml is not None))


def _address(party: Party) -> list[str]:
    address = party.address
    place = " ".join(filter(None, (address.postal_code, address.city)))
    return [*address.lines, *filter(None, (place, address.country))]


def _customer(document: InvoiceDetail) -> list[str]:
    customer = document.customer
    if customer is None:
        return []
    return [customer.name, *_address(customer), *([f"VAT ID {customer.vat_id}"] if customer.vat_id else [])]


def _facts(document: InvoiceDetail) -> list[tuple[str, str]]:
    charge = document.charge
    zone = ZoneInfo(charge.time_zone) if charge.time_zone else ZoneInfo("UTC")
    place = document.station_id + (f", connector {charge.connector_id}" if charge.connector_id is not None else "")
    credited = document.credits_number or ""
    if credited and document.credits_issued_on:
        credited += f" of {document.credits_issued_on}"
    facts = [
        ("Number", document.number),
        ("Date", _moment(document.issued_at, zone)),
        ("Due", "" if document.due_on is None else f"{document.due_on}"),
        ("Credits part of invoice" if _is_part(document) else "Cancels invoice", credited),
        ("Reason", document.reason),
        ("Your reference", "" if document.customer is None else document.customer.reference),
        ("Driver", document.driver_id or ""),
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


def _is_part(document: InvoiceDetail) -> bool:
    return all(line.dimension == CREDIT for line in document.payable_lines)


def _lines(document: InvoiceDetail) -> list[tuple[str, ...]]:
    """Of a collective invoice, a heading before the lines of each charge."""
    rows: list[tuple[str, ...]] = []
    group = ""
    for line in document.payable_lines:
        if line.group != group:
            group = line.group
            rows.append((group or "All charges",))
        rows.append(_line(line))
    return rows


def _line(line: PayableLine) -> tuple[str, ...]:
    quantity = line.volume if line.unit == "session" else f"{_trimmed(line.volume, 3)} {line.unit}"
    price = _trimmed(line.price, _PRICE_DIGITS) + ("" if line.unit == "session" else f" / {line.unit}")
    if line.kind != "line":
        quantity = price = ""
    return line.description, quantity, price, _rate(line.vat_pct), line.net


def _rate(vat_pct: str | None) -> str:
    return "no VAT" if vat_pct is None else f"{vat_pct} %"


def _vat(document: InvoiceDetail) -> list[tuple[str, ...]]:
    return [(_rate(rate.vat_pct), rate.net, rate.vat, rate.gross) for rate in document.vat]


def _totals(document: InvoiceDetail) -> list[tuple[str, str]]:
    totals = [("Total excl. VAT", document.payable_excl_vat), ("VAT", document.payable_vat)]
    if document.payable_rounding.strip("-0."):
        totals.append(("Rounding", document.payable_rounding))
    label = _PAYABLE.get((document.kind, document.status), "Amount")
    used = _set_off(document)
    if used:
        totals += [("Total incl. VAT", document.payable), *used]
    left = document.payable if document.amount_due is None else document.amount_due
    if document.refundable is not None and document.status != "settled":
        left = _less(document.refundable, document.set_off)
    if used and not left.strip("-0."):
        label = "To pay" if document.kind == "invoice" else "To refund"
    return [*totals, (f"{label}, {document.currency}", left)]


def _set_off(document: InvoiceDetail) -> list[tuple[str, str]]:
    """What of the total is not asked for, or does not go back by a refund, and why."""
    rows = []
    if document.refundable is not None and document.status != "settled" and document.refundable != document.payable:
        rows.append(("Had not been paid", _less(document.refundable, document.payable)))
    how = "Paid by credit note" if document.kind == "invoice" else "Pays invoice"
    if len(document.set_offs) > _SET_OFFS_MAX:
        return [*rows, (f"{how}s ({len(document.set_offs)})", _less("0", document.set_off))]
    sign = "-" if document.kind == "invoice" else ""
    return [*rows, *((f"{how} {one.number}", f"{sign}{one.amount}") for one in document.set_offs)]


def _less(amount: str, other: str) -> str:
    """The difference of two amounts of a currency."""
    return f"{Decimal(amount) - Decimal(other):f}"


def _notes(document: InvoiceDetail) -> list[str]:
    state = _REFUND_STATES[document.status] if document.kind == "credit_note" else _STATES[document.status]
    paid = [payment for payment in document.payments if payment.status == "succeeded"]
    if document.set_offs and not paid and document.status == "paid":
        state = _PAID_BY_CREDIT[document.kind]
    elif paid:
        state += f" on {paid[-1].changed_at:%Y-%m-%d} by {paid[-1].provider}, reference {paid[-1].id}"
    elif document.status == "open" and document.due_on is not None:
        state += f" by {document.due_on}"
    seller = document.seller
    account = f"Account: {seller.iban}{f', {seller.bic}' if seller.bic else ''}." if seller.iban else ""
    payment = account if document.status == "open" and document.kind == "invoice" else ""
    exempt = any(rate.vat_pct is None for rate in document.vat)
    amounts = f"Amounts are in {document.currency}. Rounding: {document.rounding}; VAT of each rate on its net amount."
    notes = [document.payment_terms, payment, f"VAT: {seller.vat_exemption}." if exempt else "", amounts]
    return [f"{state}.", *filter(None, notes), f"Document {document.id}"]


def _metadata(document: InvoiceDetail, title: str, *, facturx: bool) -> str:
    """With the extension schema of Factur-X 1.0, section 6.2."""
    described = _FACTURX_METADATA if facturx else ""
    return document_metadata(title, document.seller.name or "voltstream", document.issued_at, described)


_PROPERTIES: Final = {
    "DocumentFileName": (FACTURX_NAME, "name of the embedded XML invoice file"),
    "DocumentType": ("INVOICE", "INVOICE"),
    "Version": ("1.0", "The actual version of the Factur-X XML schema"),
    "ConformanceLevel": ("EN 16931", "The conformance level of the embedded Factur-X data"),
}
_NAMESPACE: Final = "urn:factur-x:pdfa:CrossIndustryDocument:invoice:1p0#"
_FACTURX_METADATA: Final = (
    f'\n<rdf:Description rdf:about="" xmlns:fx="{_NAMESPACE}">'
    + "".join(f"<fx:{name}>{value}</fx:{name}>" for name, (value, _) in _PROPERTIES.items())
    + '</rdf:Description>\n<rdf:Description rdf:about="" xmlns:pdfaExtension="http://www.aiim.org/pdfa/ns/extension/" '
    'xmlns:pdfaSchema="http://www.aiim.org/pdfa/ns/schema#" '
    'xmlns:pdfaProperty="http://www.aiim.org/pdfa/ns/property#"><pdfaExtension:schemas><rdf:Bag>'
    '<rdf:li rdf:parseType="Resource"><pdfaSchema:schema>Factur-X PDFA Extension Schema</pdfaSchema:schema>'
    f"<pdfaSchema:namespaceURI>{_NAMESPACE}</pdfaSchema:namespaceURI><pdfaSchema:prefix>fx</pdfaSchema:prefix>"
    "<pdfaSchema:property><rdf:Seq>"
    + "".join(
        f'<rdf:li rdf:parseType="Resource"><pdfaProperty:name>{name}</pdfaProperty:name>'
        "<pdfaProperty:valueType>Text</pdfaProperty:valueType><pdfaProperty:category>external</pdfaProperty:category>"
        f"<pdfaProperty:description>{description}</pdfaProperty:description></rdf:li>"
        for name, (_, description) in _PROPERTIES.items()
    )
    + "</rdf:Seq></pdfaSchema:property></rdf:li></rdf:Bag></pdfaExtension:schemas></rdf:Description>"
)


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
