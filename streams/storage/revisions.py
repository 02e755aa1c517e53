"""What a repeated pass changes of rows that are stored: of readings, and the registers of windows.

A week at a time, with bounds that are constants of the statement: by them the server finds the week's table, its index
the range of rows, and TimescaleDB which compressed rows it has to decompress before it can change any. Without such
bounds it decompresses all that there are.
"""

from collections.abc import Iterator
from typing import Final

import numpy as np

from kit.clock import from_ms
from schemas.quality import REGISTER_UNUSABLE, Quality
from streams.effects import Columns
from streams.storage.tables import REVISED, WEEK_MS

_EXPORTED: Final = f"energy_export_mwh IS NOT NULL AND flags & {int(Quality.EXPORT_IMPLAUSIBLE)} = 0"


def by_week(columns: Columns, moment: str) -> Iterator[Columns]:
    """The rows of each week of the column `moment`."""
    weeks = columns[moment] // WEEK_MS
    for week in np.unique(weeks):
        mine = weeks == week
        yield {name: column[mine] for name, column in columns.items()}


def bounds_of(row: str, moment: str, columns: Columns) -> str:
    """SQL: whether a row may be one of these, at least one, by its connector and its moment, as constants."""
    keys = ",".join(map(str, np.unique(columns["connector_key"]).tolist()))
    moments = columns[f"{moment}_ms"]
    first, last = (from_ms(int(value)).isoformat() for value in (moments.min(), moments.max()))
    return f"{row}.connector_key = ANY('{{{keys}}}'::int[]) AND {row}.{moment} BETWEEN '{first}' AND '{last}'"


def revise_readings(bounds: str) -> bytes:
    """SQL: what a repeated pass found of stored readings replaces what they had."""
    found_by = {"connector_key", "ts", "boot", "seq", "part", "payload_hash"}
    changes = ", ".join(f"{field.name} = given.{field.name}" for field in REVISED.fields if field.name not in found_by)
    return (
        f"UPDATE telemetry.reading AS r SET {changes} FROM {REVISED.given} WHERE {bounds} "  # noqa: S608  # our own names
        "AND r.connector_key = given.connector_key AND r.ts = given.ts AND r.seq IS NOT DISTINCT FROM given.seq "
        "AND r.boot IS NOT DISTINCT FROM given.boot AND r.part = given.part AND r.payload_hash = given.payload_hash"
    ).encode()


def remeasure_windows(bounds: str) -> bytes:
    """SQL: the registers of windows, read again from the readings: a merge can add a register, not take one out."""
    return f"""
UPDATE telemetry.window_1m AS w SET energy_n = r.n, energy_first_ts = r.first_ts, energy_first_mwh = r.first_mwh,
    energy_last_ts = r.last_ts, energy_last_mwh = r.last_mwh, energy_export_first_ts = e.first_ts,
    energy_export_first_mwh = e.first_mwh, energy_export_last_ts = e.last_ts, energy_export_last_mwh = e.last_mwh,
    revision = revision + 1
FROM unnest(%s::int[], %s::bigint[]) AS wanted (key, bucket_ms) CROSS JOIN LATERAL (
    SELECT 'epoch'::timestamptz + wanted.bucket_ms * interval '1 millisecond' AS bucket
) AS b CROSS JOIN LATERAL (
    SELECT count(*) AS n, min(ts) AS first_ts, (array_agg(energy_mwh ORDER BY ts, energy_mwh))[1] AS first_mwh,
        max(ts) AS last_ts, (array_agg(energy_mwh ORDER BY ts DESC, energy_mwh DESC))[1] AS last_mwh
    FROM telemetry.reading WHERE connector_key = wanted.key AND ts >= b.bucket AND ts < b.bucket + interval '1 minute'
        AND energy_mwh IS NOT NULL AND flags & {int(REGISTER_UNUSABLE)} = 0
) AS r CROSS JOIN LATERAL (
    SELECT min(ts) AS first_ts, (array_agg(energy_export_mwh ORDER BY ts, energy_export_mwh))[1] AS first_mwh,
        max(ts) AS last_ts, (array_agg(energy_export_mwh ORDER BY ts DESC, energy_export_mwh DESC))[1] AS last_mwh
    FROM telemetry.reading WHERE connector_key = wanted.key AND ts >= b.bucket AND ts < b.bucket + interval '1 minute'
        AND {_EXPORTED}
) AS e
WHERE w.connector_key = wanted.key AND w.bucket = b.bucket AND {bounds}
""".encode()  # noqa: S608  # our own names
