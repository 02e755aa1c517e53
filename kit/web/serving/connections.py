"""Bounds of a server's connections that hold before anything is believed that they say: how many, and how slow.

One `ConnectionBounds` counts those of one server and looks over all of them every two seconds. So a request costs
nothing here but two assignments where it comes in parts, and 10,000 connections ~0.1 % of a core.

- *How many.* In all, and of one address. When there is no room, connections that wait between requests are closed,
  those first that never sent one. A few more are let in, for health checks alone: whoever looks after this process
  sees that it is full, not that it is gone.
- *How slow.* A request that has begun has to go on: after 20 s its head must be complete, and of its body 500 bytes a
  second must have come (as Apache's mod_reqtimeout has it). Who does not read its response for a minute is cut off.
"""

import asyncio
import resource
import sys
from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, Protocol

from prometheus_client import CollectorRegistry, Gauge
from prometheus_client import Counter as PrometheusCounter

SWEEP_S: Final = 2.0
HEAD_S: Final = 20.0  # until the head of a request, and the first one of a connection, is complete
BODY_BYTES_PER_S_MIN: Final = 500  # of a request that has lasted for HEAD_S; a charger's modem has ten times as much
UNREAD_S: Final = 60.0  # a response of which the client reads nothing
HEALTH_S: Final = 2.0  # instead of HEAD_S, of connections that are let in for health checks alone
HEALTH_CONNECTIONS: Final = 16
IDLE_S_MIN: Final = 1.0  # between requests, before a connection is closed to make room
_SPARE_FILES: Final = 256  # databases, brokers, files
_DEFAULT_MAX: Final = 32_768  # ~10 kB each: 330 MB


