"""A small real HTTP/1.1 server that plays the gateway: it counts, answers at once, and fails as a script says.

`python -m tests.simulator.http_sink PORT` runs it alone, to measure what load mode can write.
"""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import httptools

LOST = 0  # in a script: take the request, close the connection without an answer


@dataclass
class Sink:
    """What came, and what is still to be answered otherwise than 202."""

    script: list[int] = field(default_factory=list)  # statuses of the next answers; LOST; then 202 for ever
    retry_after: str = "0"
    quarantined: str = "[]"
    keep: bool = True
    bodies: list[bytes] = field(default_factory=list)  # of every request, in order
    answered: list[int] = field(default_factory=list)  # the status of each
    headers: list[dict[str, str]] = field(default_factory=list)
    connections: int = 0
    open: set[asyncio.Transport] = field(default_factory=set)
    url: str = ""

    def acknowledged(self) -> list[bytes]:
        """The bodies answered with 202."""
        return [body for body, status in zip(self.bodies, self.answered, strict=True) if status == 202]

    def answer(self, body: bytes, headers: dict[str, str]) -> bytes | None:
        """The response to a request; None: cut the connection."""
        status = self.script.pop(0) if self.script else 202
        if self.keep:
            self.bodies.append(body)
            self.answered.append(status)
            self.headers.append(headers)
        if status == LOST:
            return None
        if status == 202:
            text = b'{"accepted":%d,"quarantined":%b}' % (max(1, body.count(b"station_id")), self.quarantined.encode())
            return b"HTTP/1.1 202 Accepted\r\nContent-Length: %d\r\n\r\n%b" % (len(text), text)
        text = b'{"title":"no","status":%d,"detail":"scripted"}' % status
        head = b"HTTP/1.1 %d No\r\nRetry-After: %b\r\nContent-Length: %d\r\n\r\n"
        return head % (status, self.retry_after.encode(), len(text)) + text


class _Connection(asyncio.Protocol):
    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._parts: list[bytes] = []
        self._headers: dict[str, str] = {}
        self._parser = httptools.HttpRequestParser(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._sink.connections += 1
        self._sink.open.add(transport)

    def connection_lost(self, error: Exception | None) -> None:
        self._sink.open.discard(self._transport)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.decode().lower()] = value.decode()

    def on_body(self, part: bytes) -> None:
        self._parts.append(part)

    def on_message_complete(self) -> None:
        body, headers = b"".join(self._parts), self._headers
        self._parts, self._headers = [], {}
        answer = self._sink.answer(body, headers)
        if answer is None:
            self._transport.abort()
        elif not self._transport.is_closing():
            self._transport.write(answer)


@asynccontextmanager
async def serving(sink: Sink, port: int = 0) -> AsyncIterator[Sink]:
    """Serve `sink` on loopback; its `url` says where."""
    server = await asyncio.get_running_loop().create_server(lambda: _Connection(sink), "127.0.0.1", port)
    sink.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield sink
    finally:
        server.close()
        for connection in list(sink.open):
            connection.abort()
        await server.wait_closed()


async def _main(port: int) -> None:
    async with serving(Sink(keep=False), port) as sink:
        sys.stdout.write(f"{sink.url}\n")
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_main(int(sys.argv[1])))
