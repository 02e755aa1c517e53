"""The law of the direct path: whatever a client sends, it gets the answer of the framework's path, byte for byte.

Two gateways alike but for that get the same bytes, in the same pieces, over connections in memory, so that an example
is the same in every run. What they wrote to their logs, their metrics and their audit must be equal too.
"""

import asyncio
import gzip
import re
import ssl
from base64 import b64decode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import permutations
from typing import Any, Final
from urllib.parse import quote

import msgspec
import pyarrow as pa
import pytest
import structlog
import zstandard
from hypothesis import event, given
from hypothesis import strategies as st
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from uvicorn.server import ServerState

from ingest.gateway import PATH, Gateway
from kit.audit.entry import Entry
from kit.audit.requests import RequestAudit
from kit.auth.authenticator import REVOCATION_S
from kit.clock import ManualClock, from_ms
from kit.live.view import InProcessLive
from kit.observability.tracing import setup_tracing
from kit.web.serving.connections import ConnectionBounds, ConnectionLimits
from kit.web.serving.protocol import DirectProtocol
from kit.web.serving.proxies import TrustedProxies
from kit.web.serving.server import config_of
from schemas.frame import decode_body, decode_header
from tests.ingest.conftest import (
    BOUND_DEVICE,
    CERTIFICATE,
    DEVICE,
    NOBODYS_CERTIFICATE,
    OPERATOR,
    SETTINGS,
    ControlledLog,
    make_gateway_app,
)
from tests.ingest.wire_strategies import NOW_MS, as_json, items, plain_items

_EXCHANGE_S: Final = 60  # only prevents hanging
_ANSWERED: Final = re.compile(rb"HTTP/1\.1 (\d+)")
_NO_REQUEST: Final = re.compile(
    rb"HTTP/1\.1 400 Bad Request\r\n[^{]*\r\n\r\nInvalid HTTP request received\.", re.DOTALL
)
_NEW_IDS: Final = re.compile(rb'(x-correlation-id: |"correlation_id":")[0-9a-f]{32}')
_GIVEN_ID: Final = b"given-id"
_TRACE_ID: Final = "0af7651916cd43dd8448eb211c80319c"
_TRACEPARENT: Final = f"00-{_TRACE_ID}-b7ad6b7169203331-01".encode()


_PROXY: Final = "10.0.0.1"  # which is trusted
_BY_CERTIFICATE: Final = (b"Client-Cert", CERTIFICATE)
_DER: Final = b64decode(CERTIFICATE.strip(b":"))


