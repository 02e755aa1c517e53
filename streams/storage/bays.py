"""Intervals of parking bays in the commit (docs/adr/0020), and their retention."""

from datetime import datetime
from typing import Final

from streams.effects import BayEffects
from streams.storage.connections import DELETED_ROWS_MAX, Connection

_GIVEN: Final = """
FROM (SELECT key, bay, 'epoch'::timestamptz + ms * interval '1 millisecond' AS since, occupied
      FROM unnest(%s::int[], %s::text[], %s::bigint[], %s::bool[]) AS r (key, bay, ms, occupied)) AS given
"""
_MERGE: Final = f"""
INSERT INTO telemetry.bay_interval (connector_key, bay, since, occupied, revision)
SELECT key, bay, since, occupied, %s {_GIVEN}
ON CONFLICT (connector_key, bay, since) DO UPDATE SET occupied = excluded.occupied, revision = excluded.revision
"""  # our own names
_WITHDRAW: Final = f"""
DELETE FROM telemetry.bay_interval AS i USING (SELECT given.* {_GIVEN}) AS gone
WHERE i.connector_key = gone.key AND i.bay = gone.bay AND i.since = gone.since
"""  # noqa: S608  # our own names
# The last interval that began before the moment holds at it.
_DROP: Final = """
DELETE FROM telemetry.bay_interval WHERE ctid = ANY(ARRAY(
    SELECT i.ctid FROM telemetry.bay_interval AS i WHERE i.since < %(before)s AND EXISTS (
        SELECT FROM telemetry.bay_interval AS next WHERE next.connector_key = i.connector_key
            AND next.bay = i.bay AND next.since > i.since AND next.since <= %(before)s
    ) LIMIT %(rows_max)s
))
"""


def write_bays(connection: Connection, bays: BayEffects, commit: int) -> None:
    """Write and withdraw the intervals of a flush: at most two statements."""
    for statement, first, rows in (
        (_WITHDRAW, (), [one for one in bays.intervals if one.occupied is None]),
        (_MERGE, (commit,), [one for one in bays.intervals if one.occupied is not None]),
    ):
        if rows:
            connection.execute(statement.encode(), (*first, *(list(column) for column in zip(*rows, strict=True))))


def drop_bays_before(connection: Connection, before: datetime) -> None:
    """Drop intervals that ended before the moment, some of them if they are many."""
    connection.execute(_DROP, {"before": before, "rows_max": DELETED_ROWS_MAX})
