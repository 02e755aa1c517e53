"""The HTTP protocol of one connection: uvicorn's, with an end that a client sees, and with direct routes."""

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Final, NamedTuple, cast

from fastapi import FastAPI
from httptools import HttpParserUpgrade, HttpRequestParser
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from kit.web.direct import DirectRequest, DirectRoute, DirectRoutes, lines_of
from kit.web.problem import Problem, problem_response
from kit.web.request_ids import IDS_OF_ONE_REQUEST

if TYPE_CHECKING:
    from array import array

# A client that is still sending when its request is refused gets so long to read the response, and may send so much
# meanwhile: ~10 ms of a core.
_LINGER_S: Final = 5.0
_LINGER_BYTES_MAX: Final = 16 << 20
# Of a request's head that is not here completely: the longest token of an issuer is 8 KiB. The parser keeps all of it.
_HEAD_BYTES_MAX: Final = 64 << 10
_HEAD_TOO_LONG: Final = f"the head of the request is longer than {_HEAD_BYTES_MAX} bytes; send shorter headers"
# The longest body that is handled directly: uvloop reads 250 KiB at once, so a longer one is never here as a whole.
_DIRECT_BYTES_MAX: Final = 250 << 10
# Heads of direct requests that are not parsed again, of all connections: a client's are alike but for the length of the
# body, of which a fleet's readings have a dozen. ~1.2 kB each: 20 MB. When there are more, all are forgotten.
_HEADS_MAX: Final = 16_384
_KNOWN_HEAD_BYTES_MAX: Final = 1_024
_HEAD_END: Final = b"\r\n\r\n"
_NEVER_DIRECT: Final = frozenset((b"transfer-encoding", b"expect"))  # headers


class _Parser(HttpRequestParser):
    """httptools', but offers of another protocol are ignored (RFC 9110, 7.8): Java's client offers HTTP/2 by itself.

    httptools takes such a request for one without a body, and leaves all behind its head to the other protocol. So its
    head is parsed again, without the offer, and then what follows it.
    """

    def __init__(self, protocol: "LingeringProtocol") -> None:
        super().__init__(protocol)
        self._protocol = protocol

    def feed_data(self, data: "bytes | bytearray | memoryview[int] | array[int]") -> None:
        """See httptools."""
        while True:
            try:
                super().feed_data(data)
            except HttpParserUpgrade as offer:
                super().feed_data(self._protocol.head_without_offer())
                data = memoryview(data)[offer.args[0] :]
            else:
                return


class LingeringProtocol(HttpToolsProtocol):
    """uvicorn's, but for offers of another protocol, a bound of a request's head, and the end of a connection whose
    request is not complete.

    A socket that is closed with unread bytes sends a reset, by which the client may lose a response that it has not
    read yet. So only our direction is closed at first; what the client still sends is discarded, unparsed, until it
    closes its own or a bound is reached (as nginx's `lingering_close`).
    """

    _lingering: "_LingeringTransport | None" = None
    _in_head = False
    _head_bytes = 0  # received since the head began, in pieces that did not complete it
    _head_refused = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.parser = _Parser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn's own

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own
        """See asyncio."""
        super().connection_made(cast(asyncio.Transport, _LingeringTransport(transport, self)))

    def data_received(self, data: bytes) -> None:
        """See asyncio."""
        if self._lingering is not None:
            self._lingering.discard(len(data))
            return
        super().data_received(data)
        if self._in_head and not self.transport.is_closing():
            self._head_bytes += len(data)
            if self._head_bytes > _HEAD_BYTES_MAX:
                self._refuse_head()

    def on_message_begin(self) -> None:
        """See httptools."""
        self._in_head = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """See httptools."""
        self._in_head, self._head_bytes = False, 0
        if not self.offers_upgrade():
            super().on_headers_complete()

    def on_message_complete(self) -> None:
        """See httptools."""
        if not self.offers_upgrade():
            super().on_message_complete()

    def offers_upgrade(self) -> bool:
        """Whether the request that is parsed offers another protocol, so that its head is parsed again."""
        return self.parser.should_upgrade() and self.parser.get_method() != b"CONNECT"  # which is no offer

    def head_without_offer(self) -> bytes:
        """The head that was parsed last, without the header that offers another protocol."""
        method, version = self.parser.get_method(), self.parser.get_http_version().encode()
        headers = [header for header in self.headers if header[0] != b"upgrade"]
        return b"%b %b HTTP/%b\r\n%b\r\n" % (method, self.url, version, lines_of(headers))

    def _refuse_head(self) -> None:
        """Answer 431, unless an answer to an earlier request is still to come, and close the connection."""
        if self.cycle is None or self.cycle.response_complete:
            self._head_refused = True
            response = problem_response(Problem(431, _HEAD_TOO_LONG))
            headers = [*self.server_state.default_headers, *response.raw_headers, (b"connection", b"close")]
            head = lines_of(headers)
            self.transport.write(
                b"HTTP/1.1 431 Request Header Fields Too Large\r\n%b\r\n%b" % (head, bytes(response.body))
            )
        self.transport.close()

    def closes_early(self, transport: "_LingeringTransport") -> bool:
        """Whether a connection that is to be closed shall linger: once, where a response is out before its request."""
        cycle = self.cycle
        early = self._head_refused or (cycle is not None and cycle.response_complete and cycle.more_body)
        if self._lingering is not None or not early:
            return False
        self._lingering = transport
        return True


