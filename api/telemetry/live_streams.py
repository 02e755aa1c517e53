"""The live view as server-sent events: one watcher of the view, many clients.

A client first gets a snapshot, then the newest document of each connector that changed since its last event. Changes
are not queued for a slow client: it remembers the version of the view that it has, and skips documents that were
replaced since. What clients that read as fast as the view changes are sent is put together once for all of them.
Every second all streams are looked at: one whose token is no longer valid ends. Every third time the registry is asked
which stations a stream of an organisation has now.
"""

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from itertools import chain, count
from typing import Final
from uuid import UUID

from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from api.telemetry.service import LIVE_TOPIC, station_of
from kit.auth.token_store import Principal
from kit.errors import Overloaded, Unavailable
from kit.live.view import LiveView
from kit.observability.logs import get_logger
from kit.web.limits.refusals import Limit, Refusals

# Each stream costs a connection and what its transport buffers. All that 256 of them are sent is copied for each by the
# kernel: at 10,000 changes/s of 400 bytes ~1 GB/s, more than a core can do; slow ones then skip more.
STREAMS_MAX: Final = 256
HEARTBEAT_S: Final = 15.0  # proxies cut connections that are silent for 30 to 60 s
_FIRST_VIEW_S_MAX: Final = 5.0  # the whole view of 100,000 connectors is read from Redis in ~1 s
_WATCH_AGAIN_S: Final = 1.0
# A token that is revoked is known to be so a second or two after the next question (kit.auth.authenticator): a stream
# ends within 5 s of it.
CHECK_S: Final = 1.0
_CHECKS_A_LOOK: Final = 3  # at the registry: the stations of 256 streams are 256 queries
_NEVER_SENT: Final = -1  # older than any version of the mirror
_DOCUMENTS_PER_PIECE: Final = 512  # ~200 kB: sending a piece costs ~50 us whatever its size
_KEYS_REMEMBERED_MAX: Final = 200_000  # of recent changes, ~2 MB; a client that lags further is sent its whole view
_VERSIONS_SHARED: Final = 4  # how far a client may lag to be sent the pieces that are made for others
_RETRY_AFTER_S: Final = 10

HEARTBEAT: Final = b": heartbeat\n\n"
STREAMS: Final = Limit(
    "streams",
    "live streams of this token at once",
    "close one, or name all stations in one stream (operators: telemetry.streams_per_token)",
)

StationsNow = Callable[[], Awaitable[frozenset[str]]]

_log = get_logger(__name__)


async def _always() -> bool:
    return True


class Subscription:
    """One client: its stations (None: all), and the version of the mirror that it has."""

    def __init__(
        self,
        stations: frozenset[str] | None,
        token_id: UUID | None = None,
        is_allowed: Callable[[], Awaitable[bool]] = _always,
        stations_now: StationsNow | None = None,
    ) -> None:
        """`stations_now`: which they are, where that changes."""
        self.stations = stations
        self.stations_now = stations_now
        self.token_id = token_id
        self.is_allowed = is_allowed
        self.ended = False
        self.version = 0
        self.changed = asyncio.Event()

    async def renew_stations(self) -> None:
        """Look which stations it has now; of new ones everything is sent. Raises Unavailable."""
        if self.stations_now is None:
            return
        before, self.stations = self.stations, await self.stations_now()
        if before is not None and not self.stations <= before:
            self.version = _NEVER_SENT
            self.changed.set()

    def wants(self, key: str) -> bool:
        """Whether the key belongs to one of the stations of this stream."""
        return self.stations is None or station_of(key) in self.stations

    def offer(self, version: int, stations: Collection[str]) -> None:
        """These stations have changed with that version."""
        if self.stations is None or not self.stations.isdisjoint(stations):
            self.changed.set()
        elif not self.changed.is_set():
            self.version = version


