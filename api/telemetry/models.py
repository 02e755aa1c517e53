"""The responses of the queries, in wire units (Wh, W, V, A, °C, %), as OpenAPI shows them.

Histories are rendered from columns (renderings.py) and never pass through these models; tests compare the two.
"""

from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from schemas.energy import RejectReason


class Interval(StrEnum):
    """Resolution of a history."""

    RAW = "raw"
    MINUTE = "1m"
    QUARTER = "15m"
    HOUR = "1h"
    DAY = "1d"


class TelemetryModel(BaseModel):
    """Base of the responses. A response has no fields but those of its model."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)


class ReadingRow(TelemetryModel):
    """One stored reading."""

    connector_id: int
    ts: datetime = Field(description="event time")
    session: UUID | None = Field(description="voltstream's id of the session it belongs to")
    session_id: str | None = Field(description="the device's name of that session")
    boot: int | None
    seq: int | None
    energy_wh: float | None = Field(description="register")
    power_w: float | None
    voltage_v: float | None
    current_a: float | None
    temperature_c: float | None
    soc_pct: float | None
    status: str | None = Field(description="OCPP 1.6 status name", examples=["Charging"])
    session_event: str | None = Field(description="Started, Updated or Ended")
    flags: list[str] = Field(description="quality flags by name", examples=[["late"]])
    energy_export_wh: float | None = Field(description="register of the energy fed back")
    in_session_wh: float | None = Field(description="what its register accounts for in its session")
    outside_wh: float | None = Field(description="what it accounts for outside of any session")
    rejected_wh: float | None = Field(description="by which the register leapt, and nobody is charged")
    extra: str | None = Field(description="JSON: what has no column, and a session_id that is not its session's")


class WindowRow(TelemetryModel):
    """One connector's window, [window_start, window_start + interval). A quantity no reading had is null."""

    connector_id: int
    window_start: datetime
    readings: int
    flagged: int
    power_w_avg: float | None = Field(
        description="mean of the readings, rounded half up to the thousandth; so all means"
    )
    power_w_min: float | None
    power_w_max: float | None
    voltage_v_avg: float | None
    voltage_v_min: float | None
    voltage_v_max: float | None
    current_a_avg: float | None
    current_a_min: float | None
    current_a_max: float | None
    temperature_c_avg: float | None
    temperature_c_min: float | None
    temperature_c_max: float | None
    soc_pct_avg: float | None
    soc_pct_min: float | None
    soc_pct_max: float | None
    energy_wh_first: float | None = Field(description="first usable register")
    energy_wh_last: float | None = Field(description="last usable register")
    energy_wh: float | None = Field(
        description="last register less that of the connector's previous window (at most 31 days back); less the "
        "window's own first register where there is none or the register restarted since; null where neither is known"
    )
    in_session_wh: float = Field(description="what registers account for in sessions, as in the ledger of energy")
    outside_wh: float = Field(description="likewise, outside of any session")
    rejected_wh: float = Field(description="likewise, by which registers leapt; below 0 where that proved right")
    energy_export_wh_first: float | None = Field(description="first register of the energy fed back")
    energy_export_wh_last: float | None
    energy_export_wh: float | None = Field(description="energy fed back: from these as energy_wh from the others")
    revision: int | None = Field(default=None, description="1m only: how often the window was published")


class HistoryPage(TelemetryModel):
    """A page of a station's history, ordered by time and connector."""

    station_id: str
    interval: Interval
    from_: datetime = Field(alias="from", description="inclusive; the start of a window, for windows")
    to: datetime = Field(description="exclusive")
    rows: list[WindowRow] | list[ReadingRow]
    next: str | None = Field(description="address of the next page; null on the last")


class StatusInterval(TelemetryModel):
    """A time in which a connector had one status and fault, or in which its station was not heard."""

    connector_id: int
    since: datetime = Field(description="event time of the first reading that said so; of Silent the last arrival")
    until: datetime | None = Field(description="exclusive; null where it is not over at `to`")
    status: str = Field(
        description="OCPP 1.6 status name; Silent: its station was not heard for as long as expected",
        examples=["Faulted"],
    )
    error_code: str | None = Field(description="as the connector gave it; NoError is null", examples=["GroundFailure"])
    vendor_error_code: str | None


class ConnectorUptime(TelemetryModel):
    """How long a connector had each status."""

    connector_id: int
    time_ms: dict[str, int] = Field(
        description="by status, of those that it had; silences of its station over all others"
    )
    up_ms: int = Field(description="the sum of all statuses but Faulted, Unavailable and Silent")
    down_ms: int = Field(description="the sum of these three")
    unknown_ms: int = Field(description="the rest of the time: it had not yet said anything")
    uptime_pct: Decimal | None = Field(
        description="up of up and down, rounded down to four decimals; null where nothing is known"
    )


class Uptime(TelemetryModel):
    """How long the connectors of a station had each status in a time."""

    station_id: str
    from_: datetime = Field(alias="from", description="inclusive")
    to: datetime = Field(description="exclusive; not later than now")
    connectors: list[ConnectorUptime] = Field(description="by their numbers; the main meter has a status too")


class StatusIntervalPage(TelemetryModel):
    """A page of a station's status intervals, newest first; the first of a connector is what it is now, and why."""

    station_id: str
    from_: datetime = Field(alias="from", description="intervals that are not over then")
    to: datetime = Field(description="intervals that begin before")
    intervals: list[StatusInterval]
    next: str | None = Field(description="address of the next page; null on the last")


