"""The invoice poster: a batch of drafts becomes CDRs, invoices and credit notes in one transaction."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol
from uuid import UUID, uuid4

from billing.customers.document_terms import record_terms
from billing.documents import (
    WAITING,
    CdrStatus,
    ChargeDraft,
    ChargeReason,
    Document,
    InvoiceStatus,
    Number,
    make_credit_note,
)
from billing.invoicing import store
from billing.invoicing.credit import CreditedInvoice, Part
from billing.invoicing.decision import (
    CdrChange,
    ChargeState,
    Decision,
    DocumentChange,
    decide,
    decide_released,
    decide_repriced,
    documents_of,
)
from billing.invoicing.events import invoice_updated
from billing.invoicing.margin import DemandMargins
from billing.invoicing.metrics import InvoicingMetrics
from billing.invoicing.reserved import within_bounds_together
from billing.invoicing.rules import InvoicingRules
from billing.invoicing.work import Work, credit_rest, request_payment, valid_invoice, write
from billing.parties import Seller, Terms
from billing.setoffs.service import set_off
from billing.statements import store as statements
from kit.clock import Clock
from kit.database.postgres import Database
from kit.messaging.consumer import EventContext
from kit.messaging.inbox import record_new_events
from kit.messaging.outbox import Transaction, insert_async
from kit.observability.logs import get_logger
from schemas.events import SessionAssigned

SCHEMA: Final = "billing"
LATE: Final = "readings that came later changed the amount"
RESERVED: Final = "the reservation of this session changed the amount"
_PRICED_AGAIN: Final = (CdrStatus.INVOICED, CdrStatus.NOTHING_OWED, CdrStatus.HELD, CdrStatus.DRIFT, CdrStatus.REVIEW)
DUE_AT_ONCE: Final = 256  # ~60 ms, during which no other writer of documents works


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


@dataclass(frozen=True, slots=True)
class Released:
    """What a person's decision adds to a CDR and its invoice."""

    decision_id: UUID
    remark: str  # of the invoice of corrected consumption; else empty
    why: str  # stands on the credit note of an invoice that is replaced


@dataclass(frozen=True, slots=True)
class _Settled:
    """A charge that is due, and what is to be done about its documents."""

    cdr_id: UUID
    version: int
    draft: ChargeDraft
    context: EventContext
    state: ChargeState
    decision: Decision


class WantedCredit(Protocol):
    """Which part of an invoice is to be credited."""

    def of(self, credited: CreditedInvoice) -> Part:
        """Amounts and lines of the credit note. Raises BadQuery, Conflict."""


