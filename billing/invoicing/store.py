"""The SQL of invoicing. Every function works in a transaction that has taken the writer's lock (`lock`) first."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple
from uuid import UUID

import asyncpg
import msgspec

from billing.documents import (
    WAITING,
    CdrStatus,
    ChargeAmount,
    ChargeDraft,
    Document,
    DocumentLine,
    InvoiceKind,
    InvoiceStatus,
    Number,
    StoredCdr,
    SubjectKind,
)
from billing.invoicing.decision import ChargeState, Decision, PastDecision
from kit.database.postgres import Database
from kit.messaging.consumer import EventContext
from kit.messaging.outbox import Transaction
from schemas.events import Consumption, SessionAssigned

READS: Final = ("pricing.bases(uuid[])",)
"""What billing asks of pricing's contracts."""
INVOICE_COLUMNS: Final = Document.__struct_fields__
LINE_COLUMNS: Final = ("invoice_id", "line", *DocumentLine.__struct_fields__)
_CDR_COLUMNS: Final = (
    *("id", "kind", "subject_id", "reservation_id", "version", "current", "revision", "status", "driver_id"),
    *("station_id", "connector_id", "device_session_id", "started_at", "ended_at", "end_reason", "estimated"),
    *("energy_uj", "readings", "flagged", "tariff_version", "time_zone", "consumption", "currency"),
    *("total_excl_micros", "total_incl_micros", "stream_excl_micros", "stream_incl_micros", "reason", "created_at"),
    *("reasons", "lines", "computed", "due_at", "settling_since", "correlation_id", "traceparent", "decision_id"),
    *("reserved_excl_micros", "reserved_incl_micros", "demand_margin_micros"),
)
# What a charge is compared with: see StoredCdr.
_COMPARED: Final = (
    "c.subject_id, c.id, c.version, c.revision, c.status, c.tariff_version, c.time_zone, c.consumption, c.reasons, "
    "c.settling_since, c.decision_id, c.currency, c.total_excl_micros, c.total_incl_micros"
)
_COLUMNS: Final = ", ".join(INVOICE_COLUMNS)

