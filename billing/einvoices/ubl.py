"""An e-invoice as UBL 2.1 Invoice or CreditNote, by EN 16931; by Peppol BIS Billing 3.0 where both parties are in it.
Pure."""

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

_PEPPOL: Final = f"{EN_16931}#compliant#urn:fdc:peppol.eu:2017:poacc:billing:3.0"
_PEPPOL_PROCESS: Final = "urn:fdc:peppol.eu:2017:poacc:billing:01:1.0"
_SEPA: Final = "58"
_TRANSFER: Final = "30"


def to_ubl(invoice: EInvoice) -> bytes:
    """The XML. The same document gives the same bytes."""
    credit = invoice.is_credit_note
    in_peppol = bool(invoice.seller.electronic_address and invoice.buyer.electronic_address and invoice.reference)
    name = "CreditNote" if credit else "Invoice"
    due_on = None if credit or invoice.due_on is None else node("cbc:DueDate", f"{invoice.due_on}")
    root = node(
        "cn:CreditNote" if credit else "inv:Invoice",
        node("cbc:CustomizationID", _PEPPOL if in_peppol else EN_16931),
        node("cbc:ProfileID", _PEPPOL_PROCESS) if in_peppol else None,
        node("cbc:ID", invoice.number),
        node("cbc:IssueDate", f"{invoice.issued_on}"),
        due_on,
        node(f"cbc:{name}TypeCode", invoice.type_code),
        optional("cbc:Note", invoice.note),
        node("cbc:DocumentCurrencyCode", invoice.currency),
        optional("cbc:BuyerReference", invoice.reference),
        node(
            "cac:InvoicePeriod",
            node("cbc:StartDate", f"{invoice.start_on}"),
            node("cbc:EndDate", f"{invoice.end_on}"),
        ),
        _credited(invoice),
        _seller(invoice.seller),
        _buyer(invoice.buyer),
        node("cac:Delivery", node("cbc:ActualDeliveryDate", f"{invoice.end_on}")),
        _payment_means(invoice),
        parent("cac:PaymentTerms", optional("cbc:Note", invoice.terms)),
        *(_adjustment(one, invoice.currency) for one in invoice.adjustments),
        node(
            "cac:TaxTotal",
            _amount("cbc:TaxAmount", invoice.totals.vat, invoice.currency),
            *(_vat(row, invoice.currency) for row in invoice.vat),
        ),
        _totals(invoice),
        *(_line(line, name, invoice.currency) for line in invoice.lines),
    )
    return to_bytes(root)


def _amount(name: str, amount: str, currency: str) -> Element:
    return node(name, amount, currencyID=currency)


def _credited(invoice: EInvoice) -> Element | None:
    if invoice.credited is None:
        return None
    number, issued_on = invoice.credited
    return node(
        "cac:BillingReference",
        node(
            "cac:InvoiceDocumentReference",
            node("cbc:ID", number),
            optional("cbc:IssueDate", "" if issued_on is None else f"{issued_on}"),
        ),
    )


def _seller(seller: SellingParty) -> Element:
    is_email = "@" in seller.contact and " " not in seller.contact
    identification = "" if seller.vat_id else seller.tax_number  # BR-CO-26
    return node(
        "cac:AccountingSupplierParty",
        node(
            "cac:Party",
            _endpoint(seller),
            parent("cac:PartyIdentification", optional("cbc:ID", identification)),
            _postal_address(seller),
            _tax_scheme(seller.vat_id, "VAT"),
            _tax_scheme(seller.tax_number, "FC"),
            node("cac:PartyLegalEntity", node("cbc:RegistrationName", seller.name)),
            parent(
                "cac:Contact",
                optional("cbc:Name", "" if is_email else seller.contact),
                optional("cbc:ElectronicMail", seller.contact if is_email else ""),
            ),
        ),
    )


def _buyer(buyer: BuyingParty) -> Element:
    vat_id = buyer.vat_id if is_vat_id(buyer.vat_id) else ""
    legal_id = "" if vat_id else buyer.vat_id
    return node(
        "cac:AccountingCustomerParty",
        node(
            "cac:Party",
            _endpoint(buyer),
            _postal_address(buyer),
            _tax_scheme(vat_id, "VAT"),
            node("cac:PartyLegalEntity", node("cbc:RegistrationName", buyer.name), optional("cbc:CompanyID", legal_id)),
            parent("cac:Contact", optional("cbc:ElectronicMail", buyer.email)),
        ),
    )


