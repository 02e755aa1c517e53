"""Direct routes: a hot route whose ordinary requests are answered without a task, a scope and a framework.

Such a route has two handlers for one thing. Its ASGI handler takes every request. Its direct handler is offered those
of which nothing has to be waited for but the answer itself: the token is known to the authenticator, the body is within
the route's bound and here as a whole (`kit.web.serving.protocol`). It may decline before it has had an effect. Access,
bound, ids, span, metrics and problems are those of every other route, from the same declarations and functions.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, Protocol

from fastapi import FastAPI
from fastapi.routing import iter_route_contexts
from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.trace import Span, SpanKind

from kit.audit.actors import actor_for
from kit.audit.requests import REFUSALS, RequestAudit
from kit.auth.scopes import Scope
from kit.clock import Clock
from kit.observability.logs import correlation_id, get_logger
from kit.observability.tracing import child_traceparent, context_from, records_spans, start_span, traceparent_of
from kit.web.addresses import network_of
from kit.web.health import HttpMetrics
from kit.web.limits.requests import RequestLimits
from kit.web.problem import INTERNAL, Problem, problem_as_sent, problem_of
from kit.web.request_ids import CORRELATION_KEY, NO_CONTENT, NO_STORE, correlation_id_of, end_span
from kit.web.route_rules import InvalidRouteRules, RouteRules, rules_of
from kit.web.serving.proxies import Headers, certificate_in

if TYPE_CHECKING:
    from collections.abc import Iterator

from kit.auth.token_store import Principal

DirectHandler = Callable[["DirectRequest"], bool]
"""Begins to answer a request, which `respond` or `fail` ends, now or later. False: it has done nothing, and the route's
ASGI handler is to take the request. What it raises is passed to `fail`."""

_MIDDLEWARE: Final = 1  # of every app: ours, whose work is done here. Around others no request is led
_STATUS_LINES: Final = {
    status.value: b"HTTP/1.1 %d %b\r\n" % (status.value, status.phrase.encode()) for status in HTTPStatus
}

_log = get_logger(__name__)


def lines_of(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Headers as they are sent."""
    return b"".join([b"%b: %b\r\n" % header for header in headers])


_OF_THE_API: Final = lines_of((NO_CONTENT, NO_STORE))  # direct routes are all of the API


class KnowsTokens(Protocol):
    """The Authenticator, as direct routes need it."""

    def known(self, authorization: bytes, scope: Scope) -> "Principal | None":
        """The principal of a header, if it needs no waiting."""

    def known_by_certificate(self, certificate: bytes, authorization: bytes | None, scope: Scope) -> "Principal | None":
        """The principal of a certificate, and of a header where there is one, if it needs no waiting."""


class DirectConnection(Protocol):
    """A connection, as a request on it needs it."""

    def client_of(self, headers: Headers) -> str:
        """The address of who sent the request with these headers."""

    @property
    def certificate_header(self) -> bytes:
        """In which the other end, a trusted proxy, passes clients' certificates on; empty: in none."""

    @property
    def head(self) -> bytes:
        """The headers of every response, as they are sent."""

    def write_response(self, response: bytes, *, close: bool) -> None:
        """Send the response of the request that was handled last."""


class DirectRoutes:
    """The direct routes of one app."""

    def __init__(self, app: FastAPI, metrics: HttpMetrics, clock: Clock) -> None:
        self._app = app
        self.limits: RequestLimits = app.state.request_limits
        self.metrics = metrics
        self.monotonic_s = clock.monotonic_s

    def by_path(self) -> dict[bytes, "DirectRoute"]:
        """The routes by their path as it is sent. None where other middleware wants to see every request."""
        if len(self._app.user_middleware) != _MIDDLEWARE:
            return {}
        found: dict[bytes, DirectRoute] = {}
        authenticator: KnowsTokens | None = getattr(self._app.state, "authenticator", None)
        audit: RequestAudit | None = getattr(self._app.state, "audit", None)
        for route in iter_route_contexts(self._app.routes):
            handler: DirectHandler | None = getattr(route.original_route, "direct", None)
            rules = rules_of(route) if handler is not None else None
            if handler is None or rules is None or rules.scope is None or authenticator is None:
                continue
            if not rules.heeds_stations:  # nobody else would look at the path
                raise InvalidRouteRules(f"{route.path} is direct: its handler must heed the stations of the token")
            if audit is not None and not rules.counted:
                continue  # its requests are recorded one by one, with what the framework knows of them
            path, (method,) = str(route.path), route.methods or ("",)
            found[path.encode()] = DirectRoute(path, method.encode(), rules, handler, authenticator, self, audit)
        return found


@dataclass(frozen=True, slots=True)
class DirectRoute:
    """A direct route, mounted: its rules are those that it declares to the app."""

    path: str
    method: bytes
    rules: RouteRules
    handler: DirectHandler
    authenticator: KnowsTokens
    routes: DirectRoutes
    audit: RequestAudit | None

    def begin(self, connection: DirectConnection, headers: Mapping[bytes, bytes]) -> "DirectRequest | None":
        """The request with these headers, if its token or certificate is known and takes the route."""
        scope = self.rules.scope
        assert scope is not None  # noqa: S101  # see by_path
        header = connection.certificate_header
        certificate = certificate_in(headers.get(header, b"")) if header else None
        if certificate is None:
            principal = self.authenticator.known(headers.get(b"authorization", b""), scope)
        else:
            principal = self.authenticator.known_by_certificate(certificate, headers.get(b"authorization"), scope)
        return None if principal is None else DirectRequest(self, connection, headers, principal)


