"""The store of the workers: acquiring a partition, registering connectors, and the answers to the step's queries."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from threading import Lock
from typing import Any, Final

import numpy as np
import psycopg
from numpy.typing import NDArray

from kit.errors import ConfigError
from kit.observability.logs import get_logger
from schemas.session import EndReason
from streams.effects import NULL_I64, READING_COLUMNS
from streams.engine.bays import MEASURED, SIGN
from streams.engine.store_queries import (
    TIMELINE_COLUMNS,
    StoredBayInterval,
    StoredBays,
    StoredIdentity,
    StoredSession,
    StoredStatus,
    StoredTimelines,
    first_repeated,
)
from streams.errors import Fenced
from streams.storage.bays import drop_bays_before
from streams.storage.connections import Connection, Connections
from streams.storage.quarantine import drop_quarantined_before
from streams.storage.schema import drop_before, stored_partitions, summarize
from streams.storage.status import drop_statuses_before
from streams.storage.tables import WEEK_MS
from streams.storage.windows.retention import drop_windows_before
from streams.tariffs.version import TariffVersion

I64 = NDArray[np.int64]
_log = get_logger(__name__)

# A batch may need weeks that have no piece yet: the five years of a back-fill are 262, anything beyond is a mistake.
_WEEKS_MAX: Final = 600
_WEEK_MAX: Final = 20_000  # the years 1586 to 2353; no reading is from beyond them

# How far apart two moments of one identity (connector, boot, seq) may be for it to be found: a device that sends a
# reading again gives the same moment. Without the bound every old reading would cost a search through all of history.
IDENTITY_TS_SLACK_MS: Final = 86_400_000

# One scan per cluster of wanted identities: the index distinguishes ranges of rows by connector and moment, so each
# cluster should be narrow in one of them.
_CONNECTORS_APART_MAX: Final = 4  # as many scans as one connector each is worth
_CLUSTERS_MAX: Final = 8
_CLUSTER_GAP_MS: Final = 600_000

# Epochs are of the clock: a database that went back (a restore, a standby without the last commits) hands out none
# again by which a worker of before could commit.
NEXT_EPOCH: Final = "greatest(epoch + 1, (extract(epoch FROM clock_timestamp()) * 1000)::bigint)"
_ACQUIRE: Final = f"""
UPDATE telemetry.stream_offset SET epoch = {NEXT_EPOCH} WHERE partition = %s AND (%s::bigint IS NULL OR epoch = %s)
RETURNING epoch, next, commits, border_ms
"""  # noqa: S608  # our own text
# Ends the transaction that locks the row of a partition. A client that hangs in the middle of a COPY or a pipeline
# would lock it for ever: no time-out of the server's covers its wait for the next message.
_HOLDER_S_MAX: Final = 20.0  # twice what a worker that releases a partition waits for its own commit
_END_HOLDER: Final = """
SELECT pg_terminate_backend(l.pid) FROM telemetry.stream_offset AS o
JOIN pg_locks AS l ON l.transactionid = o.xmax AND l.granted WHERE o.partition = %s
"""
_BODIES: Final = "SELECT base, body FROM telemetry.partition_state WHERE partition = %s ORDER BY patch"

_MOMENT: Final = "'epoch'::timestamptz + {} * interval '1 millisecond'"
_MS: Final = "(extract(epoch FROM {}) * 1000)::bigint"

# `IS TRUE` keeps the planner from turning the IN into a join, which it would start from the wrong side.
_IDENTITIES: Final = f"""
SELECT connector_key, boot, seq, {_MS.format("ts")}, payload_hash FROM telemetry.reading
WHERE connector_key BETWEEN %(key_min)s AND %(key_max)s
  AND ts BETWEEN {_MOMENT.format("%(ts_min)s::bigint")} AND {_MOMENT.format("%(ts_max)s::bigint")}
"""  # noqa: S608  # constants of this module, as below
_BY_SEQ: Final = f"""{_IDENTITIES}
  AND seq BETWEEN %(seq_min)s AND %(seq_max)s
  AND ((connector_key, boot, seq) IN (SELECT * FROM unnest(%(key)s::int[], %(boot)s::bigint[], %(seq)s::bigint[])))
  IS TRUE
