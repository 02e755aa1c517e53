"""The declaration of the reporting service."""

from pathlib import Path
from typing import Final

from api.reporting.analytics.routes import router
from api.reporting.components import ReportingComponents, open_reporting
from api.reporting.rollups.sources import READS
from api.reporting.settings import PAUSED, ReportingSettings
from kit.service import Consumes, Job, Service
from schemas.events import (
    Event,
    InvoiceChanged,
    ReservationChanged,
    SessionCompleted,
    StationChanged,
    StationStatusChanged,
    TelemetryAggregated,
)
from schemas.topics import (
    INVOICE_CREATED,
    RESERVATION_CANCELLED,
    RESERVATION_CREATED,
    RESERVATION_EXPIRED,
    RESERVATION_NO_SHOW,
    SESSION_COMPLETED,
    STATION_CREATED,
    STATION_REMOVED,
    STATION_STATUS_CHANGED,
    STATION_UPDATED,
    TELEMETRY_AGGREGATED,
)

_ROLL_UP_S: Final = 2.0  # one indexed look while nothing has changed
_HOUR_S: Final = 3_600.0

SERVICE: Final = Service(
    name="reporting",
    summary="metrics by hour, rolled up from what the other services publish, and reports",
    open=open_reporting,
    components=ReportingComponents,
    router=router,
    migrations=Path(__file__).parent / "migrations",
    reads=READS,
    consumes=(
        Consumes(
            TELEMETRY_AGGREGATED,
            Event[TelemetryAggregated],
            handle_batch=lambda own: own.notes.aggregated,
            key=lambda event: event.metadata.event_id,
        ),
        Consumes(
            STATION_STATUS_CHANGED,
            Event[StationStatusChanged],
            handle_batch=lambda own: own.notes.status_changed,
            key=lambda event: event.metadata.event_id,
        ),
        Consumes(
            SESSION_COMPLETED,
            Event[SessionCompleted],
            handle_batch=lambda own: own.notes.session_completed,
            key=lambda event: event.payload.id,
        ),
        Consumes(
            INVOICE_CREATED,
            Event[InvoiceChanged],
            handle_batch=lambda own: own.notes.invoice_changed,
            key=lambda event: event.payload.invoice_id,
        ),
        *(
            Consumes(
                event_type,
                Event[ReservationChanged],
                handle_batch=lambda own: own.notes.reservation_changed,
                key=lambda event: event.payload.reservation_id,
            )
            for event_type in (RESERVATION_CREATED, RESERVATION_CANCELLED, RESERVATION_EXPIRED, RESERVATION_NO_SHOW)
        ),
        *(
            Consumes(
                event_type,
                Event[StationChanged],
                handle_batch=lambda own: own.notes.station_changed,
                key=lambda event: event.payload.station_id,
            )
            for event_type in (STATION_CREATED, STATION_UPDATED, STATION_REMOVED)
        ),
    ),
    jobs=(
        Job("compute hours that have changed", lambda own: own.rollups.run(), _ROLL_UP_S, PAUSED),
        Job("drop old hours", lambda own: own.drop_old(), _HOUR_S),
    ),
    settings=ReportingSettings,
)
