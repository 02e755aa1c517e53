"""Posting: a batch of events becomes documents in one transaction."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final
from uuid import UUID, uuid4

from billing.documents import (
    STANDING,
    CdrStatus,
    ChargeDraft,
    Invoice,
    InvoiceKind,
    InvoiceStatus,
    Line,
    Number,
    make_credit_note,
    make_invoice,
)
from billing.errors import Conflict, NotFound
from billing.invoicing import store
from billing.invoicing.events import invoice_created, invoice_updated
from billing.invoicing.metrics import PostingMetrics
from billing.invoicing.rules import Change, Standing, Verdict, judge
from kit.clock import Clock
from kit.database.postgres import Database
from kit.messaging.consumer import EventContext
from kit.messaging.inbox import first_times
from kit.messaging.outbox import OutboxEvent, Transaction, insert_async
from kit.observability.logs import get_logger
from schemas.events import SessionAssigned

SCHEMA: Final = "billing"
LATE: Final = "readings that came later changed the amount"

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Posting:
    """An event, read and rated."""

    queue: str
    event_id: UUID
    told: EventContext
    news: ChargeDraft | SessionAssigned

    @property
    def key(self) -> Hashable:
        """What it is about: a batch has one event of each."""
        return self.news.subject_id if isinstance(self.news, ChargeDraft) else self.news.session_id


@dataclass(slots=True)
class _Work:
    """What a batch writes."""

    number: Number
    now: datetime
    cdrs: list[tuple[UUID, int, CdrStatus, str | None, ChargeDraft]] = field(default_factory=list)
    superseded: list[UUID] = field(default_factory=list)
    notes: list[tuple[UUID, ChargeDraft]] = field(default_factory=list)
    documents: list[tuple[Invoice, Sequence[Line]]] = field(default_factory=list)
    events: list[OutboxEvent] = field(default_factory=list)
    outcomes: list[str] = field(default_factory=list)

    def next_number(self) -> Number:
        """A number that nobody has."""
        self.number = self.number.following(self.now)
        return self.number

    def issue(self, document: Invoice, lines: Sequence[Line], told: EventContext) -> None:
        """Have the document stored and told."""
        self.documents.append((document, lines))
        self.events.append(invoice_created(document, told))


class InvoicePoster:
    """Writes the books."""

    def __init__(self, database: Database, clock: Clock, metrics: PostingMetrics) -> None:
        """`database` works as billing's role."""
        self._database = database
        self._clock = clock
        self._metrics = metrics

    async def post(self, postings: Sequence[Posting]) -> None:
        """All of them or none; of each subject one. What was posted before changes nothing. Raises Unavailable."""
        async with self._database.transaction() as connection:
            number = await store.lock(connection)
            new = await first_times(connection, SCHEMA, [(posting.queue, posting.event_id) for posting in postings])
            work = _Work(number, self._clock.now())
            fresh = [posting for posting in postings if (posting.queue, posting.event_id) in new]
            await _assign(connection, work, fresh)
            await _claim(connection, work, fresh)
            await self._finish(connection, work, number)
        self._metrics.batch_events.observe(len(postings))
        self._count(work)

    async def cancel(self, connection: Transaction, invoice_id: UUID, reason: str, told: EventContext) -> Invoice:
        """Cancel an invoice by a credit note, which is returned; nothing more is asked for its subject.

        `connection`: of an open transaction, which commits at once. Raises NotFound, Conflict.
        """
        number = await store.lock(connection)
        invoice = (await store.invoices(connection, [invoice_id])).get(invoice_id)
        if invoice is None:
            raise NotFound(f"no invoice {invoice_id}")
        if invoice.kind is not InvoiceKind.INVOICE or invoice.status not in STANDING:
            raise Conflict(
                f"{invoice.kind} {invoice.number} is {invoice.status}: only an open or paid invoice is cancelled"
            )
        work = _Work(number, self._clock.now())
        notes = await _credit(connection, work, {invoice_id: told}, InvoiceStatus.CANCELLED, reason)
        await store.cancel_cdr(connection, invoice.subject_id)
        await self._finish(connection, work, number)
        self._count(work)
        return notes[0]

    async def _finish(self, connection: Transaction, work: _Work, number: Number) -> None:
        await _write(connection, work)
        if work.number != number:
            await store.advance(connection, work.number)
        await insert_async(connection, SCHEMA, work.events)

    def _count(self, work: _Work) -> None:
        for outcome in work.outcomes:
            self._metrics.claims.labels(outcome).inc()
        for document, _ in work.documents:
            self._metrics.documents.labels(document.kind).inc()
        for _, _, status, _, claim in work.cdrs:
            if status is CdrStatus.DRIFT:
                self._metrics.drift.inc()
                _tell_drift(claim)


