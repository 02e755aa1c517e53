"""Who stands at a station without charging. No HTTP and no SQL here."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from api.reservations.life.rule import Place
from api.reservations.life.store import tariff_at
from api.reservations.parking import store
from api.reservations.parking.rule import IdleFee, Parking, idle_fee, parking_of
from kit.clock import Clock
from kit.database.postgres import Database
from kit.web.errors import NotFound
from schemas.tariff import exact_tariff


@dataclass(frozen=True, slots=True)
class StationParking:
    """A station's connectors and bays, and what standing there without charging costs (None: nothing)."""

    station_id: str
    fee: IdleFee | None
    places: list[tuple[Place, Parking]]


class ParkingService:
    """The use case."""

    def __init__(self, database: Database, clock: Clock, grace: Callable[[], timedelta]) -> None:
        """`grace`: how long a vehicle may stand after charging before it overstays."""
        self._database = database
        self._clock = clock
        self._grace = grace

    async def at(self, station_id: str) -> StationParking:
        """What is known of the station. Raises NotFound."""
        found = await store.places(self._database, station_id)
        if not found:
            raise NotFound(f"station {station_id} is not registered, or has no connector")
        connectors = {one.place.key: one.of_connector for one in found if one.place.bay is None}
        now, grace = self._clock.now(), self._grace()
        places = []
        for place, *_ in found:
            keys = [place.key] if place.bay is None else place.taken_with
            known = [connectors[key] for key in keys if key in connectors]
            places.append((place, parking_of(known, grace, now)))
        tariff = await tariff_at(self._database, station_id, self._clock.now_ms())
        fee = None
        if tariff is not None:
            fee = idle_fee(exact_tariff(tariff["tariff"]))
        return StationParking(station_id, fee, places)
