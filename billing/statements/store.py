"""The SQL of collective invoices."""

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Any, Final
from uuid import UUID

import asyncpg
import msgspec

from billing.currency import format_minor
from billing.documents import NOT_OWED, CdrStatus, DocumentLine
from billing.invoicing.credit import CreditedInvoice
from billing.statements.composition import CollectedCharge, Item
from kit.database.postgres import Database
from kit.messaging.outbox import Transaction
from kit.web.errors import Conflict

_FIELDS: Final = CollectedCharge.__struct_fields__
_COLUMNS: Final = ", ".join(_FIELDS)

# What was collected once stays so, whoever its driver's customer is by then: else it could be invoiced twice.
_COLLECTING: Final = """
SELECT s.subject_id, coalesce(
    (SELECT c.customer_id FROM billing.collected_charge AS c WHERE c.subject_id = s.subject_id LIMIT 1),
    (SELECT k.id FROM billing.customer_driver AS d JOIN billing.customer AS k ON k.id = d.customer_id
     WHERE d.driver_id = s.driver_id AND k.billing = 'monthly')
) AS customer_id
FROM unnest($1::uuid[], $2::text[]) AS s (subject_id, driver_id)
"""
_ADD: Final = f"""
INSERT INTO billing.collected_charge ({_COLUMNS}, collected_at)
VALUES ({", ".join(f"${place}" for place in range(1, len(_FIELDS) + 1))}, ${len(_FIELDS) + 1})
"""  # noqa: S608  # our own names
# Of a charge that owes nothing any more what was invoiced is taken back, also where no later version waits.
NOT_OWED_ANY_MORE: Final = f"({', '.join(repr(str(status)) for status in (*NOT_OWED, CdrStatus.CANCELLED))})"
_TAKEN_BACK: Final = f"c.invoiced AND r.status IN {NOT_OWED_ANY_MORE}"
_OLDEST: Final = f"""
SELECT c.customer_id, c.currency, min(c.ended_at) AS oldest_ended_at,
       (SELECT max(month) FROM billing.statement AS s
        WHERE s.customer_id = c.customer_id AND s.currency = c.currency) AS last, k.time_zone
FROM billing.collected_charge AS c
JOIN billing.customer AS k ON k.id = c.customer_id
JOIN billing.cdr AS r ON r.subject_id = c.subject_id AND r.current
WHERE (c.statement_id IS NULL OR {_TAKEN_BACK}) AND ($1::uuid IS NULL OR c.customer_id = $1)
GROUP BY c.customer_id, c.currency, k.time_zone ORDER BY c.customer_id, c.currency
"""  # noqa: S608  # our own names
_WAITING: Final = f"""
SELECT {_COLUMNS} FROM billing.collected_charge
WHERE statement_id IS NULL AND customer_id = $1 AND currency = $2 AND ($3::timestamptz IS NULL OR ended_at < $3)
ORDER BY ended_at, cdr_id LIMIT $4
"""  # noqa: S608  # our own names
_INVOICED: Final = f"""
SELECT {", ".join(f"c.{name}" for name in _FIELDS)}
FROM billing.collected_charge AS c
JOIN billing.cdr AS r ON r.subject_id = c.subject_id AND r.current
WHERE c.invoiced AND c.customer_id = $1 AND c.currency = $2 AND (c.subject_id = ANY ($3::uuid[]) OR {_TAKEN_BACK})
"""  # noqa: S608  # our own names
# Of the collective invoices of which a person credited a part and on which one of these charges stands: what stands.
_STANDING: Final = """
SELECT c.statement_id, sum(l.incl_micros)::bigint AS micros,
       coalesce(sum(l.incl_micros) FILTER (WHERE c.cdr_id = ANY ($1::uuid[])), 0)::bigint AS taken_back_micros
FROM billing.collected_charge AS c
CROSS JOIN LATERAL (SELECT coalesce(sum((line ->> 'incl_micros')::bigint), 0) AS incl_micros
                    FROM jsonb_array_elements(c.lines) AS line) AS l
WHERE c.invoiced
  AND c.statement_id IN (SELECT o.statement_id FROM billing.collected_charge AS o WHERE o.cdr_id = ANY ($1::uuid[]))
  AND EXISTS (SELECT FROM billing.invoice AS n WHERE n.credits = c.statement_id)
GROUP BY c.statement_id
"""
_STILL_ON: Final = """
SELECT coalesce(sum((line ->> 'incl_micros')::bigint), 0)::bigint
FROM billing.collected_charge AS c CROSS JOIN LATERAL jsonb_array_elements(c.lines) AS line
WHERE c.invoiced AND c.statement_id = $1
"""
_VOID: Final = f"""
SELECT subject_id FROM billing.cdr WHERE current AND subject_id = ANY ($1::uuid[]) AND status IN {NOT_OWED_ANY_MORE}
"""  # noqa: S608  # our own names
_PARTS: Final = """
SELECT count(*) FROM billing.statement WHERE customer_id = $1 AND month = $2 AND currency = $3
"""
_CUSTOMER: Final = """
SELECT id AS customer_id, name, address, tax_id, email, reference, electronic_address, payment_days, payment_terms,
       time_zone
FROM billing.customer WHERE id = $1
"""
_ADD_CDR: Final = """
INSERT INTO billing.cdr (id, kind, subject_id, version, current, revision, status, station_id, started_at, ended_at,
    end_reason, estimated, energy_uj, readings, flagged, time_zone, consumption, currency, total_excl_micros,
    total_incl_micros, created_at)
VALUES ($1, 'statement', $2, 1, false, 1, 'invoiced', '', $3, $4, 'ended', false, $5, 0, 0, $6, $7, $8, $9, $10, $11)
"""
_ADD_STATEMENT: Final = "INSERT INTO billing.statement VALUES ($1, $2, $3, $4, $5)"
_DEALT_WITH: Final = """
UPDATE billing.collected_charge SET statement_id = $2 WHERE cdr_id = ANY ($1::uuid[])
"""
_REPLACED: Final = "UPDATE billing.collected_charge SET invoiced = false WHERE cdr_id = ANY ($1::uuid[])"
_NOW_INVOICED: Final = "UPDATE billing.collected_charge SET invoiced = true WHERE cdr_id = ANY ($1::uuid[])"
_FORGET: Final = """
DELETE FROM billing.collected_charge WHERE statement_id IS NULL AND cdr_id = ANY ($1::uuid[])
"""
# A later collective invoice that takes back or adds a version of a charge of this one.
_LATER: Final = """
SELECT later.number FROM billing.statement_item AS own
JOIN billing.invoice AS this ON this.id = own.invoice_id
JOIN billing.cdr AS c ON c.id = own.cdr_id
JOIN billing.cdr AS other ON other.subject_id = c.subject_id
JOIN billing.statement_item AS item ON item.cdr_id = other.id
JOIN billing.invoice AS later ON later.id = item.invoice_id AND later.status IN ('open', 'paid')
WHERE own.invoice_id = $1 AND (later.year, later.sequence) > (this.year, this.sequence)
ORDER BY later.year DESC, later.sequence DESC LIMIT 1
"""
_WITHDRAWN: Final = """
UPDATE billing.collected_charge AS c SET invoiced = s.taken_back FROM billing.statement_item AS s
WHERE s.invoice_id = $1 AND s.cdr_id = c.cdr_id AND s.taken_back = $2 RETURNING c.subject_id
"""
_ITEMS: Final = ("invoice_id", "line", "label", "cdr_id", "taken_back")
_ANY_WAITING: Final = """
SELECT EXISTS (SELECT FROM billing.collected_charge WHERE customer_id = $1 AND statement_id IS NULL)
"""


