"""Documents, whole, of given lines."""

from collections.abc import Sequence
from datetime import UTC, date, datetime
from typing import Any, Final
from uuid import UUID, uuid4

from billing.currency import minor_digits, rounding_rule, to_minor
from billing.customers.document_terms import DocumentTerms
from billing.documents import Document, DocumentLine, InvoiceKind, InvoiceStatus
from billing.invoices.models import InvoiceDetail
from billing.invoices.rendering import detail_of
from billing.parties import Address, Buyer, ElectronicAddress, Seller
from billing.vat import payable_amounts

ISSUED: Final = datetime(2026, 3, 29, 9, 12, 34, tzinfo=UTC)
SELLER: Final = Seller(
    name="Muster & Söhne <GmbH>",
    address=Address(lines=("Am Kai 1",), postal_code="20457", city="Hamburg", country="DE"),
    vat_id="DE987654321",
    contact="receipts@example.org",
    iban="DE02120300000000202051",
    bic="BYLADEM1001",
    vat_exemption="no VAT applies",
)
BUYER: Final = Buyer(
    customer_id="9b2de8a4-8d7e-4c0c-8d61-52d0c6b7a1f3",
    name="Ελληνική Ναυτιλία",
    address=Address(lines=("Odos 1", "2nd", "3rd"), postal_code="10431", city="Athína", country="GR"),
    tax_id="EL123456789",
    reference="cost centre 4711",
)
PEPPOL: Final = ElectronicAddress("9930", "DE987654321")


def detail(
    lines: Sequence[DocumentLine], currency: str = "EUR", *, credit: bool = False, set_off_minor: int = 0, **terms: Any
) -> InvoiceDetail:
    """The invoice of these lines, or its credit note; `terms`: what the document says of parties and payment;
    `set_off_minor`: of an invoice, what of it a credit note has paid, of what is to be paid at the most."""
    payable = to_minor(sum(line.incl_micros for line in lines), currency)
    sign = -1 if credit else 1
    lines = [line.negated() for line in lines] if credit else lines
    amounts = payable_amounts(lines, sign * payable, minor_digits(currency))
    return document_of(
        *(lines, currency, sign * payable, amounts.net_minor),
        credit=credit,
        set_off_minor=0 if credit else min(set_off_minor, payable),
        **terms,
    )


def document_of(
    lines: Sequence[DocumentLine],
    currency: str,
    payable: int,
    payable_excl: int,
    *,
    credit: bool,
    set_off_minor: int = 0,
    **terms: Any,
) -> InvoiceDetail:
    """The same of these lines and amounts, in minor units; of a credit note both are below 0."""
    kind = InvoiceKind.CREDIT_NOTE if credit else InvoiceKind.INVOICE
    id_ = UUID(int=17)
    facts: dict[str, Any] = {
        **{name: uuid4() for name in ("cdr_id", "subject_id", "session_id")},
        **{"id": id_, "kind": kind, "year": 2026, "sequence": 17, "number": "2026-0000017", "version": 1},
        **{"status": InvoiceStatus.OPEN, "driver_id": "driver-1", "station_id": "DE-VS-1", "reservation_id": None},
    }
    document = Document(
        **facts,
        currency=currency,
        minor_digits=minor_digits(currency),
        total_excl_micros=sum(line.excl_micros for line in lines),
        total_incl_micros=sum(line.incl_micros for line in lines),
        payable_excl_minor=payable_excl,
        payable_minor=payable,
        rounding=rounding_rule(currency),
        credits=uuid4() if credit else None,
        replaces=None,
        reason="meter was faulty" if credit else "",
        issued_at=ISSUED,
        changes=0,
        changed_at=ISSUED,
        set_off_minor=set_off_minor,
        demand_margin_micros=None,
    )
    row: dict[str, Any] = {
        **{"started_at": ISSUED, "ended_at": ISSUED, "end_reason": "ended", "connector_id": 1, "energy_uj": 0},
        **{"device_session_id": "TX", "estimated": False, "revision": 1, "tariff_version": None, "time_zone": None},
        **{"credits_number": "2026-0000016" if credit else None, "credits_issued_at": ISSUED if credit else None},
        "credits_issued_on": None,
    }
    said: dict[str, Any] = {
        **{"seller": SELLER, "buyer": BUYER, "issued_on": date(2026, 3, 29), "payment_terms": ""},
        "due_on": None if credit or payable == set_off_minor else date(2026, 4, 12),
        **terms,
    }
    by_note = {"id": uuid4(), "number": "2026-0000009", "amount_minor": set_off_minor, "set_off_at": ISSUED}
    return detail_of(
        *(document, row, lines, [], DocumentTerms(**said), {}),
        set_offs=[by_note] if set_off_minor else [],
        refundable_minor=0 if credit else None,
    )
