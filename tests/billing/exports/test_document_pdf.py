"""Laws of a document's PDF: it has all of the document in the currency's digits, and the same bytes every time."""

import re
from decimal import Decimal
from io import BytesIO
from typing import Any
from uuid import uuid4

import pytest
from pypdf import PdfReader

from billing.exports.document_pdf import render_pdf
from billing.invoices import examples
from billing.invoices.models import InvoiceDetail, SellingParty, SetOff
from schemas.events import SessionAssigned
from tests.billing.exports.conftest import Office
from tests.billing.making import TARIFF, session

DETAIL = InvoiceDetail.model_validate(examples.DETAIL)
NOBODY = SellingParty.model_validate(
    {
        **dict.fromkeys(("name", "vat_id", "tax_number", "contact", "iban", "bic", "vat_exemption"), ""),
        "address": {"lines": [], "postal_code": "", "city": "", "country": ""},
        "electronic_address": None,
    }
)


def text_of(pdf: bytes) -> str:
    """As somebody else's program reads it, laid out as on the page."""
    return "\n".join(page.extract_text(extraction_mode="layout") for page in PdfReader(BytesIO(pdf)).pages)


def changed(**changes: Any) -> InvoiceDetail:
    return DETAIL.model_copy(update=changes)


def test_the_same_document_is_the_same_bytes_and_another_is_not() -> None:
    first = render_pdf(DETAIL)
    assert first.startswith(b"%PDF-")
    assert first == render_pdf(DETAIL)
    assert first != render_pdf(changed(status="paid"))


def test_all_that_a_driver_and_their_accountant_ask_for_is_on_it() -> None:
    text = text_of(render_pdf(DETAIL))
    for said in (
        *("Muster Laden GmbH", "Am Kai 1", "20457 Hamburg", "VAT ID DE987654321", "receipts@example.org"),
        *("Hafenlogistik GmbH", "Sandtorkai 1", "VAT ID DE123456789", "cost centre 4711"),
        *(f"Invoice {DETAIL.number}", "2026-03-29 11:12:34 (UTC+02:00)", DETAIL.driver_id, "DE-VS-0001, connector 1"),
        *(str(DETAIL.session_id), "2026-03-29 09:41:00", "1 h 31 min 30 s", "5.043383 kWh"),
        *("5.044 kWh", "0.3456 / kWh", "0.350 h", "1.20 / h", "21 %", "10 %"),
        *("Total excl. VAT", "2.16", "0.41", "To pay, EUR", "2.57", "To be paid by 2026-04-28."),
        *("without deduction", "Account: DE02120300000000202051, BYLADEM1001.", "Page 1 of 1", DETAIL.rounding),
    ):
        assert str(said) in text, said


def test_the_vat_table_sums_to_what_is_to_be_paid() -> None:
    text = text_of(render_pdf(DETAIL))
    vat_rows = re.findall(r"^ *(?:21|10) % +([\d.]+) +([\d.]+) +([\d.]+)$", text, re.MULTILINE)
    assert len(vat_rows) == 2
    net, vat, gross = (sum(Decimal(row[column]) for row in vat_rows) for column in range(3))
    assert (net, vat, gross) == (Decimal("2.16"), Decimal("0.41"), Decimal(DETAIL.payable))
    assert "Rounding " not in text.replace("Rounding:", "")


def test_a_rounding_is_said() -> None:
    text = text_of(render_pdf(changed(payable_rounding="-0.01", payable="2.56")))
    assert re.search(r"^ +Rounding +-0\.01$", text, re.MULTILINE)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"status": "paid"}, ["Paid, EUR", "Paid."]),
        ({"status": "cancelled"}, ["Amount, EUR", "Cancelled: nothing is to be paid."]),
        (
            {"kind": "credit_note", "status": "open", "reason": "faulty", "credits_number": "2026-0000016"},
            ["Credit note", "Cancels invoice", "2026-0000016", "faulty"],
        ),
        ({"session_id": None, "reservation_id": "R-1"}, ["R-1"]),
        ({"currency": "JPY"}, ["To pay, JPY"]),
        ({"driver_id": "日本 Γιώργος Παπαδόπουλος Владимир"}, ["?? Γιώργος Παπαδόπουλος Владимир"]),
        ({"driver_id": "x" * 400}, ["To pay, EUR"]),
        ({"customer": None, "due_on": None}, ["To be paid."]),
    ],
)
def test_what_kind_of_document_it_is_shows(changes: dict[str, Any], said: list[str]) -> None:
    text = text_of(render_pdf(changed(**changes)))
    for words in said:
        assert words in text


