"""The event that the config service publishes."""

from typing import Final
from uuid import uuid4

from api.config.store import StoredChange
from kit.clock import format_rfc3339
from kit.messaging.outbox import OutboxEvent
from kit.observability.logs import correlation_id
from kit.observability.tracing import current_traceparent
from schemas.events import ConfigUpdated, envelope_of
from schemas.topics import CONFIG_UPDATED

SOURCE: Final = "config"


def config_updated(change: StoredChange) -> OutboxEvent:
    """config.updated.v1, for every process that follows the configuration."""
    event_id = uuid4()
    payload = ConfigUpdated(
        revision=change.revision,
        name=change.name,
        version=change.version,
        before=None if change.before is None else dict(change.before),
        after=None if change.after is None else dict(change.after),
        changed_by=change.changed_by,
        reason=change.reason,
    )
    envelope = envelope_of(
        CONFIG_UPDATED,
        event_id,
        payload,
        source=SOURCE,
        timestamp=format_rfc3339(change.changed_at),
        correlation_id=correlation_id.get(),
        traceparent=current_traceparent(),
    )
    return OutboxEvent(event_id, envelope.exchange, envelope.routing_key, envelope.encoded())
