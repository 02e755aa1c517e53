"""The envelope of every event, and the payloads of all event types."""

from typing import Any, Final, Generic, TypeVar
from uuid import UUID

import msgspec

from schemas.topics import exchange_of, routing_key


class EventMetadata(msgspec.Struct, frozen=True, rename="camel"):
    """Id, type, source, time and trace of an event. Consumers deduplicate by `event_id`."""

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
    def exchange(self) -> str:
        """The exchange that the event is published to."""
        return exchange_of(self.metadata.type)

    @property
    def routing_key(self) -> str:
        """The routing key of the event on its exchange."""
        return routing_key(self.metadata.type)

    def encoded(self) -> bytes:
        """The JSON bytes of the event."""
        return msgspec.json.encode(self)


def envelope_of(
    event_type: str,
    event_id: UUID,
    payload: msgspec.Struct | dict[str, Any],
    *,
    source: str,
    timestamp: str,
    correlation_id: str = "",
    traceparent: str = "",
) -> Envelope:
    """An event: `session.completed.v1` has version 1. Without a correlation id it gets its own event id as one."""
    metadata = EventMetadata(
        event_id=event_id,
        timestamp=timestamp,
        source=source,
        correlation_id=correlation_id or str(event_id),
        type=event_type,
        version=int(event_type.rpartition(".v")[2]),
        traceparent=traceparent,
    )
    return Envelope(metadata, payload if isinstance(payload, dict) else msgspec.to_builtins(payload))


P = TypeVar("P")


class Event(msgspec.Struct, Generic[P], frozen=True):
    """An envelope with a typed payload: `msgspec.json.Decoder(Event[SessionCompleted]).decode`."""

    metadata: EventMetadata
    payload: P


class SessionStarted(msgspec.Struct, frozen=True, kw_only=True):
    """session.started.v1"""

    id: UUID  # voltstream's id of the session
    station_id: str
    connector_id: int
    session_id: str | None  # the device's id
    started_at: str  # RFC 3339, UTC
    revision: int


class Consumption(msgspec.Struct, frozen=True, kw_only=True):
    """Quantity used of one tariff component: a dimension of one of its elements (docs/adr/0009)."""

    element: int  # index in Tariff.elements
    dimension: str  # schemas.tariff.Dimension
    volume: int  # ENERGY: mWh; TIME, PARKING_TIME: ms; FLAT: 1. Before step_size
    since: str  # RFC 3339, UTC: when it was first used
    last: bool  # step_size applies to it: the last used of ENERGY, the last used of the two times


class Money(msgspec.Struct, frozen=True, kw_only=True):
    """An amount, exact, in millionths of the currency."""

    currency: str
    excl_vat_micros: int
    incl_vat_micros: int


class Pricing(msgspec.Struct, frozen=True, kw_only=True):
    """A session's tariff, consumption and cost."""

    version: UUID  # of the tariff, from pricing; never edited
    time_zone: str  # IANA, of the station
    tariff: dict[str, Any]  # OCPI Tariff, as published
    consumption: list[Consumption]
    cost: Money


class SessionCompleted(msgspec.Struct, frozen=True, kw_only=True):
    """session.completed.v1: published again with a higher revision when late readings changed a completed session."""

    id: UUID
    station_id: str
    connector_id: int
    session_id: str | None
    started_at: str
    ended_at: str
    end_reason: str  # schemas.session.END_REASON_NAMES
    estimated: bool  # no explicit end, or energy (partly) integrated from power
    energy_uj: int  # exact: microjoules (mW x ms); 1 Wh = 3.6e9
    energy_wh: float  # for people; money is computed from energy_uj
    readings: int
    flagged: int
    revision: int
    pricing: Pricing | None = None  # None: the station had no tariff when the session began
    held: tuple[str, ...] = ()  # schemas.session.hold_names: why a person is to look at it before it is billed
    void: bool = False  # below the operator's thresholds: nothing is owed
    energy_export_wh: float = 0.0  # for people; vehicle to grid


class SessionCost(msgspec.Struct, frozen=True, kw_only=True):
    """The cost of a running session to date."""

    id: UUID
    station_id: str
    connector_id: int
    session_id: str | None
    as_of: str  # event time of its newest reading
    energy_uj: int
    version: UUID  # of the tariff
    cost: Money


class SessionCostUpdated(msgspec.Struct, frozen=True, kw_only=True):
    """session.cost_updated.v1: changed costs of sessions that one flush wrote; of a session the newest event counts."""

    partition: int
    sessions: list[SessionCost]


