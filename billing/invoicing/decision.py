"""Decides what a charge draft changes in the records. Pure.

- A revision that is not newer than the recorded one changes nothing.
- Newer, with the same money and consumption: the CDR takes the new revision, nothing else happens.
- Other consumption: another version of the CDR. If it amounts to what the valid invoice requests, that invoice stays
  valid and no document is issued; if the amount differs, the charge settles, and then the invoice is credited and
  another one replaces it.
- Where nothing is owed (void, or an amount of nothing) a valid invoice is credited at once, and nothing replaces it.
- A charge of a customer with collective invoices is collected where it would be invoiced; what of it is invoiced
  already, the next collective invoice corrects (billing/statements).
- A draft that waits for a person (held, drift, no tariff, review) never touches the valid invoice either: a doubtful
  figure is no reason to credit. The next good revision does.
- A person's decision is for a revision. A later one with the figures that were decided on confirms it; one with others
  is held again, unless it comes to what is requested already. So is one whose invoice a person has credited in part.
- What finance has cancelled stays cancelled.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import Enum, auto
from uuid import UUID

from billing.documents import NOT_OWED, WAITING, CdrStatus, ChargeAmount, ChargeDraft, ChargeReason, StoredCdr
from billing.invoicing.rules import InvoicingRules


@dataclass(frozen=True, slots=True)
class PastDecision:
    """The last decision of a person on a subject."""

    result_cdr_id: UUID  # the version of the CDR that it made
    decided: StoredCdr  # the version that it was about
    corrected: bool  # the version that it made has other consumption than the session


@dataclass(frozen=True, slots=True)
class ChargeState:
    """What is recorded of a subject."""

    cdr: StoredCdr | None  # the current one
    invoice_id: UUID | None  # the valid invoice of its own
    driver_id: str | None  # of the session, once session.assigned said so
    # By that invoice, or collected for a collective one: currency, micro-units excl. and incl. VAT.
    invoiced: tuple[str, int, int] | None = None
    partly_credited: bool = False  # the invoice on which it stands
    decision: PastDecision | None = None


class CdrChange(Enum):
    """What happens to a subject's CDR."""

    NOTHING = auto()
    REVISION_ONLY = auto()  # the charge is the same: its revision is recorded
    DECISION_CONFIRMED = auto()  # likewise of a CDR with consumption that a person gave: nothing else is recorded
    NEW_VERSION = auto()  # another version is written


class DocumentChange(Enum):
    """What happens to a subject's documents."""

    NOTHING = auto()
    INVOICE = auto()  # a new invoice; the valid one is credited
    CREDIT = auto()  # the valid invoice is credited, and nothing takes its place


@dataclass(frozen=True, slots=True)
class Decision:
    """What is to be done with a draft."""

    change: CdrChange
    version: int = 0  # of the CDR to be written
    status: CdrStatus = CdrStatus.INVOICED
    reasons: tuple[str, ...] = ()
    documents: DocumentChange = DocumentChange.NOTHING
    due_at: datetime | None = None  # of SETTLING
    settling_since: datetime | None = None

    @property
    def already_invoiced(self) -> bool:
        """The valid invoice requests exactly this amount."""
        return self.status is CdrStatus.INVOICED and self.documents is DocumentChange.NOTHING


def decide(draft: ChargeDraft, state: ChargeState, now: datetime, rules: InvoicingRules) -> Decision:
    """What is to be done with a draft that came now."""
    cdr = state.cdr
    if cdr is not None and draft.revision <= cdr.revision:
        return Decision(CdrChange.NOTHING)
    if cdr is not None and _confirms_decision(draft, cdr, state.decision):
        assert state.decision is not None  # noqa: S101  # what is confirmed is there
        change = CdrChange.DECISION_CONFIRMED if state.decision.corrected else CdrChange.REVISION_ONLY
        return Decision(change, cdr.version, cdr.status)
    status, reasons = _outcome(draft, state)
    version = 1 if cdr is None else cdr.version + 1
    already = status is CdrStatus.INVOICED and _is_invoiced(draft, state)
    settles = status is CdrStatus.INVOICED and not already and rules.settle_s > 0 and draft.settles
    if settles:
        status = CdrStatus.SETTLING
    if cdr is not None and _same_charge(draft, cdr) and (status, reasons) == (cdr.status, cdr.reasons):
        return Decision(CdrChange.REVISION_ONLY, cdr.version, status)
    if settles:
        since = now if cdr is None or cdr.settling_since is None else cdr.settling_since
        due_at = rules.due_at(now, since)
        return Decision(CdrChange.NEW_VERSION, version, status, due_at=due_at, settling_since=since)
    return Decision(CdrChange.NEW_VERSION, version, status, reasons, documents_of(status, state, already))


