"""Status of stations, as OpenAPI shows it."""

from datetime import datetime

from pydantic import Field

from api.stations.registry.models import StationsModel


class RecentChange(StationsModel):
    """A change of a connector's status, as its readings or its silence made it."""

    revision: int
    status: str
    previous: str | None
    error_code: str | None
    since: datetime


class ConnectorStatus(StationsModel):
    """What a connector does now."""

    connector_id: int
    registered: bool
    evse_id: str | None
    status: str = Field(
        description="of OCPP; or Silent: nothing was heard for as long as it is expected to speak; Reserved: for "
        "somebody, now; Unavailable, where another of its EVSE is in use; Unknown: it never said"
    )
    reported: str | None = Field(description="what it said last itself; null where that is nothing, or it is silent")
    free: bool = Field(description="whether a driver may plug in now")
    error_code: str | None
    since: datetime | None = Field(description="since when it has the status that it reported")
    silent_since: datetime | None = Field(description="its newest reading, where it is silent")
    reserved_until: datetime | None = Field(description="the end of the reservation that it is kept for now")
    occupied_by: int | None = Field(description="the connector of the same EVSE that is in use")
    why: list[RecentChange] = Field(description="the last changes, newest first")


class Received(StationsModel):
    """What a station sent, by the events of the commits that stored it."""

    readings: int = Field(description="stored while `telemetry.received_events` was on")
    newest_ts: datetime = Field(description="of these")
    counted_at: datetime = Field(description="of the newest event")


class StationStatus(StationsModel):
    """What a station's connectors do now."""

    station_id: str
    at: datetime
    registered: bool
    received: Received | None = Field(description="null: nothing was stored while `telemetry.received_events` was on")
    connectors: list[ConnectorStatus] = Field(description="those registered, and those that spoke")
