"""Settings of the relay."""

from pydantic import BaseModel, Field

from kit.config.adjustable import adjustable


class RelaySettings(BaseModel):
    """How long dead letters are kept."""

    # A year, as items of the quarantine: who is told of a letter replays it long before.
    dead_letter_retention_days: int = Field(
        365,
        ge=0,
        le=36_500,
        description="dead letters that nobody replayed are deleted after so many days; 0: kept",
        json_schema_extra=adjustable("events.dead_letter_retention", unit="d"),
    )
    replayed_letter_retention_days: int = Field(
        30,
        ge=1,
        le=3_650,
        description="dead letters that were replayed are deleted after so many days",
        json_schema_extra=adjustable("events.replayed_letter_retention", unit="d"),
    )


GROUP = RelaySettings