class Wire(asyncio.Transport):
    """The server's end of a connection in memory."""

    def __init__(self) -> None:
        super().__init__({"peername": (_PROXY, 7)})
        self.sent = bytearray()
        self.closed = False
        self.reading = True
        self._changed = asyncio.Event()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until the condition is true, or the connection closed."""
        while not (self.closed or condition()):
            self._changed.clear()
            await self._changed.wait()

    def write(self, data: Any) -> None:
        if not self.closed:
            self.sent += data
        self._changed.set()

    def close(self) -> None:
        self.closed = True
        self._changed.set()

    write_eof = abort = close

    def is_closing(self) -> bool:
        return self.closed

    def is_reading(self) -> bool:
        return self.reading

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True
        self._changed.set()


@dataclass(frozen=True)
class Piece:
    """Bytes that arrive at once; `awaits`: only after everything before is answered."""

    data: bytes
    awaits: bool = False


class Side:
    """One of the two gateways."""

    def __init__(self, clock: ManualClock, *, direct: bool) -> None:
        self.log = ControlledLog()
        self.app, self.ingest = make_gateway_app(self.log, InProcessLive(), clock)
        self._entries: list[Entry] = []
        self._audit = self.app.state.audit = RequestAudit(clock, self._entries.append)
        if not direct:
            del self.app.state.direct_routes
        bounds = ConnectionBounds(ConnectionLimits(1_000_000, 1_000_000), self.app.state.connection_metrics)
        self._config = config_of(self.app, bounds, proxies=TrustedProxies.of(_PROXY, "client-cert"))
        self._config.load()
        self._protocol: Any = self._config.http_protocol_class
        assert issubclass(self._protocol, DirectProtocol) == direct
        self._state = ServerState()
        self._state.default_headers = [(b"date", b"Thu, 01 Jan 1970 00:00:00 GMT")]
        self.ingest.start()

    @property
    def heads(self) -> dict[bytes, Any]:
        """The heads that are not parsed again."""
        heads: dict[bytes, Any] = self._protocol.heads
        return heads

    def connection(self) -> Any:
        """The protocol of a new connection."""
        return self._protocol(config=self._config, server_state=self._state, app_state={})

    async def answers(self, *pieces: Piece, all_answered: bool = True) -> bytes:
        """What the gateway sends on a new connection, on which these arrive, until all is answered or at once."""
        protocol = self.connection()
        wire = Wire()
        protocol.connection_made(wire)
        async with asyncio.timeout(_EXCHANGE_S):
            for piece in pieces:
                if piece.awaits:
                    await wire.until(lambda: _is_idle(protocol))
                await wire.until(lambda: wire.reading)
                if wire.closed:
                    break
                protocol.data_received(piece.data)
                await asyncio.sleep(0)
            if all_answered:
                await wire.until(lambda: _is_idle(protocol))
            protocol.connection_lost(None)
            if self._state.tasks:
                await asyncio.wait(self._state.tasks)
        return bytes(wire.sent)

    async def get(self, path: str) -> bytes:
        """The body of the answer to a GET."""
        return (await self.answers(Piece(b"GET %b HTTP/1.1\r\nhost: x\r\n\r\n" % path.encode()))).partition(
            b"\r\n\r\n"
        )[2]

    async def metrics(self) -> list[str]:
        """All but when they began, and the requests for themselves."""
        lines = (await self.get("/metrics")).decode().splitlines()
        return [line for line in lines if "_created" not in line and '"/metrics"' not in line]

    def audited(self) -> Any:
        """What is kept of the requests since the last call, but for ids that a gateway makes itself."""
        self._audit.close_minute()
        entries = []
        for entry in self._entries:
            own = entry.correlation_id if entry.correlation_id == _GIVEN_ID.decode() else len(entry.correlation_id)
            entries.append(msgspec.structs.replace(entry, correlation_id=str(own)))
        self._entries.clear()
        return entries, self._audit.telemetry.take()

    def rows(self, since: int) -> list[Any]:
        """What is in the frames from this one on, but for ids that a gateway makes itself."""
        found = []
        for frame in self.log.frames[since:]:
            header = decode_header(frame)
            own = header.correlation_id if header.correlation_id == _GIVEN_ID.decode() else len(header.correlation_id)
            trace = _TRACE_ID in header.traceparent
            what = header.kind, header.partition, header.number, header.items, header.items_total, header.received_ms
            found.append((what, own, trace, len(header.traceparent), decode_body(frame).to_pylist()))
        return found


def _is_idle(protocol: Any) -> bool:
    """Whether all that has arrived is answered."""
    return protocol.cycle is None or (protocol.cycle.response_complete and not protocol.pipeline)


class Twins:
    """Both gateways, in one event loop."""

    def __init__(self, runner: asyncio.Runner) -> None:
        self._runner = runner
        self.clock = ManualClock(from_ms(NOW_MS))
        self.direct, self.plain = runner.run(self._open())

    async def _open(self) -> tuple[Side, Side]:
        return Side(self.clock, direct=True), Side(self.clock, direct=False)

    def know_tokens(self) -> None:
        """Let both verify the tokens again, as they do every few seconds."""
        self.clock.advance(REVOCATION_S)
        for token in (DEVICE, BOUND_DEVICE, OPERATOR):
            self.compare(Piece(request(authorization=[b"Bearer " + token.encode()])))
        self.compare(Piece(request(authorization=[], headers=[_BY_CERTIFICATE])))

    def compare(self, *pieces: Piece, log: str = "fine", all_answered: bool = True) -> list[int]:
        """Let both answer. The statuses, once everything is found to be equal."""
        sides = self.direct, self.plain
        before = len(self.direct.log.frames)
        for side in sides:
            side.log.behaviour = log
        first, second = (
            _NEW_IDS.sub(rb"\1new", self._runner.run(side.answers(*pieces, all_answered=all_answered)))
            for side in sides
        )
        # What was complete when bytes came that are no request may be answered before them, and is by the direct path.
        assert first == second or (_NO_REQUEST.fullmatch(second) and first.endswith(second))
        assert self.direct.rows(before) == self.plain.rows(before)
        assert self._runner.run(self.direct.metrics()) == self._runner.run(self.plain.metrics())
        assert self.direct.audited() == self.plain.audited()
        return [int(status) for status in _ANSWERED.findall(first)]

    def answers_of(self, side: Side, *pieces: Piece) -> bytes:
        """Of one of them alone."""
        return self._runner.run(side.answers(*pieces))

    def close(self) -> None:
        for side in (self.direct, self.plain):
            self._runner.run(side.ingest.close())


@pytest.fixture(scope="module")
def twins() -> Iterator[Twins]:
    with asyncio.Runner() as runner:
        both = Twins(runner)
        both.know_tokens()
        yield both
        both.close()


def request(
    body: bytes = b"[]",
    *,
    method: bytes = b"POST",
    target: bytes = PATH.encode(),
    version: bytes = b"1.1",
    authorization: list[bytes] | None = None,
    content_type: bytes | None = b"application/json",
    headers: list[tuple[bytes, bytes]] | None = None,
    chunk_bytes: int = 0,
) -> bytes:
    """A request; with `chunk_bytes` in chunks of that many."""
    tokens = [b"Bearer " + DEVICE.encode()] if authorization is None else authorization
    lines = [(b"Host", b"x"), *((b"Authorization", token) for token in tokens), *(headers or [])]
    if content_type is not None:
        lines.append((b"Content-Type", content_type))
    if chunk_bytes:
        lines.append((b"Transfer-Encoding", b"chunked"))
        parts = [body[at : at + chunk_bytes] for at in range(0, len(body), chunk_bytes)]
        body = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
    else:
        lines.append((b"Content-Length", b"%d" % len(body)))
    head = b"".join(b"%b: %b\r\n" % line for line in lines)
    return b"%b %b HTTP/%b\r\n%b\r\n%b" % (method, target, version, head, body)


def _as_arrow(rows: list[dict[str, Any]]) -> bytes:
    table = pa.Table.from_pylist(rows)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue().to_pybytes())


def reading(**changes: Any) -> dict[str, Any]:
    return {"station_id": "CP1", "connector_id": 1, "ts": NOW_MS, "power_w": 11_000.5} | changes


_ordinary = plain_items.map(as_json) | st.lists(plain_items, max_size=5).map(as_json)
_json_bodies = (
    _ordinary
    | items.map(as_json)
    | st.lists(items, max_size=8).map(as_json)
    | st.binary(max_size=80)
    | st.builds(lambda body, cut: body[:cut], _ordinary, st.integers(0, 300))
    | st.sampled_from(
        [
            *(b"", b" \n", b"[]", b"{}", b"null", b'"', b'{"station_id": }', b"[1, 2", b"\xff\xfe"),
            as_json([reading(soc_pct=-1)] * 130),
            as_json([reading(station_id="CP2")]),
            as_json([reading()] * 400),
            as_json([{"station_id": "A"}] * (SETTINGS.readings_per_request_max + 1)),
            b" " * SETTINGS.body_bytes_max,
        ]
    )
)
_forms: st.SearchStrategy[tuple[bytes, bytes]] = st.one_of(
    st.tuples(
        st.sampled_from([b"application/json", b"Application/JSON; charset=utf-8", b" application/json "]),
        _json_bodies,
    ),
    st.tuples(st.just(b"application/x-ndjson"), st.lists(items.map(as_json), max_size=5).map(b"\n".join)),
    st.tuples(
        st.just(b"application/vnd.apache.arrow.stream"),
        st.sampled_from([_as_arrow([reading(seq=1), reading(seq=2)]), _as_arrow([reading(seq=-1)]), b"", b"ARROW1"]),
    ),
    st.tuples(st.sampled_from([b"text/plain", b"", b"application/xml", b"\xe9"]), _json_bodies),
)
_BOMB: Final = bytes(SETTINGS.inflated_bytes_max + 1)
_Encoding = tuple[bytes, Callable[[bytes], bytes]]
_ENCODINGS: Final[list[_Encoding]] = [
    *((b"gzip", gzip.compress), (b"GZip", gzip.compress), (b"zstd", zstandard.compress)),
    *((b"gzip", lambda body: gzip.compress(body)[:-3]), (b"zstd", lambda body: zstandard.compress(body)[:-3])),
    *((b"gzip", lambda _: gzip.compress(_BOMB)), (b"zstd", lambda _: zstandard.compress(_BOMB))),
    *((b"gzip", bytes), (b"identity", bytes), (b"", bytes), (b"br", bytes), (b"gzip, gzip", gzip.compress)),
]
_TOKENS: Final = [
    *([b"Bearer " + token.encode()] for token in (DEVICE, BOUND_DEVICE, OPERATOR, "vsd_" + "x" * 43, "short")),
    *([form + DEVICE.encode()] for form in (b"bearer  ", b"BEARER ", b"Basic ", b"", b"Bearer", b"Bearer \xe9")),
    *(
        [b"Bearer " + first.encode(), b"Bearer " + second.encode()]
        for first, second in permutations((DEVICE, OPERATOR))
    ),
    [],
]
_HEADERS: Final = [
    *(
        (b"X-Forwarded-For", b"192.0.2.1"),
        (b"X-Forwarded-For", b"x, 192.0.2.2, 10.0.0.1"),
        (b"X-Forwarded-For", b"\xff"),
    ),
    *((b"X-Correlation-ID", _GIVEN_ID), (b"x-correlation-id", b"a\tb"), (b"X-CORRELATION-ID", b"x" * 129)),
    *((b"traceparent", _TRACEPARENT), (b"traceparent", b"00-zz"), (b"traceparent", b"\xe9")),
    *((b"Content-Type", b"text/plain"), (b"CONTENT-type", b"application/x-ndjson")),
    *((b"Connection", b"close"), (b"Connection", b"keep-alive"), (b"Connection", b"upgrade")),
    *((b"Upgrade", b"websocket"), (b"Upgrade", b"h2c"), (b"Expect", b"100-continue"), (b"Expect", b"else")),
    *((b"Content-Encoding", b"identity"), (b"Content-Encoding", b"gzip"), (b"X-Long", b"x" * 5_000)),
    *((b"Content-Length", b"2"), (b"Content-Length", b"+2"), (b"Transfer-Encoding", b"chunked")),
    *((b"X-Empty", b""), (b"X-Nul", b"\0"), (b"bad name", b"x"), (b"Cookie", b"a=b"), (b"X-Text", b"\xc3\xa9")),
]
_CERTIFICATES: Final = [
    *(CERTIFICATE, NOBODYS_CERTIFICATE, CERTIFICATE + b", " + CERTIFICATE, CERTIFICATE[:-1], b"", b"::", b"::, ::"),
    *(b":AAAA:", b"x", b"\xff", b":" + b"A" * 20_000 + b":", quote(ssl.DER_cert_to_PEM_cert(_DER), safe="").encode()),
]
_METHODS: Final = [b"GET", b"HEAD", b"PUT", b"OPTIONS", b"post", b"TRACE"]
_ENDS: Final = [b"?", b"?strict=true", b"?strict=maybe", b"?stict=1", b"/", b"/x", b"#a", b"%2f", b";a", b"\xe9"]
_TARGETS: Final = [
    *(PATH.encode() + end for end in _ENDS),
    *(b"http://x" + PATH.encode(), b"//x" + PATH.encode(), b"*"),
    *(b"/api/v1/%74elemetry", b"/API/V1/TELEMETRY", b"/ready"),
]
_ODDITIES: Final[list[dict[str, Any]]] = [
    *({"headers": [header]} for header in _HEADERS),
    *({"headers": [header, header]} for header in _HEADERS),
    *({"method": method} for method in _METHODS),
    *({"target": target} for target in _TARGETS),
    *({"version": version} for version in (b"1.0", b"0.9", b"2.0", b"x")),
    *({"authorization": tokens} for tokens in _TOKENS),
    *({"chunk_bytes": size} for size in (1, 70, 9_000)),
    *({"body": b" " * (SETTINGS.body_bytes_max + more)} for more in (1, 2 * SETTINGS.body_bytes_max)),
    *({"authorization": [], "headers": [(b"Client-Cert", one)]} for one in _CERTIFICATES),
    *({"authorization": [b""], "headers": [(b"Client-Cert", one)]} for one in _CERTIFICATES[:3]),
    *(
        {"authorization": [b"Bearer " + token.encode()], "headers": [(b"Client-Cert", one)]}
        for one in _CERTIFICATES
        for token in (DEVICE, BOUND_DEVICE, OPERATOR)
    ),
    {"authorization": [], "headers": [_BY_CERTIFICATE, _BY_CERTIFICATE]},
    {"authorization": [], "headers": [(b"SSL-Client-Cert", CERTIFICATE)]},
    {"version": b"1.0", "headers": [(b"Connection", b"keep-alive")]},
    {"content_type": None},
    {"body": b"", "headers": [(b"Content-Encoding", b"gzip")]},
]


@st.composite
def _ordinary_requests(draw: st.DrawFn) -> dict[str, Any]:
    token = draw(st.sampled_from([DEVICE, BOUND_DEVICE, OPERATOR]))
    known = [(b"X-Correlation-ID", _GIVEN_ID)] if draw(st.booleans()) else []
    by_certificate = draw(st.integers(0, 3)) == 0
    return {
        "body": draw(_ordinary | _json_bodies),
        "authorization": [] if by_certificate else [b"Bearer " + token.encode()],
        "headers": [*known, _BY_CERTIFICATE] if by_certificate else known,
    }


@st.composite
def _encoded(draw: st.DrawFn) -> dict[str, Any]:
    content_type, body = draw(_forms)
    encoding, encode = draw(st.sampled_from(_ENCODINGS))
    return {"body": encode(body), "content_type": content_type, "headers": [(b"Content-Encoding", encoding)]}


@st.composite
def _requests(draw: st.DrawFn) -> bytes:
    """Anything that ends where it says, or is refused at its head: ordinary, with one oddity, or with two."""
    parts: dict[str, Any] = draw(_ordinary_requests())
    for _ in range(draw(st.integers(0, 2))):
        parts |= draw(st.sampled_from(_ODDITIES) | _encoded() | _forms.map(_as_parts))
    return request(**parts)


def _as_parts(form: tuple[bytes, bytes]) -> dict[str, Any]:
    return {"content_type": form[0], "body": form[1]}


@st.composite
def _pieces(draw: st.DrawFn) -> list[Piece]:
    """Requests on one connection, one after the other or pipelined, in pieces."""
    pieces = []
    for at in range(draw(st.integers(1, 3))):
        data = draw(_requests())
        cuts = sorted(draw(st.lists(st.integers(0, len(data)), max_size=3)))
        ends = [*cuts, len(data)]
        pipelined = at > 0 and draw(st.booleans())
        for start, end in zip([0, *cuts], ends, strict=True):
            pieces.append(Piece(data[start:end], awaits=start == 0 and not pipelined))
    if draw(st.booleans()):  # as few pieces as possible
        joined: list[Piece] = []
        for piece in pieces:
            if joined and not piece.awaits:
                joined[-1] = Piece(joined[-1].data + piece.data, joined[-1].awaits)
            else:
                joined.append(piece)
        pieces = joined
    return [piece for piece in pieces if piece.data]


@given(pieces=_pieces(), log=st.sampled_from(["fine", "fine", "full", "down"]), pause_s=st.sampled_from([0.0, 1.0]))
def test_whatever_is_sent_the_direct_path_answers_as_the_framework_does(
    twins: Twins, pieces: list[Piece], log: str, pause_s: float
) -> None:
    twins.clock.advance(pause_s)  # in time the tokens are to be verified again, so some requests are not direct
    for status in twins.compare(*pieces, log=log):
        event(f"status {status}")


@pytest.mark.parametrize("oddity", _ODDITIES, ids=lambda oddity: ascii(oddity)[:60])
def test_one_oddity_is_answered_as_by_the_framework_and_so_is_what_follows(
    twins: Twins, oddity: dict[str, Any]
) -> None:
    twins.know_tokens()
    usual = request(as_json(reading()))
    twins.compare(Piece(request(**{"body": as_json(reading())} | oddity)), Piece(usual, awaits=True))
    twins.compare(Piece(usual + request(**{"body": as_json(reading())} | oddity) + usual))


@contextmanager
def _parsed(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[bytes]]:
    """The targets of requests whose heads the direct gateway parses."""
    seen: list[bytes] = []
    on_url = DirectProtocol.on_url

    def noted(self: DirectProtocol, url: bytes) -> None:
        seen.append(url)
        on_url(self, url)

    with monkeypatch.context() as patched:
        patched.setattr(DirectProtocol, "on_url", noted)
        yield seen


def test_a_head_is_parsed_once_whichever_connection_it_comes_on(twins: Twins, monkeypatch: pytest.MonkeyPatch) -> None:
    twins.know_tokens()
    new = [(b"X-New", b"by this test")]
    first, second = (request(as_json(reading(power_w=power)), headers=new) for power in (11_000.5, 22_000.5))
    with _parsed(monkeypatch) as parsed:
        assert twins.compare(Piece(first), Piece(second, awaits=True), log="fine") == [202, 202]
        assert twins.compare(Piece(second), log="fine") == [202]
    assert parsed.count(PATH.encode()) == 1


@pytest.mark.parametrize("header", [b"X-Correlation-ID", b"traceparent"])
def test_a_head_with_ids_of_its_own_is_not_kept(twins: Twins, header: bytes) -> None:
    twins.know_tokens()
    heads = twins.direct.heads
    before = len(heads)
    twins.compare(Piece(request(as_json(reading()), headers=[(header, b"x"), (b"X-Any", b"y")])))
    assert len(heads) == before


def test_heads_that_are_kept_are_bounded(twins: Twins, monkeypatch: pytest.MonkeyPatch) -> None:
    twins.know_tokens()
    monkeypatch.setattr("kit.web.serving.protocol._HEADS_MAX", 3)
    for number in range(10):
        twins.compare(Piece(request(as_json(reading()), headers=[(b"X-Number", b"%d" % number)])))
    assert len(twins.direct.heads) <= 3
    twins.compare(Piece(request(as_json(reading()), headers=[(b"X-Long", b"x" * 2_000)])))
    assert max(map(len, twins.direct.heads)) <= 1_024


_DISTORTIONS: Final[list[Callable[[bytes], bytes]]] = [
    bytes,
    lambda head: b"\r\n" + head,
    lambda head: b"\n\n" + head,
    lambda head: head.replace(b"\r\n", b"\n"),
    lambda head: head[:-4] + b"\n\n",
    lambda head: head[:-4] + b"\r\n\n",
    lambda head: head[:-4] + b"\n\r\n",
    lambda head: head.replace(b"Host: x", b"Host: x\r\n y"),
    lambda head: head.replace(b"Host: x", b"Host:x  "),
    lambda head: head.replace(b"Host: x", b"Host: x\nX-Other: y"),
    lambda head: head.replace(b"Content-Length: ", b"Content-Length: 00"),
    lambda head: head.replace(b"HTTP/1.1", b"HTTP/1.0"),
    lambda head: head.lower().replace(b"post /", b"POST /"),
]


@given(
    distort=st.sampled_from(_DISTORTIONS),
    body=_ordinary | st.sampled_from([b"", b"\r\n", b"\r\n\r\n", b"[]\r\n\r\n", b" []", b"\n\r\n[]"]),
    behind=st.sampled_from([b"", b"\r\n", b"\r\n\r\n", b"G", request(b"[]"), request(b"[]")[:40]]),
    cuts=st.lists(st.integers(0, 400), max_size=2),
    other=st.sampled_from([b"x", b"\n", b"]"]),
)
def test_a_request_behind_a_known_head_is_answered_as_one_whose_head_is_parsed(
    twins: Twins, distort: Callable[[bytes], bytes], body: bytes, behind: bytes, cuts: list[int], other: bytes
) -> None:
    whole = request(body)
    head = distort(whole[: len(whole) - len(body)])
    twins.compare(Piece(head + body))
    twins.compare(Piece(head + body), Piece(head + other * len(body), awaits=True))
    sent = head + body + behind
    ends = sorted({min(cut, len(sent)) for cut in cuts} | {len(sent)})
    pieces = [Piece(sent[start:end]) for start, end in zip([0, *ends], ends, strict=False) if end > start]
    twins.compare(*pieces)


_OFFER: Final = [(b"Connection", b"Upgrade, HTTP2-Settings"), (b"Upgrade", b"h2c"), (b"HTTP2-Settings", b"AAMAAABk")]


@pytest.mark.parametrize("chunk_bytes", [0, 70], ids=["length", "chunked"])
@pytest.mark.parametrize("cut", [None, 100, -1, -60], ids=["whole", "in the head", "in the body", "late in the body"])
def test_an_offer_of_another_protocol_costs_no_reading(twins: Twins, cut: int | None, chunk_bytes: int) -> None:
    twins.know_tokens()
    first = request(as_json([reading()] * 3), headers=_OFFER, chunk_bytes=chunk_bytes)
    before = len(twins.direct.log.frames)
    assert twins.compare(Piece(first[:cut]), Piece(first[len(first[:cut]) :] + first), log="fine") == [202, 202]
    assert sum(decode_header(frame).items for frame in twins.direct.log.frames[before:]) == 6


def test_many_offers_at_once_are_each_answered(twins: Twins) -> None:
    twins.know_tokens()
    offers = b"".join(request(as_json(reading()), headers=[*_OFFER, (b"Expect", b"else")]) for _ in range(20))
    assert twins.compare(Piece(offers), log="fine") == [202] * 20


@contextmanager
def _framework_calls(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The requests that reach the gateway's ASGI handler."""
    seen: list[str] = []
    handle = Gateway.handle

    async def noted(self: Gateway, scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["method"])
        await handle(self, scope, receive, send)

    with monkeypatch.context() as patched:
        patched.setattr(Gateway, "handle", noted)
        yield seen


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (request(as_json(reading())), 202),
        (request(as_json([reading()] * 400)), 202),
        (request(gzip.compress(as_json([reading()] * 400)), headers=[(b"Content-Encoding", b"gzip")]), 202),
        (request(as_json(reading(seq=-1))), 422),
        (request(as_json(reading(station_id="CP2")), authorization=[b"Bearer " + BOUND_DEVICE.encode()]), 403),
        (request(as_json(reading()), authorization=[], headers=[_BY_CERTIFICATE]), 202),
        (request(as_json(reading()), headers=[_BY_CERTIFICATE]), 202),
        (request(as_json(reading(station_id="CP2")), authorization=[], headers=[_BY_CERTIFICATE]), 403),
        (request(b"{"), 400),
        (request(content_type=b"text/plain"), 415),
    ],
)
def test_an_ordinary_request_is_answered_without_the_framework(
    twins: Twins, monkeypatch: pytest.MonkeyPatch, sent: bytes, status: int
) -> None:
    twins.know_tokens()
    with _framework_calls(monkeypatch) as calls:
        assert twins.compare(Piece(sent), Piece(sent, awaits=True), log="fine") == [status, status]
    assert calls == ["POST"] * 2, "those of the other gateway"


