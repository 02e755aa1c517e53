"""Names of topics, queues and event types.

An event type is `domain.action.vN`; each consumer group has one queue per event type, and of some that are broadcast
each process has one.
"""

from typing import Final

READINGS_TOPIC: Final = "telemetry.readings.v1"  # Kafka, frames
FRAMES_QUEUE_PREFIX: Final = "telemetry_frames_"  # RabbitMQ quorum queues, one a partition, frames

TELEMETRY_GENERATED: Final = "telemetry.generated.v1"
TELEMETRY_AGGREGATED: Final = "telemetry.aggregated.v1"
TELEMETRY_RECEIVED: Final = "telemetry.received.v1"
SESSION_STARTED: Final = "session.started.v1"
SESSION_COMPLETED: Final = "session.completed.v1"
SESSION_COST_UPDATED: Final = "session.cost_updated.v1"
SESSION_REQUESTED: Final = "session.requested.v1"
SESSION_STOP_REQUESTED: Final = "session.stop_requested.v1"
SESSION_ASSIGNED: Final = "session.assigned.v1"
PRICING_UPDATED: Final = "pricing.updated.v1"
STATION_CREATED: Final = "station.created.v1"
STATION_UPDATED: Final = "station.updated.v1"
STATION_REMOVED: Final = "station.removed.v1"
STATION_STATUS_CHANGED: Final = "station.status_changed.v1"
BAY_OCCUPANCY_CHANGED: Final = "bay.occupancy_changed.v1"
PARKING_OVERSTAYED: Final = "parking.overstayed.v1"
RESERVATION_CREATED: Final = "reservation.created.v1"
RESERVATION_CONFIRMED: Final = "reservation.confirmed.v1"
RESERVATION_CANCELLED: Final = "reservation.cancelled.v1"
RESERVATION_EXPIRED: Final = "reservation.expired.v1"
RESERVATION_NO_SHOW: Final = "reservation.no_show.v1"
NOTIFICATION_SENT: Final = "notification.sent.v1"
NOTIFICATION_FAILED: Final = "notification.failed.v1"
INVOICE_CREATED: Final = "invoice.created.v1"
INVOICE_UPDATED: Final = "invoice.updated.v1"
REPORT_GENERATED: Final = "report.generated.v1"
EVENT_FAILED: Final = "event.failed.v1"
CONFIG_UPDATED: Final = "config.updated.v1"

# What everyone must hear goes by `fanout_broadcast`, all other events by `direct_events`: the names of
# kit/messaging/messages.py, which knows no events.
_DIRECT, _FANOUT = "direct_events", "fanout_broadcast"
_BROADCAST: Final = frozenset(
    {CONFIG_UPDATED, PRICING_UPDATED, STATION_CREATED, STATION_UPDATED, STATION_REMOVED, STATION_STATUS_CHANGED}
)


def frames_queue(partition: int) -> str:
    """The queue that carries the frames of one partition from the gateways to the bridge."""
    return f"{FRAMES_QUEUE_PREFIX}{partition}"


def exchange_of(event_type: str) -> str:
    """The exchange that these events are published to, and that their queues are bound to."""
    return _FANOUT if event_type in _BROADCAST else _DIRECT


def routing_key(event_type: str) -> str:
    """`session.completed.v1` is routed by `session.completed`."""
    return event_type.rsplit(".", 1)[0]


def group_queue(group: str, event_type: str) -> str:
    """The queue of a consumer group: `billing_session_completed` for group `billing` and `session.completed.v1`."""
    return f"{group}_{routing_key(event_type).replace('.', '_')}"


def process_queue(group: str, process: str, event_type: str) -> str:
    """The queue of one process of a group: `billing_1a2b3c4d_config_updated`."""
    return group_queue(f"{group}_{process}", event_type)
