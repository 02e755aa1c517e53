"""An e-invoice as UN/CEFACT Cross Industry Invoice D16B, profile EN 16931 of Factur-X 1.0. Pure."""

from datetime import date
from typing import Final
from xml.etree.ElementTree import Element

from billing.einvoices.content import (
    EN_16931,
    Adjustment,
    EInvoice,
    EInvoiceLine,
    Tax,
    VatRow,
    country,
    is_vat_id,
)
from billing.einvoices.xml_tree import node, optional, parent, to_bytes
from billing.invoices.models import BuyingParty, Party, SellingParty

_DAY: Final = "102"  # the format YYYYMMDD
_SEPA: Final = "58"
_TRANSFER: Final = "30"


def to_cii(invoice: EInvoice) -> bytes:
    """The XML. The same document gives the same bytes."""
    root = node(
        "rsm:CrossIndustryInvoice",
        node(
            "rsm:ExchangedDocumentContext",
            node("ram:GuidelineSpecifiedDocumentContextParameter", node("ram:ID", EN_16931)),
        ),
        node(
            "rsm:ExchangedDocument",
            node("ram:ID", invoice.number),
            node("ram:TypeCode", invoice.type_code),
            node("ram:IssueDateTime", _day(invoice.issued_on)),
            parent("ram:IncludedNote", optional("ram:Content", invoice.note)),
        ),
        node(
            "rsm:SupplyChainTradeTransaction",
            *(_line(line) for line in invoice.lines),
            node(
                "ram:ApplicableHeaderTradeAgreement",
                optional("ram:BuyerReference", invoice.reference),
                _seller(invoice.seller),
                _buyer(invoice.buyer),
            ),
            node(
                "ram:ApplicableHeaderTradeDelivery",
                node("ram:ActualDeliverySupplyChainEvent", node("ram:OccurrenceDateTime", _day(invoice.end_on))),
            ),
            _settlement(invoice),
        ),
    )
    return to_bytes(root)


def _line(line: EInvoiceLine) -> Element:
    return node(
        "ram:IncludedSupplyChainTradeLineItem",
        node("ram:AssociatedDocumentLineDocument", node("ram:LineID", line.id)),
        node("ram:SpecifiedTradeProduct", node("ram:Name", line.name), optional("ram:Description", line.note)),
        node(
            "ram:SpecifiedLineTradeAgreement",
            node("ram:NetPriceProductTradePrice", node("ram:ChargeAmount", line.price)),
        ),
        node("ram:SpecifiedLineTradeDelivery", node("ram:BilledQuantity", line.quantity, unitCode=line.unit_code)),
        node(
            "ram:SpecifiedLineTradeSettlement",
            _tax("ram:ApplicableTradeTax", line.tax),
            node("ram:SpecifiedTradeSettlementLineMonetarySummation", node("ram:LineTotalAmount", line.net)),
        ),
    )


def _seller(seller: SellingParty) -> Element:
    is_email = "@" in seller.contact and " " not in seller.contact
    email = optional("ram:URIID", seller.contact if is_email else "")
    return node(
        "ram:SellerTradeParty",
        optional("ram:ID", "" if seller.vat_id else seller.tax_number),  # BR-CO-26
        node("ram:Name", seller.name),
        parent(
            "ram:DefinedTradeContact",
            optional("ram:PersonName", "" if is_email else seller.contact),
            parent("ram:EmailURIUniversalCommunication", email),
        ),
        *_addresses(seller),
        _registration(seller.vat_id, "VA"),
        _registration(seller.tax_number, "FC"),
    )


def _buyer(buyer: BuyingParty) -> Element:
    vat_id = buyer.vat_id if is_vat_id(buyer.vat_id) else ""
    legal_id = "" if vat_id else buyer.vat_id
    email = optional("ram:URIID", buyer.email)
    return node(
        "ram:BuyerTradeParty",
        node("ram:Name", buyer.name),
        parent("ram:SpecifiedLegalOrganization", optional("ram:ID", legal_id)),
        parent("ram:DefinedTradeContact", parent("ram:EmailURIUniversalCommunication", email)),
        *_addresses(buyer),
        _registration(vat_id, "VA"),
    )


