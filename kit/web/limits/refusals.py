"""Refusals of what is beyond a limit: a 429 that says when to come again, a metric, and a line a minute in the log."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from prometheus_client import CollectorRegistry, Counter

from kit.observability.logs import get_logger
from kit.web.problem import Problem

MINUTE_S: Final = 60.0
HOUR_S: Final = 3_600.0
_LOGGED_EVERY_S: Final = 60.0

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Limit:
    """A limit, as clients, metrics and the log name it."""

    name: str
    what: str  # with its number before it: "requests a minute of this token"
    mend: str  # what to do beside waiting
    window_s: float = 0.0  # 0: of what there is at once


REQUESTS: Final = Limit(
    "requests",
    "requests a minute of this token",
    "send fewer requests with more in each (operators: api.…requests_per_minute)",
    MINUTE_S,
)
UNAUTHENTICATED: Final = Limit(
    "unauthenticated",
    "requests a minute of an address without a token that is accepted",
    "mend the token (operators: api.unauthenticated_per_minute)",
    MINUTE_S,
)


class Refusals:
    """Of one app, whose /metrics has `registry`."""

    def __init__(self, registry: CollectorRegistry, monotonic_s: Callable[[], float]) -> None:
        self._counter = Counter(
            "http_requests_limited", "Requests refused with 429, by the limit", ("limit",), registry=registry
        )
        self._monotonic_s = monotonic_s
        self._unlogged: dict[Limit, int] = {}  # refused since the last line
        self._logged_s: dict[Limit, float] = {}

    def refuse(self, limit: Limit, bound: int, wait_s: float, who: str, mend: str = "") -> Problem:
        """The problem to raise, counted. `who`: a token's id or an address, for the log alone; `mend`: in place of the
        limit's own."""
        self._counter.labels(limit.name).inc()
        refused = self._unlogged.get(limit, 0) + 1
        now_s = self._monotonic_s()
        if now_s - self._logged_s.get(limit, -math.inf) >= _LOGGED_EVERY_S:
            _log.warning("limit_reached", limit=limit.name, bound=bound, refused=refused, last=who)
            self._logged_s[limit], refused = now_s, 0
        self._unlogged[limit] = refused
        seconds = max(1, math.ceil(wait_s))
        return Problem(
            429,
            f"the bound of {bound} {limit.what} is reached: {mend or limit.mend}",
            headers={"Retry-After": str(seconds), **quota_headers(limit, bound, 0, seconds)},
            extensions={"reason": f"{limit.name}_limited"},
        )


def quota_headers(limit: Limit, bound: int, remaining: int, reset_s: int) -> Mapping[str, str]:
    """draft-ietf-httpapi-ratelimit-headers-10: the policy, and what is left of it until so many seconds from now."""
    window = f";w={int(limit.window_s)}" if limit.window_s else ""
    return {
        "RateLimit-Policy": f'"{limit.name}";q={bound}{window}',
        "RateLimit": f'"{limit.name}";r={remaining};t={reset_s}',
    }
