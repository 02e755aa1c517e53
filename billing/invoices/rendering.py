"""From stored documents to answers. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final
from uuid import UUID

from billing import documents
from billing.currency import format_micros, format_minor
from billing.customers.document_terms import DocumentTerms
from billing.invoices.models import (
    BuyingParty,
    Charge,
    Invoice,
    InvoiceDetail,
    InvoicePayment,
    Line,
    NetworkAddress,
    PayableLine,
    Place,
    SellingParty,
    SetOff,
    VatTotal,
)
from billing.parties import Address, Buyer, ElectronicAddress, Seller, local_date
from billing.rating.json_io import format_plain, format_volume
from billing.rating.price import MICRO_DIGITS, UNITS, VAT_DIGITS
from billing.vat import PayableAmounts, payable_amounts
from billing.vat import PayableLine as LineAmount

UJ_PER_MWH: Final = 3_600_000
MILLI_DIGITS: Final = 3
_QUANTITY_UNITS: Final = {"kWh": "mWh", "h": "ms"}
_DESCRIPTIONS: Final = {
    "ENERGY": "Energy",
    "FLAT": "Start fee",
    "TIME": "Charging time",
    "PARKING_TIME": "Parking time",
    "MIN_PRICE": "Raised to the minimum price",
    "MAX_PRICE": "Lowered to the maximum price",
    "CREDIT": "Credited part",
}


def invoice_of(invoice: documents.Document) -> Invoice:
    """A document as the API has it."""
    return Invoice(**_invoice(invoice))


def detail_of(
    invoice: documents.Document,
    row: Mapping[str, Any],
    lines: Sequence[documents.DocumentLine],
    payments: Iterable[InvoicePayment],
    terms: DocumentTerms,
    groups: Mapping[int, str],
    set_offs: Iterable[Mapping[str, Any]],
    refundable_minor: int | None,
) -> InvoiceDetail:
    """A document, whole. `row`: its CDR's columns and those of the invoice that it credits; `groups`: of a collective
    invoice, by the number of their first line, from 1, the labels of its charges; `refundable_minor`: of a credit note,
    what had been paid of it."""
    known = (invoice.payable_minor, invoice.minor_digits, invoice.payable_excl_minor)
    amounts = payable_amounts(lines, *known)
    credited_on = row["credits_issued_on"]
    if credited_on is None and row["credits_issued_at"] is not None:
        credited_on = local_date(row["credits_issued_at"], row["time_zone"])
    return InvoiceDetail(
        **_invoice(invoice),
        issued_on=terms.issued_on,
        due_on=terms.due_on,
        payment_terms=terms.payment_terms,
        seller=_seller(terms.seller),
        customer=None if terms.buyer is None else _buyer(terms.buyer),
        credits_number=row["credits_number"],
        credits_issued_on=credited_on,
        lines=[line_of(line) for line in lines],
        **_amounts(invoice, amounts, _labels(lines, groups)),
        charge=Charge(
            cdr_id=invoice.cdr_id,
            energy_kwh=format_minor(row["energy_uj"] // UJ_PER_MWH, MICRO_DIGITS),
            **{
                name: row[name]
                for name in ("started_at", "ended_at", "end_reason", "connector_id", "device_session_id", "estimated")
            },
            **{name: row[name] for name in ("revision", "tariff_version", "time_zone")},
        ),
        payments=list(payments),
        set_offs=[
            SetOff(
                amount=format_minor(one["amount_minor"], invoice.minor_digits),
                **{name: one[name] for name in ("id", "number", "set_off_at")},
            )
            for one in set_offs
        ],
        refundable=None if refundable_minor is None else format_minor(-refundable_minor, invoice.minor_digits),
    )


def _amounts(invoice: documents.Document, amounts: PayableAmounts, labels: Sequence[str]) -> dict[str, Any]:
    """The members of a document that are in the currency's digits."""
    digits = invoice.minor_digits
    only_adjustments = all(line.is_adjustment for line in amounts.lines)
    return {
        "payable_lines": [_payable_line(invoice, one, only_adjustments, labels[one.place]) for one in amounts.lines],
        "vat": [
            VatTotal(
                vat_pct=_percent(rate.vat_ppm),
                net=format_minor(rate.net_minor, digits),
                vat=format_minor(rate.vat_minor, digits),
                gross=format_minor(rate.gross_minor, digits),
            )
            for rate in amounts.rates
        ],
        "payable_vat": format_minor(amounts.vat_minor, digits),
        "payable_rounding": format_minor(amounts.rounding_minor, digits),
    }


