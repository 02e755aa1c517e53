"""Bounds of connections, on a real server: nobody who only holds connections keeps others out, or costs for long."""

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response, StreamingResponse
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from kit.web.app import make_app, serve
from kit.web.health import failures
from kit.web.route_rules import public
from kit.web.serving.connections import (
    BODY_BYTES_PER_S_MIN,
    HEAD_S,
    HEALTH_CONNECTIONS,
    HEALTH_S,
    IDLE_S_MIN,
    UNREAD_S,
    ConnectionBounds,
    ConnectionEnd,
    ConnectionLimits,
    ConnectionMetrics,
)
from kit.web.serving.server import RunningServer
from tests.waiting import eventually

PING = b"GET /api/v1/ping HTTP/1.1\r\nhost: x\r\n\r\n"
HEALTH = b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n"
POST = b"POST /api/v1/length HTTP/1.1\r\nhost: x\r\ncontent-length: 200000\r\n\r\n"
ENOUGH_S = 30


@dataclass
class Client:
    """A connection of somebody who sends bytes."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def status(self) -> int:
        """Of the next answer, whose body is read too; 0: the connection is closed instead."""
        async with asyncio.timeout(ENOUGH_S):
            try:
                head = await self.reader.readuntil(b"\r\n\r\n")
            except (asyncio.IncompleteReadError, ConnectionError):
                return 0
            length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0] or b"0")
            await self.reader.readexactly(length)
        return int(head.split()[1])

    async def closed(self) -> None:
        """Until the server has closed it."""
        async with asyncio.timeout(ENOUGH_S):
            try:
                while await self.reader.read(1 << 16):
                    pass
            except ConnectionError:
                pass


@dataclass
class Site:
    """A server and its clients."""

    server: RunningServer
    gate: asyncio.Event  # for which GET /later waits
    clients: list[Client] = field(default_factory=list)

    async def client(self, data: bytes = b"") -> Client:
        made = Client(*await asyncio.open_connection("127.0.0.1", self.server.port))
        self.clients.append(made)
        made.send(data)
        return made

    def later(self, seconds: float) -> None:
        """Look over all connections as if so much time had passed since now."""
        self.server.bounds.sweep(asyncio.get_running_loop().time() + seconds)

    async def known(self, count: int) -> None:
        """Until the server has accepted so many."""
        await eventually(lambda: len(self.server.bounds.open) == count, within_s=ENOUGH_S)

    def ended(self) -> dict[str, float]:
        """How many connections the server ended, by why."""
        (family,) = self.server.bounds.metrics.ended.collect()
        return {one.labels["why"]: one.value for one in family.samples if one.name.endswith("_total")}


@asynccontextmanager
async def site(
    connections_max: int = 1_000, per_address_max: int = 1_000, hosts: Sequence[str] = ()
) -> AsyncIterator[Site]:
    app = make_app("test", "1", registry=CollectorRegistry())
    router = APIRouter(prefix="/api/v1", dependencies=[Depends(public)])
    gate = asyncio.Event()

    @router.get("/ping")
    async def ping() -> str:
        return "pong"

    @router.post("/length")
    async def length(request: Request) -> int:
        return len(await request.body())

    @router.get("/later")
    async def later() -> str:
        await asyncio.wait_for(gate.wait(), ENOUGH_S)
        return "later"

    @router.get("/much")
    async def much() -> StreamingResponse:
        async def body() -> AsyncIterator[bytes]:
            for _ in range(1_000):
                yield bytes(1 << 16)

        return StreamingResponse(body())

    @router.get("/whole")
    async def whole() -> Response:
        return Response(bytes(32 << 20))

    app.include_router(router)
    async with serve(app, "127.0.0.1", 0, ConnectionLimits(connections_max, per_address_max), hosts) as server:
        made = Site(server, gate)
        try:
            yield made
        finally:
            for client in made.clients:
                client.writer.close()


@pytest.mark.parametrize("data", [b"", b"GET /api", PING[:-2]])
async def test_a_head_that_does_not_come_is_waited_for_only_so_long(data: bytes) -> None:
    async with site() as at:
        slow = await at.client(data)
        await at.known(1)
        await eventually(lambda: all(one.incoming_bytes == len(data) for one in at.server.bounds.open), ENOUGH_S)
        at.later(HEAD_S - 1)
        assert at.ended() == {}
        at.later(HEAD_S + 1)
        assert await slow.status() == 408
        assert at.ended() == {"head": 1}
        slow.writer.close()
        await at.known(0)


async def test_a_body_has_to_go_on() -> None:
    async with site() as at:
        steady = await at.client(POST + bytes(int(BODY_BYTES_PER_S_MIN * (HEAD_S + 2))))
        slow = await at.client(POST + b"a")
        await at.known(2)
        await eventually(lambda: all(one.incoming_bytes > 1 for one in at.server.bounds.open), ENOUGH_S)
        at.later(HEAD_S - 1)
        assert at.ended() == {}
        at.later(HEAD_S + 1)
        assert await slow.status() == 408
        assert at.ended() == {"body": 1}
        steady.send(bytes(200_000 - int(BODY_BYTES_PER_S_MIN * (HEAD_S + 2))))
        assert await steady.status() == 200
        steady.send(PING)
        assert await steady.status() == 200
        at.later(HEAD_S + 1)  # between requests nothing is incoming
        steady.send(PING)
        assert await steady.status() == 200


async def test_between_requests_noise_is_no_request() -> None:
    async with site() as at:
        client = await at.client(PING)
        assert await client.status() == 200
        client.send(b"\r\n")
        await eventually(lambda: any(one.incoming_since_s for one in at.server.bounds.open), ENOUGH_S)
        at.later(HEAD_S + 1)
        await client.closed()
        assert sum(at.ended().values()) == 1


async def test_whoever_does_not_read_is_cut_off() -> None:
    async with site() as at:
        await at.client(b"GET /api/v1/much HTTP/1.1\r\nhost: x\r\n\r\n")
        await at.known(1)
        await eventually(lambda: all(one.unsent_bytes for one in at.server.bounds.open), ENOUGH_S)
        at.later(0)
        at.later(UNREAD_S - 1)
        assert at.ended() == {}
        at.later(UNREAD_S + 1)
        assert at.ended() == {"unread": 1}
        await at.known(0)


async def test_idle_connections_make_room_and_those_first_that_never_sent_anything() -> None:
    async with site(connections_max=4) as at:
        used = await at.client(PING)
        assert await used.status() == 200
        silent = [await at.client() for _ in range(3)]
        await at.known(4)
        for one in at.server.bounds.open:  # all a while ago
            one.incoming_since_s = one.incoming_since_s and one.incoming_since_s - IDLE_S_MIN
            one.idle_since_s = one.idle_since_s and one.idle_since_s - 10 * IDLE_S_MIN
        new = await at.client(PING)
        assert await new.status() == 200
        await silent[0].closed()
        used.send(PING)
        assert await used.status() == 200
        assert at.ended() == {"room": 1}


async def test_when_it_is_full_health_checks_are_answered_and_others_told() -> None:
    async with site(connections_max=3) as at:
        for _ in range(3):
            await at.client(PING[:-2])
        await at.known(3)
        watcher = await at.client(HEALTH)
        assert await watcher.status() == 200
        await watcher.closed()  # it does not stay
        other = await at.client(PING)
        assert await other.status() == 503
        await eventually(lambda: len(at.server.bounds.open) == 3, ENOUGH_S)
        held = [await at.client() for _ in range(HEALTH_CONNECTIONS)]
        await at.known(3 + HEALTH_CONNECTIONS)
        beyond = await at.client()
        assert await beyond.status() == 503  # before it has said anything
        at.later(HEALTH_S + 1)
        assert await held[0].status() == 503
        assert (await (await at.client(HEALTH)).status()) in (200, 503)


async def test_one_address_has_only_so_many() -> None:
    async with site(connections_max=100, per_address_max=2) as at:
        first, _second = await at.client(PING[:-2]), await at.client(PING[:-2])
        await at.known(2)
        third = await at.client(PING)
        assert await third.status() == 429
        first.writer.close()
        await eventually(lambda: len(at.server.bounds.open) == 1, ENOUGH_S)
        assert await (await at.client(PING)).status() == 200


@pytest.mark.parametrize("refused", [b"GET /api/v1/ping HTTP/1.1\r\n\r\n", b"GET / HTTP/1.1\r\nx: " + b"a" * 70_000])
async def test_a_refused_request_takes_no_earlier_ones_answer(refused: bytes) -> None:
    async with site() as at:
        client = await at.client(b"GET /api/v1/later HTTP/1.1\r\nhost: x\r\n\r\n")
        await at.known(1)
        (one,) = at.server.bounds.open
        await eventually(lambda: not one.in_head or one.incoming_since_s is None, ENOUGH_S)
        client.send(refused)
        await eventually(lambda: one._refused, ENOUGH_S)  # type: ignore[attr-defined]  # nothing tells it from outside
        at.gate.set()
        assert await client.status() == 200
        await client.closed()


async def test_whoever_still_reads_makes_no_room() -> None:
    async with site(connections_max=1) as at:
        reader = await at.client(b"GET /api/v1/whole HTTP/1.1\r\nhost: x\r\n\r\n")
        await at.known(1)
        (one,) = at.server.bounds.open
        await eventually(lambda: one.idle_since_s is not None, ENOUGH_S)  # all of the answer is handed over
        assert one.unsent_bytes
        one.idle_since_s = (one.idle_since_s or 0.0) - 10 * IDLE_S_MIN
        assert await (await at.client(PING)).status() == 503
        assert await reader.status() == 200


async def test_a_body_after_its_answer_leaves_an_idle_connection() -> None:
    async with site() as at:
        client = await at.client(b"POST /api/v1/nothing HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\n")
        assert await client.status() == 404
        client.send(b"12345")
        (one,) = at.server.bounds.open
        await eventually(lambda: one.idle_since_s is not None and one.incoming_since_s is None, ENOUGH_S)
        at.later(HEAD_S + 1)
        client.send(PING)
        assert await client.status() == 200
        assert at.ended() == {}


async def test_what_watches_connections_ends_the_server_where_it_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kit.web.serving.connections.SWEEP_S", 0.01)
    monkeypatch.setattr(ConnectionBounds, "sweep", lambda *_: 1 / 0)
    async with site() as at:
        with pytest.raises(ZeroDivisionError):
            await asyncio.wait_for(at.server.wait(), ENOUGH_S)


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"host: volt.example\r\n", 200),
        (b"host: VOLT.example:8080\r\n", 200),
        (b"host: [::1]:8080\r\n", 200),
        (b"host: evil.example\r\n", 421),
        (b"host: volt.example\r\nhost: evil.example\r\n", 400),
        (b"", 400),
    ],
)
async def test_a_request_names_the_host_that_it_is_for(head: bytes, status: int) -> None:
    async with site(hosts=("volt.example", "[::1]")) as at:
        client = await at.client(b"GET /api/v1/ping HTTP/1.1\r\n" + head + b"\r\n")
        assert await client.status() == status
        watcher = await at.client(b"GET /healthz HTTP/1.1\r\nhost: 10.0.0.7:8080\r\n\r\n")
        assert await watcher.status() == 200  # whoever looks after the process knows its address alone


async def test_answers_are_kept_by_nobody_and_lead_nowhere() -> None:
    async with site() as at, httpx.AsyncClient(base_url=at.server.url) as client:
        answer = await client.get("/api/v1/ping", headers={"host": "evil.example"})
        wanted = {"x-content-type-options": "nosniff", "x-frame-options": "DENY", "cache-control": "no-store"}
        assert wanted.items() <= dict(answer.headers).items()
        policy = answer.headers["content-security-policy"]
        for part in ("default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'", "object-src 'none'"):
            assert part in policy
        assert not {"set-cookie", "server", "access-control-allow-origin"} & answer.headers.keys()
        slash = await client.get("/api/v1/ping/", headers={"host": "evil.example"})
        assert (slash.status_code, "location" in slash.headers) == (404, False)


async def test_a_check_that_hangs_whatever_happens_is_no_reason_to_wait() -> None:
    never = asyncio.Event()

    async def hangs() -> None:
        while not never.is_set():
            with suppress(asyncio.CancelledError):
                await never.wait()

    found = await failures({"database": hangs})
    assert found == {"database": "no answer within 2 s"}
    never.set()


class Fake:
    """A connection as `ConnectionBounds` sees it."""

    def __init__(self, address: str, now_s: float) -> None:
        self.address = address
        self.idle_since_s: float | None = None
        self.incoming_since_s: float | None = now_s
        self.incoming_bytes = 0
        self.in_head = True
        self.only_health: ConnectionEnd | None = None
        self.unsent_bytes = 0
        self.reads = True
        self.why: list[ConnectionEnd] = []

    def end(self, why: ConnectionEnd) -> None:
        self.why.append(why)


@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 2**32), st.integers(1, 120))
def test_whatever_comes_and_goes_the_bounds_hold_and_counts_are_right(
    most: int, per_address: int, seed: int, steps: int
) -> None:
    dice = random.Random(seed)
    limits = ConnectionLimits(most, per_address).resolved()
    bounds = ConnectionBounds(limits, ConnectionMetrics(CollectorRegistry()))
    now_s, inside = 0.0, list[Fake]()
    for _ in range(steps):
        now_s += dice.random() * 2
        what = dice.randrange(4)
        if what < 2:
            new = Fake(dice.choice("abc"), now_s)
            why = bounds.admit(new, now_s)
            assert (why is None) == (new in bounds.open)
            inside.append(new)
        elif inside and what == 2:
            gone = inside.pop(dice.randrange(len(inside)))
            bounds.leave(gone)
        else:
            bounds.sweep(now_s)
            for one in inside:
                if one.why:
                    bounds.leave(one)
        counted: list[Any] = [one for one in bounds.open if one.only_health is None]
        assert len(counted) <= most
        assert sum(one.only_health is not None for one in bounds.open) <= HEALTH_CONNECTIONS
        for address in "abc":
            assert sum(one.address == address for one in counted) <= limits.per_address_max
    for last in list(bounds.open):
        bounds.leave(last)
    assert (bounds._by_address, bounds._only_health, bounds._unread) == ({}, 0, {})
