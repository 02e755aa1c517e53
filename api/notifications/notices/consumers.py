"""Notices of events: what is said to whom."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from decimal import Decimal
from typing import Any, Final
from uuid import UUID, uuid5

from api.notifications.notices import store
from api.notifications.notices.alarm_window import next_window
from api.notifications.notices.preparation import Notice, Preparer
from kit.clock import Clock
from kit.messaging.consumer import Delivered
from kit.messaging.outbox import Transaction
from schemas.events import (
    Event,
    EventFailed,
    InvoiceChanged,
    ParkingOverstayed,
    ReservationChanged,
    SessionAssigned,
    SessionCompleted,
    SessionStarted,
    StationChanged,
    StationStatusChanged,
    StatusChange,
)
from schemas.topics import EVENT_FAILED, RESERVATION_CREATED, group_queue, routing_key

ALARMING: Final = frozenset({"Faulted", "Silent"})  # statuses
CONNECTORS_SHOWN_MAX: Final = 50
# A session's driver may become known so long after the last event of it.
REMEMBERED: Final = timedelta(days=7)
# An alarm about our own queue of alarms would be followed by the next one.
_OWN_QUEUE: Final = group_queue("notifications", EVENT_FAILED)


def driver_subject(driver_id: str) -> str:
    """The subject of a driver."""
    return f"driver/{driver_id}"


class NoticeConsumers:
    """The handlers of all consumed events, each in the event's transaction."""

    def __init__(self, preparer: Preparer, clock: Clock) -> None:
        self._preparer = preparer
        self._clock = clock

    async def invoices(self, connection: Transaction, batch: Sequence[Delivered[Event[InvoiceChanged]]]) -> None:
        """invoice.created.v1: the document to its driver, with the PDF."""
        await self._preparer.prepare(
            connection, [notice for one in batch if (notice := _of_invoice(one.event)) is not None]
        )

    async def reservations(
        self, connection: Transaction, batch: Sequence[Delivered[Event[ReservationChanged]]]
    ) -> None:
        """reservation.created.v1, .cancelled.v1, .expired.v1 and .no_show.v1."""
        names = await self._names(connection, [one.event.payload.station_id for one in batch])
        notices = [notice for one in batch if (notice := _of_reservation(one.event, names)) is not None]
        await self._preparer.prepare(connection, notices)

    async def sessions_started(
        self, connection: Transaction, batch: Sequence[Delivered[Event[SessionStarted]]]
    ) -> None:
        """session.started.v1: to its driver, once that is known."""
        names = await self._names(connection, [one.event.payload.station_id for one in batch])
        news = []
        for event in (one.event for one in batch):
            said = {"event_id": str(event.metadata.event_id), "context": _start_context(event.payload, names)}
            news.append(store.SessionNews(event.payload.id, started=said))
        notices = [
            _of_session("session_started", known.id, known.driver_id, said.started)
            for said, known in zip(news, await self._merged(connection, news), strict=True)
            if known.driver_id is not None and said.started is not None and known.completed is None
        ]
        await self._preparer.prepare(connection, notices)

    async def sessions_completed(
        self, connection: Transaction, batch: Sequence[Delivered[Event[SessionCompleted]]]
    ) -> None:
        """session.completed.v1: to its driver, once; later revisions are for the receipt to say."""
        names = await self._names(connection, [one.event.payload.station_id for one in batch])
        news = []
        for event in (one.event for one in batch):
            payload = event.payload
            if not payload.void and payload.end_reason != "withdrawn":
                said = {"event_id": str(event.metadata.event_id), "context": _end_context(payload, names)}
                news.append(store.SessionNews(payload.id, completed=said))
        notices = [
            _of_session("session_completed", known.id, known.driver_id, known.completed)
            for known in await self._merged(connection, news)
            if known.driver_id is not None and known.completed is not None
        ]
        await self._preparer.prepare(connection, notices)

    async def sessions_assigned(
        self, connection: Transaction, batch: Sequence[Delivered[Event[SessionAssigned]]]
    ) -> None:
        """session.assigned.v1: now what is known of the session is said."""
        news = [
            store.SessionNews(payload.session_id, None if payload.withdrawn else payload.driver_id, payload.revision)
            for payload in (one.event.payload for one in batch)
        ]
        notices = []
        for known in await self._merged(connection, news):
            if known.driver_id is None:
                continue
            if known.completed is not None:  # over already: only the end is said
                notices.append(_of_session("session_completed", known.id, known.driver_id, known.completed))
            elif known.started is not None:
                notices.append(_of_session("session_started", known.id, known.driver_id, known.started))
        await self._preparer.prepare(connection, notices)

    async def _merged(self, connection: Transaction, news: Sequence[store.SessionNews]) -> list[store.SessionNews]:
        return await store.merge_sessions(connection, news, self._clock.now()) if news else []

    async def overstays(self, connection: Transaction, event: Event[ParkingOverstayed]) -> None:
        """parking.overstayed.v1: to the driver; where nobody knows whose vehicle it is an alarm, one of each site."""
        payload, event_id = event.payload, event.metadata.event_id
        known = (await store.stations(connection, [payload.station_id])).get(payload.station_id)
        name, site = (known["name"], known["site"]) if known is not None else (None, None)
        context = _overstay_context(payload, name or payload.station_id)
        if payload.driver_id is not None:
            subject = driver_subject(payload.driver_id)
            await self._preparer.prepare(
                connection, [Notice(event_id, "parking_overstayed", subject, context, event_id)]
            )
            return
        place = site or payload.station_id
        alarm = ("parking_alarm", {"site": place, **context})
        await self._raise(connection, event_id, {(place, f"overstay/{payload.reason}"): alarm})

    async def stations(self, connection: Transaction, event: Event[StationChanged]) -> None:
        """station.created.v1, .updated.v1, .removed.v1: the site and the name of a station."""
        station = event.payload
        await store.put_station(connection, station.station_id, station.revision, station.site, station.name)

    async def statuses(self, connection: Transaction, event: Event[StationStatusChanged]) -> None:
        """station.status_changed.v1: alarms, one of each site and cause."""
        newest: dict[tuple[str, int], StatusChange] = {}
        for change in event.payload.changes:
            if change.status in ALARMING:
                key = (change.station_id, change.connector_id)
                if key not in newest or newest[key].revision < change.revision:
                    newest[key] = change
        if not newest:
            return
        newer = await store.newer_statuses(connection, {key: change.revision for key, change in newest.items()})
        changes = [newest[key] for key in sorted(newer)]
        known = await store.stations(connection, {change.station_id for change in changes})
        alarms: dict[tuple[str, str], list[StatusChange]] = {}
        for change in changes:
            row = known.get(change.station_id)
            place = (row["site"] if row is not None else None) or change.station_id
            alarms.setdefault((place, f"{change.status}/{change.error_code or ''}"), []).append(change)
        contexts = {key: ("station_alarm", _alarm_context(key[0], found)) for key, found in alarms.items()}
        await self._raise(connection, event.metadata.event_id, contexts)

    async def failures(self, connection: Transaction, event: Event[EventFailed]) -> None:
        """event.failed.v1: an alarm, one of each queue and type of event."""
        payload = event.payload
        if payload.queue == _OWN_QUEUE:
            return
        context = {
            "queue": payload.queue,
            "event_type": payload.event_type,
            "event_id": None if payload.event_id is None else str(payload.event_id),
            "attempts": payload.attempts,
            "error": payload.error[:500],
        }
        key = (f"queue {payload.queue}", payload.event_type)
        await self._raise(connection, event.metadata.event_id, {key: ("event_failed", context)})

    async def _raise(
        self,
        connection: Transaction,
        event_id: UUID,
        alarms: Mapping[tuple[str, str], tuple[str, Mapping[str, Any]]],
    ) -> None:
        """Raise alarms, (place, cause) to (kind, context): at once, or in the digest of the alarm before."""
        if not alarms:
            return
        settings, now = self._preparer.settings, self._clock.now()
        length = timedelta(seconds=settings.notification_alarm_window_s)
        windows = await store.alarm_windows(connection, list(alarms))
        notices = []
        for key, (kind, context) in alarms.items():
            windows[key], digest_at = next_window(windows.get(key), now, length)
            cause = uuid5(event_id, "/".join(key))
            notices += [
                Notice(cause, kind, subject, context, event_id, digest_at=digest_at)
                for subject in settings.notification_alarm_subjects
            ]
        await store.put_alarm_windows(connection, windows)
        await self._preparer.prepare(connection, notices)

    async def _names(self, connection: Transaction, station_ids: Sequence[str]) -> dict[str, str]:
        """What people call these stations."""
        known = await store.stations(connection, set(station_ids))
        return {id_: (known[id_]["name"] if id_ in known else None) or id_ for id_ in station_ids}


