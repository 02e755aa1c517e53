"""Laws of e-invoices: both syntaxes are valid by schema and by EN 16931's rules, and ask for what the document does."""

from decimal import Decimal
from io import BytesIO
from typing import Any
from uuid import uuid4
from xml.etree import ElementTree as ET

import facturx
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pypdf import PdfReader

from billing.documents import DocumentLine, Number, make_credit_note
from billing.einvoices.cii import to_cii
from billing.einvoices.content import einvoice_of
from billing.einvoices.service import render_facturx
from billing.einvoices.ubl import to_ubl
from billing.einvoices.validation import broken_rules
from billing.einvoices.xml_tree import NAMESPACES
from billing.invoicing.credit import CreditedInvoice
from billing.invoicing.work import CORRECTION_LINE
from billing.parties import Address, Buyer, Seller
from kit.web.errors import Conflict
from tests.billing.charged_lines import bound, component, documents
from tests.billing.customers_wanted import wanted
from tests.billing.einvoices.en16931 import amount, broken
from tests.billing.einvoices.making import BUYER, PEPPOL, SELLER, detail, document_of
from tests.billing.invoices_made import invoice_of_lines
from tests.billing.making import assigned, session
from tests.billing.running import NOW
from tests.billing.serving import CANCEL, INVOICES, Service

SET_OFF = st.just(0) | st.integers(0, 3_000)
LINES = [component(1_743_206, 210_000), component(420_000, 100_000, "TIME"), component(77_000, None, "FLAT")]
RAISED = [*LINES, bound("MIN_PRICE", 17_759_794, 21_493_721)]
LOWERED = [*LINES, bound("MAX_PRICE", -1_240_206, -1_648_279)]
ONLY_A_MINIMUM = [bound("MIN_PRICE", 20_000_000, 24_200_000)]
NOTHING = [component(0, 210_000)]


def totals(xml: bytes) -> tuple[Decimal, Decimal, Decimal]:
    """What a UBL document says: net, VAT and what is to be paid."""
    root = ET.fromstring(xml)  # noqa: S314  # our own
    path = "cac:LegalMonetaryTotal/cbc:"
    net, payable = (amount(root, f"{path}{name}") for name in ("TaxExclusiveAmount", "PayableAmount"))
    return net, amount(root, "cac:TaxTotal/cbc:TaxAmount"), payable


@given(documents(), st.booleans(), st.sampled_from(["EUR", "JPY"]), SET_OFF)
def test_the_amounts_of_whatever_is_charged_keep_the_rules(
    lines: list[DocumentLine], credit: bool, currency: str, set_off_minor: int
) -> None:
    document = detail(lines, currency, credit=credit, set_off_minor=set_off_minor)
    xml = to_ubl(einvoice_of(document))
    assert broken(xml) == []
    sign = -1 if credit else 1
    said = (document.payable_excl_vat, document.payable_vat, document.amount_due or document.payable)
    assert totals(xml) == tuple(sign * Decimal(one) for one in said)


@settings(max_examples=15)
@given(documents(), st.booleans(), SET_OFF)
def test_whatever_is_charged_is_valid_by_the_published_schemas_and_rules(
    lines: list[DocumentLine], credit: bool, set_off_minor: int
) -> None:
    invoice = einvoice_of(detail(lines, credit=credit, set_off_minor=set_off_minor))
    assert broken_rules(to_cii(invoice)) == []
    assert broken_rules(to_ubl(invoice)) == []


