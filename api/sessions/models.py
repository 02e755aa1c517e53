"""Requests and responses of the sessions service, as OpenAPI shows them."""

from datetime import datetime
from enum import StrEnum
from typing import Final, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from api.idle_fees import IdleFee
from schemas.identifiers import DriverId, ReservationId, StationId
from schemas.reading import CONNECTOR_ID_MAX
from schemas.session import EndReasonName


class SessionState(StrEnum):
    """State of a session. Without a request it is open, completed, held or void."""

    REQUESTED = "requested"  # no session came of the request so far
    OPEN = "open"
    COMPLETED = "completed"
    HELD = "held"  # completed, and contradicts itself: a person looks at it before it is billed
    VOID = "void"  # completed, and nothing is owed for it
    EXPIRED = "expired"  # no session came of the request in time, or before it was stopped


class CostParts(BaseModel):
    """A cost by what it is for, excl. VAT; exact to the millionth."""

    model_config = ConfigDict(extra="forbid")

    energy: str
    time: str
    parking: str
    flat: str


class Session(BaseModel):
    """A charging session, or the request for one that has not started. Without a cost its station had no tariff."""

    model_config = ConfigDict(extra="forbid")

    id: UUID | None = Field(description="voltstream's id; null until it has started")
    request_id: UUID | None = Field(default=None, description="of the request it came of, if any")
    driver_id: str | None = Field(default=None, description="of the request; null: without one")
    reservation_id: str | None = None
    station_id: str
    connector_id: int
    session_id: str | None = Field(description="the device's id")
    state: SessionState
    requested_at: datetime | None = None
    stop_requested_at: datetime | None = None
    started_at: datetime | None = Field(description="event time of its first reading")
    last_at: datetime | None = Field(description="event time of its newest reading")
    ended_at: datetime | None
    end_reason: EndReasonName | None
    energy_wh: float = Field(
        description="exact to the thousandth where all of it is from the register, else rounded to the millionth"
    )
    energy_uj: int = Field(description="the exact figure, in microjoules: 1 Wh = 3.6e9; money is computed from it")
    energy_export_wh: float = Field(default=0.0, description="fed back to the grid, by the export register")
    energy_source: Literal["register", "integrated", "mixed"] | None = Field(
        description="register differences, power integrated over time, or both; null while there is no evidence"
    )
    estimated: bool = Field(description="ended by time-out, or energy (partly) integrated from power")
    readings: int
    flagged: int
    held: list[str] = Field(default_factory=list, description="how it contradicts itself, where it is held")
    rated_power_w: float | None = Field(default=None, description="of its connector, by which registers are judged")
    revision: int = Field(description="0 until completed; higher with every completion or change after it")
    currency: str | None = Field(default=None, description="ISO 4217, of the cost; null: the station has no tariff")
    cost_excl_vat: str | None = Field(default=None, description="to date, exact to the millionth; not yet rounded")
    cost_incl_vat: str | None = None
    cost_parts: CostParts | None = Field(
        default=None, description="of cost_excl_vat, before min_price and max_price of the tariff"
    )
    tariff_version: UUID | None = Field(default=None, description="the version that was in force when it started")
    idle_fee: IdleFee | None = Field(
        default=None,
        description="of standing without charging, from the end of charging on, by the tariff of the session; null: "
        "nothing, or the session is over. Only of a single session",
    )


READING_COLUMNS: Final = (
    "ts_ms", "boot", "seq", "energy_mwh", "power_mw", "current_ma", "status", "session_event", "flags",
    "part",
)  # fmt: skip


class SessionReadings(BaseModel):
    """The stored readings of a session as columns of one length, in order of event time: what its cost is derived from.

    Quantities in thousandths of their units, null where the device said nothing; status, session_event and flags by
    their codes.
    """

    model_config = ConfigDict(extra="forbid")

    ts_ms: list[int]
    boot: list[int | None]
    seq: list[int | None]
    energy_mwh: list[int | None]
    power_mw: list[int | None]
    current_ma: list[int | None]
    status: list[int]
    session_event: list[int]
    flags: list[int]
    part: list[int] = Field(description="without seq: the place among the readings of one moment")
    power_max_mw: int = Field(description="what the connector can deliver, by which registers are judged")
    register_before_mwh: int | None = Field(description="the connector's last accepted register before the session")
    register_before_ms: int | None
    series_mwh: int | None = Field(description="the first register of the connector's session before")


class SessionPage(BaseModel):
    """A page of sessions, newest first."""

    model_config = ConfigDict(extra="forbid")

    sessions: list[Session]
    next: str | None = Field(description="address of the next page; null on the last")


class SessionRequest(BaseModel):
    """A request to charge."""

    model_config = ConfigDict(extra="forbid")

    station_id: StationId
    connector_id: int = Field(ge=1, le=CONNECTOR_ID_MAX, strict=True)  # as readings have it: no text, no 1.0
    driver_id: DriverId | None = Field(
        default=None, description="the driver who charges: an operator names one, a driver only themself"
    )
    reservation_id: ReservationId | None = None


class SessionRequestAccepted(BaseModel):
    """A charge request that was published to the station."""

    model_config = ConfigDict(extra="forbid")

    request_id: UUID = Field(description="asks for the session too; the station may name the session by it")
    state: SessionState
    station_id: str
    connector_id: int
    driver_id: str
    reservation_id: str | None
    requested_at: datetime
    expires_at: datetime = Field(description="unless a session has come of it")


class StopAccepted(BaseModel):
    """A request to stop. The session ends when the station reports its end."""

    model_config = ConfigDict(extra="forbid")

    id: UUID | None = Field(description="voltstream's id of the session; null where none had started")
    request_id: UUID | None
    state: SessionState = Field(description="after the request")
    stop_requested_at: datetime | None = Field(description="null where it had ended before")
