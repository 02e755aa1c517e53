"""The work of one transaction: what it writes, and the two ways to issue a document."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final
from uuid import UUID, uuid4

from opentelemetry.trace import Span, SpanKind

from billing.documents import (
    CORRECTION,
    VALID,
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
from billing.invoicing.credit import CreditedInvoice
from billing.invoicing.decision import ChargeState
from billing.invoicing.events import invoice_created, invoice_updated
from billing.setoffs import store as setoffs
from billing.statements.collecting import collected_charge
from billing.statements.composition import CollectedCharge
from billing.statements.store import add_collected
from kit.messaging.consumer import EventContext
from kit.messaging.outbox import OutboxEvent, Transaction
from kit.observability.tracing import origin_of, start_span, traceparent_of
from kit.web.errors import Conflict, NotFound

CORRECTION_LINE: Final = DocumentLine(CORRECTION, None, 0, 0, None, None, 0, 0)


@dataclass(slots=True)
class Work:
    """What a transaction writes."""

    number: Number
    now: datetime
    cdrs: list[store.NewCdr] = field(default_factory=list)
    superseded: list[UUID] = field(default_factory=list)
    confirmed_revisions: list[tuple[UUID, ChargeDraft]] = field(default_factory=list)
    confirmed_decisions: list[tuple[UUID, int]] = field(default_factory=list)
    documents: list[tuple[Document, Sequence[DocumentLine]]] = field(default_factory=list)
    events: list[OutboxEvent] = field(default_factory=list)
    outcomes: list[str] = field(default_factory=list)
    collected: list[CollectedCharge] = field(default_factory=list)
    reassigned: list[UUID] = field(default_factory=list)  # documents that have another driver now
    contexts: dict[UUID, EventContext] = field(default_factory=dict)  # in which each new document is issued
    spans: list[Span] = field(default_factory=list)  # of those; without an end they are not recorded

    @property
    def with_new_terms(self) -> list[UUID]:
        """Documents whose parties and terms of payment are to be recorded (billing/customers)."""
        return [document.id for document, _ in self.documents] + self.reassigned

    @property
    def new_invoices(self) -> list[UUID]:
        """Invoices that something is to be paid of."""
        return [
            document.id
            for document, _ in self.documents
            if document.kind is InvoiceKind.INVOICE and document.status is InvoiceStatus.OPEN
        ]

    def next_number(self) -> Number:
        """The next unused number."""
        self.number = self.number.following(self.now)
        return self.number

    def issue(self, document: Document, lines: Sequence[DocumentLine], context: EventContext) -> None:
        """Store and publish the document."""
        span = start_span(f"{document.kind} issue", origin_of([context.traceparent]).parent, SpanKind.INTERNAL)
        span.set_attributes({"document.id": str(document.id), "document.number": str(document.number)})
        own = EventContext(context.correlation_id, traceparent_of(span))
        self.spans.append(span)
        self.documents.append((document, lines))
        self.contexts[document.id] = own
        self.events.append(invoice_created(document, own))

    def end_spans(self) -> None:
        """Its transaction is committed, or is about to be."""
        for span in self.spans:
            span.end()


def request_payment(
    work: Work,
    draft: ChargeDraft,
    cdr_id: UUID,
    version: int,
    state: ChargeState,
    context: EventContext,
    customer_id: UUID | None,
    remark: str = "",
) -> None:
    """The one place where payment of a charge is requested: by an invoice, or on the collective invoice of that
    customer, for which it is collected. `remark`: that the consumption was corrected, and why."""
    if draft.amount is None:
        raise ValueError(f"{draft.kind} {draft.subject_id} has no price")
    driver_id = draft.driver_id or state.driver_id
    if customer_id is not None:
        work.collected.append(collected_charge(cdr_id, version, customer_id, driver_id, draft, remark))
        return
    invoice = make_invoice(uuid4(), work.next_number(), draft, cdr_id, version, driver_id, state.invoice_id, remark)
    more = [CORRECTION_LINE] if remark else []
    work.issue(invoice, [*draft.amount.lines, *more], context)


async def valid_invoice(connection: Transaction, invoice_id: UUID) -> CreditedInvoice:
    """Raises NotFound, Conflict."""
    found = await credited_invoices(connection, [invoice_id])
    if invoice_id not in found:
        raise NotFound(f"no invoice {invoice_id}")
    invoice = found[invoice_id].invoice
    if invoice.kind is not InvoiceKind.INVOICE or invoice.status not in VALID:
        raise Conflict(
            f"{invoice.kind} {invoice.number} is {invoice.status}: only an open or paid invoice can be credited"
        )
    return found[invoice_id]


async def credited_invoices(connection: Transaction, ids: Sequence[UUID]) -> dict[UUID, CreditedInvoice]:
    """Invoices with what is credited of them already."""
    documents = await store.invoices(connection, ids)
    notes = await store.credit_notes(connection, ids)
    note_ids = [note.id for of_invoice in notes.values() for note in of_invoice]
    lines = await store.lines(connection, [*ids, *note_ids])
    paid = await setoffs.paid(connection, ids)
    return {
        id_: CreditedInvoice(
            *(invoice, lines[id_], notes[id_], [line for note in notes[id_] for line in lines[note.id]]),
            paid_minor=paid.get(id_, 0),
        )
        for id_, invoice in documents.items()
    }


async def credit_rest(
    connection: Transaction, work: Work, credited: Mapping[UUID, EventContext], status: InvoiceStatus, reason: str
) -> list[Document]:
    """Credit all that is left of these invoices by a credit note each, and move them to that status; the notes."""
    ids = list(credited)
    before = await credited_invoices(connection, ids)
    credit_notes = []
    for id_ in ids:
        old = before[id_].invoice
        amounts, lines = before[id_].rest()
        paid = before[id_].refundable_minor(amounts.payable_minor) > 0
        margin_micros = before[id_].demand_margin_of(amounts)
        note = make_credit_note(
            uuid4(), work.next_number(), old, amounts, reason, paid=paid, demand_margin_micros=margin_micros
        )
        work.issue(note, lines, credited[id_])
        credit_notes.append(note)
    for invoice in await store.set_status(connection, ids, status, work.now):
        work.events.append(invoice_updated(invoice, credited[invoice.id]))
    return credit_notes


async def write(connection: Transaction, work: Work) -> None:
    if work.confirmed_revisions:
        await store.confirm_revisions(connection, work.confirmed_revisions)
    if work.confirmed_decisions:
        await store.confirm_decided(connection, work.confirmed_decisions)
    if work.superseded:
        await store.supersede(connection, work.superseded)
    if work.cdrs:
        await store.add_cdrs(connection, work.cdrs, work.now)
    if work.collected:
        await add_collected(connection, work.collected, work.now)
    if work.documents:
        await store.add_invoices(connection, work.documents)
