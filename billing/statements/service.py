"""Issues the collective invoices that are due: a job of the service."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Final
from uuid import UUID, uuid4, uuid5
from zoneinfo import ZoneInfo

import msgspec

from billing.currency import minor_digits, rounding_rule, to_minor
from billing.customers.document_terms import record_buyer
from billing.documents import Document, DocumentLine, InvoiceKind, InvoiceStatus, Number
from billing.invoicing import store as invoicing_store
from billing.invoicing.events import invoice_created, invoice_updated
from billing.invoicing.metrics import InvoicingMetrics
from billing.invoicing.rules import InvoicingRules
from billing.invoicing.work import credited_invoices
from billing.parties import Seller, Terms
from billing.setoffs.service import set_off
from billing.statements import store
from billing.statements.composition import Item, bounds_of, first_month, following, is_due, items_of
from billing.statements.given_back import given_back
from billing.statements.store import StatementStore
from billing.vat import payable_amounts
from kit.clock import Clock, format_rfc3339
from kit.database.postgres import Database
from kit.messaging.consumer import current_event_context
from kit.messaging.outbox import Transaction, insert_async
from kit.observability.logs import get_logger
from schemas.events import Consumption

CHARGES_MAX: Final = (
    5_000  # of one document: 10,000 items with replaced ones, of 3 lines; a line's number is a smallint
)
_NAMESPACE: Final = UUID("0b0f5a0e-63d5-4b62-9d6c-0a7d8f5c2e41")

_log = get_logger(__name__)


class StatementService:
    """Collective invoices of one database."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        metrics: InvoicingMetrics,
        rules: Callable[[], InvoicingRules],
        seller: Seller,
        terms: Terms,
    ) -> None:
        """`rules`: as they are now. `seller`, `terms`: of the documents that it issues."""
        self._database = database
        self._clock = clock
        self._metrics = metrics
        self._store = StatementStore(database)
        self._rules = rules
        self._seller = seller
        self._terms = terms

    async def issue_due(self, documents_max: int | None = None) -> list[Document]:
        """Issue the collective invoices that are due, all or so many. Each is one transaction, so that a crash leaves
        whole documents, and the next run the rest. Raises Unavailable."""
        issued: list[Document] = []
        for row in await self._store.oldest():
            zone = ZoneInfo(row["time_zone"])
            month = first_month(row["oldest_ended_at"], row["last"], zone)
            while is_due(month, self._clock.now(), zone):
                if len(issued) == documents_max:
                    return issued
                invoice = await self._issue(row["customer_id"], row["currency"], month)
                if invoice is not None:
                    issued.append(invoice)  # and once more, for what one document does not hold
                else:
                    month = following(month)  # which has what was carried over
        return issued

    async def collected(self, customer_id: UUID) -> dict[str, int]:
        """By currency, in micro-units incl. VAT: what the customer's next collective invoices add up to. Raises
        Unavailable."""
        currencies = [row["currency"] for row in await self._store.oldest(customer_id)]
        async with self._database.snapshot() as connection:
            return {
                currency: (await _content(connection, customer_id, currency, None, None)).total_micros
                for currency in currencies
            }

    async def _issue(self, customer_id: UUID, currency: str, month: date) -> Document | None:
        """One document of all that waits from before the month's end. None: there is nothing, or it comes to nothing
        that could be paid or less, which is carried over."""
        rules, context = self._rules(), current_event_context()
        async with self._database.transaction() as connection:
            number = await invoicing_store.lock(connection)  # first, so that writers take turns
            customer = await store.customer(connection, customer_id)
            if customer is None:
                return None
            start, end = bounds_of(month, ZoneInfo(customer["time_zone"]))
            content = await _content(connection, customer_id, currency, end, CHARGES_MAX)
            items, more, lines, total_micros = content.items, content.more, content.lines, content.total_micros
            if not items:
                await store.forget(connection, content.waiting)
                return None
            if total_micros < 0 or not (rules.zero_invoices or to_minor(total_micros, currency)):
                _log.info("statement_carried_over", customer_id=str(customer_id), month=str(month))
                return None
            part = await store.parts(connection, customer_id, month, currency) + 1
            number = number.following(self._clock.now())
            invoice = _invoice(customer_id, month, currency, part, number, lines)
            await store.add_cdr(connection, _cdr(invoice, items, more, start, end, customer))
            await invoicing_store.add_invoices(connection, [(invoice, lines)])
            await store.add_items(connection, (invoice.id, customer_id, month, currency, part), _placed(items))
            await store.settle(connection, invoice.id, content.waiting, items)
            await record_buyer(connection, invoice, customer, self._seller, self._terms)
            await invoicing_store.advance(connection, number)
            moved = await set_off(connection, [invoice.id], self._clock.now()) if rules.set_off else []
            events = [invoice_created(invoice, context), *(invoice_updated(one, context) for one, _ in moved)]
            await insert_async(connection, "billing", events)
        self._metrics.documents.labels(invoice.kind).inc()
        return next((one for one, _ in moved if one.id == invoice.id), invoice)