def test_of_a_refused_request_the_address_is_audited_that_a_trusted_proxy_says(twins: Twins) -> None:
    twins.know_tokens()
    for headers, address in (([(b"X-Forwarded-For", b"x, 192.0.2.1")], "192.0.2.1"), ([], _PROXY)):
        sent = request(
            as_json(reading(station_id="CP2")), authorization=[b"Bearer " + BOUND_DEVICE.encode()], headers=headers
        )
        for side in (twins.direct, twins.plain):
            twins.answers_of(side, Piece(sent))
            entries, _ = side.audited()
            assert [(entry.status, entry.address) for entry in entries] == [(403, address)]


def test_what_a_certificate_sends_is_audited_by_its_station(twins: Twins) -> None:
    twins.know_tokens()
    sent = request(as_json(reading(station_id="CP2")), authorization=[], headers=[_BY_CERTIFICATE])
    for side in (twins.direct, twins.plain):
        twins.answers_of(side, Piece(sent))
        ([entry], _) = side.audited()
        assert (entry.actor, entry.token, entry.status) == ("device/CP1", "certificate", 403)
        twins.answers_of(side, Piece(request(as_json(reading()), authorization=[], headers=[_BY_CERTIFICATE])))
        _, counted = side.audited()
        assert counted.requests == {entry.token_id: 1}


