"""The parts of the reservations service, opened for a process."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Final

from fastapi import Depends

from api.reservations.life.lifecycle import Lifecycle
from api.reservations.life.rule import Terms
from api.reservations.life.store import ReservationStore
from api.reservations.parking.service import ParkingService
from api.reservations.places.events import RegistryEvents
from api.reservations.reserving.service import ReservationService, terms_of
from api.reservations.sessions.events import SessionEvents
from api.reservations.settings import ReservationSettings
from api.reservations.waiting.service import WaitingService
from kit.clock import Clock
from kit.database.postgres import Database
from kit.service import Context, provided

PATH: Final = "/api/v1/reservations"


@dataclass(frozen=True, slots=True)
class ReservationsComponents:
    """The objects that handlers, consumers and jobs use."""

    database: Database
    service: ReservationService
    lifecycle: Lifecycle
    registry: RegistryEvents
    sessions: SessionEvents
    waiting: WaitingService
    parking: ParkingService
    clock: Clock


Provided = Annotated[ReservationsComponents, Depends(provided(ReservationsComponents))]


@asynccontextmanager
async def open_reservations(context: Context) -> AsyncIterator[ReservationsComponents]:
    """Open the components on the service's own connection pool."""
    database, clock, config = context.database, context.clock, context.config

    def settings() -> ReservationSettings:
        return config.group(ReservationSettings)

    def terms() -> Terms:
        return terms_of(settings())

    lifecycle = Lifecycle(clock, terms)
    service = ReservationService(ReservationStore(database), lifecycle, clock, settings)
    parking = ParkingService(database, clock, terms)
    registry = RegistryEvents(lifecycle, parking, clock, terms)
    sessions = SessionEvents(lifecycle, parking, clock, lambda: timedelta(seconds=settings().reservation_session_s))
    waiting = WaitingService(database, service, lifecycle, clock, settings)
    yield ReservationsComponents(database, service, lifecycle, registry, sessions, waiting, parking, clock)
