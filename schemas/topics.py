"""Names on the brokers. Events: `domain.action`, versioned in the type; queues: one per consumer group per event."""

from typing import Final

READINGS_TOPIC: Final = "telemetry.readings.v1"  # Kafka, frames
FRAMES_QUEUE_PREFIX: Final = "telemetry_frames_"  # RabbitMQ quorum queues, one a partition, frames

DIRECT_EXCHANGE: Final = "direct_events"
FANOUT_EXCHANGE: Final = "fanout_broadcast"
DEAD_LETTER_EXCHANGE: Final = "dlx_events"

TELEMETRY_GENERATED: Final = "telemetry.generated.v1"
TELEMETRY_AGGREGATED: Final = "telemetry.aggregated.v1"
SESSION_STARTED: Final = "session.started.v1"
SESSION_COMPLETED: Final = "session.completed.v1"
SESSION_COST_UPDATED: Final = "session.cost_updated.v1"
SESSION_REQUESTED: Final = "session.requested.v1"
SESSION_STOP_REQUESTED: Final = "session.stop_requested.v1"
SESSION_ASSIGNED: Final = "session.assigned.v1"
PRICING_UPDATED: Final = "pricing.updated.v1"
RESERVATION_CONFIRMED: Final = "reservation.confirmed.v1"
INVOICE_CREATED: Final = "invoice.created.v1"
INVOICE_UPDATED: Final = "invoice.updated.v1"
EVENT_FAILED: Final = "event.failed.v1"


def frames_queue(partition: int) -> str:
    """The queue that carries one partition's frames from the gateways to the bridge."""
    return f"{FRAMES_QUEUE_PREFIX}{partition}"


def routing_key(event_type: str) -> str:
    """`session.completed.v1` is routed by `session.completed`."""
    return event_type.rsplit(".", 1)[0]


def group_queue(group: str, event_type: str) -> str:
    """`billing` listening to `session.completed.v1` reads from `billing_session_completed`."""
    return f"{group}_{routing_key(event_type).replace('.', '_')}"
