"""The stored readings of a session, by telemetry's contracts: those in the database and those in the lake."""

from typing import Any, Final

import asyncpg
import pyarrow as pa

from kit.database.postgres import Database
from kit.lake.reader import LakeReader, among

READS: Final = ("telemetry.session_readings(bigint[])", "telemetry.session_lake_files(bigint[])")
COLUMNS: Final = (
    "ts_ms", "boot", "seq", "energy_mwh", "power_mw", "current_ma", "status", "session_event", "flags", "part",
)  # fmt: skip
_STORED: Final = COLUMNS[1:]  # under the same name in the lake; there `ts` is a moment
_READINGS: Final = f"""
SELECT (extract(epoch FROM ts) * 1000)::bigint AS ts_ms, {", ".join(_STORED)}
FROM telemetry.session_readings(ARRAY[$1::bigint]) ORDER BY ts, seq NULLS FIRST, part, boot NULLS FIRST LIMIT $2
"""  # noqa: S608  # our own names
_FILES: Final = "SELECT connector_key, path FROM telemetry.session_lake_files(ARRAY[$1::bigint])"
_NOTHING: Final = -(2**63)  # a missing seq or boot is before all others


class SessionReadingsStore:
    """Raises Unavailable where the database or the lake does not answer."""

    def __init__(self, database: Database, lake: LakeReader) -> None:
        self._database = database
        self._lake = lake

    async def readings(self, session_key: int, rows_max: int) -> dict[str, list[Any]]:
        """Up to rows_max stored readings of the session, in order of event time, as COLUMNS."""
        async with self._database.snapshot() as connection:
            rows: list[asyncpg.Record] = await connection.fetch(_READINGS, session_key, rows_max)
            files: list[asyncpg.Record] = await connection.fetch(_FILES, session_key)
        found = [tuple(row) for row in rows]
        if files:
            keys = {row["connector_key"] for row in files}
            chosen = among("connector_key", keys) & among("session_key", {session_key})
            found += _moved(await self._lake.rows({row["path"] for row in files}, ("ts", *_STORED), chosen))
            found.sort(key=_order)
        columns = list(zip(*found[:rows_max], strict=True)) or [()] * len(COLUMNS)
        return {name: list(column) for name, column in zip(COLUMNS, columns, strict=True)}


def _moved(found: pa.Table | None) -> list[tuple[Any, ...]]:
    if found is None:
        return []
    columns = [found.column("ts").cast(pa.int64()), *(found.column(name) for name in _STORED)]
    return list(zip(*(column.to_pylist() for column in columns), strict=True))


def _order(row: tuple[Any, ...]) -> tuple[int, ...]:
    ts_ms, boot, seq, part = row[0], row[1], row[2], row[-1]
    return ts_ms, _NOTHING if seq is None else seq, part, _NOTHING if boot is None else boot
