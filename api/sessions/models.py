"""What the session queries answer."""

from datetime import datetime
from enum import StrEnum
from typing import Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field


class SessionState(StrEnum):
    """Whether a session still runs."""

    OPEN = "open"
    COMPLETED = "completed"


class Session(BaseModel):
    """A charging session."""

    model_config = ConfigDict(extra="forbid")

    id: UUID = Field(description="voltstream's id")
    station_id: str
    connector_id: int
    session_id: str | None = Field(description="the device's id")
    state: SessionState
    started_at: datetime = Field(description="event time of its first reading")
    last_at: datetime = Field(description="event time of its newest reading")
    ended_at: datetime | None
    end_reason: Literal["ended", "freed", "superseded", "timeout"] | None
    energy_wh: float = Field(
        description="exact to the thousandth where all of it is from the register, else rounded to the millionth"
    )
    energy_uj: int = Field(description="the exact figure, in microjoules: 1 Wh = 3.6e9; money is computed from it")
    energy_source: Literal["register", "integrated", "mixed"] | None = Field(
        description="register differences, power integrated over time, or both; null while there is no evidence"
    )
    estimated: bool = Field(description="ended by time-out, or energy (partly) integrated from power")
    readings: int
    flagged: int
    revision: int = Field(description="0 until completed; higher with every completion or change after it")


class SessionPage(BaseModel):
    """A page of sessions, newest start first."""

    model_config = ConfigDict(extra="forbid")

    sessions: list[Session]
    next: str | None = Field(description="address of the next page; null on the last")
