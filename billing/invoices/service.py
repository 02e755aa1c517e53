"""The use cases of invoices. No HTTP and no SQL here."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final
from uuid import UUID

from billing import documents
from billing.customers.document_terms import terms_from
from billing.documents import DocumentLine, SubjectKind
from billing.invoices.auditing import record_credit
from billing.invoices.explanation import explanation_of, select_cdr_for_explanation
from billing.invoices.models import Cancellation, ComputedFrom, Explanation, Invoice, InvoiceDetail
from billing.invoices.rendering import detail_of, invoice_of, payment_of
from billing.invoices.store import InvoiceCursor, InvoiceFilter, InvoiceStore
from billing.invoices.stored_cdr import stream_consumption, tariff_of
from billing.invoicing.derivation import (
    Derived,
    derive_reservation,
    derive_session,
    differences,
    line_differences,
    reprice,
    reserved_of,
)
from billing.invoicing.poster import InvoicePoster
from billing.invoicing.store import to_document
from billing.invoicing.work import CORRECTION_LINE
from billing.parameters import NUMBER
from billing.parties import Seller, Terms
from billing.rating import MeterBefore, NoReadings
from billing.readings_source import ReadingsSource, StoredReadings
from kit.auth.station_filter import EVERY_STATION, StationFilter
from kit.clock import format_rfc3339
from kit.messaging.consumer import current_event_context
from kit.messaging.outbox import Transaction
from kit.web.errors import BadQuery, Conflict, NotFound
from kit.web.paging import decode_cursor, encode_cursor

_NO_READINGS: Final = StoredReadings((), (), MeterBefore())


class InvoiceService:
    """The use cases, one method each. `own`: the driver to whose documents they are limited; None: all."""

    def __init__(
        self, store: InvoiceStore, poster: InvoicePoster, source: ReadingsSource, details: "DocumentReader"
    ) -> None:
        self._store = store
        self._poster = poster
        self._source = source
        self._details = details

    async def list_invoices(
        self, wanted: InvoiceFilter, own: str | None, limit: int, cursor: str | None
    ) -> tuple[Sequence[Invoice], str | None]:
        """A page, newest first, and the next page's cursor. Raises BadQuery."""
        if wanted.start and wanted.end and wanted.start >= wanted.end:
            bounds = f"from ({format_rfc3339(wanted.start)}) must be before to ({format_rfc3339(wanted.end)})"
            raise BadQuery(bounds)
        after = decode_cursor(cursor, InvoiceCursor) if cursor else None
        found = await self._store.list_invoices(replace(wanted, own=own), after, limit + 1)
        page = found[:limit]
        key = encode_cursor(InvoiceCursor(page[-1].year, page[-1].sequence)) if len(found) > limit else None
        return [invoice_of(invoice) for invoice in page], key

    async def get_invoice(
        self, invoice_id: UUID, own: str | None, only: StationFilter = EVERY_STATION
    ) -> InvoiceDetail:
        """A document, whole. Raises NotFound."""
        return await self._details.read(invoice_id, own, only)

    async def explain(self, invoice_id: UUID, own: str | None, only: StationFilter = EVERY_STATION) -> Explanation:
        """How the amount follows from what is stored. Raises NotFound, Conflict, SourceFailed, Unavailable."""
        row = await _row(self._store, invoice_id, own, only)
        invoice = to_document(row)
        if row["subject_kind"] == SubjectKind.STATEMENT:
            raise Conflict(f"{invoice.number} is a collective invoice: its charges are explained by their readings")
        current = await self._store.current_cdr(invoice.subject_id)
        related = await self._store.related_documents(invoice_id) or {}
        if related and invoice.kind is documents.InvoiceKind.CREDIT_NOTE and related["part"]:
            raise Conflict(
                f"{invoice.number} credits a part of {related['credits']}: no readings say how much. Explain that one"
            )
        lines = [DocumentLine(**line) for line in await self._store.lines(invoice_id)]
        explaining = select_cdr_for_explanation(row, current, invoice)
        if row["corrected"] or (explaining is not None and explaining["corrected"]):
            explaining = None  # a person gave the consumption: no reading says it
        cdr = row if explaining is None else explaining
        consumption = stream_consumption(cdr)
        computed_from: ComputedFrom = "cdr"
        if explaining is None:
            stored, derived = _NO_READINGS, reprice(tariff_of(cdr)[0], cdr, consumption)
            if row["corrected"]:
                derived = derived.with_line(CORRECTION_LINE)
        else:
            computed_from, stored, derived = await self._derive(invoice.subject_id, cdr)
        if invoice.kind is documents.InvoiceKind.CREDIT_NOTE:
            derived = derived.negated()
        totals = (invoice.total_excl_micros, invoice.total_incl_micros)
        found = differences(derived, consumption, invoice.currency, *totals)
        if cdr is row:  # of another version's consumption only the money is the same
            found += line_differences(derived, lines)
        return explanation_of(
            *(invoice, cdr, stored, derived, found),
            computed_from=computed_from,
            related=related,
            current=current or row,
        )

    async def _derive(self, subject_id: UUID, cdr: Mapping[str, Any]) -> tuple[ComputedFrom, StoredReadings, Derived]:
        tariff, zone = tariff_of(cdr)
        if cdr["subject_kind"] == SubjectKind.RESERVATION:
            return "reservation", _NO_READINGS, derive_reservation(tariff, zone, cdr)
        stored = await self._source.readings(subject_id)
        reserved = reserved_of(cdr["reserved_excl_micros"], cdr["reserved_incl_micros"])
        try:
            return "readings", stored, derive_session(tariff, zone, stored, reserved)
        except NoReadings as error:
            raise Conflict(f"the readings of session {subject_id} are not stored any more") from error

    async def cancel(self, connection: Transaction, wanted: Cancellation) -> Invoice:
        """The credit note. `connection`: of an open transaction. Raises NotFound, Conflict."""
        note = await self._poster.cancel(connection, wanted.invoice_id, wanted.reason, current_event_context())
        await record_credit(connection, "invoice.cancelled", wanted.invoice_id, note, wanted.reason)
        return invoice_of(note)


