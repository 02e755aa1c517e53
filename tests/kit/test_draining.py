"""A server that stops fails no request of a client that goes on to another server where it cannot connect."""

import asyncio
import errno
import socket
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from threading import Thread
from typing import ClassVar

import pytest
from fastapi import APIRouter, Depends
from prometheus_client import CollectorRegistry

from kit.web.app import make_app, serve
from kit.web.route_rules import public
from kit.web.serving import server as server_module
from kit.web.serving.connections import HttpConnection
from kit.web.serving.draining import make_no_more_connections
from kit.web.serving.server import RunningServer
from tests.waiting import eventually

PING = b"GET /api/v1/ping HTTP/1.1\r\nhost: x\r\n\r\n"
LATER = b"GET /api/v1/later HTTP/1.1\r\nhost: x\r\n\r\n"
CLIENTS = 16
ENOUGH_S = 30


@pytest.fixture(autouse=True)
def _close_all() -> Iterator[None]:
    yield
    while BlockingClient.open:
        BlockingClient.open.pop().socket.close()


@asynccontextmanager
async def site(gate: asyncio.Event) -> AsyncIterator[RunningServer]:
    router = APIRouter()

    @router.get("/api/v1/ping", dependencies=[Depends(public)])
    async def ping() -> str:
        return "pong"

    @router.get("/api/v1/later", dependencies=[Depends(public)])
    async def later() -> str:
        await gate.wait()
        return "late"

    app = make_app("test", "1", registry=CollectorRegistry())
    app.include_router(router)
    async with serve(app, "127.0.0.1", 0) as server:
        yield server


class BlockingClient:
    """A connection."""

    open: ClassVar[list["BlockingClient"]] = []

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=ENOUGH_S)
        self.open.append(self)

    def send(self, request: bytes) -> None:
        self.socket.sendall(request)

    def answer(self) -> tuple[int, bool]:
        """Status of the answer (0: none came), and whether it is the connection's last."""
        data = b""
        while b"\r\n\r\n" not in data or not data.endswith(b'"'):
            octets = self.socket.recv(4_096)
            if not octets:
                return 0, True
            data += octets
        return int(data.split()[1]), b"connection: close" in data.lower()

    def ask(self) -> tuple[int, bool]:
        self.send(PING)
        return self.answer()


def _answers(connection: HttpConnection) -> bool:
    return connection.idle_since_s is None and connection.incoming_since_s is None


async def refused(port: int) -> bool:
    """Whether nobody listens there."""
    try:
        await asyncio.to_thread(lambda: socket.create_connection(("127.0.0.1", port), timeout=ENOUGH_S).close())
    except ConnectionRefusedError:
        return True
    return False


async def test_every_response_during_the_drain_is_the_last_of_its_connection() -> None:
    gate = asyncio.Event()
    async with site(gate) as server:
        idle, busy = BlockingClient(server.port), BlockingClient(server.port)
        assert await asyncio.to_thread(idle.ask) == (200, False)
        busy.send(LATER)
        await eventually(lambda: any(map(_answers, server.bounds.open)))
        draining = asyncio.create_task(server.drain(1.0))
        await asyncio.sleep(0)
        assert await asyncio.to_thread(idle.ask) == (200, True)
        assert idle.socket.recv(1) == b""
        assert await asyncio.to_thread(BlockingClient(server.port).ask) == (200, True)
        gate.set()
        assert await asyncio.to_thread(busy.answer) == (200, True)
        await draining
        assert await refused(server.port)


async def test_a_connection_of_the_last_moment_may_bring_its_request(monkeypatch: pytest.MonkeyPatch) -> None:
    late: list[BlockingClient] = []

    async def make_no_more(listeners: list[socket.socket]) -> None:
        late.extend(BlockingClient(listeners[0].getsockname()[1]) for _ in range(CLIENTS))  # they wait to be accepted
        await make_no_more_connections(listeners)

    monkeypatch.setattr(server_module, "make_no_more_connections", make_no_more)
    async with site(asyncio.Event()) as server:
        await server.drain(2.0)
        stopping = asyncio.create_task(server.stop())
        assert await refused(server.port)
        for client in late:
            client.send(PING)
        answers = [await asyncio.to_thread(client.answer) for client in late]
        assert answers == [(200, True)] * CLIENTS
        await stopping  # well before anybody was silent for two seconds


async def test_whoever_asks_without_pause_is_answered_or_finds_nobody_listening() -> None:
    outcomes: Counter[str] = Counter()

    def ask(port: int) -> None:
        """On connections that are kept for as long as responses say."""
        client: BlockingClient | None = None
        while True:
            try:
                client = client or BlockingClient(port)
            except ConnectionRefusedError:
                return
            try:
                status, last = client.ask()
            except OSError as error:
                outcomes[errno.errorcode.get(error.errno or 0, str(error))] += 1
                return
            outcomes[str(status)] += 1
            if not status:
                return
            if last:
                client.socket.close()
                client = None

    async with site(asyncio.Event()) as server:
        threads = [Thread(target=ask, args=(server.port,), daemon=True) for _ in range(CLIENTS)]
        for thread in threads:
            thread.start()
        await eventually(lambda: outcomes["200"] > 10 * CLIENTS, ENOUGH_S)
        await server.drain(0.3)
        await server.stop()
        for thread in threads:
            await asyncio.to_thread(thread.join, ENOUGH_S)
    assert set(outcomes) == {"200"}


async def test_connections_that_wait_to_be_accepted_are_not_lost_and_others_are_not_made() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    waiting = [BlockingClient(port) for _ in range(CLIENTS)]
    await make_no_more_connections([listener])
    with socket.socket() as late:
        late.setblocking(False)
        assert late.connect_ex(("127.0.0.1", port)) == errno.EINPROGRESS
        for client in waiting:
            client.send(PING)
            accepted, _ = listener.accept()
            assert accepted.recv(len(PING)) == PING
            accepted.close()
        listener.close()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.get_running_loop().sock_connect(late, ("127.0.0.1", port))


async def test_without_a_time_to_drain_a_stop_is_at_once() -> None:
    async with site(asyncio.Event()) as server:
        idle = BlockingClient(server.port)
        assert await asyncio.to_thread(idle.ask) == (200, False)
        await server.drain(0.0)
        assert await asyncio.to_thread(idle.ask) == (200, False)
        await server.stop()
        assert idle.socket.recv(1) == b""