class InvoicePoster:
    """Writes CDRs and documents."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        metrics: InvoicingMetrics,
        rules: Callable[[], InvoicingRules],
        seller: Seller,
        terms: Terms,
    ) -> None:
        """`database` works as billing's role. `rules`: as they are now. `seller`, `terms`: of the documents that it
        issues."""
        self._database = database
        self._clock = clock
        self._metrics = metrics
        self._rules = rules
        self._seller = seller
        self._terms = terms
        self._margins = DemandMargins()

    async def post(self, postings: Sequence[Posting]) -> None:
        """All of them or none; at most one of each subject. Known events change nothing. Raises Unavailable."""
        async with self._database.transaction() as connection:
            number = await store.lock(connection)
            new = await record_new_events(
                connection, SCHEMA, [(posting.queue, posting.event_id) for posting in postings]
            )
            work = Work(number, self._clock.now())
            fresh = [posting for posting in postings if (posting.queue, posting.event_id) in new]
            await _assign_drivers(connection, work, fresh)
            await _record_charges(connection, work, fresh, self._rules(), self._margins)
            work.outcomes += ["superseded" for posting in fresh if isinstance(posting.content, Superseded)]
            await self._finish(connection, work, number)
            again = Work(work.number, work.now)  # in view of the reservations that are recorded by now
            await _price_again(connection, again, fresh, self._rules(), self._margins)
            await self._finish(connection, again, work.number)
        self._metrics.batch_events.observe(len(postings))
        self._count(work)
        self._count(again)

    async def invoice_due(self) -> None:
        """Invoice the charges that have settled, in transactions of DUE_AT_ONCE. Of several processes that do so one
        works, and the others find nothing left. Raises Unavailable."""
        while await store.any_due(self._database, self._clock.now()):
            async with self._database.transaction() as connection:
                number = await store.lock(connection)
                work = Work(number, self._clock.now())
                await _invoice_settled(connection, work, self._rules(), self._margins)
                await self._finish(connection, work, number)
            self._count(work)

    async def release(
        self, connection: Transaction, draft: ChargeDraft, released: Released, context: EventContext
    ) -> UUID:
        """Record a charge as a person has decided, at once; the id of the CDR. `connection`: of an open transaction,
        which commits at once."""
        number = await store.lock(connection)
        work = Work(number, self._clock.now())
        (draft,) = await self._margins.added(connection, [draft])
        state = (await store.charge_states(connection, [draft.subject_id]))[draft.subject_id]
        decision = decide_released(draft, state)
        await _credit_replaced(connection, work, [(context, state, decision, released.why)])
        customers = await _customers(connection, [(draft, state)])
        cdr_id = _apply(work, draft, context, state, decision, customers.get(draft.subject_id), released)
        await self._finish(connection, work, number)
        self._count(work)
        return cdr_id

    async def cancel(self, connection: Transaction, invoice_id: UUID, reason: str, context: EventContext) -> Document:
        """Cancel an invoice by a credit note of what is left of it, which is returned; nothing more is asked for its
        subject. `connection`: of an open transaction, which commits at once. Raises NotFound, Conflict."""
        number = await store.lock(connection)
        credited = await valid_invoice(connection, invoice_id)
        return await self._cancel(connection, credited.invoice, number, reason, context)

    async def credit(
        self, connection: Transaction, invoice_id: UUID, wanted: WantedCredit, reason: str, context: EventContext
    ) -> Document:
        """Credit a part of an invoice; the credit note. All that is left is a cancellation. `connection`: of an open
        transaction, which commits at once. Raises NotFound, Conflict, BadQuery."""
        number = await store.lock(connection)
        credited = await valid_invoice(connection, invoice_id)
        amounts, lines = wanted.of(credited)
        if amounts == credited.left:
            return await self._cancel(connection, credited.invoice, number, reason, context)
        await statements.check_part(connection, credited, amounts.payable_minor)
        work = Work(number, self._clock.now())
        old = credited.invoice
        paid = credited.refundable_minor(amounts.payable_minor) > 0
        margin_micros = credited.demand_margin_of(amounts)
        note = make_credit_note(
            uuid4(), work.next_number(), old, amounts, reason, paid=paid, demand_margin_micros=margin_micros
        )
        work.issue(note, lines, context)
        left_minor = credited.left.payable_minor - amounts.payable_minor
        if (
            old.status is InvoiceStatus.OPEN and left_minor <= credited.covered_minor
        ):  # credit notes paid the rest of it
            moved = await store.set_status(connection, [old.id], InvoiceStatus.PAID, work.now)
            work.events += [invoice_updated(one, context) for one in moved]
        await self._finish(connection, work, number)
        self._count(work)
        return note

    async def _cancel(
        self, connection: Transaction, invoice: Document, number: Number, reason: str, context: EventContext
    ) -> Document:
        await statements.check_last(connection, invoice.id)
        work = Work(number, self._clock.now())
        credit_notes = await credit_rest(connection, work, {invoice.id: context}, InvoiceStatus.CANCELLED, reason)
        await store.cancel_cdrs(connection, [invoice.subject_id, *await statements.withdraw(connection, invoice.id)])
        await self._finish(connection, work, number)
        self._count(work)
        return credit_notes[0]

    async def _finish(self, connection: Transaction, work: Work, number: Number) -> None:
        await write(connection, work)
        await record_terms(connection, work.with_new_terms, self._seller, self._terms)
        if self._rules().set_off:
            for document, invoice_id in await set_off(connection, work.new_invoices, work.now):
                work.events.append(invoice_updated(document, work.contexts[invoice_id]))
        if work.number != number:
            await store.advance(connection, work.number)
        await insert_async(connection, SCHEMA, work.events)

    def _count(self, work: Work) -> None:
        work.end_spans()
        for outcome in work.outcomes:
            self._metrics.charges.labels(outcome).inc()
        for document, _ in work.documents:
            self._metrics.documents.labels(document.kind).inc()
        for new in work.cdrs:
            status = new.decision.status
            if status is CdrStatus.DRIFT:
                self._metrics.drift.inc()
            if status in WAITING:
                for reason in new.decision.reasons:
                    self._metrics.waiting.labels(reason).inc()
                _log_doubt(status, new.decision.reasons, new.draft)


async def _assign_drivers(connection: Transaction, work: Work, postings: Sequence[Posting]) -> None:
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


async def _record_charges(
    connection: Transaction, work: Work, postings: Sequence[Posting], rules: InvoicingRules, margins: DemandMargins
) -> None:
    drafts = [(posting.content, posting.context) for posting in postings if isinstance(posting.content, ChargeDraft)]
    if not drafts:
        return
    priced = await within_bounds_together(connection, [draft for draft, _ in drafts], rules)
    priced = await margins.added(connection, priced)
    drafts = [(draft, context) for draft, (_, context) in zip(priced, drafts, strict=True)]
    states = await store.charge_states(connection, [draft.subject_id for draft, _ in drafts])
    decisions = []
    for draft, context in drafts:
        state = states[draft.subject_id]
        decisions.append((draft, context, state, decide(draft, state, work.now, rules)))
    await _credit_replaced(connection, work, [(*decided[1:], LATE) for decided in decisions])
    customers = await _customers(connection, [(draft, state) for draft, _, state, _ in decisions])
    for draft, context, state, decision in decisions:
        _apply(work, draft, context, state, decision, customers.get(draft.subject_id))


async def _price_again(
    connection: Transaction, work: Work, postings: Sequence[Posting], rules: InvoicingRules, margins: DemandMargins
) -> None:
    """Sessions that are invoiced, or wait, and whose reservation became known by these events, or counts no more: the
    tariff's bounds are of both together. One that settles is priced when it is due."""
    contexts: dict[UUID | str, EventContext] = {}
    for posting in postings:
        content = posting.content
        if isinstance(content, SessionAssigned):
            contexts[content.session_id] = posting.context
        elif isinstance(content, ChargeDraft) and content.reservation_id is not None:
            contexts[content.reservation_id] = posting.context
    sessions = [key for key in contexts if isinstance(key, UUID)]
    reservations = [key for key in contexts if isinstance(key, str)]
    rows = await store.priced_sessions(connection, sessions, reservations, _PRICED_AGAIN) if contexts else []
    recorded = [store.draft_of(row) for row in rows]
    priced = await within_bounds_together(connection, recorded, rules)
    changed = [
        (row, old, new)
        for row, old, new in zip(rows, recorded, priced, strict=True)
        if (new.reserved_excl_micros, new.reserved_incl_micros) != (old.reserved_excl_micros, old.reserved_incl_micros)
    ]
    # With their margins as they are: those that documents have. Of one that waits it is computed once it is decided on.
    same = [(row["id"], new) for row, old, new in changed if _totals(new) == _totals(old)]
    await store.reprice(connection, same)
    others = [(row, new) for row, old, new in changed if _totals(new) != _totals(old)]
    if not others:
        return
    with_margins = await margins.added(connection, [new for _, new in others])
    others = [(row, new) for (row, _), new in zip(others, with_margins, strict=True)]
    states = await store.charge_states(connection, [new.subject_id for _, new in others])
    decided = [
        (new, contexts.get(row["subject_id"]) or contexts[row["used_reservation_id"]], states[new.subject_id])
        for row, new in others
    ]
    decisions = [(*one, decide_repriced(one[0], one[2])) for one in decided]
    await _credit_replaced(connection, work, [(*one[1:], RESERVED) for one in decisions])
    customers = await _customers(connection, [(draft, state) for draft, _, state, _ in decisions])
    for draft, context, state, decision in decisions:
        _apply(work, draft, context, state, decision, customers.get(draft.subject_id))


