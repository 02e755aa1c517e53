"""Who stands where, and for how long they may: answers, and the event of an overstay. No HTTP and no SQL here."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from api.idle_fees import IdleFee, idle_fee
from api.reservations.life.rule import Place, Reservation, ReservationState, Terms
from api.reservations.life.store import SCHEMA, tariff_at
from api.reservations.parking import store
from api.reservations.parking.events import parking_overstayed
from api.reservations.parking.stay import Stay, stays_of
from api.reservations.parking.store import Watch
from kit.auth.station_filter import StationFilter
from kit.clock import Clock, to_ms
from kit.database.postgres import Database
from kit.messaging.outbox import Transaction, insert_async
from kit.web.errors import NotFound
from kit.web.paging import Cursor, Int64, decode_cursor, encode_cursor
from schemas.tariff import exact_tariff

STATIONS: Final = 50  # of one transaction of the job
RUNS_MAX: Final = 100  # transactions of one run: what is left is due at the next


class BayCursor(Cursor, frozen=True, tag="ub"):
    """The last bay seen."""

    place_key: Int64


@dataclass(frozen=True, slots=True)
class StationParking:
    """A station's connectors and bays, and what standing there without charging costs (None: nothing)."""

    station_id: str
    fee: IdleFee | None
    stays: list[Stay]


class ParkingService:
    """The use cases."""

    def __init__(self, database: Database, clock: Clock, terms: Callable[[], Terms]) -> None:
        """`terms`: as they are now."""
        self._database = database
        self._clock = clock
        self._terms = terms

    async def at(self, station_id: str) -> StationParking:
        """What is known of the station. Raises NotFound."""
        now = self._clock.now()
        stays = await self._stays(self._database, [station_id], now)
        if not stays:
            raise NotFound(f"station {station_id} is not registered, or has no connector")
        return StationParking(station_id, await self.fee(self._database, station_id), stays)

    async def unregistered(
        self, limit: int, cursor: str | None, only: StationFilter
    ) -> tuple[Sequence[Mapping[str, Any]], str | None]:
        """A page of bays of these stations that a sensor tells of and the registry does not have, and the next page's
        cursor. Raises BadQuery."""
        after = decode_cursor(cursor, BayCursor).place_key if cursor else 0
        rows = await store.unregistered(self._database, after, limit + 1, only)
        following = encode_cursor(BayCursor(rows[limit - 1]["place_key"])) if len(rows) > limit else None
        return rows[:limit], following

    async def fee(self, database: Database | Transaction, station_id: str) -> IdleFee | None:
        """What standing there without charging costs now."""
        tariff = await tariff_at(database, station_id, to_ms(self._clock.now()))
        return None if tariff is None else idle_fee(exact_tariff(tariff["tariff"]))

    async def of_reservation(self, reservation: Reservation) -> Stay | None:
        """The stay of its driver at its place, if they stand there because of it."""
        if reservation.state not in (ReservationState.ACTIVE, ReservationState.USED):
            return None
        for stay in await self._stays(self._database, [reservation.place.station_id], self._clock.now()):
            since = stay.parking.since or stay.parking.idle_since
            theirs = stay.driver_id == reservation.driver_id and since is not None and since < reservation.ends_at
            if stay.place == reservation.place and theirs:
                return stay
        return None

    async def observe(self, connection: Transaction, station_ids: Iterable[str]) -> None:
        """See what stands at these stations after a change: tell of overstays that were not told, note when others are
        due. The last thing that a transaction does."""
        names = sorted(set(station_ids))
        if not names:
            return
        await store.lock_stays(connection, names)
        now = self._clock.now()
        known = await store.watches(connection, names)
        changed: dict[Place, Watch] = {}
        stays = await self._stays(connection, names, now)
        for stay in stays:
            before = known.get(stay.place.key, Watch())
            after = watch_of(stay, before, now)
            if after.told_at != before.told_at:
                fee = await self.fee(connection, stay.place.station_id)
                await insert_async(connection, SCHEMA, [parking_overstayed(stay, fee, now)])
            if after != before:
                changed[stay.place] = after
        if changed:
            await store.put_watches(connection, changed)
        gone = known.keys() - {stay.place.key for stay in stays}
        await store.end_watches(connection, [key for key in gone if known[key].due_at is not None])

    async def tell_overstays(self) -> None:
        """Tell of overstays whose time has come. A job; several processes may run it at once."""
        for _ in range(RUNS_MAX):
            due = await store.due_stations(self._database, self._clock.now(), STATIONS)
            async with self._database.transaction() as connection:
                await self.observe(connection, due)
            if len(due) < STATIONS:
                return

    async def _stays(self, database: Database | Transaction, station_ids: Sequence[str], now: datetime) -> list[Stay]:
        terms = self._terms()
        places = await store.places(database, station_ids)
        sessions = await store.sessions(database, station_ids)
        reservations = await store.reservations(database, station_ids, now, terms.buffer)
        return [
            stay
            for name, of_station in places.items()
            for stay in stays_of(of_station, sessions.get(name, []), reservations.get(name, []), terms.grace, now)
        ]


def watch_of(stay: Stay, before: Watch, now: datetime) -> Watch:
    """When the overstay of a vehicle is due, or that it is told now. Of what began before the last one was told there
    is no second: late events move moments by a little. Pure."""
    parking = stay.parking
    told = before.told_at is not None and parking.began is not None and parking.began <= before.told_at
    if parking.overstay_from is None or told or not stay.watched:
        return Watch(None, before.told_at)
    return Watch(None, now) if parking.overstays else Watch(parking.overstay_from, before.told_at)