def decide_repriced(draft: ChargeDraft, state: ChargeState) -> Decision:
    """What is to be done with a recorded charge that has another amount now, at the same revision: its reservation
    became known, or does not count any more."""
    if state.cdr is None:
        raise ValueError("only a recorded charge is priced again")
    waits = draft.status in WAITING
    status, reasons = (draft.status, draft.reasons) if waits else _outcome(draft, state)
    already = status is CdrStatus.INVOICED and _is_invoiced(draft, state)
    documents = documents_of(status, state, already)
    return Decision(CdrChange.NEW_VERSION, state.cdr.version + 1, status, reasons, documents)


def decide_released(draft: ChargeDraft, state: ChargeState) -> Decision:
    """What is to be done with a draft that a person has decided on: it is not doubted again, and does not settle."""
    if state.cdr is None:
        raise ValueError("only a recorded charge is decided on")
    already = _is_invoiced(draft, state)
    documents = documents_of(draft.status, state, already)
    return Decision(CdrChange.NEW_VERSION, state.cdr.version + 1, draft.status, documents=documents)


def documents_of(status: CdrStatus, state: ChargeState, already_invoiced: bool) -> DocumentChange:
    """What a CDR of this status means for the documents."""
    if status is CdrStatus.INVOICED and not already_invoiced:
        return DocumentChange.INVOICE
    if status in NOT_OWED and state.invoice_id is not None:
        return DocumentChange.CREDIT
    return DocumentChange.NOTHING


def _outcome(draft: ChargeDraft, state: ChargeState) -> tuple[CdrStatus, tuple[str, ...]]:
    """The status of the draft in view of what is recorded, before it settles, and its reasons."""
    if state.cdr is not None and state.cdr.status is CdrStatus.CANCELLED:
        return CdrStatus.CANCELLED, ()
    unasked = state.invoice_id is None and state.invoiced is None
    requested = _is_invoiced(draft, state) or (draft.status in NOT_OWED and unasked)
    if requested or draft.status is CdrStatus.FREE:
        return draft.status, draft.reasons
    more = []
    if state.decision is not None:
        more.append(ChargeReason.DECIDED_BEFORE)
    if state.partly_credited:
        more.append(ChargeReason.PARTLY_CREDITED)
    if not more:
        return draft.status, draft.reasons
    return draft.status if draft.status in WAITING else CdrStatus.HELD, (*draft.reasons, *more)


def _confirms_decision(draft: ChargeDraft, cdr: StoredCdr, past: PastDecision | None) -> bool:
    """Whether it has the figures that a person has decided on, and nothing came since."""
    return past is not None and past.result_cdr_id == cdr.id and _same_charge(draft, past.decided)


def _is_invoiced(draft: ChargeDraft, state: ChargeState) -> bool:
    return draft.status is CdrStatus.INVOICED and state.invoiced is not None and _totals(draft.amount) == state.invoiced


def _same_charge(draft: ChargeDraft, cdr: StoredCdr) -> bool:
    """Including the moments of consumption: no price depends on them, but a derivation is compared with them."""
    totals = None if cdr.currency is None else (cdr.currency, cdr.excl_micros, cdr.incl_micros)
    return (
        _totals(draft.amount) == totals
        and draft.tariff_version == cdr.tariff_version
        and draft.time_zone == cdr.time_zone
        and draft.consumption == cdr.consumption
    )


def _totals(amount: ChargeAmount | None) -> tuple[str, int, int] | None:
    return None if amount is None else amount.totals
