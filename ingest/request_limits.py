"""Limits of one request, from the settings."""

from dataclasses import dataclass
from typing import Final

from ingest.limits import TelemetryBounds
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
    of_token: TelemetryBounds


def limits_of(settings: IngestSettings) -> Limits:
    """The limits of a request."""
    return Limits(
        body_bytes_max=settings.body_bytes_max,
        inflated_bytes_max=settings.inflated_bytes_max,
        readings_max=settings.readings_per_request_max,
        age_ms_max=settings.age_days_effective * _MS_PER_DAY,
        future_ms_max=settings.future_s_max * 1_000,
        of_token=TelemetryBounds(
            settings.quarantined_per_hour_max,
            settings.station_readings_per_minute_max,
            settings.fleet_readings_per_minute_max,
            settings.new_stations_per_hour_max,
            settings.new_weeks_per_hour_max,
        ),
    )
