"""Requests and responses of analytics, as OpenAPI shows them."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Group = Literal["station", "site", "group", "organisation", "plug"]


class AnalyticsModel(BaseModel):
    """Base of responses."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class MetricDescription(AnalyticsModel):
    """What a metric is."""

    metric: str
    unit: Annotated[str, Field(description="`1` of counts and shares; `currency`: of each row its own")]
    definition: str
    source: Annotated[str, Field(description="what it is computed from")]
    grouped_by: Annotated[str, Field(description="how figures of hours and connectors become one")]


class MetricList(AnalyticsModel):
    """The metrics that there are."""

    metrics: list[MetricDescription]


class Figure(AnalyticsModel):
    """A metric of a group in a time."""

    group: Annotated[str | None, Field(description="null: of the stations in none, or of all where none is asked for")]
    start: datetime
    end: datetime
    currency: Annotated[str | None, Field(description="ISO 4217; null where the metric is no money")]
    value: Annotated[float | None, Field(description="in the metric's unit; null: the quotient of nothing")]
    sums: Annotated[dict[str, int], Field(description="exact, of what the value is computed; the unit is in the name")]


class FactorsUsed(AnalyticsModel):
    """A version of factors of CO2e."""

    version: int
    source: str
    fallback_name: str


class Analytics(MetricDescription):
    """A page of figures. Of a time without anything there is no figure."""

    by: str
    grouping: Annotated[Group | None, Field(description="null: all stations together")]
    time_zone: str
    start: Annotated[datetime, Field(alias="from", description="of the first `by`")]
    end: Annotated[datetime, Field(alias="to", description="of the last `by`")]
    as_of: Annotated[datetime, Field(description="changes that were noted before this moment are in the figures")]
    pending_hours: Annotated[int, Field(description="hours of stations that have changed since and will be computed")]
    factors: Annotated[
        list[FactorsUsed] | None,
        Field(description="of metric co2 the versions with which these UTC days are computed; `source` has them, too"),
    ] = None
    figures: list[Figure]
    next: Annotated[str | None, Field(description="the next page; null: this is the last")]
