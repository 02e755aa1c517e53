"""Release: what a station sent before it was registered, and was set apart for that, is taken after all.

The readings go the way of all: as `telemetry.generated.v1`, from the outbox to a gateway, which accepts them and counts
them, and a worker, which finds duplicates. The quarantine keeps them and says when they were replayed.
"""

from collections.abc import Iterator, Sequence
from typing import Final
from uuid import uuid4

import msgspec

from api.telemetry.models import Released
from api.telemetry.store import TelemetryStore, Unclaimed
from kit.clock import Clock, format_rfc3339
from kit.web.errors import Conflict, NotFound
from schemas.events import envelope_of
from schemas.topics import TELEMETRY_GENERATED

RELEASED_MAX: Final = 5_000  # readings of one request: ~1 MB, well under a second
_EVENT_READINGS_MAX: Final = 100  # as simulators send them
_EVENT_BYTES_MAX: Final = 262_144
_SOURCE: Final = "telemetry"


class Release:
    """The use case. Raises Unavailable where the database does not answer."""

    def __init__(self, store: TelemetryStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def release(self, station_id: str) -> Released:
        """The oldest that wait, up to RELEASED_MAX. They are on their way, durably, once this returns.

        Raises NotFound where nothing of the station was ever set apart, Conflict where it is not registered.
        """
        if not await self._store.was_set_apart(station_id):
            raise NotFound(f"no reading of {station_id} was set apart because the station was not registered")
        if not await self._store.is_registered(station_id):
            raise Conflict(f"{station_id} is not registered: its readings would be set apart again; register it first")
        items = await self._store.unclaimed_items(station_id, RELEASED_MAX)
        released = 0
        for some in _events(items):
            event_id = uuid4()
            payload = {"readings": [msgspec.Raw(item.raw) for item in some]}
            timestamp = format_rfc3339(self._clock.now())
            envelope = envelope_of(TELEMETRY_GENERATED, event_id, payload, source=_SOURCE, timestamp=timestamp)
            ids = [item.id for item in some]
            # False: another request has released some of them meanwhile, and will have released all.
            if await self._store.release(ids, event_id, envelope.exchange, envelope.routing_key, envelope.encoded()):
                released += len(some)
        return Released(station_id=station_id, released=released, left=await self._store.unclaimed_left(station_id))


def _events(items: Sequence[Unclaimed]) -> Iterator[list[Unclaimed]]:
    """In order, as many as an event has room for."""
    some: list[Unclaimed] = []
    size = 0
    for item in items:
        if some and (len(some) == _EVENT_READINGS_MAX or size + len(item.raw) > _EVENT_BYTES_MAX):
            yield some
            some, size = [], 0
        some.append(item)
        size += len(item.raw)
    if some:
        yield some
