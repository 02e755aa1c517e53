"""The records of billing: the charge detail record (CDR) has the amount of one charge; an invoice requests its payment;
a credit note cancels an invoice. Pure.

Amounts are micro-units of the currency; those to be paid are minor units. Documents never change; a status does.
"""

from datetime import datetime
from enum import StrEnum
from typing import Final
from uuid import UUID

import msgspec

from billing.currency import minor_digits, rounding_rule, to_minor
from billing.lines import DocumentLine as DocumentLine
from billing.vat import payable_amounts
from schemas.events import Consumption


class SubjectKind(StrEnum):
    """What is charged."""

    SESSION = "session"
    RESERVATION = "reservation"
    STATEMENT = "statement"  # of a collective invoice: the charges of a customer's month


class CdrStatus(StrEnum):
    """Whether a CDR is invoiced, and if not, why."""

    INVOICED = "invoiced"
    FREE = "free"  # a reservation for which the tariff has no price
    UNPRICED = "unpriced"  # no tariff was in force
    DRIFT = "drift"  # the stream's quantities or cost are not those derived by billing: a person must look first
    # Likewise: above the configured bound, a currency that ISO 4217 does not have, or nothing to derive it from.
    REVIEW = "review"
    CANCELLED = "cancelled"  # by finance, for all later revisions too


NOT_INVOICED: Final = (CdrStatus.REVIEW, CdrStatus.DRIFT, CdrStatus.UNPRICED)
"""CDRs with one of these are not invoiced until a person or a later revision settles it."""


class InvoiceKind(StrEnum):
    """The documents with a number."""

    INVOICE = "invoice"
    CREDIT_NOTE = "credit_note"


class InvoiceStatus(StrEnum):
    """Whether money still has to move."""

    OPEN = "open"  # to be paid; a credit note: to be refunded
    PAID = "paid"  # likewise done; also an invoice of nothing
    CREDITED = "credited"  # an invoice that a credit note cancels, with another in its place
    CANCELLED = "cancelled"  # an invoice that a credit note cancels, without another
    SETTLED = "settled"  # a credit note of an invoice that nobody had paid


VALID: Final = (InvoiceStatus.OPEN, InvoiceStatus.PAID)
"""An invoice with one of these is valid: no credit note cancels it."""


class ChargeAmount(msgspec.Struct, frozen=True):
    """The amount of a charge, and its lines."""

    currency: str
    lines: tuple[DocumentLine, ...]
    excl_micros: int
    incl_micros: int

    @property
    def totals(self) -> tuple[str, int, int]:
        """Currency, and micro-units excl. and incl. VAT."""
        return self.currency, self.excl_micros, self.incl_micros

    def negated(self) -> "ChargeAmount":
        """The amount of the credit note."""
        lines = tuple(line.negated() for line in self.lines)
        return ChargeAmount(self.currency, lines, -self.excl_micros, -self.incl_micros)


class ChargeDraft(msgspec.Struct, frozen=True, kw_only=True):
    """A charge as it follows from one event, not yet recorded."""

    kind: SubjectKind
    subject_id: UUID
    reservation_id: str | None
    revision: int
    status: CdrStatus  # as if nothing were recorded yet; INVOICED: an invoice may be issued
    reason: str  # of DRIFT and REVIEW
    driver_id: str | None
    station_id: str
    connector_id: int | None
    device_session_id: str | None
    started_at: datetime
    ended_at: datetime
    end_reason: str
    estimated: bool
    energy_uj: int
    readings: int
    flagged: int
    tariff_version: UUID | None
    time_zone: str | None
    consumption: tuple[Consumption, ...]
    amount: ChargeAmount | None  # by billing
    stream_excl_micros: int | None
    stream_incl_micros: int | None


class StoredCdr(msgspec.Struct, frozen=True):
    """What a later draft is compared with of a stored CDR."""

    id: UUID
    version: int
    revision: int
    status: CdrStatus
    tariff_version: UUID | None
    time_zone: str | None
    consumption: tuple[Consumption, ...]
    currency: str | None
    excl_micros: int | None
    incl_micros: int | None


class Document(msgspec.Struct, frozen=True, kw_only=True):
    """A document with a number; fields as the columns of billing.invoice."""

    id: UUID
    kind: InvoiceKind
    year: int
    sequence: int
    number: str
    cdr_id: UUID
    subject_id: UUID
    session_id: UUID | None
    reservation_id: str | None
    version: int
    status: InvoiceStatus
    driver_id: str | None
    station_id: str
    currency: str
    minor_digits: int
    total_excl_micros: int
    total_incl_micros: int
    payable_excl_minor: int
    payable_minor: int
    rounding: str
    credits: UUID | None
    replaces: UUID | None
    reason: str
    issued_at: datetime
    changes: int
    changed_at: datetime


class Number(msgspec.Struct, frozen=True):
    """A document's place among all of its year."""

    year: int
    sequence: int
    issued_at: datetime

    def __str__(self) -> str:
        return f"{self.year}-{self.sequence:07d}"

    def following(self, now: datetime) -> "Number":
        """The next one. A clock that was put back moves neither the moment nor the year back."""
        issued_at = max(now, self.issued_at)
        return Number(issued_at.year, self.sequence + 1 if issued_at.year == self.year else 1, issued_at)


def make_invoice(
    id_: UUID,
    number: Number,
    draft: ChargeDraft,
    cdr_id: UUID,
    version: int,
    driver_id: str | None,
    replaces: UUID | None,
) -> Document:
    """The invoice of a charge that has a price."""
    amount = draft.amount
    if amount is None:
        raise ValueError(f"{draft.kind} {draft.subject_id} has no price")
    payable_minor = to_minor(amount.incl_micros, amount.currency)
    return Document(
        id=id_,
        kind=InvoiceKind.INVOICE,
        year=number.year,
        sequence=number.sequence,
        number=str(number),
        cdr_id=cdr_id,
        subject_id=draft.subject_id,
        session_id=draft.subject_id if draft.kind is SubjectKind.SESSION else None,
        reservation_id=draft.reservation_id,
        version=version,
        status=InvoiceStatus.OPEN if payable_minor else InvoiceStatus.PAID,
        driver_id=driver_id,
        station_id=draft.station_id,
        currency=amount.currency,
        minor_digits=minor_digits(amount.currency),
        total_excl_micros=amount.excl_micros,
        total_incl_micros=amount.incl_micros,
        payable_excl_minor=payable_amounts(amount.lines, payable_minor, minor_digits(amount.currency)).net_minor,
        payable_minor=payable_minor,
        rounding=rounding_rule(amount.currency),
        credits=None,
        replaces=replaces,
        reason="",
        issued_at=number.issued_at,
        changes=0,
        changed_at=number.issued_at,
    )


def make_credit_note(id_: UUID, number: Number, credited: Document, reason: str, *, paid: bool) -> Document:
    """The document that cancels an invoice to the last unit. `paid`: money has moved and must be refunded."""
    return msgspec.structs.replace(
        credited,
        id=id_,
        kind=InvoiceKind.CREDIT_NOTE,
        year=number.year,
        sequence=number.sequence,
        number=str(number),
        status=InvoiceStatus.OPEN if paid else InvoiceStatus.SETTLED,
        total_excl_micros=-credited.total_excl_micros,
        total_incl_micros=-credited.total_incl_micros,
        payable_excl_minor=-credited.payable_excl_minor,
        payable_minor=-credited.payable_minor,
        credits=credited.id,
        replaces=None,
        reason=reason,
        issued_at=number.issued_at,
        changes=0,
        changed_at=number.issued_at,
    )
