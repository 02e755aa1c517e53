"""Stations and connectors: registering, showing, removing. No HTTP and no SQL here."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final

from msgspec import Meta

from api.stations.models import (
    MAIN_METER,
    Connector,
    ConnectorFacts,
    Station,
    StationFacts,
    StationSummary,
    from_udeg,
)
from api.stations.store import (
    Registered,
    StationsStore,
    lock_station,
    other_connectors,
    other_holder,
    put_connector,
)
from kit.clock import Clock, from_ms
from kit.database.postgres import Database
from kit.web.errors import BadQuery, Conflict, NotFound
from kit.web.paging import Cursor, decode_cursor, encode_cursor
from schemas.reading import STATION_ID_CHARS_MAX

CONNECTORS_MAX: Final = 256  # of one station, ~250 bytes each in JSON: 64 kB; depots with one controller have dozens


class StationCursor(Cursor, frozen=True, tag="st"):
    """The last station seen."""

    station_id: Annotated[str, Meta(max_length=STATION_ID_CHARS_MAX)]


class StationsService:
    """The use cases, one method each."""

    def __init__(self, store: StationsStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def put_station(self, station_id: str, facts: StationFacts) -> tuple[Station, bool]:
        """Register the station, or replace what is known of it; its connectors stay. Whether it is new."""
        created = await self._store.put_station(station_id, facts, from_ms(self._clock.now_ms()))
        return await self.station(station_id), created

    async def station(self, station_id: str) -> Station:
        """A station with its connectors. Raises NotFound."""
        row = await self._store.station(station_id)
        if row is None:
            raise _no_station(station_id)
        connectors = [_connector(one) for one in await self._store.connectors(station_id)]
        return Station(**_facts(row), connectors=connectors)

    async def stations(self, limit: int, cursor: str | None) -> tuple[Sequence[StationSummary], str | None]:
        """A page of stations by their ids, and the next page's cursor. Raises BadQuery."""
        after = decode_cursor(cursor, StationCursor).station_id if cursor else None
        rows = await self._store.stations(after, limit + 1)
        page = [StationSummary(**_facts(row)) for row in rows[:limit]]
        return page, encode_cursor(StationCursor(page[-1].station_id)) if len(rows) > limit else None

    async def delete_station(self, station_id: str) -> None:
        """Remove the station with its connectors. Raises NotFound."""
        if not await self._store.delete_station(station_id):
            raise _no_station(station_id)

    async def put_connector(self, station_id: str, connector_id: int, facts: ConnectorFacts) -> tuple[Connector, bool]:
        """Register the connector, or replace what is known of it. Whether it is new.

        Raises NotFound where the station is not registered, Conflict where another station has the EVSE or the station
        has CONNECTORS_MAX connectors, BadQuery where a main meter is given a plug.
        """
        plug = facts.model_dump(exclude={"rated_power_w"}, exclude_none=True)
        if connector_id == MAIN_METER and plug:
            raise BadQuery(f"connector 0 is the station's main meter: it has a rated power, and no {', '.join(plug)}")
        now = from_ms(self._clock.now_ms())
        async with self._store.database.transaction() as connection:
            if not await lock_station(connection, station_id):
                raise _no_station(station_id)
            if await other_connectors(connection, station_id, connector_id) >= CONNECTORS_MAX:
                raise Conflict(f"station {station_id} has {CONNECTORS_MAX} connectors, the most there may be")
            if facts.evse_id is not None:
                holder = await other_holder(connection, facts.evse_id, station_id)
                if holder is not None:
                    raise Conflict(f"{facts.evse_id} is an EVSE of station {holder}: an EVSE is at one station")
            created = await put_connector(connection, station_id, connector_id, facts, now)
        known = facts.model_dump()
        return Connector(**known, station_id=station_id, connector_id=connector_id, changed_at=now), created

    async def connector(self, station_id: str, connector_id: int) -> Connector:
        """A connector. Raises NotFound."""
        row = await self._store.connector(station_id, connector_id)
        if row is None:
            raise _no_connector(station_id, connector_id)
        return _connector(row)

    async def delete_connector(self, station_id: str, connector_id: int) -> None:
        """Remove the connector. Raises NotFound."""
        if not await self._store.delete_connector(station_id, connector_id):
            raise _no_connector(station_id, connector_id)


async def ensure_stations(database: Database, clock: Clock, stations: Mapping[str, Registered]) -> None:
    """Register those stations, with their connectors, that are not registered. Raises Unavailable."""
    await StationsStore(database).add_missing(stations, from_ms(clock.now_ms()))


def _facts(row: Mapping[str, Any]) -> dict[str, Any]:
    """Of a station's row."""
    facts = dict(row)
    latitude, longitude = (from_udeg(facts.pop(f"{name}_udeg")) for name in ("latitude", "longitude"))
    return {**facts, "latitude": latitude, "longitude": longitude}


def _connector(row: Mapping[str, Any]) -> Connector:
    return Connector(**dict(row))


def _no_station(station_id: str) -> NotFound:
    return NotFound(f"no station {station_id}: register it with PUT /api/v1/stations/{station_id}")


def _no_connector(station_id: str, connector_id: int) -> NotFound:
    return NotFound(
        f"no connector {connector_id} of station {station_id}: register it with "
        f"PUT /api/v1/stations/{station_id}/connectors/{connector_id}"
    )
