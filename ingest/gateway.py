"""`POST /api/v1/telemetry`: admits the readings of a request and answers 202 once they are durable.

A direct route (kit.web.serving.direct), with a raw ASGI route inside FastAPI for what is not direct: at thousands of
requests a second per core, a Request, a dependency graph and a Response object would cost more than the readings.
"""

import asyncio
from collections.abc import Callable, Mapping
from functools import partial
from typing import Annotated, ClassVar, Final, NamedTuple
from urllib.parse import parse_qs

import msgspec
from fastapi import APIRouter, Depends, Query
from fastapi.routing import APIRoute
from starlette.requests import HTTPConnection
from starlette.types import Receive, Scope, Send

from ingest.admission import (
    STATION_FORBIDDEN,
    AdmissionRules,
    Admitted,
    Remarks,
    admit_arrow,
    admit_json,
    admit_ndjson,
    to_columns,
)
from ingest.bodies import inflate, read_body
from ingest.errors import IngestError, MalformedBody, TooLarge, UnsupportedMedia
from ingest.framing import Framer
from ingest.grouping import PendingRequest, RequestContext
from ingest.limits import RequestCosts, TelemetryLimits
from ingest.metrics import IngestMetrics
from ingest.openapi import DESCRIPTION, REQUEST_BODY, RESPONSES, STRICT
from ingest.request_limits import Limits
from kit.auth.authenticator import Authenticator
from kit.auth.requirements import require_scope
from kit.auth.token_store import Principal
from kit.clock import Clock
from kit.errors import Overloaded
from kit.observability.logs import correlation_id
from kit.observability.tracing import current_traceparent
from kit.spelling import did_you_mean
from kit.web.limits.refusals import Refusals
from kit.web.problem import Problem, invalid
from kit.web.route_rules import body_bytes_max, counted
from kit.web.serving.direct import DirectHandler, DirectRequest

PATH: Final = "/api/v1/telemetry"
# A larger body is inflated and decoded in a thread: 256 KiB of JSON are ~1,000 readings, ~1 ms. A compressed one may
# inflate 1,000-fold, so its limit is lower.
_OFFLOAD_BYTES: Final = 256 << 10
_OFFLOAD_BYTES_COMPRESSED: Final = 4 << 10
_OFFLOAD_CONCURRENT_MAX: Final = 2  # each may hold INFLATED_BYTES_MAX and as much again in readings: 2 x 128 MiB
_OFFLOAD_QUEUED_MAX: Final = 32  # including those that wait for a thread: 32 x BODY_BYTES_MAX = 256 MiB
_LONG_BYTES: Final = 4 << 10  # takes longer to decode than to ask whether its token may send anything
_UPLOADS_BYTES_MAX: Final = 256 << 20  # of incomplete bodies: 32 of the largest

_ADMISSIONS: Final[dict[str, Callable[[bytes, AdmissionRules], Admitted]]] = {
    "application/json": admit_json,
    "application/x-ndjson": admit_ndjson,
    "application/vnd.apache.arrow.stream": admit_arrow,
}
_STATUSES: Final[dict[type[IngestError], int]] = {MalformedBody: 400, TooLarge: 413, UnsupportedMedia: 415}
_BOOLEANS: Final = {"true": True, "1": True, "false": False, "0": False}
_NAME_SHOWN_MAX: Final = 64
_HEAD: Final = b"content-type: application/json\r\ncontent-length: %d\r\n"  # of a 202, as it is sent


class _Form(NamedTuple):
    """How a body is read."""

    admit: Callable[[bytes, AdmissionRules], Admitted]
    encoding: str
    inline_bytes_max: int  # longer bodies are read in a thread


class QuarantineEntry(msgspec.Struct):
    """One refused item in the response."""

    index: int
    reason: str
    detail: str


class DroppedEntry(msgspec.Struct):
    """One dropped field of an accepted reading in the response."""

    index: int
    field: str
    reason: str


