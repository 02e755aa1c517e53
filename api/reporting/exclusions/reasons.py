"""Reasons for which outage does not count, as 23 CFR 680.116(b)(3) lists them."""

from enum import StrEnum


class ExclusionReason(StrEnum):
    """Names are stored and published: never rename."""

    UTILITY_INTERRUPTION = "utility_interruption"
    VEHICLE_FAULT = "vehicle_fault"  # the vehicle could not be charged, or not as expected
    SCHEDULED_MAINTENANCE = "scheduled_maintenance"
    VANDALISM = "vandalism"
    NATURAL_DISASTER = "natural_disaster"
    OUTSIDE_HOURS = "outside_hours"  # of operation of the station