class DocumentReader:
    """Reads documents, whole. `seller`, `terms`: of documents that were issued before theirs were recorded."""

    def __init__(self, store: InvoiceStore, seller: Seller, terms: Terms) -> None:
        self._store = store
        self._seller = seller
        self._terms = terms

    async def read(self, invoice_id: UUID, own: str | None, only: StationFilter = EVERY_STATION) -> InvoiceDetail:
        """A document. `own`: only one of that driver; `only`: of these stations, as are the documents that it is set
        off against. Raises NotFound, Unavailable."""
        row = await _row(self._store, invoice_id, own, only)
        invoice = to_document(row)
        lines = [DocumentLine(**line) for line in await self._store.lines(invoice_id)]
        payments = [payment_of(payment, invoice.minor_digits) for payment in await self._store.payments(invoice_id)]
        collective = row["subject_kind"] == SubjectKind.STATEMENT
        groups = {one["line"]: one["label"] for one in await self._store.groups(invoice_id)} if collective else {}
        return detail_of(
            *(invoice, row, lines, payments, terms_from(row, self._seller, self._terms), groups),
            set_offs=await self._store.set_offs(invoice_id, only),
            refundable_minor=await self._store.refundable_minor(invoice),
        )


async def _row(store: InvoiceStore, invoice_id: UUID, own: str | None, only: StationFilter) -> Mapping[str, Any]:
    row: Mapping[str, Any] | None = await store.detail(invoice_id, own, only)
    if row is None:
        raise NotFound(f"no invoice {invoice_id}" + (" of yours" if own else ""))
    return row


def place_of(number: str | None) -> tuple[int, int] | None:
    """Year and sequence of a number. Raises BadQuery."""
    if number is None:
        return None
    match = NUMBER.fullmatch(number)
    if match is None:
        raise BadQuery(f"number {number!r}: write it as on the document, like 2026-0000017")
    return int(match[1]), int(match[2])
