"""The idempotent consumer: an event's id is written down in the transaction of what the event causes.

The table stands in the consumer's own schema and is made by its migrations:

    CREATE TABLE <schema>.events_processed (
        queue        text NOT NULL,
        event_id     uuid NOT NULL,
        processed_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (queue, event_id)
    );
    CREATE INDEX ON <schema>.events_processed (processed_at);
"""

from typing import Final
from uuid import UUID

from kit.names import checked_name
from kit.outbox import Transaction

KEEP_DAYS: Final = 30  # an event may come again for as long as it waits in a queue or among dead letters


async def first_time(connection: Transaction, schema: str, queue: str, event_id: UUID) -> bool:
    """Write the event down; False where that was done before: then there is nothing left to do but acknowledge.

    Call it first in the handler's open transaction. A second delivery at the same time waits for the first one's end.
    """
    insert = (
        f"INSERT INTO {checked_name(schema)}.events_processed (queue, event_id) VALUES ($1, $2) "  # noqa: S608 - checked
        "ON CONFLICT DO NOTHING"
    )
    status: str = await connection.execute(insert, queue, event_id)
    return status == "INSERT 0 1"


async def forget_old(connection: Transaction, schema: str) -> None:
    """Delete what is older than KEEP_DAYS: once a day, by the service itself."""
    delete = (
        f"DELETE FROM {checked_name(schema)}.events_processed WHERE processed_at < now() - make_interval(days => $1)"  # noqa: S608 - checked
    )
    await connection.execute(delete, KEEP_DAYS)
