"""The session queries: of telemetry's sessions and of drivers' requests. No HTTP and no SQL here.

`driver_id` is the driver who asks, for whom other drivers' sessions do not exist; None: an operator asks, for whom
those of other stations than `only` these do not.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from api.idle_fees import idle_fee
from api.sessions.models import READING_COLUMNS, Session, SessionReadings, SessionState
from api.sessions.readings_store import SessionReadingsStore
from api.sessions.request_store import RequestCursor, RequestFilter, RequestStore, StoredRequest, request_cursor
from api.sessions.responses import CANDIDATES_MAX, Row, ambiguous, request_of, session_of
from api.sessions.store import SessionCursor, SessionFilter, SessionStore, session_cursor
from kit.auth.station_filter import StationFilter
from kit.clock import Clock, format_rfc3339, to_ms
from kit.web.errors import BadQuery, NotFound
from kit.web.paging import decode_cursor, encode_cursor
from schemas.tariff import exact_tariff

READINGS_MAX: Final = 1_000_000  # ~40 B each in the answer: 40 MB; half a year of one every 15 s
_UNDER_WAY = (SessionState.REQUESTED, SessionState.OPEN)
_OF_REQUESTS = (SessionState.REQUESTED, SessionState.EXPIRED)


@dataclass(frozen=True, slots=True)
class Found:
    """A session, the request for one, or both."""

    row: Row | None
    request: StoredRequest | None

    @property
    def place(self) -> tuple[str, int]:
        """Station and connector."""
        if self.row is not None:
            return self.row["station_id"], self.row["connector_id"]
        if self.request is not None:
            return self.request.station_id, self.request.connector_id
        raise AssertionError("it is one of the two")

    def answer(self, now: datetime) -> Session:
        """The response."""
        if self.row is not None:
            return session_of(self.row, self.request)
        if self.request is not None:
            return request_of(self.request, now)
        raise AssertionError("it is one of the two")


class SessionService:
    """The use cases, one method each."""

    def __init__(
        self, sessions: SessionStore, requests: RequestStore, readings: SessionReadingsStore, clock: Clock
    ) -> None:
        self._sessions = sessions
        self._requests = requests
        self._readings = readings
        self._clock = clock

    async def get_session(
        self, name: str, station_id: str | None, driver_id: str | None, only: StationFilter
    ) -> Session:
        """The session of voltstream's id, of its request's or else of the device's. Raises NotFound and Ambiguous.

        While it goes on, with what standing without charging costs."""
        found, now = await self.find(name, station_id, driver_id, only), self._clock.now()
        answer = found.answer(now)
        if answer.state not in _UNDER_WAY:
            return answer
        tariff = await self._sessions.tariff_at(answer.station_id, to_ms(answer.started_at or now))
        return answer.model_copy(update={"idle_fee": None if tariff is None else idle_fee(exact_tariff(tariff))})

    async def find(self, name: str, station_id: str | None, driver_id: str | None, only: StationFilter) -> Found:
        """Find the session as `get_session` does, in its stored form."""
        found = await self._by_own_id(name, driver_id)
        here = found is not None and station_id in (None, found.place[0])
        if found is not None and here and await self._sessions.sees(only, found.place[0]):
            return found
        if driver_id is None:
            several = await self._by_name(name, station_id, only)
        else:
            several = await self._own_by_name(driver_id, name, station_id)
        if not several:
            where = f" at station {station_id}" if station_id else ""
            raise NotFound(f"no session {name}{where}, neither as voltstream's id nor as a device's")
        if len(several) > 1:
            raise ambiguous(name, [_summary(one) for one in several])
        return several[0]

    async def _by_own_id(self, name: str, driver_id: str | None) -> Found | None:
        try:
            id_ = UUID(name)
        except ValueError:
            return None
        request = await self._requests.by_id(id_)
        if driver_id is not None and (request is None or request.driver_id != driver_id):
            return None
        row = await self._sessions.by_id(id_ if request is None or request.session_id is None else request.session_id)
        return None if row is None and request is None else Found(row, request)

    async def _by_name(self, name: str, station_id: str | None, only: StationFilter) -> list[Found]:
        rows = await self._sessions.by_name(name, station_id, only, CANDIDATES_MAX + 1)
        requests = await self._requests.of_sessions([row["id"] for row in rows])
        return [Found(row, requests.get(row["id"])) for row in rows]

    async def _own_by_name(self, driver_id: str, name: str, station_id: str | None) -> list[Found]:
        requests = await self._requests.by_name(driver_id, name, station_id, CANDIDATES_MAX + 1)
        return await self._with_rows(requests)

    async def _with_rows(self, requests: Sequence[StoredRequest]) -> list[Found]:
        rows = await self._sessions.by_ids([request.session_id for request in requests if request.session_id])
        return [Found(rows.get(request.session_id) if request.session_id else None, request) for request in requests]

    async def readings(self, name: str, only: StationFilter) -> SessionReadings:
        """All stored readings of a session, from which billing derives its charge. Raises NotFound, Ambiguous and
        BadQuery where there are too many for one response."""
        row = (await self.find(name, None, None, only)).row
        if row is None:
            raise NotFound(f"session {name} was requested and has not started: it has no readings")
        columns = await self._readings.readings(row["session_key"], READINGS_MAX + 1)
        if len(columns["ts_ms"]) > READINGS_MAX:
            raise BadQuery(f"session {name} has more than {READINGS_MAX:,} readings: ask for raw telemetry by pages")
        moment = row["register_before_at"]
        return SessionReadings(
            **{name: columns[name] for name in READING_COLUMNS},
            power_max_mw=row["power_max_mw"],
            register_before_mwh=row["register_before_mwh"],
            register_before_ms=None if moment is None else to_ms(moment),
            series_mwh=row["series_mwh"],
        )

    async def list_sessions(
        self, selected: SessionFilter, of_driver: str | None, limit: int, cursor: str | None, driver_id: str | None
    ) -> tuple[Sequence[Session], str | None]:
        """A page, newest first, and the next page's cursor. Raises BadQuery.

        From requests where a driver asks, or where the question is for a driver (`of_driver`) or for a state that only
        requests have; else from sessions, also those without a request.
        """
        if selected.start and selected.end and selected.start >= selected.end:
            bounds = f"from ({format_rfc3339(selected.start)}) must be before to ({format_rfc3339(selected.end)})"
            raise BadQuery(bounds)
        whose = driver_id if driver_id is not None else of_driver
        if whose is not None or selected.state in _OF_REQUESTS:
            return await self._list_requests(selected, whose, limit, cursor)
        return await self._list_sessions(selected, limit, cursor)

    async def _list_sessions(
        self, selected: SessionFilter, limit: int, cursor: str | None
    ) -> tuple[Sequence[Session], str | None]:
        after = decode_cursor(cursor, SessionCursor) if cursor else None
        rows = await self._sessions.list_sessions(selected, after, limit + 1)
        page = rows[:limit]
        requests = await self._requests.of_sessions([row["id"] for row in page])
        behind = encode_cursor(session_cursor(page[-1])) if len(rows) > limit else None
        return [session_of(row, requests.get(row["id"])) for row in page], behind

    async def _list_requests(
        self, selected: SessionFilter, whose: str | None, limit: int, cursor: str | None
    ) -> tuple[Sequence[Session], str | None]:
        after = decode_cursor(cursor, RequestCursor) if cursor else None
        filtered = RequestFilter(
            whose, selected.station_id, selected.start, selected.end, selected.state, selected.only
        )
        now = self._clock.now()
        requests = await self._requests.page(filtered, now, after, limit + 1)
        page = requests[:limit]
        behind = encode_cursor(request_cursor(page[-1])) if len(requests) > limit else None
        sessions = [found.answer(now) for found in await self._with_rows(page)]
        # A session may have changed since the request was last updated: no state is returned but the one asked for.
        return [session for session in sessions if selected.state in (None, session.state)], behind


def _summary(found: Found) -> tuple[UUID | None, str, int, datetime | None]:
    if found.row is not None:
        return found.row["id"], *found.place, found.row["started_at"]
    return (None if found.request is None else found.request.session_id), *found.place, None
