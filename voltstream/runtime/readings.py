"""Where billing gets the stored readings in a process that has the sessions' service: by a call, without HTTP."""

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Final
from uuid import UUID

import kit.web.errors
from api.sessions.models import SessionState
from api.sessions.service import SessionService
from api.sessions.store import SessionFilter
from billing.errors import NotFound, SourceFailed
from billing.rating import StoredReading
from billing.readings_source import CompletedSession, StoredReadings

_PAGE: Final = 1_000  # sessions; ~1 kB each


class LocalReadings:
    """billing.readings_source.ReadingsSource over the sessions' service."""

    def __init__(self, sessions: SessionService) -> None:
        self._sessions = sessions

    async def readings(self, session_id: UUID) -> StoredReadings:
        """See ReadingsSource."""
        try:
            found = await self._sessions.readings(str(session_id))
        except kit.web.errors.NotFound as error:
            raise NotFound(str(error)) from error
        except kit.web.errors.ServiceError as error:
            raise SourceFailed(str(error)) from error
        columns = (found.ts_ms, found.seq, found.energy_mwh, found.power_mw, found.current_ma, found.status)
        rows = zip(*columns, strict=True)
        return StoredReadings([StoredReading(*row) for row in rows], found.flags, found.end_ms)

    async def completed_sessions(self, start: datetime, end: datetime) -> AsyncIterator[CompletedSession]:
        """See ReadingsSource."""
        wanted, cursor = SessionFilter(None, start, end, SessionState.COMPLETED), None
        while True:
            page, cursor = await self._sessions.many(wanted, None, _PAGE, cursor, None)
            for one in page:
                if one.id is None or one.started_at is None:
                    continue  # a request without a session
                yield CompletedSession(one.id, one.station_id, one.started_at, one.energy_uj, one.revision)
            if cursor is None:
                return
