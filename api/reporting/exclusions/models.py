"""Requests and responses about exclusions, as OpenAPI shows them."""

from datetime import datetime
from typing import Annotated, Self
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from api.reporting.exclusions.reasons import ExclusionReason
from kit.instants import Instant
from schemas.identifiers import PRINTABLE, StationId
from schemas.reading import CONNECTOR_ID_MAX

NOTE_CHARS_MAX = 500


class ExclusionModel(BaseModel):
    """Base of requests and responses: unknown fields are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class NewExclusion(ExclusionModel):
    """Outage of a port, or of all ports of a station, that is not to count."""

    station_id: StationId
    connector_id: int | None = Field(
        None, strict=True, ge=0, le=CONNECTOR_ID_MAX, description="the port; left out: all of the station's"
    )
    start: Instant = Field(alias="from")
    end: Instant = Field(alias="to", description="it counts again from then on")
    reason: ExclusionReason
    note: Annotated[
        str, StringConstraints(strip_whitespace=True, min_length=1, max_length=NOTE_CHARS_MAX, pattern=PRINTABLE)
    ] = Field(description="what shows it, for whoever audits the figure: a ticket, the utility's notice")

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.start >= self.end:
            raise ValueError("from must be before to")
        return self


class Exclusion(ExclusionModel):
    """An exclusion, as it was entered."""

    id: UUID
    station_id: str
    connector_id: int | None = Field(description="null: all of the station's")
    start: datetime = Field(alias="from")
    end: datetime = Field(alias="to")
    reason: ExclusionReason
    note: str
    made_at: datetime
    made_by: str
    withdrawn_at: datetime | None = Field(None, description="it counts in no report computed since")
    withdrawn_by: str | None = None


class ExclusionPage(ExclusionModel):
    """A page of exclusions, newest first."""

    exclusions: list[Exclusion]
    next: str | None = Field(description="address of the next page; null on the last")
