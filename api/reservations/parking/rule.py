"""Occupied, charging, idle, overstaying: what a bay's sensor and the status of connectors say of a vehicle. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from schemas.reading import SILENT, STATUS_INTERVAL_LABELS, STATUS_LABELS, Status

# A vehicle stands there and could charge and does not. SuspendedEVSE is not one of them: the station holds it back.
IDLE: Final = frozenset(STATUS_LABELS[one] for one in (Status.PREPARING, Status.SUSPENDED_EV, Status.FINISHING))
CHARGING: Final = frozenset(STATUS_LABELS[one] for one in (Status.CHARGING, Status.SUSPENDED_EVSE))
OCCUPIED: Final = IDLE | CHARGING
# Nobody can say what a connector does while its station is not heard.
UNKNOWN: Final = frozenset(STATUS_INTERVAL_LABELS[one] for one in (Status.NONE, SILENT))


class Overstay(StrEnum):
    """After what a vehicle has stood for too long."""

    CHARGING = "charging"
    RESERVATION = "reservation"
    TIME_LIMIT = "time_limit"


@dataclass(frozen=True, slots=True)
class ConnectorStatus:
    """A connector's newest status. Moments are None where they are not known."""

    status: str | None
    idle_since: datetime | None = None  # when the vehicle stopped charging, or came and did not begin
    plugged_since: datetime | None = None  # when the vehicle was plugged in
    not_charging_since: datetime | None = None  # with or without a vehicle

    @property
    def known(self) -> bool:
        """Whether it says anything now."""
        return self.status is not None and self.status not in UNKNOWN


@dataclass(frozen=True, slots=True)
class Sensor:
    """What a bay's sensor says, since when."""

    occupied: bool
    since: datetime


@dataclass(frozen=True, slots=True)
class Limits:
    """How long a vehicle may stand there."""

    grace: timedelta  # after each of the moments at which it should have left
    time_limit: timedelta | None = None  # of the bay
    reserved_until: datetime | None = None  # the end of its driver's reservation


@dataclass(frozen=True, slots=True)
class Parking:
    """What is known of a bay or a connector. `occupied` None: nothing, because neither sensor nor connector tells."""

    occupied: bool | None
    charging: bool = False
    since: datetime | None = None  # the vehicle stands there
    idle_since: datetime | None = None  # it stands there without charging
    overstay_from: datetime | None = None  # after the grace
    reason: Overstay | None = None  # of overstay_from
    overstays: bool = False

    @property
    def began(self) -> datetime | None:
        """When what leads to the overstay began: a later one is another overstay."""
        return self.idle_since if self.reason is Overstay.CHARGING else self.since


def parking_of(
    connectors: Sequence[ConnectorStatus], limits: Limits, now: datetime, sensor: Sensor | None = None
) -> Parking:
    """Of a connector, or of a bay by its sensor and the connectors that a vehicle in it can reach.

    It charges if one of these does. A sensor decides whether the bay is occupied. Where a connector says nothing now,
    the vehicle in a bay with a sensor may be charging: it is not idle.
    """
    known = [one for one in connectors if one.known]
    if sensor is None and not known:
        return Parking(None)
    occupied = sensor.occupied if sensor is not None else any(one.status in OCCUPIED for one in known)
    if not occupied:
        return Parking(False)
    charging = any(one.status in CHARGING for one in known)
    plugged = [one.plugged_since for one in known if one.plugged_since is not None and one.status in OCCUPIED]
    since = sensor.since if sensor is not None else min(plugged, default=None)
    idle_since = None if charging else _idle_since(connectors, sensor)
    moments = {
        # Where there is nothing to charge with, standing is what a bay is for.
        Overstay.CHARGING: idle_since if connectors else None,
        Overstay.RESERVATION: limits.reserved_until,
        Overstay.TIME_LIMIT: since + limits.time_limit if since is not None and limits.time_limit is not None else None,
    }
    ends = [(moment + limits.grace, reason) for reason, moment in moments.items() if moment is not None]
    overstay_from, reason = min(ends, key=lambda one: one[0], default=(None, None))
    overstays = overstay_from is not None and now >= overstay_from
    return Parking(True, charging, since, idle_since, overstay_from, reason, overstays)


def _idle_since(connectors: Sequence[ConnectorStatus], sensor: Sensor | None) -> datetime | None:
    if sensor is None:
        return max((one.idle_since for one in connectors if one.known and one.idle_since is not None), default=None)
    stopped = [one.not_charging_since for one in connectors]
    if not all(one.known for one in connectors) or None in stopped:
        return None
    return max([sensor.since, *(one for one in stopped if one is not None)])
