"""Events of other services: which hours they change. Nothing is computed here.

An event that comes twice, late or out of order notes an hour once more, and that computes the same again.
"""

from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Final
from uuid import UUID

from api.reporting.co2.store import Co2Store
from api.reporting.rollups.facets import BY_ENERGY, BY_STATUS, Facet, Place, bits_of, hour_of
from api.reporting.rollups.note_store import LastPlace, NoteStore, RegisteredStation
from kit.clock import Clock
from kit.messaging.consumer import Delivered, moment_of
from kit.messaging.outbox import Transaction
from schemas.events import (
    Event,
    InvoiceChanged,
    ReservationChanged,
    SessionCompleted,
    StationChanged,
    StationStatusChanged,
    TelemetryAggregated,
)

_WINDOWS: Final = bits_of((*BY_ENERGY, Facet.POWER, *BY_STATUS))
# A silence ends a little before its event is published, and is found long after it began.
_PUBLISHED_AFTER: Final = timedelta(minutes=5)


class NoteService:
    """A handler for each kind of event. Each works in the open transaction that records the event."""

    def __init__(self, store: NoteStore, co2: Co2Store, clock: Clock) -> None:
        self._store = store
        self._co2 = co2
        self._clock = clock

    async def aggregated(
        self, connection: Transaction, events: Sequence[Delivered[Event[TelemetryAggregated]]]
    ) -> None:
        """telemetry.aggregated.v1: the windows of a minute, or of late readings."""
        await self._note(
            connection,
            (
                (Place(window.station_id.upper(), hour_of(moment_of(window.window_start))), _WINDOWS)
                for one in events
                for window in one.event.payload.windows
            ),
        )

    async def status_changed(
        self, connection: Transaction, events: Sequence[Delivered[Event[StationStatusChanged]]]
    ) -> None:
        """station.status_changed.v1: the hour in which the status began, and that of now, because a silence is found
        when it has lasted for a while. Hours between follow as long as their last status changes."""
        places: set[Place] = set()
        for one in events:
            published = moment_of(one.event.metadata.timestamp)
            hours = {hour_of(published), hour_of(published - _PUBLISHED_AFTER)}
            for change in one.event.payload.changes:
                places |= {
                    Place(change.station_id.upper(), hour) for hour in {*hours, hour_of(moment_of(change.since))}
                }
        await self._note(connection, ((place, bits_of(BY_STATUS)) for place in places))

    async def session_completed(
        self, connection: Transaction, events: Sequence[Delivered[Event[SessionCompleted]]]
    ) -> None:
        """session.completed.v1: the hour in which it ended, and the one in which it ended before."""
        await self._moved(
            connection,
            Facet.SESSIONS,
            [
                LastPlace(one.id, one.revision, one.station_id.upper(), hour_of(moment_of(one.ended_at)))
                for one in (event.event.payload for event in events)
            ],
        )

    async def reservation_changed(
        self, connection: Transaction, events: Sequence[Delivered[Event[ReservationChanged]]]
    ) -> None:
        """reservation.*.v1: the hour of its start, and that of its place before; of its offer, if it was one, too."""
        last_places = [_last_place_of(one.event.payload) for one in events]
        before = await self._offers(connection, last_places)
        await self._moved(connection, Facet.RESERVATIONS, last_places)
        offered = [
            LastPlace(UUID(payload.reservation_id), 1, payload.station_id.upper(), hour_of(moment_of(timestamp)))
            for payload, timestamp in ((one.event.payload, one.event.metadata.timestamp) for one in events)
            if payload.revision == 1
        ]
        await self._moved(connection, Facet.WAITING, offered)
        # An offer that is moved, or is none any more, counts in the hour of the offer, at the old station or the new.
        places = before | await self._offers(connection, last_places)
        await self._note(connection, ((place, Facet.WAITING.bit) for place in places))

    async def _offers(self, connection: Transaction, last_places: Sequence[LastPlace]) -> set[Place]:
        """The hours in which these were offered, at every station where they are known to have been."""
        found = await self._store.offers(connection, [one.subject_id for one in last_places])
        said = {(one.subject_id, one.station_id) for one in last_places}
        hours = {subject_id: place.hour for subject_id, place in found}
        return {place for _, place in found} | {
            Place(station_id, hours[subject_id]) for subject_id, station_id in said if subject_id in hours
        }

    async def invoice_changed(
        self, connection: Transaction, events: Sequence[Delivered[Event[InvoiceChanged]]]
    ) -> None:
        """invoice.created.v1: the hours in which the charges of an invoice or a credit note ended. Documents are never
        edited."""
        documents = [one.event.payload.invoice_id for one in events]
        places = await self._store.charged_places(connection, documents)
        await self._note(connection, ((place, Facet.MONEY.bit) for place in places))

    async def station_changed(
        self, connection: Transaction, events: Sequence[Delivered[Event[StationChanged]]]
    ) -> None:
        """station.*.v1: where the figures of its connectors belong, in the past too. A removed station stays where it
        was, and in its country."""
        stations = [_registered(one.event.payload) for one in events]
        await self._store.put_stations(connection, stations)
        await self._co2.put_countries(connection, [one.station_id for one in stations], self._clock.now())

    async def _moved(self, connection: Transaction, facet: Facet, last_places: Sequence[LastPlace]) -> None:
        """Note where these are and where they were last seen."""
        if not last_places:
            return
        now = self._clock.now()
        places = await self._store.places(connection, facet, [one.subject_id for one in last_places])
        await self._store.record_last(connection, facet, last_places, now)
        places += [Place(one.station_id, one.hour) for one in last_places]
        await self._note(connection, ((place, facet.bit) for place in places))

    async def _note(self, connection: Transaction, noted: Iterable[tuple[Place, int]]) -> None:
        await self._store.note(connection, list(noted), self._clock.now())


def _registered(station: StationChanged) -> RegisteredStation:
    plugs = {one.connector_id: one.standard or "" for one in station.connectors}
    return RegisteredStation(
        station.station_id.upper(),
        station.revision,
        station.site or "",
        station.group or "",
        station.organisation or "",
        list(plugs),
        list(plugs.values()),
    )


def _last_place_of(reservation: ReservationChanged) -> LastPlace:
    return LastPlace(
        UUID(reservation.reservation_id),
        reservation.revision,
        reservation.station_id.upper(),
        hour_of(moment_of(reservation.starts_at)),
    )
