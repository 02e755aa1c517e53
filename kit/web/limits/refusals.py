"""Refusals of what is beyond a limit: a 429 that says when to come again, a metric, and a line a minute in the log.

Whoever does not heed it takes processor time from others with every request. So refusals are answered at once ten times
a second to each that is refused, enough for requests that were on their way, and beyond that a second later. Until then
nothing more is read from their connections: one connection costs a refusal a second. Connections on which others are
heard, such as a reverse proxy's, are not held up, because each request there has one of its own until it is answered.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from prometheus_client import CollectorRegistry, Counter

from kit.observability.logs import get_logger
from kit.web.limits.buckets import Buckets
from kit.web.problem import Problem

MINUTE_S: Final = 60.0
HOUR_S: Final = 3_600.0
LATER_S: Final = 1.0
_AT_ONCE_PER_S: Final = 10
_LOGGED_EVERY_S: Final = 60.0
_TEXTS_MAX: Final = 1_000  # ~1 kB each

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


class _Text(NamedTuple):
    """What a refusal says."""

    detail: str
    headers: Mapping[str, str]
    extensions: Mapping[str, str]


class Refusals:
    """Of one app, whose /metrics has `registry`."""

    def __init__(self, registry: CollectorRegistry, monotonic_s: Callable[[], float]) -> None:
        self._counter = Counter(
            "http_requests_limited", "Requests refused with 429, by the limit", ("limit",), registry=registry
        )
        self._monotonic_s = monotonic_s
        self._at_once: Buckets[str] = Buckets(1.0, monotonic_s)  # by whom
        self._counters: dict[str, Counter] = {}  # by limit, as all of these
        self._unlogged: dict[str, int] = {}  # refused since the last line
        self._logged_s: dict[str, float] = {}
        self._texts: dict[tuple[str, int, int, str], _Text] = {}

    def refuse(self, limit: Limit, bound: int, wait_s: float, who: str, mend: str = "") -> Problem:
        """The problem to raise, counted. `who`: a token's id or an address; `mend`: in place of the limit's own."""
        self._count(limit, bound, who)
        text = self._text(limit, bound, max(1, math.ceil(wait_s)), mend or limit.mend)
        unheeded = self._at_once.spend(who, 1 / _AT_ONCE_PER_S, 1 / _AT_ONCE_PER_S) > 0
        delay_s = LATER_S if unheeded else 0.0
        return Problem(429, text.detail, headers=text.headers, extensions=text.extensions, delay_s=delay_s)

    def _count(self, limit: Limit, bound: int, who: str) -> None:
        counter = self._counters.get(limit.name)
        if counter is None:
            counter = self._counters[limit.name] = self._counter.labels(limit.name)
        counter.inc()
        refused = self._unlogged.get(limit.name, 0) + 1
        now_s = self._monotonic_s()
        if now_s - self._logged_s.get(limit.name, -math.inf) >= _LOGGED_EVERY_S:
            _log.warning("limit_reached", limit=limit.name, bound=bound, refused=refused, last=who)
            self._logged_s[limit.name], refused = now_s, 0
        self._unlogged[limit.name] = refused

    def _text(self, limit: Limit, bound: int, seconds: int, mend: str) -> _Text:
        """What a refusal says: the same for many, so it is put together once."""
        key = (limit.name, bound, seconds, mend)
        text = self._texts.get(key)
        if text is None:
            if len(self._texts) >= _TEXTS_MAX:
                self._texts.clear()
            text = self._texts[key] = _Text(
                f"the bound of {bound} {limit.what} is reached: {mend}",
                {"Retry-After": str(seconds), **quota_headers(limit, bound, 0, seconds)},
                {"reason": f"{limit.name}_limited"},
            )
        return text


def quota_headers(limit: Limit, bound: int, remaining: int, reset_s: int) -> Mapping[str, str]:
    """draft-ietf-httpapi-ratelimit-headers-10: the policy, and what is left of it until so many seconds from now."""
    window = f";w={int(limit.window_s)}" if limit.window_s else ""
    return {
        "RateLimit-Policy": f'"{limit.name}";q={bound}{window}',
        "RateLimit": f'"{limit.name}";r={remaining};t={reset_s}',
    }
