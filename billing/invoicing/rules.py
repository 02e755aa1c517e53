"""What an operator sets about invoicing. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from billing.currency import can_be_paid, to_minor
from billing.documents import CdrStatus, ChargeAmount, ChargeReason
from schemas.tariff import MICROS

OTHERS: Final = "*"
"""In a mapping by currency: those that it does not name."""
TOTAL_MAX_OF_OTHERS: Final = 1_000_000  # whole units. In currencies of small ones (IDR, VND) a session costs 100,000


@dataclass(frozen=True, slots=True)
class InvoicingRules:
    """The settings of invoicing. `total_max`: whole units by currency; a charge above it is held."""

    total_max: Mapping[str, int] = field(default_factory=dict)
    zero_invoices: bool = False  # whether nothing is invoiced as 0
    settle_s: int = 0  # a charge is invoiced this long after its last revision; 0: at once
    settle_max_s: int = 0  # and this long after the first at the latest
    set_off: bool = True  # whether what a payer's credit notes owe pays their next invoice

    def outcome_of(self, amount: ChargeAmount) -> tuple[CdrStatus, tuple[str, ...]]:
        """What becomes of a charge of this amount that agrees with its readings, and the reasons if it must wait."""
        if not can_be_paid(amount.currency):
            return CdrStatus.REVIEW, (ChargeReason.CURRENCY_UNKNOWN,)
        if amount.incl_micros > self.total_max_of(amount.currency) * MICROS:
            return CdrStatus.HELD, (ChargeReason.ABOVE_TOTAL_MAX,)
        return self.outcome_when_released(amount), ()

    def outcome_when_released(self, amount: ChargeAmount) -> CdrStatus:
        """The same once a person has looked at it."""
        owed = to_minor(amount.incl_micros, amount.currency) or self.zero_invoices
        return CdrStatus.INVOICED if owed else CdrStatus.NOTHING_OWED

    def total_max_of(self, currency: str) -> int:
        """Whole units of a currency above which a charge is held."""
        return self.total_max.get(currency, self.total_max.get(OTHERS, TOTAL_MAX_OF_OTHERS))

    def due_at(self, now: datetime, settling_since: datetime | None) -> datetime:
        """When a charge is invoiced whose newest revision came now. `settling_since`: when its first one did."""
        latest = (settling_since or now) + timedelta(seconds=self.settle_max_s)
        return min(now + timedelta(seconds=self.settle_s), latest)
