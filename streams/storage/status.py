"""Status intervals and silences in the commit (docs/adr/0019), and their retention."""

from datetime import datetime
from typing import Final

import numpy as np

from streams.effects import STATUS_COLUMNS, StatusEffects
from streams.storage.connections import DELETED_ROWS_MAX, Connection
from streams.storage.tables import StoredColumn, StoredTable, field_of

STATUS_INTERVAL: Final = StoredTable(
    "telemetry.status_interval",
    (
        *(field_of(name, dtype, nullable=False, moment="") for name, dtype in STATUS_COLUMNS.items()),
        StoredColumn("error_code", "error_code", "text", nullable=True),
        StoredColumn("vendor_error_code", "vendor_error_code", "text", nullable=True),
        StoredColumn("revision", "revision", "int8", nullable=False),
    ),
)
_KEY: Final = ("connector_key", "since", "place")
_CHANGES: Final = ", ".join(
    f"{field.name} = excluded.{field.name}" for field in STATUS_INTERVAL.fields if field.name not in _KEY
)
MERGE_STATUS: Final = f"""
INSERT INTO telemetry.status_interval ({STATUS_INTERVAL.columns})
SELECT {STATUS_INTERVAL.columns} FROM {STATUS_INTERVAL.given}
ON CONFLICT ({", ".join(_KEY)}) DO UPDATE SET {_CHANGES}
""".encode()  # noqa: S608  # our own names
WITHDRAWN: Final = StoredTable(
    STATUS_INTERVAL.name, tuple(field for field in STATUS_INTERVAL.fields if field.name in _KEY)
)
# OFFSET 0 keeps the planner to one index scan a row.
WITHDRAW_STATUS: Final = f"""
DELETE FROM telemetry.status_interval WHERE ctid = ANY(ARRAY(
    SELECT found.ctid FROM {WITHDRAWN.given} CROSS JOIN LATERAL (
        SELECT i.ctid FROM telemetry.status_interval AS i
        WHERE {" AND ".join(f"i.{name} = given.{name}" for name in _KEY)} OFFSET 0
    ) AS found
))
""".encode()  # noqa: S608  # our own names
# A station that was heard by a reading from before its last one is silent since the same moment again.
_BEGIN_SILENCE: Final = """
INSERT INTO telemetry.silence (station_id, since, revision)
SELECT station_id, 'epoch'::timestamptz + ms * interval '1 millisecond', %s
FROM unnest(%s::text[], %s::bigint[]) AS fallen (station_id, ms)
ON CONFLICT (station_id, since) DO UPDATE SET until = NULL, revision = excluded.revision
"""
_END_SILENCE: Final = """
UPDATE telemetry.silence AS s SET revision = %s,
    until = greatest(s.since, 'epoch'::timestamptz + ms * interval '1 millisecond')
FROM unnest(%s::text[], %s::bigint[]) AS heard (station_id, ms)
WHERE s.station_id = heard.station_id AND s.until IS NULL
"""
# The last interval that began before the moment holds at it.
_DROP: Final = """
DELETE FROM telemetry.status_interval WHERE ctid = ANY(ARRAY(
    SELECT i.ctid FROM telemetry.status_interval AS i WHERE i.since < %(before)s AND EXISTS (
        SELECT FROM telemetry.status_interval AS next WHERE next.connector_key = i.connector_key
            AND (next.since, next.place) > (i.since, i.place) AND next.since <= %(before)s
    ) LIMIT %(rows_max)s
))
"""
_DROP_SILENCES: Final = "DELETE FROM telemetry.silence WHERE until < %s"


def write_silences(connection: Connection, status: StatusEffects, commit: int) -> None:
    """Begin and end the silences of a flush: at most two statements, none where there are none."""
    for statement, stations in ((_END_SILENCE, status.silences_ended), (_BEGIN_SILENCE, status.silences_begun)):
        if stations:
            names, moments_ms = zip(*stations, strict=True)
            connection.execute(statement, (commit, list(names), list(moments_ms)))


def revisions(status: StatusEffects, commit: int) -> dict[str, np.ndarray[tuple[int], np.dtype[np.int64]]]:
    """The column of the intervals' revision: the commit that writes them."""
    return {"revision": np.full(len(status.error_codes), commit, np.int64)}


def drop_statuses_before(connection: Connection, before: datetime) -> None:
    """Drop intervals and silences that ended before the moment, some of them if they are many."""
    connection.execute(_DROP, {"before": before, "rows_max": DELETED_ROWS_MAX})
    connection.execute(_DROP_SILENCES, (before,))