_LOCK: Final = "SELECT year, last, issued_at FROM billing.numbering FOR UPDATE"
_ADVANCE: Final = "UPDATE billing.numbering SET year = $1, last = $2, issued_at = $3"
_STATES: Final = f"""
SELECT {_COMPARED}, s.subject_id AS subject, i.id AS invoice_id, d.driver_id,
       coalesce(i.currency, k.currency) AS invoiced_currency,
       coalesce(i.total_excl_micros, k.total_excl_micros) AS invoiced_excl_micros,
       coalesce(i.total_incl_micros, k.total_incl_micros) AS invoiced_incl_micros,
       EXISTS (SELECT FROM billing.invoice AS n WHERE n.credits = coalesce(i.id, k.standing_on)) AS partly_credited
FROM unnest($1::uuid[]) AS s (subject_id)
LEFT JOIN billing.cdr AS c ON c.subject_id = s.subject_id AND c.current
LEFT JOIN billing.invoice AS i
       ON i.subject_id = s.subject_id AND i.kind = 'invoice' AND i.status IN ('open', 'paid')
LEFT JOIN LATERAL (  -- on a collective invoice, or waiting for one: the newest version
    SELECT r.currency, r.total_excl_micros, r.total_incl_micros,
           (SELECT o.statement_id FROM billing.collected_charge AS o
            WHERE o.subject_id = s.subject_id AND o.invoiced) AS standing_on
    FROM billing.collected_charge AS c JOIN billing.cdr AS r ON r.id = c.cdr_id
    WHERE c.subject_id = s.subject_id AND (c.invoiced OR c.statement_id IS NULL)
    ORDER BY c.version DESC LIMIT 1
) AS k ON true
LEFT JOIN billing.session_driver AS d ON d.session_id = s.subject_id
"""  # noqa: S608  # our own names
_PAST_DECISIONS: Final = f"""
SELECT DISTINCT ON (p.subject_id) p.result_cdr_id, p.decision = 'correct' AS corrected, {_COMPARED}
FROM billing.charge_decision AS p JOIN billing.cdr AS c ON c.id = p.cdr_id
WHERE p.subject_id = ANY ($1::uuid[]) ORDER BY p.subject_id, p.decided_at DESC, c.version DESC
"""  # noqa: S608  # our own names
_SUPERSEDE: Final = "UPDATE billing.cdr SET current = false WHERE id = ANY ($1::uuid[])"
_CONFIRM: Final = """
UPDATE billing.cdr SET revision = $2, ended_at = $3, end_reason = $4, estimated = $5, energy_uj = $6, readings = $7,
       flagged = $8, started_at = $9, reason = $10
WHERE id = $1
"""
_CONFIRM_DECIDED: Final = "UPDATE billing.cdr SET revision = $2 WHERE id = $1"
_DUE: Final = f"""
SELECT {", ".join(_CDR_COLUMNS)} FROM billing.cdr
WHERE current AND status = 'settling' AND due_at <= $1 ORDER BY due_at LIMIT $2
"""  # noqa: S608  # our own names
_ANY_DUE: Final = "SELECT EXISTS (SELECT FROM billing.cdr WHERE current AND status = 'settling' AND due_at <= $1)"
_SETTLED: Final = """
UPDATE billing.cdr AS c
SET status = s.status, reasons = CASE WHEN s.reason = '' THEN c.reasons ELSE c.reasons || s.reason END,
    lines = CASE WHEN s.reason = '' THEN NULL ELSE c.lines END, due_at = NULL, settling_since = NULL
FROM unnest($1::uuid[], $2::text[], $3::text[]) AS s (id, status, reason) WHERE c.id = s.id
"""
_REPRICE: Final = """
UPDATE billing.cdr SET total_excl_micros = $2, total_incl_micros = $3, reserved_excl_micros = $4,
       reserved_incl_micros = $5, demand_margin_micros = $6
WHERE id = $1
"""
# The used reservations of sessions, as far as they are paid for or may be, and the tariffs of these sessions.
_RESERVED: Final = """
SELECT s.id AS session_id, r.total_excl_micros, r.total_incl_micros, r.currency, t.tariff
FROM unnest($1::uuid[], $2::uuid[]) AS s (id, tariff_version)
JOIN billing.session_driver AS d ON d.session_id = s.id AND d.reservation_id IS NOT NULL AND d.driver_id IS NOT NULL
JOIN billing.cdr AS r ON r.reservation_id = d.reservation_id AND r.current AND r.end_reason = 'used'
 AND r.total_incl_micros IS NOT NULL AND r.status NOT IN ('free', 'void', 'nothing_owed', 'cancelled')
JOIN billing.tariff_version AS t ON t.version = s.tariff_version
"""
_PRICED_SESSIONS: Final = f"""
SELECT {", ".join(f"c.{name}" for name in _CDR_COLUMNS)}, d.reservation_id AS used_reservation_id
FROM billing.cdr AS c LEFT JOIN billing.session_driver AS d ON d.session_id = c.subject_id
WHERE c.current AND c.kind = 'session' AND c.total_incl_micros IS NOT NULL AND c.status = ANY ($3::text[])
  AND c.subject_id = ANY ($1::uuid[] || ARRAY(
      SELECT session_id FROM billing.session_driver WHERE reservation_id = ANY ($2::text[])))
  AND (d.reservation_id IS NOT NULL OR c.reserved_incl_micros IS NOT NULL)
ORDER BY c.created_at, c.id
"""  # noqa: S608  # our own names
_TARIFFS: Final = "SELECT version, tariff FROM billing.tariff_version WHERE version = ANY ($1::uuid[])"
# Pricing's contract.
_BASES: Final = "SELECT id, by_demand, base_id, base_tariff FROM pricing.bases($1::uuid[])"
_INVOICES: Final = f"SELECT {_COLUMNS} FROM billing.invoice WHERE id = ANY ($1::uuid[])"  # noqa: S608  # our own names
_LINES: Final = """
SELECT invoice_id, dimension, element, volume, billed, price_micros, vat_ppm, excl_micros, incl_micros
FROM billing.invoice_line WHERE invoice_id = ANY ($1::uuid[]) ORDER BY invoice_id, line
"""
_SET_STATUS: Final = f"""
UPDATE billing.invoice SET status = $2, changes = changes + 1, changed_at = $3 WHERE id = ANY ($1::uuid[])
RETURNING {_COLUMNS}
"""  # noqa: S608  # our own names
_CANCEL_CDRS: Final = """
UPDATE billing.cdr SET status = 'cancelled', reasons = '{}' WHERE subject_id = ANY ($1::uuid[]) AND current
"""
_CREDIT_NOTES: Final = f"""
SELECT {_COLUMNS} FROM billing.invoice WHERE credits = ANY ($1::uuid[]) ORDER BY year, sequence
"""  # noqa: S608  # our own names
_ASSIGN: Final = """
INSERT INTO billing.session_driver AS known (session_id, revision, driver_id, reservation_id, request_id, heard_at)
SELECT *, $6 FROM unnest($1::uuid[], $2::int[], $3::text[], $4::text[], $5::uuid[])
ON CONFLICT (session_id) DO UPDATE SET revision = excluded.revision, driver_id = excluded.driver_id,
    reservation_id = excluded.reservation_id, request_id = excluded.request_id, heard_at = excluded.heard_at
WHERE known.revision < excluded.revision
RETURNING session_id, driver_id
"""
_CDR_DRIVER: Final = """
UPDATE billing.cdr AS c SET driver_id = a.driver FROM unnest($1::uuid[], $2::text[]) AS a (session, driver)
WHERE c.subject_id = a.session AND c.driver_id IS DISTINCT FROM a.driver
"""
_INVOICE_DRIVER: Final = f"""
UPDATE billing.invoice AS i SET driver_id = a.driver, changes = changes + 1, changed_at = $3
FROM unnest($1::uuid[], $2::text[]) AS a (session, driver)
WHERE i.subject_id = a.session AND i.driver_id IS DISTINCT FROM a.driver
RETURNING {_COLUMNS}
"""  # noqa: S608  # our own names
_ADD_TARIFF: Final = """
INSERT INTO billing.tariff_version (version, tariff) VALUES ($1, $2) ON CONFLICT DO NOTHING
"""
_TARIFF: Final = "SELECT tariff FROM billing.tariff_version WHERE version = $1"