class _LingeringTransport:
    """A transport whose `close` lingers where the protocol wants it."""

    def __init__(self, transport: asyncio.Transport, protocol: LingeringProtocol) -> None:
        self._transport = transport
        self._protocol = protocol
        self._closing = False
        self._discarded_bytes = 0
        self.write = transport.write

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def is_closing(self) -> bool:
        """See asyncio."""
        return self._closing or self._transport.is_closing()

    def close(self) -> None:
        """See asyncio."""
        if self._transport.is_closing() or not self._protocol.closes_early(self):
            self._transport.close()
            return
        self._closing = True
        self._transport.write_eof()
        if not self._transport.is_reading():
            self._transport.resume_reading()
        asyncio.get_running_loop().call_later(_LINGER_S, self._transport.close)

    def discard(self, size: int) -> None:
        """Count bytes that are received and dropped."""
        self._discarded_bytes += size
        if self._discarded_bytes > _LINGER_BYTES_MAX:
            self._transport.abort()


class _KnownHead(NamedTuple):
    """What the parser found in the head of an ordinary request of a direct route."""

    route: DirectRoute
    headers: Mapping[bytes, bytes]
    body_bytes: int


class DirectProtocol(LingeringProtocol):
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
    _idle_since_s: float | None = None  # loop time; None while there is a request

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

    def on_message_begin(self) -> None:
        """See httptools. The scope is made where it is needed."""
        self._in_head, self._between_requests = True, False
        self.url = b""
        self.headers = []

    def on_header(self, name: bytes, value: bytes) -> None:
        """See httptools."""
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """See httptools."""
        self._in_head, self._head_bytes = False, 0
        if self.offers_upgrade():
            return
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
        request = self._release()
        if not self._offer(request):
            self._pass_on(request)
            super().on_message_complete()

    def write_response(self, response: bytes, *, close: bool) -> None:
        """See kit.web.direct.Connection."""
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
        self._idle_since_s = self.loop.time()
        if self.timeout_keep_alive_task is None:
            self._watch_idleness(self.timeout_keep_alive)

    def timeout_keep_alive_handler(self) -> None:
        """See uvicorn."""
        self.timeout_keep_alive_task = None
        if self._idle_since_s is None:
            return
        left_s = self._idle_since_s + self.timeout_keep_alive - self.loop.time()
        if left_s > 0:
            self._watch_idleness(left_s)
        else:
            super().timeout_keep_alive_handler()

    def _watch_idleness(self, within_s: float) -> None:
        self.timeout_keep_alive_task = self.loop.call_later(within_s, self.timeout_keep_alive_handler)

    def _unset_keepalive_if_required(self) -> None:
        self._idle_since_s = None

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
        if len(body) != head.body_bytes or not self._is_free or self.transport.is_closing():
            return False
        request = head.route.begin(self, head.headers)
        if request is None:
            return False
        self._idle_since_s = None
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
        self.url = url
        self.headers = self.scope["headers"] = headers
        self.expect_100_continue = any(key == b"expect" and value.lower() == b"100-continue" for key, value in headers)
        super().on_headers_complete()

    def _pass_on(self, request: DirectRequest) -> None:
        """Let uvicorn handle a request that was held, and as much of its body as is here."""
        self._begin_scope()
        if request.body:
            super().on_body(request.body)


def protocol_of(app: FastAPI) -> type[LingeringProtocol]:
    """The protocol of an app's connections: with its direct routes, if it has any."""
    direct_routes: DirectRoutes | None = getattr(app.state, "direct_routes", None)
    by_path = direct_routes.by_path() if direct_routes is not None else {}
    return type("DirectProtocol", (DirectProtocol,), {"routes": by_path, "heads": {}}) if by_path else LingeringProtocol
