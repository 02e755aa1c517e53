"""A heat map as JSON, as OpenAPI shows it."""

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Shape = Literal["week", "sites"]


class HeatMapModel(BaseModel):
    """Base of responses."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class HeatMapPage(HeatMapModel):
    """A metric by row and column."""

    metric: str
    title: str
    unit: str
    definition: str
    source: str
    shape: Shape
    start: datetime = Field(alias="from")
    end: datetime = Field(alias="to")
    time_zone: str
    computed_at: datetime
    pending_hours: int = Field(description="hours of stations that have changed since and will be computed")
    rows: list[str] = Field(description="days of the week, or sites")
    columns: list[str] = Field(description="hours of the day")
    values: list[list[float | None]] = Field(description="by row, then column; null: no data")
    left_out: int = Field(description="sites that are not shown: those with the least")
