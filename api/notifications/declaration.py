"""The declaration of the notifications service."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from fastapi import APIRouter

from api.notifications.components import NotificationComponents, open_notifications
from api.notifications.deliveries import routes as delivery_routes
from api.notifications.deliveries.store import RETENTION
from api.notifications.personal_data import PERSONAL_DATA
from api.notifications.preferences import routes as preference_routes
from api.notifications.settings import NotificationSettings
from api.notifications.templates import routes as template_routes
from kit.messaging.consumer import HandleBatch
from kit.service import Consumes, Job, Service
from schemas.events import (
    Event,
    EventFailed,
    InvoiceChanged,
    ParkingOverstayed,
    ReservationChanged,
    SessionAssigned,
    SessionCompleted,
    SessionStarted,
    StationChanged,
    StationStatusChanged,
)
from schemas.topics import (
    EVENT_FAILED,
    INVOICE_CREATED,
    NOTIFICATION_FAILED,
    NOTIFICATION_SENT,
    PARKING_OVERSTAYED,
    RESERVATION_CANCELLED,
    RESERVATION_CREATED,
    RESERVATION_EXPIRED,
    RESERVATION_NO_SHOW,
    SESSION_ASSIGNED,
    SESSION_COMPLETED,
    SESSION_STARTED,
    STATION_CREATED,
    STATION_REMOVED,
    STATION_STATUS_CHANGED,
    STATION_UPDATED,
)

_PREFETCH: Final = 256  # of each queue: half of it is the batch at work, the other half the next; one connection each

_router = APIRouter()
_router.include_router(template_routes.router)
_router.include_router(delivery_routes.router)
_router.include_router(preference_routes.router)


def _in_batches(
    event_type: str,
    model: Any,
    handle: Callable[[NotificationComponents], HandleBatch[Any]],
    key: Callable[[Any], object] = lambda event: event.metadata.event_id,
) -> Consumes[NotificationComponents]:
    return Consumes(event_type, model, handle_batch=handle, key=key, prefetch=_PREFETCH)


SERVICE: Final = Service(
    name="notifications",
    summary="messages to drivers and operators by e-mail, push, SMS, webhook and chat",
    open=open_notifications,
    components=NotificationComponents,
    router=_router,
    migrations=Path(__file__).parent / "migrations",
    personal_data=PERSONAL_DATA,
    consumes=(
        _in_batches(INVOICE_CREATED, Event[InvoiceChanged], lambda own: own.consumers.invoices),
        *(
            _in_batches(event_type, Event[ReservationChanged], lambda own: own.consumers.reservations)
            for event_type in (RESERVATION_CREATED, RESERVATION_CANCELLED, RESERVATION_EXPIRED, RESERVATION_NO_SHOW)
        ),
        _in_batches(
            SESSION_STARTED,
            Event[SessionStarted],
            lambda own: own.consumers.sessions_started,
            lambda event: event.payload.id,
        ),
        _in_batches(
            SESSION_COMPLETED,
            Event[SessionCompleted],
            lambda own: own.consumers.sessions_completed,
            lambda event: event.payload.id,
        ),
        _in_batches(
            SESSION_ASSIGNED,
            Event[SessionAssigned],
            lambda own: own.consumers.sessions_assigned,
            lambda event: event.payload.session_id,
        ),
        *(
            Consumes(event_type, Event[StationChanged], handle=lambda own: own.consumers.stations, prefetch=4)
            for event_type in (STATION_CREATED, STATION_UPDATED, STATION_REMOVED)
        ),
        # Alarms are decided one after the other: see notices.store.alarm_windows.
        Consumes(PARKING_OVERSTAYED, Event[ParkingOverstayed], handle=lambda own: own.consumers.overstays, prefetch=1),
        Consumes(
            STATION_STATUS_CHANGED, Event[StationStatusChanged], handle=lambda own: own.consumers.statuses, prefetch=1
        ),
        Consumes(EVENT_FAILED, Event[EventFailed], handle=lambda own: own.consumers.failures, prefetch=1),
    ),
    publishes=(NOTIFICATION_SENT, NOTIFICATION_FAILED),
    jobs=(Job("forget old notifications", NotificationComponents.forget),),
    settings=NotificationSettings,
    retention=(RETENTION,),
)
