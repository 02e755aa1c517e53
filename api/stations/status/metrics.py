"""Metrics of the connectors' status. The registry is passed in."""

from prometheus_client import CollectorRegistry, Gauge


class StatusMetrics:
    """How many connectors say what."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.connectors = Gauge(
            "stations_connectors",
            "Connectors that are registered or have spoken, by what they said last, or Silent",
            ("status",),
            registry=registry,
        )
