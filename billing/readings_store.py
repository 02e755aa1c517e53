"""The stored readings in SQL, by telemetry's contract: its view of sessions, its function for their readings, and the
files of the lake with those that were moved there."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import datetime
from itertools import islice
from typing import Any, Final
from uuid import UUID

import asyncpg
import pyarrow as pa

from billing.errors import SourceFailed
from billing.rating import MeterBefore, StoredReading
from billing.readings_source import CompletedSession, SessionSnapshot, StoredReadings
from kit.clock import to_ms
from kit.database.postgres import Database
from kit.lake.reader import LakeReader, among
from kit.web.errors import NotFound
from schemas.session import EndReason

READS: Final = (
    "telemetry.session_overview",
    "telemetry.session_readings(bigint[])",
    "telemetry.session_lake_files(bigint[])",
)
"""What billing asks of telemetry's contracts."""

READINGS_MAX: Final = 1_000_000  # of one session, ~250 B each in memory: eleven days of one a second
READINGS_AT_ONCE: Final = 2_000  # of several sessions in one answer: 20 usual ones, ~0.1 s of PostgreSQL
# Answers under way while the one before is rated. PostgreSQL looks a session up in ~6 ms, rating it takes 2 ms.
PARTS_AT_ONCE: Final = 2
PAGE: Final = 1_000  # sessions

_SIZES: Final = "SELECT id, session_key, readings FROM telemetry.session_overview WHERE id = ANY ($1::uuid[])"
# One statement, so that sessions and readings are of one moment. An array a column: a row a reading takes twice as long
# to decode.
_SESSIONS: Final = """
SELECT s.id, s.revision, s.end_reason, s.tariff_version, s.power_max_mw, s.register_before_mwh, s.register_before_at,
       s.series_mwh, s.session_key, f.connector_key, f.paths,
       r.ts_ms, r.seq, r.energy_mwh, r.power_mw, r.current_ma, r.status, r.part, r.boot, r.flags
FROM telemetry.session_overview AS s
LEFT JOIN (
    SELECT session_key, array_agg((extract(epoch FROM ts) * 1000)::bigint) AS ts_ms, array_agg(seq) AS seq,
           array_agg(energy_mwh) AS energy_mwh, array_agg(power_mw) AS power_mw, array_agg(current_ma) AS current_ma,
           array_agg(status) AS status, array_agg(part) AS part, array_agg(boot) AS boot, array_agg(flags) AS flags
    FROM telemetry.session_readings($1::bigint[]) GROUP BY session_key
) AS r USING (session_key)
LEFT JOIN (
    SELECT session_key, min(connector_key) AS connector_key, array_agg(path) AS paths
    FROM telemetry.session_lake_files($1::bigint[]) GROUP BY session_key
) AS f USING (session_key)
WHERE s.session_key = ANY ($1::bigint[])
"""
_WITHOUT_READINGS: Final = """
SELECT id, revision, end_reason, tariff_version FROM telemetry.session_overview
WHERE session_key = ANY ($1::bigint[])
"""
_COMPLETED: Final = """
SELECT id, station_id, started_at, energy_uj, revision, session_key FROM telemetry.session_overview
WHERE end_reason <> 0
"""
_COMPLETED_IN: Final = f"""{_COMPLETED}
AND started_at >= $1 AND started_at < $2 AND (started_at, session_key) > ($3, $4)
ORDER BY started_at, session_key LIMIT $5
"""
_COMPLETED_OF: Final = f"{_COMPLETED} AND id = ANY ($1::uuid[])"

_READING: Final = ("ts_ms", "seq", "energy_mwh", "power_mw", "current_ma", "status", "part", "boot")  # StoredReading
_MOVED: Final = (*_READING[1:], "flags")  # as the lake's files name them; there `ts` is a moment
_Columns = dict[str, list[Any]]

NO_LAKE: Final = LakeReader(None)


