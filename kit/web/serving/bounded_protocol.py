"""The HTTP protocol of one connection: uvicorn's, with bounds, and an end that a client sees."""

import asyncio
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, ClassVar, Final, cast

from httptools import HttpParserUpgrade, HttpRequestParser
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from kit.web.health import HEALTH_PATHS
from kit.web.problem import Problem, problem_response
from kit.web.request_scope import CERTIFICATE
from kit.web.serving.connections import BODY_BYTES_PER_S_MIN, HEAD_S, ConnectionBounds, ConnectionEnd
from kit.web.serving.direct import lines_of
from kit.web.serving.proxies import Headers, TrustedProxies, scheme_of

if TYPE_CHECKING:
    from array import array

# A client that is still sending when its request is refused gets so long to read the response, and may send so much
# meanwhile: ~10 ms of a core.
_LINGER_S: Final = 5.0
_LINGER_BYTES_MAX: Final = 16 << 20
# Of a request's head that is not here completely: the longest token of an issuer is 8 KiB. The parser keeps all of it.
_HEAD_BYTES_MAX: Final = 64 << 10
_HEAD_TOO_LONG: Final = f"the head of the request is longer than {_HEAD_BYTES_MAX} bytes; send shorter headers"
_PROBLEMS: Final = {
    ConnectionEnd.FULL: Problem(503, "this process has as many connections as it takes", headers={"Retry-After": "5"}),
    ConnectionEnd.ADDRESS: Problem(
        429,
        "your address has as many connections as one may have: send requests one after the other on few of them",
        headers={"Retry-After": "5"},
    ),
    ConnectionEnd.HEAD: Problem(
        408, f"no request, or not all of its head, came within {HEAD_S:.0f} s: send it at once"
    ),
    ConnectionEnd.BODY: Problem(
        408, f"the body came more slowly than {BODY_BYTES_PER_S_MIN} bytes a second: send it at once"
    ),
}


