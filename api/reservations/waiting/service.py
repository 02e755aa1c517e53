"""Joining a site's line, and its offers. No HTTP and no SQL here.

An offer is a held reservation from now on: to accept it is to confirm that, and it lapses as that expires.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID, uuid4

from api.reservations.life import store as reservation_store
from api.reservations.life.lifecycle import Lifecycle
from api.reservations.life.rule import Cancelled, Reservation, ReservationState, claimed
from api.reservations.reserving.service import ReservationService
from api.reservations.settings import ReservationSettings
from api.reservations.waiting import rule, store
from api.reservations.waiting.store import LINE_MAX, Entry
from kit.auth.station_filter import EVERY_STATION
from kit.clock import Clock, from_ms
from kit.database.postgres import Database
from kit.errors import Contended
from kit.messaging.outbox import Transaction
from kit.observability.logs import get_logger
from kit.web.errors import Conflict, NotFound

_log = get_logger(__name__)
_TURNS_MAX: Final = 5  # of one run: each finds again what was free, if somebody was faster


@dataclass(frozen=True, slots=True)
class InLine:
    """An entry, where it is in the line (1: next; None: no longer in it), and how long that takes."""

    entry: Entry
    position: int | None
    estimated_wait: timedelta | None  # None: nothing suits, or no longer in the line
    offer: Reservation | None


class WaitingService:
    """The use cases, one method each."""

    def __init__(
        self,
        database: Database,
        reservations: ReservationService,
        lifecycle: Lifecycle,
        clock: Clock,
        settings: Callable[[], ReservationSettings],
    ) -> None:
        self._database = database
        self._reservations = reservations
        self._lifecycle = lifecycle
        self._clock = clock
        self._settings = settings

    async def join(self, connection: Transaction, new: Entry) -> InLine:
        """Join the end of the line; if a connector is free, it is offered at once. Raises NotFound, Conflict."""
        await store.lock_site(connection, new.site)
        suiting = [one for one in await store.connectors_of(connection, new.site, self._now()) if one.suits(new.driver)]
        if not suiting:
            raise NotFound(f"site {new.site} has no such connector that is in order")
        if len(await store.line_of(connection, new.site)) >= LINE_MAX:
            raise Conflict(f"{LINE_MAX} drivers wait at site {new.site}; choose another")
        if not await store.add(connection, new):
            raise Conflict(f"driver {new.driver_id} waits at site {new.site} already; see GET /waiting")
        await self._offer(connection, new.site)
        return await self._in_line(connection, new.id)

    async def see(self, id_: UUID, driver_id: str | None) -> InLine:
        """An entry. Raises NotFound."""
        async with self._database.transaction() as connection:
            _own(await store.entry(connection, id_), id_, driver_id)
            return await self._in_line(connection, id_)

    async def line(self, site: str) -> list[InLine]:
        """All who wait at the site, in order."""
        async with self._database.transaction() as connection:
            return await self._described(connection, site, await store.line_of(connection, site))

    async def of_driver(self, driver_id: str) -> list[InLine]:
        """The driver's entries, newest first."""
        found = []
        entries = await store.of_driver(self._database, driver_id)
        async with self._database.transaction() as connection:
            for entry in entries:
                found += await self._described(connection, entry.site, [entry])
        return found

    async def accept(self, connection: Transaction, id_: UUID, driver_id: str | None) -> InLine:
        """Confirm what is offered. Raises NotFound, and Conflict where nothing is."""
        entry = await self._locked(connection, id_, driver_id)
        if entry.reservation_id is None:
            raise Conflict(f"nothing is offered to {id_}: it is {entry.state}")
        await self._reservations.confirm(connection, entry.reservation_id, driver_id, EVERY_STATION)
        await store.settle(connection, entry.site)
        return await self._in_line(connection, id_)

    async def skip(self, connection: Transaction, id_: UUID, driver_id: str | None) -> InLine:
        """Let others be served first for as long as an offer lasts; the place in the line is kept. Raises NotFound,
        Conflict."""
        entry = await self._locked(connection, id_, driver_id)
        if not entry.waits:
            raise Conflict(f"{id_} is no longer in the line: it is {entry.state}")
        until = self._now() + timedelta(seconds=self._settings().reservation_hold_s)
        await store.set_state(connection, id_, "waiting", skipped_until=until)
        await self._withdraw(connection, entry, "skipped")
        await self._offer(connection, entry.site)
        return await self._in_line(connection, id_)

    async def leave(self, connection: Transaction, id_: UUID, driver_id: str | None) -> InLine:
        """Leave the line; again, nothing. Raises NotFound, and Conflict where an offer was accepted or has lapsed."""
        entry = await self._locked(connection, id_, driver_id)
        if entry.waits:
            await store.set_state(connection, id_, "left")
            await self._withdraw(connection, entry, "the driver no longer waits")
            await self._offer(connection, entry.site)
        elif entry.state != "left":
            raise Conflict(f"{id_} is no longer in the line: it is {entry.state}")
        return await self._in_line(connection, id_)

    async def offer_all(self) -> None:
        """Offer what is free to whoever is next, at every site where somebody waits. A job."""
        for site in await store.sites(self._database):
            try:
                async with self._database.transaction() as connection:
                    await store.lock_site(connection, site)
                    await self._offer(connection, site)
            except Contended as error:  # the other sites go on, and the next run finds it again
                _log.warning("offers_postponed", site=site, error=str(error))

    async def _offer(self, connection: Transaction, site: str) -> None:
        """Offer what is free. The site is locked."""
        await store.settle(connection, site)
        for _ in range(_TURNS_MAX):
            line = [entry.driver for entry in await store.line_of(connection, site)]
            if not line:
                return
            now, terms = self._now(), self._reservations.terms()
            connectors = await store.connectors_of(connection, site, now)
            found = rule.offers(line, connectors, now, terms.buffer)
            if all([await self._offer_one(connection, *one, now) for one in found]):
                return

    async def _offer_one(
        self, connection: Transaction, driver: rule.WaitingDriver, connector: rule.SiteConnector, now: datetime
    ) -> bool:
        """Whether the connector was still free."""
        id_, ends_at = uuid4(), now + driver.duration
        during = claimed(now, ends_at, now, self._reservations.terms())
        if not await reservation_store.take(connection, connector.place, during, "reservation", id_):
            return False
        offer = Reservation(
            id=id_,
            driver_id=driver.driver_id,
            place=connector.place,
            starts_at=now,
            ends_at=ends_at,
            state=ReservationState.HELD,
            revision=1,
            created_at=now,
            held_until=now + timedelta(seconds=self._settings().reservation_hold_s),
        )
        await self._reservations.record(connection, offer, "waiting list")
        await store.set_state(connection, driver.id, "offered", id_)
        return True

    async def _withdraw(self, connection: Transaction, entry: Entry, why: str) -> None:
        if entry.reservation_id is None:
            return
        offer = await reservation_store.locked(connection, entry.reservation_id)
        if offer is not None and offer.state is ReservationState.HELD:
            await self._lifecycle.apply(connection, offer, Cancelled(self._now(), by_driver=True, reason=why))

    async def _locked(self, connection: Transaction, id_: UUID, driver_id: str | None) -> Entry:
        """The entry as it is now that nobody else changes its line."""
        entry = _own(await store.entry(connection, id_), id_, driver_id)
        await store.lock_site(connection, entry.site)
        await store.settle(connection, entry.site)
        return _own(await store.entry(connection, id_), id_, driver_id)

    async def _in_line(self, connection: Transaction, id_: UUID) -> InLine:
        entry = await store.entry(connection, id_)
        assert entry is not None  # noqa: S101  # the caller has seen it
        (described,) = await self._described(connection, entry.site, [entry])
        return described

    async def _described(self, connection: Transaction, site: str, entries: Sequence[Entry]) -> list[InLine]:
        now = self._now()
        line = [one.driver for one in await store.line_of(connection, site)]
        waits = rule.estimated_waits(line, await store.connectors_of(connection, site, now), now)
        positions = {driver.id: place for place, driver in enumerate(line, 1)}
        found = []
        for one in entries:
            offer = one.reservation_id and await reservation_store.by_id(connection, one.reservation_id)
            found.append(InLine(one, positions.get(one.id), waits.get(one.id), offer or None))
        return found

    def _now(self) -> datetime:
        return from_ms(self._clock.now_ms())


def _own(entry: Entry | None, id_: UUID, driver_id: str | None) -> Entry:
    if entry is None or driver_id not in (None, entry.driver_id):
        raise NotFound(f"there is no entry {id_} of a waiting list, or it is not yours")
    return entry
