"""The events that notifications publishes: the end of each delivery. Their ids follow from the delivery's."""

from datetime import datetime
from typing import Final
from uuid import UUID, uuid5

from api.notifications.deliveries.store import Attempted
from kit.clock import format_rfc3339
from kit.messaging.outbox import OutboxEvent
from schemas.events import NotificationDelivery, envelope_of
from schemas.topics import NOTIFICATION_FAILED, NOTIFICATION_SENT

SOURCE: Final = "notifications"
_NAMESPACE: Final = UUID("7c0a4be6-53f1-4a0e-8e4f-6d7a0a3d5b20")


def delivery_ended(delivery: Attempted, error: str | None, now: datetime) -> OutboxEvent:
    """notification.sent.v1, or notification.failed.v1 where there is an error."""
    type_ = NOTIFICATION_SENT if error is None else NOTIFICATION_FAILED
    event_id = uuid5(_NAMESPACE, f"{type_}/{delivery.id}")
    payload = NotificationDelivery(
        notification_id=delivery.notification_id,
        event_id=delivery.event_id,
        kind=delivery.kind,
        channel=delivery.channel,
        subject=delivery.subject,
        attempts=delivery.attempts,
        error=error,
    )
    envelope = envelope_of(type_, event_id, payload, source=SOURCE, timestamp=format_rfc3339(now))
    return OutboxEvent(event_id, envelope.exchange, envelope.routing_key, envelope.encoded())
