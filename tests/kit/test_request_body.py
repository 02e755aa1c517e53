"""Bodies: none is read without a token that the route takes, none beyond the route's bound; and what a client sees."""

import asyncio
import contextlib
import re
import socket
from collections.abc import AsyncIterator, Iterable, Iterator
from typing import Any, Final
from uuid import UUID

import httpx
import pytest
from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.routing import iter_route_contexts
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from pydantic import BaseModel
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kit.auth.authenticator import Authenticator
from kit.auth.requirements import RequireScope, require_scope
from kit.auth.scopes import KINDS, kinds_with
from kit.auth.scopes import Scope as TokenScope
from kit.auth.token_store import PREFIXES, Principal, hash_of
from kit.clock import ManualClock
from kit.errors import Unavailable
from kit.web.app import make_app, serve
from kit.web.json_body import JsonRoute
from kit.web.route_rules import BODY_BYTES_MAX, InvalidRouteRules, access_of, body_bytes_max, check_rules, public
from kit.web.serving.server import RunningServer

TOKENS: Final = {kind: prefix + "t" * 43 for kind, prefix in PREFIXES.items()}
RULES: Final[tuple[TokenScope | None, ...]] = (None, "stations:write", "billing:pay", "readings:write")
SMALL: Final = 1_000  # the bound of routes that declare one
JSON: Final = b"application/json"


class Tokens:
    """In place of the database's tokens; `away` makes it one that does not answer."""

    away = False
    found = 0

    async def find(self, token_hash: bytes) -> Principal | None:
        """One of each kind."""
        self.found += 1
        if self.away:
            raise Unavailable("PostgreSQL does not answer")
        kinds = [kind for kind, token in TOKENS.items() if hash_of(token) == token_hash]
        return Principal(kinds[0], UUID(int=1), None, "D1" if kinds[0] == "driver" else None) if kinds else None

    def gone(self, token_hashes: Iterable[bytes]) -> set[bytes]:
        """None is."""
        return set()

    async def record_use(self, token_ids: Iterable[object]) -> None:
        """Nobody asks when they were used."""


class Item(BaseModel):
    """What FastAPI parses before it resolves a dependency."""

    text: str


def _router() -> APIRouter:
    router = APIRouter(route_class=JsonRoute)

    async def parsed(item: Item) -> str:
        return "ok"

    async def raw(request: Request) -> str:
        async for _ in request.stream():
            pass
        return "ok"

    for number, scope in enumerate(RULES):
        rule = Depends(public) if scope is None else Depends(require_scope(scope))
        for name, handler in (("parsed", parsed), ("raw", raw)):
            bound = [Depends(body_bytes_max(SMALL))] if name == "raw" else []
            router.add_api_route(
                f"/api/{name}/{number}",
                handler,
                methods=["POST"],
                dependencies=[rule, *bound],
                operation_id=f"{name}{number}",
            )
    return router


class Counting:
    """Around everything: how many bytes of bodies were taken from the server."""

    def __init__(self, app: ASGIApp, counts: list[int]) -> None:
        self._app = app
        self._counts = counts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def counted() -> Message:
            message = await receive()
            self._counts[0] += len(message.get("body", b""))
            return message

        await self._app(scope, counted, send)


def _app(tokens: Tokens, counts: list[int]) -> FastAPI:
    app = make_app("test", "1", registry=CollectorRegistry())
    app.state.authenticator = Authenticator(tokens, ManualClock())  # type: ignore[arg-type]  # what it asks of a store
    app.include_router(_router())
    app.add_middleware(Counting, counts=counts)
    return app


async def _post(app: ASGIApp, path: str, headers: list[tuple[bytes, bytes]], chunks: list[bytes]) -> int:
    """The status of a request whose body arrives in these chunks."""
    status = 0
    waiting = iter(chunks)

    async def receive() -> Message:
        chunk = next(waiting, None)
        if chunk is None:
            return {"type": "http.request", "body": b"", "more_body": False}
        return {"type": "http.request", "body": chunk, "more_body": True}

    async def send(message: Message) -> None:
        nonlocal status
        if message["type"] == "http.response.start":
            status = message["status"]

    scope: Scope = {"type": "http", "http_version": "1.1", "scheme": "http", "server": ("test", 80), "root_path": ""}
    scope.update(method="POST", path=path, raw_path=path.encode(), query_string=b"", headers=headers)
    await app(scope, receive, send)
    return status


