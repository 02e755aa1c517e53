"""The records of billing: the charge detail record (CDR) has the amount of one charge; an invoice requests its payment;
a credit note cancels an invoice. Pure.

Amounts are micro-units of the currency; those to be paid are minor units. Documents never change; a status does.
"""

from datetime import datetime
from enum import StrEnum
from typing import Final, NamedTuple
from uuid import UUID

import msgspec

from billing.currency import minor_digits, rounding_rule, to_minor
from billing.lines import CORRECTION as CORRECTION
from billing.lines import CREDIT as CREDIT
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

    SETTLING = "settling"  # to be invoiced once no later reading came for a while
    INVOICED = "invoiced"
    NOTHING_OWED = "nothing_owed"  # it comes to nothing that could be paid
    VOID = "void"  # below the operator's thresholds, or voided by a person: nothing is owed
    FREE = "free"  # a reservation for which the tariff has no price
    UNPRICED = "unpriced"  # no tariff was in force
    HELD = "held"  # the session contradicts itself, or the amount is above the bound: a person must look first
    DRIFT = "drift"  # likewise: the stream's quantities or cost are not those derived by billing
    REVIEW = "review"  # likewise: a currency that ISO 4217 does not have, or nothing to derive it from
    CANCELLED = "cancelled"  # by finance, for all later revisions too


WAITING: Final = (CdrStatus.HELD, CdrStatus.REVIEW, CdrStatus.DRIFT, CdrStatus.UNPRICED)
"""CDRs with one of these are not invoiced until a person or a later revision settles it."""
NOT_OWED: Final = (CdrStatus.NOTHING_OWED, CdrStatus.VOID)
"""Of a subject whose newest CDR has one of these nothing is requested."""


class ChargeReason(StrEnum):
    """Why a charge waits for a person, beside the reasons of the session itself (schemas.session.hold_names). Stored:
    never rename."""

    NO_TARIFF = "no_tariff"
    ABOVE_TOTAL_MAX = "above_total_max"
    CURRENCY_UNKNOWN = "currency_unknown"  # not in ISO 4217: nobody can pay in it
    SESSION_UNKNOWN = "session_unknown"  # to telemetry
    REVISION_NOT_STORED = "revision_not_stored"
    READINGS_TOO_MANY = "readings_too_many"  # to derive the charge again
    READINGS_MISSING = "readings_missing"  # dropped by retention
    DIFFERS_FROM_READINGS = "differs_from_readings"  # the stream's quantities or cost
    DECIDED_BEFORE = "decided_before"  # a person decided on other figures of this session
    PARTLY_CREDITED = "partly_credited"  # its invoice has another amount, and a person has credited a part of that


class InvoiceKind(StrEnum):
    """The documents with a number."""

    INVOICE = "invoice"
    CREDIT_NOTE = "credit_note"


class InvoiceStatus(StrEnum):
    """Whether money still has to move."""

    OPEN = "open"  # to be paid; a credit note: to be refunded
    PAID = "paid"  # likewise done; also an invoice of nothing
    CREDITED = "credited"  # an invoice that credit notes cancel, with another in its place
    CANCELLED = "cancelled"  # an invoice that credit notes cancel, without another
    SETTLED = "settled"  # a credit note of an invoice that nobody had paid


VALID: Final = (InvoiceStatus.OPEN, InvoiceStatus.PAID)
"""An invoice with one of these is valid: no credit notes cancel all of it."""


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
    reason: str  # of DRIFT and REVIEW, in words
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
    reasons: tuple[str, ...] = ()  # why it waits for a person: ChargeReason, and the session's own
    computed: tuple[Consumption, ...] | None = None  # by billing, where the stream's `consumption` is another
    # Of the reservation that the session used, as far as that counts for the bounds of the amount; None: there is none.
    reserved_excl_micros: int | None = None
    reserved_incl_micros: int | None = None
    demand_margin_micros: int | None = None  # excl. VAT (invoicing/margin); None: not known

    @property
    def settles(self) -> bool:
        """Whether later readings may change it."""
        return self.kind is SubjectKind.SESSION

    @property
    def own_consumption(self) -> tuple[Consumption, ...]:
        """What the amount is of."""
        return self.consumption if self.computed is None else self.computed


class StoredCdr(msgspec.Struct, frozen=True):
    """What a later draft is compared with of a stored CDR."""

    id: UUID
    version: int
    revision: int
    status: CdrStatus
    tariff_version: UUID | None
    time_zone: str | None
    consumption: tuple[Consumption, ...]
    reasons: tuple[str, ...]
    settling_since: datetime | None
    decision_id: UUID | None
    currency: str | None
    excl_micros: int | None
    incl_micros: int | None


class DocumentAmounts(NamedTuple):
    """Totals of a document, or a part of them."""

    excl_micros: int
    incl_micros: int
    payable_excl_minor: int
    payable_minor: int


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
    set_off_minor: int  # of an invoice, paid by credit notes when it was issued; of a credit note, below 0: so used
    demand_margin_micros: int | None  # excl. VAT (invoicing/margin); None: not known, or of a collective invoice

    @property
    def due_minor(self) -> int:
        """What an invoice asks for as it was issued: what credit notes have paid of it is not asked for again."""
        return self.payable_minor - self.set_off_minor

    @property
    def amounts(self) -> DocumentAmounts:
        """Its totals; of a credit note below 0."""
        return DocumentAmounts(
            self.total_excl_micros, self.total_incl_micros, self.payable_excl_minor, self.payable_minor
        )


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
    reason: str = "",
) -> Document:
    """The invoice of a charge that has a price. `reason`: of a corrected charge, why."""
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
        reason=reason,
        issued_at=number.issued_at,
        changes=0,
        changed_at=number.issued_at,
        set_off_minor=0,
        demand_margin_micros=draft.demand_margin_micros,
    )


def make_credit_note(
    id_: UUID,
    number: Number,
    credited: Document,
    amounts: DocumentAmounts,
    reason: str,
    *,
    paid: bool,
    demand_margin_micros: int | None,
) -> Document:
    """The document that credits this much of an invoice, and this much of its margin of demand pricing. `paid`: of it
    something was paid, which must go back."""
    return msgspec.structs.replace(
        credited,
        id=id_,
        kind=InvoiceKind.CREDIT_NOTE,
        year=number.year,
        sequence=number.sequence,
        number=str(number),
        status=InvoiceStatus.OPEN if paid and amounts.payable_minor else InvoiceStatus.SETTLED,
        total_excl_micros=-amounts.excl_micros,
        total_incl_micros=-amounts.incl_micros,
        payable_excl_minor=-amounts.payable_excl_minor,
        payable_minor=-amounts.payable_minor,
        credits=credited.id,
        replaces=None,
        reason=reason,
        issued_at=number.issued_at,
        changes=0,
        changed_at=number.issued_at,
        set_off_minor=0,
        demand_margin_micros=None if demand_margin_micros is None else -demand_margin_micros,
    )
