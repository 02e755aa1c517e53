"""The event that a report is done."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final
from uuid import uuid4

from api.reporting.reports.store import StoredReport
from kit.clock import format_rfc3339
from kit.messaging.outbox import OutboxEvent
from kit.observability.logs import correlation_id
from kit.observability.tracing import current_traceparent
from schemas.events import ReportGenerated, envelope_of
from schemas.topics import REPORT_GENERATED

SOURCE: Final = "reporting"


def report_generated(report: StoredReport, tables: Sequence[Mapping[str, Any]], computed_at: datetime) -> OutboxEvent:
    """report.generated.v1"""
    event_id = uuid4()
    payload = ReportGenerated(
        report_id=report.id,
        kind=report.kind,
        from_moment=format_rfc3339(report.start),
        to_moment=format_rfc3339(report.end),
        requested_by=report.requested_by,
        computed_at=format_rfc3339(computed_at),
        rows={table["name"]: table["rows"] for table in tables},
    )
    envelope = envelope_of(
        REPORT_GENERATED,
        event_id,
        payload,
        source=SOURCE,
        timestamp=format_rfc3339(computed_at),
        correlation_id=correlation_id.get(),
        traceparent=current_traceparent(),
    )
    return OutboxEvent(event_id, envelope.exchange, envelope.routing_key, envelope.encoded())
