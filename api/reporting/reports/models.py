"""Requests and responses about reports, as OpenAPI shows them."""

from datetime import datetime
from typing import Annotated, Literal, Self
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, model_validator

from api.reporting.analytics.models import Group
from api.reporting.reports.kinds import ReportFormat, ReportKind
from api.reporting.tables import ColumnType
from kit.instants import Instant
from schemas.identifiers import StationId

STATIONS_MAX = 1_000
ReportState = Literal["queued", "running", "done", "failed"]
FORMATS = tuple(ReportFormat)
GROUPED = (ReportKind.OPERATIONS, ReportKind.REVENUE)


class ReportModel(BaseModel):
    """Base of requests and responses: unknown fields are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class NewReport(ReportModel):
    """A report to be made."""

    kind: ReportKind
    start: Instant = Field(alias="from")
    end: Instant = Field(alias="to", description="exclusive; not in the future")
    group: Group = Field("station", description="of operations and revenue; the other kinds are of ports")
    stations: Annotated[list[StationId], Field(min_length=1, max_length=STATIONS_MAX)] | None = Field(
        None, description="only these; left out: all. Not with another group than station"
    )
    formats: Annotated[list[ReportFormat], Field(min_length=1, max_length=len(FORMATS))] = Field(
        list(FORMATS), description="that its files are wanted in"
    )

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.start >= self.end:
            raise ValueError("from must be before to")
        if self.group != "station" and (self.stations or self.kind not in GROUPED):
            raise ValueError("a group other than station is of operations and revenue, and of all stations")
        return self


class ReportColumn(ReportModel):
    """A column of a table."""

    name: str
    type: ColumnType = Field(description="thousandths and micros: printed with three and six decimals")
    description: str = ""


class ReportTable(ReportModel):
    """A table of a report."""

    name: str
    title: str
    description: str = ""
    rows: int
    columns: list[ReportColumn]


class Report(ReportModel):
    """A report: what was asked for, how far it is, and what is in it."""

    id: UUID
    kind: ReportKind
    title: str
    definition: str
    sources: list[str] = Field(description="what it is computed from")
    state: ReportState
    reason: str | None = Field(description="why it failed")
    start: datetime = Field(alias="from")
    end: datetime = Field(alias="to")
    group: Group
    stations: list[str] | None = Field(description="null: all")
    formats: list[ReportFormat]
    requested_at: datetime
    requested_by: str
    computed_at: datetime | None = Field(description="what was known then is in it")
    tables: list[ReportTable] | None = Field(description="null: it is not done")


class ReportPage(ReportModel):
    """A page of reports, newest first."""

    reports: list[Report]
    next: str | None = Field(description="address of the next page; null on the last")
