"""The events that reservations publishes. Their ids follow from their content: a repeated event keeps its id."""

from datetime import datetime
from typing import Any, Final
from uuid import UUID, uuid5

import msgspec

from api.reservations.life.rule import Fee, Reservation
from kit.clock import format_rfc3339
from kit.messaging.consumer import current_event_context
from kit.messaging.outbox import OutboxEvent
from schemas.events import ReservationChanged, ReservationConfirmed, envelope_of
from schemas.topics import RESERVATION_CONFIRMED

SOURCE: Final = "reservations"
_NAMESPACE: Final = UUID("2b0d7a41-9a64-4c55-8d0b-3f9e5c1a7d20")


def reservation_changed(
    event_type: str, reservation: Reservation, now: datetime, before: Reservation | None = None
) -> OutboxEvent:
    """reservation.created.v1, also of a change while it goes on, .cancelled.v1, .expired.v1 or .no_show.v1.

    `before`: as it was; None: it is new.
    """
    moved = before is not None and before.place != reservation.place
    payload = ReservationChanged(
        reservation_id=str(reservation.id),
        revision=reservation.revision,
        station_id=reservation.place.station_id,
        connector_id=reservation.place.connector_id,
        bay=reservation.place.bay,
        driver_id=reservation.driver_id,
        starts_at=format_rfc3339(reservation.starts_at),
        ends_at=format_rfc3339(reservation.ends_at),
        status=reservation.state,
        reason=reservation.reason,
        moved_from=reservation.moved_from if moved else None,
    )
    return event_of(event_type, f"{reservation.id}/{reservation.revision}", msgspec.to_builtins(payload), now)


def reservation_confirmed(
    reservation: Reservation, fee: Fee, version: UUID, time_zone: str, tariff: str, now: datetime
) -> OutboxEvent:
    """reservation.confirmed.v1: billing charges that time. `tariff`: its JSON, whose numbers keep their digits."""
    payload = ReservationConfirmed(
        reservation_id=str(reservation.id),
        station_id=reservation.place.station_id,
        connector_id=reservation.place.connector_id,
        driver_id=reservation.driver_id,
        starts_at=format_rfc3339(fee.starts_at),
        ends_at=format_rfc3339(fee.ends_at),
        expired=fee.expired,
        version=version,
        time_zone=time_zone,
        tariff={},
    )
    document: dict[str, Any] = {**msgspec.to_builtins(payload), "tariff": msgspec.Raw(tariff.encode())}
    return event_of(RESERVATION_CONFIRMED, f"{reservation.id}", document, now)


def event_of(event_type: str, name: str, payload: dict[str, Any], now: datetime) -> OutboxEvent:
    """An event for the outbox. `name`: events of one type and name are one event."""
    context = current_event_context()
    event_id = uuid5(_NAMESPACE, f"{event_type}/{name}")
    envelope = envelope_of(
        event_type,
        event_id,
        payload,
        source=SOURCE,
        timestamp=format_rfc3339(now),
        correlation_id=context.correlation_id,
        traceparent=context.traceparent,
    )
    return OutboxEvent(event_id, envelope.exchange, envelope.routing_key, envelope.encoded())