@pytest.mark.parametrize("before", [0, 1])
@pytest.mark.parametrize("cut", [40, len(request(b"")), -20])
def test_a_connection_that_ends_within_a_request_has_no_effect(twins: Twins, before: int, cut: int) -> None:
    twins.know_tokens()
    whole = request(as_json(reading()))
    pieces = [*([Piece(whole)] * before), Piece(whole[:cut], awaits=True)]
    assert twins.compare(*pieces, all_answered=False) == [202] * before


@pytest.mark.parametrize("sent", [request(as_json(reading())), request(b"{"), request(content_type=b"text/plain")])
def test_a_direct_request_has_the_span_of_any_other(twins: Twins, sent: bytes) -> None:
    twins.know_tokens()
    exporter = InMemorySpanExporter()
    tracing = setup_tracing("test", exporter=exporter)
    try:
        twins.compare(
            Piece(sent.replace(b"Host: x", b"Host: x\r\ntraceparent: 00-%b-b7ad6b7169203331-01" % _TRACE_ID.encode()))
        )
    finally:
        tracing.shutdown()
    spans = [span for span in exporter.get_finished_spans() if span.name.endswith(PATH)]
    first, second = ((span.name, span.kind, span.attributes, span.status, span.parent) for span in spans)
    assert first == second