def _of_invoice(event: Event[InvoiceChanged]) -> Notice | None:
    invoice = event.payload
    if invoice.driver_id is None:
        return None
    context = {
        "invoice_id": str(invoice.invoice_id),
        "number": invoice.number,
        "currency": invoice.currency,
        "total_micros": abs(invoice.total_incl_micros),
        "session_id": None if invoice.session_id is None else str(invoice.session_id),
        "reservation_id": invoice.reservation_id,
    }
    kind = "credit_note" if invoice.kind == "credit_note" else "invoice"
    event_id = event.metadata.event_id
    return Notice(event_id, kind, driver_subject(invoice.driver_id), context, event_id, invoice_id=invoice.invoice_id)


def _of_reservation(event: Event[ReservationChanged], names: Mapping[str, str]) -> Notice | None:
    """None of a change that the driver made or expects: it was confirmed, or its time has come."""
    reservation, event_id = event.payload, event.metadata.event_id
    kind = routing_key(event.metadata.type).replace(".", "_")
    if event.metadata.type == RESERVATION_CREATED and reservation.moved_from is not None:
        kind = "reservation_moved"
    elif event.metadata.type == RESERVATION_CREATED and reservation.revision > 1:
        return None
    context = {
        "reservation_id": reservation.reservation_id,
        "station_id": reservation.station_id,
        "station": names[reservation.station_id],
        "connector_id": reservation.connector_id,
        "bay": reservation.bay,
        "starts_at": reservation.starts_at,
        "ends_at": reservation.ends_at,
        "status": reservation.status,
        "reason": reservation.reason,
        "moved_from": reservation.moved_from,
    }
    return Notice(event_id, kind, driver_subject(reservation.driver_id), context, event_id)