@settings(max_examples=25)
@given(documents(), st.integers(1, 10**9), st.sampled_from(["EUR", "JPY"]))
def test_credits_of_a_part_and_of_the_rest_keep_the_rules(
    lines: list[DocumentLine], amount: int, currency: str
) -> None:
    invoice = CreditedInvoice(invoice_of_lines(lines, currency), lines)
    if invoice.invoice.payable_minor < 2:
        return
    amounts, of_part = invoice.part(amount % (invoice.invoice.payable_minor - 1) + 1, invoice.left_by_rate())
    note = make_credit_note(
        uuid4(), Number(2026, 2, NOW), invoice.invoice, amounts, "", paid=False, demand_margin_micros=None
    )
    rest_amounts, of_rest = CreditedInvoice(invoice.invoice, lines, [note], of_part).rest()
    for parts, credited in ((amounts, of_part), (rest_amounts, of_rest)):
        minors = (-parts.payable_minor, -parts.payable_excl_minor)
        document = document_of(credited, currency, *minors, credit=True)
        xml = to_ubl(einvoice_of(document))
        assert broken(xml) == []
        assert broken_rules(xml) == broken_rules(to_cii(einvoice_of(document))) == []
        assert totals(xml) == tuple(
            -Decimal(one) for one in (document.payable_excl_vat, document.payable_vat, document.payable)
        )


def test_the_remark_of_a_correction_is_no_line_of_paper_and_its_reason_is_the_note() -> None:
    plain, corrected = detail(LINES), detail([*LINES, CORRECTION_LINE])
    assert (corrected.payable_lines, corrected.vat) == (plain.payable_lines, plain.vat)
    assert [line.dimension for line in corrected.lines][-1] == "CORRECTION"
    assert einvoice_of(corrected.model_copy(update={"reason": "corrected: read on site"})).note.endswith("on site")


_TAX_NUMBER = msgspec.structs.replace(SELLER, vat_id="", tax_number="22/815/0815/4", iban="", contact="desk 1")
_IN_PEPPOL: dict[str, Any] = {
    "seller": msgspec.structs.replace(SELLER, electronic_address=PEPPOL),
    "buyer": msgspec.structs.replace(BUYER, electronic_address=PEPPOL),
}
_ODD = Buyer(customer_id=BUYER.customer_id, name="a\x00\ufffe", address=Address(country="NL"), tax_id="77")


@pytest.mark.parametrize("credit", [False, True])
@pytest.mark.parametrize(
    ("lines", "terms"),
    [
        (LINES, {}),
        (RAISED, {"payment_terms": "without deduction"}),
        (LOWERED, {"seller": _TAX_NUMBER}),
        (LINES, {"set_off_minor": 100}),
        (RAISED, {"set_off_minor": 10**9}),
        (ONLY_A_MINIMUM, _IN_PEPPOL),
        (NOTHING, {"buyer": _ODD}),
    ],
)
def test_every_kind_of_document_is_valid_by_the_published_schemas_and_rules(
    lines: list[DocumentLine], credit: bool, terms: dict[str, Any]
) -> None:
    invoice = einvoice_of(detail(lines, credit=credit, **terms))
    assert broken_rules(to_cii(invoice)) == []
    assert broken_rules(to_ubl(invoice)) == []


def test_the_checkers_find_a_wrong_sum() -> None:
    xml = to_ubl(einvoice_of(detail(LINES)))
    wrong = xml.replace(b'<cbc:PayableAmount currencyID="EUR">2.65', b'<cbc:PayableAmount currencyID="EUR">2.66')
    assert wrong != xml
    assert broken(wrong) == ["BR-CO-16"]
    assert any("BR-CO-16" in one for one in broken_rules(wrong))


def test_an_adjustment_is_a_charge_or_an_allowance_of_each_rate() -> None:
    raised, lowered = einvoice_of(detail(RAISED)), einvoice_of(detail(LOWERED, credit=True))
    assert [(one.is_charge, one.tax.category) for one in raised.adjustments] == [(True, "S"), (True, "S"), (True, "E")]
    assert {one.is_charge for one in lowered.adjustments} == {False}
    assert einvoice_of(detail(ONLY_A_MINIMUM)).adjustments == ()


def test_a_credit_note_names_the_invoice_that_it_credits() -> None:
    root = ET.fromstring(to_ubl(einvoice_of(detail(LINES, credit=True))))  # noqa: S314  # our own document
    assert root.findtext("cbc:CreditNoteTypeCode", "", NAMESPACES) == "381"
    reference = "cac:BillingReference/cac:InvoiceDocumentReference/cbc:"
    assert root.findtext(f"{reference}ID", "", NAMESPACES) == "2026-0000016"
    assert root.findtext(f"{reference}IssueDate", "", NAMESPACES) == "2026-03-29"


