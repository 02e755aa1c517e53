"""Settings that several services share."""

from pydantic import BaseModel, Field


class Retention(BaseModel):
    """Retention of raw readings: the worker drops older ones, and the gateway does not accept them."""

    raw_retention_days: int = Field(
        default=0,
        ge=0,
        le=36_500,
        description="raw readings are dropped after; 0: kept",
        # As kit.config.adjustable marks one: the language imports nothing in-house.
        json_schema_extra={"adjustable": {"name": "telemetry.raw_retention", "unit": "d"}},
    )