async def collecting(
    connection: Transaction, subjects: Sequence[UUID], drivers: Sequence[str | None]
) -> dict[UUID, UUID]:
    """The customers for whose collective invoices these charges, with their drivers, are collected, by subject."""
    rows = await connection.fetch(_COLLECTING, subjects, drivers)
    return {row["subject_id"]: row["customer_id"] for row in rows if row["customer_id"] is not None}


async def add_collected(connection: Transaction, charges: Sequence[CollectedCharge], now: datetime) -> None:
    """Store charges that wait."""
    await connection.executemany(_ADD, [(*_values(charge), now) for charge in charges])


async def any_waiting(connection: Transaction, customer_id: UUID) -> bool:
    """Whether charges of a customer wait."""
    return bool(await connection.fetchval(_ANY_WAITING, customer_id))


class StatementStore:
    """Reads what waits. Raises Unavailable where the database does not answer."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def oldest(self, customer_id: UUID | None = None) -> list[asyncpg.Record]:
        """By customer (this one, if it is given) and currency: when the oldest waiting charge ended, the last month
        invoiced, the time zone."""
        return await self._database.fetch(_OLDEST, customer_id)


async def customer(connection: Transaction, customer_id: UUID) -> asyncpg.Record | None:
    """A customer's columns, as document_terms takes them."""
    return await connection.fetchrow(_CUSTOMER, customer_id)


async def parts(connection: Transaction, customer_id: UUID, month: date, currency: str) -> int:
    """How many collective invoices there are of that month."""
    count: int = await connection.fetchval(_PARTS, customer_id, month, currency)
    return count