def _start_context(session: SessionStarted | SessionCompleted, names: Mapping[str, str]) -> dict[str, Any]:
    return {
        "session_id": str(session.id),
        "station_id": session.station_id,
        "station": names[session.station_id],
        "connector_id": session.connector_id,
        "started_at": session.started_at,
    }


def _end_context(session: SessionCompleted, names: Mapping[str, str]) -> dict[str, Any]:
    cost = None if session.pricing is None else session.pricing.cost
    return {
        **_start_context(session, names),
        "ended_at": session.ended_at,
        "energy_wh": session.energy_wh,
        "currency": None if cost is None else cost.currency,
        "cost_micros": None if cost is None else cost.incl_vat_micros,
        "held": bool(session.held),
    }


def _of_session(kind: str, session_id: UUID, driver_id: str, said: Mapping[str, Any]) -> Notice:
    """Once for a session and driver, however often its events come again in new revisions."""
    return Notice(uuid5(session_id, kind), kind, driver_subject(driver_id), said["context"], UUID(said["event_id"]))


def _overstay_context(overstay: ParkingOverstayed, station: str) -> dict[str, Any]:
    fee = overstay.fee_per_hour
    return {
        "station_id": overstay.station_id,
        "station": station,
        "connector_id": overstay.connector_id,
        "bay": overstay.bay,
        "reason": overstay.reason,
        "since": overstay.since,
        "idle_since": overstay.idle_since,
        "overstay_from": overstay.overstay_from,
        "fee_per_hour_micros": None if fee is None else int(Decimal(fee) * 1_000_000),
        "currency": overstay.currency,
    }


def _alarm_context(place: str, changes: Sequence[StatusChange]) -> dict[str, Any]:
    return {
        "place": place,
        "status": changes[0].status,
        "error_code": changes[0].error_code,
        "count": len(changes),
        "connectors": [
            {"station_id": one.station_id, "connector_id": one.connector_id, "since": one.since}
            for one in changes[:CONNECTORS_SHOWN_MAX]
        ],
    }