_decode_consumption: Final = msgspec.json.Decoder(tuple[Consumption, ...]).decode
_decode_lines: Final = msgspec.json.Decoder(tuple[DocumentLine, ...]).decode


class NewCdr(NamedTuple):
    """A version of a CDR to be stored."""

    id: UUID
    decision: Decision
    driver_id: str | None
    draft: ChargeDraft
    context: EventContext
    decision_id: UUID | None = None


async def lock(connection: Transaction) -> Number:
    """The last number assigned; nobody else assigns any until this transaction ends."""
    row = await connection.fetchrow(_LOCK)
    if row is None:
        raise AssertionError("billing.numbering has one row, by its migration")
    return Number(row["year"], row["last"], row["issued_at"])


async def advance(connection: Transaction, number: Number) -> None:
    """The last number assigned is now this one."""
    await connection.execute(_ADVANCE, number.year, number.sequence, number.issued_at)


async def charge_states(connection: Transaction, subjects: Sequence[UUID]) -> dict[UUID, ChargeState]:
    """What is recorded of each subject."""
    rows = await connection.fetch(_STATES, subjects)
    recorded = [row["subject"] for row in rows if row["id"] is not None]
    decisions = {}
    if recorded:  # not so of a first revision, as most are
        decisions = {row["subject_id"]: row for row in await connection.fetch(_PAST_DECISIONS, recorded)}
    found = {}
    for row in rows:
        requested = (row["invoiced_currency"], row["invoiced_excl_micros"], row["invoiced_incl_micros"])
        past = decisions.get(row["subject"])
        found[row["subject"]] = ChargeState(
            cdr=None if row["id"] is None else _stored_cdr(row),
            invoice_id=row["invoice_id"],
            driver_id=row["driver_id"],
            invoiced=None if row["invoiced_currency"] is None else requested,
            partly_credited=row["partly_credited"],
            decision=past and PastDecision(past["result_cdr_id"], _stored_cdr(past), past["corrected"]),
        )
    return found


async def add_cdrs(connection: Transaction, rows: Iterable[NewCdr], now: datetime) -> None:
    """Store these as the current CDRs of their subjects."""
    records = [_cdr_record(row, now) for row in rows]
    await connection.copy_records_to_table("cdr", schema_name="billing", columns=_CDR_COLUMNS, records=records)


async def any_due(database: Database, now: datetime) -> bool:
    """Whether a settling CDR is to be invoiced now. Needs no lock."""
    found: bool = await database.fetchval(_ANY_DUE, now)
    return found


async def due_cdrs(connection: Transaction, now: datetime, rows_max: int) -> list[asyncpg.Record]:
    """Settling CDRs that are to be invoiced now, those that have waited longest first."""
    rows: list[asyncpg.Record] = await connection.fetch(_DUE, now, rows_max)
    return rows


async def settled(connection: Transaction, outcomes: Sequence[tuple[UUID, CdrStatus, str]]) -> None:
    """These CDRs settle no more: id, status, and a further reason, or an empty one."""
    ids, statuses, reasons = zip(*outcomes, strict=True)
    await connection.execute(_SETTLED, ids, statuses, reasons)


