"""The HTTP protocol of one connection, with direct routes, and which one an app's connections have."""

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Final, NamedTuple, cast

from fastapi import FastAPI

from kit.web.request_ids import IDS_OF_ONE_REQUEST
from kit.web.serving.bounded_protocol import BoundedProtocol
from kit.web.serving.connections import ConnectionBounds, ConnectionEnd
from kit.web.serving.direct import DirectRequest, DirectRoute, DirectRoutes, lines_of
from kit.web.serving.proxies import TrustedProxies

# The longest body that is handled directly: uvloop reads 250 KiB at once, so a longer one is never here as a whole.
_DIRECT_BYTES_MAX: Final = 250 << 10
# Heads of direct requests that are not parsed again, of all connections: a client's are alike but for the length of the
# body, of which a fleet's readings have a dozen. ~1.2 kB each: 20 MB. When there are more, all are forgotten.
_HEADS_MAX: Final = 16_384
_KNOWN_HEAD_BYTES_MAX: Final = 1_024
_NO_PROXIES: Final = TrustedProxies()
_HEAD_END: Final = b"\r\n\r\n"
_NEVER_DIRECT: Final = frozenset((b"transfer-encoding", b"expect"))  # headers


class _KnownHead(NamedTuple):
    """What the parser found in the head of an ordinary request of a direct route."""

    route: DirectRoute
    headers: Mapping[bytes, bytes]
    body_bytes: int