async def waiting(
    connection: Transaction, customer_id: UUID, currency: str, before: datetime | None, rows_max: int | None
) -> list[CollectedCharge]:
    """Charges that wait and ended before a moment, oldest first; all of them where no bound is given."""
    return [_charge(row) for row in await connection.fetch(_WAITING, customer_id, currency, before, rows_max)]


async def invoiced(
    connection: Transaction, customer_id: UUID, currency: str, subjects: Sequence[UUID]
) -> tuple[list[CollectedCharge], set[UUID]]:
    """Versions of these subjects, and of void ones, that stand on collective invoices; and the void subjects of all."""
    found = [_charge(row) for row in await connection.fetch(_INVOICED, customer_id, currency, subjects)]
    of = list({*subjects, *(charge.subject_id for charge in found)})
    return found, {row["subject_id"] for row in await connection.fetch(_VOID, of)}


async def standing(connection: Transaction, taken_back: Sequence[UUID]) -> list[asyncpg.Record]:
    """Of the invoices on which these CDRs stand, as far as a part is credited of them: statement_id, the micro-units of
    all charges that stand on it, and those of the CDRs."""
    rows: list[asyncpg.Record] = await connection.fetch(_STANDING, taken_back)
    return rows


async def add_cdr(connection: Transaction, cdr: Sequence[Any]) -> None:
    """Store a collective invoice's own CDR."""
    await connection.execute(_ADD_CDR, *cdr)


async def add_items(connection: Transaction, statement: Sequence[Any], items: Sequence[tuple[int, Item]]) -> None:
    """Store what a collective invoice is of, and its items with the number of their first lines."""
    await connection.execute(_ADD_STATEMENT, *statement)
    invoice_id = statement[0]
    records = [(invoice_id, line, item.label, item.charge.cdr_id, item.taken_back) for line, item in items]
    await connection.copy_records_to_table("statement_item", schema_name="billing", columns=_ITEMS, records=records)


async def settle(connection: Transaction, invoice_id: UUID, dealt_with: Sequence[UUID], items: Sequence[Item]) -> None:
    """The waiting charges `dealt_with` wait no more; those of the items stand on the invoice, or are taken back."""
    await connection.execute(_DEALT_WITH, dealt_with, invoice_id)
    await connection.execute(_REPLACED, [item.charge.cdr_id for item in items if item.taken_back])
    await connection.execute(_NOW_INVOICED, [item.charge.cdr_id for item in items if not item.taken_back])


async def check_part(connection: Transaction, credited: CreditedInvoice, amount_minor: int) -> None:
    """Raises Conflict where that much cannot be credited of a collective invoice, because later ones have taken charges
    of it back. Does nothing of any other invoice."""
    invoice = credited.invoice
    if invoice.session_id is not None or invoice.reservation_id is not None:
        return
    standing_micros: int = await connection.fetchval(_STILL_ON, invoice.id)
    left_micros = standing_micros + sum(note.total_incl_micros for note in credited.notes)  # of credit notes below 0
    if amount_minor * credited.unit_micros > left_micros:
        left = format_minor(max(left_micros, 0) // credited.unit_micros, invoice.minor_digits)
        raise Conflict(
            f"a later collective invoice has taken charges of {invoice.number} back: {left} {invoice.currency} is left "
            "to credit; credit the rest on that one"
        )


async def check_last(connection: Transaction, invoice_id: UUID) -> None:
    """Raises Conflict where a later collective invoice has corrected charges of this one: of both together, whole."""
    number = await connection.fetchval(_LATER, invoice_id)
    if number is not None:
        raise Conflict(f"{number} takes back or corrects charges of this collective invoice: cancel that one first")


async def withdraw(connection: Transaction, invoice_id: UUID) -> list[UUID]:
    """The subjects of the charges on a collective invoice that is cancelled: they stand on it no more. What it took
    back stands on the invoice before again, until the next one takes it back."""
    subjects = [row["subject_id"] for row in await connection.fetch(_WITHDRAWN, invoice_id, False)]
    await connection.fetch(_WITHDRAWN, invoice_id, True)
    return subjects


async def forget(connection: Transaction, cdr_ids: Sequence[UUID]) -> None:
    """Remove waiting charges that change nothing: void ones, and those that repeat what is invoiced."""
    await connection.execute(_FORGET, cdr_ids)


def _values(charge: CollectedCharge) -> list[Any]:
    values = msgspec.structs.asdict(charge)
    return [*({**values, "lines": msgspec.json.encode(charge.lines).decode()}[name] for name in _FIELDS)]


def _charge(row: Mapping[str, Any]) -> CollectedCharge:
    lines = msgspec.json.decode(row["lines"], type=tuple[DocumentLine, ...])
    return CollectedCharge(**{**{name: row[name] for name in _FIELDS}, "lines": lines})
