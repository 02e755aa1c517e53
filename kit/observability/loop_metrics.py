"""Prometheus metrics that one event loop alone changes, for what is counted with every request.

prometheus_client's own take a lock and check their labels at each call, 0.5 us a counter and 1.5 us a histogram.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from typing import Final

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

_INFINITE: Final = "+Inf"


class _Described(Collector):
    """Lets a registry refuse a second metric of the name."""

    def describe(self) -> Iterable[Metric]:
        """See prometheus_client."""
        return self.collect()


class LoopCounter(_Described):
    """A counter without labels."""

    def __init__(self, name: str, documentation: str, *, registry: CollectorRegistry) -> None:
        self._name, self._documentation = name, documentation
        self._value = 0
        registry.register(self)

    def inc(self, amount: int = 1) -> None:
        """Add `amount`, which is at least 0."""
        self._value += amount

    def collect(self) -> Iterator[Metric]:
        """See prometheus_client."""
        yield CounterMetricFamily(self._name, self._documentation, value=self._value)


class LoopHistogram(_Described):
    """A histogram with labels, of which each combination of values is made once."""

    def __init__(
        self,
        name: str,
        documentation: str,
        labels: Sequence[str],
        *,
        buckets: Sequence[float],
        registry: CollectorRegistry,
        count_name: str = "",
    ) -> None:
        """`buckets`: upper bounds, inclusive, ascending; the infinite one is added. `count_name`: how many values there
        were is shown as a counter of this name besides."""
        self._name, self._documentation, self._labels = name, documentation, labels
        self._count_name = count_name
        self._bounds = tuple(buckets)
        self._children: dict[tuple[str, ...], LoopHistogramChild] = {}
        registry.register(self)

    def labels(self, *values: str) -> "LoopHistogramChild":
        """What observes values under these labels."""
        return self._children.setdefault(values, LoopHistogramChild(self._bounds))

    def collect(self) -> Iterator[Metric]:
        """See prometheus_client."""
        family = HistogramMetricFamily(self._name, self._documentation, labels=self._labels)
        bounds = [*(str(float(bound)) for bound in self._bounds), _INFINITE]
        for values, child in self._children.items():
            family.add_metric(values, list(zip(bounds, accumulate(child.counts), strict=True)), child.sum)
        yield family
        if self._count_name:
            count = CounterMetricFamily(self._count_name, self._documentation, labels=self._labels)
            for values, child in self._children.items():
                count.add_metric(values, sum(child.counts))
            yield count


class LoopHistogramChild:
    """One combination of labels."""

    __slots__ = ("_bounds", "counts", "sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self.counts = [0] * (len(bounds) + 1)  # not cumulative
        self.sum = 0.0

    def observe(self, value: float) -> None:
        """Count one value."""
        self.counts[bisect_left(self._bounds, value)] += 1
        self.sum += value
