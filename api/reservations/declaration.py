"""The declaration of the reservations service."""

from pathlib import Path
from typing import Final

from fastapi import APIRouter

from api.reservations.components import ReservationsComponents, open_reservations
from api.reservations.life.store import RETENTION as RESERVATIONS_RETENTION
from api.reservations.parking import routes as parking_routes
from api.reservations.personal_data import PERSONAL_DATA
from api.reservations.reserving import routes
from api.reservations.settings import ReservationSettings
from api.reservations.waiting import routes as waiting_routes
from api.reservations.waiting.store import RETENTION as WAITING_RETENTION
from kit.service import Consumes, Contract, Job, Service
from schemas.events import (
    BayOccupancyChanged,
    Event,
    SessionAssigned,
    SessionCompleted,
    SessionStarted,
    StationChanged,
    StationStatusChanged,
)
from schemas.topics import (
    BAY_OCCUPANCY_CHANGED,
    PARKING_OVERSTAYED,
    RESERVATION_CANCELLED,
    RESERVATION_CONFIRMED,
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

_ADVANCE_S: Final = 2.0  # changes are published within this; a run that finds nothing due is one indexed query
_OVERSTAYS_S: Final = 10.0  # a grace is minutes; a run that finds nothing due is one indexed query
_EXTEND_S: Final = 60.0  # within sessions.events.AHEAD several times

_router = APIRouter()
_router.include_router(waiting_routes.router)  # before the reservations': `waiting` is no id
_router.include_router(parking_routes.router)
_router.include_router(routes.router)

SERVICE: Final = Service(
    name="reservations",
    summary="reservations of connectors and parking bays: who may use what when",
    open=open_reservations,
    components=ReservationsComponents,
    router=_router,
    migrations=Path(__file__).parent / "migrations",
    personal_data=PERSONAL_DATA,
    contracts=(
        Contract(
            "reservations.claim(uuid, text, text, integer, text, bigint, bigint)",
            "claims a connector for a driver's request to start, unless it is reserved",
        ),
        Contract("reservations.reservation_overview", "reservations, without the drivers"),
        Contract("reservations.waiting_overview", "how long drivers wait, without the drivers"),
    ),
    reads=("stations.station_overview", "pricing.tariffs_at(text[], bigint[])", "pricing.documents(bigint[])"),
    consumes=(
        Consumes(STATION_CREATED, Event[StationChanged], handle=lambda own: own.registry.changed),
        Consumes(STATION_UPDATED, Event[StationChanged], handle=lambda own: own.registry.changed),
        Consumes(STATION_REMOVED, Event[StationChanged], handle=lambda own: own.registry.removed),
        Consumes(STATION_STATUS_CHANGED, Event[StationStatusChanged], handle=lambda own: own.registry.status_changed),
        Consumes(BAY_OCCUPANCY_CHANGED, Event[BayOccupancyChanged], handle=lambda own: own.registry.occupancy_changed),
        Consumes(
            SESSION_ASSIGNED,
            Event[SessionAssigned],
            handle_batch=lambda own: own.sessions.assigned,
            key=lambda event: event.payload.session_id,
        ),
        Consumes(
            SESSION_STARTED,
            Event[SessionStarted],
            handle_batch=lambda own: own.sessions.started,
            key=lambda event: (event.payload.station_id, event.payload.connector_id),
        ),
        Consumes(
            SESSION_COMPLETED,
            Event[SessionCompleted],
            handle_batch=lambda own: own.sessions.completed,
            key=lambda event: event.payload.id,
        ),
    ),
    publishes=(
        RESERVATION_CREATED,
        RESERVATION_CONFIRMED,
        RESERVATION_CANCELLED,
        RESERVATION_EXPIRED,
        RESERVATION_NO_SHOW,
        PARKING_OVERSTAYED,
    ),
    jobs=(
        Job("advance reservations", lambda own: own.lifecycle.advance(own.database), _ADVANCE_S),
        Job("tell of overstays", lambda own: own.parking.tell_overstays(), _OVERSTAYS_S),
        Job("claims of long sessions", lambda own: own.sessions.extend(own.database), _EXTEND_S),
        Job("offers to waiting drivers", lambda own: own.waiting.offer_all(), _ADVANCE_S),
        Job("forget old sessions", lambda own: own.sessions.forget_old(own.database)),
    ),
    settings=ReservationSettings,
    retention=(RESERVATIONS_RETENTION, WAITING_RETENTION),
)
