"""What the registry, the stations' statuses and the bays' sensors mean for reservations: the handlers of station.*.v1
and bay.occupancy_changed.v1."""

from collections.abc import Callable, Iterable
from typing import Final

from api.reservations.life import store
from api.reservations.life.lifecycle import OUT_OF_ORDER, Lifecycle
from api.reservations.life.rule import Reservation, Terms
from api.reservations.life.store import OUT_OF_ORDER_STATUSES
from api.reservations.parking.service import ParkingService
from api.reservations.places import store as place_store
from kit.clock import Clock
from kit.messaging.outbox import Transaction
from schemas.events import BayOccupancyChanged, Event, StationChanged, StationStatusChanged

REMOVED: Final = "it is no longer there"


class RegistryEvents:
    """The handlers; each works in the transaction that it is given."""

    def __init__(self, lifecycle: Lifecycle, parking: ParkingService, clock: Clock, terms: Callable[[], Terms]) -> None:
        """`terms`: as they are now."""
        self._lifecycle = lifecycle
        self._parking = parking
        self._clock = clock
        self._terms = terms

    async def changed(self, connection: Transaction, event: Event[StationChanged]) -> None:
        """Handle station.created.v1 and station.updated.v1."""
        await self._put(connection, event.payload, removed=False)

    async def removed(self, connection: Transaction, event: Event[StationChanged]) -> None:
        """Handle station.removed.v1."""
        await self._put(connection, event.payload, removed=True)

    async def status_changed(self, connection: Transaction, event: Event[StationStatusChanged]) -> None:
        """Handle station.status_changed.v1."""
        changes = event.payload.changes
        changed = await place_store.put_statuses(connection, changes)
        out = [key for key, status in changed.items() if status in OUT_OF_ORDER_STATUSES]
        soon = self._clock.now() + self._terms().move
        affected = await store.at_places_out_of_order(connection, out) if out else []
        await self._lose(connection, (one for one in affected if one.starts_at <= soon), OUT_OF_ORDER)
        if changed:
            await self._parking.observe(connection, (one.station_id.upper() for one in changes))

    async def occupancy_changed(self, connection: Transaction, event: Event[BayOccupancyChanged]) -> None:
        """Handle bay.occupancy_changed.v1: a vehicle came or went."""
        changes = event.payload.changes
        changed = await place_store.put_occupancies(connection, changes)
        freed = [key for key, occupied in changed.items() if not occupied]
        if freed:
            await store.end_arrivals(connection, freed)
        taken = [key for key, occupied in changed.items() if occupied]
        soon = self._clock.now() + self._terms().buffer
        for reservation in await store.claiming(connection, taken) if taken else []:
            if reservation.starts_at <= soon:
                await self._lifecycle.vehicle_seen(connection, reservation)
        if changed:
            await self._parking.observe(connection, (one.station_id.upper() for one in changes))

    async def _put(self, connection: Transaction, station: StationChanged, *, removed: bool) -> None:
        gone = await place_store.put_station(connection, station, removed=removed)
        if gone:
            await self._lose(connection, await store.at_places(connection, gone), REMOVED)
        if gone is not None:
            await self._parking.observe(connection, [station.station_id.upper()])

    async def _lose(self, connection: Transaction, reservations: Iterable[Reservation], why: str) -> None:
        for reservation in reservations:
            await self._lifecycle.lose(connection, reservation, why)
