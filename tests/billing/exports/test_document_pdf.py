"""Laws of a document's PDF: the page has all of the document, to the last digit, and the same bytes every time."""

import re
from decimal import Decimal
from io import BytesIO
from typing import Any
from uuid import uuid4

import pytest
from pypdf import PdfReader

from billing.exports.document_pdf import Seller, render_pdf
from billing.invoices import examples
from billing.invoices.models import InvoiceDetail
from schemas.events import SessionAssigned
from tests.billing.exports.conftest import Office
from tests.billing.making import TARIFF, session

SELLER = Seller("Zoë's Lädchen & Söhne", ("Am Kai 1", "20457 Hamburg"), "DE123456789", "receipts@example.org")
DETAIL = InvoiceDetail.model_validate(examples.DETAIL)


def text_of(pdf: bytes) -> str:
    """As somebody else's program reads it, laid out as on the page."""
    return "\n".join(page.extract_text(extraction_mode="layout") for page in PdfReader(BytesIO(pdf)).pages)


def changed(**changes: Any) -> InvoiceDetail:
    return DETAIL.model_copy(update=changes)


def test_the_same_document_is_the_same_bytes_and_another_is_not() -> None:
    first = render_pdf(DETAIL, SELLER, None)
    assert first.startswith(b"%PDF-")
    assert first == render_pdf(DETAIL, SELLER, None)
    assert first != render_pdf(changed(status="paid"), SELLER, None)


def test_all_that_a_driver_and_their_accountant_ask_for_is_on_it() -> None:
    text = text_of(render_pdf(DETAIL, SELLER, None))
    for said in (
        *("Zoë's Lädchen & Söhne", "Am Kai 1", "20457 Hamburg", "VAT ID DE123456789", "receipts@example.org"),
        *("Invoice", DETAIL.number, "2026-03-29 11:12:34 (UTC+02:00)", DETAIL.driver_id, "DE-VS-0001, connector 1"),
        *(str(DETAIL.session_id), "2026-03-29 09:41:00", "1 h 31 min 30 s", "5.043383 kWh"),
        *("5.044 kWh", "0.3456 / kWh", "1.743206", "2.109279", "0.350 h", "1.20 / h", "21 %", "10 %"),
        *("2.163206", "0.408073", "2.571279", "Rounding", "-0.001279", "To pay, EUR", "2.57", "To be paid."),
        DETAIL.rounding,
    ):
        assert str(said) in text, said


def test_the_vat_table_and_the_lines_sum_to_the_totals() -> None:
    text = text_of(render_pdf(DETAIL, SELLER, None))
    vat_rows = re.findall(r"^ *(?:21|10) % +([\d.]+) +([\d.]+) +([\d.]+)$", text, re.MULTILINE)
    assert len(vat_rows) == 2
    excl, vat, incl = (sum(Decimal(row[column]) for row in vat_rows) for column in range(3))
    assert (excl, incl) == (Decimal(DETAIL.total_excl_vat), Decimal(DETAIL.total_incl_vat))
    assert vat == incl - excl


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"status": "paid"}, ["Paid, EUR", "Paid."]),
        ({"status": "cancelled"}, ["Amount, EUR", "Cancelled: nothing is to be paid."]),
        ({"kind": "credit_note", "status": "open", "reason": "faulty"}, ["Credit note", "Cancels invoice", "faulty"]),
        ({"session_id": None, "reservation_id": "R-1"}, ["Reserved time", "R-1"]),
        ({"currency": "JPY"}, ["To pay, JPY"]),
        ({"driver_id": "日本 x"}, ["?? x"]),
        ({"driver_id": "x" * 400}, ["To pay, EUR"]),
    ],
)
def test_what_kind_of_document_it_is_shows(changes: dict[str, Any], said: list[str]) -> None:
    text = text_of(render_pdf(changed(**changes), SELLER, "2026-0000016" if "kind" in changes else None))
    for words in said:
        assert words in text


def test_a_seller_who_set_nothing_still_gets_a_page() -> None:
    assert "2026-0000017" in text_of(render_pdf(DETAIL, Seller("", (), "", ""), None))


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
