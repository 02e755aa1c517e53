"""What a document says of its parties and its terms of payment: recorded when it is issued, in the same transaction."""

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any, Final
from uuid import UUID

import msgspec

from billing.documents import Document
from billing.parties import Address, Buyer, ElectronicAddress, Seller, Terms, local_date
from kit.messaging.outbox import Transaction

COLUMNS: Final = ("invoice_id", "seller", "buyer", "issued_on", "due_on", "payment_terms")

# A credit note has the parties of the invoice that it credits, which is written before it.
_ISSUED: Final = """
SELECT i.id, i.credits, i.issued_at, i.payable_minor - i.set_off_minor AS due_minor, c.time_zone, k.*,
       t.seller AS credited_seller, t.buyer AS credited_buyer
FROM billing.invoice AS i
JOIN billing.cdr AS c ON c.id = i.cdr_id
LEFT JOIN billing.customer_driver AS d ON d.driver_id = i.driver_id
LEFT JOIN LATERAL (
    SELECT id AS customer_id, name, address, tax_id, email, reference, electronic_address, payment_days, payment_terms
    FROM billing.customer WHERE id = d.customer_id
) AS k ON true
LEFT JOIN billing.document_terms AS t ON t.invoice_id = i.credits
WHERE i.id = ANY ($1::uuid[]) ORDER BY i.year, i.sequence
"""
_RECORD: Final = """
INSERT INTO billing.document_terms AS known (invoice_id, seller, buyer, issued_on, due_on, payment_terms)
VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (invoice_id) DO UPDATE SET buyer = excluded.buyer, due_on = excluded.due_on,
    payment_terms = excluded.payment_terms
"""


class DocumentTerms(msgspec.Struct, frozen=True, kw_only=True):
    """What a document says of its parties and its terms of payment."""

    seller: Seller
    buyer: Buyer | None
    issued_on: date
    due_on: date | None
    payment_terms: str


async def record_terms(connection: Transaction, invoice_ids: Sequence[UUID], seller: Seller, terms: Terms) -> None:
    """Record the parties and terms of documents that this transaction has issued, or given another driver.

    The seller of a document stays as it was issued; the buyer is the customer of the document's driver. `seller` and
    `terms`: of the settings; a customer's own terms come first.
    """
    if not invoice_ids:
        return
    rows = await connection.fetch(_ISSUED, list(invoice_ids))
    now = set(invoice_ids)
    await connection.executemany(_RECORD, [_recorded(row, row["credits"] not in now, seller, terms) for row in rows])


async def record_buyer(
    connection: Transaction, invoice: Document, customer: Mapping[str, Any], seller: Seller, terms: Terms
) -> None:
    """Record the parties and terms of a document that this transaction has issued to a customer, and to no driver.
    `customer`: its columns."""
    row = {
        **customer,
        **{"id": invoice.id, "issued_at": invoice.issued_at, "due_minor": invoice.due_minor},
        **{"credited_buyer": None, "credited_seller": None},
    }
    await connection.execute(_RECORD, *_recorded(row, False, seller, terms))


def terms_from(row: Mapping[str, Any], seller: Seller, terms: Terms) -> DocumentTerms:
    """The recorded terms, from a row with COLUMNS, issued_at, time_zone and payable_minor; of a document that was
    issued before terms were recorded: those of the settings."""
    if row["seller"] is not None:
        return DocumentTerms(
            seller=msgspec.json.decode(row["seller"], type=Seller),
            buyer=None if row["buyer"] is None else msgspec.json.decode(row["buyer"], type=Buyer),
            issued_on=row["issued_on"],
            due_on=row["due_on"],
            payment_terms=row["payment_terms"],
        )
    due_on = terms.due_on(row["issued_at"], row["time_zone"]) if row["payable_minor"] > 0 else None
    issued_on = local_date(row["issued_at"], row["time_zone"])
    text = terms.text if due_on else ""
    return DocumentTerms(seller=seller, buyer=None, issued_on=issued_on, due_on=due_on, payment_terms=text)


def _recorded(row: Mapping[str, Any], as_credited: bool, seller: Seller, terms: Terms) -> tuple[Any, ...]:
    """As COLUMNS. `as_credited`: a credit note names the buyer of its invoice, whose driver is not changing too."""
    buyer = row["credited_buyer"] if as_credited else None
    if buyer is None and row["customer_id"] is not None:
        buyer = msgspec.json.encode(buyer_of(row)).decode()
    own = Terms(
        days=terms.days if row["payment_days"] is None else row["payment_days"],
        text=terms.text if row["payment_terms"] is None else row["payment_terms"],
    )
    due_on = own.due_on(row["issued_at"], row["time_zone"]) if row["due_minor"] > 0 else None
    said = row["credited_seller"] or msgspec.json.encode(seller).decode()
    return row["id"], said, buyer, local_date(row["issued_at"], row["time_zone"]), due_on, own.text if due_on else ""


def buyer_of(row: Mapping[str, Any]) -> Buyer:
    """The buyer, from a customer's columns."""
    electronic = row["electronic_address"]
    return Buyer(
        customer_id=str(row["customer_id"]),
        name=row["name"],
        address=msgspec.json.decode(row["address"], type=Address),
        tax_id=row["tax_id"],
        email=row["email"],
        reference=row["reference"],
        electronic_address=None if electronic is None else msgspec.json.decode(electronic, type=ElectronicAddress),
    )
