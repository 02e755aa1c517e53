"""The declaration of the reporting service."""

from pathlib import Path
from typing import Final

from fastapi import APIRouter

from api.reporting.analytics import routes as analytics_routes
from api.reporting.charts import routes as chart_routes
from api.reporting.co2 import routes as co2_routes
from api.reporting.components import ReportingComponents, open_reporting
from api.reporting.exclusions import routes as exclusion_routes
from api.reporting.reports import routes as report_routes
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
    REPORT_GENERATED,
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

_ROLL_UP_S: Final = 2.0  # one look while nothing has changed
_HOUR_S: Final = 3_600.0

_REPORTS_S: Final = 2.0  # one indexed look while none waits
_PORTS: Final = "reporting_ports"  # consumer group: revisions of the registry, whether or not roll-ups are computed

_router = APIRouter()
_router.include_router(co2_routes.router)
_router.include_router(analytics_routes.router)
_router.include_router(chart_routes.router)
_router.include_router(exclusion_routes.router)
_router.include_router(report_routes.router)

SERVICE: Final = Service(
    name="reporting",
    summary="metrics by hour, rolled up from what the other services publish, and reports",
    open=open_reporting,
    components=ReportingComponents,
    router=_router,
    migrations=Path(__file__).parent / "migrations",
    reads=(*READS, "stations.connector_overview", "telemetry.session_peaks(uuid[])"),
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
        Consumes(STATION_CREATED, Event[StationChanged], handle=lambda own: own.registry.changed, group=_PORTS),
        Consumes(STATION_UPDATED, Event[StationChanged], handle=lambda own: own.registry.changed, group=_PORTS),
        Consumes(STATION_REMOVED, Event[StationChanged], handle=lambda own: own.registry.removed, group=_PORTS),
    ),
    publishes=(REPORT_GENERATED,),
    jobs=(
        Job("compute hours that have changed", lambda own: own.rollups.run(), _ROLL_UP_S, PAUSED),
        Job("drop old hours", lambda own: own.drop_old(), _HOUR_S),
        Job("ports that were registered before", lambda own: own.uptime.seed(), _HOUR_S),
        Job("make reports", lambda own: own.report_worker.begin(), _REPORTS_S),
        Job("delete old reports", lambda own: own.report_worker.delete_old()),
    ),
    settings=ReportingSettings,
)
