"""The SQL of what the status of a station's connectors is."""

from datetime import datetime
from typing import Final, NamedTuple

from api.reservations.life.rule import Place
from api.reservations.parking.rule import ConnectorStatus
from kit.database.postgres import Database

PLACES_MAX: Final = 1_000  # of one station: 256 connectors, and as many bays or more

_PLACES: Final = """
SELECT p.place_key, p.station_id, p.connector_id, p.bay, p.taken_with, p.status, p.idle_since
FROM reservations.place AS p
WHERE p.station_id = $1 AND p.registered
ORDER BY p.connector_id, p.bay LIMIT $2
"""


class PlaceStatus(NamedTuple):
    """A place, and of a connector its status."""

    place: Place
    status: str | None
    idle_since: datetime | None

    @property
    def of_connector(self) -> ConnectorStatus:
        """As the rule sees it."""
        return ConnectorStatus(self.status, self.idle_since)


async def places(database: Database, station_id: str) -> list[PlaceStatus]:
    """The station's connectors, then its bays."""
    rows = await database.fetch(_PLACES, station_id, PLACES_MAX)
    found = []
    for key, station, connector_id, bay, taken_with, status, idle_since in rows:
        found.append(PlaceStatus(Place(key, station, connector_id, bay, tuple(taken_with)), status, idle_since))
    return found
