"""A document as EN 16931 has it: its business terms, before any syntax. Pure.

A credit note (381) has the amounts of its invoice, above 0. An adjustment to a minimum or maximum price is a charge or
an allowance of the document. What was paid since is not said: an e-invoice is the document as it was issued. What
credit notes had paid of it then is (BT-113).
"""

from datetime import date
from decimal import Decimal
from typing import Final, NamedTuple

from billing.invoices.models import BuyingParty, InvoiceDetail, Party, PayableLine, SellingParty
from billing.parties import country_of, local_date
from kit.web.errors import Conflict

INVOICE: Final = "380"
CREDIT_NOTE: Final = "381"
EN_16931: Final = "urn:cen.eu:en16931:2017"
_DIGITS_MAX: Final = 2  # BR-DEC-01 to 28
_UNIT_CODES: Final = {"kWh": "KWH", "h": "HUR", "session": "C62"}  # UNECE Recommendation 20
_VAT_ID_MIN: Final = 4
_CREDIT_TERMS: Final = "Nothing is to be paid: the amount is refunded, or was not paid"


class Tax(NamedTuple):
    """A VAT category and its rate (BT-118 and BT-119, BT-151 and BT-152)."""

    category: str  # S: standard; Z: zero rate; E: exempt
    percent: str


class EInvoiceLine(NamedTuple):
    """BG-25."""

    id: str
    name: str
    note: str  # of a collective invoice: the charge
    quantity: str
    unit_code: str
    price: str
    net: str
    tax: Tax


class Adjustment(NamedTuple):
    """BG-20 and BG-21."""

    is_charge: bool
    amount: str
    reason: str
    tax: Tax


class VatRow(NamedTuple):
    """BG-23."""

    tax: Tax
    net: str
    vat: str
    exemption: str


class Totals(NamedTuple):
    """BG-22."""

    lines: str  # BT-106
    allowances: str  # BT-107
    charges: str  # BT-108
    net: str  # BT-109
    vat: str  # BT-110
    gross: str  # BT-112
    paid: str  # BT-113: by credit notes, when the document was issued; a credit note has none
    rounding: str  # BT-114
    payable: str  # BT-115


class EInvoice(NamedTuple):
    """A document as EN 16931 has it."""

    number: str
    type_code: str
    issued_on: date
    due_on: date | None
    terms: str
    currency: str
    note: str
    reference: str
    start_on: date
    end_on: date
    credited: tuple[str, date | None] | None
    seller: SellingParty
    buyer: BuyingParty
    lines: tuple[EInvoiceLine, ...]
    adjustments: tuple[Adjustment, ...]
    vat: tuple[VatRow, ...]
    totals: Totals

    @property
    def is_credit_note(self) -> bool:
        """Whether it is a credit note."""
        return self.type_code == CREDIT_NOTE


def einvoice_of(document: InvoiceDetail) -> EInvoice:
    """The document as EN 16931 has it. Raises Conflict where it lacks what the standard wants, saying what."""
    buyer = document.customer
    if buyer is None:
        driver = f"driver {document.driver_id}" if document.driver_id else "nobody known yet"
        raise Conflict(
            f"{document.number} has no customer, whom an e-invoice must name (BR-07, BR-11): it is of {driver}. "
            "Link the driver to one by /api/v1/billing/customers; documents that are issued from then on name them"
        )
    _check_seller(document.seller)
    _check_currency(document)
    sign = -1 if document.kind == "credit_note" else 1
    lines = [_line(line, sign) for line in document.payable_lines if line.kind == "line"]
    adjustments = [_adjustment(line, sign) for line in document.payable_lines if line.kind != "line"]
    zone = document.charge.time_zone
    terms = document.payment_terms or (_CREDIT_TERMS if document.kind == "credit_note" else "")
    return EInvoice(
        number=document.number,
        type_code=CREDIT_NOTE if document.kind == "credit_note" else INVOICE,
        issued_on=document.issued_on,
        due_on=document.due_on,
        terms=terms,
        currency=document.currency,
        note=document.reason or _note(document),
        reference=buyer.reference,
        start_on=local_date(document.charge.started_at, zone),
        end_on=local_date(document.charge.ended_at, zone),
        credited=(document.credits_number, document.credits_issued_on) if document.credits_number else None,
        seller=document.seller,
        buyer=buyer,
        lines=tuple(line._replace(id=str(place)) for place, line in enumerate(lines, 1)),
        adjustments=tuple(adjustments),
        vat=tuple(
            VatRow(
                tax_of(row.vat_pct),
                _signed(row.net, sign),
                _signed(row.vat, sign),
                document.seller.vat_exemption if row.vat_pct is None else "",
            )
            for row in document.vat
        ),
        totals=_totals(document, lines, adjustments, sign),
    )


