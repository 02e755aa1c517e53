"""Events of stations and reservations, as they come from the bus."""

from datetime import UTC, datetime
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import msgspec

from kit.clock import format_rfc3339
from kit.messaging.bus import EVENT_ID, Message
from schemas.events import ReservationChanged, StationChanged, envelope_of
from schemas.topics import exchange_of

NOW = datetime(2026, 3, 29, 9, 0, tzinfo=UTC)


def event(event_type: str, name: str, payload: msgspec.Struct | dict[str, Any]) -> Message:
    """Any event; its id follows from its type and name, so that the same one again is a repetition."""
    event_id = uuid5(NAMESPACE_URL, f"{event_type}/{name}")
    envelope = envelope_of(event_type, event_id, payload, source="test", timestamp=format_rfc3339(NOW))
    exchange = exchange_of(event_type)
    return Message(exchange, envelope.routing_key, envelope.encoded(), {EVENT_ID: str(event_id)})


def station_event(event_type: str, station_id: str, revision: int = 1, **facts: Any) -> Message:
    """station.created.v1 and its like, of a station of which nothing else is known."""
    unknown = dict.fromkeys(("name", "site", "group", "organisation", "time_zone", "latitude_udeg", "longitude_udeg"))
    payload = StationChanged(
        station_id=station_id,
        revision=revision,
        connectors=(),
        bays=(),
        changed_at=format_rfc3339(NOW),
        **{**unknown, **facts},
    )
    return event(event_type, f"{station_id}/{revision}", payload)


def reservation_event(
    event_type: str,
    reservation_id: str,
    revision: int,
    connector_id: int | None,
    starts_at: datetime,
    ends_at: datetime,
    status: str = "confirmed",
    station_id: str = "ST-1",
) -> Message:
    """reservation.created.v1 and its like."""
    payload = ReservationChanged(
        reservation_id=reservation_id,
        revision=revision,
        station_id=station_id,
        connector_id=connector_id,
        bay=None if connector_id is not None else "P1",
        driver_id="D1",
        starts_at=format_rfc3339(starts_at),
        ends_at=format_rfc3339(ends_at),
        status=status,
        reason=None,
        moved_from=None,
    )
    return event(event_type, f"{reservation_id}/{revision}", payload)