class Gateway:
    """Handles telemetry requests: admits their items and answers once they are durable."""

    def __init__(
        self,
        framer: Framer,
        authenticator: Authenticator,
        clock: Clock,
        limits: Callable[[], Limits],
        metrics: IngestMetrics,
        refusals: Refusals,
    ) -> None:
        """`limits`: as they are now."""
        self._token_limits = TelemetryLimits(lambda: limits().of_token, clock.monotonic_s, refusals)
        self._framer = framer
        self._authenticator = authenticator
        self._clock = clock
        self._limits_now = limits
        self._metrics = metrics
        self._offloaded = 0
        self._offload_slots = asyncio.Semaphore(_OFFLOAD_CONCURRENT_MAX)
        self._uploads_bytes = 0
        self._rules_used: AdmissionRules | None = None

    @property
    def _limits(self) -> Limits:
        return self._limits_now()

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI handler. Raises Problem and the errors that kit.web.problem maps."""
        principal = await self._authenticator.require(HTTPConnection(scope), "readings:write", heeds_stations=True)
        if principal.organisation is not None:  # whose a station is would take a look at the registry for each reading
            raise Problem(403, _OF_AN_ORGANISATION)
        try:
            form = _form_of(dict(scope["headers"]))
            rules = self._rules(principal.stations, _is_strict(scope["query_string"]))
            body = await self._read(receive)
            self._begin(body, principal)
            short = len(body) <= form.inline_bytes_max
            admitted = self._admit(form, body, rules) if short else await self._offload(form, body, rules)
        except IngestError as error:
            raise _problem_of(error) from None
        costs = self._judge(admitted, principal)
        sender = RequestContext(str(principal.token_id), current_traceparent(), correlation_id.get())
        await self._framer.submit(admitted, sender, partial(self._taken, costs))
        answer = self._answer(admitted)
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(answer))]
        await send({"type": "http.response.start", "status": 202, "headers": headers})
        await send({"type": "http.response.body", "body": answer})

    def take(self, request: DirectRequest) -> bool:
        """Direct handler (kit.web.serving.direct): the same for a request of which nothing has to be waited for. Raises
        likewise. Declines bodies that are to be inflated or decoded in a thread."""
        try:
            form = _form_of(request.headers)
            if len(request.body) > form.inline_bytes_max:
                return False
            rules = self._rules(request.principal.stations, strict=False)
            self._begin(request.body, request.principal)
            admitted = self._admit(form, request.body, rules)
        except IngestError as error:
            raise _problem_of(error) from None
        costs = self._judge(admitted, request.principal)
        self._framer.enqueue(PendingRequest(admitted, request, partial(self._settle, request, admitted)))
        self._taken(costs)
        return True

    def _settle(self, request: DirectRequest, admitted: Admitted, error: Exception | None) -> None:
        """Answer a request whose items are durable, or failed."""
        if error is None:
            try:
                answer = self._answer(admitted)
            except Problem as problem:
                error = problem
        if error is not None:
            request.fail(error)
        else:
            request.respond(202, _HEAD % len(answer), answer)

    def _rules(self, stations: frozenset[str] | None, strict: bool) -> AdmissionRules:
        """The rules of this moment; the same object within a millisecond, for requests of one kind."""
        now_ms, rules, limits = self._clock.now_ms(), self._rules_used, self._limits
        if rules is None or rules.now_ms != now_ms or rules.stations is not stations or rules.strict != strict:
            rules = self._rules_used = AdmissionRules(
                now_ms, limits.age_ms_max, limits.future_ms_max, limits.readings_max, stations, strict
            )
        return rules

    def _begin(self, body: bytes, principal: Principal) -> None:
        """Count it. Raises Problem 429 where it is not worth decoding."""
        if len(body) > _LONG_BYTES:
            self._token_limits.check(principal)
        self._metrics.requests.inc()
        self._metrics.body_bytes.inc(len(body))

    def _admit(self, form: _Form, body: bytes, rules: AdmissionRules) -> Admitted:
        return form.admit(inflate(body, form.encoding, self._limits.inflated_bytes_max), rules)

    async def _offload(self, form: _Form, body: bytes, rules: AdmissionRules) -> Admitted:
        """Inflate and decode a long body in a thread."""
        if self._offloaded >= _OFFLOAD_QUEUED_MAX:
            raise Overloaded(f"{self._offloaded} large bodies are being decoded already")
        self._offloaded += 1
        try:
            async with self._offload_slots:
                return await asyncio.to_thread(lambda: to_columns(self._admit(form, body, rules)))
        finally:
            self._offloaded -= 1

    def _judge(self, admitted: Admitted, principal: Principal) -> RequestCosts | None:
        """What it costs the token once it is taken; None: nothing. Raises Problem where all items are for stations that
        the token is not bound to, or more than it may send."""
        refused = admitted.refused
        self._token_limits.spend(principal, admitted.accepted + len(refused))
        if refused and not admitted.accepted and all(item.reason == STATION_FORBIDDEN for item in refused):
            raise Problem(403, refused[0].detail, extensions={"reason": STATION_FORBIDDEN})
        costs = self._token_limits.judge(principal, admitted)
        if refused:
            self._metrics.refused(refused)
        return costs

    def _taken(self, costs: RequestCosts | None) -> None:
        if costs is not None:
            self._token_limits.take(costs)

    def _answer(self, admitted: Admitted) -> bytes:
        """The body of the 202, once all items are durable. Raises Problem where a single one was refused."""
        refused, remarks, accepted = admitted.refused, admitted.remarks, admitted.accepted
        self._metrics.accepted.inc(accepted)
        if not refused and remarks is None:
            return b'{"accepted":%d,"quarantined":[]}' % accepted
        self._metrics.dropped(remarks)
        if admitted.single and refused:
            raise Problem(422, refused[0].detail, extensions={"reason": refused[0].reason})
        entries = [QuarantineEntry(item.position, item.reason, item.detail) for item in refused]
        quarantined = msgspec.json.encode(entries) if entries else b"[]"
        return b'{"accepted":%d,"quarantined":%b%b}' % (accepted, quarantined, _remarks(remarks))

    async def _read(self, receive: Receive) -> bytes:
        reserved = 0

        def reserve(size: int) -> None:
            nonlocal reserved
            if self._uploads_bytes + size > _UPLOADS_BYTES_MAX:
                raise Overloaded(f"{self._uploads_bytes} bytes of unfinished uploads are in memory already")
            reserved += size
            self._uploads_bytes += size

        try:
            return await read_body(receive, reserve)
        finally:
            self._uploads_bytes -= reserved


def make_router(gateway: Gateway, bytes_max: int) -> APIRouter:
    """The gateway's route, documented, for bodies of at most `bytes_max`."""

    class RawRoute(APIRoute):
        """Passes POST requests to the gateway: directly where that is possible, else at the ASGI level."""

        direct: ClassVar[DirectHandler] = staticmethod(gateway.take)

        async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
            if scope["method"] == "POST":
                await gateway.handle(scope, receive, send)
            else:
                await super().handle(scope, receive, send)

    router = APIRouter(route_class=RawRoute, tags=["telemetry"])

    @router.post(
        PATH,
        status_code=202,
        summary="Take readings",
        description=DESCRIPTION,
        operation_id="post_telemetry",
        # For the OpenAPI and the rules of the body; Gateway.handle calls the authenticator itself.
        dependencies=[
            Depends(require_scope("readings:write", heeds_stations=True)),
            Depends(body_bytes_max(bytes_max)),
            Depends(counted),
        ],
        responses=RESPONSES,
        openapi_extra={"requestBody": REQUEST_BODY},
    )
    async def post_telemetry(strict: Annotated[bool, Query(description=STRICT)] = False) -> None:
        """Documents the operation; RawRoute calls Gateway.handle instead."""

    return router