def test_an_error_of_ours_is_the_same_500_and_is_logged_with_its_ids(
    twins: Twins, monkeypatch: pytest.MonkeyPatch
) -> None:
    twins.know_tokens()
    monkeypatch.setattr(Gateway, "_judge", lambda *_: 1 / 0)
    with structlog.testing.capture_logs(processors=[structlog.contextvars.merge_contextvars]) as lines:
        assert twins.compare(Piece(request(as_json(reading())))) == [500]
    first, second = ({name: line[name] for name in ("event", "log_level", "method", "path")} for line in lines)
    assert first == second


@pytest.mark.parametrize("head", [b"X-Long: ", b"X-Many: x\r\n", b""], ids=["one header", "many headers", "target"])
@pytest.mark.parametrize("before", [b"", request(as_json(reading()))], ids=["first", "second"])
def test_a_head_without_an_end_is_refused_on_both_paths(twins: Twins, before: bytes, head: bytes) -> None:
    twins.know_tokens()
    begun = f"POST {PATH} HTTP/1.1\r\n".encode() if head else b"POST /"
    endless = [Piece((head or b"x") * 4_000) for _ in range(100)]
    pieces = [*([Piece(before)] if before else []), Piece(begun + head, awaits=True), *endless]
    assert twins.compare(*pieces) == [*([202] if before else []), 431]


