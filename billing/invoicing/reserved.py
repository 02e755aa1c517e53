"""A session and the reservation that it used: the tariff's minimum and maximum price are of both (docs/adr/0009)."""

from collections.abc import Sequence
from typing import Final

from msgspec.structs import replace

from billing import rating
from billing.currency import minor_digits, to_minor
from billing.documents import CdrStatus, ChargeDraft, SubjectKind
from billing.invoicing import store
from billing.invoicing.amounts import charge_amount
from billing.invoicing.rules import InvoicingRules
from billing.invoicing.tariffs import parse_tariff
from kit.messaging.outbox import Transaction
from schemas.tariff import Tariff

_MICRO_DIGITS: Final = 6
_MAY_BE_INVOICED: Final = (CdrStatus.INVOICED, CdrStatus.SETTLING, CdrStatus.NOTHING_OWED)


async def within_bounds_together(
    connection: Transaction, drafts: Sequence[ChargeDraft], rules: InvoicingRules
) -> list[ChargeDraft]:
    """The same drafts in order, those of sessions with a used reservation priced in view of what that cost; and those
    that were, without one any more, by themselves."""
    sessions = [
        (draft.subject_id, draft.tariff_version)
        for draft in drafts
        if draft.kind is SubjectKind.SESSION and draft.amount is not None
    ]
    found = await store.reserved(connection, sessions)
    alone = [
        draft.tariff_version
        for draft in drafts
        if draft.reserved_incl_micros is not None and draft.subject_id not in found and draft.tariff_version is not None
    ]
    tariffs = await store.tariffs(connection, alone) if alone else {}
    priced = []
    for draft in drafts:
        row, amount = found.get(draft.subject_id), draft.amount
        if row is None and draft.reserved_incl_micros is not None and draft.tariff_version in tariffs:
            priced.append(beside(draft, parse_tariff(tariffs[draft.tariff_version]), None, rules))
            continue
        if row is None or amount is None or row["currency"] != amount.currency:
            priced.append(draft)
            continue
        reserved = reserved_amount(row["total_excl_micros"], row["total_incl_micros"], amount.currency)
        priced.append(beside(draft, parse_tariff(row["tariff"]), reserved, rules))
    return priced


def reserved_amount(excl_micros: int, incl_micros: int, currency: str) -> rating.Reserved:
    """What counts of a reservation: incl. VAT what is to be paid for it, if that is more than its exact amount. Two
    documents that are each rounded half up would else ask for a coin more than the maximum price."""
    coin_micros: int = 10 ** (_MICRO_DIGITS - minor_digits(currency))
    return rating.Reserved(excl_micros, max(incl_micros, to_minor(incl_micros, currency) * coin_micros))


def beside(draft: ChargeDraft, tariff: Tariff, reserved: rating.Reserved | None, rules: InvoicingRules) -> ChargeDraft:
    """A session's draft as it is beside what its reservation cost; None: it has none. What a person must look at stays
    so."""
    amount = charge_amount(rating.price(tariff, draft.own_consumption, reserved=reserved or rating.Reserved(0, 0)))
    status = draft.status
    if status in _MAY_BE_INVOICED:
        owed = rules.outcome_when_released(amount)
        status = owed if status is not CdrStatus.SETTLING or owed is CdrStatus.NOTHING_OWED else status
    return replace(
        draft,
        status=status,
        amount=amount,
        reserved_excl_micros=None if reserved is None else reserved.excl_micros,
        reserved_incl_micros=None if reserved is None else reserved.incl_micros,
    )
