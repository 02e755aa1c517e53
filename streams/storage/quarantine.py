"""Retention of refused items."""

from datetime import datetime

from streams.storage.connections import DELETED_ROWS_MAX, Connection


def drop_quarantined_before(connection: Connection, before: datetime, keep_reasons: list[str]) -> None:
    """Drop refused items that were received before, but for these reasons."""
    connection.execute(
        "DELETE FROM telemetry.quarantine WHERE id = ANY(ARRAY(SELECT id FROM telemetry.quarantine "
        "WHERE received_at < %s AND reason <> ALL(%s) ORDER BY received_at LIMIT %s))",
        (before, keep_reasons, DELETED_ROWS_MAX),
    )