def _totals(draft: ChargeDraft) -> tuple[str, int, int] | None:
    return None if draft.amount is None else draft.amount.totals


async def _customers(connection: Transaction, charges: Sequence[tuple[ChargeDraft, ChargeState]]) -> dict[UUID, UUID]:
    """The customers for whose collective invoices (billing/statements) these charges are collected, by subject. A
    charge that has an invoice of its own is not."""
    singly = [(draft, state) for draft, state in charges if state.invoice_id is None]
    subjects = [draft.subject_id for draft, _ in singly]
    return await statements.collecting(
        connection, subjects, [draft.driver_id or state.driver_id for draft, state in singly]
    )


async def _credit_replaced(
    connection: Transaction, work: Work, decisions: Iterable[tuple[EventContext, ChargeState, Decision, str]]
) -> None:
    """Credit the valid invoices that these decisions replace or withdraw, with that reason."""
    credited: dict[tuple[InvoiceStatus, str], dict[UUID, EventContext]] = {}
    for context, state, decision, reason in decisions:
        if state.invoice_id is not None and decision.documents is not DocumentChange.NOTHING:
            replaced = decision.documents is DocumentChange.INVOICE
            status = InvoiceStatus.CREDITED if replaced else InvoiceStatus.CANCELLED
            credited.setdefault((status, reason), {})[state.invoice_id] = context
    for (status, reason), invoices in credited.items():
        await credit_rest(connection, work, invoices, status, reason)


