"""What a database that was restored from a backup needs before a worker may use it."""

from datetime import datetime
from typing import Final

from streams.storage.table_drops import Connection

# A worker of before the restore may be alive, with an epoch that was handed out after the backup. Those handed out from
# now on are above all of them, and above those after an earlier restore of the same backup: seconds go faster than
# assignments.
_EPOCHS: Final = """
UPDATE telemetry.stream_offset SET epoch = greatest(epoch + 1, extract(epoch FROM clock_timestamp())::bigint)
"""
_FROM_THE_START: Final = "UPDATE telemetry.stream_offset SET next = 0"
_IDENTITY: Final = "UPDATE telemetry.storage SET prepared_at = coalesce(%s::timestamptz, clock_timestamp())"
_OFFSETS: Final = "SELECT partition, next FROM telemetry.stream_offset ORDER BY partition"


def begin_again(connection: Connection, *, identity: datetime | None, new_log: bool = False) -> None:
    """Shut out all workers of before. Within the caller's transaction.

    `identity`: of the database whose place this one takes; None: a new one. The database that was backed up may go on,
    and what both keep elsewhere by their identity (the live view) must not meet. `new_log`: the topic is a new one, to
    be read from its start.
    """
    connection.execute(_EPOCHS)
    connection.execute(_IDENTITY, (identity,))
    if new_log:
        connection.execute(_FROM_THE_START)


def offsets(connection: Connection) -> dict[int, int]:
    """By partition, the offset in the log from which its records are not in this database."""
    return dict(connection.execute(_OFFSETS).fetchall())