@dataclass(frozen=True, slots=True)
class _Content:
    """What a collective invoice is of."""

    waiting: list[UUID]  # CDRs that it deals with
    items: list[Item]
    more: list[DocumentLine]  # of no item

    @property
    def lines(self) -> list[DocumentLine]:
        """All of them."""
        return [*(line for item in self.items for line in item.lines), *self.more]

    @property
    def total_micros(self) -> int:
        """Incl. VAT."""
        return sum(line.incl_micros for line in self.lines)


async def _content(
    connection: Transaction, customer_id: UUID, currency: str, before: datetime | None, charges_max: int | None
) -> _Content:
    """Of the charges that wait and ended before a moment, at most so many; None: of all."""
    waiting = await store.waiting(connection, customer_id, currency, before, charges_max)
    subjects = [charge.subject_id for charge in waiting]
    invoiced, void = await store.invoiced(connection, customer_id, currency, subjects)
    items = items_of(waiting, invoiced, void)
    return _Content([charge.cdr_id for charge in waiting], items, await _given_back(connection, items))


async def _given_back(connection: Transaction, items: Sequence[Item]) -> list[DocumentLine]:
    """What was credited of earlier invoices of which these items leave too little."""
    taken_back = [item.charge.cdr_id for item in items if item.taken_back]
    if not taken_back:
        return []
    lines: list[DocumentLine] = []
    for row in await store.standing(connection, taken_back):
        invoice_id = row["statement_id"]
        credited = (await credited_invoices(connection, [invoice_id]))[invoice_id]
        lines += given_back(credited.note_lines, row["micros"], row["taken_back_micros"])
    return lines


def _invoice(
    customer_id: UUID, month: date, currency: str, part: int, number: Number, lines: Sequence[DocumentLine]
) -> Document:
    total_micros = sum(line.incl_micros for line in lines)
    payable_minor, digits = to_minor(total_micros, currency), minor_digits(currency)
    id_ = uuid5(_NAMESPACE, f"{customer_id}/{month}/{currency}/{part}")
    return Document(
        id=id_,
        kind=InvoiceKind.INVOICE,
        year=number.year,
        sequence=number.sequence,
        number=str(number),
        cdr_id=uuid4(),
        subject_id=id_,
        session_id=None,
        reservation_id=None,
        version=1,
        status=InvoiceStatus.OPEN if payable_minor else InvoiceStatus.PAID,
        driver_id=None,
        station_id="",
        currency=currency,
        minor_digits=digits,
        total_excl_micros=sum(line.excl_micros for line in lines),
        total_incl_micros=total_micros,
        payable_excl_minor=payable_amounts(lines, payable_minor, digits).net_minor,
        payable_minor=payable_minor,
        rounding=rounding_rule(currency),
        credits=None,
        replaces=None,
        reason="",
        issued_at=number.issued_at,
        changes=0,
        changed_at=number.issued_at,
        set_off_minor=0,
        demand_margin_micros=None,
    )


def _cdr(
    invoice: Document,
    items: list[Item],
    more: Sequence[DocumentLine],
    start: datetime,
    end: datetime,
    customer: Mapping[str, Any],
) -> tuple[Any, ...]:
    """Its values, in the order of the statement that stores it."""
    energy_uj = sum(-item.charge.energy_uj if item.taken_back else item.charge.energy_uj for item in items)
    return (
        *(invoice.cdr_id, invoice.subject_id, start, end, energy_uj, customer["time_zone"]),
        *(msgspec.json.encode(_consumption(items, more, start)).decode(), invoice.currency),
        *(invoice.total_excl_micros, invoice.total_incl_micros, invoice.issued_at),
    )


def _consumption(items: list[Item], more: Sequence[DocumentLine], start: datetime) -> list[Consumption]:
    """What each line is of, as exports take it: the nth of the nth line. `more`: lines of no item, from `start` on."""
    placed = [(line, item.charge.started_at) for item in items for line in item.lines]
    return [
        Consumption(
            element=-1 if line.element is None else line.element,
            dimension=line.dimension,
            volume=line.volume,
            since=format_rfc3339(since),
            last=False,
        )
        for line, since in [*placed, *((line, start) for line in more)]
    ]


def _placed(items: list[Item]) -> list[tuple[int, Item]]:
    """Each item with the number of its first line, from 1; an item without lines has none."""
    placed, line = [], 1
    for item in items:
        if item.lines:
            placed.append((line, item))
        line += len(item.lines)
    return placed
