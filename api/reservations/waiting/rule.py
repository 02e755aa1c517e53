"""Who is offered which connector, and how long the others wait. Pure.

Drivers are served in the order in which they joined. One who skips keeps the place in the line: others are served first
for some minutes, and then the skipper is before everyone who joined later again. So nobody is overtaken by somebody
later, except by their own skip, and by drivers whom a connector suits that does not suit them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from api.reservations.life.rule import Place


@dataclass(frozen=True, slots=True)
class WaitingDriver:
    """A driver in the line of a site."""

    id: UUID
    number: int  # in the order of joining
    driver_id: str
    standard: str
    power_w_min: int
    duration: timedelta
    offered: bool = False  # a connector is held for them
    skipped_until: datetime | None = None

    def is_next(self, now: datetime) -> bool:
        """Whether they are to be offered the first connector that suits them."""
        return not self.offered and (self.skipped_until is None or self.skipped_until <= now)


@dataclass(frozen=True, slots=True)
class SiteConnector:
    """A connector of the site: free from then (now, or earlier: it is free) until then (None: no claim is ahead)."""

    place: Place
    standard: str
    power_w: int
    free_from: datetime
    free_until: datetime | None

    def suits(self, driver: WaitingDriver) -> bool:
        """Whether the driver can charge there at all."""
        return self.standard == driver.standard and self.power_w >= driver.power_w_min

    def free_for(self, driver: WaitingDriver, now: datetime, buffer: timedelta) -> bool:
        """Whether it suits the driver and is free for as long as they want to charge."""
        long_enough = self.free_until is None or now + driver.duration + buffer <= self.free_until
        return self.suits(driver) and self.free_from <= now and long_enough


def offers(
    line: Sequence[WaitingDriver], connectors: Sequence[SiteConnector], now: datetime, buffer: timedelta
) -> list[tuple[WaitingDriver, SiteConnector]]:
    """Which driver is offered which connector now, in the order of the line. Each gets the weakest that suits."""
    left = sorted(connectors, key=lambda one: (one.power_w, one.place.key))
    found = []
    for driver in sorted(line, key=lambda one: one.number):
        if not driver.is_next(now):
            continue
        connector = next((one for one in left if one.free_for(driver, now, buffer)), None)
        if connector is not None:
            left.remove(connector)
            found.append((driver, connector))
    return found


def estimated_waits(
    line: Sequence[WaitingDriver], connectors: Sequence[SiteConnector], now: datetime
) -> Mapping[UUID, timedelta | None]:
    """How long each is likely to wait, if everyone stays for as long as they said; None: nothing suits them."""
    free_at = {one.place: max(one.free_from, now) for one in connectors}
    waits: dict[UUID, timedelta | None] = {}
    for driver in sorted(line, key=lambda one: one.number):
        if driver.offered:
            waits[driver.id] = timedelta()
            continue
        suiting = [one for one in connectors if one.suits(driver)]
        if not suiting:
            waits[driver.id] = None
            continue
        soonest = min(suiting, key=lambda one: (free_at[one.place], one.power_w, one.place.key))
        at = free_at[soonest.place]
        waits[driver.id] = at - now
        free_at[soonest.place] = at + driver.duration
    return waits
