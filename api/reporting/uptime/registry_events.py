"""When ports are in service: the handlers of station.*.v1."""

from typing import Final

from api.reporting.uptime.store import register
from kit.messaging.consumer import moment_of
from kit.messaging.outbox import Transaction
from schemas.events import Event, StationChanged

MAIN_METER: Final = 0  # the station's, as a connector: no port


class RegistryEvents:
    """The handlers. Each stores a revision of the registry as it is, so that their order changes nothing."""

    async def changed(self, connection: Transaction, event: Event[StationChanged]) -> None:
        """Handle station.created.v1 and station.updated.v1."""
        station = event.payload
        ports = sorted(one.connector_id for one in station.connectors if one.connector_id != MAIN_METER)
        await register(connection, station.station_id, station.revision, moment_of(station.changed_at), ports)

    async def removed(self, connection: Transaction, event: Event[StationChanged]) -> None:
        """Handle station.removed.v1."""
        station = event.payload
        await register(connection, station.station_id, station.revision, moment_of(station.changed_at), [])