@given(
    number=st.integers(0, len(RULES) - 1),
    name=st.sampled_from(["parsed", "raw"]),
    kind=st.sampled_from([None, "unknown", *KINDS]),
    chunks=st.lists(st.integers(0, BODY_BYTES_MAX * 2 // 3), max_size=4)
    | st.lists(st.integers(SMALL - 2, SMALL + 2), max_size=1),
    declared=st.booleans(),
)
def test_no_byte_of_a_body_is_read_for_a_stranger_or_beyond_the_bound(
    number: int, name: str, kind: Any, chunks: list[int], declared: bool
) -> None:
    counts = [0]
    app = _app(Tokens(), counts)
    size = sum(chunks)
    headers = [(b"content-type", JSON)]
    if kind is not None:
        headers.append((b"authorization", b"Bearer " + TOKENS.get(kind, "vso_" + "u" * 43).encode()))
    headers.append((b"content-length", b"%d" % size) if declared else (b"transfer-encoding", b"chunked"))
    status = asyncio.run(_post(app, f"/api/{name}/{number}", headers, [b"x" * chunk for chunk in chunks]))

    scope, bound = RULES[number], SMALL if name == "raw" else BODY_BYTES_MAX
    if scope is not None and kind not in kinds_with(scope):
        assert (status, counts) == (403 if kind in KINDS else 401, [0])
    elif size > bound:
        assert status == 413
        assert counts[0] == 0 if declared else bound < counts[0] <= bound + max(chunks)
    else:
        assert status == (200 if name == "raw" else 422 if size == 0 else 400)
        assert counts == [size]


async def test_a_token_that_cannot_be_looked_up_is_an_outage_and_no_bad_body() -> None:
    tokens, counts = Tokens(), [0]
    tokens.away = True
    headers = [(b"content-type", JSON), (b"authorization", b"Bearer " + TOKENS["operator"].encode())]
    assert await _post(_app(tokens, counts), "/api/parsed/1", headers, [b"{}"]) == 503
    assert counts == [0]


async def test_an_error_of_ours_while_a_token_is_verified_is_no_bad_body() -> None:
    counts = [0]
    app = _app(Tokens(), counts)
    del app.state.authenticator
    headers = [(b"content-type", JSON), (b"authorization", b"Bearer " + TOKENS["operator"].encode())]
    assert await _post(app, "/api/parsed/1", headers, [b"{}"]) == 500
    assert counts == [0]


async def test_a_token_is_verified_once_a_request_however_often_it_is_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    verified = []
    verify = Authenticator._principals

    async def counted(self: Authenticator, *arguments: Any) -> tuple[Principal, ...]:
        verified.append(arguments)
        return await verify(self, *arguments)

    monkeypatch.setattr(Authenticator, "_principals", counted)
    headers = [(b"content-type", JSON), (b"authorization", b"Bearer " + TOKENS["operator"].encode())]
    assert await _post(_app(Tokens(), [0]), "/api/parsed/1", headers, [b'{"text": "a"}']) == 200
    assert len(verified) == 1


def _mounted(*rules: Any) -> FastAPI:
    app = make_app("test", "1", registry=CollectorRegistry())
    router = APIRouter(dependencies=[Depends(rule) for rule in rules[:1]])

    @router.get("/x", dependencies=[Depends(rule) for rule in rules[1:]])
    async def x() -> None: ...

    app.include_router(router)
    return app


@pytest.mark.parametrize(
    ("rules", "says"),
    [
        ((), "/x declares no access rule"),
        ((body_bytes_max(1),), "/x declares no access rule"),
        ((public, require_scope("stations:write")), "leave one of the two out"),
        ((require_scope("stations:read"), require_scope("stations:write")), "a route needs one scope"),
    ],
)
def test_a_route_without_an_access_rule_or_with_a_contradiction_is_not_mounted(rules: Any, says: str) -> None:
    with pytest.raises(InvalidRouteRules, match=says):
        _mounted(*rules)


async def test_an_app_with_a_route_of_its_own_without_an_access_rule_does_not_start() -> None:
    app = make_app("test", "1", registry=CollectorRegistry())
    app.get("/late", response_model=None)(_router)
    with pytest.raises(InvalidRouteRules, match="/late"):
        async with serve(app, "127.0.0.1", 0):
            pass


@pytest.mark.parametrize(
    ("rules", "access"),
    [
        ((public,), "public"),
        ((require_scope("stations:write"),), {"admin", "operator"}),
        ((require_scope("billing:pay"), require_scope("billing:pay")), {"admin", "finance", "driver"}),
    ],
)
def test_the_access_of_a_route_is_what_it_and_its_router_declare(rules: tuple[RequireScope, ...], access: Any) -> None:
    (route,) = (route for route in iter_route_contexts(_mounted(*rules).routes) if route.path == "/x")
    assert access_of(route) == access
    check_rules([route])


class Connection:
    """A client that reads and writes what it wants."""

    def __init__(self, server: RunningServer, counts: list[int]) -> None:
        self.counts = counts
        self._socket = socket.create_connection((server.host, server.port), timeout=30)

    def send(self, *headers: str, body: bytes = b"", path: str = "/api/parsed/1") -> None:
        """The head of a request, and what there is of its body."""
        lines = [f"POST {path} HTTP/1.1", "Host: x", "Content-Type: application/json", *headers, "", ""]
        self._socket.sendall("\r\n".join(lines).encode() + body)

    def send_more(self, size: int) -> int:
        """How many of so many bytes were sent before the server had enough."""
        part, sent = bytes(65_536), 0
        with contextlib.suppress(ConnectionError):
            while sent < size:
                sent += self._socket.send(part)
        return sent

    def receive(self) -> str:
        """One response, or an interim one."""
        read = b""
        while b"\r\n\r\n" not in read:
            read += self._more()
        head, _, body = read.partition(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head)
        while length is not None and len(body) < int(length[1]):
            body += self._more()
        return f"{head.decode()}\r\n\r\n{body.decode()}"

    def _more(self) -> bytes:
        part = self._socket.recv(65_536)
        assert part, "the server has closed the connection"
        return part

    def rest(self) -> str:
        """Everything until the server has closed the connection."""
        parts = []
        while part := self._socket.recv(65_536):
            parts.append(part)
        return b"".join(parts).decode()

    def close(self) -> None:
        """Ours."""
        self._socket.close()


@pytest.fixture
async def connection() -> AsyncIterator[Connection]:
    counts = [0]
    async with serve(_app(Tokens(), counts), "127.0.0.1", 0) as server:
        made = Connection(server, counts)
        yield made
        made.close()


BEARER: Final = f"Authorization: Bearer {TOKENS['operator']}"
LENGTHS: Final = ["Content-Length: 67108864", "Transfer-Encoding: chunked"]


@pytest.mark.parametrize("length", LENGTHS)
async def test_a_stranger_who_claims_a_large_body_is_refused_before_it_is_sent(
    connection: Connection, length: str
) -> None:
    connection.send(length)
    answer = await asyncio.to_thread(connection.rest)
    assert answer.startswith("HTTP/1.1 401 ")
    assert "connection: close" in answer
    assert connection.counts == [0]


@pytest.mark.parametrize("length", LENGTHS)
async def test_a_stranger_who_sends_on_reads_the_refusal_and_nobody_reads_the_body(
    connection: Connection, length: str
) -> None:
    connection.send(length, body=b"4000000\r\n" if "chunked" in length else b"")
    assert await asyncio.to_thread(connection.send_more, 8 << 20) == 8 << 20
    assert (await asyncio.to_thread(connection.rest)).startswith("HTTP/1.1 401 ")
    assert connection.counts == [0]


async def test_a_stranger_who_never_stops_is_cut_off(connection: Connection) -> None:
    connection.send("Content-Length: 1500000000")
    assert await asyncio.to_thread(connection.send_more, 1_500_000_000) < 100_000_000
    assert connection.counts == [0]


async def test_a_body_that_is_declared_too_long_is_refused_unread(connection: Connection) -> None:
    connection.send(BEARER, LENGTHS[0])
    assert (await asyncio.to_thread(connection.rest)).startswith("HTTP/1.1 413 ")
    assert connection.counts == [0]


async def test_a_body_that_turns_out_too_long_is_read_to_the_bound(connection: Connection) -> None:
    connection.send(BEARER, LENGTHS[1], body=b"4000000\r\n")
    await asyncio.to_thread(connection.send_more, 64 << 20)
    assert (await asyncio.to_thread(connection.rest)).startswith("HTTP/1.1 413 ")
    assert BODY_BYTES_MAX < connection.counts[0] < BODY_BYTES_MAX + (1 << 20)  # the server's largest chunk


async def test_a_client_that_asks_before_it_sends_is_told_to_go_on_only_with_a_token(connection: Connection) -> None:
    connection.send(BEARER, "Expect: 100-continue", "Content-Length: 13")
    assert (await asyncio.to_thread(connection.receive)) == "HTTP/1.1 100 Continue\r\n\r\n"
    connection._socket.sendall(b'{"text": "a"}')
    assert (await asyncio.to_thread(connection.receive)).startswith("HTTP/1.1 200 ")
    connection.send("Expect: 100-continue", "Content-Length: 13")
    answer = await asyncio.to_thread(connection.rest)
    assert answer.startswith("HTTP/1.1 401 ")
    assert "connection: close" in answer


@pytest.mark.parametrize("size", [0, 1, 1_000, 65_536])
async def test_a_small_body_that_nobody_reads_leaves_the_connection_usable(connection: Connection, size: int) -> None:
    for _ in range(3):
        connection.send(f"Content-Length: {size}", body=bytes(size))
        answer = await asyncio.to_thread(connection.receive)
        assert answer.startswith("HTTP/1.1 401 ")
        assert "connection: close" not in answer
    connection.send(BEARER, "Content-Length: 13", body=b'{"text": "a"}')
    assert (await asyncio.to_thread(connection.receive)).startswith("HTTP/1.1 200 ")


async def test_an_ordinary_client_that_streams_sees_the_refusal() -> None:
    def body() -> Iterator[bytes]:
        for _ in range(128):
            yield bytes(65_536)

    async with serve(_app(Tokens(), [0]), "127.0.0.1", 0) as server:

        def post() -> int:
            with httpx.Client(base_url=server.url, timeout=30) as client:
                return client.post("/api/raw/1", content=body()).status_code

        assert await asyncio.to_thread(post) == 401
