"""The check before an invoice: the stream's quantities and cost against billing's own, from the stored readings. Pure.

An event has a session's quantities and cost at one of its revisions; the stored readings may be of a later one already.

- Telemetry stores a later revision, or the session is open again: the event is superseded. Nothing is recorded: another
  event follows, for every revision is stored and published in one transaction.
- The stored revision is the event's: consumption is derived from its readings and priced. If every component, the
  currency, both totals and the tariff's version agree with the event, the charge is invoiced; otherwise it is `drift`.
- They do not agree and readings are missing (retention dropped some or all), or telemetry does not know the session or
  its revision, or it has more readings than are read: nothing can be derived, and the charge is put to `review`.
- Above the operator's bound, or if the session contradicts itself (the event says why): the charge is `held`, with the
  amount that it would have.
- A session is `withdrawn`: late readings showed that all its readings are other sessions'. Nothing is owed: it is void.
- A session below the operator's thresholds is `void`, unless billing derives other quantities than the stream.
"""

from dataclasses import dataclass
from typing import Final
from zoneinfo import ZoneInfo

from msgspec.structs import replace

from billing.documents import CdrStatus, ChargeDraft, ChargeReason
from billing.invoicing.amounts import price_consumption, zone_of
from billing.invoicing.derivation import Derived, derive_session, differences
from billing.invoicing.drafts import session_draft
from billing.invoicing.rules import InvoicingRules
from billing.rating import NoReadings, in_tariff_order
from billing.readings_source import SessionSnapshot, StoredReadings
from schemas.events import Pricing, SessionCompleted
from schemas.session import END_REASON_NAMES, EndReason
from schemas.tariff import Tariff

WITHDRAWN: Final = END_REASON_NAMES[EndReason.WITHDRAWN]
DIFFERENCES_MAX: Final = 8  # written down with a CDR, ~100 B each; `reconcile` lists them all


@dataclass(frozen=True, slots=True)
class PricedSession:
    """A completed session with a tariff, its event read."""

    event: SessionCompleted
    pricing: Pricing
    tariff: Tariff
    zone: ZoneInfo
    draft: ChargeDraft  # by the event alone, its consumption priced by billing: not to be invoiced

    @classmethod
    def of(cls, event: SessionCompleted, pricing: Pricing, tariff: Tariff) -> "PricedSession":
        """Raises BadEvent."""
        draft = session_draft(event, price_consumption(tariff, pricing.consumption), CdrStatus.REVIEW)
        # In the order of the lines, by which exports find the moment of each.
        draft = replace(draft, consumption=tuple(in_tariff_order(tariff, draft.consumption)))
        return cls(event, pricing, tariff, zone_of(pricing.time_zone), draft)

    def put_aside(
        self, status: CdrStatus, why: ChargeReason, reason: str, derived: Derived | None = None
    ) -> ChargeDraft:
        """The draft where a person must look first; without a derivation, its amount is of the event's quantities.

        A session that contradicts itself is held, whatever else is found.
        """
        changed = replace(
            self.draft,
            status=CdrStatus.HELD if self.event.held else status,
            reasons=(*self.event.held, why),
            reason=reason,
        )
        return changed if derived is None else replace(changed, amount=derived.amount, computed=derived.consumption)

    def agreed(self, derived: Derived, rules: InvoicingRules) -> ChargeDraft:
        """The draft where billing has derived the same."""
        status, reasons = rules.outcome_of(derived.amount)
        if self.event.held:
            status, reasons = CdrStatus.HELD, (*self.event.held, *reasons)
        elif self.event.void:
            status, reasons = CdrStatus.VOID, ()
        return replace(self.draft, status=status, reasons=reasons, amount=derived.amount)


def check_session(session: PricedSession, stored: SessionSnapshot | None, rules: InvoicingRules) -> ChargeDraft | None:
    """The charge of a session; None: the event is superseded."""
    event, review = session.event, CdrStatus.REVIEW
    if stored is None:
        return session.put_aside(review, ChargeReason.SESSION_UNKNOWN, "telemetry does not know the session")
    if stored.revision > event.revision or (stored.revision == event.revision and not stored.completed):
        return None
    if stored.revision < event.revision:
        reason = f"telemetry has revision {stored.revision} of the session only"
        return session.put_aside(review, ChargeReason.REVISION_NOT_STORED, reason)
    if event.end_reason == WITHDRAWN and not event.readings:
        return replace(session.draft, status=CdrStatus.VOID)
    if stored.readings is None:
        reason = "the session has too many readings to derive its charge again"
        return session.put_aside(review, ChargeReason.READINGS_TOO_MANY, reason)
    return _compared(session, stored, stored.readings, rules)


def _compared(
    session: PricedSession, stored: SessionSnapshot, readings: StoredReadings, rules: InvoicingRules
) -> ChargeDraft:
    event, pricing = session.event, session.pricing
    missing = f"{len(readings.readings)} of its {event.readings} readings are still stored"
    try:
        derived = derive_session(session.tariff, session.zone, readings)
    except NoReadings:
        return session.put_aside(CdrStatus.REVIEW, ChargeReason.READINGS_MISSING, missing)
    cost = pricing.cost
    found = differences(derived, pricing.consumption, cost.currency, cost.excl_vat_micros, cost.incl_vat_micros)
    if stored.tariff_version != pricing.version:
        found.append(f"tariff version: stored {stored.tariff_version}, event {pricing.version}")
    if not found:
        return session.agreed(derived, rules)
    if len(readings.readings) < event.readings:
        return session.put_aside(CdrStatus.REVIEW, ChargeReason.READINGS_MISSING, missing)
    reason = "; ".join(found[:DIFFERENCES_MAX])
    return session.put_aside(CdrStatus.DRIFT, ChargeReason.DIFFERS_FROM_READINGS, reason, derived)
