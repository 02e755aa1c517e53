"""When ports are in service: the handlers of station.*.v1."""

from api.reporting.rollups.facets import OF_PORTS, bits_of
from api.reporting.rollups.note_store import NoteStore
from api.reporting.uptime.store import register
from kit.clock import Clock
from kit.messaging.consumer import moment_of
from kit.messaging.outbox import Transaction
from schemas.events import Event, StationChanged
from schemas.reading import MAIN_METER


class RegistryEvents:
    """The handlers. Each stores a revision of the registry as it is, so that their order changes nothing, and has the
    hours since then computed again."""

    def __init__(self, notes: NoteStore, clock: Clock) -> None:
        self._notes = notes
        self._clock = clock

    async def changed(self, connection: Transaction, event: Event[StationChanged]) -> None:
        """Handle station.created.v1 and station.updated.v1."""
        station = event.payload
        ports = sorted(one.connector_id for one in station.connectors if one.connector_id != MAIN_METER)
        await self._register(connection, station, ports)

    async def removed(self, connection: Transaction, event: Event[StationChanged]) -> None:
        """Handle station.removed.v1."""
        await self._register(connection, event.payload, [])

    async def _register(self, connection: Transaction, station: StationChanged, ports: list[int]) -> None:
        since, now = moment_of(station.changed_at), self._clock.now()
        await register(connection, station.station_id, station.revision, since, ports)
        await self._notes.note_span(connection, station.station_id, since, now, bits_of(OF_PORTS), now)
