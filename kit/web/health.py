"""Routes of every HTTP process for its operators: /healthz, /ready and /metrics; readiness checks and HTTP metrics."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from fastapi import APIRouter, Depends
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from starlette.responses import Response

from kit.errors import KitError
from kit.futures import mark_seen
from kit.observability.logs import get_logger
from kit.observability.loop_metrics import LoopHistogram, LoopHistogramChild
from kit.web.problem import Problem
from kit.web.route_rules import public

ReadyCheck = Callable[[], Awaitable[object]]
"""Returns if its dependency works and raises if not; returns Degraded where it works and somebody should look. The text
of a KitError is shown in /ready."""


@dataclass(frozen=True, slots=True)
class Degraded:
    """What works, and will not for long. `reason`: what is wrong and what to do."""

    reason: str


HEALTHZ, READY, METRICS = "/healthz", "/ready", "/metrics"
HEALTH_PATHS: Final = frozenset(path.encode() for path in (HEALTHZ, READY, METRICS))
# A probe runs every few seconds and gives up after a few: a later answer would be useless.
_CHECK_S_MAX: Final = 2.0
# From a request that only waits for the event loop to one that waits for a broker's confirm time-out of 10 s.
# 0.2 is the objective of the alerts (deploy/prometheus).
_DURATION_BUCKETS_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.5, 1.0, 2.5, 10.0)
_METHODS: Final = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"})

_log = get_logger(__name__)


class HttpMetrics:
    """Count and duration of requests by method, route template and status: every label has few values."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._duration_s = LoopHistogram(
            "http_request_duration_seconds",
            "Time from a request's first byte handled to its response's last byte handed over",
            ("method", "route", "status"),
            buckets=_DURATION_BUCKETS_S,
            registry=registry,
            count_name="http_requests",
        )
        self._children: dict[tuple[str, str, int], LoopHistogramChild] = {}  # bounded as the label values are

    def observe(self, method: str, route: str, status: int, duration_s: float) -> None:
        """Count one finished request."""
        key = (method if method in _METHODS else "other", route, status)
        child = self._children.get(key)
        if child is None:
            child = self._children[key] = self._duration_s.labels(key[0], route, str(status))
        child.observe(duration_s)


def health_router(registry: CollectorRegistry, checks: Mapping[str, ReadyCheck]) -> APIRouter:
    """The routes /healthz, /ready and /metrics."""
    router = APIRouter(tags=["operations"], dependencies=[Depends(public)])

    @router.get(HEALTHZ, summary="The process is alive")
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @router.get(READY, summary="Everything this process needs works", responses={503: {"description": "Not ready"}})
    async def ready() -> dict[str, Any]:
        found = await outcomes(checks)
        failed = {name: reason for name, reason in found.items() if isinstance(reason, str)}
        if failed:
            detail = "; ".join(f"{name}: {reason}" for name, reason in failed.items())
            raise Problem(503, f"not ready: {detail}", headers={"Retry-After": "1"}, extensions={"checks": failed})
        degraded = {name: one.reason for name, one in found.items() if isinstance(one, Degraded)}
        shown = {name: f"degraded: {degraded[name]}" if name in degraded else "ok" for name in checks}
        return {"status": "degraded" if degraded else "ready", "checks": shown}

    @router.get(
        METRICS,
        summary="Prometheus metrics",
        response_class=Response,
        responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
    )
    async def metrics() -> Response:
        return Response(generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    return router


async def failures(checks: Mapping[str, ReadyCheck]) -> dict[str, str]:
    """The checks that fail, with the reasons, in the given order. All run at once."""
    return {name: reason for name, reason in (await outcomes(checks)).items() if isinstance(reason, str)}


async def outcomes(checks: Mapping[str, ReadyCheck]) -> "dict[str, str | Degraded | None]":
    """Of each check, in the given order: why it fails, that it is degraded, or None. All run at once."""
    found = await asyncio.gather(*(_outcome(name, check) for name, check in checks.items()))
    return dict(zip(checks, found, strict=True))


async def _outcome(name: str, check: ReadyCheck) -> "str | Degraded | None":
    task = asyncio.ensure_future(check())
    await asyncio.wait((task,), timeout=_CHECK_S_MAX)
    if not task.done():
        task.add_done_callback(mark_seen)
        task.cancel()  # which it may not heed soon: a driver first tells its server, that does not answer
        return f"no answer within {_CHECK_S_MAX:.0f} s"
    try:
        found = task.result()
    except KitError as error:
        return str(error) or type(error).__name__
    except Exception as error:
        # The text of an unforeseen error may reveal internals: it is logged, and the response has only its type.
        _log.warning("ready_check_failed", check=name, exc_info=True)
        return type(error).__name__
    return found if isinstance(found, Degraded) else None
