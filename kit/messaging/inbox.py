"""The table of processed event ids, for deduplication: `<schema>.events_processed` of kit/database/standard_tables."""

from collections.abc import Sequence
from uuid import UUID

from kit.database.names import checked_name
from kit.messaging.outbox import Transaction

EventKey = tuple[str, UUID]  # queue, event_id


async def record_new_events(connection: Transaction, schema: str, events: Sequence[EventKey]) -> set[EventKey]:
    """Record these (queue, event id) pairs and return those that were new; the others were processed before and need
    only be acknowledged.

    Call it first in the handler's open transaction. A concurrent delivery of an event waits for that transaction's end.
    """
    insert = (
        f"INSERT INTO {checked_name(schema)}.events_processed (queue, event_id) "  # noqa: S608 - checked
        "SELECT DISTINCT q, e FROM unnest($1::text[], $2::uuid[]) AS events (q, e) ORDER BY q, e "
        "ON CONFLICT DO NOTHING RETURNING queue, event_id"
    )
    queues, ids = zip(*events, strict=True)
    return {(row[0], row[1]) for row in await connection.fetch(insert, queues, ids)}
