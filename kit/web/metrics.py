"""What every HTTP service measures of itself. The registry is passed in: nothing registers itself at import."""

from typing import Final

from prometheus_client import CollectorRegistry, Histogram

# From a request that only waits for the event loop to one that waits for a broker's confirm time-out of 10 s.
_DURATION_BUCKETS_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
_METHODS: Final = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"})


class HttpMetrics:
    """Count and duration of requests by method, route template and status: every label has few values."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._duration_s = Histogram(
            "http_request_duration_seconds",
            "Time from a request's first byte handled to its response's last byte handed over",
            ("method", "route", "status"),
            buckets=_DURATION_BUCKETS_S,
            registry=registry,
        )
        # labels() takes a lock and builds strings; its answers are kept. Bounded as the label values are.
        self._children: dict[tuple[str, str, int], Histogram] = {}

    def observe(self, method: str, route: str, status: int, duration_s: float) -> None:
        """Count one finished request."""
        key = (method if method in _METHODS else "other", route, status)
        child = self._children.get(key)
        if child is None:
            child = self._children[key] = self._duration_s.labels(key[0], route, str(status))
        child.observe(duration_s)
