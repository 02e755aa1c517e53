"""The live view as server-sent events: one watcher of the view, many clients.

A client first gets a snapshot, then the newest document of each connector that changed since its last event. Changes
are not queued for a slow client: only their keys are remembered, so it skips documents that were replaced, and its
memory is bounded by the number of connectors, however long it does not read.
"""

import asyncio
from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Final

from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from api.telemetry.service import LIVE_TOPIC, station_of
from kit.errors import Overloaded, Unavailable
from kit.live.view import LiveView
from kit.observability.logs import get_logger

# Each stream costs a connection and ~1 MB of keys for 10,000 connectors; 10 changes/s of 1,000 connectors to each of
# 64 is ~250 MB/s of copying, about what one core can do.
STREAMS_MAX: Final = 64
HEARTBEAT_S: Final = 15.0  # proxies cut connections that are silent for 30 to 60 s
_FIRST_VIEW_S_MAX: Final = 5.0  # the whole view of 100,000 connectors is read from Redis in ~1 s
_WATCH_AGAIN_S: Final = 1.0
_DOCUMENTS_PER_CHUNK: Final = 128  # ~50 kB: about what the transport buffers before it makes us wait
_RETRY_AFTER_S: Final = 10

HEARTBEAT: Final = b": heartbeat\n\n"

_log = get_logger(__name__)


class Subscription:
    """One client: its stations (None: all), and the connectors that changed since its last event."""

    def __init__(self, stations: frozenset[str] | None) -> None:
        self.stations = stations
        self.changed = asyncio.Event()
        self._keys: set[str] = set()

    @property
    def behind(self) -> int:
        """Connectors whose newest document was not sent to it."""
        return len(self._keys)

    def wants(self, key: str) -> bool:
        """Whether the key belongs to one of the stations of this stream."""
        return self.stations is None or station_of(key) in self.stations

    def offer(self, by_station: Mapping[str, Collection[str]]) -> None:
        """Record that these keys changed, by station."""
        stations = by_station.keys() if self.stations is None else self.stations & by_station.keys()
        for station_id in stations:
            self._keys.update(by_station[station_id])
        if self._keys:
            self.changed.set()

    def take(self) -> list[str]:
        """The keys that changed, in order, and forget them."""
        keys = sorted(self._keys)
        self._keys.clear()
        self.changed.clear()
        return keys


class LiveStreams:
    """All streams of this process. The view is watched while there is a client, and mirrored meanwhile."""

    def __init__(self, live: LiveView, *, streams_max: int = STREAMS_MAX, heartbeat_s: float = HEARTBEAT_S) -> None:
        self._live = live
        self._streams_max = streams_max
        self._heartbeat_s = heartbeat_s
        self._clients: set[Subscription] = set()
        self._mirror: dict[str, bytes] = {}
        self._version = 0  # of the mirror; the id of events
        self._mirrored = asyncio.Event()
        self._following: asyncio.Task[None] | None = None
        self._closed = False

    @property
    def count(self) -> int:
        """Number of open streams."""
        return len(self._clients)

    async def subscribe(self, stations: frozenset[str] | None) -> Subscription:
        """A new stream; `leave` must follow. Raises Overloaded at the bound, Unavailable without a live view."""
        if self._closed:
            raise Unavailable("the server is stopping")
        if len(self._clients) >= self._streams_max:
            raise Overloaded(f"all {self._streams_max} live streams are in use; try again later", _RETRY_AFTER_S)
        client = Subscription(stations)
        self._clients.add(client)
        if self._following is None:
            self._following = asyncio.create_task(self._follow(), name="live-streams")
        try:
            async with asyncio.timeout(_FIRST_VIEW_S_MAX):
                await self._mirrored.wait()
        except TimeoutError:
            self.leave(client)
            raise Unavailable("the live view does not answer") from None
        except asyncio.CancelledError:
            self.leave(client)
            raise
        return client

    def leave(self, client: Subscription) -> None:
        """Record that the stream is over."""
        self._clients.discard(client)
        if not self._clients and self._following is not None:
            self._following.cancel()
            self._following = None
            self._mirrored.clear()
            self._mirror.clear()

    async def events(self, client: Subscription) -> AsyncIterator[bytes]:
        """The stream's bytes, until `close`."""
        client.take()  # the snapshot has them
        keys = sorted(key for key in self._mirror if client.wants(key))
        name = "snapshot"
        while not self._closed:
            for chunk in self._event(name, keys):
                yield chunk
            name = "change"
            while not await self._changed(client):
                yield HEARTBEAT
            keys = client.take()

    async def _changed(self, client: Subscription) -> bool:
        """Whether anything changes before the next heartbeat is due."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self._heartbeat_s):
                await client.changed.wait()
        return client.changed.is_set()

    def _event(self, name: str, keys: Sequence[str]) -> Iterator[bytes]:
        """One event in pieces. Each takes the documents as they are when it is written: none is older than the id."""
        yield b'id: %d\nevent: %s\ndata: {"connectors":[' % (self._version, name.encode())
        for start in range(0, len(keys), _DOCUMENTS_PER_CHUNK):
            documents = [self._mirror[key] for key in keys[start : start + _DOCUMENTS_PER_CHUNK]]
            yield (b"," if start else b"") + b",".join(documents).replace(b"\n", b" ")  # a line ends the field
        yield b"]}\n\n"

    async def _follow(self) -> None:
        while True:
            try:
                async with self._live.watch(LIVE_TOPIC) as changes:
                    self._apply(await self._live.all(LIVE_TOPIC))
                    self._mirrored.set()
                    async for documents in changes:
                        self._apply(documents)
                return
            except Unavailable as error:
                _log.warning("live_view_lost", error=str(error))
            except Exception:  # a bug must not leave the clients with a view that silently stops
                _log.exception("live_view_failed")
            await asyncio.sleep(_WATCH_AGAIN_S)

    def _apply(self, documents: Mapping[str, bytes]) -> None:
        by_station: dict[str, list[str]] = {}
        for key, document in documents.items():
            if self._mirror.get(key) != document:
                self._mirror[key] = document
                by_station.setdefault(station_of(key), []).append(key)
        if by_station:
            self._version += 1
            for client in self._clients:
                client.offer(by_station)

    async def close(self) -> None:
        """End every stream. Call before the HTTP server stops: it waits for streams, which end only here."""
        self._closed = True
        for client in self._clients:
            client.changed.set()
        if self._following is not None:
            self._following.cancel()
            await asyncio.gather(self._following, return_exceptions=True)
            self._following = None


class EventStream(StreamingResponse):
    """The HTTP response of a subscription; the end of the response, whatever its cause, ends the subscription."""

    def __init__(self, streams: LiveStreams, client: Subscription) -> None:
        # X-Accel-Buffering: nginx would hold events back until its buffer is full.
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        super().__init__(streams.events(client), headers=headers, media_type="text/event-stream")
        self._leave = partial(streams.leave, client)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._leave()
