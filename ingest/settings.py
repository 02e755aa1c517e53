"""Settings of the gateway."""

from typing import Final, Self

from pydantic import Field, model_validator

from kit.config.adjustable import adjustable
from schemas.settings import Retention

_MIB: Final = 1024 * 1024


class IngestSettings(Retention):
    """Limits of a request, and the linger of frames."""

    # At 1,000 readings/s over 4 partitions, 20 ms make frames of 5. A lone reading waits for 1 ms (ingest.linger).
    linger_ms: int = Field(
        default=20, ge=0, le=1_000, description="how long a reading waits for others at most, while they keep coming"
    )
    # At 10,000 readings/s in batches of 100 over 2 partitions, 50 ms make frames of 250 and cost an eighth less.
    linger_batch_ms: int = Field(
        default=0, ge=0, le=1_000, description="the same where requests have many readings, if that is longer"
    )
    body_bytes_max: int = Field(default=8 * _MIB, ge=1_024, le=256 * _MIB, description="largest request body, as sent")
    inflated_bytes_max: int = Field(
        default=64 * _MIB, ge=1_024, le=1_024 * _MIB, description="largest body, decompressed"
    )
    readings_per_request_max: int = Field(
        default=100_000,
        ge=1,
        le=1_000_000,
        description="most readings in one request",
        json_schema_extra=adjustable("gateway.readings_per_request"),
    )
    age_days_max: int = Field(
        default=1_830,
        ge=1,
        le=36_500,
        description="older readings are quarantined",
        json_schema_extra=adjustable("gateway.age_max", unit="d"),
    )
    future_s_max: int = Field(
        default=86_400,
        ge=60,
        le=31_536_000,
        description="readings further ahead are quarantined",
        json_schema_extra=adjustable("gateway.future_max", unit="s"),
    )

    # 50,000 rows are 30 MB. A fleet of 10,000 that shares a token, each with five unreadable readings an hour.
    quarantined_per_hour_max: int = Field(
        default=50_000,
        ge=0,
        le=100_000_000,
        description="refused items of one token that a gateway keeps in an hour; 0: any number",
        json_schema_extra=adjustable("gateway.quarantined_per_hour"),
    )
    # 10,000 a second: a month of a reading a second is sent again within 5 minutes.
    station_readings_per_minute_max: int = Field(
        default=600_000,
        ge=0,
        le=1_000_000_000,
        description="readings a minute of a token, for each station that it names; 0: any number",
        json_schema_extra=adjustable("gateway.station_readings_per_minute"),
    )
    # 2 M a second: what one gateway cannot decode.
    fleet_readings_per_minute_max: int = Field(
        default=120_000_000,
        ge=0,
        le=1_000_000_000,
        description="readings a minute of a token for all stations; 0: any number",
        json_schema_extra=adjustable("gateway.fleet_readings_per_minute"),
    )
    # Twice a fleet of 10,000 that shares a token: after a restart all of them are new to the gateway. 7 s of a worker.
    new_stations_per_hour_max: int = Field(
        default=20_000,
        ge=0,
        le=10_000_000,
        description="stations an hour that a token for all stations is the first to send readings of; 0: any number",
        json_schema_extra=adjustable("gateway.new_stations_per_hour"),
    )
    # A year that is sent again, and what a restart of the gateway makes new meanwhile. 120 tables.
    new_weeks_per_hour_max: int = Field(
        default=60,
        ge=0,
        le=10_000,
        description="weeks an hour that a token is the first to send readings of; 0: any number",
        json_schema_extra=adjustable("gateway.new_weeks_per_hour"),
    )

    @property
    def age_days_effective(self) -> int:
        """The age beyond which a reading is quarantined: at most that of what was dropped or moved to the lake."""
        return min(self.age_days_max, self.oldest_days or self.age_days_max)

    @model_validator(mode="after")
    def _inflated_is_larger(self) -> Self:
        if self.inflated_bytes_max < self.body_bytes_max:
            raise ValueError(
                f"VOLTSTREAM_INFLATED_BYTES_MAX={self.inflated_bytes_max} is below "
                f"VOLTSTREAM_BODY_BYTES_MAX={self.body_bytes_max}: raise the first or lower the second"
            )
        return self


GROUP = IngestSettings
