"""Occupied, charging, idle, overstaying: what the status of connectors says of a parking bay. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from schemas.reading import STATUS_LABELS, Status
from schemas.tariff import Dimension, PriceComponent, Tariff

# A vehicle stands there and could charge and does not. SuspendedEVSE is not one of them: the station holds it back.
IDLE: Final = frozenset(STATUS_LABELS[one] for one in (Status.PREPARING, Status.SUSPENDED_EV, Status.FINISHING))
CHARGING: Final = frozenset(STATUS_LABELS[one] for one in (Status.CHARGING, Status.SUSPENDED_EVSE))
OCCUPIED: Final = IDLE | CHARGING


@dataclass(frozen=True, slots=True)
class ConnectorStatus:
    """A connector's newest status. `idle_since`: when the vehicle stopped charging, or came and did not begin."""

    status: str | None
    idle_since: datetime | None


@dataclass(frozen=True, slots=True)
class Parking:
    """What is known of a bay or a connector. `occupied` None: nothing, because no connector tells."""

    occupied: bool | None
    charging: bool
    idle_since: datetime | None
    overstay_from: datetime | None  # after the grace
    overstays: bool


def parking_of(connectors: Iterable[ConnectorStatus], grace: timedelta, now: datetime) -> Parking:
    """Of a connector, or of a bay by the connectors that a vehicle in it can reach. It charges if one of them does."""
    known = [one for one in connectors if one.status is not None]
    if not known:
        return Parking(None, False, None, None, False)
    occupied = any(one.status in OCCUPIED for one in known)
    if any(one.status in CHARGING for one in known):
        return Parking(True, True, None, None, False)
    idle_since = max((one.idle_since for one in known if one.idle_since is not None), default=None)
    if idle_since is None:
        return Parking(occupied, False, None, None, False)
    overstay_from = idle_since + grace
    return Parking(True, False, idle_since, overstay_from, now >= overstay_from)


@dataclass(frozen=True, slots=True)
class IdleFee:
    """What an hour of standing without charging costs. `depends`: only under the tariff's further restrictions, as a
    time of day, or after some minutes."""

    component: PriceComponent
    currency: str
    depends: bool


def idle_fee(tariff: Tariff) -> IdleFee | None:
    """The first price of PARKING_TIME that is for charging, not for reservations; None: it costs nothing."""
    for element in tariff.elements:
        restrictions = element.restrictions
        if restrictions is not None and restrictions.reservation is not None:
            continue
        for component in element.price_components:
            if component.type is Dimension.PARKING_TIME and component.price:
                return IdleFee(component, tariff.currency, restrictions is not None)
    return None
