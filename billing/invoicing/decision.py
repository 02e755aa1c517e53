"""Decides what a charge draft changes in the records. Pure.

- A revision that is not newer than the recorded one changes nothing.
- Newer, with the same money and consumption: the CDR takes the new revision, nothing else happens.
- Other consumption: another version of the CDR. If it amounts to what the valid invoice requests, that invoice stays
  valid and no document is issued; if the amount differs, the invoice is credited and another one replaces it.
- A draft that cannot be invoiced (drift, no tariff, review) never touches the valid invoice either: a doubtful figure
  is no reason to credit. The next good revision does.
- What finance has cancelled stays cancelled.
"""

from dataclasses import dataclass
from enum import Enum, auto
from uuid import UUID

from billing.documents import CdrStatus, ChargeAmount, ChargeDraft, StoredCdr


@dataclass(frozen=True, slots=True)
class ChargeState:
    """What is recorded of a subject."""

    cdr: StoredCdr | None  # the current one
    invoice_id: UUID | None  # the valid invoice
    driver_id: str | None  # of the session, once session.assigned said so
    invoiced: tuple[str, int, int] | None = None  # by that invoice: currency, micro-units excl. and incl. VAT


class CdrChange(Enum):
    """What happens to a subject's CDR."""

    NOTHING = auto()
    REVISION_ONLY = auto()  # the charge is the same: only its revision is recorded
    NEW_VERSION = auto()  # another version is written


@dataclass(frozen=True, slots=True)
class Decision:
    """What is to be done with a draft."""

    change: CdrChange
    version: int = 0  # of the CDR to be written
    status: CdrStatus = CdrStatus.INVOICED
    already_invoiced: bool = False  # the valid invoice requests exactly this amount

    @property
    def issues_invoice(self) -> bool:
        """Whether a new invoice is issued, and the valid one credited."""
        return self.change is CdrChange.NEW_VERSION and self.status is CdrStatus.INVOICED and not self.already_invoiced


def decide(draft: ChargeDraft, state: ChargeState) -> Decision:
    """What is to be done with a draft."""
    cdr = state.cdr
    if cdr is None:
        return Decision(CdrChange.NEW_VERSION, 1, draft.status)
    if draft.revision <= cdr.revision:
        return Decision(CdrChange.NOTHING)
    cancelled = cdr.status is CdrStatus.CANCELLED
    if _same_charge(draft, cdr) and (cancelled or draft.status is cdr.status):
        return Decision(CdrChange.REVISION_ONLY, cdr.version)
    status = CdrStatus.CANCELLED if cancelled else draft.status
    already = status is CdrStatus.INVOICED and state.invoiced is not None and _totals(draft.amount) == state.invoiced
    return Decision(CdrChange.NEW_VERSION, cdr.version + 1, status, already)


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
