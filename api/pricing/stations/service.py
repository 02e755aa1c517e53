"""Which stations a group has, and which have no tariff. The stations service owns groups; its events come here."""

from collections.abc import Sequence
from typing import Final

from prometheus_client import CollectorRegistry, Counter

from api.pricing.stations.store import KnownStation, StationCursor, StationStore, put, with_tariff
from kit.auth.station_filter import StationFilter
from kit.clock import Clock, from_ms
from kit.messaging.consumer import Delivered
from kit.messaging.outbox import Transaction
from kit.observability.logs import get_logger
from kit.web.errors import NotFound
from kit.web.paging import decode_cursor, encode_cursor
from schemas.events import Event, StationChanged
from schemas.topics import STATION_CREATED, STATION_REMOVED

_LOGGED_MAX: Final = 10  # of one batch; the list has all of them

_log = get_logger(__name__)


class StationService:
    """The use cases, one method each."""

    def __init__(self, store: StationStore, clock: Clock, registry: CollectorRegistry) -> None:
        self._store = store
        self._clock = clock
        self._without = Counter(
            "pricing_stations_without_tariff",
            "Stations that no tariff applied to when they were registered",
            registry=registry,
        )

    async def handle(self, connection: Transaction, events: Sequence[Delivered[Event[StationChanged]]]) -> None:
        """station.created.v1, .updated.v1 and .removed.v1: of one station the highest revision counts.

        A new station has its group's tariff, else the default one; where there is neither it is counted and logged.
        """
        await put(connection, [_known(one.event) for one in events])
        created = [one.event.payload.station_id for one in events if one.event.metadata.type == STATION_CREATED]
        if not created:
            return
        priced = await with_tariff(connection, created, from_ms(self._clock.now_ms()))
        without = [station_id for station_id in created if station_id not in priced]
        if without:
            self._without.inc(len(without))
            _log.warning("stations_without_tariff", stations=without[:_LOGGED_MAX], count=len(without))

    async def members(
        self, group: str, limit: int, cursor: str | None, only: StationFilter
    ) -> tuple[Sequence[str], str | None]:
        """A page of a group's stations that pass the filter, and the next page's cursor. Raises NotFound where it has
        none, BadQuery."""
        after = decode_cursor(cursor, StationCursor).station_id if cursor else None
        found = await self._store.members(group, after, limit + 1, only)
        if not found and after is None:
            raise NotFound(f"no group {group}: name it as the `group` of stations, with PUT /api/v1/stations/…")
        return _page(found, limit)

    async def without_tariff(
        self, limit: int, cursor: str | None, only: StationFilter
    ) -> tuple[Sequence[str], str | None]:
        """A page of these registered stations that no tariff applies to now, and the next page's cursor. Raises
        BadQuery."""
        after = decode_cursor(cursor, StationCursor).station_id if cursor else None
        now = from_ms(self._clock.now_ms())
        return _page(await self._store.without_tariff(now, after, limit + 1, only), limit)


def _known(event: Event[StationChanged]) -> KnownStation:
    station = event.payload
    registered = event.metadata.type != STATION_REMOVED
    group = station.group if registered else None
    return KnownStation(station.station_id, station.revision, group, station.organisation, registered)


def _page(found: Sequence[str], limit: int) -> tuple[Sequence[str], str | None]:
    page = found[:limit]
    return page, encode_cursor(StationCursor(page[-1])) if len(found) > limit else None
