"""Entries of the audit about documents."""

from uuid import UUID

from billing.currency import format_minor
from billing.documents import Document
from kit.audit.recording import record
from kit.messaging.outbox import Transaction


async def record_credit(
    connection: Transaction, action: str, invoice_id: UUID, note: Document, reason: str, *, refunds: UUID | None = None
) -> None:
    """A credit note for an invoice, in the transaction in which it is written. `refunds`: a payment."""
    credited = {
        "credit_note": str(note.id),
        "number": note.number,
        "currency": note.currency,
        "amount": format_minor(note.payable_minor, note.minor_digits),
    }
    if refunds is not None:  # its provider is asked later, and may decline
        credited["refund_of_payment"] = str(refunds)
    await record(connection, action, f"invoice/{invoice_id}", after=credited, reason=reason)
