"""Sets off, and says what is left of documents. No SQL here; every function works under the writer's lock."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final, NamedTuple
from uuid import UUID

from billing.documents import Document, InvoiceStatus
from billing.invoicing import store as invoicing
from billing.setoffs import store
from billing.setoffs.allocation import Credit, Due, SetOff, note_status, refundable_minor, set_offs
from kit.messaging.outbox import Transaction

DIFFERENCES_MAX: Final = 10_000  # ~100 B each
_PAGE: Final = 200  # invoices at once


class NotePosition(NamedTuple):
    """A credit note, what of it is to be given back in all, and what of that was refunded."""

    note: Document
    refundable_minor: int
    refunded_minor: int

    @property
    def left_minor(self) -> int:
        """Neither refunded nor set off."""
        return self.refundable_minor - self.refunded_minor + self.note.set_off_minor

    @property
    def status(self) -> InvoiceStatus:
        """What follows from the amounts."""
        return note_status(self.refundable_minor, self.refunded_minor - self.note.set_off_minor)


class InvoicePosition(NamedTuple):
    """An invoice, what was paid of it, and its credit notes in the order of issue."""

    invoice: Document
    paid_minor: int
    notes: list[NotePosition]

    @property
    def left_minor(self) -> int:
        """What is requested and neither paid nor set off; below 0: to be given back, by its notes."""
        requested = self.invoice.payable_minor + sum(one.note.payable_minor for one in self.notes)
        return requested - self.paid_minor - self.invoice.set_off_minor


async def positions(connection: Transaction, invoice_ids: Sequence[UUID]) -> dict[UUID, InvoicePosition]:
    """The amounts of invoices and of their credit notes, as they are now."""
    invoices = await invoicing.invoices(connection, invoice_ids)
    notes = await invoicing.credit_notes(connection, list(invoices))
    note_ids = [note.id for of_invoice in notes.values() for note in of_invoice]
    paid = await store.paid(connection, [*invoices, *note_ids])
    found = {}
    for id_, invoice in invoices.items():
        covered_minor = paid.get(id_, 0) + invoice.set_off_minor
        parts = refundable_minor(invoice.payable_minor, covered_minor, [-note.payable_minor for note in notes[id_]])
        of_notes = [
            NotePosition(note, part, paid.get(note.id, 0)) for note, part in zip(notes[id_], parts, strict=True)
        ]
        found[id_] = InvoicePosition(invoice, paid.get(id_, 0), of_notes)
    return found


async def position_of(connection: Transaction, document: Document) -> InvoicePosition | NotePosition:
    """The amounts of a document, as they are now."""
    position = (await positions(connection, [document.credits or document.id]))[document.credits or document.id]
    return position if document.credits is None else next(one for one in position.notes if one.note.id == document.id)


async def refresh(connection: Transaction, invoice_id: UUID, now: datetime) -> list[Document]:
    """Move an invoice and its credit notes to the statuses that follow from what was paid, refunded and set off; those
    that have moved."""
    position = (await positions(connection, [invoice_id]))[invoice_id]
    invoice = position.invoice
    moved = [(one.note.id, one.status, 0) for one in position.notes if one.status is not one.note.status]
    if invoice.status is InvoiceStatus.OPEN and position.left_minor <= 0:
        moved.insert(0, (invoice.id, InvoiceStatus.PAID, 0))
    return await store.move(connection, moved, now) if moved else []


async def set_off(connection: Transaction, invoice_ids: Sequence[UUID], now: datetime) -> list[tuple[Document, UUID]]:
    """Pay invoices that this transaction has issued by what is left of their payers' credit notes. The documents that
    have moved, each with the invoice for which it did."""
    rows = await store.due(connection, invoice_ids) if invoice_ids else []
    if not rows:
        return []
    customers = [row["customer_id"] for row in rows if row["customer_id"] is not None]
    drivers = [row["driver_id"] for row in rows if row["customer_id"] is None]
    notes = await store.credits(connection, drivers, customers)
    if not notes:
        return []
    of_invoices = await positions(connection, list({note["credits"] for note in notes}))
    left = {one.note.id: one for position in of_invoices.values() for one in position.notes}
    due: dict[tuple[str, str], list[Due]] = defaultdict(list)
    owed: dict[tuple[str, str], list[Credit]] = defaultdict(list)
    for row in rows:
        due[row["payer"], row["currency"]].append(Due(row["id"], row["payable_minor"]))
    for note in notes:
        owed[note["payer"], note["currency"]].append(Credit(note["id"], left[note["id"]].left_minor))
    found = [one for key, invoices in due.items() for one in set_offs(owed[key], invoices)]
    if not found:
        return []
    await store.add(connection, found, now)
    payable = {row["id"]: row["payable_minor"] for row in rows}
    return await _move(connection, found, payable, left, now)


async def _move(
    connection: Transaction,
    found: Sequence[SetOff],
    payable_minor: dict[UUID, int],
    left: dict[UUID, NotePosition],
    now: datetime,
) -> list[tuple[Document, UUID]]:
    onto: dict[UUID, int] = defaultdict(int)
    of: dict[UUID, int] = defaultdict(int)
    cause: dict[UUID, UUID] = {}
    for one in found:
        onto[one.invoice_id] += one.amount_minor
        of[one.credit_note_id] += one.amount_minor
        cause[one.invoice_id] = one.invoice_id
        cause.setdefault(one.credit_note_id, one.invoice_id)
    whole = [id_ for id_, amount_minor in onto.items() if amount_minor == payable_minor[id_]]
    used_up = {id_ for id_, amount_minor in of.items() if amount_minor == left[id_].left_minor}
    moved = [
        (id_, InvoiceStatus.PAID if id_ in whole else InvoiceStatus.OPEN, amount_minor)
        for id_, amount_minor in onto.items()
    ]
    moved += [
        (id_, InvoiceStatus.PAID if id_ in used_up else InvoiceStatus.OPEN, -amount_minor)
        for id_, amount_minor in of.items()
    ]
    if whole:
        await store.nothing_due(connection, whole)
    return [(document, cause[document.id]) for document in await store.move(connection, moved, now)]


async def differences(connection: Transaction, start: datetime, end: datetime) -> list[str]:
    """Where documents of charges that began in [start, end) do not say what follows from payments and set-offs,
    or one is used for more than it owes. Up to DIFFERENCES_MAX."""
    found: list[str] = []
    after = UUID(int=0)
    while len(found) < DIFFERENCES_MAX:
        ids = await store.credited_or_set_off(connection, start, end, after, _PAGE)
        if not ids:
            break
        after = ids[-1]
        of_invoices = await positions(connection, ids)
        notes = [one for position in of_invoices.values() for one in position.notes]
        sums = await store.sums(connection, [*ids, *(one.note.id for one in notes)])
        for position in of_invoices.values():
            found += _differences(position, sums)
    return found[:DIFFERENCES_MAX]


def _differences(position: InvoicePosition, sums: Mapping[UUID, int]) -> list[str]:
    documents = [position.invoice, *(one.note for one in position.notes)]
    found = [
        f"{one.number}: set off {one.set_off_minor}, by its set-offs {sums[one.id]} minor units"
        for one in documents
        if one.set_off_minor != sums[one.id]
    ]
    found += [
        f"{one.note.number}: refunded and set off are {-one.left_minor} minor units more than was paid of it"
        for one in position.notes
        if one.left_minor < 0
    ]
    found += [
        f"{one.note.number}: is {one.note.status}, should be {one.status}"
        for one in position.notes
        if one.status is not one.note.status
    ]
    owed_minor = sum(one.refundable_minor for one in position.notes)
    if -position.left_minor > owed_minor:
        found.append(f"{position.invoice.number}: {-position.left_minor - owed_minor} minor units were paid twice")
    return found
