"""Stand-ins for services: each says who it is and what came, so that a proxy before them can be seen through."""

import base64
import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import Any

_WEBSOCKET = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, 1.3
STREAM_PATH = "/api/v1/telemetry/live/stream"
ENOUGH_S = 60


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, stand_in: "ServiceStandIn") -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.stand_in = stand_in

    def handle_error(self, *_: Any) -> None:
        """A proxy may reset its connections."""


class _Handler(BaseHTTPRequestHandler):
    server: "_Server"
    protocol_version = "HTTP/1.1"
    timeout = ENOUGH_S

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def do_GET(self) -> None:  # http.server's name
        """Any method."""
        body = self.rfile.read(int(self.headers.get("content-length", "0")))
        if self.path == "/ready":
            self._respond({})
            return
        self.server.stand_in.requests[self.command] += 1
        if not self.server.stand_in.answers:
            self.close_connection = True
        elif self.headers.get("upgrade") == "websocket":
            self._upgrade()
        elif self.path == STREAM_PATH:
            self._stream()
        else:
            headers = {name.lower(): value for name, value in self.headers.items()}
            self._respond(
                {
                    "service": self.server.stand_in.service,
                    "method": self.command,
                    "path": self.path,
                    "headers": headers,
                    "body_bytes": len(body),
                }
            )

    do_POST = do_PUT = do_DELETE = do_GET  # noqa: N815

    def _respond(self, document: dict[str, Any]) -> None:
        body = json.dumps(document).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _stream(self) -> None:
        self.send_response(200)
        for name, value in (
            ("content-type", "text/event-stream"),
            ("x-accel-buffering", "no"),
            ("connection", "close"),
        ):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(b"data: first\n\n")
        assert self.server.stand_in.go_on.wait(ENOUGH_S)
        self.wfile.write(b"data: second\n\n")
        self.close_connection = True

    def _upgrade(self) -> None:
        key = self.headers["sec-websocket-key"] + _WEBSOCKET
        accept = base64.b64encode(hashlib.sha1(key.encode(), usedforsecurity=False).digest()).decode()
        self.send_response(101)
        for name, value in (
            ("upgrade", "websocket"),
            ("connection", "upgrade"),
            ("sec-websocket-accept", accept),
        ):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(self.rfile.read(8))  # as it came
        self.close_connection = True


class ServiceStandIn:
    """One process of a service. `requests`: how many it got, by method, and `ready`, whether it says so."""

    def __init__(self, service: str, *, answers: bool = True) -> None:
        """One that does not answer reads a request and closes the connection."""
        self.service, self.answers = service, answers
        self.requests: Counter[str] = Counter()
        self.go_on = Event()  # a stream waits for it after its first event
        self.server = _Server(self)
        self.address = f"127.0.0.1:{self.server.server_port}"

    @contextmanager
    def running(self) -> Iterator["ServiceStandIn"]:
        """Within the block."""
        thread = Thread(target=self.server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self.go_on.set()
            self.server.shutdown()
            self.server.server_close()
            thread.join(ENOUGH_S)


@contextmanager
def running(make: Callable[[], Sequence[ServiceStandIn]]) -> Iterator[dict[str, list[ServiceStandIn]]]:
    """These, by service."""
    with ExitStack() as stack:
        found: dict[str, list[ServiceStandIn]] = {}
        for one in make():
            found.setdefault(one.service, []).append(stack.enter_context(one.running()))
        yield found
