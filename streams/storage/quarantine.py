"""Retention of refused items."""

from datetime import datetime
from typing import Final

from streams.storage.connections import Connection

STEP_ROWS_MAX: Final = 5_000  # of one transaction: ~50 ms, as long as a replay could wait for one of its rows
STEPS_MAX: Final = 200  # of one run: 1,000,000 items, ~10 s of one connection; the rest an hour later
# A replay holds the rows that it works on until their readings are durable. They are left for the next run: waiting for
# them would keep one of the threads from which those readings wait for their flush.
_DROP: Final = """
DELETE FROM telemetry.quarantine WHERE id = ANY(ARRAY(
    SELECT id FROM telemetry.quarantine
    WHERE received_at < %s AND (reason <> ALL(%s) OR replayed_at IS NOT NULL)
    ORDER BY received_at LIMIT %s FOR UPDATE SKIP LOCKED
))
"""


def drop_quarantined_before(connection: Connection, before: datetime, keep_reasons: list[str]) -> int:
    """Drop refused items that were received before, but for those of these reasons that were not replayed; how many.

    The ledger keeps their count. In steps, each a transaction of its own.
    """
    dropped = 0
    for _ in range(STEPS_MAX):
        step = connection.execute(_DROP, (before, keep_reasons, STEP_ROWS_MAX)).rowcount
        dropped += step
        if step < STEP_ROWS_MAX:
            break
    return dropped
