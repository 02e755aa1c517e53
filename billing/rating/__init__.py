"""What a session costs, in whole numbers, from its stored readings and its tariff alone: docs/adr/0009 in plain Python.

Pure: no clock, no I/O. The same page is computed once more, and apart, by the stream's cost kernel.
"""

from collections.abc import Sequence
from zoneinfo import ZoneInfo

from billing.rating.allocate import ComponentUsage, allocate_usage
from billing.rating.errors import NoReadings, RatingError
from billing.rating.price import (
    Adjustment,
    PriceLine,
    RatedUsage,
    RoundingStep,
    in_tariff_order,
    price,
    together,
    within_bounds,
)
from billing.rating.readings import POWER_MAX_MW, IgnoredReading, Reason, StoredReading, usage_of
from billing.rating.usage import Usage, reservation_usage
from schemas.tariff import Tariff

__all__ = [
    "POWER_MAX_MW",
    "Adjustment",
    "ComponentUsage",
    "IgnoredReading",
    "NoReadings",
    "PriceLine",
    "RatedUsage",
    "RatingError",
    "Reason",
    "RoundingStep",
    "StoredReading",
    "Usage",
    "allocate_usage",
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


def rate_usage(tariff: Tariff, zone: ZoneInfo, usage: Usage) -> tuple[list[ComponentUsage], RatedUsage]:
    """What a usage consumed of each component of the tariff, and its price. `zone`: the station's."""
    consumption = allocate_usage(tariff, zone, usage)
    return consumption, price(tariff, consumption, bounded=usage.reservation is None)


def rate_visit(
    tariff: Tariff, zone: ZoneInfo, reservation: Usage | None, charging: Usage | None
) -> tuple[list[ComponentUsage], RatedUsage]:
    """A reservation and the charging that it was for, or one of them, as one session.

    The minimum and the maximum price are of both together: what a used reservation costs is a cost of the session. A
    reservation that expired never became one, and has neither (OCPI 2.2.1, Session and CDR objects).
    """
    used = [(part, allocate_usage(tariff, zone, part)) for part in (reservation, charging) if part is not None]
    rated = together(price(tariff, consumption, bounded=False) for _, consumption in used)
    consumption = [one for _, of_part in used for one in of_part]
    return consumption, rated if charging is None else within_bounds(tariff, rated)


def rate_readings(
    tariff: Tariff,
    zone: ZoneInfo,
    readings: Sequence[StoredReading],
    end_ms: int | None = None,
    power_max_mw: int = POWER_MAX_MW,
) -> tuple[list[ComponentUsage], RatedUsage]:
    """The same of the readings of a session, up to its explicit end, where it has one. Raises NoReadings."""
    usage, _ = usage_of(readings, end_ms, power_max_mw)
    return rate_usage(tariff, zone, usage)