_OF_AN_ORGANISATION: Final = "a token of an organisation sends no readings: use a device's, which names its stations"


def _form_of(headers: Mapping[bytes, bytes]) -> _Form:
    """The form that the headers say a body has. Raises UnsupportedMedia."""
    media_type = headers.get(b"content-type", b"").partition(b";")[0].decode("latin-1").strip().lower()
    admit = _ADMISSIONS.get(media_type)
    if admit is None:
        raise UnsupportedMedia(f"this Content-Type is not read; send {', '.join(_ADMISSIONS)}")
    encoding = headers.get(b"content-encoding", b"").decode("latin-1").strip().lower()
    compressed = encoding not in ("", "identity")
    return _Form(admit, encoding, _OFFLOAD_BYTES_COMPRESSED if compressed else _OFFLOAD_BYTES)


def _problem_of(error: IngestError) -> Problem:
    extensions = {"position": error.position} if isinstance(error, MalformedBody) and error.position is not None else {}
    headers = {}
    if isinstance(error, UnsupportedMedia):
        headers = {"Accept": ", ".join(_ADMISSIONS), "Accept-Encoding": "gzip, zstd, identity"}
    return Problem(_STATUSES[type(error)], str(error), headers=headers, extensions=extensions)


def _is_strict(query: bytes) -> bool:
    """The query parameter `strict`. Raises Problem if it is no boolean, or there is another parameter."""
    if not query:
        return False
    given = parse_qs(query.decode("latin-1"), keep_blank_values=True)
    unknown = [name[:_NAME_SHOWN_MAX] for name in given if name != "strict"]
    if unknown:
        detail = f"there is no such parameter{did_you_mean(unknown[0], ['strict'])}"
        raise invalid([{"location": f"query/{unknown[0]}", "detail": detail}], 1)
    answers = {_BOOLEANS.get(value.lower()) for value in given.get("strict", ["false"])}
    if answers not in ({True}, {False}):
        raise invalid([{"location": "query/strict", "detail": "strict is true or false"}], 1)
    return True in answers


def _remarks(remarks: Remarks | None) -> bytes:
    """The members of the response that say what became of fields; none if there is nothing to say."""
    if remarks is None:
        return b""
    members = b""
    if remarks.dropped:
        entries = [DroppedEntry(entry.position, entry.field, entry.reason) for entry in remarks.dropped]
        members = b',"dropped":%b' % msgspec.json.encode(entries)
    if remarks.dropped_omitted:
        members += b',"dropped_omitted":%d' % remarks.dropped_omitted
    if remarks.unknown_fields:
        members += b',"unknown_fields":%b' % msgspec.json.encode(list(remarks.unknown_fields))
    return members
