"""What billing keeps: the CDR, what one charge comes to; the invoice, what is asked for it; the credit note, that it
is not. Pure.

Amounts are micro-units of the currency; those to be paid are minor units. Documents never change; a status does.
"""

from datetime import datetime
from enum import StrEnum
from typing import Final
from uuid import UUID

import msgspec

from billing.currency import minor_digits, rounding_rule, to_minor
from schemas.events import Consumption


class SubjectKind(StrEnum):
    """What is charged."""

    SESSION = "session"
    RESERVATION = "reservation"


class CdrStatus(StrEnum):
    """What became of a CDR."""

    INVOICED = "invoiced"
    FREE = "free"  # a reservation that the tariff asks nothing for
    UNPRICED = "unpriced"  # no tariff was in force
    DRIFT = "drift"  # the stream's cost is not ours: no invoice before somebody has looked
    REVIEW = "review"  # more than the configured bound, or of a currency that ISO 4217 does not have: likewise
    CANCELLED = "cancelled"  # finance wants nothing for it, whatever comes later


HELD: Final = (CdrStatus.REVIEW, CdrStatus.DRIFT, CdrStatus.UNPRICED)
"""What is in one of these is not invoiced before somebody has looked."""


class InvoiceKind(StrEnum):
    """The documents with a number."""

    INVOICE = "invoice"
    CREDIT_NOTE = "credit_note"


class InvoiceStatus(StrEnum):
    """Whether money is still to move."""

    OPEN = "open"  # to be paid; a credit note: to be refunded
    PAID = "paid"  # likewise done; also an invoice of nothing
    CREDITED = "credited"  # an invoice that a credit note cancels, with another in its place
    CANCELLED = "cancelled"  # an invoice that a credit note cancels, without another
    SETTLED = "settled"  # a credit note of an invoice that nobody had paid


STANDING: Final = (InvoiceStatus.OPEN, InvoiceStatus.PAID)
"""An invoice in one of these counts: no credit note cancels it."""


class Line(msgspec.Struct, frozen=True):
    """A line of a document: a component of the tariff, or an adjustment to its least or most price."""

    dimension: str
    element: int | None
    volume: int  # mWh, ms or times
    billed: int  # after step_size
    price_micros: int | None
    vat_ppm: int | None
    excl_micros: int
    incl_micros: int

    def negated(self) -> "Line":
        """The line that cancels this one."""
        return Line(
            self.dimension,
            self.element,
            -self.volume,
            -self.billed,
            self.price_micros,
            self.vat_ppm,
            -self.excl_micros,
            -self.incl_micros,
        )


class Rated(msgspec.Struct, frozen=True):
    """Money, rated."""

    currency: str
    lines: tuple[Line, ...]
    excl_micros: int
    incl_micros: int


class ChargeDraft(msgspec.Struct, frozen=True, kw_only=True):
    """What an event says a charge comes to, rated by us."""

    kind: SubjectKind
    subject_id: UUID
    reservation_id: str | None
    revision: int
    status: CdrStatus  # by the event alone: INVOICED where there is money to ask for
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
    rated: Rated | None
    stream_excl_micros: int | None
    stream_incl_micros: int | None


class StoredCdr(msgspec.Struct, frozen=True):
    """Of a stored CDR, what a later claim is compared with."""

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


class Invoice(msgspec.Struct, frozen=True, kw_only=True):
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
    claim: ChargeDraft,
    cdr_id: UUID,
    version: int,
    driver_id: str | None,
    replaces: UUID | None,
) -> Invoice:
    """The invoice of a claim that is rated."""
    rated = claim.rated
    if rated is None:
        raise ValueError(f"{claim.kind} {claim.subject_id} has no price")
    payable_minor = to_minor(rated.incl_micros, rated.currency)
    return Invoice(
        id=id_,
        kind=InvoiceKind.INVOICE,
        year=number.year,
        sequence=number.sequence,
        number=str(number),
        cdr_id=cdr_id,
        subject_id=claim.subject_id,
        session_id=claim.subject_id if claim.kind is SubjectKind.SESSION else None,
        reservation_id=claim.reservation_id,
        version=version,
        status=InvoiceStatus.OPEN if payable_minor else InvoiceStatus.PAID,
        driver_id=driver_id,
        station_id=claim.station_id,
        currency=rated.currency,
        minor_digits=minor_digits(rated.currency),
        total_excl_micros=rated.excl_micros,
        total_incl_micros=rated.incl_micros,
        payable_excl_minor=to_minor(rated.excl_micros, rated.currency),
        payable_minor=payable_minor,
        rounding=rounding_rule(rated.currency),
        credits=None,
        replaces=replaces,
        reason="",
        issued_at=number.issued_at,
        changes=0,
        changed_at=number.issued_at,
    )


def make_credit_note(id_: UUID, number: Number, credited: Invoice, reason: str, *, paid: bool) -> Invoice:
    """The document that cancels an invoice to the last unit. `paid`: money has moved, and is to move back."""
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
