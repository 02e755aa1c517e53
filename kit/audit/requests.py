"""Which requests are audited, by whom they were, and what is kept of them.

Kept: a request that may have changed something (no GET, and not refused for its content: below 400, 5xx, or the client
was gone), and one that was not allowed (401, 403, 429). Readings are counted by token and minute instead.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

from starlette.types import Scope

from kit.audit.actors import actor_of
from kit.audit.entry import REFUSED, REQUEST, Actor, Entry, entry_of
from kit.audit.refusals import RefusalCounts
from kit.audit.telemetry_counts import TelemetryCounts
from kit.clock import Clock
from kit.observability.logs import get_logger
from kit.web.request_scope import PRINCIPAL

REFUSALS: Final = frozenset((401, 403, 429))
_SAFE: Final = frozenset(("GET", "HEAD", "OPTIONS", "TRACE"))
_CLIENT_GONE: Final = 499
_METHOD_CHARS_MAX: Final = 16
_log = get_logger("audit")


class RequestAudit:
    """Decides what is kept of each request, logs it and hands it on. One a process; used from one event loop."""

    def __init__(self, clock: Clock, put: Callable[[Entry], None]) -> None:
        """`put` takes an entry to be written; it never blocks."""
        self._clock = clock
        self._put = put
        self._refusals = RefusalCounts()
        self.telemetry = TelemetryCounts()

    def ended(
        self, scope: Scope, method: str, endpoint: str, status: int, own_id: str, duration_s: float, *, counted: bool
    ) -> None:
        """A request of the framework was answered. `counted`: it is one of those that are counted by token."""
        if status in REFUSALS:
            self.refused(actor_of(scope), method, endpoint, status, own_id, duration_s)
        elif counted:
            principal = scope.get(PRINCIPAL)
            if principal is not None:
                self.telemetry.count(principal)
        elif status < 400 or status >= _CLIENT_GONE:
            entry = self._entry(REQUEST, actor_of(scope), method, endpoint, status, own_id, duration_s)
            _log.info("audit", **shown(entry))
            self._put(entry)

    def refused(self, actor: Actor, method: str, endpoint: str, status: int, own_id: str, duration_s: float) -> None:
        """A request was not allowed. The first of its kind in a minute has an entry, the others are counted."""
        entry = self._entry(REFUSED, actor, method, endpoint, status, own_id, duration_s)
        seen = self._refusals.add(entry)
        if seen.is_logged:
            _log.warning("audit", **shown(entry))
        if seen.is_first:
            self._put(entry)

    def close_minute(self) -> None:
        """Put entries of what was counted since the last call."""
        for entry in self._refusals.take():
            _log.warning("audit", **shown(entry))
            self._put(entry)

    def _entry(
        self, action: str, actor: Actor, method: str, endpoint: str, status: int, own_id: str, duration_s: float
    ) -> Entry:
        return entry_of(
            actor,
            at=self._clock.now(),
            action=action,
            correlation_id=own_id,
            method=method[:_METHOD_CHARS_MAX],
            endpoint=endpoint,
            status=status,
            duration_us=round(duration_s * 1e6),
        )


def may_concern(method: str, status: int) -> bool:
    """Whether a request may have to be audited: for one that only reads, two comparisons."""
    return method not in _SAFE or status in REFUSALS


def shown(entry: Entry) -> Mapping[str, Any]:
    """The members of an entry's log line."""
    return {
        "action": entry.action,
        "actor": entry.actor,
        "role": entry.role,
        "token_kind": entry.token,
        "token_id": None if entry.token_id is None else str(entry.token_id),
        "method": entry.method,
        "endpoint": entry.endpoint,
        "status": entry.status,
        "correlation_id": entry.correlation_id,
        "address": entry.address,
        "duration_us": entry.duration_us,
        "requests": entry.requests,
    }
