"""Limits of one request, from the settings."""

from dataclasses import dataclass
from typing import Final

from ingest.settings import IngestSettings

_MS_PER_DAY: Final = 86_400_000


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of one request, from the settings."""

    body_bytes_max: int
    inflated_bytes_max: int
    readings_max: int
    age_ms_max: int
    future_ms_max: int
    quarantined_per_hour_max: int  # of one token


def limits_of(settings: IngestSettings) -> Limits:
    """The limits of a request."""
    return Limits(
        body_bytes_max=settings.body_bytes_max,
        inflated_bytes_max=settings.inflated_bytes_max,
        readings_max=settings.readings_per_request_max,
        age_ms_max=settings.age_days_effective * _MS_PER_DAY,
        future_ms_max=settings.future_s_max * 1_000,
        quarantined_per_hour_max=settings.quarantined_per_hour_max,
    )