class ConnectionEnd(StrEnum):
    """Why the server ended a connection."""

    FULL = "full"  # no room for one more
    ADDRESS = "address"  # its address has as many as it may
    ROOM = "room"  # it was idle, and others needed the room
    HEAD = "head"  # no request, or its head was not complete in time
    BODY = "body"  # its body came too slowly
    UNREAD = "unread"  # it did not read its response


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """How many connections a server has at once. 0: by what the process may open, 32,768 at most; three quarters of all
    for one address."""

    connections_max: int = 0
    per_address_max: int = 0

    def resolved(self) -> "ConnectionLimits":
        """With numbers for the zeros. Raises the soft limit of open files to the hard one."""
        files = open_files_max()
        most = self.connections_max or min(_DEFAULT_MAX, max(1, files - _SPARE_FILES))
        return ConnectionLimits(most, self.per_address_max or max(1, most * 3 // 4))


class HttpConnection(Protocol):
    """What is asked of a connection."""

    address: str
    idle_since_s: float | None  # loop time; None: a request is under way
    incoming_since_s: float | None  # a request began then that is not complete; None: there is none
    incoming_bytes: int  # of it
    in_head: bool
    only_health: ConnectionEnd | None  # let in for health checks alone: why

    @property
    def unsent_bytes(self) -> int:
        """Of responses, handed over and not taken by the network."""

    @property
    def reads(self) -> bool:
        """Whether the server takes what the client sends."""

    def end(self, why: ConnectionEnd) -> None:
        """Say why, if that can be said, and close."""


class ConnectionMetrics:
    """How many there are, and which were ended."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.open = Gauge("http_connections", "Open connections", registry=registry)
        self.ended = PrometheusCounter(
            "http_connections_ended",
            "Connections that the server ended: full, address (has too many), room (idle, others needed it), "
            "head and body (not sent in time), unread (the response)",
            ("why",),
            registry=registry,
        )


@dataclass(slots=True)
class ConnectionBounds:
    """The connections of one server."""

    limits: ConnectionLimits
    metrics: ConnectionMetrics
    open: set[HttpConnection] = field(default_factory=set)
    _by_address: Counter[str] = field(default_factory=Counter)
    _unread: dict[HttpConnection, tuple[int, float]] = field(default_factory=dict)  # bytes, since loop time
    _only_health: int = 0
    _crowded: set[str | None] = field(default_factory=set)  # where none was idle, since the last sweep: address, or all

    def admit(self, connection: HttpConnection, now_s: float) -> ConnectionEnd | None:
        """Count it, and say why there is no room for it, if there is none. One for health checks is let in."""
        address, most = connection.address, self.limits.connections_max
        if self._by_address[address] >= self.limits.per_address_max and not self._make_room(now_s, address):
            why = ConnectionEnd.ADDRESS
        elif len(self.open) - self._only_health >= most and not self._make_room(now_s):
            why = ConnectionEnd.FULL
        else:
            self._by_address[address] += 1
            self._add(connection)
            return None
        if self._only_health >= HEALTH_CONNECTIONS:
            return why
        connection.only_health = why
        self._only_health += 1
        self._add(connection)
        return None

    def leave(self, connection: HttpConnection) -> None:
        """It is closed. One that was not let in changes nothing."""
        if connection not in self.open:
            return
        self.open.discard(connection)
        self._unread.pop(connection, None)
        self.metrics.open.set(len(self.open))
        if connection.only_health is not None:
            self._only_health -= 1
            return
        self._by_address[connection.address] -= 1
        if not self._by_address[connection.address]:
            del self._by_address[connection.address]

    def end(self, connection: HttpConnection, why: ConnectionEnd) -> None:
        """End it, and count that."""
        self.metrics.ended.labels(why.value).inc()
        connection.end(why)

    def sweep(self, now_s: float) -> None:
        """End those that are too slow."""
        self._crowded.clear()
        for connection in list(self.open):
            why = self._too_slow(connection, now_s)
            if why is not None:
                self.end(connection, why)

    async def run(self) -> None:
        """Sweep every two seconds, without an end."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(SWEEP_S)
            self.sweep(loop.time())

    def _add(self, connection: HttpConnection) -> None:
        self.open.add(connection)
        self.metrics.open.set(len(self.open))

    def _make_room(self, now_s: float, address: str | None = None) -> bool:
        """Close the hundredth of all, or of the address, that has been idle for longest, those that never sent a
        request first. False: none has. Looking for them takes ~10 ms of a full server, so not with each that comes."""
        if address in self._crowded:
            return False
        idle: list[tuple[bool, float, HttpConnection]] = []
        for connection in self.open:
            if connection.only_health is not None or address not in (None, connection.address):
                continue
            since_s = _idle_since_s(connection)
            # Whoever still reads a response is not idle.
            if since_s is not None and since_s <= now_s - IDLE_S_MIN and not connection.unsent_bytes:
                idle.append((not _sent_nothing(connection), since_s, connection))
        idle.sort(key=lambda one: one[:2])
        for _, _, connection in idle[: max(1, len(idle) // 100)]:
            self.end(connection, ConnectionEnd.ROOM)
            self.leave(connection)
        if not idle:
            self._crowded.add(address)
        return bool(idle)

    def _too_slow(self, connection: HttpConnection, now_s: float) -> ConnectionEnd | None:
        since_s = connection.incoming_since_s
        if since_s is not None:
            if not connection.reads:  # it is we who are slow
                connection.incoming_since_s, connection.incoming_bytes = now_s, 0
                return None
            lasted_s = now_s - since_s
            if connection.in_head:
                within_s = HEAD_S if connection.only_health is None else HEALTH_S
                return ConnectionEnd.HEAD if lasted_s > within_s else None
            slow = lasted_s > HEAD_S and connection.incoming_bytes < BODY_BYTES_PER_S_MIN * lasted_s
            return ConnectionEnd.BODY if slow else None
        return self._unread_for_long(connection, now_s)

    def _unread_for_long(self, connection: HttpConnection, now_s: float) -> ConnectionEnd | None:
        unsent = connection.unsent_bytes
        if not unsent:
            self._unread.pop(connection, None)
            return None
        before, since_s = self._unread.get(connection, (0, now_s))
        if before != unsent:
            self._unread[connection] = (unsent, now_s)
            return None
        return ConnectionEnd.UNREAD if now_s - since_s > UNREAD_S else None


def open_files_max() -> int:
    """How many files and connections this process may have open; the soft limit is raised to the hard one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard if hard != resource.RLIM_INFINITY else sys.maxsize


def _sent_nothing(connection: HttpConnection) -> bool:
    return connection.incoming_since_s is not None and not connection.incoming_bytes


def _idle_since_s(connection: HttpConnection) -> float | None:
    return connection.incoming_since_s if _sent_nothing(connection) else connection.idle_since_s