def _endpoint(party: Party) -> Element | None:
    electronic = party.electronic_address
    return None if electronic is None else node("cbc:EndpointID", electronic.id, schemeID=electronic.scheme)


def _postal_address(party: Party) -> Element:
    address = party.address
    first, second, *others = [*address.lines, "", ""]
    third = ", ".join(filter(None, others))
    return node(
        "cac:PostalAddress",
        optional("cbc:StreetName", first),
        optional("cbc:AdditionalStreetName", second),
        optional("cbc:CityName", address.city),
        optional("cbc:PostalZone", address.postal_code),
        parent("cac:AddressLine", optional("cbc:Line", third)),
        node("cac:Country", node("cbc:IdentificationCode", country(party))),
    )


def _tax_scheme(id_: str, scheme: str) -> Element | None:
    if not id_:
        return None
    return node("cac:PartyTaxScheme", node("cbc:CompanyID", id_), node("cac:TaxScheme", node("cbc:ID", scheme)))


def _payment_means(invoice: EInvoice) -> Element | None:
    seller = invoice.seller
    if not seller.iban or invoice.is_credit_note:
        return None
    branch = parent("cac:FinancialInstitutionBranch", optional("cbc:ID", seller.bic))
    return node(
        "cac:PaymentMeans",
        node("cbc:PaymentMeansCode", _SEPA if invoice.currency == "EUR" else _TRANSFER),
        node("cbc:PaymentID", invoice.number),
        node("cac:PayeeFinancialAccount", node("cbc:ID", seller.iban), branch),
    )


def _adjustment(one: Adjustment, currency: str) -> Element:
    return node(
        "cac:AllowanceCharge",
        node("cbc:ChargeIndicator", "true" if one.is_charge else "false"),
        node("cbc:AllowanceChargeReason", one.reason),
        _amount("cbc:Amount", one.amount, currency),
        _category("cac:TaxCategory", one.tax),
    )


def _category(name: str, tax: Tax, exemption: str = "") -> Element:
    return node(
        name,
        node("cbc:ID", tax.category),
        node("cbc:Percent", tax.percent),
        optional("cbc:TaxExemptionReason", exemption),
        node("cac:TaxScheme", node("cbc:ID", "VAT")),
    )


def _vat(row: VatRow, currency: str) -> Element:
    return node(
        "cac:TaxSubtotal",
        _amount("cbc:TaxableAmount", row.net, currency),
        _amount("cbc:TaxAmount", row.vat, currency),
        _category("cac:TaxCategory", row.tax, row.exemption),
    )


def _totals(invoice: EInvoice) -> Element:
    totals, currency = invoice.totals, invoice.currency
    rounded = totals.rounding.strip("-0.")
    return node(
        "cac:LegalMonetaryTotal",
        _amount("cbc:LineExtensionAmount", totals.lines, currency),
        _amount("cbc:TaxExclusiveAmount", totals.net, currency),
        _amount("cbc:TaxInclusiveAmount", totals.gross, currency),
        _amount("cbc:AllowanceTotalAmount", totals.allowances, currency),
        _amount("cbc:ChargeTotalAmount", totals.charges, currency),
        _amount("cbc:PrepaidAmount", totals.paid, currency) if totals.paid.strip("0.") else None,
        _amount("cbc:PayableRoundingAmount", totals.rounding, currency) if rounded else None,
        _amount("cbc:PayableAmount", totals.payable, currency),
    )


def _line(line: EInvoiceLine, document: str, currency: str) -> Element:
    quantity = "cbc:CreditedQuantity" if document == "CreditNote" else "cbc:InvoicedQuantity"
    return node(
        f"cac:{document}Line",
        node("cbc:ID", line.id),
        node(quantity, line.quantity, unitCode=line.unit_code),
        _amount("cbc:LineExtensionAmount", line.net, currency),
        node(
            "cac:Item",
            optional("cbc:Description", line.note),
            node("cbc:Name", line.name),
            _category("cac:ClassifiedTaxCategory", line.tax),
        ),
        node("cac:Price", _amount("cbc:PriceAmount", line.price, currency)),
    )