def said_by(document: InvoiceDetail) -> str:
    """With one space between any two words."""
    return " ".join(text_of(render_pdf(document)).split())


def set_off(number: str, amount: str) -> SetOff:
    return SetOff(id=uuid4(), number=number, amount=amount, set_off_at=DETAIL.issued_at)


def test_what_credit_notes_paid_of_an_invoice_is_on_it_with_what_is_left_to_pay() -> None:
    part = changed(set_off="1.00", amount_due="1.57", set_offs=[set_off("2026-0000009", "1.00")])
    for words in (
        "Total incl. VAT 2.57",
        "Paid by credit note 2026-0000009 -1.00",
        "To pay, EUR 1.57",
        "To be paid by",
    ):
        assert words in said_by(part)
    notes = [set_off("2026-0000009", "2.57")]
    whole = changed(status="paid", set_off="2.57", amount_due="0.00", due_on=None, set_offs=notes)
    assert "Paid by what was to be refunded to you." in said_by(whole)
    assert "To pay, EUR 0.00" in said_by(whole)


def test_a_credit_note_says_what_of_it_was_paid_and_which_invoices_it_has_paid() -> None:
    owed = {"kind": "credit_note", "payable": "-2.57", "refundable": "-2.00", "amount_due": None, "set_off": "-1.50"}
    note = changed(**owed, set_offs=[set_off("2026-0000019", "1.50")])
    for words in ("Had not been paid 0.57", "Pays invoice 2026-0000019 1.50", "To refund, EUR -0.50"):
        assert words in said_by(note)
    used = note.model_copy(update={"status": "paid", "refundable": "-1.50"})
    assert "To refund, EUR 0.00" in said_by(used)
    assert "Nothing is left to be refunded" in said_by(used)


def test_a_seller_who_set_nothing_still_gets_a_page() -> None:
    assert "2026-0000017" in text_of(render_pdf(changed(seller=NOBODY)))


def test_a_long_document_goes_on_with_its_headings_and_page_numbers_and_loses_no_line() -> None:
    lines = [
        DETAIL.payable_lines[0].model_copy(update={"description": f"Energy {place} {'long ' * (place % 30)}"})
        for place in range(150)
    ]
    pages = PdfReader(BytesIO(render_pdf(changed(payable_lines=lines)))).pages
    texts = [page.extract_text() for page in pages]
    assert len(pages) > 3
    for place, text in enumerate(texts, 1):
        assert f"Page {place} of {len(pages)}" in text
    assert sum(text.count("Quantity") for text in texts) in {len(pages), len(pages) - 1}
    whole = "\n".join(texts)
    assert [place for place in range(150) if f"Energy {place} " not in whole] == []


def test_every_font_is_embedded_and_the_colours_are_defined() -> None:
    reader = PdfReader(BytesIO(render_pdf(DETAIL)))
    fonts = [font.get_object() for page in reader.pages for font in page["/Resources"]["/Font"].values()]  # type: ignore[index]
    assert fonts
    for font in fonts:
        descriptor = font["/DescendantFonts"][0].get_object()["/FontDescriptor"].get_object()
        assert "/FontFile2" in descriptor
    assert "/OutputIntents" in reader.trailer["/Root"]  # type: ignore[operator]
    metadata = reader.trailer["/Root"]["/Metadata"].get_data().decode()  # type: ignore[index]
    assert "<pdfaid:part>3</pdfaid:part>" in metadata


async def test_a_driver_gets_their_own_receipts_and_no_others(office: Office) -> None:
    charged = session()
    assigned = SessionAssigned(session_id=charged.id, request_id=uuid4(), driver_id="ann", reservation_id=None)
    await office.billing.deliver(assigned, charged, session(charged.id, revision=2, energy_mwh=99_000_000))
    first, note, second = office.billing.documents(charged.id)

    def path(document: dict[str, Any]) -> str:
        return f"/api/v1/billing/invoices/{document['id']}/pdf"

    answer = await office.ask(path(note), who="ann")
    assert answer.headers["content-type"] == "application/pdf"
    text = text_of(answer.content)
    for said in ("Credit note", note["number"], "Cancels invoice", first["number"], "Muster Laden GmbH"):
        assert said in text
    assert str(TARIFF["elements"][0]["price_components"][1]["price"]) in text
    for who, expected in (("finance", 200), ("operator", 200), ("bob", 404), ("device", 403)):
        await office.ask(path(second), expected, who)
    await office.ask(f"/api/v1/billing/invoices/{uuid4()}/pdf", 404)