"""  # noqa: S608  # our own names
_BY_TS: Final = f"""{_IDENTITIES}
  AND ((connector_key, ts) IN (SELECT key, {_MOMENT.format("ms")}
                               FROM unnest(%(key)s::int[], %(ts)s::bigint[]) AS wanted (key, ms))) IS TRUE
"""  # noqa: S608  # our own names

# The sessions of timelines from their checkpoints on: see StoreQueries.timelines.
_TIMELINE_SESSIONS: Final = f"""
SELECT s.connector_key, s.session_key, s.session_id, {_MS.format("s.started_at")}, {_MS.format("s.last_at")},
       {_MS.format("s.ended_at")}, s.end_reason, s.explicit, s.energy_uj, s.integrated_uj, s.export_mwh, s.readings,
       s.flagged, s.hold, s.revision, coalesce(s.tariff_key, 0), s.cost_excl_micros, s.cost_incl_micros, s.power_max_mw,
       s.register_before_mwh, {_MS.format("s.register_before_at")}, s.series_mwh,
       s.register_first_mwh, s.register_after_mwh, {_MS.format("s.register_after_at")}
FROM unnest(%s::int[], %s::bigint[]) AS wanted (key, ms)
LEFT JOIN LATERAL (
    SELECT started_at, last_at, session_key FROM telemetry.session
    WHERE connector_key = wanted.key AND end_reason <> {int(EndReason.WITHDRAWN)}
      AND started_at < {_MOMENT.format("wanted.ms")}
    ORDER BY started_at DESC, last_at DESC, session_key DESC OFFSET 2 LIMIT 1
) AS checkpoint ON true
JOIN telemetry.session AS s ON s.connector_key = wanted.key AND s.end_reason <> {int(EndReason.WITHDRAWN)}
    AND (s.started_at, s.last_at, s.session_key)
        >= (coalesce(checkpoint.started_at, '-infinity'), coalesce(checkpoint.last_at, '-infinity'),
            coalesce(checkpoint.session_key, 0))
ORDER BY s.connector_key, s.started_at, s.last_at, s.session_key
"""  # noqa: S608  # constants of this module
_NEW_CONNECTORS: Final = """
INSERT INTO telemetry.connector (partition, station_id, connector_id)
SELECT %s, * FROM unnest(%s::text[], %s::smallint[]) AS new (station_id, connector_id)
WHERE NOT EXISTS (SELECT FROM telemetry.connector AS c
                  WHERE (c.station_id, c.connector_id) = (new.station_id, new.connector_id))
ON CONFLICT (station_id, connector_id) DO NOTHING
"""
_CONNECTOR_KEYS: Final = """
SELECT c.connector_key
FROM unnest(%s::text[], %s::smallint[]) WITH ORDINALITY AS wanted (station_id, connector_id, place)
JOIN telemetry.connector AS c USING (station_id, connector_id) ORDER BY wanted.place
"""

# `OFFSET 0` keeps the planner to one index scan a connector.
_TIMELINE_READINGS: Final = f"""
SELECT {", ".join(_MS.format("r.ts") if name == "ts_ms" else f"r.{name}" for name in TIMELINE_COLUMNS)},
       r.extra