async def reprice(connection: Transaction, drafts: Iterable[tuple[UUID, ChargeDraft]]) -> None:
    """Record the amounts and margins that these CDRs have now, in view of what was reserved."""
    await connection.executemany(
        _REPRICE,
        [
            (
                *(id_, *draft.amount.totals[1:], draft.reserved_excl_micros, draft.reserved_incl_micros),
                draft.demand_margin_micros,
            )
            for id_, draft in drafts
            if draft.amount is not None
        ],
    )


async def reserved(
    connection: Transaction, sessions: Sequence[tuple[UUID, UUID | None]]
) -> dict[UUID, Mapping[str, Any]]:
    """By session id (and its tariff's version), the amount of the reservation that it used, and its tariff."""
    if not sessions:
        return {}
    ids, versions = zip(*sessions, strict=True)
    return {row["session_id"]: row for row in await connection.fetch(_RESERVED, ids, versions)}


async def priced_sessions(
    connection: Transaction, sessions: Sequence[UUID], reservations: Sequence[str], statuses: Sequence[CdrStatus]
) -> list[asyncpg.Record]:
    """The current CDRs with one of these statuses of sessions that used a reservation, or were priced as if they had:
    these sessions, and those that used these reservations (`used_reservation_id`)."""
    rows: list[asyncpg.Record] = await connection.fetch(_PRICED_SESSIONS, sessions, reservations, statuses)
    return rows


async def tariffs(connection: Transaction, versions: Sequence[UUID]) -> dict[UUID, str]:
    """Tariffs' JSON by version."""
    return {row["version"]: row["tariff"] for row in await connection.fetch(_TARIFFS, versions)}


async def bases(connection: Transaction, versions: Sequence[UUID]) -> list[asyncpg.Record]:
    """Of tariff versions that pricing knows, whether demand made them, and from which tariff (JSON)."""
    rows: list[asyncpg.Record] = await connection.fetch(_BASES, versions)
    return rows


async def supersede(connection: Transaction, cdr_ids: Sequence[UUID]) -> None:
    """These CDRs are not their subjects' current ones any more."""
    await connection.execute(_SUPERSEDE, cdr_ids)


async def confirm_revisions(connection: Transaction, revisions: Iterable[tuple[UUID, ChargeDraft]]) -> None:
    """Record newer revisions on CDRs whose charge they confirm."""
    await connection.executemany(
        _CONFIRM,
        [
            (
                *(id_, d.revision, d.ended_at, d.end_reason, d.estimated, d.energy_uj, d.readings, d.flagged),
                *(d.started_at, d.reason),
            )
            for id_, d in revisions
        ],
    )


async def confirm_decided(connection: Transaction, revisions: Iterable[tuple[UUID, int]]) -> None:
    """Record newer revisions on CDRs whose consumption a person gave."""
    await connection.executemany(_CONFIRM_DECIDED, list(revisions))


async def add_invoices(connection: Transaction, documents: Sequence[tuple[Document, Sequence[DocumentLine]]]) -> None:
    """Store documents with their lines."""
    invoices = [msgspec.structs.astuple(invoice) for invoice, _ in documents]
    await connection.copy_records_to_table("invoice", schema_name="billing", columns=INVOICE_COLUMNS, records=invoices)
    lines = [
        (invoice.id, number, *msgspec.structs.astuple(line))
        for invoice, of_invoice in documents
        for number, line in enumerate(of_invoice, 1)
    ]
    await connection.copy_records_to_table("invoice_line", schema_name="billing", columns=LINE_COLUMNS, records=lines)


async def invoices(connection: Transaction, ids: Sequence[UUID]) -> dict[UUID, Document]:
    """Documents by id."""
    return {row["id"]: to_document(row) for row in await connection.fetch(_INVOICES, ids)}


async def lines(connection: Transaction, ids: Sequence[UUID]) -> dict[UUID, list[DocumentLine]]:
    """The lines of documents, in order."""
    found: dict[UUID, list[DocumentLine]] = {id_: [] for id_ in ids}
    for invoice_id, *values in await connection.fetch(_LINES, ids):
        found[invoice_id].append(DocumentLine(*values))
    return found


async def credit_notes(connection: Transaction, invoice_ids: Sequence[UUID]) -> dict[UUID, list[Document]]:
    """The credit notes of invoices, in the order of issue."""
    found: dict[UUID, list[Document]] = {id_: [] for id_ in invoice_ids}
    for row in await connection.fetch(_CREDIT_NOTES, invoice_ids):
        found[row["credits"]].append(to_document(row))
    return found