async def _invoice_settled(connection: Transaction, work: Work, rules: InvoicingRules, margins: DemandMargins) -> None:
    """Issue the invoices of charges that are due, of which reservations may have become known meanwhile."""
    rows = await store.due_cdrs(connection, work.now, DUE_AT_ONCE)
    if not rows:
        return
    states = await store.charge_states(connection, [row["subject_id"] for row in rows])
    recorded = [store.draft_of(row) for row in rows]
    priced = await margins.added(connection, await within_bounds_together(connection, recorded, rules))
    changed = [(row["id"], new) for row, old, new in zip(rows, recorded, priced, strict=True) if new != old]
    await store.reprice(connection, changed)
    settled: list[_Settled] = []
    outcomes: list[tuple[UUID, CdrStatus, str]] = []
    for row, draft in zip(rows, priced, strict=True):
        state = states[row["subject_id"]]
        if state.partly_credited:  # since it settles
            outcomes.append((row["id"], CdrStatus.HELD, ChargeReason.PARTLY_CREDITED))
            work.outcomes.append(CdrStatus.HELD)
            continue
        status = CdrStatus.NOTHING_OWED if draft.status is CdrStatus.NOTHING_OWED else CdrStatus.INVOICED
        outcomes.append((row["id"], status, ""))
        work.outcomes.append(status)
        decision = Decision(CdrChange.NOTHING, status=status, documents=documents_of(status, state, False))
        context = EventContext(row["correlation_id"], row["traceparent"])
        settled.append(_Settled(row["id"], row["version"], draft, context, state, decision))
    await _credit_replaced(connection, work, [(one.context, one.state, one.decision, LATE) for one in settled])
    customers = await _customers(connection, [(one.draft, one.state) for one in settled])
    for one in settled:
        if one.decision.documents is DocumentChange.INVOICE:
            customer_id = customers.get(one.draft.subject_id)
            request_payment(work, one.draft, one.cdr_id, one.version, one.state, one.context, customer_id)
    await store.settled(connection, outcomes)


def _apply(
    work: Work,
    draft: ChargeDraft,
    context: EventContext,
    state: ChargeState,
    decision: Decision,
    customer_id: UUID | None,
    released: Released | None = None,
) -> UUID:
    """The id of the CDR that has the charge. `customer_id`: who has it on a collective invoice."""
    if decision.change is not CdrChange.NEW_VERSION:
        assert state.cdr is not None  # noqa: S101  # there is one that is as new, or whose money is the same
        if decision.change is CdrChange.REVISION_ONLY:
            work.confirmed_revisions.append((state.cdr.id, draft))
        if decision.change is CdrChange.DECISION_CONFIRMED:
            work.confirmed_decisions.append((state.cdr.id, draft.revision))
        work.outcomes.append("stale" if decision.change is CdrChange.NOTHING else "noted")
        return state.cdr.id
    driver_id = draft.driver_id or state.driver_id
    cdr_id = uuid4()
    decision_id = None if released is None else released.decision_id
    work.cdrs.append(store.NewCdr(cdr_id, decision, driver_id, draft, context, decision_id))
    work.outcomes.append("noted" if decision.already_invoiced else decision.status)
    if state.cdr is not None:
        work.superseded.append(state.cdr.id)
    if decision.documents is DocumentChange.INVOICE:
        remark = "" if released is None else released.remark
        request_payment(work, draft, cdr_id, decision.version, state, context, customer_id, remark)
    return cdr_id


def _log_doubt(status: CdrStatus, reasons: Sequence[str], draft: ChargeDraft) -> None:
    amount = draft.amount
    _log.error(
        "charge_not_invoiced",
        status=status,
        reasons=[str(reason) for reason in reasons],
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