def _payable_line(invoice: documents.Document, one: LineAmount, only_adjustments: bool, label: str) -> PayableLine:
    line, dimension = one.line, one.line.dimension
    unit = UNITS.get(dimension)
    net = format_minor(one.net_minor, invoice.minor_digits)
    reserved = dimension == "TIME" and invoice.reservation_id is not None
    adjustment = one.is_adjustment and not only_adjustments  # a document has lines (BR-16), if only this one
    return PayableLine.model_validate(
        {
            "kind": ("charge" if dimension == "MIN_PRICE" else "allowance") if adjustment else "line",
            "dimension": dimension,
            "group": label,
            "description": "Reserved time" if reserved else _description(one),
            "volume": "1" if unit is None else _volume(dimension, line.billed),
            "unit": unit or "session",
            "price": net if line.price_micros is None else format_plain(line.price_micros, MICRO_DIGITS),
            "vat_pct": _percent(one.vat_ppm),
            "net": net,
        }
    )


def _description(one: LineAmount) -> str:
    if one.line.dimension == documents.CREDIT and one.line.incl_micros > 0:
        return "Credited before"  # on the note that credits the rest
    return _DESCRIPTIONS.get(one.line.dimension, one.line.dimension.capitalize())


def _labels(lines: Sequence[documents.DocumentLine], groups: Mapping[int, str]) -> list[str]:
    """The label of each line: that of the group which begins at it or last before it; a part that is credited of a
    collective invoice is of no charge."""
    labels, label = [], ""
    for number, line in enumerate(lines, 1):
        label = "" if line.dimension == documents.CREDIT else groups.get(number, label)
        labels.append(label)
    return labels


def _percent(vat_ppm: int | None) -> str | None:
    return None if vat_ppm is None else format_plain(vat_ppm, VAT_DIGITS)


def _seller(seller: Seller) -> SellingParty:
    same = ("name", "vat_id", "tax_number", "contact", "iban", "bic", "vat_exemption")
    return SellingParty(
        **{name: getattr(seller, name) for name in same},
        address=_place(seller.address),
        electronic_address=_network_address(seller.electronic_address),
    )


def _buyer(buyer: Buyer) -> BuyingParty:
    return BuyingParty(
        customer_id=UUID(buyer.customer_id),
        name=buyer.name,
        address=_place(buyer.address),
        vat_id=buyer.tax_id,
        electronic_address=_network_address(buyer.electronic_address),
        email=buyer.email,
        reference=buyer.reference,
    )


def _place(address: Address) -> Place:
    return Place(lines=list(address.lines), postal_code=address.postal_code, city=address.city, country=address.country)


def _network_address(address: ElectronicAddress | None) -> NetworkAddress | None:
    return None if address is None else NetworkAddress(scheme=address.scheme, id=address.id)


def line_of(line: documents.DocumentLine) -> Line:
    """A line as the API has it."""
    unit = UNITS.get(line.dimension)
    return Line.model_validate(
        {
            "dimension": line.dimension,
            "element": line.element,
            "volume": None if unit is None else _volume(line.dimension, line.billed),
            "unit": unit,
            "quantity": None if unit is None else line.billed,
            "quantity_unit": None if unit is None else _QUANTITY_UNITS.get(unit, unit),
            "quantity_added_by_step": None if unit is None else line.billed - line.volume,
            "price": None if line.price_micros is None else format_plain(line.price_micros, MICRO_DIGITS),
            "vat_pct": _percent(line.vat_ppm),
            "amount_excl_vat": format_micros(line.excl_micros),
            "vat": format_micros(line.incl_micros - line.excl_micros),
            "amount_incl_vat": format_micros(line.incl_micros),
        }
    )


def payment_of(row: Mapping[str, Any], minor_digits: int) -> InvoicePayment:
    """A payment as the API has it."""
    names = ("id", "kind", "provider", "status", "error", "created_at", "changed_at")
    return InvoicePayment(amount=format_minor(row["amount_minor"], minor_digits), **{name: row[name] for name in names})


def _volume(dimension: str, volume: int) -> str:
    """Of a credit note it is that of the invoice, below 0."""
    return f"-{format_volume(dimension, -volume)}" if volume < 0 else format_volume(dimension, volume)


def _invoice(invoice: documents.Document) -> dict[str, Any]:
    same = ("id", "number", "kind", "status", "version", "session_id", "reservation_id", "driver_id", "station_id")
    return {
        **{name: getattr(invoice, name) for name in same},
        "currency": invoice.currency,
        "total_excl_vat": format_micros(invoice.total_excl_micros),
        "total_incl_vat": format_micros(invoice.total_incl_micros),
        "payable_excl_vat": format_minor(invoice.payable_excl_minor, invoice.minor_digits),
        "payable": format_minor(invoice.payable_minor, invoice.minor_digits),
        "set_off": format_minor(invoice.set_off_minor, invoice.minor_digits),
        "amount_due": None
        if invoice.kind is documents.InvoiceKind.CREDIT_NOTE
        else format_minor(invoice.due_minor, invoice.minor_digits),
        **{name: getattr(invoice, name) for name in ("rounding", "credits", "replaces", "reason", "issued_at")},
    }