async def set_status(
    connection: Transaction, ids: Sequence[UUID], status: InvoiceStatus, now: datetime
) -> list[Document]:
    """Move documents to a status; as they are now."""
    return [to_document(row) for row in await connection.fetch(_SET_STATUS, ids, status, now)]


async def cancel_cdrs(connection: Transaction, subjects: Sequence[UUID]) -> None:
    """Nothing is asked for these subjects any more."""
    await connection.execute(_CANCEL_CDRS, subjects)


async def assign(connection: Transaction, assignments: Sequence[SessionAssigned], now: datetime) -> list[Document]:
    """Record the drivers of sessions, the highest revision winning; the documents whose driver has changed."""
    drivers = [None if one.withdrawn else one.driver_id for one in assignments]
    columns = (
        [one.session_id for one in assignments],
        [one.revision for one in assignments],
        drivers,
        [one.reservation_id for one in assignments],
        [one.request_id for one in assignments],
    )
    new = await connection.fetch(_ASSIGN, *columns, now)
    if not new:
        return []
    sessions, of_sessions = [row["session_id"] for row in new], [row["driver_id"] for row in new]
    await connection.execute(_CDR_DRIVER, sessions, of_sessions)
    return [to_document(row) for row in await connection.fetch(_INVOICE_DRIVER, sessions, of_sessions, now)]


async def add_tariff(database: Database, version: UUID, tariff: str) -> str:
    """Store a tariff version unless it is stored; the stored one. JSON, in and out. Needs no lock."""
    await database.execute(_ADD_TARIFF, version, tariff)
    stored: str = await database.fetchval(_TARIFF, version)
    return stored


def to_document(row: Mapping[str, Any]) -> Document:
    """A row with INVOICE_COLUMNS."""
    values = {name: row[name] for name in INVOICE_COLUMNS}
    return Document(**{**values, "kind": InvoiceKind(row["kind"]), "status": InvoiceStatus(row["status"])})


def draft_of(row: Mapping[str, Any]) -> ChargeDraft:
    """The draft that a CDR was made of. `row`: its columns; without `lines` where a document has them."""
    amount = None
    if row["currency"] is not None:
        lines = () if row["lines"] is None else _decode_lines(row["lines"])
        amount = ChargeAmount(row["currency"], lines, row["total_excl_micros"], row["total_incl_micros"])
    names = set(ChargeDraft.__struct_fields__) - {"kind", "status", "amount", "consumption", "computed", "reasons"}
    return ChargeDraft(
        kind=SubjectKind(row["kind"]),
        status=CdrStatus(row["status"]),
        amount=amount,
        consumption=_decode_consumption(row["consumption"]),
        computed=None if row["computed"] is None else _decode_consumption(row["computed"]),
        reasons=tuple(row["reasons"]),
        **{name: row[name] for name in names},
    )


def _stored_cdr(row: asyncpg.Record) -> StoredCdr:
    names = ("id", "version", "revision", "tariff_version", "time_zone", "settling_since", "decision_id", "currency")
    return StoredCdr(
        status=CdrStatus(row["status"]),
        consumption=_decode_consumption(row["consumption"]),
        reasons=tuple(row["reasons"]),
        excl_micros=row["total_excl_micros"],
        incl_micros=row["total_incl_micros"],
        **{name: row[name] for name in names},
    )


def _cdr_record(new: NewCdr, now: datetime) -> tuple[Any, ...]:
    """The values of _CDR_COLUMNS, in their order."""
    draft, decision = new.draft, new.decision
    amount, status = draft.amount, decision.status
    kept = amount is not None and status in (CdrStatus.SETTLING, *WAITING)
    context = new.context if status is CdrStatus.SETTLING else None
    return (
        *(new.id, draft.kind, draft.subject_id, draft.reservation_id, decision.version, True, draft.revision),
        *(status, new.driver_id, draft.station_id, draft.connector_id, draft.device_session_id, draft.started_at),
        *(draft.ended_at, draft.end_reason, draft.estimated, draft.energy_uj, draft.readings, draft.flagged),
        *(draft.tariff_version, draft.time_zone, _json(draft.consumption)),
        *((None, None, None) if amount is None else amount.totals),
        *(draft.stream_excl_micros, draft.stream_incl_micros, draft.reason, now, list(decision.reasons)),
        _json(amount.lines) if amount is not None and kept else None,
        None if draft.computed is None else _json(draft.computed),
        *(decision.due_at, decision.settling_since),
        *((None, None) if context is None else (context.correlation_id, context.traceparent)),
        *(new.decision_id, draft.reserved_excl_micros, draft.reserved_incl_micros, draft.demand_margin_micros),
    )


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()
