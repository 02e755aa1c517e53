"""The idempotent consumer: an event's id is written down in the transaction of what the event causes.

The table is `<schema>.events_processed` of kit/database/standard_tables.
"""

from collections.abc import Sequence
from typing import Final
from uuid import UUID

from kit.database.names import checked_name
from kit.messaging.outbox import Transaction

KEEP_DAYS: Final = 30  # an event may come again for as long as it waits in a queue or among dead letters


Note = tuple[str, UUID]  # queue, event_id


async def first_times(connection: Transaction, schema: str, events: Sequence[Note]) -> set[Note]:
    """Write these (queue, event id) down; those that were not before. Of the others there is nothing left to do but
    acknowledge them.

    Call it first in the handler's open transaction. A second delivery at the same time waits for the first one's end.
    """
    insert = (
        f"INSERT INTO {checked_name(schema)}.events_processed (queue, event_id) "  # noqa: S608 - checked
        "SELECT DISTINCT q, e FROM unnest($1::text[], $2::uuid[]) AS events (q, e) ORDER BY q, e "
        "ON CONFLICT DO NOTHING RETURNING queue, event_id"
    )
    queues, ids = zip(*events, strict=True)
    return {(row[0], row[1]) for row in await connection.fetch(insert, queues, ids)}


async def forget_old(connection: Transaction, schema: str) -> None:
    """Delete what is older than KEEP_DAYS: once a day, by the service itself."""
    delete = (
        f"DELETE FROM {checked_name(schema)}.events_processed WHERE processed_at < now() - make_interval(days => $1)"  # noqa: S608 - checked
    )
    await connection.execute(delete, KEEP_DAYS)
