"""`POST /api/v1/telemetry`: bytes in, a durable 202 out.

A raw ASGI route inside FastAPI (which documents it and guards the rest): at thousands of requests a second per core,
a Request, a dependency graph and a Response object would cost more than the readings.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import msgspec
from fastapi import APIRouter, Depends
from fastapi.routing import APIRoute
from starlette.requests import HTTPConnection
from starlette.types import Receive, Scope, Send

from ingest.admission import STATION_FORBIDDEN, Admitted, Refused, Rules, admit_arrow, admit_json, admit_ndjson, packed
from ingest.bodies import inflate, read_body
from ingest.errors import IngestError, Malformed, TooLarge, UnsupportedMedia
from ingest.framing import Framer
from ingest.grouping import RequestContext
from ingest.metrics import IngestMetrics
from ingest.openapi import DESCRIPTION, REQUEST_BODY, RESPONSES
from kit.auth.authenticator import Authenticator, require_device
from kit.clock import Clock
from kit.errors import Overloaded
from kit.observability.logs import correlation_id
from kit.observability.tracing import current_traceparent
from kit.web.problem import Problem
from kit.web.rules import body_bytes_max

PATH: Final = "/api/v1/telemetry"
# Above this a body is inflated and decoded beside the event loop: 256 KiB of JSON are ~1,000 readings, ~1 ms. What is
# compressed may be 1,000 times larger than it looks: there the line is lower.
_ASIDE_BYTES: Final = 256 << 10
_ASIDE_BYTES_COMPRESSED: Final = 4 << 10
_ASIDE_AT_ONCE: Final = 2  # each may hold INFLATED_BYTES_MAX and as much again in readings: 2 x 128 MiB
_ASIDE_MAX: Final = 32  # with those that wait for their turn: 32 x BODY_BYTES_MAX = 256 MiB
_UPLOADS_BYTES_MAX: Final = 256 << 20  # of bodies that are not here completely: 32 of the largest

_ADMISSIONS: Final[dict[str, Callable[[bytes, Rules], Admitted]]] = {
    "application/json": admit_json,
    "application/x-ndjson": admit_ndjson,
    "application/vnd.apache.arrow.stream": admit_arrow,
}
_STATUSES: Final[dict[type[IngestError], int]] = {Malformed: 400, TooLarge: 413, UnsupportedMedia: 415}
_ACCEPTED_HEADERS: Final = (b"content-type", b"application/json")


@dataclass(frozen=True, slots=True)
class Limits:
    """What one request may be; from the settings."""

    body_bytes_max: int
    inflated_bytes_max: int
    readings_max: int
    age_ms_max: int
    future_ms_max: int


class Answer(msgspec.Struct):
    """One refused item as the device hears of it."""

    index: int
    reason: str
    detail: str


class Gateway:
    """Judges requests and answers them once their items are durable."""

    def __init__(
        self, framer: Framer, authenticator: Authenticator, clock: Clock, limits: Limits, metrics: IngestMetrics
    ) -> None:
        self._framer = framer
        self._authenticator = authenticator
        self._clock = clock
        self._limits = limits
        self._metrics = metrics
        self._aside = 0
        self._turns = asyncio.Semaphore(_ASIDE_AT_ONCE)
        self._uploads_bytes = 0

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI. Raises Problem and what kit.web.problem knows."""
        principal = await self._authenticator.require(HTTPConnection(scope), "device")
        token_id = str(principal.token_id)
        try:
            admitted = await self._admit(scope, receive, principal.stations)
        except IngestError as error:
            raise _problem_of(error) from None
        self._metrics.refused(admitted.refused)
        refused = admitted.refused
        if refused and not admitted.accepted and all(item.reason == STATION_FORBIDDEN for item in refused):
            raise Problem(403, refused[0].detail, extensions={"reason": STATION_FORBIDDEN})
        await self._framer.submit(admitted, RequestContext(token_id, current_traceparent(), correlation_id.get()))
        self._metrics.accepted.inc(admitted.accepted)
        if admitted.single and refused:
            raise Problem(422, refused[0].detail, extensions={"reason": refused[0].reason})
        await _send_accepted(send, admitted.accepted, refused)

    async def _admit(self, scope: Scope, receive: Receive, stations: frozenset[str] | None) -> Admitted:
        media_type, encoding = _headers_of(scope)
        admit = _ADMISSIONS.get(media_type)
        if admit is None:
            raise UnsupportedMedia(f"this Content-Type is not read; send {', '.join(_ADMISSIONS)}")
        limits = self._limits
        rules = Rules(self._clock.now_ms(), limits.age_ms_max, limits.future_ms_max, limits.readings_max, stations)
        body = await self._read(receive)
        self._metrics.requests.inc()
        self._metrics.body_bytes.inc(len(body))
        if len(body) <= (_ASIDE_BYTES_COMPRESSED if encoding else _ASIDE_BYTES):
            return admit(inflate(body, encoding, limits.inflated_bytes_max), rules)
        if self._aside >= _ASIDE_MAX:
            raise Overloaded(f"{self._aside} large bodies are being read already")
        self._aside += 1
        try:
            async with self._turns:
                return await asyncio.to_thread(
                    lambda: packed(admit(inflate(body, encoding, limits.inflated_bytes_max), rules))
                )
        finally:
            self._aside -= 1

    async def _read(self, receive: Receive) -> bytes:
        held = 0

        def take(size: int) -> None:
            nonlocal held
            if self._uploads_bytes + size > _UPLOADS_BYTES_MAX:
                raise Overloaded(f"{self._uploads_bytes} bytes of unfinished uploads are held already")
            held += size
            self._uploads_bytes += size

        try:
            return await read_body(receive, take)
        finally:
            self._uploads_bytes -= held