class PricingUpdated(msgspec.Struct, frozen=True, kw_only=True):
    """pricing.updated.v1: a tariff version was published."""

    version: UUID
    target_kind: str  # station | group | default
    target: str  # the station or group; empty for default
    effective_from: str  # RFC 3339, UTC
    time_zone: str
    tariff: dict[str, Any]
    reason: str  # operator | demand


class SessionRequested(msgspec.Struct, frozen=True, kw_only=True):
    """session.requested.v1: a driver wants to charge; the station must start a session."""

    request_id: UUID
    station_id: str
    connector_id: int
    driver_id: str
    reservation_id: str | None
    requested_at: str


class SessionStopRequested(msgspec.Struct, frozen=True, kw_only=True):
    """session.stop_requested.v1"""

    request_id: UUID | None  # of the session.requested; None: the session was not requested
    session_id: UUID | None  # voltstream's id of the session, where it runs already
    station_id: str
    connector_id: int
    driver_id: str | None  # None: an operator stops it
    requested_at: str


class SessionAssigned(msgspec.Struct, frozen=True, kw_only=True):
    """session.assigned.v1: the driver that a session belongs to. May come before or after its completion.

    Published once as a rule. If events overtook each other and another session is the one that the driver requested,
    the assignment is withdrawn and the other session is assigned: of one session the highest revision counts.
    """

    session_id: UUID  # voltstream's id of the session
    request_id: UUID
    driver_id: str
    reservation_id: str | None
    revision: int = 1  # of this session's assignment
    withdrawn: bool = False  # the session is not that driver's after all


class ReservationConfirmed(msgspec.Struct, frozen=True, kw_only=True):
    """reservation.confirmed.v1: a reservation is over, used or not, and its time is to be charged."""

    reservation_id: str
    station_id: str
    connector_id: int | None
    driver_id: str
    starts_at: str
    ends_at: str  # when charging began, or when it expired
    expired: bool
    version: UUID  # of the tariff at its start
    time_zone: str
    tariff: dict[str, Any]


class StationConnector(msgspec.Struct, frozen=True, kw_only=True):
    """A connector, as the registry has it. None: nobody said."""

    connector_id: int
    evse_id: str | None
    standard: str | None  # OCPI ConnectorType
    format: str | None  # OCPI ConnectorFormat
    power_type: str | None  # OCPI PowerType
    rated_power_w: int | None


class StationBay(msgspec.Struct, frozen=True, kw_only=True):
    """A parking bay of a station."""

    bay: str  # its name at the station
    connectors: tuple[int, ...]  # those that a vehicle in it can reach
    restrictions: tuple[str, ...]  # OCPI ParkingRestriction
    time_limit_s: int | None


class StationChanged(msgspec.Struct, frozen=True, kw_only=True):
    """station.created.v1, station.updated.v1 and station.removed.v1: all of a station, so that a consumer needs nothing
    else. Of one station the highest revision counts."""

    station_id: str
    revision: int  # counts the station's changes from 1; goes on after it was removed and registered again
    name: str | None
    site: str | None  # stations of one site stand together: a reservation may move from one to another
    group: str | None  # pricing's group
    organisation: str | None
    time_zone: str | None  # IANA
    latitude_udeg: int | None  # millionths of a degree, WGS 84
    longitude_udeg: int | None
    connectors: tuple[StationConnector, ...]
    bays: tuple[StationBay, ...]
    changed_at: str  # RFC 3339, UTC


class StatusChange(msgspec.Struct, frozen=True, kw_only=True):
    """A connector's newest interval of one status and fault code."""

    station_id: str
    connector_id: int
    status: str  # schemas.reading.STATUS_INTERVAL_LABELS; "Silent": its station was not heard for as long as expected
    previous: str | None
    error_code: str | None
    since: str  # RFC 3339, UTC: event time of the first reading that said so; of Silent when the station was last heard
    revision: int  # of two changes of a connector the higher one is newer; not every number is used


class StationStatusChanged(msgspec.Struct, frozen=True, kw_only=True):
    """station.status_changed.v1: connectors whose status changed, in chunks of at most a thousand."""

    changes: list[StatusChange]


class OccupancyChange(msgspec.Struct, frozen=True, kw_only=True):
    """A bay's newest interval in which its sensor says the same."""

    station_id: str
    bay: str  # as the sensor names it: it may be registered nowhere
    occupied: bool
    since: str  # RFC 3339, UTC: event time of the first event that said so; a late one may move it
    revision: int  # of two changes of a bay the higher one is newer; not every number is used


class BayOccupancyChanged(msgspec.Struct, frozen=True, kw_only=True):
    """bay.occupancy_changed.v1: bays whose sensors say otherwise than before, in chunks of at most a thousand."""

    changes: list[OccupancyChange]