def _addresses(party: Party) -> list[Element | None]:
    lines = [*party.address.lines, "", "", ""]
    electronic = party.electronic_address
    uri = None if electronic is None else node("ram:URIID", electronic.id, schemeID=electronic.scheme)
    return [
        node(
            "ram:PostalTradeAddress",
            optional("ram:PostcodeCode", party.address.postal_code),
            *(optional(f"ram:Line{name}", line) for name, line in zip(("One", "Two", "Three"), lines, strict=False)),
            optional("ram:CityName", party.address.city),
            node("ram:CountryID", country(party)),
        ),
        parent("ram:URIUniversalCommunication", uri),
    ]


def _registration(id_: str, scheme: str) -> Element | None:
    return parent("ram:SpecifiedTaxRegistration", optional("ram:ID", id_, schemeID=scheme))


def _settlement(invoice: EInvoice) -> Element:
    return node(
        "ram:ApplicableHeaderTradeSettlement",
        node("ram:PaymentReference", invoice.number),
        node("ram:InvoiceCurrencyCode", invoice.currency),
        _payment_means(invoice),
        *(_vat(row) for row in invoice.vat),
        node(
            "ram:BillingSpecifiedPeriod",
            node("ram:StartDateTime", _day(invoice.start_on)),
            node("ram:EndDateTime", _day(invoice.end_on)),
        ),
        *(_adjustment(one) for one in invoice.adjustments),
        _terms(invoice),
        _totals(invoice),
        _credited(invoice),
    )


def _payment_means(invoice: EInvoice) -> Element | None:
    seller = invoice.seller
    if not seller.iban or invoice.is_credit_note:
        return None
    return node(
        "ram:SpecifiedTradeSettlementPaymentMeans",
        node("ram:TypeCode", _SEPA if invoice.currency == "EUR" else _TRANSFER),
        node("ram:PayeePartyCreditorFinancialAccount", node("ram:IBANID", seller.iban)),
        parent("ram:PayeeSpecifiedCreditorFinancialInstitution", optional("ram:BICID", seller.bic)),
    )


def _vat(row: VatRow) -> Element:
    return node(
        "ram:ApplicableTradeTax",
        node("ram:CalculatedAmount", row.vat),
        node("ram:TypeCode", "VAT"),
        optional("ram:ExemptionReason", row.exemption),
        node("ram:BasisAmount", row.net),
        node("ram:CategoryCode", row.tax.category),
        node("ram:RateApplicablePercent", row.tax.percent),
    )


def _adjustment(one: Adjustment) -> Element:
    return node(
        "ram:SpecifiedTradeAllowanceCharge",
        node("ram:ChargeIndicator", node("udt:Indicator", "true" if one.is_charge else "false")),
        node("ram:ActualAmount", one.amount),
        node("ram:Reason", one.reason),
        _tax("ram:CategoryTradeTax", one.tax),
    )


def _tax(name: str, tax: Tax) -> Element:
    return node(
        name,
        node("ram:TypeCode", "VAT"),
        node("ram:CategoryCode", tax.category),
        node("ram:RateApplicablePercent", tax.percent),
    )


def _terms(invoice: EInvoice) -> Element | None:
    due = None if invoice.due_on is None else node("ram:DueDateDateTime", _day(invoice.due_on))
    return parent("ram:SpecifiedTradePaymentTerms", optional("ram:Description", invoice.terms), due)


def _totals(invoice: EInvoice) -> Element:
    totals = invoice.totals
    return node(
        "ram:SpecifiedTradeSettlementHeaderMonetarySummation",
        node("ram:LineTotalAmount", totals.lines),
        node("ram:ChargeTotalAmount", totals.charges),
        node("ram:AllowanceTotalAmount", totals.allowances),
        node("ram:TaxBasisTotalAmount", totals.net),
        node("ram:TaxTotalAmount", totals.vat, currencyID=invoice.currency),
        node("ram:RoundingAmount", totals.rounding) if totals.rounding.strip("-0.") else None,
        node("ram:GrandTotalAmount", totals.gross),
        node("ram:TotalPrepaidAmount", totals.paid) if totals.paid.strip("0.") else None,
        node("ram:DuePayableAmount", totals.payable),
    )


def _credited(invoice: EInvoice) -> Element | None:
    if invoice.credited is None:
        return None
    number, issued_on = invoice.credited
    day = None if issued_on is None else node("qdt:DateTimeString", f"{issued_on:%Y%m%d}", format=_DAY)
    return node(
        "ram:InvoiceReferencedDocument",
        node("ram:IssuerAssignedID", number),
        parent("ram:FormattedIssueDateTime", day),
    )


def _day(day: date) -> Element:
    return node("udt:DateTimeString", f"{day:%Y%m%d}", format=_DAY)
