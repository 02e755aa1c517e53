"""Reasons for which outage does not count, as 23 CFR 680.116(b)(3) lists them."""

from enum import StrEnum
from typing import Final


class ExclusionReason(StrEnum):
    """Names are stored and published: never rename."""

    UTILITY_INTERRUPTION = "utility_interruption"
    VEHICLE_FAULT = "vehicle_fault"
    SCHEDULED_MAINTENANCE = "scheduled_maintenance"
    VANDALISM = "vandalism"
    NATURAL_DISASTER = "natural_disaster"
    OUTSIDE_HOURS = "outside_hours"


REASON_LABELS: Final = {
    ExclusionReason.UTILITY_INTERRUPTION: "electric utility service interruption",
    ExclusionReason.VEHICLE_FAULT: "fault of the vehicle",
    ExclusionReason.SCHEDULED_MAINTENANCE: "scheduled maintenance",
    ExclusionReason.VANDALISM: "vandalism",
    ExclusionReason.NATURAL_DISASTER: "natural disaster",
    ExclusionReason.OUTSIDE_HOURS: "outside of the hours of operation",
}
