"""What of a credit note is to be given back, and which invoices it pays instead. Pure.

An invoice is covered by payments and by set-offs alike. What covers more of it than it requests, because a part was
credited, is to be given back by its credit notes: by a refund, or by paying other invoices of the same payer.
"""

from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID

from billing.documents import InvoiceStatus


class Credit(NamedTuple):
    """What is left of a credit note."""

    credit_note_id: UUID
    left_minor: int


class Due(NamedTuple):
    """What is to be paid of an invoice."""

    invoice_id: UUID
    due_minor: int


class SetOff(NamedTuple):
    """An amount of a credit note that pays of an invoice."""

    invoice_id: UUID
    credit_note_id: UUID
    amount_minor: int  # above 0


def refundable_minor(payable_minor: int, covered_minor: int, credited_minor: Sequence[int]) -> list[int]:
    """Of each credit note of an invoice, how much is to be given back: all that covers the invoice beyond what it still
    requests, by the newest notes first. So what an older note owes never changes when another follows.

    `payable_minor`: of the invoice; `covered_minor`: of it paid, and set off; `credited_minor`: what each of its notes
    credits, above 0, in the order of issue.
    """
    excess_minor = covered_minor - payable_minor + sum(credited_minor)
    found: list[int] = []
    for credited in reversed(credited_minor):
        part = min(max(excess_minor, 0), credited)
        found.append(part)
        excess_minor -= part
    return found[::-1]


def note_status(refundable: int, used_minor: int) -> InvoiceStatus:
    """The status of a credit note of which so much is to be given back, and so much was: refunded or set off."""
    if refundable == 0:
        return InvoiceStatus.SETTLED
    return InvoiceStatus.PAID if used_minor >= refundable else InvoiceStatus.OPEN


def set_offs(credits: Sequence[Credit], invoices: Sequence[Due]) -> list[SetOff]:
    """Which credit notes pay which invoices of one payer and currency: both in their order, as far as it goes."""
    found: list[SetOff] = []
    left = [credit.left_minor for credit in credits]
    place = 0
    for invoice in invoices:
        due_minor = invoice.due_minor
        while due_minor > 0 and place < len(credits):
            amount_minor = min(due_minor, left[place])
            if amount_minor > 0:
                found.append(SetOff(invoice.invoice_id, credits[place].credit_note_id, amount_minor))
            due_minor -= amount_minor
            left[place] -= amount_minor
            place += left[place] == 0
    return found
