"""Metrics of invoicing. The registry is passed in."""

from prometheus_client import CollectorRegistry, Counter, Histogram


class InvoicingMetrics:
    """Charges by outcome, documents by kind, batches."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.charges = Counter(
            "billing_claims",
            "Charges of events, by outcome: a CDR's status, or noted, or stale, or superseded",
            ("outcome",),
            registry=registry,
        )
        self.documents = Counter("billing_documents", "Documents issued", ("kind",), registry=registry)
        self.drift = Counter(
            "billing_drift",
            "Charges whose quantities or cost by the stream are not ours: an alert on any",
            registry=registry,
        )
        self.waiting = Counter(
            "billing_waiting",
            "Charges that were put aside for a person, by reason: those of the session, and billing's own",
            ("reason",),
            registry=registry,
        )
        self.decisions = Counter(
            "billing_decisions", "Decisions of people on charges", ("decision",), registry=registry
        )
        self.batch_events = Histogram(
            "billing_batch_events",
            "Events of one transaction",
            buckets=(1, 2, 5, 10, 20, 50, 100, 256),
            registry=registry,
        )