RESERVING: Final = frozenset({"held", "confirmed", "active"})
"""Statuses of a reservation that keeps its connector or bay, for its time, from everybody else."""


class ReservationChanged(msgspec.Struct, frozen=True, kw_only=True):
    """reservation.created.v1, .cancelled.v1, .expired.v1 and .no_show.v1: of one the highest revision counts.

    While it goes on every change (confirmed, active, moved) is a created.v1 again."""

    reservation_id: str
    revision: int
    station_id: str
    connector_id: int | None  # None: of a bay
    bay: str | None
    driver_id: str
    starts_at: str  # RFC 3339, UTC
    ends_at: str
    status: str  # held | confirmed | active | used | expired | no-show | cancelled
    reason: str | None  # why it changed, in words for the driver
    moved_from: str | None  # the station that it was at before this change; None: it was not moved by it


class ParkingOverstayed(msgspec.Struct, frozen=True, kw_only=True):
    """parking.overstayed.v1: a vehicle stands in a bay or at a connector for longer than it may. Once of each time."""

    station_id: str
    connector_id: int | None  # None: of a bay
    bay: str | None
    driver_id: str | None  # None: nobody knows whose vehicle it is
    session_id: UUID | None  # voltstream's id of the driver's session there
    reason: str  # charging | reservation | time_limit: after what it should have left
    since: str | None  # RFC 3339, UTC: it stands there; None: not known
    idle_since: str | None  # it stands there without charging
    overstay_from: str  # after the grace
    fee_per_hour: str | None  # of standing without charging, excl. VAT, as a decimal; None: the tariff has none
    currency: str | None


class NotificationDelivery(msgspec.Struct, frozen=True, kw_only=True):
    """notification.sent.v1 and notification.failed.v1: the end of one delivery by one channel."""

    notification_id: UUID
    event_id: UUID | None  # of the event that caused it; None: an operator's request
    kind: str
    channel: str  # email | push | sms | webhook | chat
    subject: str  # the recipient: a driver, an operator's role, an address book's name
    attempts: int
    error: str | None  # of a failed one


class InvoiceChanged(msgspec.Struct, frozen=True, kw_only=True):
    """invoice.created.v1 and invoice.updated.v1"""

    invoice_id: UUID
    number: str
    kind: str  # invoice | credit_note
    session_id: UUID | None
    reservation_id: str | None
    driver_id: str | None
    version: int
    status: str
    currency: str
    total_excl_micros: int
    total_incl_micros: int
    payable_minor: int  # amount to pay, in minor units of the currency
    replaces: UUID | None
    set_off_minor: int = 0  # of it, paid by credit notes; of a credit note, below 0: what of it has paid invoices


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
    energy_export_wh_first: float | msgspec.UnsetType = msgspec.UNSET  # register; left out where there is none
    energy_export_wh_last: float | msgspec.UnsetType = msgspec.UNSET


class TelemetryAggregated(msgspec.Struct, frozen=True, kw_only=True):
    """telemetry.aggregated.v1: the windows one flush closed, in chunks of at most a thousand."""

    partition: int
    windows: list[WindowAggregate]


class StationReceived(msgspec.Struct, frozen=True, kw_only=True):
    """What one station sent."""

    station_id: str
    readings: int  # stored
    newest_ts: str  # of these


class TelemetryReceived(msgspec.Struct, frozen=True, kw_only=True):
    """telemetry.received.v1: the stations of which one flush stored readings, in chunks of at most a thousand. Only
    where `telemetry.received_events` is on."""

    partition: int
    readings: int  # stored, of these stations
    newest_ts: str
    stations: list[StationReceived]


class EventFailed(msgspec.Struct, frozen=True, kw_only=True):
    """event.failed.v1: a consumer gave up an event, which is now a dead letter of its queue."""

    queue: str
    event_id: UUID | None
    event_type: str
    attempts: int
    error: str


class ReportGenerated(msgspec.Struct, frozen=True, kw_only=True):
    """report.generated.v1: a report is done and can be fetched."""

    report_id: UUID
    kind: str
    from_moment: str  # RFC 3339, UTC: the time that it is of
    to_moment: str
    requested_by: str
    computed_at: str
    rows: dict[str, int]  # by table


class ConfigUpdated(msgspec.Struct, frozen=True, kw_only=True):
    """config.updated.v1: an operator changed a setting. Consumers read the configuration anew."""

    revision: int  # of the whole configuration: of two events the higher one is newer
    name: str
    version: int  # of this setting
    before: dict[str, Any] | None  # {"value": …} or {"rule": …}; None: it was at its default
    after: dict[str, Any] | None
    changed_by: str
    reason: str
