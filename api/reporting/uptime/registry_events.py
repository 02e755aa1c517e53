"""When ports are in service: the handlers of station.*.v1."""

from api.reporting.uptime.store import register
from kit.messaging.consumer import moment_of
from kit.messaging.outbox import Transaction
from schemas.events import Event, StationChanged


class RegistryEvents:
    """The handlers. Each stores a revision of the registry as it is, so that their order changes nothing."""

    async def changed(self, connection: Transaction, event: Event[StationChanged]) -> None:
        """Handle station.created.v1 and station.updated.v1."""
        station = event.payload
        connectors = sorted(connector.connector_id for connector in station.connectors)
        await register(connection, station.station_id, station.revision, moment_of(station.changed_at), connectors)

    async def removed(self, connection: Transaction, event: Event[StationChanged]) -> None:
        """Handle station.removed.v1."""
        station = event.payload
        await register(connection, station.station_id, station.revision, moment_of(station.changed_at), [])
