"""What a claim changes in the books. Pure.

- A revision that is not newer than what is known changes nothing.
- Newer, and all that is charged for is the same: the CDR notes the revision, nothing else happens.
- Other consumption: another version of the CDR. Where it comes to what the standing invoice asks already, that invoice
  stands, and no document is issued; where it comes to other money, it is credited, and another one takes its place.
- A claim that cannot be invoiced (drift, no tariff, beyond the bound) never touches the standing invoice either: what
  is doubtful is no ground to credit. The next good revision does.
- What finance has cancelled stays cancelled.
"""

from dataclasses import dataclass
from enum import Enum, auto
from uuid import UUID

from billing.documents import CdrStatus, ChargeDraft, StoredCdr


@dataclass(frozen=True, slots=True)
class Standing:
    """What the books have of a subject."""

    cdr: StoredCdr | None  # the current one
    invoice_id: UUID | None  # the one no credit note cancels
    driver_id: str | None  # whose session it is, where that was heard
    asked: tuple[str, int, int] | None = None  # by that invoice: currency, micro-units excl. and incl. VAT


class Change(Enum):
    """What is to be done."""

    NOTHING = auto()
    NOTE = auto()
    VERSION = auto()


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is to be done with a claim."""

    change: Change
    version: int = 0  # of the CDR to be written
    status: CdrStatus = CdrStatus.INVOICED
    asked: bool = False  # just this money, by the standing invoice

    @property
    def invoiced(self) -> bool:
        """Whether a new invoice is issued, and the standing one credited."""
        return self.change is Change.VERSION and self.status is CdrStatus.INVOICED and not self.asked


def judge(claim: ChargeDraft, standing: Standing) -> Verdict:
    """The verdict on a claim."""
    known = standing.cdr
    if known is None:
        return Verdict(Change.VERSION, 1, claim.status)
    if claim.revision <= known.revision:
        return Verdict(Change.NOTHING)
    cancelled = known.status is CdrStatus.CANCELLED
    if _same_charge(claim, known) and (cancelled or claim.status is known.status):
        return Verdict(Change.NOTE, known.version)
    status = CdrStatus.CANCELLED if cancelled else claim.status
    asked = status is CdrStatus.INVOICED and standing.asked is not None and _money(claim) == standing.asked
    return Verdict(Change.VERSION, known.version + 1, status, asked)


def _same_charge(claim: ChargeDraft, known: StoredCdr) -> bool:
    """With the moments of consumption: nothing is charged by them, but a derivation is compared with them."""
    money = None if known.currency is None else (known.currency, known.excl_micros, known.incl_micros)
    return (
        _money(claim) == money
        and claim.tariff_version == known.tariff_version
        and claim.time_zone == known.time_zone
        and claim.consumption == known.consumption
    )


def _money(claim: ChargeDraft) -> tuple[str, int, int] | None:
    rated = claim.rated
    return None if rated is None else (rated.currency, rated.excl_micros, rated.incl_micros)