@pytest.mark.parametrize(
    ("terms", "currency", "says"),
    [
        ({"buyer": None}, "EUR", "/api/v1/billing/customers"),
        ({"seller": Seller()}, "EUR", "VOLTSTREAM_SELLER_NAME"),
        ({"seller": msgspec.structs.replace(SELLER, vat_id="")}, "EUR", "VOLTSTREAM_SELLER_VAT_ID"),
        ({"seller": msgspec.structs.replace(SELLER, vat_id="987654321")}, "EUR", "BR-CO-09"),
        ({}, "KWD", "3 digits"),
    ],
)
def test_what_lacks_something_is_refused_by_its_name(terms: dict[str, Any], currency: str, says: str) -> None:
    with pytest.raises(Conflict, match=says):
        einvoice_of(detail(LINES, currency, **terms))


def test_a_facturx_pdf_holds_the_xml_that_the_library_finds_and_is_the_same_bytes_every_time() -> None:
    document = detail(LINES)
    pdf = render_facturx(document)
    assert pdf == render_facturx(document)
    name, xml = facturx.get_xml_from_pdf(BytesIO(pdf))
    assert (name, xml) == ("factur-x.xml", to_cii(einvoice_of(document)))
    root: Any = PdfReader(BytesIO(pdf)).trailer["/Root"]
    assert root["/AF"][0].get_object()["/AFRelationship"] == "/Alternative"
    metadata = root["/Metadata"].get_data().decode()
    for said in ("<pdfaid:part>3</pdfaid:part>", "<fx:ConformanceLevel>EN 16931</fx:ConformanceLevel>"):
        assert said in metadata
    ET.fromstring(metadata[metadata.index("<x:xmpmeta") : metadata.index("<?xpacket end")])  # noqa: S314  # our own document


async def test_a_customer_gets_invoice_and_credit_note_in_all_forms(service: Service) -> None:
    await service.post("/api/v1/billing/customers", wanted("Hafenlogistik GmbH", "ann"))
    charged = session()
    await service.billing.deliver(assigned(charged.id, "ann"), charged)
    (invoice,) = service.billing.documents(charged.id)
    note = await service.post(CANCEL, {"invoice_id": str(invoice["id"]), "reason": "faulty"})
    for id_ in (invoice["id"], note["id"]):
        document = await service.get(f"{INVOICES}/{id_}", who="ann")
        ubl = await service.ask("GET", f"{INVOICES}/{id_}/xml", 200, "ann")
        cii = await service.ask("GET", f"{INVOICES}/{id_}/xml", 200, "ann", params={"format": "cii"})
        assert ubl.headers["content-type"].startswith("application/xml")
        assert broken_rules(ubl.content) == broken_rules(cii.content) == []
        assert totals(ubl.content)[2] == abs(Decimal(document["payable"]))
        pdf = await service.ask("GET", f"{INVOICES}/{id_}/pdf", 200, "ann", params={"format": "facturx"})
        assert facturx.get_xml_from_pdf(BytesIO(pdf.content))[1] == cii.content
        await service.ask("GET", f"{INVOICES}/{id_}/xml", 404, "bob")
        await service.ask("GET", f"{INVOICES}/{id_}/xml", 422, params={"format": "edifact"})
    await service.ask("GET", f"{INVOICES}/{uuid4()}/xml", 404)


async def test_a_document_without_a_customer_is_no_einvoice_and_still_a_pdf(service: Service) -> None:
    charged = session()
    await service.billing.deliver(charged)
    (invoice,) = service.billing.documents(charged.id)
    problem = await service.get(f"{INVOICES}/{invoice['id']}/xml", 409)
    assert "/api/v1/billing/customers" in problem["detail"]
    await service.ask("GET", f"{INVOICES}/{invoice['id']}/pdf", 409, params={"format": "facturx"})
    await service.ask("GET", f"{INVOICES}/{invoice['id']}/pdf", 200)
