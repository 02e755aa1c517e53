"""Metrics of one event loop: what a scrape shows is what prometheus_client's own metrics would show."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

from kit.observability.loop_metrics import LoopCounter, LoopHistogram

BUCKETS = (0.5, 1.0, 10.0)


def _shown(registry: CollectorRegistry) -> list[str]:
    return [line for line in generate_latest(registry).decode().splitlines() if "_created" not in line]


@given(amounts=st.lists(st.integers(0, 1_000)))
def test_a_counter_is_shown_as_prometheus_clients_own(amounts: list[int]) -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    counters = LoopCounter("things", "Things", registry=ours), Counter("things", "Things", registry=theirs)
    for amount in amounts:
        for counter in counters:
            counter.inc(amount)
    assert _shown(ours) == _shown(theirs)


@given(values=st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from([0.0, 0.5, 0.6, 1.0, 9.5, 10.0, 11.5]))))
def test_a_histogram_is_shown_as_prometheus_clients_own(values: list[tuple[str, float]]) -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    loop_histogram = LoopHistogram("wait", "Waits", ("kind", "of"), buckets=BUCKETS, registry=ours)
    histogram = Histogram("wait", "Waits", ("kind", "of"), buckets=BUCKETS, registry=theirs)
    for kind, value in values:
        loop_histogram.labels(kind, "x").observe(value)
        histogram.labels(kind, "x").observe(value)
    assert _shown(ours) == _shown(theirs)


def test_a_registry_has_one_metric_of_a_name() -> None:
    registry = CollectorRegistry()
    LoopCounter("things", "Things", registry=registry)
    LoopHistogram("wait", "Waits", (), buckets=BUCKETS, registry=registry)
    for again in (
        lambda: LoopCounter("things", "Things", registry=registry),
        lambda: Histogram("wait", "Waits", registry=registry),
    ):
        with pytest.raises(ValueError, match="Duplicated"):
            again()
