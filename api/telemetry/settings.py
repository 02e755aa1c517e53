"""Settings of the telemetry service."""

from pydantic import Field

from kit.config.adjustable import adjustable
from schemas.settings import Lake


class TelemetrySettings(Lake):
    """Where readings are that were moved, and how many look at the live view."""

    # Half of all that a process has (api.telemetry.live_streams).
    streams_per_token_max: int = Field(
        default=128,
        ge=0,
        le=100_000,
        description="live streams that one token may have open; 0: as many as there are",
        json_schema_extra=adjustable("telemetry.streams_per_token"),
    )


GROUP = TelemetrySettings
