"""Entering, withdrawing and listing exclusions. No HTTP and no SQL here."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, Final
from uuid import UUID, uuid4

from api.reporting.exclusions.models import Exclusion, NewExclusion
from api.reporting.exclusions.store import ExclusionCursor, ExclusionFilter, ExclusionStore, add, withdraw
from api.reporting.rollups.facets import OF_PORTS, bits_of
from api.reporting.rollups.note_store import NoteStore
from kit.auth.station_filter import EVERY_STATION, StationFilter
from kit.clock import Clock
from kit.messaging.outbox import Transaction
from kit.web.errors import BadQuery, NotFound
from kit.web.paging import decode_cursor, encode_cursor, to_micros

LENGTH_MAX: Final = timedelta(days=366)  # a port that is away for longer is to be removed from the registry


class ExclusionService:
    """The use cases, one method each."""

    def __init__(self, store: ExclusionStore, notes: NoteStore, clock: Clock) -> None:
        self._store = store
        self._notes = notes
        self._clock = clock

    async def add(self, connection: Transaction, new: NewExclusion, by: str) -> Exclusion:
        """Enter one, in the open transaction. Raises BadQuery."""
        if new.end - new.start > LENGTH_MAX:
            raise BadQuery(f"an exclusion lasts {LENGTH_MAX.days} days at most: enter the rest as another one")
        place, times = (new.station_id, new.connector_id), (new.start, new.end)
        made = (self._clock.now(), by)
        return await self._noted(connection, await add(connection, place, times, (new.reason, new.note), made, uuid4()))

    async def withdraw(
        self, connection: Transaction, exclusion_id: UUID, by: str, only: StationFilter = EVERY_STATION
    ) -> Exclusion:
        """Withdraw one of these stations, in the open transaction. Raises NotFound."""
        row = await withdraw(connection, exclusion_id, self._clock.now(), by, only)
        if row is None:
            raise NotFound("there is no such exclusion")
        return await self._noted(connection, row)

    async def _noted(self, connection: Transaction, row: Mapping[str, Any]) -> Exclusion:
        """Its hours are computed again."""
        place, times = row["station_id"], (row["since"], row["until"])
        await self._notes.note_span(connection, place, *times, bits_of(OF_PORTS), self._clock.now())
        return exclusion_of(row)

    async def page(
        self, wanted: ExclusionFilter, limit: int, cursor: str | None
    ) -> tuple[Sequence[Exclusion], str | None]:
        """A page of them, newest first, and the next page's cursor. Raises BadQuery."""
        after = decode_cursor(cursor, ExclusionCursor) if cursor else None
        rows = await self._store.page(wanted, after, limit + 1)
        page = [exclusion_of(row) for row in rows[:limit]]
        if len(rows) <= limit:
            return page, None
        return page, encode_cursor(ExclusionCursor(to_micros(page[-1].made_at), page[-1].id))


def exclusion_of(row: Mapping[str, Any]) -> Exclusion:
    """The exclusion of a stored row."""
    columns = dict(row)
    return Exclusion(**{"from": columns.pop("since"), "to": columns.pop("until"), **columns})