class RecentChanges:
    """Which keys changed with each of the newest versions of the mirror, by station."""

    def __init__(self) -> None:
        self._newest = 0  # version
        self._changes: deque[Mapping[str, Sequence[str]]] = deque()  # of it and of those before it, without a gap
        self._keys = 0
        self._merged: dict[int, list[str]] = {}  # by version, the keys that changed since; as of the newest one

    def add(self, version: int, by_station: Mapping[str, Sequence[str]]) -> None:
        """The newest version's; the oldest are forgotten."""
        self._merged.clear()
        self._newest = version
        self._changes.append(by_station)
        self._keys += _count(by_station)
        while self._keys > _KEYS_REMEMBERED_MAX:
            self._keys -= _count(self._changes.popleft())

    def clear(self) -> None:
        """Forget all of them."""
        self._changes.clear()
        self._merged.clear()
        self._keys = 0

    def since(self, version: int, stations: frozenset[str] | None) -> list[str] | None:
        """The keys of these stations that changed after `version`, in order; None: that is not known any more."""
        lag = self._newest - version
        if lag > len(self._changes):
            return None
        newer = [self._changes[-back] for back in range(lag, 0, -1)]
        if stations is not None:
            return sorted({key for change in newer for name in stations & change.keys() for key in change[name]})
        if version not in self._merged:
            self._merged[version] = sorted({key for change in newer for key in chain.from_iterable(change.values())})
        return self._merged[version]


def _count(by_station: Mapping[str, Sequence[str]]) -> int:
    return sum(map(len, by_station.values()))


