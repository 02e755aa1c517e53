"""The envelope every event travels in, and the payloads of the events of the telemetry spine."""

from typing import Any
from uuid import UUID

import msgspec

from schemas.topics import routing_key


class EventMetadata(msgspec.Struct, frozen=True, rename="camel"):
    """Who says what, when, and in which trace. `event_id` is what consumers dedupe on."""

    event_id: UUID
    timestamp: str  # RFC 3339, UTC
    source: str  # the service, "streams"
    correlation_id: str
    type: str  # "session.completed.v1"
    version: int
    traceparent: str = ""


class Envelope(msgspec.Struct, frozen=True):
    """One event on a broker: `{metadata, payload}` as JSON."""

    metadata: EventMetadata
    payload: dict[str, Any]

    @property
    def routing_key(self) -> str:
        """The key the event is routed by."""
        return routing_key(self.metadata.type)


class SessionStarted(msgspec.Struct, frozen=True, kw_only=True):
    """session.started.v1"""

    id: UUID  # voltstream's id of the session
    station_id: str
    connector_id: int
    session_id: str | None  # as the device named it
    started_at: str  # RFC 3339, UTC
    revision: int


class SessionCompleted(msgspec.Struct, frozen=True, kw_only=True):
    """session.completed.v1: published again with a higher revision when late readings changed a completed session."""

    id: UUID
    station_id: str
    connector_id: int
    session_id: str | None
    started_at: str
    ended_at: str
    end_reason: str  # ended | freed | superseded | timeout
    estimated: bool  # no explicit end, or energy (partly) integrated from power
    energy_uj: int  # exact: microjoules (mW x ms); 1 Wh = 3.6e9
    energy_wh: float  # for people; money is computed from energy_uj
    readings: int
    flagged: int
    revision: int


class WindowAggregate(msgspec.Struct, frozen=True, kw_only=True):
    """One connector's minute, after its watermark passed (or again, with a higher revision, after a late reading)."""

    station_id: str
    connector_id: int
    window_start: str  # RFC 3339, UTC; the window is [start, start + 1 min)
    revision: int
    readings: int
    flagged: int
    power_w_avg: float | None
    power_w_min: float | None
    power_w_max: float | None
    voltage_v_avg: float | None
    current_a_avg: float | None
    temperature_c_max: float | None
    energy_wh_first: float | None  # register
    energy_wh_last: float | None


class TelemetryAggregated(msgspec.Struct, frozen=True, kw_only=True):
    """telemetry.aggregated.v1: the windows one flush closed, in chunks of at most a thousand."""

    partition: int
    windows: list[WindowAggregate]
