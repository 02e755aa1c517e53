"""Where billing gets the stored readings, which every charge is derived from a second time.

`billing.readings_store` asks telemetry's contract in SQL; `billing.readings_http` asks the operators' API.
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol
from uuid import UUID

from billing.rating import MeterBefore, StoredReading
from kit.errors import Unavailable


class SourceUnavailable(Unavailable):
    """The source of the readings does not answer, as opposed to another dependency."""


@dataclass(frozen=True, slots=True)
class StoredReadings:
    """All stored readings of a session, in no particular order."""

    readings: Sequence[StoredReading]
    flags: Sequence[int]  # schemas.quality.Quality, beside each
    before: MeterBefore


@dataclass(frozen=True, slots=True)
class SessionSnapshot:
    """A session as telemetry stores it at one moment, with its readings of the same moment."""

    id: UUID
    revision: int
    completed: bool
    tariff_version: UUID | None
    readings: StoredReadings | None  # None: more than the source hands out


@dataclass(frozen=True, slots=True)
class CompletedSession:
    """A session as telemetry lists it."""

    id: UUID
    station_id: str
    started_at: datetime
    energy_uj: int
    revision: int


class ReadingsSource(Protocol):
    """Both raise Unavailable where the source does not answer, SourceFailed where it never will."""

    async def readings(self, session_id: UUID) -> StoredReadings:
        """A session's readings. Raises NotFound."""

    def completed_sessions(self, start: datetime, end: datetime) -> AsyncIterator[CompletedSession]:
        """Those that started in [start, end) and are completed, each once, in no particular order."""


class SessionSource(Protocol):
    """Sessions by id, many at once, for the check before an invoice is issued."""

    def sessions(self, session_ids: Sequence[UUID]) -> AsyncIterator[SessionSnapshot]:
        """Those that telemetry knows, in no particular order. Raises Unavailable."""
