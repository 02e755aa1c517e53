"""What the registry and the stations' statuses mean for reservations: the handlers of station.*.v1."""

from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Final

from api.reservations.life import store
from api.reservations.life.lifecycle import OUT_OF_ORDER, Lifecycle
from api.reservations.life.rule import Reservation
from api.reservations.life.store import OUT_OF_ORDER as OUT_OF_ORDER_STATUSES
from api.reservations.places import store as place_store
from kit.clock import Clock
from kit.messaging.outbox import Transaction
from schemas.events import Event, StationChanged, StationStatusChanged

REMOVED: Final = "it is no longer there"


class RegistryEvents:
    """The handlers; each works in the transaction that it is given."""

    def __init__(self, lifecycle: Lifecycle, clock: Clock, move: Callable[[], timedelta]) -> None:
        """`move`: how long before its start a reservation of a connector that is out of order is moved."""
        self._lifecycle = lifecycle
        self._clock = clock
        self._move = move

    async def changed(self, connection: Transaction, event: Event[StationChanged]) -> None:
        """Handle station.created.v1 and station.updated.v1."""
        await self._put(connection, event.payload, removed=False)

    async def removed(self, connection: Transaction, event: Event[StationChanged]) -> None:
        """Handle station.removed.v1."""
        await self._put(connection, event.payload, removed=True)

    async def status_changed(self, connection: Transaction, event: Event[StationStatusChanged]) -> None:
        """Handle station.status_changed.v1."""
        changed = await place_store.put_statuses(connection, event.payload.changes)
        out = [key for key, status in changed.items() if status in OUT_OF_ORDER_STATUSES]
        soon = self._clock.now() + self._move()
        affected = await store.at_places(connection, out) if out else []
        await self._lose(connection, (one for one in affected if one.starts_at <= soon), OUT_OF_ORDER)

    async def _put(self, connection: Transaction, station: StationChanged, *, removed: bool) -> None:
        gone = await place_store.put_station(connection, station, removed=removed)
        if gone:
            await self._lose(connection, await store.at_places(connection, gone), REMOVED)

    async def _lose(self, connection: Transaction, reservations: Iterable[Reservation], why: str) -> None:
        for reservation in reservations:
            await self._lifecycle.lose(connection, reservation, why)