class _Unawaited:
    """In place of an event for which nobody waits."""

    def set(self) -> None:
        """Do nothing."""


class DirectRequest:
    """One request of a direct route, from its head until it is answered.

    For the protocol it takes the place of uvicorn's RequestResponseCycle: the attributes without docstrings are its.
    """

    __slots__ = (
        "_connection", "_quota", "_route", "_span", "_started_s", "_traceparent", "body", "correlation_id",
        "disconnected", "headers", "keep_alive", "principal", "response_complete",
    )  # fmt: skip
    more_body = False
    message_event = _Unawaited()

    def __init__(
        self, route: DirectRoute, connection: DirectConnection, headers: Mapping[bytes, bytes], principal: "Principal"
    ) -> None:
        self._route = route
        self._connection = connection
        self._started_s = route.routes.monotonic_s()
        self._traceparent = ""
        self._quota = b""
        self._span: Span | None = None
        self.headers = headers
        self.principal = principal
        self.body = b""
        self.correlation_id = correlation_id_of(headers.get(CORRELATION_KEY, b""))
        self.disconnected = False
        self.keep_alive = True
        self.response_complete = False

    @property
    def token_id(self) -> str:
        """The token that sent it."""
        return str(self.principal.token_id)

    @property
    def traceparent(self) -> str:
        """Its span as a W3C traceparent. Made when it is first asked for: of the requests in a frame one is."""
        if not self._traceparent:
            given = self.headers.get(b"traceparent", b"").decode("latin-1")
            self._traceparent = child_traceparent(given) if self._span is None else traceparent_of(self._span)
        return self._traceparent

    def handle(self) -> bool:
        """Offer it to the route's direct handler, once its body is complete; False where that declines."""
        if records_spans():
            parent = context_from(self.headers.get(b"traceparent", b"").decode("latin-1"))
            self._span = start_span(self._route.method.decode(), parent, SpanKind.SERVER)
        limits = self._route.routes.limits
        try:
            near = limits.spend(self.principal)
            if near:
                self._quota = lines_of(near)
            if self._route.handler(self):
                return True
        except Exception as error:
            self.fail(error)
            return True
        limits.give_back(self.principal)
        return False

    def respond(self, status: int, head: bytes, body: bytes) -> None:
        """Answer it. `head`: the headers of this response, each as a line, with its Content-Length."""
        self.response_complete = True
        if not self.disconnected:
            close = b"" if self.keep_alive else b"connection: close\r\n"
            own_id = self.correlation_id.encode()
            response = b"%b%b%b%b: %b\r\n%b%b%b\r\n%b" % (
                _STATUS_LINES[status], self._connection.head, head, CORRELATION_KEY, own_id, _OF_THE_API, self._quota,
                close, body,
            )  # fmt: skip
            self._connection.write_response(response, close=not self.keep_alive)
        route = self._route
        method, seconds = route.method.decode(), route.routes.monotonic_s() - self._started_s
        if self._span is not None:
            end_span(self._span, method, route.path, route.path, status)
        route.routes.metrics.observe(method, route.path, status, seconds)
        if route.audit is not None:
            if status in REFUSALS:
                with self._current():
                    self._audit_refusal(route.audit, status, seconds)
            else:
                route.audit.telemetry.count(self.principal)

    def _audit_refusal(self, audit: RequestAudit, status: int, seconds: float) -> None:
        method, address = self._route.method.decode(), network_of(self._connection.client_of(self.headers.items()))
        actor = actor_for(self.principal, address, self.headers.get(b"authorization", b""))
        audit.refused(actor, method, self._route.path, status, self.correlation_id, seconds)

    def fail(self, error: Exception) -> None:
        """Answer it with the problem that the error is."""
        problem = error if isinstance(error, Problem) else self._problem_of(error)
        answer = (problem.status, *problem_as_sent(problem, self.correlation_id))
        if problem.delay_s:
            self.body = b""  # nobody needs it any more
            asyncio.get_running_loop().call_later(problem.delay_s, self.respond, *answer)
        else:
            self.respond(*answer)

    def _problem_of(self, error: Exception) -> Problem:
        with self._current():
            problem = problem_of(error)
            if problem is None:
                _log.error("request_failed", method=self._route.method.decode(), path=self._route.path, exc_info=error)
                if self._span is not None:
                    self._span.record_exception(error)
                problem = Problem(500, INTERNAL)
        return problem

    @contextmanager
    def _current(self) -> "Iterator[None]":
        """Log lines within the block have its ids."""
        id_token = correlation_id.set(self.correlation_id)
        span = self._span
        within = context_from(self.traceparent) if span is None else trace.set_span_in_context(span)
        span_token = otel_context.attach(within)
        try:
            yield
        finally:
            otel_context.detach(span_token)
            correlation_id.reset(id_token)
