"""The events that pricing publishes."""

from datetime import datetime
from typing import Any, Final
from uuid import UUID, uuid5

import msgspec

from api.pricing.models import Reason, TariffTarget
from kit.clock import format_rfc3339
from kit.messaging.outbox import OutboxEvent
from kit.observability.logs import correlation_id
from kit.observability.tracing import current_traceparent
from schemas.events import PricingUpdated, envelope_of
from schemas.topics import PRICING_UPDATED

SOURCE: Final = "pricing"
_NAMESPACE: Final = UUID("5a3f0b7e-9f55-4b0a-8e0b-6d6f2c1b7a41")


def pricing_updated(
    version: UUID,
    target: TariffTarget,
    effective_from: datetime,
    time_zone: str,
    document: bytes,
    reason: Reason,
    now: datetime,
) -> OutboxEvent:
    """pricing.updated.v1; its id follows from the version's."""
    event_id = uuid5(_NAMESPACE, f"{PRICING_UPDATED}/{version}")
    updated = PricingUpdated(
        version=version,
        target_kind=target.kind,
        target=target.name,
        effective_from=format_rfc3339(effective_from),
        time_zone=time_zone,
        tariff={},
        reason=reason,
    )
    # The document as it is: its numbers keep their digits.
    payload: dict[str, Any] = {**msgspec.to_builtins(updated), "tariff": msgspec.Raw(document)}
    envelope = envelope_of(
        PRICING_UPDATED,
        event_id,
        payload,
        source=SOURCE,
        timestamp=format_rfc3339(now),
        correlation_id=correlation_id.get(),
        traceparent=current_traceparent(),
    )
    return OutboxEvent(event_id, envelope.exchange, envelope.routing_key, envelope.encoded())
