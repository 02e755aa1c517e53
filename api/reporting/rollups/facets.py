"""Facets: sums that are computed together, from one source. Pure.

A connector's hour has a row of sums for each facet. The hour of a station, site or group is the sum of its connectors'
rows, element by element; so what is no sum (a mean, a rate) is kept as its numerator and its denominator.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import IntEnum
from typing import Final, Literal, NamedTuple

HOUR: Final = timedelta(hours=1)
QUARTERS: Final = 4  # of an hour: the interval by which grids measure demand


class Facet(IntEnum):
    """Values are persisted: never renumber."""

    ENERGY = 0
    POWER = 1
    STATUS = 2
    SESSIONS = 3
    MONEY = 4
    RESERVATIONS = 5
    WAITING = 6
    AVAILABILITY = 7
    REPAIRS = 8
    CO2 = 9

    @property
    def bit(self) -> int:
        """Of dirty hours."""
        return 1 << self


@dataclass(frozen=True, slots=True)
class Sums:
    """What a facet sums. Merged over time they are summed too, or the largest one counts."""

    names: tuple[str, ...]
    over_time: Literal["sum", "max"] = "sum"

    def place(self, name: str) -> int:
        """Its place from 0."""
        return self.names.index(name)


SUMS: Final[dict[Facet, Sums]] = {
    Facet.ENERGY: Sums(("in_session_mwh", "outside_mwh")),
    Facet.CO2: Sums(("co2e_mg",)),
    # Of each quarter of the hour the mean of the powers that its readings have. Of a day only the largest is kept.
    Facet.POWER: Sums(tuple(f"power_mw_{quarter}" for quarter in range(QUARTERS)), over_time="max"),
    Facet.STATUS: Sums(("known_ms", "occupied_ms", "delivering_ms", "faulted_ms", "unavailable_ms", "silent_ms")),
    Facet.SESSIONS: Sums(("sessions", "void", "duration_ms", "export_mwh", "attempts", "successes")),
    # Margins of demand pricing are summed as far as they are known; documents of charges without one are counted.
    Facet.MONEY: Sums(("excl_micros", "incl_micros", "documents", "demand_margin_micros", "margins_unknown")),
    Facet.RESERVATIONS: Sums(("reservations", "used", "no_shows", "cancelled")),
    Facet.WAITING: Sums(("waited", "waited_ms")),
    Facet.AVAILABILITY: Sums(("service_ms", "up_ms", "excluded_ms")),
    Facet.REPAIRS: Sums(("repairs", "repaired_ms")),
}


BY_ENERGY: Final = (Facet.ENERGY, Facet.CO2)
"""What follows from energy."""
OF_PORTS: Final = (Facet.AVAILABILITY, Facet.REPAIRS)
"""What follows from registrations, exclusions and status intervals."""
BY_STATUS: Final = (Facet.STATUS, *OF_PORTS)
"""What follows from status intervals."""


def bits_of(facets: Iterable[Facet]) -> int:
    """The bits of these facets, together."""
    bits = 0
    for facet in facets:
        bits |= facet.bit
    return bits


class Place(NamedTuple):
    """An hour of a station: what is computed again."""

    station_id: str
    hour: datetime  # its first moment


class FactKey(NamedTuple):
    """What a row of sums is of."""

    station_id: str
    connector_id: int  # -1: the station, not one of its connectors
    hour: datetime
    currency: str = ""


class Fact(NamedTuple):
    """A row of sums, in the order of `SUMS`."""

    sums: tuple[int, ...]
    ends_as: int | None = None  # STATUS: the status at the end of the hour, if that is over
    version: int | None = None  # CO2: of the factors


NO_CONNECTOR: Final = -1
Facts = dict[FactKey, Fact]


def day_of(hour: datetime) -> datetime:
    """The first moment of the UTC day of an hour."""
    return hour.astimezone(UTC).replace(hour=0)


def hour_of(moment: datetime) -> datetime:
    """The first moment of its hour."""
    return moment.replace(minute=0, second=0, microsecond=0)