FROM unnest(%s::int[], %s::bigint[]) AS wanted (key, ms) CROSS JOIN LATERAL (
    SELECT * FROM telemetry.reading
    WHERE connector_key = wanted.key AND ts >= coalesce({_MOMENT.format("wanted.ms")}, '-infinity') OFFSET 0
) AS r
"""  # noqa: S608  # constants of this module

_STATUS_INTERVALS: Final = f"""
SELECT i.connector_key, {_MS.format("i.since")}, i.place, i.status, i.error_code, i.vendor_error_code
FROM unnest(%s::int[], %s::bigint[]) AS wanted (key, ms)
LEFT JOIN LATERAL (
    SELECT since FROM telemetry.status_interval
    WHERE connector_key = wanted.key AND since < {_MOMENT.format("wanted.ms")} ORDER BY since DESC LIMIT 1
) AS before ON true
JOIN telemetry.status_interval AS i ON i.connector_key = wanted.key AND i.since >= coalesce(before.since, '-infinity')
ORDER BY i.connector_key, i.since, i.place
"""  # noqa: S608  # constants of this module

_BAY_INTERVALS: Final = f"""
SELECT i.connector_key, i.bay, {_MS.format("i.since")}, i.occupied
FROM unnest(%s::int[], %s::text[], %s::bigint[], %s::bigint[]) AS wanted (key, bay, ms, last_ms)
LEFT JOIN LATERAL (
    SELECT since FROM telemetry.bay_interval
    WHERE connector_key = wanted.key AND bay = wanted.bay AND since < {_MOMENT.format("wanted.ms")}
    ORDER BY since DESC LIMIT 1
) AS before ON true
JOIN telemetry.bay_interval AS i ON i.connector_key = wanted.key AND i.bay = wanted.bay
    AND i.since >= coalesce(before.since, '-infinity')
ORDER BY i.connector_key, i.bay, i.since
"""  # noqa: S608  # constants of this module
_BAY_READINGS: Final = f"""
SELECT wanted.key, {_MS.format("r.ts")}, r.extra
FROM (
    SELECT key, {_MOMENT.format("min(ms)")} AS since, max(coalesce(next.since, 'infinity')) AS until
    FROM unnest(%s::int[], %s::text[], %s::bigint[], %s::bigint[]) AS given (key, bay, ms, last_ms)
    LEFT JOIN LATERAL (
        SELECT since FROM telemetry.bay_interval
        WHERE connector_key = given.key AND bay = given.bay AND since > {_MOMENT.format("given.last_ms")}
        ORDER BY since LIMIT 1
    ) AS next ON true
    GROUP BY key
) AS wanted CROSS JOIN LATERAL (
    SELECT ts, extra, {", ".join(MEASURED)} FROM telemetry.reading
    WHERE connector_key = wanted.key AND ts >= wanted.since AND ts <= wanted.until OFFSET 0
) AS r
WHERE strpos(r.extra, '{SIGN}') > 0
  AND {" AND ".join(f"r.{name} {'IS NULL' if empty == NULL_I64 else '= 0'}" for name, empty in MEASURED.items())}
"""  # noqa: S608  # constants of this module

# Pricing's two functions, the only thing of its schema that the writer's role may use.
_TARIFFS_AT: Final = "SELECT place - 1, version_key FROM pricing.tariffs_at(%s::text[], %s::bigint[])"
VERSIONS: Final = "SELECT version_key, id, time_zone, tariff::text FROM pricing.documents(%s::bigint[])"
# The registry's view and function likewise.
_REGISTERED: Final = "SELECT station_id FROM stations.station_overview WHERE station_id = ANY(%s::text[])"
_SILENCES_AFTER: Final = "SELECT station_id, silent_after_s FROM stations.silence_overview"
_RATED_POWERS: Final = "SELECT place, rated_power_mw FROM stations.rated_powers(%s::text[], %s::smallint[])"


@dataclass(frozen=True, slots=True)
class Acquired:
    """A partition that is this worker's until another acquires it."""

    partition: int
    epoch: int
    next: int  # the first offset not committed
    commits: int
    bodies: list[bytes]  # of the state: a base, then patches
    base_bytes: int
    patch_bytes: int
    border_ms: int = NULL_I64  # older readings may be in the lake, and are refused (docs/adr/0022)


