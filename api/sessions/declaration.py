"""The declaration of the sessions service."""

from pathlib import Path
from typing import Final
from uuid import UUID

from api.sessions.components import SessionsComponents, open_sessions
from api.sessions.personal_data import PERSONAL_DATA
from api.sessions.readings_store import READS
from api.sessions.request_store import RETENTION, delete_old_unrequested
from api.sessions.routes import router
from api.sessions.settings import SessionsSettings
from kit.service import Consumes, Job, Service
from schemas.events import Event, SessionCompleted, SessionStarted
from schemas.topics import (
    SESSION_ASSIGNED,
    SESSION_COMPLETED,
    SESSION_REQUESTED,
    SESSION_STARTED,
    SESSION_STOP_REQUESTED,
)

_PREFETCH: Final = 256  # of each queue: half of it is the batch at work, the other half the next; one connection each


def _session_of(event: Event[SessionStarted] | Event[SessionCompleted]) -> UUID:
    return event.payload.id


async def _delete_old_unrequested(sessions: SessionsComponents) -> None:
    async with sessions.database.transaction() as connection:
        await delete_old_unrequested(connection)


SERVICE: Final = Service(
    name="sessions",
    summary="charging sessions, and drivers' requests to start and stop them",
    open=open_sessions,
    components=SessionsComponents,
    router=router,
    migrations=Path(__file__).parent / "migrations",
    personal_data=PERSONAL_DATA,
    reads=(
        "telemetry.session_overview",
        "stations.station_overview",
        *READS,
        "reservations.claim(uuid, text, text, integer, text, bigint, bigint)",
        "pricing.tariffs_at(text[], bigint[])",
        "pricing.documents(bigint[])",
    ),
    consumes=(
        Consumes(
            SESSION_STARTED,
            Event[SessionStarted],
            handle_batch=lambda sessions: sessions.matcher.started,
            key=_session_of,
            prefetch=_PREFETCH,
        ),
        Consumes(
            SESSION_COMPLETED,
            Event[SessionCompleted],
            handle_batch=lambda sessions: sessions.matcher.completed,
            key=_session_of,
            prefetch=_PREFETCH,
        ),
    ),
    settings=SessionsSettings,
    retention=RETENTION,
    publishes=(SESSION_REQUESTED, SESSION_STOP_REQUESTED, SESSION_ASSIGNED),
    jobs=(Job("forget sessions that nobody requested", _delete_old_unrequested),),
)
