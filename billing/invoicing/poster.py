"""The invoice poster: a batch of drafts becomes CDRs, invoices and credit notes in one transaction."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final
from uuid import UUID, uuid4

from billing.customers.document_terms import record_terms
from billing.documents import (
    VALID,
    CdrStatus,
    ChargeDraft,
    Document,
    DocumentLine,
    InvoiceKind,
    InvoiceStatus,
    Number,
    make_credit_note,
    make_invoice,
)
from billing.invoicing import store
from billing.invoicing.decision import CdrChange, ChargeState, Decision, decide
from billing.invoicing.events import invoice_created, invoice_updated
from billing.invoicing.metrics import InvoicingMetrics
from billing.parties import Seller, Terms
from billing.statements.collecting import collected_charge
from billing.statements.composition import CollectedCharge
from billing.statements.store import add_collected, collecting
from kit.clock import Clock
from kit.database.postgres import Database
from kit.messaging.consumer import EventContext
from kit.messaging.inbox import record_new_events
from kit.messaging.outbox import OutboxEvent, Transaction, insert_async
from kit.observability.logs import get_logger
from kit.web.errors import Conflict, NotFound
from schemas.events import SessionAssigned

SCHEMA: Final = "billing"
LATE: Final = "readings that came later changed the amount"

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Superseded:
    """A revision of a session that a later one has replaced already: there is nothing to record."""

    session_id: UUID


@dataclass(frozen=True, slots=True)
class Posting:
    """What one event brings."""

    queue: str
    event_id: UUID
    context: EventContext
    content: ChargeDraft | SessionAssigned | Superseded


@dataclass(slots=True)
class _Work:
    """What a transaction writes."""

    number: Number
    now: datetime
    cdrs: list[tuple[UUID, int, CdrStatus, str | None, ChargeDraft]] = field(default_factory=list)
    superseded: list[UUID] = field(default_factory=list)
    confirmed_revisions: list[tuple[UUID, ChargeDraft]] = field(default_factory=list)
    documents: list[tuple[Document, Sequence[DocumentLine]]] = field(default_factory=list)
    events: list[OutboxEvent] = field(default_factory=list)
    outcomes: list[str] = field(default_factory=list)
    collected: list[CollectedCharge] = field(default_factory=list)
    reassigned: list[UUID] = field(default_factory=list)  # documents that have another driver now

    @property
    def with_new_terms(self) -> list[UUID]:
        """Documents whose parties and terms of payment are to be recorded (billing/customers)."""
        return [document.id for document, _ in self.documents] + self.reassigned

    def next_number(self) -> Number:
        """The next unused number."""
        self.number = self.number.following(self.now)
        return self.number

    def issue(self, document: Document, lines: Sequence[DocumentLine], context: EventContext) -> None:
        """Store and publish the document."""
        self.documents.append((document, lines))
        self.events.append(invoice_created(document, context))


class InvoicePoster:
    """Writes CDRs and documents."""

    def __init__(
        self, database: Database, clock: Clock, metrics: InvoicingMetrics, seller: Seller, terms: Terms
    ) -> None:
        """`database` works as billing's role. `seller`, `terms`: of the documents that it issues."""
        self._database = database
        self._clock = clock
        self._metrics = metrics
        self._seller = seller
        self._terms = terms

    async def post(self, postings: Sequence[Posting]) -> None:
        """All of them or none; at most one of each subject. Known events change nothing. Raises Unavailable."""
        async with self._database.transaction() as connection:
            number = await store.lock(connection)
            new = await record_new_events(
                connection, SCHEMA, [(posting.queue, posting.event_id) for posting in postings]
            )
            work = _Work(number, self._clock.now())
            fresh = [posting for posting in postings if (posting.queue, posting.event_id) in new]
            await _assign_drivers(connection, work, fresh)
            await _record_charges(connection, work, fresh)
            work.outcomes += ["superseded" for posting in fresh if isinstance(posting.content, Superseded)]
            await self._finish(connection, work, number)
        self._metrics.batch_events.observe(len(postings))
        self._count(work)

    async def cancel(self, connection: Transaction, invoice_id: UUID, reason: str, context: EventContext) -> Document:
        """Cancel an invoice by a credit note, which is returned; nothing more is asked for its subject.

        `connection`: of an open transaction, which commits at once. Raises NotFound, Conflict.
        """
        number = await store.lock(connection)
        invoice = (await store.invoices(connection, [invoice_id])).get(invoice_id)
        if invoice is None:
            raise NotFound(f"no invoice {invoice_id}")
        if invoice.kind is not InvoiceKind.INVOICE or invoice.status not in VALID:
            raise Conflict(
                f"{invoice.kind} {invoice.number} is {invoice.status}: only an open or paid invoice is cancelled"
            )
        work = _Work(number, self._clock.now())
        credit_notes = await _credit(connection, work, {invoice_id: context}, InvoiceStatus.CANCELLED, reason)
        await store.cancel_cdr(connection, invoice.subject_id)
        await self._finish(connection, work, number)
        self._count(work)
        return credit_notes[0]

    async def _finish(self, connection: Transaction, work: _Work, number: Number) -> None:
        await _write(connection, work)
        await record_terms(connection, work.with_new_terms, self._seller, self._terms)
        if work.number != number:
            await store.advance(connection, work.number)
        await insert_async(connection, SCHEMA, work.events)

    def _count(self, work: _Work) -> None:
        for outcome in work.outcomes:
            self._metrics.charges.labels(outcome).inc()
        for document, _ in work.documents:
            self._metrics.documents.labels(document.kind).inc()
        for _, _, status, _, draft in work.cdrs:
            if status is CdrStatus.DRIFT:
                self._metrics.drift.inc()
            if draft.reason:
                _log_doubt(status, draft)