class UnclaimedStation(TelemetryModel):
    """A station that sends readings and is not registered."""

    station_id: str
    connectors: list[int]
    first_reading_at: datetime | None = Field(description="event time; null until its first window is written")
    last_reading_at: datetime | None
    readings_last_day: int = Field(description="those of the last 24 hours by event time, in windows")
    last_quarantined_at: datetime | None = Field(
        description="when its readings were last quarantined, where `telemetry.unclaimed` says so"
    )


class UnclaimedPage(TelemetryModel):
    """A page of unclaimed stations, by id."""

    stations: list[UnclaimedStation]
    next: str | None = Field(description="address of the next page; null on the last")


class LiveCost(TelemetryModel):
    """Cost of a running session, as if it ended with its newest reading. Decimals to the millionth.

    The parts are excl. VAT, before min_price and max_price of the tariff.
    """

    currency: str
    excl_vat: str
    incl_vat: str
    energy: str
    time: str
    parking: str
    flat: str
    tariff_version: UUID


class LiveSession(TelemetryModel):
    """The session a connector is in."""

    id: UUID
    session_id: str | None
    started_at: datetime
    energy_wh: float
    energy_export_wh: float = Field(0, description="fed back to the grid, by the export register")
    estimated: bool
    readings: int
    cost: LiveCost | None = Field(None, description="null where the station had no tariff when the session began")


class LiveConnector(TelemetryModel):
    """The newest values of a connector."""

    station_id: str
    connector_id: int
    ts: datetime
    received_at: datetime
    status: str | None
    power_w: float | None
    voltage_v: float | None
    current_a: float | None
    temperature_c: float | None
    soc_pct: float | None
    energy_wh: float | None
    energy_export_wh: float | None = Field(None, description="register of the energy fed back")
    flags: list[str]
    session: LiveSession | None


class LiveStation(TelemetryModel):
    """A station's connectors; empty until one has sent a reading since the live view began."""

    station_id: str
    connectors: list[LiveConnector]


class LiveTotal(TelemetryModel):
    """Sums over all connectors asked for, also those that `limit` left out of the list."""

    stations: int
    connectors: int
    by_status: dict[str, int] = Field(description="connectors by status; Unknown where readings name none")
    power_w: float


class LiveFleet(TelemetryModel):
    """Many stations' connectors, ordered by station and connector."""

    total: LiveTotal
    truncated: bool = Field(description="true where `limit` left connectors out of the list")
    silent: list[str] = Field(description="stations asked for by name that the live view does not have")
    connectors: list[LiveConnector]


class LedgerEntry(TelemetryModel):
    """accepted = stored + duplicate + quarantined + in_flight, always."""

    accepted: int = Field(description="items that gateways have accepted; each counts within 0.1 s of its 202")
    stored: int
    duplicate: int
    quarantined: int
    replayed: int = Field(description="of `quarantined`, those taken again since, which `accepted` counts once more")
    in_windows: int = Field(description="of the stored ones, those counted in 1m windows; under load 2 s behind")
    in_flight: int = Field(description="accepted, and not yet stored, duplicate or quarantined")
    closed: bool = Field(description="true where nothing is in flight and the windows count all that is stored")


class LedgerPartition(LedgerEntry):
    """One partition's entry."""

    partition: int


class Ledger(TelemetryModel):
    """The outcome of every accepted item, from one snapshot."""

    total: LedgerEntry
    partitions: list[LedgerPartition]


class EnergyEntry(TelemetryModel):
    """rise_wh = in_sessions_wh + outside_wh + rejected_wh, always; Wh, exact to the thousandth."""

    rise_wh: float = Field(description="what the meter rose by")
    in_sessions_wh: float
    outside_wh: float = Field(description="while no session was open; `flag=outside_session` lists where")
    rejected_wh: float = Field(description="which nobody is charged for")
    rejected_by_reason_wh: dict[RejectReason, float] = Field(
        description="the parts of rejected_wh. register_leapt: the register leapt further than the connector can "
        "deliver, and went on from there"
    )


class ConnectorEnergy(EnergyEntry):
    """One connector's entry."""

    connector_id: int


class Energy(TelemetryModel):
    """The ledger of energy of a station: minutes of event time, under load 2 s behind the readings."""

    station_id: str
    start: datetime = Field(alias="from")
    end: datetime = Field(alias="to")
    total: EnergyEntry = Field(description="of all connectors but the main meter")
    connectors: list[ConnectorEnergy]
    main_meter: EnergyEntry | None = Field(description="connector 0, which measures the others once more")


class QuarantinedItem(TelemetryModel):
    """A refused item, stored with the reason."""

    id: int
    partition: int
    received_at: datetime
    station_id: str | None
    connector_id: int | None
    reason: str
    detail: str
    raw: str = Field(description="the item as it was received")
    raw_encoding: Literal["utf-8", "base64"] = Field(description="how `raw` is written: text where it is text")
    replayed_at: datetime | None = Field(description="when it was taken again; the item stays here all the same")
    replayed_by: str | None = Field(description="by whom: the kind of token and its subject or id")
    replay_correlation_id: str | None = Field(description="of the request that did it")


class Released(TelemetryModel):
    """What was released of a station's readings."""

    station_id: str
    released: int = Field(description="readings that are on their way, by this request")
    left: int = Field(description="those that still wait: ask again")


class QuarantinePage(TelemetryModel):
    """A page of the quarantine, newest first."""

    items: list[QuarantinedItem]
    next: str | None = Field(description="address of the next page; null on the last")