class DirectProtocol(BoundedProtocol):
    """Hands the ordinary requests of direct routes to their direct handlers, all others to the app.

    A request of a direct route is held from its head on if its token is known. It is handled once its body is complete.
    What turns out not to be ordinary goes to the app as if it had not been held: a body in parts, a connection that
    closes meanwhile, a handler that declines.

    A request that arrives as a whole, with the same head as an earlier one, is handled without parsing it.
    """

    routes: ClassVar[Mapping[bytes, DirectRoute]] = {}  # by path; see protocol_of
    heads: ClassVar[dict[bytes, _KnownHead]] = {}  # by their bytes
    _default_head: ClassVar[tuple[object, bytes]] = ((), b"")
    _held: DirectRequest | None = None
    _between_requests = True  # what arrives next begins a request
    _arrived = b""  # what is parsed now, where it begins with the head that is not complete yet

    def data_received(self, data: bytes) -> None:
        """See asyncio."""
        if self._between_requests:
            head_bytes = data.find(_HEAD_END) + len(_HEAD_END)
            head = self.heads.get(data[:head_bytes])
            if head is not None and self._take(head, data[head_bytes:]):
                return
            self._arrived = data
        super().data_received(data)
        self._arrived = b""
        if self._held is not None and self._held.body:
            self._pass_on(self._release())  # its body comes in parts: the app bounds them

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio."""
        if self._held is not None:
            self._pass_on(self._release())
        super().connection_lost(exc)
        if self.timeout_keep_alive_task is not None:
            self.timeout_keep_alive_task.cancel()

    def shutdown(self) -> None:
        """See uvicorn."""
        if self._held is not None:
            self._pass_on(self._release())
        super().shutdown()

    @classmethod
    def begin_drain(cls) -> None:
        """See BoundedProtocol. No request is direct any more."""
        super().begin_drain()
        cls.routes = {}
        cls.heads.clear()

    def drain(self) -> None:
        """See BoundedProtocol."""
        if self._held is not None:
            self._pass_on(self._release())
        super().drain()

    def on_message_begin(self) -> None:
        """See httptools. The scope is made where it is needed."""
        self._begin_message()
        self._between_requests = False
        self.url = b""
        self.headers = []

    def on_header(self, name: bytes, value: bytes) -> None:
        """See httptools."""
        self.headers.append((name.lower(), value))

    def _begin_request(self) -> None:
        """Hold the request whose head is complete for its direct route, or let uvicorn handle it."""
        route = self.routes.get(self.url)
        if route is not None:
            self._held = self._direct_request(route)
        if self._held is None:
            self._begin_scope()
        self._arrived = b""

    def on_body(self, body: bytes) -> None:
        """See httptools."""
        if self._held is None:
            super().on_body(body)
        else:
            self._held.body += body

    def on_message_complete(self) -> None:
        """See httptools."""
        self._between_requests = not self.parser.should_upgrade()
        if self._held is None:
            super().on_message_complete()
            return
        self._end_message()
        request = self._release()
        if not self._offer(request):
            self._pass_on(request)
            super().on_message_complete()

    def write_response(self, response: bytes, *, close: bool) -> None:
        """See kit.web.serving.direct.Connection."""
        self.transport.write(response)
        if close:
            self.transport.close()
        self.on_response_complete()

    def on_response_complete(self) -> None:
        """See uvicorn. One timer lasts as long as the connection is idle or busy; to start and cancel one with every
        request costs 2 us."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            cycle, app = self.pipeline.pop()
            self._start_asgi_task(cycle, app)
            return
        self._begin_idle()

    def timeout_keep_alive_handler(self) -> None:
        """See uvicorn."""
        self.timeout_keep_alive_task = None
        if self.idle_since_s is None:
            return
        left_s = self.idle_since_s + self.timeout_keep_alive - self.loop.time()
        if left_s > 0:
            self._watch_idleness(left_s)
        else:
            super().timeout_keep_alive_handler()

    def _unset_keepalive_if_required(self) -> None:
        self.idle_since_s = None

    def end(self, why: ConnectionEnd) -> None:
        """See HttpConnection."""
        if self._held is not None:
            self._pass_on(self._release())  # so that it ends as any other
        super().end(why)

    @property
    def head(self) -> bytes:
        """The headers of every response."""
        headers, head = self._default_head
        if headers is not self.server_state.default_headers:  # a new list every second
            headers = self.server_state.default_headers
            head = lines_of(headers)
            type(self)._default_head = (headers, head)
        return head

    def _take(self, head: _KnownHead, body: bytes) -> bool:
        """Handle a request that is here as a whole, if it is an ordinary one."""
        if len(body) != head.body_bytes or not self._is_free or self.only_health is not None:
            return False
        if self.transport.is_closing():
            return False
        request = head.route.begin(self, head.headers)
        if request is None:
            return False
        self.idle_since_s = self.incoming_since_s = None
        request.body = body
        return self._offer(request)

    @property
    def _is_free(self) -> bool:
        """Whether a request that begins now is the only one."""
        return (self.cycle is None or self.cycle.response_complete) and not self.flow.write_paused

    def _direct_request(self, route: DirectRoute) -> DirectRequest | None:
        """The request whose head is complete, if it is an ordinary one."""
        parser, headers = self.parser, dict(self.headers)
        length = headers.get(b"content-length", b"")
        ordinary = (
            self._is_free  # else it is pipelined
            and parser.get_method() == route.method
            and parser.get_http_version() == "1.1"
            and parser.should_keep_alive()
            and len(headers) == len(self.headers)  # else one is there twice
            and _NEVER_DIRECT.isdisjoint(headers)
            and length.isdigit()
            and int(length) <= min(route.rules.body_bytes_max, _DIRECT_BYTES_MAX)
        )
        if not ordinary:
            return None
        request = route.begin(self, headers)
        if request is not None and IDS_OF_ONE_REQUEST.isdisjoint(headers):
            self._remember(_KnownHead(route, headers, int(length)))
        return request

    def _remember(self, head: _KnownHead) -> None:
        """Remember the head whose bytes have arrived in one piece."""
        octets = self._arrived[: self._arrived.find(_HEAD_END) + len(_HEAD_END)]
        lines = len(head.headers) + 2  # with the first and the empty one
        if octets.count(b"\n") != lines or len(octets) > _KNOWN_HEAD_BYTES_MAX:
            return  # it began earlier, or its lines do not end as they should
        if len(self.heads) >= _HEADS_MAX:
            self.heads.clear()
        self.heads[octets] = head

    def _offer(self, request: DirectRequest) -> bool:
        """Offer a request that is complete to its handler; False where that declines."""
        before, self.cycle = self.cycle, cast(Any, request)
        if request.handle():
            return True
        self.cycle = before
        return False

    def _release(self) -> DirectRequest:
        request, self._held = self._held, None
        assert request is not None  # noqa: S101  # the callers have looked
        return request

    def _begin_scope(self) -> None:
        """Let uvicorn handle the request whose head is complete."""
        url, headers = self.url, self.headers
        super().on_message_begin()
        self.in_head = False
        self.url = url
        self.headers = self.scope["headers"] = headers
        self.expect_100_continue = any(key == b"expect" and value.lower() == b"100-continue" for key, value in headers)
        super()._begin_request()

    def _pass_on(self, request: DirectRequest) -> None:
        """Let uvicorn handle a request that was held, and as much of its body as is here."""
        self._begin_scope()
        if request.body:
            super().on_body(request.body)


def protocol_of(
    app: FastAPI, bounds: ConnectionBounds, hosts: Iterable[str] = (), proxies: TrustedProxies = _NO_PROXIES
) -> type[BoundedProtocol]:
    """The protocol of an app's connections, of which these are the bounds: with its direct routes, if it has any.
    `hosts`: the names by which clients may address it; none: by any."""
    direct_routes: DirectRoutes | None = getattr(app.state, "direct_routes", None)
    by_path = direct_routes.by_path() if direct_routes is not None else {}
    names = frozenset(host.lower().encode() for host in hosts)
    server = {"bounds": bounds, "hosts": names, "proxies": proxies}
    if not by_path:
        return type("BoundedProtocol", (BoundedProtocol,), server)
    return type("DirectProtocol", (DirectProtocol,), {**server, "routes": by_path, "heads": {}})
