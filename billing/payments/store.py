"""The SQL of payments."""

from datetime import datetime
from typing import Final
from uuid import UUID

import asyncpg
import msgspec

from billing.documents import Document
from billing.invoicing.store import INVOICE_COLUMNS, to_document
from billing.payments.provider import PaymentStatus
from kit.messaging.outbox import Transaction


class PaymentRecord(msgspec.Struct, frozen=True):
    """An attempt to move a document's money; fields as the columns of billing.payment."""

    id: UUID
    invoice_id: UUID
    attempt: int
    kind: str
    provider: str
    reference: str
    status: PaymentStatus
    currency: str
    amount_minor: int
    error: str
    created_at: datetime
    changed_at: datetime


_COLUMNS: Final = ", ".join(PaymentRecord.__struct_fields__)
_INVOICE: Final = f"""
SELECT {", ".join(INVOICE_COLUMNS)} FROM billing.invoice WHERE id = $1 AND ($2::text IS NULL OR driver_id = $2)
"""  # noqa: S608  # our own names
_OF_INVOICE: Final = f"SELECT {_COLUMNS} FROM billing.payment WHERE invoice_id = $1 ORDER BY attempt"  # noqa: S608  # our own names
_ONE: Final = f"SELECT {_COLUMNS} FROM billing.payment WHERE id = $1"  # noqa: S608  # our own names
_ADD: Final = f"""
INSERT INTO billing.payment ({_COLUMNS}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
"""  # noqa: S608  # our own names
_MOVE: Final = f"""
UPDATE billing.payment SET status = $2, error = $3, changed_at = $4 WHERE id = $1 RETURNING {_COLUMNS}
"""  # noqa: S608  # our own names

_ANSWERED: Final = f"""
UPDATE billing.payment SET reference = $2, error = $3, changed_at = $4 WHERE id = $1 RETURNING {_COLUMNS}
"""  # noqa: S608  # our own names
_FORGET: Final = "DELETE FROM billing.payment WHERE id = $1 AND reference = '' AND status = 'pending'"
_SET_OFF_FROM: Final = """
SELECT n.credits FROM billing.set_off AS s JOIN billing.invoice AS n ON n.id = s.credit_note_id
WHERE s.invoice_id = $1 ORDER BY s.amount_minor DESC, n.year, n.sequence LIMIT 1
"""


async def invoice(connection: Transaction, invoice_id: UUID, own: str | None = None) -> Document | None:
    """A document; of that driver alone, if given."""
    row = await connection.fetchrow(_INVOICE, invoice_id, own)
    return None if row is None else to_document(row)


async def payments_of(connection: Transaction, invoice_id: UUID) -> list[PaymentRecord]:
    """A document's payments, oldest first."""
    return [_payment(row) for row in await connection.fetch(_OF_INVOICE, invoice_id)]


async def payment(connection: Transaction, payment_id: UUID) -> PaymentRecord | None:
    """A payment."""
    row = await connection.fetchrow(_ONE, payment_id)
    return None if row is None else _payment(row)


async def add(connection: Transaction, new: PaymentRecord) -> None:
    """Store a payment."""
    await connection.execute(_ADD, *msgspec.structs.astuple(new))


async def move(
    connection: Transaction, payment_id: UUID, status: PaymentStatus, error: str, now: datetime
) -> PaymentRecord:
    """Move a payment to a status; as it is now."""
    row = await connection.fetchrow(_MOVE, payment_id, status, error, now)
    if row is None:
        raise ValueError(f"no payment {payment_id}")
    return _payment(row)


async def answered(
    connection: Transaction, payment_id: UUID, reference: str, error: str, now: datetime
) -> PaymentRecord | None:
    """Record the provider's name for a payment that was recorded before it was asked; as it is now."""
    row = await connection.fetchrow(_ANSWERED, payment_id, reference, error, now)
    return None if row is None else _payment(row)


async def forget_unanswered(connection: Transaction, payment_id: UUID) -> None:
    """Remove a payment that the provider has refused: there is none."""
    await connection.execute(_FORGET, payment_id)


async def set_off_from(connection: Transaction, invoice_id: UUID) -> UUID | None:
    """The invoice whose credit note has paid most of this one."""
    found: UUID | None = await connection.fetchval(_SET_OFF_FROM, invoice_id)
    return found


def _payment(row: asyncpg.Record) -> PaymentRecord:
    values = dict(row.items())
    return PaymentRecord(**{**values, "status": PaymentStatus(values["status"])})
