"""How long queries of services take, as Prometheus metrics."""

import re
from typing import Final

from prometheus_client import CollectorRegistry

from kit.database.postgres import OnQuery
from kit.observability.loop_metrics import LoopHistogram, LoopHistogramChild

# From a look at one row to the bound of a question.
_DURATION_BUCKETS_S: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 20.0)
_STATEMENTS: Final = frozenset(
    {"begin", "call", "commit", "delete", "insert", "rollback", "select", "set", "update", "with"}
)
_FIRST_WORD: Final = re.compile(r"\s*([a-z]+)", re.IGNORECASE)
_KNOWN_MAX: Final = 4_096  # queries whose statement is remembered; a service has a few hundred


class QueryMetrics:
    """Duration of queries by pool and kind of statement. For one event loop."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._duration_s = LoopHistogram(
            "db_query_duration_seconds",
            "Time from a query's begin to its whole answer",
            ("pool", "statement"),
            buckets=_DURATION_BUCKETS_S,
            registry=registry,
        )

    def of(self, pool: str) -> OnQuery:
        """What observes the queries of the pool of that name."""
        by_statement = {name: self._duration_s.labels(pool, name) for name in (*sorted(_STATEMENTS), "other")}
        known: dict[str, LoopHistogramChild] = {}

        def observe(query: str, duration_s: float) -> None:
            child = known.get(query)
            if child is None:
                child = by_statement[_statement(query)]
                if len(known) < _KNOWN_MAX:
                    known[query] = child
            child.observe(duration_s)

        return observe


def _statement(query: str) -> str:
    found = _FIRST_WORD.match(query)
    word = found[1].lower() if found else ""
    return word if word in _STATEMENTS else "other"
