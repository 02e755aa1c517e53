"""From collected charges to the lines of a collective invoice, and the months that are due. Pure."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Final
from uuid import UUID
from zoneinfo import ZoneInfo

import msgspec

from billing.documents import DocumentLine

GRACE: Final = timedelta(hours=12)  # after a month's end: for charges of the last evening that end or settle later
CORRECTED: Final = " (replaced: taken back)"


class CollectedCharge(msgspec.Struct, frozen=True, kw_only=True):
    """A version of a charge that waits for its collective invoice, or stands on one."""

    cdr_id: UUID
    subject_id: UUID
    version: int
    customer_id: UUID
    currency: str
    label: str
    energy_uj: int
    started_at: datetime
    ended_at: datetime
    lines: tuple[DocumentLine, ...]  # every one with a rate


class Item(msgspec.Struct, frozen=True):
    """A charge on a collective invoice, or one that is taken back."""

    charge: CollectedCharge
    taken_back: bool

    @property
    def label(self) -> str:
        """How the document names it."""
        return self.charge.label + (CORRECTED if self.taken_back else "")

    @property
    def lines(self) -> Sequence[DocumentLine]:
        """With their sign."""
        return [line.negated() for line in self.charge.lines] if self.taken_back else self.charge.lines


def items_of(waiting: Sequence[CollectedCharge], invoiced: Sequence[CollectedCharge], void: set[UUID]) -> list[Item]:
    """What a collective invoice has of these charges, by the moment at which they ended.

    `waiting`: versions on no collective invoice yet, of which the highest of a subject counts; `invoiced`: the versions
    of these subjects that stand on one; `void`: subjects of which nothing is owed any more. What has the same lines as
    before is neither taken back nor invoiced again.
    """
    newest: dict[UUID, CollectedCharge] = {}
    for charge in sorted(waiting, key=lambda one: one.version):
        newest[charge.subject_id] = charge
    before = {charge.subject_id: charge for charge in invoiced}
    items = []
    for subject_id in newest.keys() | before.keys():
        old, new = before.get(subject_id), newest.get(subject_id)
        if subject_id in void:
            new = None
        elif new is None or (old is not None and old.lines == new.lines):
            continue
        if old is not None:
            items.append(Item(old, True))
        if new is not None:
            items.append(Item(new, False))
    return sorted(items, key=lambda one: (one.charge.ended_at, one.charge.subject_id, not one.taken_back))


def month_of(moment: datetime, zone: ZoneInfo) -> date:
    """The first day of the month at a moment in a zone."""
    return moment.astimezone(zone).date().replace(day=1)


def following(month: date) -> date:
    """The first day of the next month."""
    return (month + timedelta(days=31)).replace(day=1)


def bounds_of(month: date, zone: ZoneInfo) -> tuple[datetime, datetime]:
    """The moments at which a month begins and ends in a zone."""

    def begins(day: date) -> datetime:
        return datetime(day.year, day.month, 1, tzinfo=zone).astimezone(UTC)

    return begins(month), begins(following(month))


def first_month(oldest_ended_at: datetime, last: date | None, zone: ZoneInfo) -> date:
    """The month whose collective invoice has the oldest waiting charge: that in which it ended, but one after the last
    that was invoiced. What comes late stands on the next collective invoice."""
    month = month_of(oldest_ended_at, zone)
    return month if last is None else max(month, following(last))


def is_due(month: date, now: datetime, zone: ZoneInfo) -> bool:
    """Whether a month's collective invoice may be issued."""
    return bounds_of(month, zone)[1] + GRACE <= now