def tax_of(vat_pct: str | None) -> Tax:
    """The category of a rate. Where the tariff says that no VAT applies it is an exemption, which has a reason."""
    if vat_pct is None:
        return Tax("E", "0")
    return Tax("S" if Decimal(vat_pct) > 0 else "Z", vat_pct)


def is_vat_id(text: str) -> bool:
    """Whether it begins with a country's letters, as BR-CO-09 wants it of VAT ids."""
    return len(text) >= _VAT_ID_MIN and text[:2].isalpha() and text[:2].isupper()


def country(party: Party) -> str:
    """The country of a party's address, or of its VAT id."""
    return party.address.country or country_of("", party.vat_id)


def _check_seller(seller: SellingParty) -> None:
    missing = [
        name
        for name, value in {
            "VOLTSTREAM_SELLER_NAME (BR-06)": seller.name,
            "VOLTSTREAM_SELLER_COUNTRY (BR-09)": country(seller),
            "VOLTSTREAM_SELLER_VAT_ID or _TAX_NUMBER (BR-CO-26)": seller.vat_id or seller.tax_number,
        }.items()
        if not value
    ]
    if missing:
        raise Conflict(
            f"the document does not name its seller as an e-invoice must: {', '.join(missing)} was not set when it was "
            "issued. Set it for the documents to come"
        )
    if seller.vat_id and not is_vat_id(seller.vat_id):
        raise Conflict(
            f"the seller's VAT id {seller.vat_id} does not begin with its country's letters (BR-CO-09): correct "
            "VOLTSTREAM_SELLER_VAT_ID, or set a national number as VOLTSTREAM_SELLER_TAX_NUMBER"
        )


def _check_currency(document: InvoiceDetail) -> None:
    digits = len(document.payable.partition(".")[2])
    if digits > _DIGITS_MAX:
        raise Conflict(
            f"{document.currency} has {digits} digits after the point, and amounts of an e-invoice two at most "
            "(BR-DEC-18): there is none in this currency"
        )


def _line(line: PayableLine, sign: int) -> EInvoiceLine:
    """A price is never below 0 (BR-27): the quantity has the sign."""
    quantity, price = Decimal(line.volume) * sign, Decimal(line.price)
    if price < 0:
        quantity, price = -quantity, -price
    code = _UNIT_CODES[line.unit]
    net = _signed(line.net, sign)
    return EInvoiceLine(
        "", line.description, line.group, f"{quantity:f}", code, f"{price:f}", net, tax_of(line.vat_pct)
    )


def _adjustment(line: PayableLine, sign: int) -> Adjustment:
    amount = Decimal(line.net) * sign
    return Adjustment(amount >= 0, f"{abs(amount):f}", line.description, tax_of(line.vat_pct))


def _totals(document: InvoiceDetail, lines: list[EInvoiceLine], adjustments: list[Adjustment], sign: int) -> Totals:
    zero = abs(Decimal(document.payable) * 0)  # with the currency's digits
    of_lines = sum((Decimal(line.net) for line in lines), zero)
    allowances = sum((Decimal(one.amount) for one in adjustments if not one.is_charge), zero)
    charges = sum((Decimal(one.amount) for one in adjustments if one.is_charge), zero)
    net = of_lines - allowances + charges
    vat = Decimal(_signed(document.payable_vat, sign))
    return Totals(
        lines=f"{of_lines:f}",
        allowances=f"{allowances:f}",
        charges=f"{charges:f}",
        net=f"{net:f}",
        vat=f"{vat:f}",
        gross=f"{net + vat:f}",
        paid=f"{zero:f}" if document.amount_due is None else document.set_off,
        rounding=_signed(document.payable_rounding, sign),
        payable=_signed(document.payable, sign) if document.amount_due is None else document.amount_due,
    )


def _signed(amount: str, sign: int) -> str:
    value = Decimal(amount) * sign
    return f"{value if value else abs(value):f}"


def _note(document: InvoiceDetail) -> str:
    if not document.station_id:  # a collective invoice
        return "Charges of the period, named at each line"
    connector = f", connector {document.charge.connector_id}" if document.charge.connector_id is not None else ""
    return f"Charged at {document.station_id}{connector}"
