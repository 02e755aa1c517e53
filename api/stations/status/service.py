"""The status of connectors: taken from events, and shown. No HTTP and no SQL here."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec

from api.stations.status.codes import AVAILABLE, BUSY, CODES, LABELS, SILENT, UNKNOWN
from api.stations.status.metrics import StatusMetrics
from api.stations.status.models import ConnectorStatus, Received, RecentChange, StationStatus
from api.stations.status.store import (
    ReceivedOf,
    Reservation,
    Seen,
    StatusStore,
    add_received,
    put_reservations,
    put_statuses,
)
from kit.clock import Clock, from_ms
from kit.errors import Unprocessable
from kit.messaging.consumer import Delivered, moment_of
from kit.messaging.outbox import Transaction
from kit.web.errors import NotFound
from schemas.events import RESERVING, Event, ReservationChanged, StationStatusChanged, StatusChange, TelemetryReceived

KEEP: Final = timedelta(days=1)  # reservations that are over


class StatusService:
    """The use cases, one method each."""

    def __init__(self, store: StatusStore, clock: Clock, metrics: StatusMetrics) -> None:
        self._store = store
        self._clock = clock
        self._metrics = metrics

    async def handle(self, connection: Transaction, events: Sequence[Delivered[Event[StationStatusChanged]]]) -> None:
        """station.status_changed.v1: of one connector the highest revision counts."""
        changes = [change for one in events for change in one.event.payload.changes]
        if not changes:
            return
        newest: dict[tuple[str, int], Seen] = {}
        for change in changes:
            seen = _seen(change)
            key = (seen.station_id, seen.connector_id)
            if key not in newest or newest[key].revision < seen.revision:
                newest[key] = seen
        await put_statuses(connection, list(newest.values()), changes)

    async def reserve(self, connection: Transaction, events: Sequence[Delivered[Event[ReservationChanged]]]) -> None:
        """reservation.created.v1 and its like: of one reservation the highest revision counts."""
        await put_reservations(connection, [_reservation(one.event.payload) for one in events])

    async def receive(self, connection: Transaction, events: Sequence[Delivered[Event[TelemetryReceived]]]) -> None:
        """telemetry.received.v1: readings of each station add up, whatever the order of events."""
        received = [
            ReceivedOf(
                station.station_id,
                moment_of(station.newest_ts),
                station.readings,
                moment_of(one.event.metadata.timestamp),
            )
            for one in events
            for station in one.event.payload.stations
        ]
        if received:
            await add_received(connection, received)

    async def forget(self) -> None:
        """Delete reservations that are long over."""
        await self._store.forget_reservations(self._now() - KEEP)

    async def count(self) -> None:
        """Count the connectors of each status, for the metrics."""
        found = await self._store.by_status()
        for number in {UNKNOWN, *LABELS, *found}:
            self._metrics.connectors.labels(LABELS.get(number, "Unknown")).set(found.get(number, 0))

    async def status(self, station_id: str) -> StationStatus:
        """What the station's connectors do now, and why. Raises NotFound where it is not registered and never spoke."""
        now = self._now()
        rows = await self._store.connectors(station_id, now)
        registered = await self._store.is_registered(station_id)
        received = await self._store.received(station_id)
        if not (rows or registered or received):
            raise NotFound(f"no station {station_id}: nobody registered it, and nothing is known of it")
        busy = [row for row in rows if row["status"] in BUSY and row["evse_id"] is not None]
        at = {row["evse_id"]: row["connector_id"] for row in busy}
        return StationStatus(
            station_id=station_id,
            at=now,
            registered=registered,
            received=Received(**received) if received is not None else None,
            connectors=[_connector(row, at) for row in rows],
        )

    def _now(self) -> datetime:
        return from_ms(self._clock.now_ms())


def _connector(row: Mapping[str, Any], busy: Mapping[str, int]) -> ConnectorStatus:
    reserved, status = row["reserved_until"] is not None, row["status"]
    elsewhere = busy.get(row["evse_id"] or "", row["connector_id"]) != row["connector_id"]
    shown = LABELS.get(status, "Unknown")
    if status == AVAILABLE and reserved:
        shown = "Reserved"
    elif status == AVAILABLE and elsewhere:
        shown = "Unavailable"
    recent = msgspec.json.decode(row["changes"]) if row["changes"] is not None else []
    return ConnectorStatus(
        connector_id=row["connector_id"],
        registered=row["known"],
        evse_id=row["evse_id"],
        status=shown,
        reported=LABELS.get(status) if status not in (UNKNOWN, SILENT) else None,
        free=status == AVAILABLE and not reserved and not elsewhere,
        error_code=row["error_code"],
        since=row["since"],
        silent_since=row["since"] if status == SILENT else None,
        reserved_until=row["reserved_until"],
        occupied_by=busy[row["evse_id"]] if status == AVAILABLE and elsewhere else None,
        why=[RecentChange(**one) for one in recent],
    )


def _seen(change: StatusChange) -> Seen:
    code = CODES.get(change.status)
    if code is None:
        raise Unprocessable(f"{change.status!r} of {change.station_id} is no status: {', '.join(CODES)}")
    since = moment_of(change.since)
    return Seen(change.station_id, change.connector_id, code, change.error_code, since, change.revision)


def _reservation(reservation: ReservationChanged) -> Reservation:
    return Reservation(
        reservation.reservation_id,
        reservation.revision,
        reservation.station_id,
        reservation.connector_id,
        reservation.bay,
        moment_of(reservation.starts_at),
        moment_of(reservation.ends_at),
        reservation.status in RESERVING,
    )
