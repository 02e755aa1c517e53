"""The least that an HTTP server in Python can be, as a process: `python -m benchmarks.bare_http asgi|protocol`.

asgi: a function of two awaits under the product's own server (uvicorn, httptools, uvloop).
protocol: thirty lines on httptools and uvloop that parse a request and write the gateway's response.
Both answer 202 to everything. Prints {"url"} when it is ready, and ends on SIGTERM.
"""

import asyncio
import json
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import httptools
import uvicorn
import uvloop
from starlette.types import Receive, Scope, Send

from kit.memory_tuning import reduce_gc_frequency

_BODY: Final = b'{"accepted":1,"quarantined":[]}'
_HEADERS: Final = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(_BODY))]
_HEAD: Final = b"".join(b"%b: %b\r\n" % header for header in _HEADERS)
_RESPONSE: Final = b"HTTP/1.1 202 Accepted\r\n%b\r\n%b" % (_HEAD, _BODY)
_BACKLOG: Final = 2_048


class BareProtocol(asyncio.Protocol):
    """Reads whole requests and answers each."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # a stream
        """See asyncio."""
        self._transport = transport
        self._parser = httptools.HttpRequestParser(self)
        self._headers: list[tuple[bytes, bytes]] = []
        self._body = b""

    def data_received(self, data: bytes) -> None:
        """See asyncio."""
        self._parser.feed_data(data)

    def on_header(self, name: bytes, value: bytes) -> None:
        """See httptools."""
        self._headers.append((name, value))

    def on_body(self, body: bytes) -> None:
        """See httptools."""
        self._body += body

    def on_message_complete(self) -> None:
        """See httptools."""
        self._headers, self._body = [], b""
        self._transport.write(_RESPONSE)


async def bare_asgi(_scope: Scope, receive: Receive, send: Send) -> None:
    """Read the body and answer."""
    await receive()
    await send({"type": "http.response.start", "status": 202, "headers": _HEADERS})
    await send({"type": "http.response.body", "body": _BODY})


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """`main` has the signal."""
        yield


async def main(kind: str) -> None:
    """Serve until SIGTERM."""
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    reduce_gc_frequency()  # as the product does
    listener = socket.create_server(("127.0.0.1", 0), backlog=_BACKLOG)
    print(json.dumps({"url": f"http://127.0.0.1:{listener.getsockname()[1]}"}), flush=True)
    if kind == "protocol":
        await loop.create_server(BareProtocol, sock=listener)
        await stop.wait()
        return
    config = uvicorn.Config(
        bare_asgi, http="httptools", ws="none", lifespan="off", log_config=None, access_log=False, server_header=False
    )
    server = _Server(config)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    await stop.wait()
    server.should_exit = True
    await serving


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1]))
