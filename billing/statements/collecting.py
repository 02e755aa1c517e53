"""From a charge to what is collected of it. Pure."""

from uuid import UUID
from zoneinfo import ZoneInfo

from billing.documents import ChargeDraft
from billing.statements.composition import CollectedCharge
from billing.vat import with_rates


def collected_charge(
    cdr_id: UUID, version: int, customer_id: UUID, driver_id: str | None, draft: ChargeDraft, remark: str = ""
) -> CollectedCharge:
    """The charge that waits for its collective invoice. `remark`: that its consumption was corrected, and why.

    Raises ValueError where it has no price.
    """
    if draft.amount is None:
        raise ValueError(f"{draft.kind} {draft.subject_id} has no price")
    started_at = draft.started_at.astimezone(ZoneInfo(draft.time_zone or "UTC"))
    name = draft.reservation_id or draft.device_session_id or str(draft.subject_id)
    parts = (draft.station_id, f"{started_at:%Y-%m-%d %H:%M}", f"{draft.kind} {name}", driver_id or "", remark)
    return CollectedCharge(
        cdr_id=cdr_id,
        subject_id=draft.subject_id,
        version=version,
        customer_id=customer_id,
        currency=draft.amount.currency,
        label=" · ".join(filter(None, parts)),
        energy_uj=draft.energy_uj,
        started_at=draft.started_at,
        ended_at=draft.ended_at,
        lines=tuple(with_rates(draft.amount.lines)),
    )