class LiveStreams:
    """All streams of this process. The view is watched while there is a client, and mirrored meanwhile."""

    def __init__(
        self,
        live: LiveView,
        *,
        streams_max: int = STREAMS_MAX,
        heartbeat_s: float = HEARTBEAT_S,
        check_s: float = CHECK_S,
        per_token_max: Callable[[], int] = lambda: 0,
        refusals: Refusals | None = None,
    ) -> None:
        """`per_token_max`: streams that one token may have, as it is now; 0: any number. It needs `refusals`."""
        self._live = live
        self._streams_max = streams_max
        self._per_token_max = per_token_max
        self._refusals = refusals
        self._by_token: Counter[UUID | None] = Counter()
        self._heartbeat_s = heartbeat_s
        self._check_s = check_s
        self._clients: set[Subscription] = set()
        self._mirror: dict[str, bytes] = {}
        self._version = 0  # of the mirror; the id of events
        self._recent = RecentChanges()
        self._pieces: dict[
            tuple[int, int], bytes
        ] = {}  # of the newest version, by that of its clients and the first key
        self._mirrored = asyncio.Event()
        self._following: asyncio.Task[None] | None = None
        self._checking: asyncio.Task[None] | None = None
        self._closed = False

    @property
    def count(self) -> int:
        """Number of open streams."""
        return len(self._clients)

    async def subscribe(
        self,
        stations: frozenset[str] | None,
        principal: Principal | None = None,
        is_allowed: Callable[[], Awaitable[bool]] = _always,
        stations_now: StationsNow | None = None,
    ) -> Subscription:
        """A new stream of that token, for as long as it is allowed; `leave` must follow. `stations_now`: which its
        stations are, looked at as often as the token.

        Raises Problem 429 where the token has too many, Overloaded where there are too many, Unavailable without a live
        view.
        """
        if self._closed:
            raise Unavailable("the server is stopping")
        if len(self._clients) >= self._streams_max:
            raise Overloaded(f"all {self._streams_max} live streams are in use; try again later", _RETRY_AFTER_S)
        token_id = None if principal is None else self._token_within_bound(principal)
        client = Subscription(stations, token_id, is_allowed, stations_now)
        self._clients.add(client)
        self._by_token[client.token_id] += 1
        if self._following is None:
            self._following = asyncio.create_task(self._follow(), name="live-streams")
            self._checking = asyncio.create_task(self._check(), name="live-streams-tokens")
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
        if client in self._clients:
            self._clients.discard(client)
            self._by_token[client.token_id] -= 1
            if not self._by_token[client.token_id]:
                del self._by_token[client.token_id]
        if not self._clients and self._following is not None:
            self._stop()
            self._mirrored.clear()
            self._mirror.clear()
            self._recent.clear()
            self._pieces.clear()

    def _token_within_bound(self, principal: Principal) -> UUID:
        most = self._per_token_max()
        if most and self._refusals is not None and self._by_token[principal.token_id] >= most:
            raise self._refusals.refuse(STREAMS, most, _RETRY_AFTER_S, principal.name)
        return principal.token_id

    def behind(self, client: Subscription) -> int:
        """Connectors whose newest document was not sent to it."""
        return len(self._changed_for(client)) if client.changed.is_set() else 0

    async def events(self, client: Subscription) -> AsyncIterator[bytes]:
        """The stream's bytes, until `close` or until it is not allowed any more."""
        self._has_newest(client)
        for piece in self._event("snapshot", self._all_of(client)):
            if client.ended:
                return
            yield piece
        while True:
            while not await self._changed(client):
                yield HEARTBEAT
            if self._closed or client.ended:
                return
            keys = self._changed_for(client)
            since = self._has_newest(client)
            shared = client.stations is None and self._version - since <= _VERSIONS_SHARED
            for piece in self._event("change", keys, since if shared else None):
                if client.ended:
                    return
                yield piece

    def _all_of(self, client: Subscription) -> list[str]:
        return sorted(key for key in self._mirror if client.wants(key))

    def _changed_for(self, client: Subscription) -> list[str]:
        changed = self._recent.since(client.version, client.stations)
        return self._all_of(client) if changed is None else changed

    def _has_newest(self, client: Subscription) -> int:
        """It is about to be sent all there is; the version that it had."""
        since, client.version = client.version, self._version
        client.changed.clear()
        return since

    async def _changed(self, client: Subscription) -> bool:
        """Whether anything changes before the next heartbeat is due."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self._heartbeat_s):
                await client.changed.wait()
        return client.changed.is_set()

    def _event(self, name: str, keys: Sequence[str], since: int | None = None) -> Iterator[bytes]:
        """One event in pieces. Each has the documents as they are when it is made: none is older than the id.

        `since`: it has what changed after that version, and is the same for all clients that had it.
        """
        version = self._version
        for start in range(0, len(keys) or 1, _DOCUMENTS_PER_PIECE):
            shared = since is not None and version == self._version
            piece = self._pieces.get((since or 0, start)) if shared else None
            if piece is None:
                piece = self._piece(name, version, keys, start)
                if shared:
                    self._pieces[since or 0, start] = piece
            yield piece

    def _piece(self, name: str, version: int, keys: Sequence[str], start: int) -> bytes:
        end = start + _DOCUMENTS_PER_PIECE
        documents = b",".join([self._mirror[key] for key in keys[start:end]])
        head = b"," if start else b'id: %d\nevent: %s\ndata: {"connectors":[' % (version, name.encode())
        tail = b"]}\n\n" if end >= len(keys) else b""
        return head + documents.replace(b"\n", b" ") + tail  # a line ends the field

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

    async def _check(self) -> None:
        for number in count(1):
            await asyncio.sleep(self._check_s)
            for client in list(self._clients):
                try:
                    allowed = client.ended or await client.is_allowed()
                    if allowed and number % _CHECKS_A_LOOK == 0:
                        await client.renew_stations()
                except Unavailable as error:  # nobody can move a station meanwhile
                    _log.warning("stations_unknown", error=str(error))
                    allowed = True
                except Exception:  # a bug must not leave streams unlooked at; whether this one may go on is not known
                    _log.exception("token_check_failed")
                    allowed = False
                if not allowed:
                    client.ended = True
                    client.changed.set()

    def _stop(self) -> None:
        """Neither follow the view nor look at tokens, until there is a client again."""
        for task in (self._following, self._checking):
            if task is not None:
                task.cancel()
        self._following = self._checking = None

    def _apply(self, documents: Mapping[str, bytes]) -> None:
        by_station: dict[str, list[str]] = {}
        for key, document in documents.items():
            if self._mirror.get(key) != document:
                self._mirror[key] = document
                by_station.setdefault(station_of(key), []).append(key)
        if by_station:
            self._version += 1
            self._recent.add(self._version, by_station)
            self._pieces.clear()
            for client in self._clients:
                client.offer(self._version, by_station.keys())

    async def close(self) -> None:
        """End every stream. Call before the HTTP server stops: it waits for streams, which end only here."""
        self._closed = True
        for client in self._clients:
            client.changed.set()
        tasks = [task for task in (self._following, self._checking) if task is not None]
        self._stop()
        await asyncio.gather(*tasks, return_exceptions=True)


class EventStream(StreamingResponse):
    """The HTTP response of a subscription; the end of the response, whatever its cause, ends the subscription."""

    def __init__(self, streams: LiveStreams, client: Subscription) -> None:
        # X-Accel-Buffering: nginx would hold events back until its buffer is full. Connection: a proxy knows from the
        # beginning that nothing can be sent on it after the stream's end.
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no", "Connection": "close"}
        super().__init__(streams.events(client), headers=headers, media_type="text/event-stream")
        self._leave = partial(streams.leave, client)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._leave()
