"""Raw readings that were moved to the lake, as rows of a history."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from kit.database.postgres import Database
from kit.lake.reader import LakeReader, among

# Of a history's row, in its order; `connector_id`, `session` and `session_id` are not as the files have them.
READING_FIELDS: Final = (
    "connector_id", "ts", "session", "session_id", "boot", "seq", "energy_mwh", "power_mw", "voltage_mv", "current_ma",
    "temperature_mc", "soc_mpct", "energy_export_mwh", "status", "session_event", "flags", "in_session_mwh",
    "outside_mwh", "rejected_mwh", "extra", "part",
)  # fmt: skip
_STORED: Final = tuple(name for name in READING_FIELDS if name not in ("session", "session_id"))
_ORDER: Final = [(name, "ascending") for name in ("ts", "connector_id", "boot_key", "seq_key", "part")]
INT64_MIN: Final = -(2**63)  # stands for a null of boot and seq
_SESSIONS: Final = (
    "SELECT session_key, id::text, session_id FROM telemetry.session WHERE session_key = ANY($1::bigint[])"
)

FILES: Final = """
SELECT path, first_ts FROM telemetry.lake_file AS f
WHERE f.kind = $4 AND f.last_ts >= $2 AND f.first_ts < $3
  AND f.partition IN (SELECT partition FROM telemetry.connector WHERE connector_key = ANY($1::int[]))
  AND EXISTS (SELECT FROM unnest($1::int[]) AS k (key)
              WHERE k.key BETWEEN f.first_connector_key AND f.last_connector_key)
ORDER BY f.first_ts
"""
READINGS, WINDOWS = "reading", "window_1m"  # kinds of files


class MovedFile(NamedTuple):
    """A row of FILES."""

    path: str
    first_at: datetime


Place = tuple[datetime, int, int, int, int]  # ts, connector_id, boot, seq, part


class MovedReadings:
    """Raises Unavailable where the database or the lake does not answer."""

    def __init__(self, database: Database, lake: LakeReader) -> None:
        self._database = database
        self._lake = lake

    async def rows(
        self, paths: Sequence[str], keys: Sequence[int], end: datetime, after: Place, flags: int, rows_max: int
    ) -> list[Mapping[str, Any]]:
        """Up to rows_max readings of these connectors in these files, behind a place and before `end`, in order."""
        chosen = among("connector_key", keys) & (ds.field("ts") >= after[0]) & (ds.field("ts") < end)
        if flags:
            chosen &= pc.bit_wise_and(ds.field("flags").cast(pa.int32()), flags) != 0
        found = await self._lake.rows(paths, (*_STORED, "session_key"), chosen)
        if found is None or not found.num_rows:
            return []
        for name in ("boot", "seq"):
            found = found.append_column(f"{name}_key", pc.fill_null(found.column(name), INT64_MIN))
        found = found.sort_by(_ORDER)
        rows = _behind(found, after).slice(0, rows_max)
        keys_found = [key for key in pc.unique(rows.column("session_key")).to_pylist() if key is not None]
        sessions = {row[0]: row[1:] for row in await self._database.fetch(_SESSIONS, keys_found)} if keys_found else {}
        columns = {name: rows.column(name).to_pylist() for name in _STORED}
        named = [sessions.get(key, (None, None)) for key in rows.column("session_key").to_pylist()]
        columns |= {"session": [one[0] for one in named], "session_id": [one[1] for one in named]}
        in_order = [columns[name] for name in READING_FIELDS]
        return [dict(zip(READING_FIELDS, values, strict=True)) for values in zip(*in_order, strict=True)]


class MovedWindows:
    """Windows of a minute that were moved. Raises LakeUnavailable."""

    def __init__(self, lake: LakeReader, fields: Sequence[str]) -> None:
        """`fields`: of a history's row, in its order."""
        self._lake = lake
        self._fields = fields

    async def rows(
        self, files: Sequence[MovedFile], keys: Sequence[int], start: datetime, end: datetime,
        after: tuple[datetime, int], rows_max: int,
    ) -> list[Mapping[str, Any]]:  # fmt: skip
        """The windows of these connectors in [start, end), in order; at least the first rows_max of those behind a
        place, if there are so many. `files` in order of time: each has at most a day's windows of a partition, or
        65,536; one may begin before another ends."""
        chosen = among("connector_key", keys) & (ds.field("bucket") >= start) & (ds.field("bucket") < end)
        rows: list[Mapping[str, Any]] = []
        behind, last = 0, start
        for path, first_at in files:
            if behind >= rows_max and first_at > last:
                break
            found = await self._lake.rows([path], self._fields, chosen)
            if found is not None and found.num_rows:
                columns = [found.column(name).to_pylist() for name in self._fields]
                more = [dict(zip(self._fields, values, strict=True)) for values in zip(*columns, strict=True)]
                behind += sum((row["bucket"], row["connector_id"]) > after for row in more)
                last = max(last, *(row["bucket"] for row in more))
                rows += more
        return sorted(rows, key=lambda row: (row["bucket"], row["connector_id"]))


def place_of(row: Mapping[str, Any]) -> Place:
    """Of a row of a history, in the order of the answer."""
    boot, seq = (INT64_MIN if row[name] is None else row[name] for name in ("boot", "seq"))
    return row["ts"], row["connector_id"], boot, seq, row["part"]


def _behind(found: pa.Table, after: Place) -> pa.Table:
    """Without the rows of the moment of a place that are not behind it. `found` is sorted."""
    moment = pa.scalar(after[0], found.schema.field("ts").type)
    at_once = found.filter(pc.equal(found.column("ts"), moment))
    columns = ("connector_id", "boot_key", "seq_key", "part")
    places = zip(*(at_once.column(name).to_pylist() for name in columns), strict=True)
    return found.slice(sum(place <= after[1:] for place in places))
