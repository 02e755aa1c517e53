"""The stored readings over HTTP, from the operators' API."""

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any, Final, TypeVar
from uuid import UUID

import httpx
import msgspec

from billing.errors import SourceFailed
from billing.rating import MeterBefore, StoredReading
from billing.readings_source import CompletedSession, SourceUnavailable, StoredReadings
from kit.clock import format_rfc3339
from kit.web.errors import NotFound

PAGE: Final = 1_000  # sessions; ~450 B each
_READINGS_MAX: Final = 5_000_000  # of one session, 60 B each: two months of one a second
_RETRYABLE: Final = frozenset({429, 502, 503, 504})


class _Columns(msgspec.Struct):
    """The answer of GET /api/v1/sessions/{id}/readings."""

    ts_ms: list[int]
    seq: list[int | None]
    energy_mwh: list[int | None]
    power_mw: list[int | None]
    current_ma: list[int | None]
    status: list[int]
    part: list[int]
    boot: list[int | None]
    flags: list[int]
    power_max_mw: int
    register_before_mwh: int | None = None
    register_before_ms: int | None = None
    series_mwh: int | None = None


class _Listed(msgspec.Struct):
    """A row of GET /api/v1/sessions, which may be a request that led to no session."""

    id: UUID | None
    station_id: str
    started_at: datetime | None
    energy_uj: int
    revision: int


class _Page(msgspec.Struct):
    """The needed part of GET /api/v1/sessions."""

    sessions: list[_Listed]
    next: str | None = None


_READING: Final = ("ts_ms", "seq", "energy_mwh", "power_mw", "current_ma", "status", "part", "boot")  # StoredReading

_ENDED: Final = ("completed", "held", "void")  # states of sessions that are over

T = TypeVar("T")


class HttpReadingsSource:
    """ReadingsSource that asks the operators' API."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        """`client`: with the API's base URL and an operator's token; the caller closes it."""
        self._client = client

    async def readings(self, session_id: UUID) -> StoredReadings:
        """See ReadingsSource."""
        columns = await self._ask(f"/api/v1/sessions/{session_id}/readings", {}, _Columns)
        lengths = {len(getattr(columns, name)) for name in (*_READING, "flags")}
        if len(lengths) != 1 or len(columns.ts_ms) > _READINGS_MAX:
            raise SourceFailed(f"the readings of session {session_id} are columns of lengths {sorted(lengths)}")
        rows = zip(*(getattr(columns, name) for name in _READING), strict=True)
        before = MeterBefore(
            columns.power_max_mw, columns.register_before_mwh, columns.register_before_ms, columns.series_mwh
        )
        return StoredReadings([StoredReading(*row) for row in rows], columns.flags, before)

    async def completed_sessions(self, start: datetime, end: datetime) -> AsyncIterator[CompletedSession]:
        """See ReadingsSource."""
        span = {"from": format_rfc3339(start), "to": format_rfc3339(end), "limit": str(PAGE)}
        for state in _ENDED:
            page: _Page | None = await self._ask("/api/v1/sessions", span | {"state": state}, _Page)
            while page is not None:
                for one in page.sessions:
                    if one.id is not None and one.started_at is not None:
                        yield CompletedSession(one.id, one.station_id, one.started_at, one.energy_uj, one.revision)
                page = None if page.next is None else await self._ask(page.next, {}, _Page)

    async def _ask(self, path: str, params: dict[str, str], kind: type[T]) -> T:
        try:
            response = await self._client.get(path, params=params or None)
        except httpx.HTTPError as error:
            raise SourceUnavailable(f"the readings' source does not answer: {type(error).__name__}") from error
        if response.status_code == httpx.codes.OK:
            try:
                return msgspec.json.decode(response.content, type=kind)
            except (ValueError, RecursionError) as error:
                raise SourceFailed(f"the readings' source answers {path} with something else: {error}") from error
        if response.status_code in _RETRYABLE:
            raise SourceUnavailable(f"the readings' source answers {response.status_code}")
        if response.status_code == httpx.codes.NOT_FOUND:
            raise NotFound(_detail(response) or f"the readings' source knows nothing at {path}")
        raise SourceFailed(f"the readings' source answers {path} with {response.status_code}: {_detail(response)}")


def _detail(response: httpx.Response) -> str:
    try:
        document: Any = msgspec.json.decode(response.content)
    except (ValueError, RecursionError):
        return ""
    return str(document.get("detail", "")) if isinstance(document, dict) else ""
