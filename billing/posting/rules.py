"""What a claim changes in the books. Pure.

- A revision that is not newer than what is known changes nothing.
- Newer, and the money is the same: the CDR notes the revision, nothing else happens.
- Other money: another version of the CDR; the standing invoice is credited, and another one takes its place.
- A claim that cannot be invoiced (drift, no tariff, beyond the bound) never touches the standing invoice either: what
  is doubtful is no ground to credit. The next good revision does.
- What finance has cancelled stays cancelled.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto
from uuid import UUID

from billing.documents import CdrStatus, Claim, StoredCdr
from schemas.events import Consumption


@dataclass(frozen=True, slots=True)
class Standing:
    """What the books have of a subject."""

    cdr: StoredCdr | None  # the current one
    invoice_id: UUID | None  # the one no credit note cancels
    driver_id: str | None  # whose session it is, where that was heard


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

    @property
    def invoiced(self) -> bool:
        """Whether a new invoice is issued, and the standing one credited."""
        return self.change is Change.VERSION and self.status is CdrStatus.INVOICED


def judge(claim: Claim, standing: Standing) -> Verdict:
    """The verdict on a claim."""
    known = standing.cdr
    if known is None:
        return Verdict(Change.VERSION, 1, claim.status)
    if claim.revision <= known.revision:
        return Verdict(Change.NOTHING)
    cancelled = known.status is CdrStatus.CANCELLED
    if _same_money(claim, known) and (cancelled or claim.status is known.status):
        return Verdict(Change.NOTE, known.version)
    return Verdict(Change.VERSION, known.version + 1, CdrStatus.CANCELLED if cancelled else claim.status)


def _same_money(claim: Claim, known: StoredCdr) -> bool:
    rated = claim.rated
    money = (None, None, None) if rated is None else (rated.currency, rated.excl_micros, rated.incl_micros)
    return (
        money == (known.currency, known.excl_micros, known.incl_micros)
        and claim.tariff_version == known.tariff_version
        and claim.time_zone == known.time_zone
        and _quantities(claim.consumption) == _quantities(known.consumption)
    )


def _quantities(consumption: Sequence[Consumption]) -> list[tuple[int, str, int, bool]]:
    """Without the moments: they are told, and nothing is charged by them."""
    return [(used.element, used.dimension, used.volume, used.last) for used in consumption]
