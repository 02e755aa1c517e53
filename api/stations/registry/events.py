"""The events that say what became of a station."""

from typing import Final
from uuid import uuid4

from api.stations.registry.models import Station, to_udeg
from api.stations.registry.store import Change
from kit.clock import format_rfc3339
from kit.messaging.outbox import OutboxEvent
from kit.observability.logs import correlation_id
from kit.observability.tracing import current_traceparent
from schemas.events import StationBay, StationChanged, StationConnector, envelope_of
from schemas.topics import STATION_CREATED, STATION_REMOVED, STATION_UPDATED

SOURCE: Final = "stations"
_TYPES: Final = {"created": STATION_CREATED, "updated": STATION_UPDATED, "removed": STATION_REMOVED}


def station_changed(change: Change) -> OutboxEvent:
    """station.created.v1, station.updated.v1 or station.removed.v1; of the last the station as it was."""
    station = change.after or change.before
    if station is None:
        raise AssertionError("a change of nothing")
    event_type = _TYPES[change.kind]
    event_id = uuid4()  # made once, with the change: of the id and the revision another database has an event, too
    envelope = envelope_of(
        event_type,
        event_id,
        _payload(station, change),
        source=SOURCE,
        timestamp=format_rfc3339(change.changed_at),
        correlation_id=correlation_id.get(),
        traceparent=current_traceparent(),
    )
    return OutboxEvent(event_id, envelope.exchange, envelope.routing_key, envelope.encoded())


def _payload(station: Station, change: Change) -> StationChanged:
    return StationChanged(
        station_id=station.station_id,
        revision=change.revision,
        name=station.name,
        site=station.site,
        group=station.group,
        organisation=station.organisation,
        time_zone=station.time_zone,
        latitude_udeg=to_udeg(station.latitude),
        longitude_udeg=to_udeg(station.longitude),
        connectors=tuple(
            StationConnector(
                connector_id=one.connector_id,
                evse_id=one.evse_id,
                standard=one.standard,
                format=one.format,
                power_type=one.power_type,
                rated_power_w=one.rated_power_w,
            )
            for one in station.connectors
        ),
        bays=tuple(
            StationBay(
                bay=one.bay,
                connectors=tuple(one.connectors),
                restrictions=tuple(one.restrictions),
                time_limit_s=one.time_limit_s,
            )
            for one in station.bays
        ),
        changed_at=format_rfc3339(change.changed_at),
    )