class ReadingsStore:
    """ReadingsSource and SessionSource over telemetry's contract. Every method raises Unavailable."""

    def __init__(
        self,
        database: Database,
        lake: LakeReader = NO_LAKE,
        *,
        readings_max: int = READINGS_MAX,
        at_once: int = READINGS_AT_ONCE,
    ) -> None:
        """`database` works as billing's role; `readings_max`: of one session; `at_once`: of several in one answer."""
        self._database = database
        self._lake = lake
        self._readings_max = readings_max
        self._at_once = at_once

    async def sessions(self, session_ids: Sequence[UUID]) -> AsyncIterator[SessionSnapshot]:
        """See SessionSource."""
        sizes = await self._database.fetch(_SIZES, session_ids)
        too_large = [row["session_key"] for row in sizes if row["readings"] > self._readings_max]
        if too_large:
            for row in await self._database.fetch(_WITHOUT_READINGS, too_large):
                yield _session(row, None)
        parts = _parts([row for row in sizes if row["readings"] <= self._readings_max], self._at_once)
        under_way = deque(self._ask(keys) for keys in islice(parts, PARTS_AT_ONCE))
        try:
            while under_way:
                rows, moved = await under_way.popleft()
                under_way.extend(self._ask(keys) for keys in islice(parts, 1))
                for row in rows:
                    yield _session(row, _readings(row, moved.get(row["session_key"])))
        finally:
            for task in under_way:
                task.cancel()
            await asyncio.gather(*under_way, return_exceptions=True)

    def _ask(self, keys: list[int]) -> "asyncio.Task[tuple[list[asyncpg.Record], dict[int, _Columns]]]":
        return asyncio.create_task(self._fetch(keys))

    async def _fetch(self, keys: list[int]) -> tuple[list[asyncpg.Record], "dict[int, _Columns]"]:
        """The rows of these sessions, and by key the readings of theirs that were moved to the lake."""
        rows = await self._database.fetch(_SESSIONS, keys)
        moved = [row for row in rows if row["paths"]]
        if not moved:
            return rows, {}
        chosen = among("connector_key", {row["connector_key"] for row in moved}) & among(
            "session_key", {row["session_key"] for row in moved}
        )
        paths = {path for row in moved for path in row["paths"]}
        return rows, _by_session(await self._lake.rows(paths, ("session_key", "ts", *_MOVED), chosen))

    async def readings(self, session_id: UUID) -> StoredReadings:
        """See ReadingsSource."""
        async for session in self.sessions([session_id]):
            if session.readings is None:
                raise SourceFailed(f"session {session_id} has more than {self._readings_max:,} readings")
            return session.readings
        raise NotFound(f"no session {session_id}")

    async def completed_sessions(self, start: datetime, end: datetime) -> AsyncIterator[CompletedSession]:
        """See ReadingsSource."""
        after: tuple[datetime, int] = (start, -(2**63))
        while rows := await self._database.fetch(_COMPLETED_IN, start, end, *after, PAGE):
            for row in rows:
                yield _completed(row)
            after = (rows[-1]["started_at"], rows[-1]["session_key"])

    async def completed_among(self, session_ids: Sequence[UUID]) -> list[CompletedSession]:
        """Those of these sessions that are completed."""
        return [_completed(row) for row in await self._database.fetch(_COMPLETED_OF, session_ids)]


def _completed(row: asyncpg.Record) -> CompletedSession:
    return CompletedSession(row["id"], row["station_id"], row["started_at"], row["energy_uj"], row["revision"])


def _parts(sizes: Sequence[asyncpg.Record], at_once: int) -> Iterator[list[int]]:
    """Keys of sessions, in parts of about so many readings."""
    part: list[int] = []
    readings = 0
    for row in sizes:
        part.append(row["session_key"])
        readings += row["readings"]
        if readings >= at_once:
            yield part
            part, readings = [], 0
    if part:
        yield part


def _session(row: asyncpg.Record, readings: StoredReadings | None) -> SessionSnapshot:
    completed = row["end_reason"] != EndReason.OPEN
    return SessionSnapshot(row["id"], row["revision"], completed, row["tariff_version"], readings)


def _by_session(found: pa.Table | None) -> "dict[int, _Columns]":
    """Moved readings as the columns of `_SESSIONS`, by session."""
    if found is None or not found.num_rows:
        return {}
    columns = {name: found.column(name).to_pylist() for name in ("session_key", *_MOVED)}
    columns["ts_ms"] = found.column("ts").cast(pa.int64()).to_pylist()
    keys = columns.pop("session_key")
    moved: dict[int, _Columns] = {}
    for at, key in enumerate(keys):
        mine = moved.setdefault(key, {name: [] for name in columns})
        for name, values in columns.items():
            mine[name].append(values[at])
    return moved


def _readings(row: asyncpg.Record, moved: "_Columns | None") -> StoredReadings:
    moment = row["register_before_at"]
    before = MeterBefore(
        row["power_max_mw"], row["register_before_mwh"], None if moment is None else to_ms(moment), row["series_mwh"]
    )
    if row["ts_ms"] is None and moved is None:
        return StoredReadings((), (), before)
    columns = {name: [*(row[name] or ()), *(moved[name] if moved else ())] for name in (*_READING, "flags")}
    readings = list(map(StoredReading, *(columns[name] for name in _READING)))
    return StoredReadings(readings, columns["flags"], before)