class _Parser(HttpRequestParser):
    """httptools', but offers of another protocol are ignored (RFC 9110, 7.8): Java's client offers HTTP/2 by itself.

    httptools takes such a request for one without a body, and leaves all behind its head to the other protocol. So its
    head is parsed again, without the offer, and then what follows it.
    """

    def __init__(self, protocol: "BoundedProtocol") -> None:
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


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's, but for offers of another protocol, the bounds of `kit.web.serving.connections` and of a request's
    head, and the end of a connection whose request is not complete. For `ConnectionBounds` it is an `HttpConnection`.

    A socket that is closed with unread bytes sends a reset, by which the client may lose a response that it has not
    read yet. So only our direction is closed at first; what the client still sends is discarded, unparsed, until it
    closes its own or a bound is reached (as nginx's `lingering_close`).
    """

    bounds: ClassVar[ConnectionBounds]  # of its server; see protocol_of
    hosts: ClassVar[frozenset[bytes]] = frozenset()  # by which clients may address it, lower case; none: by any
    proxies: ClassVar[TrustedProxies] = TrustedProxies()
    draining: ClassVar[bool] = False  # each response is the last of its connection
    address = ""  # of the other end, which may be a proxy's
    _from_proxy = False  # a trusted one
    certificate_header = b""  # in which it passes clients' certificates on
    only_health: ConnectionEnd | None = None
    in_head = True  # of the first request, which is waited for
    idle_since_s: float | None = None  # loop time; None while there is a request
    incoming_since_s: float | None = None
    incoming_bytes = 0
    _in_message = False
    _lingering: "_LingeringTransport | None" = None
    _lingers = False  # a refusal is out, which the client is to see
    _refused = False  # what is still to come of the request goes nowhere

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.parser = _Parser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn's own

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own
        """See asyncio."""
        super().connection_made(cast(asyncio.Transport, _LingeringTransport(transport, self)))
        self.address = self.client[0] if self.client else ""
        self._from_proxy = self.proxies.trusts(self.address)
        if self._from_proxy and self.proxies.certificate_header:  # an attribute more makes all of them slower
            self.certificate_header = self.proxies.certificate_header
        self.incoming_since_s = self.loop.time()
        why = self.bounds.admit(self, self.incoming_since_s)
        if why is not None:
            self.bounds.end(self, why)

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio."""
        self.bounds.leave(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """See asyncio."""
        if self._lingering is not None:
            self._lingering.discard(len(data))
            return
        if self._refused:
            return
        super().data_received(data)
        if (self._in_message or self._waits) and not self.transport.is_closing():
            self._count_incoming(len(data))

    def _count_incoming(self, size: int) -> None:
        """Of a request that is not complete, or of bytes that are none."""
        if self.incoming_since_s is None:
            self.incoming_since_s = self.loop.time()
        self.incoming_bytes += size
        if self.in_head and self.incoming_bytes > _HEAD_BYTES_MAX:
            self._refuse(Problem(431, _HEAD_TOO_LONG))

    @property
    def _waits(self) -> bool:
        """Whether nothing but a request can be expected, and none has begun."""
        return self.idle_since_s is None and (self.cycle is None or self.cycle.response_complete)

    def on_message_begin(self) -> None:
        """See httptools."""
        self._begin_message()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """See httptools."""
        self.in_head = False
        if not (self.offers_upgrade() or self._turned_away()):
            self._begin_request()

    def _begin_request(self) -> None:
        """Let uvicorn handle the request whose head is complete."""
        if self._from_proxy:
            self.scope["client"] = (self.client_of(self.headers), 0)  # no port, as uvicorn's own middleware has it
            self.scope["scheme"] = scheme_of(self.headers) or self.scope["scheme"]
            certificate = self.proxies.certificate_of(self.headers) if self.certificate_header else None
            if certificate is not None:
                cast(Any, self.scope)[CERTIFICATE] = certificate
        super().on_headers_complete()
        if self.only_health is not None or self.draining:
            self.cycle.keep_alive = False

    @classmethod
    def begin_drain(cls) -> None:
        """Let every response be the last of its connection, and say so: of requests that begin from now on, on all
        connections of this server. See `drain`."""
        cls.draining = True

    def drain(self) -> None:
        """The same for a request that is under way. What has begun to be sent did not say so, so its connection stays:
        the next response is its last."""
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete and not getattr(cycle, "response_started", False):
            cycle.keep_alive = False

    def silent_s(self, now_s: float) -> float:
        """For how long it has waited for a request; 0 while there is one. `now_s`: loop time."""
        since_s = self.idle_since_s
        if since_s is None and self._waits and not self.incoming_bytes:
            since_s = self.incoming_since_s  # it never sent one
        return 0.0 if since_s is None else now_s - since_s

    def client_of(self, headers: Headers) -> str:
        """The address of who sent the request with these headers; empty where it is not known."""
        return self.proxies.client_of(self.address, headers) if self._from_proxy else self.address

    def on_body(self, body: bytes) -> None:
        """See httptools."""
        if not self._refused:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """See httptools."""
        self._end_message()
        if self.offers_upgrade() or self._refused:
            return
        super().on_message_complete()
        if self.cycle.response_complete and self.cycle.more_body:  # answered before its body was here
            self.cycle.more_body = False
            self._begin_idle()

    def on_response_complete(self) -> None:
        """See uvicorn."""
        super().on_response_complete()
        if not self.pipeline and not self.transport.is_closing():
            self._begin_idle()

    def _begin_idle(self) -> None:
        self.idle_since_s = self.loop.time()
        if self.timeout_keep_alive_task is None:
            self._watch_idleness(self.timeout_keep_alive)

    def _watch_idleness(self, within_s: float) -> None:
        self.timeout_keep_alive_task = self.loop.call_later(within_s, self.timeout_keep_alive_handler)

    def _unset_keepalive_if_required(self) -> None:
        self.idle_since_s = None
        super()._unset_keepalive_if_required()

    def _begin_message(self) -> None:
        self.in_head = self._in_message = True
        self.idle_since_s = None

    def _end_message(self) -> None:
        self._in_message, self.incoming_since_s, self.incoming_bytes = False, None, 0
        self.in_head = True  # of the next, should anything come

    def _turned_away(self) -> bool:
        """Whether the request whose head is complete is refused: it has no host or another's, or there is no room but
        for health checks."""
        if self._refused:
            return True
        if self.url.partition(b"?")[0] in HEALTH_PATHS:
            return False
        if self.only_health is not None:
            self.bounds.end(self, self.only_health)
            return True
        named = [value for name, value in self.headers if name == b"host"]
        if len(named) != 1 and self.parser.get_http_version() != "1.0":  # RFC 9112, 3.2
            self._refuse(Problem(400, f"a request has one Host header, and this one {len(named)}: name the host once"))
        elif self.hosts and _host_of(named) not in self.hosts:
            self._refuse(Problem(421, "this is not the host that the request names: see VOLTSTREAM_HOSTS"))
        codings = [value.lower() for name, value in self.headers if name == b"transfer-encoding"]
        if codings and codings != [b"chunked"]:  # where it ends is not known (RFC 9112, 6.3): none of it takes effect
            self._refuse(Problem(400, "the one Transfer-Encoding that is read is chunked: send a Content-Length"))
        return self._refused

    @property
    def unsent_bytes(self) -> int:
        """See HttpConnection."""
        return self.transport.get_write_buffer_size()

    @property
    def reads(self) -> bool:
        """See HttpConnection."""
        return not self.flow.read_paused

    def end(self, why: ConnectionEnd) -> None:
        """See HttpConnection."""
        self.incoming_since_s = None
        full = self.only_health  # why it is for health checks alone: that is what a silent one is told
        problem = _PROBLEMS.get(why if full is None or why is not ConnectionEnd.HEAD else full)
        if why is ConnectionEnd.UNREAD:
            self.transport.abort()
        elif problem is None or self.transport.is_closing():
            self.transport.close()
        else:
            self._refuse(problem, lingers=full is None and why not in (ConnectionEnd.FULL, ConnectionEnd.ADDRESS))

    def offers_upgrade(self) -> bool:
        """Whether the request that is parsed offers another protocol, so that its head is parsed again."""
        return self.parser.should_upgrade() and self.parser.get_method() != b"CONNECT"  # which is no offer

    def head_without_offer(self) -> bytes:
        """The head that was parsed last, without the header that offers another protocol."""
        method, version = self.parser.get_method(), self.parser.get_http_version().encode()
        headers = [header for header in self.headers if header[0] != b"upgrade"]
        return b"%b %b HTTP/%b\r\n%b\r\n" % (method, self.url, version, lines_of(headers))

    def _refuse(self, problem: Problem, *, lingers: bool = True) -> None:
        """Answer the request that is not complete, unless its answer is out or under way, and close the connection:
        where an earlier request is still to be answered, after that. Without lingering it is gone at once."""
        self._refused = True
        cycle = self.cycle
        answers = cycle is None or (cycle.response_complete and not cycle.more_body)
        if not answers and not cycle.more_body:  # the earlier one is complete
            cycle.keep_alive = False
            return
        if not answers and not cycle.response_complete and not cycle.response_started:
            cycle.disconnected = True  # what waits for its body ends, and says nothing any more
            cycle.message_event.set()
            answers = True
        if answers:
            response = problem_response(problem)
            headers = [*self.server_state.default_headers, *response.raw_headers, (b"connection", b"close")]
            status = HTTPStatus(response.status_code)
            line = b"HTTP/1.1 %d %b\r\n" % (status, status.phrase.encode())
            self.transport.write(b"%b%b\r\n%b" % (line, lines_of(headers), bytes(response.body)))
        self._lingers = lingers and answers
        self.transport.close()

    def closes_early(self, transport: "_LingeringTransport") -> bool:
        """Whether a connection that is to be closed shall linger: once, where a response is out before its request."""
        cycle = self.cycle
        early = self._lingers or (cycle is not None and cycle.response_complete and cycle.more_body)
        if self._lingering is not None or not early:
            return False
        self._lingering = transport
        return True


def _host_of(headers: list[bytes]) -> bytes:
    """The name in a Host header, without port."""
    name = headers[0] if headers else b""
    return name.lower() if name.endswith(b"]") else name.lower().rpartition(b":")[0] or name.lower()


class _LingeringTransport:
    """A transport whose `close` lingers where the protocol wants it."""

    def __init__(self, transport: asyncio.Transport, protocol: BoundedProtocol) -> None:
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