def make_router(gateway: Gateway, bytes_max: int) -> APIRouter:
    """The gateway's route, documented, for bodies of at most `bytes_max`."""

    class RawRoute(APIRoute):
        """Answers at the ASGI level what the path and method are right for."""

        async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
            if scope["method"] == "POST":
                await gateway.handle(scope, receive, send)
            else:
                await super().handle(scope, receive, send)

    router = APIRouter(route_class=RawRoute, tags=["telemetry"])
    router.add_api_route(
        PATH,
        _documented,
        methods=["POST"],
        status_code=202,
        summary="Take readings",
        description=DESCRIPTION,
        operation_id="post_telemetry",
        # For the OpenAPI and the rules of the body; Gateway.handle asks the authenticator itself.
        dependencies=[Depends(require_device), Depends(body_bytes_max(bytes_max))],
        responses=RESPONSES,
        openapi_extra={"requestBody": REQUEST_BODY},
    )
    return router


async def _documented() -> None:
    """Stands in the OpenAPI for Gateway.handle."""


def _headers_of(scope: Scope) -> tuple[str, str]:
    """Content-Type without parameters, Content-Encoding (empty for identity)."""
    media_type = encoding = b""
    for key, value in scope["headers"]:
        if key == b"content-type":
            media_type = value
        elif key == b"content-encoding":
            encoding = value
    coding = encoding.decode("latin-1").strip().lower()
    media = media_type.partition(b";")[0].decode("latin-1").strip().lower()
    return media, "" if coding == "identity" else coding


def _problem_of(error: IngestError) -> Problem:
    extensions = {"position": error.position} if isinstance(error, Malformed) and error.position is not None else {}
    headers = {}
    if isinstance(error, UnsupportedMedia):
        headers = {"Accept": ", ".join(_ADMISSIONS), "Accept-Encoding": "gzip, zstd, identity"}
    return Problem(_STATUSES[type(error)], str(error), headers=headers, extensions=extensions)


async def _send_accepted(send: Send, accepted: int, refused: list[Refused]) -> None:
    items = (
        msgspec.json.encode([Answer(item.place, item.reason, item.detail) for item in refused]) if refused else b"[]"
    )
    body = b'{"accepted":%d,"quarantined":%b}' % (accepted, items)
    headers = [_ACCEPTED_HEADERS, (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 202, "headers": headers})
    await send({"type": "http.response.body", "body": body})
