"""The SQL of set-offs. Every function works in a transaction that has taken the writer's lock first."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

import asyncpg

from billing.documents import Document, InvoiceStatus
from billing.invoicing.store import INVOICE_COLUMNS, to_document
from billing.setoffs.allocation import SetOff
from kit.messaging.outbox import Transaction

CREDIT_NOTES_MAX: Final = 1_000  # of one transaction, the oldest first: the others pay the next invoices

# Who pays a document, or is paid: its customer, else its driver. Null: nobody knows yet.
_PAYER: Final = "coalesce('customer ' || (t.buyer ->> 'customer_id'), 'driver ' || i.driver_id)"
_DUE: Final = f"""
SELECT i.id, i.currency, i.payable_minor, i.driver_id, t.buyer ->> 'customer_id' AS customer_id, {_PAYER} AS payer
FROM billing.invoice AS i LEFT JOIN billing.document_terms AS t ON t.invoice_id = i.id
WHERE i.id = ANY ($1::uuid[]) AND i.kind = 'invoice' AND i.status = 'open' AND {_PAYER} IS NOT NULL
ORDER BY i.year, i.sequence
"""  # noqa: S608  # our own names
# One with a refund under way is left out: that is all of it.
_CREDITS: Final = f"""
SELECT i.id, i.credits, i.currency, {_PAYER} AS payer
FROM billing.invoice AS i LEFT JOIN billing.document_terms AS t ON t.invoice_id = i.id
WHERE i.kind = 'credit_note' AND i.status = 'open'
  AND (i.driver_id = ANY ($1::text[]) AND t.buyer IS NULL OR t.buyer ->> 'customer_id' = ANY ($2::text[]))
  AND NOT EXISTS (SELECT FROM billing.payment AS p WHERE p.invoice_id = i.id AND p.status = 'pending')
ORDER BY i.year, i.sequence LIMIT {CREDIT_NOTES_MAX}
"""  # noqa: S608  # our own names
_PAID: Final = """
SELECT invoice_id, sum(amount_minor)::bigint AS amount_minor FROM billing.payment
WHERE invoice_id = ANY ($1::uuid[]) AND status = 'succeeded' GROUP BY invoice_id
"""
_ADD: Final = (
    "INSERT INTO billing.set_off (invoice_id, credit_note_id, amount_minor, set_off_at) VALUES ($1, $2, $3, $4)"
)
_MOVE: Final = f"""
UPDATE billing.invoice AS i
SET status = s.status, set_off_minor = i.set_off_minor + s.more_minor, changes = i.changes + 1, changed_at = $4
FROM unnest($1::uuid[], $2::text[], $3::bigint[]) AS s (id, status, more_minor) WHERE i.id = s.id
RETURNING {", ".join(f"i.{name}" for name in INVOICE_COLUMNS)}
"""  # noqa: S608  # our own names
_NOTHING_DUE: Final = """
UPDATE billing.document_terms SET due_on = NULL, payment_terms = '' WHERE invoice_id = ANY ($1::uuid[])
"""

# Invoices of which something was credited or set off, by when their charges began.
_SETTLED_OTHERWISE: Final = """
SELECT i.id FROM billing.invoice AS i JOIN billing.cdr AS c ON c.id = i.cdr_id
WHERE c.started_at >= $1 AND c.started_at < $2 AND i.id > $3 AND i.kind = 'invoice'
  AND (i.set_off_minor <> 0 OR EXISTS (SELECT FROM billing.set_off AS s WHERE s.invoice_id = i.id)
       OR EXISTS (SELECT FROM billing.invoice AS n WHERE n.credits = i.id))
ORDER BY i.id LIMIT $4
"""
_SUMS: Final = """
SELECT d.id, coalesce((SELECT sum(amount_minor) FROM billing.set_off WHERE invoice_id = d.id), 0)::bigint
             - coalesce((SELECT sum(amount_minor) FROM billing.set_off WHERE credit_note_id = d.id), 0)::bigint AS minor
FROM unnest($1::uuid[]) AS d (id)
"""


async def credited_or_set_off(
    connection: Transaction, start: datetime, end: datetime, after: UUID, rows_max: int
) -> list[UUID]:
    """Invoices of charges that began in [start, end), behind that id, of which something was credited or set off."""
    rows = await connection.fetch(_SETTLED_OTHERWISE, start, end, after, rows_max)
    return [row["id"] for row in rows]


async def sums(connection: Transaction, document_ids: Sequence[UUID]) -> Mapping[UUID, int]:
    """What the set-offs of documents sum to, with the sign of `Document.set_off_minor`."""
    return {row["id"]: row["minor"] for row in await connection.fetch(_SUMS, document_ids)}


async def due(connection: Transaction, invoice_ids: Sequence[UUID]) -> list[asyncpg.Record]:
    """Those of these documents that are open invoices of a known payer, in the order of their numbers."""
    rows: list[asyncpg.Record] = await connection.fetch(_DUE, invoice_ids)
    return rows


async def credits(
    connection: Transaction, driver_ids: Sequence[str], customer_ids: Sequence[str]
) -> list[asyncpg.Record]:
    """Open credit notes of these payers, oldest first, of which no refund is under way."""
    rows: list[asyncpg.Record] = await connection.fetch(_CREDITS, driver_ids, customer_ids)
    return rows


async def paid(connection: Transaction, document_ids: Sequence[UUID]) -> Mapping[UUID, int]:
    """Minor units of the payments, or refunds, of these documents that have succeeded; without those that have none."""
    return {row["invoice_id"]: row["amount_minor"] for row in await connection.fetch(_PAID, document_ids)}


async def add(connection: Transaction, found: Sequence[SetOff], now: datetime) -> None:
    """Store set-offs."""
    await connection.executemany(_ADD, [(*one, now) for one in found])


async def move(
    connection: Transaction, moved: Sequence[tuple[UUID, InvoiceStatus, int]], now: datetime
) -> list[Document]:
    """Move documents to a status, with so much more set off; as they are now, in the same order."""
    ids, statuses, more = zip(*moved, strict=True)
    found = {row["id"]: to_document(row) for row in await connection.fetch(_MOVE, ids, statuses, more, now)}
    return [found[id_] for id_ in ids]


async def nothing_due(connection: Transaction, invoice_ids: Sequence[UUID]) -> None:
    """Nothing is to be paid of these invoices, so nothing is due on any day."""
    await connection.execute(_NOTHING_DUE, invoice_ids)
