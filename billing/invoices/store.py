"""The SQL of reading invoices."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Final
from uuid import UUID

import asyncpg
import msgspec

from billing.documents import Document, InvoiceKind, InvoiceStatus
from billing.invoicing.store import INVOICE_COLUMNS, to_document
from billing.setoffs.allocation import refundable_minor
from billing.setoffs.service import differences
from billing.whole_documents import visible_document
from kit.auth.station_filter import EVERY_STATION, StationFilter
from kit.database.postgres import Database
from kit.web.paging import Cursor, Int64

_COLUMNS: Final = ", ".join(f"i.{name}" for name in INVOICE_COLUMNS)
_CDR: Final = """c.started_at, c.ended_at, c.end_reason, c.connector_id, c.device_session_id, c.energy_uj,
       c.estimated, c.revision, c.tariff_version, c.time_zone, c.status AS cdr_status, c.kind AS subject_kind,
       c.version AS cdr_version, c.current AS cdr_current, c.consumption, t.tariff,
       c.reserved_excl_micros, c.reserved_incl_micros,
       EXISTS (SELECT FROM billing.charge_decision AS x WHERE x.id = c.decision_id AND x.decision = 'correct')
       AS corrected"""
_DETAIL: Final = f"""
SELECT {_COLUMNS}, {_CDR}, p.seller, p.buyer, p.issued_on, p.due_on, p.payment_terms,
       n.number AS credits_number, n.issued_at AS credits_issued_at, np.issued_on AS credits_issued_on
FROM billing.invoice AS i
JOIN billing.cdr AS c ON c.id = i.cdr_id
LEFT JOIN billing.tariff_version AS t ON t.version = c.tariff_version
LEFT JOIN billing.document_terms AS p ON p.invoice_id = i.id
LEFT JOIN billing.invoice AS n ON n.id = i.credits
LEFT JOIN billing.document_terms AS np ON np.invoice_id = i.credits
WHERE i.id = $1 AND ($2::text IS NULL OR i.driver_id = $2) AND {visible_document("i", 3)}
"""  # noqa: S608  # our own names
_CURRENT: Final = f"""
SELECT {_CDR} FROM billing.cdr AS c
LEFT JOIN billing.tariff_version AS t ON t.version = c.tariff_version
WHERE c.subject_id = $1 AND c.current
"""  # noqa: S608  # our own names
_KIN: Final = """
SELECT credited.number AS credits, note.number AS credited_by, later.number AS superseded_by,
       credited.total_incl_micros IS DISTINCT FROM -i.total_incl_micros
       OR EXISTS (SELECT FROM billing.invoice AS n WHERE n.credits = i.credits AND n.id <> i.id) AS part
FROM billing.invoice AS i
LEFT JOIN billing.invoice AS credited ON credited.id = i.credits
LEFT JOIN LATERAL (
    SELECT n.number FROM billing.invoice AS n WHERE n.credits = i.id AND i.status IN ('credited', 'cancelled')
    ORDER BY n.year DESC, n.sequence DESC LIMIT 1
) AS note ON true
LEFT JOIN billing.invoice AS later ON later.subject_id = i.subject_id AND later.replaces = coalesce(i.credits, i.id)
WHERE i.id = $1
"""
_LINES: Final = """
SELECT dimension, element, volume, billed, price_micros, vat_ppm, excl_micros, incl_micros
FROM billing.invoice_line WHERE invoice_id = $1 ORDER BY line
"""
# A credit note has the lines of its invoice.
_GROUPS: Final = """
SELECT s.line, s.label FROM billing.statement_item AS s
JOIN billing.invoice AS i ON s.invoice_id = coalesce(i.credits, i.id)
WHERE i.id = $1 ORDER BY s.line
"""
_PAYMENTS: Final = """
SELECT id, kind, provider, status, amount_minor, error, created_at, changed_at
FROM billing.payment WHERE invoice_id = $1 ORDER BY attempt
"""
_SET_OFFS: Final = f"""
SELECT o.id, o.number, s.amount_minor, s.set_off_at
FROM billing.set_off AS s
JOIN billing.invoice AS o ON o.id = CASE WHEN s.invoice_id = $1 THEN s.credit_note_id ELSE s.invoice_id END
WHERE (s.invoice_id = $1 OR s.credit_note_id = $1) AND {visible_document("o", 2)} ORDER BY o.year, o.sequence
"""  # noqa: S608  # our own names
# The credit notes of an invoice, in the order of issue, and what was paid of it.
_CREDITED: Final = """
SELECT n.id, -n.payable_minor AS credited_minor FROM billing.invoice AS n WHERE n.credits = $1 ORDER BY year, sequence
"""
_COVERED: Final = """
SELECT i.payable_minor, i.set_off_minor + coalesce(
    (SELECT sum(amount_minor) FROM billing.payment WHERE invoice_id = i.id AND status = 'succeeded'), 0
)::bigint AS covered_minor
FROM billing.invoice AS i WHERE i.id = $1
"""

# The current CDR of a subject, the sums of all its documents, and of the parts credited of its valid invoice.
_RECORDED: Final = """
SELECT c.id, c.subject_id, c.kind AS subject_kind, c.reservation_id, c.station_id, c.started_at, c.ended_at,
       c.end_reason, c.revision, c.status AS cdr_status, c.energy_uj, c.time_zone, c.consumption, c.currency,
       c.total_excl_micros, c.total_incl_micros, c.stream_excl_micros, c.stream_incl_micros, t.tariff,
       c.reserved_excl_micros, c.reserved_incl_micros,
       d.documents, d.excl_micros, d.incl_micros, d.part_excl_micros, d.part_incl_micros, x.decision