class Store:
    """Thread-safe; every method raises Unavailable where the database does not answer."""

    def __init__(
        self,
        connections: Connections,
        *,
        priced: bool = False,
        registered: bool = False,
        holder_s_max: float = _HOLDER_S_MAX,
    ) -> None:
        """`priced`: query pricing for tariffs, `registered`: and the registry of stations for rated powers; else there
        are none, for a database with telemetry alone.

        `holder_s_max`: how long a transaction of a partition's former owner may go on once there is a new one."""
        self._priced = priced
        self._registered = registered
        self.connections = connections
        self._holder_ms_max = round(holder_s_max * 1_000)
        self._weeks: set[int] = set()  # that have their pieces
        self._written: set[int] = set()  # since the last maintenance
        self._lock = Lock()

    def partitions(self) -> int:
        """How many there are. Raises ConfigError where the database is not prepared."""
        with self.connections.lend() as connection:
            return stored_partitions(connection)

    def acquire(self, partition: int, epoch: int | None = None) -> Acquired:
        """Take the partition over: its former owner can commit no more.

        `epoch`: only if that is still the present one, to start again from what is committed; raises Fenced if not.
        """
        with self.connections.lend() as connection:
            try:
                row, bodies = self._take_over(connection, partition, epoch)
            except psycopg.errors.LockNotAvailable:
                self._end_holder(connection, partition)
                row, bodies = self._take_over(connection, partition, epoch)
        if row is None and epoch is not None:
            raise Fenced(f"partition {partition}: epoch {epoch} is over, another worker has it")
        if row is None:
            raise ConfigError(f"the database has no partition {partition}: run voltstream migrate")
        epoch, start, commits, border_ms = row
        return Acquired(
            partition=partition,
            epoch=epoch,
            next=start,
            commits=commits,
            bodies=[body for _, body in bodies],
            base_bytes=sum(len(body) for base, body in bodies if base),
            patch_bytes=sum(len(body) for base, body in bodies if not base),
            border_ms=border_ms,
        )

    def _take_over(
        self, connection: Connection, partition: int, epoch: int | None
    ) -> tuple[tuple[Any, ...] | None, list[tuple[Any, ...]]]:
        with connection.transaction():
            connection.execute("SELECT set_config('lock_timeout', %s, true)", (f"{self._holder_ms_max}ms",))
            row = connection.execute(_ACQUIRE, (partition, epoch, epoch)).fetchone()
            return row, connection.execute(_BODIES, (partition,), binary=True).fetchall()

    def _end_holder(self, connection: Connection, partition: int) -> None:
        """End the database session whose transaction keeps the partition from being taken over: its owner hangs."""
        with connection.transaction():
            connection.execute("SET LOCAL ROLE NONE")  # the login may end its own sessions, the writer's role may not
            ended = connection.execute(_END_HOLDER, (partition,)).fetchall()
        _log.error("hanging_owner_ended", partition=partition, sessions=len(ended))

    def ensure_weeks(self, connection: Connection, moments_ms: Sequence[NDArray[Any]]) -> None:
        """Make the pieces for all these moments (outside of any transaction). Raises ValueError for absurdly many."""
        weeks = {int(week) for column in moments_ms for week in np.unique(column // WEEK_MS)}
        with self._lock:
            missing = sorted(weeks - self._weeks)
            self._written |= weeks
        if len(missing) > _WEEKS_MAX or any(abs(week) > _WEEK_MAX for week in missing):
            raise ValueError(f"one batch with readings of {len(missing)} weeks without any before, from {missing[0]}")
        if missing:
            connection.execute("SELECT telemetry.ensure_weeks(%s)", (missing,))
            with self._lock:
                self._weeks |= weeks

    def forget_weeks(self) -> None:
        """Pieces may have been dropped: check again."""
        with self._lock:
            self._weeks.clear()

    def maintain(self, now_ms: int, drop_before_moment: datetime | None = None) -> None:
        """Make the pieces of this week and the next, bring the raw index up to date, drop what is too old."""
        with self.connections.lend() as connection:
            self.ensure_weeks(connection, [np.array([now_ms, now_ms + WEEK_MS])])
            with self._lock:
                written, self._written = self._written, set()
            summarize(connection, sorted(written))
            if drop_before_moment is not None and drop_before(connection, drop_before_moment):
                self.forget_weeks()

    def drop_intervals(self, before: datetime) -> None:
        """Drop the intervals of statuses, bays and silences that ended before the moment."""
        with self.connections.lend() as connection:
            drop_statuses_before(connection, before)
            drop_bays_before(connection, before)

    def drop_windows(self, now: datetime, days: Mapping[str, int]) -> None:
        """Drop the windows that are older than the days of their width."""
        with self.connections.lend() as connection:
            if drop_windows_before(connection, now, days):
                self.forget_weeks()

    def drop_quarantined(self, before: datetime, keep_reasons: Sequence[str]) -> int:
        """Drop what was refused before the moment, but for what has these reasons and was not replayed; how many."""
        with self.connections.lend() as connection:
            return drop_quarantined_before(connection, before, list(keep_reasons))

    def register_connectors(self, partition: int, connectors: list[tuple[str, int]]) -> list[int]:
        """The keys of (station_id, connector_id), made and committed at once where they are new."""
        stations, numbers = [list(column) for column in zip(*connectors, strict=True)] or ([], [])
        with self.connections.lend() as connection, connection.pipeline():
            connection.execute(_NEW_CONNECTORS, (partition, stations, numbers))
            keys = connection.execute(_CONNECTOR_KEYS, (stations, numbers))
            return [key for (key,) in keys.fetchall()]

    # -- StoreQueries -------------------------------------------------------------------------------------------------

    def identities(self, connector_key: NDArray[np.int32], boot: I64, seq: I64, ts_ms: I64) -> StoredIdentity:
        """Implement StoreQueries.identities."""
        by_seq = (boot != NULL_I64) & (seq != NULL_I64)
        rows: list[tuple[Any, ...]] = []
        with self.connections.lend() as connection, connection.pipeline():
            cursors = []
            for query, chosen, slack_ms in ((_BY_SEQ, by_seq, IDENTITY_TS_SLACK_MS), (_BY_TS, ~by_seq, 0)):
                wanted = connector_key[chosen], boot[chosen], seq[chosen], ts_ms[chosen]
                for cluster in _clusters(wanted[0], wanted[3]):
                    parameters = _identity_query(*(column[cluster] for column in wanted), slack_ms=slack_ms)
                    cursors.append(connection.execute(query.encode(), parameters, prepare=False))
            for cursor in cursors:
                rows += cursor.fetchall()
        columns = list(zip(*rows, strict=True)) or [()] * 5
        return StoredIdentity(
            np.array(columns[0], np.int32), _nullable(columns[1]), _nullable(columns[2]),
            np.array(columns[3], np.int64), np.array(columns[4], np.int32),
        )  # fmt: skip

    def timelines(self, connector_key: list[int], ts_ms: list[int]) -> StoredTimelines:
        """Implement StoreQueries.timelines."""
        with self.connections.lend() as connection:
            rows = connection.execute(_TIMELINE_SESSIONS.encode(), (connector_key, ts_ms), prepare=False).fetchall()
            sessions = [_session(row) for row in rows]
            since = _checkpoints(sessions, connector_key, ts_ms)
            readings = connection.execute(_TIMELINE_READINGS.encode(), (connector_key, since), prepare=False).fetchall()
        columns = list(zip(*readings, strict=True)) or [()] * (len(TIMELINE_COLUMNS) + 1)
        by_name = {
            name: _nullable(column, READING_COLUMNS[name])
            for name, column in zip(TIMELINE_COLUMNS, columns[:-1], strict=True)
        }
        return StoredTimelines(sessions, by_name, list(columns[-1]))

    def status_intervals(self, connector_key: list[int], ts_ms: list[int]) -> list[StoredStatus]:
        """Implement StoreQueries.status_intervals."""
        with self.connections.lend() as connection:
            rows = connection.execute(_STATUS_INTERVALS.encode(), (connector_key, ts_ms), prepare=False)
            return [StoredStatus(*row) for row in rows]

    def bays(self, wanted: list[tuple[int, str, int, int]]) -> StoredBays:
        """Implement StoreQueries.bays."""
        given = [list(column) for column in zip(*wanted, strict=True)]
        with self.connections.lend() as connection, connection.pipeline():
            intervals = connection.execute(_BAY_INTERVALS.encode(), given, prepare=False)
            readings = connection.execute(_BAY_READINGS.encode(), given, prepare=False)
            return StoredBays([StoredBayInterval(*row) for row in intervals], readings.fetchall())

    def rated_powers(self, connectors: list[tuple[str, int]]) -> list[int]:
        """Implement StoreQueries.rated_powers."""
        powers = [0] * len(connectors)
        if self._registered:
            stations, numbers = [station for station, _ in connectors], [number for _, number in connectors]
            with self.connections.lend() as connection:
                for place, power_mw in connection.execute(_RATED_POWERS, (stations, numbers)):
                    powers[place] = power_mw
        return powers

    def registered(self, stations: list[str]) -> set[str]:
        """Implement StoreQueries.registered."""
        if not self._registered:
            return set(stations)
        with self.connections.lend() as connection:
            return {station for (station,) in connection.execute(_REGISTERED, (stations,))}

    def silences_after(self) -> dict[str, int]:
        """Implement StoreQueries.silences_after."""
        if not self._registered:
            return {}
        with self.connections.lend() as connection:
            return {station: after_s * 1_000 for station, after_s in connection.execute(_SILENCES_AFTER)}

    def tariffs_at(self, stations: list[str], moments_ms: list[int]) -> list[int]:
        """Implement StoreQueries.tariffs_at."""
        keys = [0] * len(stations)
        if self._priced:
            with self.connections.lend() as connection:
                for place, key in connection.execute(_TARIFFS_AT, (stations, moments_ms)):
                    keys[place] = key
        return keys

    def tariff_versions(self, keys: list[int]) -> list[TariffVersion]:
        """Implement StoreQueries.tariff_versions."""
        with self.connections.lend() as connection:
            return [TariffVersion.of(*row) for row in connection.execute(VERSIONS, (keys,))]


def _session(row: tuple[Any, ...]) -> StoredSession:
    connector_key, session_key, session_id, *numbers = row
    return StoredSession(connector_key, session_key, session_id, *(NULL_I64 if n is None else n for n in numbers))


def _checkpoints(sessions: list[StoredSession], connector_key: list[int], ts_ms: list[int]) -> list[int | None]:
    """From when on the readings of each connector are needed; None: all."""
    since: list[int | None] = []
    for key, moment_ms in zip(connector_key, ts_ms, strict=True):
        mine = [session for session in sessions if session.connector_key == key]
        first = first_repeated(mine, moment_ms)
        since.append(mine[first - 1].last_ms if first else None)
    return since


def _nullable(column: Sequence[int | None], dtype: type[object] = np.int64) -> NDArray[Any]:
    null = np.iinfo(dtype).min  # type: ignore[type-var]  # all are integers
    return np.array([null if value is None else value for value in column], dtype)


def _identity_query(key: NDArray[np.int32], boot: I64, seq: I64, ts_ms: I64, *, slack_ms: int) -> dict[str, Any]:
    return {
        "key_min": int(key.min()), "key_max": int(key.max()), "seq_min": int(seq.min()), "seq_max": int(seq.max()),
        "ts_min": int(ts_ms.min()) - slack_ms, "ts_max": int(ts_ms.max()) + slack_ms,
        "key": key.tolist(), "boot": boot.tolist(), "seq": seq.tolist(), "ts": ts_ms.tolist(),
    }  # fmt: skip


def _clusters(connector_key: NDArray[np.int32], ts_ms: I64) -> Iterator[NDArray[np.intp]]:
    """Row numbers, in total all: one cluster per connector if there are few, else split at the widest gaps in time."""
    if not len(ts_ms):
        return
    connectors = np.unique(connector_key)
    if len(connectors) <= _CONNECTORS_APART_MAX:
        for connector in connectors:
            yield np.flatnonzero(connector_key == connector)
        return
    order = np.argsort(ts_ms, kind="stable")
    gaps = np.diff(ts_ms[order])
    widest = np.argsort(gaps)[-(_CLUSTERS_MAX - 1) :]
    cuts = np.sort(widest[gaps[widest] > _CLUSTER_GAP_MS]) + 1
    yield from np.split(order, cuts)
