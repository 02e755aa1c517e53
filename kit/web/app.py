"""The app factory: every request has a correlation id, a span and a measurement, and obeys the rules of its route.

The middleware is one layer of plain ASGI, because the hot path of ingestion goes through it.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any, Final

from fastapi import Depends, FastAPI
from fastapi.routing import APIRouter, iter_route_contexts
from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.trace import SpanKind
from prometheus_client import CollectorRegistry
from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Lifespan, Message, Receive, Scope, Send

from kit.audit.actors import current_request
from kit.audit.requests import RequestAudit, may_concern
from kit.auth.bearer import asker_of
from kit.clock import Clock, SystemClock
from kit.database.questions import asked_by
from kit.observability.logs import correlation_id, get_logger
from kit.observability.tracing import context_from, start_span
from kit.spelling import did_you_mean
from kit.web import docs_pages
from kit.web.health import HttpMetrics, ReadyCheck, health_router
from kit.web.json_body import TWICE
from kit.web.limits.refusals import Refusals
from kit.web.limits.requests import QUOTA, RequestLimits
from kit.web.openapi import install_openapi
from kit.web.problem import ERRORS_SHOWN_MAX, INTERNAL, Problem, install_problems, invalid, problem_response
from kit.web.request_body import RequestBody
from kit.web.request_ids import (
    CORRELATION_HEADER,
    CORRELATION_KEY,
    NO_CONTENT,
    NO_STORE,
    correlation_id_of,
    end_span,
)
from kit.web.request_scope import selected_route
from kit.web.route_rules import RouteRules, check_rules, rules_of
from kit.web.serving.connections import ConnectionMetrics
from kit.web.serving.direct import DirectRoutes
from kit.web.serving.server import RunningServer, serve

__all__ = ["CORRELATION_HEADER", "Problem", "ReadyCheck", "RunningServer", "make_app", "serve"]

_CLOSE: Final = (b"connection", b"close")
_API: Final = "/api/"  # other paths are for monitoring, which adds parameters of its own
_NAME_SHOWN_MAX: Final = 64
_READING: Final = frozenset({"GET", "HEAD"})
# Routes are matched on the decoded path, in which such a slash would begin the next part, of another route perhaps.
_SLASH_IN_ID: Final = "an id in a path cannot have a slash: leave %2F out of the path"
_UNMATCHED: Final = "unmatched"  # the route label where no route matched: paths as labels would be without number

_log = get_logger(__name__)


def make_app(
    title: str,
    version: str,
    *,
    registry: CollectorRegistry,
    description: str = "",
    ready: Mapping[str, ReadyCheck] | None = None,
    lifespan: Lifespan[FastAPI] | None = None,
    clock: Clock | None = None,
) -> FastAPI:
    """A FastAPI app with problem documents, correlation ids, spans, metrics, /healthz, /ready, /metrics, / and /docs.

    `registry` takes the app's request metrics and is what /metrics shows: one app per registry. `ready` maps names to
    the checks of /ready; more may be added later.
    """
    app = _App(
        title=title,
        version=version,
        description=description,
        lifespan=lifespan,
        redirect_slashes=False,  # a redirect would lead to whatever host the request names
        openapi_url=None,  # kit.web.docs_pages serves it and its documentation
        dependencies=[Depends(_refuse_unknown_parameters)],
    )
    app.include_router(health_router(registry, {} if ready is None else ready))
    app.include_router(docs_pages.router)
    app.routers_last = len(app.routes)
    install_problems(app)
    install_openapi(app)
    metrics, clock = HttpMetrics(registry), clock or SystemClock()
    app.add_middleware(_RequestMiddleware, metrics=metrics, clock=clock)
    app.state.refusals = Refusals(registry, clock.monotonic_s)
    app.state.request_limits = RequestLimits(clock.monotonic_s, app.state.refusals)
    app.state.direct_routes = DirectRoutes(app, metrics, clock)
    app.state.connection_metrics = ConnectionMetrics(registry)
    return app


class _App(FastAPI):
    """Mounts only routes that declare their rules."""

    routers_last = 0  # those of make_app: requests are matched in order, and theirs are few

    def include_router(self, router: APIRouter, *args: Any, **options: Any) -> None:
        """See FastAPI. Raises InvalidRouteRules."""
        super().include_router(router, *args, **options)
        included = self.routes.pop()
        check_rules(iter_route_contexts([included]))
        self.routes.insert(len(self.routes) - self.routers_last, included)

    def build_middleware_stack(self) -> ASGIApp:
        """See Starlette: once, before the first request. Raises InvalidRouteRules, for routes added one by one."""
        check_rules(iter_route_contexts(self.routes))
        return super().build_middleware_stack()


async def _refuse_unknown_parameters(request: Request) -> None:
    """Refuse query parameters that an operation's OpenAPI does not list, and those that are no list and there twice:
    they would silently be ignored."""
    given = request.query_params
    if not given or not request.url.path.startswith(_API):
        return
    operations = request.app.openapi()["paths"].get(_route_template(request.scope), {})
    described = operations.get(request.method.lower(), {})
    known = {one["name"]: one["schema"] for one in described.get("parameters", ()) if one["in"] == "query"}
    wrong = {
        name: TWICE if name in known else f"there is no such parameter{did_you_mean(name, set(known))}"
        for name in given
        if name not in known or (len(given.getlist(name)) > 1 and not _is_list(known[name]))
    }
    if wrong:
        shown = list(wrong.items())[:ERRORS_SHOWN_MAX]
        errors = [{"location": f"query/{name[:_NAME_SHOWN_MAX]}", "detail": why} for name, why in shown]
        raise invalid(errors, len(wrong))


def _is_list(schema: Mapping[str, Any]) -> bool:
    """Whether a parameter of this schema may be there several times."""
    return schema.get("type") == "array" or any(map(_is_list, schema.get("anyOf", ())))


class _RequestMiddleware:
    """Correlation id, span, metrics and body rules of every request; makes a 500 problem of an unhandled error."""

    def __init__(self, app: ASGIApp, metrics: HttpMetrics, clock: Clock) -> None:
        self._app = app
        self._monotonic_s = clock.monotonic_s
        self._metrics = metrics
        self._rules: dict[
            int, tuple[object, RouteRules]
        ] = {}  # by id of the route, which is kept alive beside its rules

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started_s = self._monotonic_s()
        own_id, parent, declared, is_open = _headers_of(scope)
        body = RequestBody(scope, receive, self._rules_of, declared, is_open)
        id_header = (CORRELATION_KEY, own_id.encode())
        method: str = scope["method"]
        status = 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = [*message.get("headers", ()), id_header]
                if scope["path"].startswith(_API):
                    headers.append(NO_CONTENT)
                    if all(name != b"cache-control" for name, _ in headers):
                        headers.append(NO_STORE)  # it is for whoever has the token
                headers += scope.get(QUOTA, ())
                if body.abandoned:
                    headers.append(_CLOSE)
                message["headers"] = headers
            await send(message)

        span = start_span(method, context_from(parent), SpanKind.SERVER)
        id_token = correlation_id.set(own_id)
        scope_token = current_request.set(scope)
        span_token = otel_context.attach(trace.set_span_in_context(span))
        try:
            if b"%2f" in scope.get("raw_path", b"").lower():
                await problem_response(Problem(404, _SLASH_IN_ID))(scope, body.receive, send_with_id)
            else:
                is_question = method in _READING and scope["path"].startswith(_API)
                with asked_by(partial(asker_of, scope) if is_question else None):
                    await self._app(scope, body.receive, send_with_id)
        except ClientDisconnect:
            status = status or 499  # the client is gone; 499 as in nginx
        except Exception as error:
            _log.exception("request_failed", method=method, path=scope["path"])
            span.record_exception(error)
            if status:
                raise  # the response is half out: only closing the connection tells the client
            await problem_response(Problem(500, INTERNAL))(scope, body.receive, send_with_id)
        finally:
            route, duration_s = _route_template(scope), self._monotonic_s() - started_s
            end_span(span, method, route, scope["path"], status)
            self._metrics.observe(method, route, status or 500, duration_s)
            if may_concern(method, status or 500):
                self._audit(scope, method, route, status or 500, own_id, duration_s)  # its log line has the ids, too
            otel_context.detach(span_token)
            correlation_id.reset(id_token)
            current_request.reset(scope_token)

    def _audit(self, scope: Scope, method: str, route: str, status: int, own_id: str, duration_s: float) -> None:
        audit: RequestAudit | None = getattr(scope["app"].state, "audit", None)
        if audit is not None and scope["path"].startswith(_API):
            counted = selected_route(scope) is not None and self._rules_of(scope).counted
            audit.ended(scope, method, route, status, own_id, duration_s, counted=counted)

    def _rules_of(self, scope: Scope) -> RouteRules:
        route = selected_route(scope)
        known = self._rules.get(id(route))
        if known is None:
            known = self._rules[id(route)] = (route, rules_of(route))
        return known[1]


def _headers_of(scope: Scope) -> tuple[str, str, bytes, bool]:
    """The correlation id, given or new; traceparent and Content-Length, or empty; whether the body may be longer than
    that (chunks), or later (the client waits for 100 Continue)."""
    given = traceparent = declared = b""
    is_open = False
    for key, value in scope["headers"]:
        if key == CORRELATION_KEY:
            given = value
        elif key == b"traceparent":
            traceparent = value
        elif key == b"content-length":
            declared = value
        elif key == b"transfer-encoding" or key == b"expect":
            is_open = True
    return correlation_id_of(given), traceparent.decode("latin-1"), declared, is_open


def _route_template(scope: Scope) -> str:
    """`/items/{id}` of the route that took the request."""
    template = getattr(selected_route(scope), "path", None)
    return template if isinstance(template, str) else _UNMATCHED