FROM billing.cdr AS c
LEFT JOIN billing.tariff_version AS t ON t.version = c.tariff_version
LEFT JOIN billing.charge_decision AS x ON x.id = c.decision_id
CROSS JOIN LATERAL (
    SELECT count(*) AS documents, coalesce(sum(i.total_excl_micros), 0)::bigint AS excl_micros,
           coalesce(sum(i.total_incl_micros), 0)::bigint AS incl_micros,
           coalesce(sum(i.total_excl_micros) FILTER (WHERE i.part), 0)::bigint AS part_excl_micros,
           coalesce(sum(i.total_incl_micros) FILTER (WHERE i.part), 0)::bigint AS part_incl_micros
    FROM (
        SELECT i.total_excl_micros, i.total_incl_micros,
               coalesce(of_invoice.status IN ('open', 'paid'), false) AS part
        FROM billing.invoice AS i
        LEFT JOIN billing.invoice AS of_invoice ON of_invoice.id = i.credits
        WHERE i.subject_id = c.subject_id
        UNION ALL  -- on a collective invoice, or waiting for one: the newest version that may be invoiced
        (SELECT r.total_excl_micros, r.total_incl_micros, false
         FROM billing.collected_charge AS k JOIN billing.cdr AS r ON r.id = k.cdr_id
         WHERE k.subject_id = c.subject_id AND (k.invoiced OR k.statement_id IS NULL)
           AND c.status NOT IN ('void', 'nothing_owed', 'cancelled')
         ORDER BY k.version DESC LIMIT 1)
    ) AS i
) AS d
"""
_RECORDED_OF: Final = f"{_RECORDED} WHERE c.current AND c.subject_id = ANY ($1::uuid[])"
_RECORDED_IN: Final = f"""{_RECORDED}
WHERE c.current AND c.started_at >= $1 AND c.started_at < $2 AND (c.started_at, c.id) > ($3, $4)
ORDER BY c.started_at, c.id LIMIT $5
"""
_COUNT_IN: Final = "SELECT count(*) FROM billing.cdr WHERE current AND started_at >= $1 AND started_at < $2"

# Of each filter, the condition; an unused filter is left out of the statement, so that an index can be used.
_CONDITIONS: Final = {
    "driver_id": "driver_id = {}",
    "station_id": "station_id = {}",
    "subject_id": "subject_id = {}",
    "status": "status = {}",
    "kind": "kind = {}",
    "start": "issued_at >= {}",
    "end": "issued_at < {}",
    "place": "(year, sequence) = {}",
    "own": "driver_id = {}",
}


class InvoiceCursor(Cursor, frozen=True, tag="i"):
    """The last document seen."""

    year: Annotated[int, msgspec.Meta(ge=0, le=9_999)]
    sequence: Int64


@dataclass(frozen=True, slots=True)
class InvoiceFilter:
    """Which documents; None: any. They were issued in [start, end)."""

    driver_id: str | None = None
    station_id: str | None = None
    subject_id: UUID | None = None
    status: InvoiceStatus | None = None
    kind: InvoiceKind | None = None
    start: datetime | None = None
    end: datetime | None = None
    place: tuple[int, int] | None = None  # year and sequence
    own: str | None = None  # only this driver's, whatever else is asked for
    only: StationFilter = EVERY_STATION


class InvoiceStore:
    """The documents, read. Every method raises Unavailable where the database does not answer."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def list_invoices(self, wanted: InvoiceFilter, after: InvoiceCursor | None, rows_max: int) -> list[Document]:
        """Up to rows_max documents, newest first."""
        conditions: list[str] = []
        arguments: list[Any] = []
        for name, condition in _CONDITIONS.items():
            value = getattr(wanted, name)
            if value is None:
                continue
            values = value if isinstance(value, tuple) else (value,)
            places = [f"${len(arguments) + place}" for place in range(1, len(values) + 1)]
            conditions.append(condition.format(places[0] if len(places) == 1 else f"({', '.join(places)})"))
            arguments += values
        if wanted.only.is_limited:
            conditions.append(visible_document("i", len(arguments) + 1))
            arguments += wanted.only.values
        if after is not None:
            conditions.append(f"(year, sequence) < (${len(arguments) + 1}, ${len(arguments) + 2})")
            arguments += (after.year, after.sequence)
        where = f"WHERE {' AND '.join(conditions)}" if conditions else ""
        query = (
            f"SELECT {_COLUMNS} FROM billing.invoice AS i {where} "  # noqa: S608  # the conditions above
            f"ORDER BY year DESC, sequence DESC LIMIT ${len(arguments) + 1}"
        )
        return [to_document(row) for row in await self._database.fetch(query, *arguments, rows_max)]

    async def detail(self, invoice_id: UUID, own: str | None, only: StationFilter) -> asyncpg.Record | None:
        """A document with its CDR's and its tariff's columns; of that driver alone, if given, and of these stations."""
        return await self._database.fetchrow(_DETAIL, invoice_id, own, *only.values)

    async def current_cdr(self, subject_id: UUID) -> asyncpg.Record | None:
        """The newest CDR of a subject with its tariff, columns as in `detail`."""
        return await self._database.fetchrow(_CURRENT, subject_id)

    async def related_documents(self, invoice_id: UUID) -> asyncpg.Record | None:
        """Numbers of related documents: credits, credited_by, superseded_by; `part`: a credit note of not all of it."""
        return await self._database.fetchrow(_KIN, invoice_id)

    async def lines(self, invoice_id: UUID) -> list[asyncpg.Record]:
        """A document's lines, in order."""
        return await self._database.fetch(_LINES, invoice_id)

    async def groups(self, invoice_id: UUID) -> list[asyncpg.Record]:
        """Of a collective invoice and its credit note: the first line of each charge, and its label."""
        return await self._database.fetch(_GROUPS, invoice_id)

    async def payments(self, invoice_id: UUID) -> list[asyncpg.Record]:
        """A document's payments, oldest first."""
        return await self._database.fetch(_PAYMENTS, invoice_id)

    async def set_offs(self, invoice_id: UUID, only: StationFilter) -> list[asyncpg.Record]:
        """What credit notes paid of an invoice, or a credit note of invoices: the other document, of these stations,
        and the amount."""
        return await self._database.fetch(_SET_OFFS, invoice_id, *only.values)

    async def refundable_minor(self, note: Document) -> int | None:
        """What had been paid of a credit note, and goes back; None: it is none."""
        if note.credits is None:
            return None
        covered = await self._database.fetchrow(_COVERED, note.credits)
        notes = await self._database.fetch(_CREDITED, note.credits)
        if covered is None:
            raise AssertionError("billing.invoice.credits refers to an invoice")
        credited = [one["credited_minor"] for one in notes]
        parts = refundable_minor(covered["payable_minor"], covered["covered_minor"], credited)
        return next(part for one, part in zip(notes, parts, strict=True) if one["id"] == note.id)

    async def recorded(self, subject_ids: Sequence[UUID]) -> dict[UUID, asyncpg.Record]:
        """The current CDRs of these subjects, with the sums of their documents."""
        return {row["subject_id"]: row for row in await self._database.fetch(_RECORDED_OF, subject_ids)}

    async def recorded_in(self, start: datetime, end: datetime, page: int) -> AsyncIterator[Sequence[asyncpg.Record]]:
        """The same of all that began in [start, end), oldest first, a page at a time."""
        after = (start, UUID(int=0))
        while rows := await self._database.fetch(_RECORDED_IN, start, end, *after, page):
            yield rows
            after = (rows[-1]["started_at"], rows[-1]["id"])

    async def money_differences(self, start: datetime, end: datetime) -> list[str]:
        """Where documents of charges that began in [start, end) do not say what was paid, refunded and set off."""
        async with self._database.snapshot() as connection:
            return await differences(connection, start, end)

    async def count_in(self, start: datetime, end: datetime) -> int:
        """The number of current CDRs in [start, end)."""
        count: int = await self._database.fetchval(_COUNT_IN, start, end)
        return count