async def _assign_drivers(connection: Transaction, work: _Work, postings: Sequence[Posting]) -> None:
    """Record the drivers of sessions, also on the documents that are there already."""
    assigned = {
        posting.content.session_id: posting for posting in postings if isinstance(posting.content, SessionAssigned)
    }
    if not assigned:
        return
    assignments = [posting.content for posting in assigned.values() if isinstance(posting.content, SessionAssigned)]
    for invoice in await store.assign(connection, assignments, work.now):
        work.reassigned.append(invoice.id)
        work.events.append(invoice_updated(invoice, assigned[invoice.subject_id].context))


async def _record_charges(connection: Transaction, work: _Work, postings: Sequence[Posting]) -> None:
    drafts = [(posting.content, posting.context) for posting in postings if isinstance(posting.content, ChargeDraft)]
    if not drafts:
        return
    states = await store.charge_states(connection, [draft.subject_id for draft, _ in drafts])
    decisions = [
        (draft, context, states[draft.subject_id], decide(draft, states[draft.subject_id])) for draft, context in drafts
    ]
    credited = {
        state.invoice_id: context
        for _, context, state, decision in decisions
        if decision.issues_invoice and state.invoice_id is not None
    }
    if credited:
        await _credit(connection, work, credited, InvoiceStatus.CREDITED, LATE)
    # Collective invoices (billing/statements): such a charge is collected where it would be invoiced.
    subjects = [draft.subject_id for draft, _ in drafts]
    drivers = [draft.driver_id or states[draft.subject_id].driver_id for draft, _ in drafts]
    customers = await collecting(connection, subjects, drivers)
    for draft, context, state, decision in decisions:
        _apply(work, draft, context, state, decision, customers.get(draft.subject_id))


def _apply(
    work: _Work,
    draft: ChargeDraft,
    context: EventContext,
    state: ChargeState,
    decision: Decision,
    customer_id: UUID | None,
) -> None:
    """`customer_id`: for whose collective invoice the charge is collected; not if it has an invoice of its own."""
    if decision.change is CdrChange.NOTHING:
        work.outcomes.append("stale")
        return
    if decision.change is CdrChange.REVISION_ONLY:
        assert state.cdr is not None  # noqa: S101  # there is one whose money is the same
        work.confirmed_revisions.append((state.cdr.id, draft))
        work.outcomes.append("noted")
        return
    driver_id = draft.driver_id or state.driver_id
    cdr_id = uuid4()
    work.cdrs.append((cdr_id, decision.version, decision.status, driver_id, draft))
    work.outcomes.append("noted" if decision.already_invoiced else decision.status)
    if state.cdr is not None:
        work.superseded.append(state.cdr.id)
    if decision.issues_invoice and draft.amount is not None:
        if customer_id is not None and state.invoice_id is None:
            work.collected.append(collected_charge(cdr_id, decision.version, customer_id, driver_id, draft))
            return
        number = work.next_number()
        invoice = make_invoice(uuid4(), number, draft, cdr_id, decision.version, driver_id, state.invoice_id)
        work.issue(invoice, draft.amount.lines, context)


async def _credit(
    connection: Transaction, work: _Work, credited: Mapping[UUID, EventContext], status: InvoiceStatus, reason: str
) -> list[Document]:
    """Cancel these invoices by a credit note each, and move them to that status; the credit notes."""
    ids = list(credited)
    before = await store.invoices(connection, ids)
    lines = await store.lines(connection, ids)
    credit_notes = []
    for id_ in ids:
        old = before[id_]
        paid = old.status is InvoiceStatus.PAID and old.payable_minor != 0
        note = make_credit_note(uuid4(), work.next_number(), old, reason, paid=paid)
        work.issue(note, [line.negated() for line in lines[id_]], credited[id_])
        credit_notes.append(note)
    for invoice in await store.set_status(connection, ids, status, work.now):
        work.events.append(invoice_updated(invoice, credited[invoice.id]))
    return credit_notes


async def _write(connection: Transaction, work: _Work) -> None:
    if work.confirmed_revisions:
        await store.confirm_revisions(connection, work.confirmed_revisions)
    if work.superseded:
        await store.supersede(connection, work.superseded)
    if work.cdrs:
        await store.add_cdrs(connection, work.cdrs, work.now)
    if work.collected:
        await add_collected(connection, work.collected, work.now)
    if work.documents:
        await store.add_invoices(connection, work.documents)


def _log_doubt(status: CdrStatus, draft: ChargeDraft) -> None:
    amount = draft.amount
    _log.error(
        "charge_not_invoiced",
        status=status,
        reason=draft.reason,
        kind=draft.kind,
        subject_id=str(draft.subject_id),
        revision=draft.revision,
        currency=None if amount is None else amount.currency,
        excl_micros=None if amount is None else amount.excl_micros,
        incl_micros=None if amount is None else amount.incl_micros,
        stream_excl_micros=draft.stream_excl_micros,
        stream_incl_micros=draft.stream_incl_micros,
    )
