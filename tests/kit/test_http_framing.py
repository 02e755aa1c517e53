"""Where a request ends: what two readers could take for different requests is refused, and the connection with it."""

import asyncio

import pytest
from fastapi import APIRouter, Depends, Request
from prometheus_client import CollectorRegistry

from kit.web.app import make_app, serve
from kit.web.route_rules import public

_HEAD = b"POST /api/v1/first HTTP/1.1\r\nhost: x\r\n"
_SECOND = b"GET /api/v1/second HTTP/1.1\r\nhost: x\r\n\r\n"
_CHUNKS = b"0\r\n\r\n"
ENOUGH_S = 30


async def exchange(data: bytes) -> tuple[int, list[str]]:
    """Status of the first answer, and the paths of the requests that reached a route, all of the data read."""
    reached: list[str] = []
    app = make_app("test", "1", registry=CollectorRegistry())
    router = APIRouter(prefix="/api/v1", dependencies=[Depends(public)])

    @router.post("/first")
    @router.get("/second")
    async def take(request: Request) -> int:
        reached.append(request.url.path)
        return len(await request.body())

    app.include_router(router)
    async with serve(app, "127.0.0.1", 0) as server, asyncio.timeout(ENOUGH_S):
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        try:
            writer.write(data)
            writer.write_eof()
            answer = await reader.read(1 << 20)
        finally:
            writer.close()
            await writer.wait_closed()
    return int(answer.split()[1]), reached


async def test_requests_one_behind_the_other_are_read_each() -> None:
    plain = _HEAD + b"content-length: 5\r\n\r\n" + b"12345" + _SECOND
    assert await exchange(plain) == (200, ["/api/v1/first", "/api/v1/second"])
    chunked = _HEAD + b"transfer-encoding: chunked\r\n\r\n5\r\n12345\r\n" + _CHUNKS + _SECOND
    assert await exchange(chunked) == (200, ["/api/v1/first", "/api/v1/second"])


@pytest.mark.parametrize(
    "headers",
    [
        b"content-length: 5\r\ntransfer-encoding: chunked",
        b"transfer-encoding: chunked\r\ncontent-length: 5",
        b"content-length: 5\r\ncontent-length: 6",
        b"content-length: 5\r\ncontent-length: 5",
        b"content-length: +5",
        b"content-length: 5, 5",
        b"content-length: 0x5",
        b"content-length : 5",
        b"transfer-encoding: chunked, identity",
        b"transfer-encoding: xchunked",
        b"transfer-encoding : chunked",
        b"x: y\r\n folded: z",
        b"x: y\nz: 1",
        b"x: y\rz: 1",
        b"x: \0",
    ],
)
async def test_a_request_whose_end_is_doubtful_reaches_no_route_and_nothing_behind_it_does(headers: bytes) -> None:
    status, reached = await exchange(_HEAD + headers + b"\r\n\r\n" + _CHUNKS + _SECOND)
    assert (status, reached) == (400, [])


@pytest.mark.parametrize(
    "chunks", [b"5;\n\r\n12345\r\n0\r\n\r\n", b"5\n12345\r\n0\r\n\r\n", b"0x5\r\n12345\r\n0\r\n\r\n", b"-1\r\n\r\n"]
)
async def test_nothing_behind_a_chunk_that_is_none_is_read(chunks: bytes) -> None:
    _, reached = await exchange(_HEAD + b"transfer-encoding: chunked\r\n\r\n" + chunks + _SECOND)
    assert "/api/v1/second" not in reached


@pytest.mark.parametrize("method", [b"TRACE", b"CONNECT", b"OPTIONS", b"PATCH"])
async def test_a_method_that_a_route_does_not_have_shows_nothing(method: bytes) -> None:
    status, reached = await exchange(method + b" /api/v1/first HTTP/1.1\r\nhost: x\r\nx-secret: s\r\n\r\n")
    assert (status in (400, 404, 405), reached) == (True, [])
