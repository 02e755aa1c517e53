"""What a session costs, in whole numbers, from its stored readings and its tariff alone: docs/adr/0009 in plain Python.

Pure: no clock, no I/O. The same page is computed once more, and apart, by the stream's cost kernel.
"""

from collections.abc import Sequence
from zoneinfo import ZoneInfo

from billing.rating.allocate import ComponentUsage, allocate_usage
from billing.rating.errors import NoReadings, RatingError
from billing.rating.price import (
    BOUNDS,
    MAX_PRICE,
    NOTHING_RESERVED,
    Adjustment,
    PriceLine,
    RatedUsage,
    Reserved,
    RoundingStep,
    in_tariff_order,
    price,
    together,
    within_bounds,
)
from billing.rating.readings import POWER_MAX_MW, IgnoredReading, MeterBefore, Reason, StoredReading, usage_of
from billing.rating.usage import Usage, reservation_usage
from schemas.tariff import Reservation, Tariff

__all__ = [
    "NOTHING_RESERVED",
    "POWER_MAX_MW",
    "Adjustment",
    "ComponentUsage",
    "IgnoredReading",
    "MeterBefore",
    "NoReadings",
    "PriceLine",
    "RatedUsage",
    "RatingError",
    "Reason",
    "Reserved",
    "RoundingStep",
    "StoredReading",
    "Usage",
    "allocate_usage",
    "bounds_of",
    "in_tariff_order",
    "price",
    "rate_readings",
    "rate_usage",
    "rate_visit",
    "reservation_usage",
    "together",
    "usage_of",
    "within_bounds",
]


def bounds_of(reservation: Reservation | None) -> Sequence[str]:
    """Which bounds a charge by itself has: a session (None) both; a used reservation, to which its session adds, the
    maximum only; one that expired never became a session, and has neither."""
    if reservation is None:
        return BOUNDS
    return (MAX_PRICE,) if reservation is Reservation.RESERVATION else ()


def rate_usage(
    tariff: Tariff, zone: ZoneInfo, usage: Usage, reserved: Reserved = NOTHING_RESERVED
) -> tuple[list[ComponentUsage], RatedUsage]:
    """What a usage consumed of each component of the tariff, and its price. `zone`: the station's; `reserved`: what the
    reservation cost that it used."""
    consumption = allocate_usage(tariff, zone, usage)
    return consumption, price(tariff, consumption, bounds=bounds_of(usage.reservation), reserved=reserved)


def rate_visit(
    tariff: Tariff, zone: ZoneInfo, reservation: Usage | None, charging: Usage | None
) -> tuple[list[ComponentUsage], RatedUsage]:
    """A reservation and the charging that it was for, or one of them, as one session.

    The minimum and the maximum price are of both together: what a used reservation costs is a cost of the session. A
    reservation that expired never became one, and has neither (OCPI 2.2.1, Session and CDR objects).
    """
    used = [(part, allocate_usage(tariff, zone, part)) for part in (reservation, charging) if part is not None]
    rated = together(price(tariff, consumption, bounds=()) for _, consumption in used)
    consumption = [one for _, of_part in used for one in of_part]
    return consumption, rated if charging is None else within_bounds(tariff, rated)


def rate_readings(
    tariff: Tariff,
    zone: ZoneInfo,
    readings: Sequence[StoredReading],
    before: MeterBefore | None = None,
) -> tuple[list[ComponentUsage], RatedUsage]:
    """The same of the readings of a session. Raises NoReadings."""
    usage, _ = usage_of(readings, before)
    return rate_usage(tariff, zone, usage)
