"""HTTP services: an app factory whose every request has a correlation id, a span and a measurement.

The middleware is plain ASGI, one layer: a gateway's hot path goes through it.
"""

import re
import secrets
from collections.abc import Mapping
from typing import Any, Final

from fastapi import Depends, FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.routing import APIRouter, iter_route_contexts
from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.trace import SpanKind, Status, StatusCode
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.types import ASGIApp, Lifespan, Message, Receive, Scope, Send

from kit.clock import Clock, SystemClock
from kit.observability.logs import correlation_id, get_logger
from kit.observability.tracing import context_from, start_span
from kit.spelling import did_you_mean
from kit.web.metrics import HttpMetrics
from kit.web.problem import ERRORS_SHOWN_MAX, Problem, install_problems, invalid, problem_response
from kit.web.readiness import ReadyCheck, failures
from kit.web.request_body import RequestBody
from kit.web.rules import Rules, check_rules, public, rules_of, selected_route
from kit.web.server import RunningServer, serve

__all__ = ["CORRELATION_HEADER", "Problem", "ReadyCheck", "RunningServer", "make_app", "serve"]

CORRELATION_HEADER: Final = "X-Correlation-ID"
_CORRELATION_KEY: Final = CORRELATION_HEADER.lower().encode()
# Printable ASCII: it goes into headers, logs and messages as it is.
_CORRELATION_ID: Final = re.compile(rb"[\x21-\x7e](?:[\x20-\x7e]{0,126}[\x21-\x7e])?")
_BODY_HEADERS: Final = frozenset({b"content-length", b"transfer-encoding", b"expect"})
_CLOSE: Final = (b"connection", b"close")
_API: Final = "/api/"  # what is beside it is asked by monitoring, which adds parameters of its own
_NAME_SHOWN_MAX: Final = 64
_UNMATCHED: Final = "unmatched"  # the route label of a request no route took: paths are not to become labels

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
    """A FastAPI app with problem documents, correlation ids, spans, metrics, /healthz, /ready and /metrics.

    `registry` takes the app's request metrics and is what /metrics shows: one app a registry. `ready` maps a name to a
    check that raises when what it looks at does not work; it may be added to later.
    """
    app = _App(
        title=title,
        version=version,
        description=description,
        lifespan=lifespan,
        openapi_url=None,  # that and the pages of it are `_operations`
        dependencies=[Depends(_refuse_unknown_parameters)],
    )
    app.include_router(_operations(registry, {} if ready is None else ready))
    install_problems(app)
    app.add_middleware(_Edge, metrics=HttpMetrics(registry), clock=clock or SystemClock())
    return app


class _App(FastAPI):
    """Mounts only routes that declare their rules."""

    def include_router(self, router: APIRouter, *args: Any, **options: Any) -> None:
        """See FastAPI. Raises BadRules."""
        super().include_router(router, *args, **options)
        check_rules(iter_route_contexts(self.routes[-1:]))

    def build_middleware_stack(self) -> ASGIApp:
        """See Starlette: once, before the first request. Raises BadRules, for routes that were added one by one."""
        check_rules(iter_route_contexts(self.routes))
        return super().build_middleware_stack()


async def _refuse_unknown_parameters(request: Request) -> None:
    """Those that an operation of the API does not have, by its OpenAPI: misspelt, they would ask for something else."""
    given = request.query_params
    if not given or not request.url.path.startswith(_API):
        return
    operations = request.app.openapi()["paths"].get(_route_template(request.scope), {})
    described = operations.get(request.method.lower(), {})
    known = {parameter["name"] for parameter in described.get("parameters", ()) if parameter["in"] == "query"}
    unknown = [name for name in dict.fromkeys(given) if name not in known]
    if unknown:
        errors = [
            {
                "location": f"query/{name[:_NAME_SHOWN_MAX]}",
                "detail": f"there is no such parameter{did_you_mean(name, known)}",
            }
            for name in unknown[:ERRORS_SHOWN_MAX]
        ]
        raise invalid(errors, len(unknown))


