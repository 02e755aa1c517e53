"""Prometheus metrics of ingestion, in addition to the HTTP metrics of every service."""

from collections.abc import Iterable
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from ingest.admission import RefusedItem, Remarks
from kit.observability.loop_metrics import LoopCounter

# From a lone reading to FRAME_ITEMS_MAX.
_FILL_BUCKETS: Final = (1, 4, 16, 64, 256, 1_000, 2_048, 4_096)
# From an in-process commit to the publish time-out of 10 s.
_APPEND_BUCKETS_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)


class IngestMetrics:
    """One instance per process."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.requests = LoopCounter("ingest_requests", "Requests and events received", registry=registry)
        self.body_bytes = LoopCounter("ingest_body_bytes", "Bytes of request bodies, as sent", registry=registry)
        self.accepted = LoopCounter("ingest_readings_accepted", "Readings that are durable", registry=registry)
        self.frame_items = Histogram("ingest_frame_items", "Items in a frame", buckets=_FILL_BUCKETS, registry=registry)
        self.append_s = Histogram(
            "ingest_append_seconds", "From appending a frame until it is durable", buckets=_APPEND_BUCKETS_S,
            registry=registry,
        )  # fmt: skip
        self.frames_unconfirmed = Gauge(
            "ingest_frames_unconfirmed", "Frames that are not durable yet", registry=registry
        )
        self.frames_failed = Counter(
            "ingest_frames_failed", "Frames that the log refused, or that were not durable in time", registry=registry
        )
        self._refused = Counter(
            "ingest_readings_refused", "Items refused and kept in quarantine", ("reason",), registry=registry
        )
        self._dropped = Counter(
            "ingest_fields_dropped", "Fields that accepted readings were sent with and cannot be", ("reason",),
            registry=registry,
        )  # fmt: skip

    def refused(self, items: Iterable[RefusedItem]) -> None:
        """Count refused items by reason; ingest.admission lists the few there are."""
        for item in items:
            self._refused.labels(item.reason).inc()

    def dropped(self, remarks: Remarks | None) -> None:
        """Count dropped fields by reason."""
        for reason, count in remarks.reasons.items() if remarks is not None else ():
            self._dropped.labels(reason).inc(count)
