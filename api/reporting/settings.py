"""Settings of reporting."""

from typing import Final

from pydantic import BaseModel, Field

from kit.config.adjustable import adjustable

PAUSED: Final = "reporting.paused"


class ReportingSettings(BaseModel):
    """When roll-ups are computed, and how long they are kept."""

    reporting_paused: bool = Field(
        False,
        description="whether roll-ups wait; hours that change are noted all the same",
        json_schema_extra=adjustable(PAUSED),
    )
    reporting_retention_days: int = Field(
        800,
        ge=32,
        le=36_500,
        description="hours of reporting are kept so long; days for ever",
        json_schema_extra=adjustable("reporting.retention", unit="d"),
    )
    reporting_reports_days: int = Field(
        400,
        ge=1,
        le=36_500,
        description="a report is kept so long after it was made",
        json_schema_extra=adjustable("reporting.reports", unit="d"),
    )


GROUP = ReportingSettings