class _Edge:
    """Around every request: ids in, span, ids out, measurement; an unhandled error becomes a 500 problem here."""

    def __init__(self, app: ASGIApp, metrics: HttpMetrics, clock: Clock) -> None:
        self._app = app
        self._monotonic_s = clock.monotonic_s
        self._metrics = metrics
        self._rules: dict[int, tuple[object, Rules]] = {}  # by id of the route, which is kept alive beside its rules

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started_s = self._monotonic_s()
        body = RequestBody(scope, receive, self._rules_of)
        own_id, parent = _ids_of(scope, body)
        id_header = (_CORRELATION_KEY, own_id.encode())
        method: str = scope["method"]
        status = 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = [*message.get("headers", ()), id_header]
                if body.abandoned:
                    headers.append(_CLOSE)
                message["headers"] = headers
            await send(message)

        span = start_span(method, context_from(parent), SpanKind.SERVER)
        id_token = correlation_id.set(own_id)
        span_token = otel_context.attach(trace.set_span_in_context(span))
        try:
            await self._app(scope, body.receive, send_with_id)
        except ClientDisconnect:
            status = status or 499  # nobody is left to answer; 499 as nginx has it
        except Exception as error:
            _log.exception("request_failed", method=method, path=scope["path"])
            span.record_exception(error)
            if status:
                raise  # the response is half out: only closing the connection tells the client
            await problem_response(_INTERNAL)(scope, body.receive, send_with_id)
        finally:
            otel_context.detach(span_token)
            correlation_id.reset(id_token)
            route = _route_template(scope)
            if span.is_recording():
                span.update_name(f"{method} {route}")
                span.set_attributes({"http.request.method": method, "http.route": route, "url.path": scope["path"]})
                span.set_attribute("http.response.status_code", status)
                if status >= 500:
                    span.set_status(Status(StatusCode.ERROR))
            span.end()
            self._metrics.observe(method, route, status or 500, self._monotonic_s() - started_s)

    def _rules_of(self, scope: Scope) -> Rules:
        route = selected_route(scope)
        known = self._rules.get(id(route))
        if known is None:
            known = self._rules[id(route)] = (route, rules_of(route))
        return known[1]


_INTERNAL: Final = Problem(500, "an error on our side; it is logged under the correlation id")


def _ids_of(scope: Scope, body: RequestBody) -> tuple[str, str]:
    """The request's correlation id, given or new, and its traceparent or empty. `body` takes note of its headers."""
    given = traceparent = b""
    for key, value in scope["headers"]:
        if key == _CORRELATION_KEY:
            given = value
        elif key == b"traceparent":
            traceparent = value
        elif key in _BODY_HEADERS:
            body.header(key, value)
    valid = given and _CORRELATION_ID.fullmatch(given)
    return given.decode("ascii") if valid else secrets.token_hex(16), traceparent.decode("latin-1")


def _route_template(scope: Scope) -> str:
    """`/items/{id}` of the route that took the request."""
    template = getattr(selected_route(scope), "path", None)
    return template if isinstance(template, str) else _UNMATCHED


def _operations(registry: CollectorRegistry, checks: Mapping[str, ReadyCheck]) -> APIRouter:
    router = APIRouter(tags=["operations"], dependencies=[Depends(public)])

    @router.get("/healthz", summary="The process is alive")
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @router.get("/ready", summary="Everything this process needs works", responses={503: {"description": "Not ready"}})
    async def ready() -> dict[str, Any]:
        failed = await failures(checks)
        if failed:
            detail = "; ".join(f"{name}: {reason}" for name, reason in failed.items())
            raise Problem(503, f"not ready: {detail}", headers={"Retry-After": "1"}, extensions={"checks": failed})
        return {"status": "ready", "checks": dict.fromkeys(checks, "ok")}

    @router.get(
        "/metrics",
        summary="Prometheus metrics",
        response_class=Response,
        responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
    )
    async def metrics() -> Response:
        return Response(generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    @router.get("/openapi.json", include_in_schema=False)
    async def openapi(request: Request) -> JSONResponse:
        return JSONResponse(request.app.openapi())

    @router.get("/docs", include_in_schema=False)
    async def docs(request: Request) -> HTMLResponse:
        return get_swagger_ui_html(openapi_url="/openapi.json", title=request.app.title)

    return router
