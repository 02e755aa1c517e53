"""The parts of the sessions service, opened for a process."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from api.sessions.readings_store import SessionReadingsStore
from api.sessions.request_matching import RequestMatcher
from api.sessions.request_store import RequestStore
from api.sessions.requests import RequestService
from api.sessions.service import SessionService
from api.sessions.settings import REMOTE_START, SessionsSettings
from api.sessions.store import SessionStore
from kit.config.flags import FlagSubject
from kit.database.postgres import Database
from kit.lake.reader import LakeReader
from kit.service import Context


@dataclass(frozen=True, slots=True)
class SessionsComponents:
    """The objects that handlers, consumers and jobs use."""

    database: Database
    service: SessionService
    requests: RequestService
    matcher: RequestMatcher
    may_start: Callable[[FlagSubject], bool]


@asynccontextmanager
async def open_sessions(context: Context) -> AsyncIterator[SessionsComponents]:
    """Open the components on the service's own connection pool."""
    database, clock, config = context.database, context.clock, context.config
    readings = SessionReadingsStore(database, LakeReader.at(context.group(SessionsSettings).lake_url))
    service = SessionService(SessionStore(database), RequestStore(database), readings, clock)
    yield SessionsComponents(
        database,
        service,
        RequestService(clock),
        RequestMatcher(clock),
        lambda subject: config.enabled(REMOTE_START, subject),
    )
