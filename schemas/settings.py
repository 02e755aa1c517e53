"""Settings that several services share."""

from pydantic import BaseModel, Field


class Lake(BaseModel):
    """Where the lake is, for those who read it."""

    lake_url: str = Field(
        default="",
        max_length=2_048,
        repr=False,
        description="folder of the lake, or its URL (file, s3, gs, abfs); empty: no reading is moved there",
        json_schema_extra={"masked": "url"},
    )


class Retention(Lake):
    """Retention of raw readings: the worker moves older ones to the lake, and drops those that are older still; the
    gateway accepts neither."""

    raw_retention_days: int = Field(
        default=0,
        ge=0,
        le=36_500,
        description="raw readings are dropped after; 0: kept",
        # As kit.config.adjustable marks one: the language imports nothing in-house.
        json_schema_extra={"adjustable": {"name": "telemetry.raw_retention", "unit": "d"}},
    )
    # A quarter: what operators look at is in the database.
    lake_after_days: int = Field(
        default=90,
        ge=1,
        le=36_500,
        description="raw readings are moved to the lake after, where there is one",
        json_schema_extra={"adjustable": {"name": "telemetry.lake_after", "unit": "d"}},
    )

    @property
    def oldest_days(self) -> int:
        """The age beyond which no reading is taken; 0: any is."""
        ages = (self.raw_retention_days, self.lake_after_days if self.lake_url else 0)
        return min((age for age in ages if age), default=0)