class ManualLoop:
    """Stands in for a protocol's loop: its time moves by hand, and its timers are called when they are due."""

    def __init__(self) -> None:
        self._now_s = 0.0
        self._timers: list[tuple[float, Callable[[], None]]] = []

    def time(self) -> float:
        return self._now_s

    def call_later(self, delay_s: float, call: Callable[[], None]) -> "ManualLoop":
        self._timers.append((self._now_s + delay_s, call))
        return self

    def cancel(self) -> None:
        self._timers.clear()

    def advance(self, seconds: float) -> None:
        self._now_s += seconds
        due = [call for at_s, call in self._timers if at_s <= self._now_s]
        self._timers = [timer for timer in self._timers if timer[0] > self._now_s]
        for call in due:
            call()


@given(
    steps=st.lists(st.tuples(st.sampled_from(["answered", "received"]), st.sampled_from([1.0, 30.0, 74.0, 75.0, 80.0])))
)
def test_a_connection_is_closed_once_it_is_idle_for_the_time_to_keep_it_alive(
    twins: Twins, steps: list[tuple[str, float]]
) -> None:
    protocol = twins.direct.connection()
    wire, loop = Wire(), ManualLoop()
    protocol.loop = loop
    protocol.connection_made(wire)
    idle_since_s: float | None = None
    for what, seconds in steps:
        if what == "answered":
            protocol.on_response_complete()
            idle_since_s = loop.time()
        else:
            protocol.data_received(b"\r\n")
            idle_since_s = None
        loop.advance(seconds)
        expired = idle_since_s is not None and seconds >= protocol.timeout_keep_alive
        assert wire.closed == expired
        if expired:
            break
    protocol.connection_lost(None)