async def _assign(connection: Transaction, work: _Work, postings: Sequence[Posting]) -> None:
    """Give sessions their drivers, and the documents that are there already."""
    told = {posting.key: posting.told for posting in postings}
    assigned = [posting.news for posting in postings if isinstance(posting.news, SessionAssigned)]
    if not assigned:
        return
    for invoice in await store.assign(connection, assigned, work.now):
        work.events.append(invoice_updated(invoice, told[invoice.subject_id]))


async def _claim(connection: Transaction, work: _Work, postings: Sequence[Posting]) -> None:
    """Decide on the claims."""
    claims = [(posting.news, posting.told) for posting in postings if isinstance(posting.news, ChargeDraft)]
    if not claims:
        return
    standing = await store.standing(connection, [claim.subject_id for claim, _ in claims])
    verdicts = [
        (claim, told, standing[claim.subject_id], judge(claim, standing[claim.subject_id])) for claim, told in claims
    ]
    credited = {
        known.invoice_id: told
        for _, told, known, verdict in verdicts
        if verdict.invoiced and known.invoice_id is not None
    }
    if credited:
        await _credit(connection, work, credited, InvoiceStatus.CREDITED, LATE)
    for claim, told, known, verdict in verdicts:
        _decide(work, claim, told, known, verdict)


def _decide(work: _Work, claim: ChargeDraft, told: EventContext, known: Standing, verdict: Verdict) -> None:
    if verdict.change is Change.NOTHING:
        work.outcomes.append("stale")
        return
    if verdict.change is Change.NOTE:
        assert known.cdr is not None  # noqa: S101  # there is one whose money is the same
        work.notes.append((known.cdr.id, claim))
        work.outcomes.append("noted")
        return
    driver_id = claim.driver_id or known.driver_id
    cdr_id = uuid4()
    work.cdrs.append((cdr_id, verdict.version, verdict.status, driver_id, claim))
    work.outcomes.append("noted" if verdict.asked else verdict.status)
    if known.cdr is not None:
        work.superseded.append(known.cdr.id)
    if verdict.invoiced and claim.rated is not None:
        invoice = make_invoice(uuid4(), work.next_number(), claim, cdr_id, verdict.version, driver_id, known.invoice_id)
        work.issue(invoice, claim.rated.lines, told)


async def _credit(
    connection: Transaction, work: _Work, credited: dict[UUID, EventContext], status: InvoiceStatus, reason: str
) -> list[Invoice]:
    """Cancel these invoices by a credit note each, and move them to that status; the credit notes."""
    ids = list(credited)
    before = await store.invoices(connection, ids)
    lines = await store.lines(connection, ids)
    notes = []
    for id_ in ids:
        old = before[id_]
        paid = old.status is InvoiceStatus.PAID and old.payable_minor != 0
        note = make_credit_note(uuid4(), work.next_number(), old, reason, paid=paid)
        work.issue(note, [line.negated() for line in lines[id_]], credited[id_])
        notes.append(note)
    for invoice in await store.set_status(connection, ids, status, work.now):
        work.events.append(invoice_updated(invoice, credited[invoice.id]))
    return notes


async def _write(connection: Transaction, work: _Work) -> None:
    if work.notes:
        await store.note_revisions(connection, work.notes)
    if work.superseded:
        await store.supersede(connection, work.superseded)
    if work.cdrs:
        await store.add_cdrs(connection, work.cdrs, work.now)
    if work.documents:
        await store.add_invoices(connection, work.documents)


def _tell_drift(claim: ChargeDraft) -> None:
    rated = claim.rated
    _log.error(
        "cost_drift",
        kind=claim.kind,
        subject_id=str(claim.subject_id),
        revision=claim.revision,
        currency=None if rated is None else rated.currency,
        excl_micros=None if rated is None else rated.excl_micros,
        incl_micros=None if rated is None else rated.incl_micros,
        stream_excl_micros=claim.stream_excl_micros,
        stream_incl_micros=claim.stream_incl_micros,
    )
