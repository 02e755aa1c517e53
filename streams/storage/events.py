"""From committed rows to the events about them. Pure.

Ids of events about a session are computed from the content, so that it has the same however often it is published;
those of events about a flush are made once, with it.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, TypeVar
from uuid import UUID, uuid4, uuid5

from kit.clock import format_rfc3339
from schemas.events import (
    BayOccupancyChanged,
    Consumption,
    Money,
    OccupancyChange,
    Pricing,
    SessionCompleted,
    SessionCost,
    SessionCostUpdated,
    SessionStarted,
    StationReceived,
    StationStatusChanged,
    StatusChange,
    TelemetryAggregated,
    TelemetryReceived,
    WindowAggregate,
    envelope_of,
)
from schemas.reading import MILLI, STATUS_INTERVAL_LABELS
from schemas.session import END_REASON_NAMES, EXPLICIT_ENDS, hold_names
from schemas.topics import (
    BAY_OCCUPANCY_CHANGED,
    SESSION_COMPLETED,
    SESSION_COST_UPDATED,
    SESSION_STARTED,
    STATION_STATUS_CHANGED,
    TELEMETRY_AGGREGATED,
    TELEMETRY_RECEIVED,
)
from streams.effects import BayChanged, ComponentVolume, CostUpdate, Effects, StationReadings, StatusChanged
from streams.session_ids import session_uuid
from streams.tariffs.version import TariffVersion

SOURCE: Final = "streams"
WINDOWS_PER_EVENT_MAX: Final = 1_000  # ~300 B each: one event stays below 300 kB
STATIONS_PER_EVENT_MAX: Final = 1_000  # ~100 B each
STATUSES_PER_EVENT_MAX: Final = 1_000  # ~200 B each
BAYS_PER_EVENT_MAX: Final = 1_000  # ~150 B each
SESSIONS_PER_EVENT_MAX: Final = 500  # ~350 B each: one event stays below 200 kB
_UJ_PER_WH: Final = 3_600_000_000
T = TypeVar("T")
_NAMESPACE: Final = UUID("0f6f2b61-6a0e-4a4e-9a53-7c0a4f8e2d10")


class SessionEventRow(NamedTuple):
    """A session as stored, for its event."""

    session_key: int
    id: UUID
    station_id: str
    connector_id: int
    session_id: str | None
    started_ms: int
    ended_ms: int | None
    end_reason: int
    energy_uj: int
    integrated_uj: int
    readings: int
    flagged: int
    revision: int
    tariff_key: int | None
    excl_vat_micros: int | None
    incl_vat_micros: int | None
    hold: int
    void: int
    export_mwh: int


class WindowEventRow(NamedTuple):
    """A window as stored, for its event."""

    station_id: str
    connector_id: int
    bucket_ms: int
    revision: int
    readings: int
    flagged: int
    power_mw_n: int
    power_mw_sum: int
    power_mw_min: int | None
    power_mw_max: int | None
    voltage_mv_n: int
    voltage_mv_sum: int
    current_ma_n: int
    current_ma_sum: int
    temperature_mc_max: int | None
    energy_first_mwh: int | None
    energy_last_mwh: int | None
    energy_export_first_mwh: int | None
    energy_export_last_mwh: int | None


@dataclass(frozen=True, slots=True)
class OutboxRow:
    """An event on its way to telemetry.outbox."""

    event_id: UUID
    exchange: str
    routing_key: str
    body: bytes


@dataclass(frozen=True, slots=True)
class FlushContext:
    """When and in which trace the events of one flush are published."""

    now_ms: int
    traceparent: str


def session_started(row: SessionEventRow, context: FlushContext) -> OutboxRow:
    """session.started.v1"""
    payload = SessionStarted(
        id=row.id,
        station_id=row.station_id,
        connector_id=row.connector_id,
        session_id=row.session_id,
        started_at=format_rfc3339(row.started_ms),
        revision=row.revision,
    )
    return _event(SESSION_STARTED, f"{row.id}", payload, context)


def consumption_of(used: Sequence[ComponentVolume]) -> list[Consumption]:
    """As it is published and stored."""
    return [
        Consumption(
            element=one.element,
            dimension=one.dimension,
            volume=one.volume,
            since=format_rfc3339(one.since_ms),
            last=one.last,
        )
        for one in used
    ]


def pricing_of(row: SessionEventRow, effects: Effects) -> Pricing | None:
    """How a completed session is priced; None without a tariff."""
    if row.tariff_key is None or row.excl_vat_micros is None or row.incl_vat_micros is None:
        return None
    version = effects.tariffs[row.tariff_key]
    return Pricing(
        version=version.id,
        time_zone=version.time_zone,
        tariff=version.document,
        consumption=consumption_of(effects.consumption[row.session_key]),
        cost=Money(
            currency=version.tariff.currency,
            excl_vat_micros=row.excl_vat_micros,
            incl_vat_micros=row.incl_vat_micros,
        ),
    )


def session_completed(row: SessionEventRow, pricing: Pricing | None, context: FlushContext) -> OutboxRow:
    """session.completed.v1. Raises ValueError for a session that is open."""
    if row.ended_ms is None:
        raise ValueError(f"session {row.session_key} is open")
    payload = SessionCompleted(
        id=row.id,
        station_id=row.station_id,
        connector_id=row.connector_id,
        session_id=row.session_id,
        started_at=format_rfc3339(row.started_ms),
        ended_at=format_rfc3339(row.ended_ms),
        end_reason=END_REASON_NAMES[row.end_reason],
        estimated=row.end_reason not in EXPLICIT_ENDS or row.integrated_uj != 0,
        energy_uj=row.energy_uj,
        energy_wh=row.energy_uj / _UJ_PER_WH,
        readings=row.readings,
        flagged=row.flagged,
        revision=row.revision,
        pricing=pricing,
        held=hold_names(row.hold),
        void=row.void != 0,
        energy_export_wh=row.export_mwh / 1_000,
    )
    return _event(SESSION_COMPLETED, f"{row.id}/{row.revision}", payload, context)


def session_cost_updated(partition: int, effects: Effects, context: FlushContext) -> list[OutboxRow]:
    """session.cost_updated.v1, as many as the sessions need."""
    payloads = [
        SessionCostUpdated(partition=partition, sessions=[_cost(update, effects.tariffs) for update in chunk])
        for chunk in _chunks(effects.costs, SESSIONS_PER_EVENT_MAX)
    ]
    return _events(SESSION_COST_UPDATED, payloads, context)


def _cost(update: CostUpdate, tariffs: Mapping[int, TariffVersion]) -> SessionCost:
    version = tariffs[update.tariff_key]
    return SessionCost(
        id=session_uuid(update.session_key),
        station_id=update.station_id,
        connector_id=update.connector_id,
        session_id=update.session_id,
        as_of=format_rfc3339(update.as_of_ms),
        energy_uj=update.energy_uj,
        version=version.id,
        cost=Money(
            currency=version.tariff.currency,
            excl_vat_micros=update.excl_vat_micros,
            incl_vat_micros=update.incl_vat_micros,
        ),
    )


def telemetry_aggregated(partition: int, rows: Sequence[WindowEventRow], context: FlushContext) -> list[OutboxRow]:
    """telemetry.aggregated.v1, as many as the windows need."""
    payloads = [
        TelemetryAggregated(partition=partition, windows=[_window(row) for row in chunk])
        for chunk in _chunks(rows, WINDOWS_PER_EVENT_MAX)
    ]
    return _events(TELEMETRY_AGGREGATED, payloads, context)


def telemetry_received(partition: int, effects: Effects, context: FlushContext) -> list[OutboxRow]:
    """telemetry.received.v1, as many as the stations need."""
    payloads = [_received(partition, chunk) for chunk in _chunks(effects.by_station, STATIONS_PER_EVENT_MAX)]
    return _events(TELEMETRY_RECEIVED, payloads, context)


def _received(partition: int, stations: Sequence[StationReadings]) -> TelemetryReceived:
    return TelemetryReceived(
        partition=partition,
        readings=sum(station.readings for station in stations),
        newest_ts=format_rfc3339(max(station.newest_ms for station in stations)),
        stations=[
            StationReceived(
                station_id=station.station_id,
                readings=station.readings,
                newest_ts=format_rfc3339(station.newest_ms),
            )
            for station in stations
        ],
    )


def station_status_changed(commit: int, effects: Effects, context: FlushContext) -> list[OutboxRow]:
    """station.status_changed.v1, as many as the connectors need."""
    payloads = [
        StationStatusChanged(changes=[_status_change(change, commit) for change in chunk])
        for chunk in _chunks(effects.status.changes, STATUSES_PER_EVENT_MAX)
    ]
    return _events(STATION_STATUS_CHANGED, payloads, context)


def _status_change(change: StatusChanged, commit: int) -> StatusChange:
    return StatusChange(
        station_id=change.station_id,
        connector_id=change.connector_id,
        status=STATUS_INTERVAL_LABELS[change.status],
        previous=STATUS_INTERVAL_LABELS[change.previous] if change.previous else None,
        error_code=change.error_code,
        since=format_rfc3339(change.since_ms),
        revision=commit,
    )


def bay_occupancy_changed(commit: int, effects: Effects, context: FlushContext) -> list[OutboxRow]:
    """bay.occupancy_changed.v1, as many as the bays need."""
    payloads = [
        BayOccupancyChanged(changes=[_occupancy_change(change, commit) for change in chunk])
        for chunk in _chunks(effects.bays.changes, BAYS_PER_EVENT_MAX)
    ]
    return _events(BAY_OCCUPANCY_CHANGED, payloads, context)


def _occupancy_change(change: BayChanged, commit: int) -> OccupancyChange:
    return OccupancyChange(
        station_id=change.station_id,
        bay=change.bay,
        occupied=change.occupied,
        since=format_rfc3339(change.since_ms),
        revision=commit,
    )


def any_without_rows(effects: Effects) -> bool:
    """Whether there is anything to publish that is not read back from the tables."""
    return bool(effects.costs or effects.by_station or effects.status.changes or effects.bays.changes)


def _window(row: WindowEventRow) -> WindowAggregate:
    return WindowAggregate(
        station_id=row.station_id,
        connector_id=row.connector_id,
        window_start=format_rfc3339(row.bucket_ms),
        revision=row.revision,
        readings=row.readings,
        flagged=row.flagged,
        power_w_avg=_mean(row.power_mw_sum, row.power_mw_n),
        power_w_min=_thousandth(row.power_mw_min),
        power_w_max=_thousandth(row.power_mw_max),
        voltage_v_avg=_mean(row.voltage_mv_sum, row.voltage_mv_n),
        current_a_avg=_mean(row.current_ma_sum, row.current_ma_n),
        temperature_c_max=_thousandth(row.temperature_mc_max),
        energy_wh_first=_thousandth(row.energy_first_mwh),
        energy_wh_last=_thousandth(row.energy_last_mwh),
        **_exports(row),
    )


def _exports(row: WindowEventRow) -> dict[str, float]:
    """Left out where no reading had that register: few have."""
    if row.energy_export_first_mwh is None or row.energy_export_last_mwh is None:
        return {}
    return {
        "energy_export_wh_first": row.energy_export_first_mwh / MILLI,
        "energy_export_wh_last": row.energy_export_last_mwh / MILLI,
    }


def _thousandth(value: int | None) -> float | None:
    return None if value is None else value / MILLI


def _mean(total: int, count: int) -> float | None:
    return total / count / MILLI if count else None


def _chunks(rows: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    return (rows[at : at + size] for at in range(0, len(rows), size))


def _events(type_: str, payloads: Sequence[Any], context: FlushContext) -> list[OutboxRow]:
    """The events of one flush. Their ids are made here, once: they are stored with the flush, which is committed once.
    One of the flush's number would be that of another database's flush, whose events a broker may still hold."""
    return [_published(uuid4(), type_, payload, context) for payload in payloads]


def _event(type_: str, name: str, payload: Any, context: FlushContext) -> OutboxRow:
    return _published(uuid5(_NAMESPACE, f"{type_}/{name}"), type_, payload, context)


def _published(event_id: UUID, type_: str, payload: Any, context: FlushContext) -> OutboxRow:
    timestamp = format_rfc3339(context.now_ms)
    envelope = envelope_of(
        type_, event_id, payload, source=SOURCE, timestamp=timestamp, traceparent=context.traceparent
    )
    return OutboxRow(event_id, envelope.exchange, envelope.routing_key, envelope.encoded())
