"""Moving raw readings to the lake, a week at a time, exactly once through a crash at every step (docs/adr/0022).

1. The border is raised: readings before it are refused from now on, so that nothing of the week changes that no pass
   over a connector's timeline can reach. Until when these are is noted for each connector.
2. For each day and partition a file is written under a temporary name; days of few readings share one.
3. It is read back; its rows are compared with those of the database, and these with the ledger's.
4. It is renamed to its place.
5. One transaction notes all files of the week (of a small fleet, of several) and drops their rows.

Until 5 the files are not part of the lake: a move that ended before is done again, and leaves none of them. After it,
the week is moved.
"""

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from threading import Event
from typing import Any, Final, LiteralString

import psycopg

from kit.clock import from_ms, to_ms
from kit.errors import KitError, Unavailable
from kit.lake.folder import TEMPORARY, LakeFolder
from kit.lake.parquet import ROWS_PER_GROUP, read_parts, writing
from kit.masking import mask_secrets
from kit.observability.logs import get_logger
from schemas.session import EndReason
from streams.storage.connections import Connection, Connections
from streams.storage.lake_rows import READINGS, WINDOWS, Digest, LakeTable, copy_rows, from_arrow, to_arrow
from streams.storage.store import IDENTITY_TS_SLACK_MS
from streams.storage.table_drops import dropping
from streams.storage.tables import WEEK_MS
from streams.storage.windows.retention import drop_week

_log = get_logger(__name__)

_DAY: Final = timedelta(days=1)
# The border is so far behind the end of what is moved: a repeated identity is looked for among readings so much older.
_SLACK: Final = timedelta(milliseconds=IDENTITY_TS_SLACK_MS)
# And so far before the oldest reading that the gateway takes: what it took waits in the log for a while.
_BACKLOG: Final = timedelta(days=1)
# A session counts as over for good so long before the end of the week, two days before the border: what begins behind
# that can say of a day before it whether a session was one (docs/adr/0014, rules 4 and 7), and no more.
_SETTLED: Final = timedelta(days=1)
_WORTH_MOVING: Final = 0.1  # of the rows of a week that was moved before; less stays until more may go
_WEEKS_AT_ONCE_MAX: Final = 26  # in one transaction

_RAISE: Final = "UPDATE telemetry.stream_offset SET border_ms = %(border)s WHERE border_ms < %(border)s"
# Of each connector: its two newest sessions that are over are left alone, with what follows the older one's end. A pass
# for any reading behind the border begins there or later, because it begins at the end of the last session but one that
# began before the reading, and a session earlier only where the last but one ended within a day before the reading. A
# connector with fewer has passes over all of its readings that are stored. Whole minutes, because the registers of a
# window are found again from all of its readings.
_CUT: Final = f"""
INSERT INTO telemetry.lake_cut (connector_key, partition, until)
SELECT c.connector_key, c.partition, least(%(end)s, greatest(date_trunc('minute', since.last_at), oldest.at))
FROM telemetry.connector AS c CROSS JOIN (
    SELECT coalesce(to_timestamp(min(week)::bigint * {WEEK_MS // 1_000}), 'infinity') AS at
    FROM telemetry.weeks_of('reading') AS week
) AS oldest LEFT JOIN LATERAL (
    SELECT started_at, last_at, session_key FROM telemetry.session
    WHERE connector_key = c.connector_key AND end_reason NOT IN ({int(EndReason.OPEN)}, {int(EndReason.WITHDRAWN)})
        AND last_at < %(settled)s
    ORDER BY started_at DESC, last_at DESC, session_key DESC OFFSET 1 LIMIT 1
) AS checkpoint ON true CROSS JOIN LATERAL (
    SELECT min(s.last_at) AS last_at FROM telemetry.session AS s
    WHERE s.connector_key = c.connector_key AND s.end_reason <> {int(EndReason.WITHDRAWN)}
        AND s.started_at >= checkpoint.started_at
        AND (s.started_at, s.last_at, s.session_key)
            >= (checkpoint.started_at, checkpoint.last_at, checkpoint.session_key)
) AS since
"""  # noqa: S608  # constants
_READINGS_OF: Final = """
FROM telemetry.reading AS r JOIN telemetry.lake_cut AS k USING (connector_key)
WHERE k.partition = %(partition)s AND r.ts >= %(since)s AND r.ts < %(until)s AND r.ts < k.until
"""
_WINDOWS_OF: Final = """
FROM telemetry.window_1m AS r JOIN telemetry.lake_cut AS k USING (connector_key)
WHERE k.partition = %(partition)s AND r.bucket >= %(since)s AND r.bucket < %(until)s AND r.bucket < k.until
"""
# A pass that revises readings that stay revises their minutes: these stay too.
_WINDOW_COUNTS: Final = """
SELECT (r.bucket AT TIME ZONE 'UTC')::date AS day, c.partition, count(*),
       count(*) FILTER (WHERE r.bucket < k.until)
FROM telemetry.window_1m AS r JOIN telemetry.connector AS c USING (connector_key)
LEFT JOIN telemetry.lake_cut AS k USING (connector_key)
WHERE r.bucket >= %s AND r.bucket < %s GROUP BY 1, 2 ORDER BY 1, 2
"""
_COUNTS: Final = """
SELECT (r.ts AT TIME ZONE 'UTC')::date AS day, c.partition, count(*),
       count(*) FILTER (WHERE r.ts < k.until)
FROM telemetry.reading AS r JOIN telemetry.connector AS c USING (connector_key)
LEFT JOIN telemetry.lake_cut AS k USING (connector_key)
WHERE r.ts >= %s AND r.ts < %s GROUP BY 1, 2 ORDER BY 1, 2
"""
_IN_WINDOWS: Final = """
SELECT (w.bucket AT TIME ZONE 'UTC')::date AS day, c.partition, sum(w.readings)::bigint
FROM telemetry.window_1m AS w JOIN telemetry.connector AS c USING (connector_key)
WHERE w.bucket >= %s AND w.bucket < %s GROUP BY 1, 2
"""
_NOTE: Final = """
INSERT INTO telemetry.lake_file (path, kind, day, partition, rows, bytes, content_hash, first_ts, last_ts,
                                 first_connector_key, last_connector_key)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
"""
_WEEK_MOVED: Final = """
INSERT INTO telemetry.lake_week (week) VALUES (%s) ON CONFLICT (week) DO UPDATE SET moved_at = now()
"""
_REPORT: Final = """
UPDATE telemetry.lake_status SET attempted_at = now(), fault = %(fault)s,
    moved_at = CASE WHEN %(fault)s::text IS NULL THEN now() ELSE moved_at END
"""


class LakeMismatch(KitError):
    """A file, the database and the ledger do not agree on the rows of a day. Nothing was dropped."""


class MoveStep(StrEnum):
    """A step of a move, reported when it is done."""

    BORDER_RAISED = "border raised"
    CUTS_NOTED = "cuts noted"
    FILE_BEGUN = "file begun"
    FILE_WRITTEN = "file written"
    FILE_VERIFIED = "file verified"
    FILE_PLACED = "file placed"
    DROPPED = "dropped"  # and not committed
    COMMITTED = "committed"


@dataclass(frozen=True, slots=True)
class LakeFile:
    """A file of the lake, as telemetry.lake_file has it."""

    path: str
    kind: str
    day: date
    partition: int
    rows: int
    file_bytes: int
    content_hash: bytes
    first_at: datetime
    last_at: datetime
    first_connector_key: int
    last_connector_key: int
    sums: tuple[int, ...]  # as LakeTable.sums


@dataclass(frozen=True, slots=True)
class Move:
    """What one transaction moved: the readings of some weeks."""

    start: datetime
    end: datetime
    kind: str  # of the rows
    files: list[LakeFile]
    kept: int  # readings that stay, because a pass may read them

    @property
    def rows(self) -> int:
        """How many were moved."""
        return sum(file.rows for file in self.files)


@dataclass(frozen=True, slots=True)
class _Week:
    """A week that is due."""

    number: int
    again: bool  # it was moved before, but for what had to stay
    counts: list[tuple[date, int, int, int]]  # by day and partition: readings, and those that may go

    @property
    def start(self) -> datetime:
        return from_ms(self.number * WEEK_MS)

    @property
    def end(self) -> datetime:
        return from_ms((self.number + 1) * WEEK_MS)

    @property
    def rows(self) -> int:
        return sum(count[2] for count in self.counts)

    @property
    def movable(self) -> int:
        return sum(count[3] for count in self.counts)

    @property
    def worth_moving(self) -> bool:
        return not self.again or self.movable > self.rows * _WORTH_MOVING


def _counted(connection: Connection, query: LiteralString, number: int, *, again: bool) -> _Week:
    bounds = (from_ms(number * WEEK_MS), from_ms((number + 1) * WEEK_MS))
    return _Week(number, again, connection.execute(query, bounds).fetchall())


def _moved_at_once(
    connection: Connection, query: LiteralString, weeks: list[int], again: Callable[[int], bool]
) -> Iterator[list[_Week]]:
    """Those of these weeks that are worth it, counted, in runs that are moved together: no other is between them."""
    together: list[_Week] = []
    for week in weeks:
        counted = _counted(connection, query, week, again=again(week))
        if counted.worth_moving:
            together.append(counted)
        if together and (not counted.worth_moving or _is_large(together)):
            yield together
            together = []
    if together:
        yield together


def _is_large(weeks: list[_Week]) -> bool:
    """Whether these fill files of their own; of a small fleet, weeks that are due at once share them."""
    partitions = {count[1] for week in weeks for count in week.counts}
    enough = sum(week.movable for week in weeks) >= len(partitions) * ROWS_PER_GROUP
    return enough or len(weeks) == _WEEKS_AT_ONCE_MAX


def _spans(weeks: list[_Week]) -> Iterator[tuple[int, datetime, datetime]]:
    """What each file has: a partition, and days from the first to before the second. A day of its own where that fills
    a row group, for each file costs 3 kB beside its rows."""
    counts = sorted((partition, day, movable) for week in weeks for day, partition, _, movable in week.counts)
    for partition in sorted({count[0] for count in counts}):
        first: date | None = None
        rows = 0
        mine = [(day, movable) for of, day, movable in counts if of == partition and movable]
        for place, (day, movable) in enumerate(mine):
            first, rows = first or day, rows + movable
            if rows >= ROWS_PER_GROUP or place == len(mine) - 1:
                yield partition, _midnight(first), _midnight(day) + _DAY
                first, rows = None, 0


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


Progress = Callable[[MoveStep, LakeFile | None], None]


def _unseen(_: MoveStep, __: LakeFile | None) -> None:
    pass


class LakeMover:
    """Moves what is due. Blocks; of several processes one moves, the others do nothing."""

    def __init__(self, connections: Connections, folder: LakeFolder, progress: Progress = _unseen) -> None:
        self._connections = connections
        self._folder = folder
        self._seen = progress
        self._stopping = Event()

    def stop(self) -> None:
        """Let a move that is under way end at its next step, from any thread."""
        self._stopping.set()

    def _progress(self, step: MoveStep, file: LakeFile | None) -> None:
        self._seen(step, file)
        self._go_on()

    def _go_on(self) -> None:
        if self._stopping.is_set():
            raise Unavailable("the move was stopped; it begins again where it was")

    def move(self, now: datetime, after_days: int, retention_days: int = 0, window_days: int = 0) -> list[Move]:
        """Move the weeks of readings that are older than `after_days`; of these weeks the windows of a minute that are
        older than `window_days` (0: none); and drop files older than `retention_days` (0: none).

        Raises Unavailable and LakeUnavailable where database or lake do not answer, LakeMismatch; what it says is in
        telemetry.lake_status too. Nothing is lost by trying again.
        """
        with self._connections.lend() as connection, dropping(connection) as alone:
            if not alone:
                return []
            try:
                last_end = now - timedelta(days=after_days) - _SLACK - _BACKLOG
                moved = self._move(connection, last_end)
                if window_days:
                    moved += self._move_windows(connection, now - timedelta(days=window_days), last_end)
                if retention_days:
                    self._expire(connection, now - timedelta(days=retention_days))
            except (KitError, psycopg.Error) as error:
                if not self._stopping.is_set():
                    with suppress(psycopg.Error):  # of a connection that is lost
                        connection.execute(_REPORT, {"fault": mask_secrets(str(error).strip())})
                raise
            connection.execute(_REPORT, {"fault": None})
            return moved

    def _move(self, connection: Connection, last_end: datetime) -> list[Move]:
        weeks = sorted(_weeks_of(connection, "reading"))
        due = [week for week in weeks if from_ms((week + 1) * WEEK_MS) <= last_end]
        done = {week for (week,) in connection.execute("SELECT week FROM telemetry.lake_week")}
        if not set(due) - done:
            return []
        self._raise_border(connection, from_ms((due[-1] + 1) * WEEK_MS))
        runs = _moved_at_once(connection, _COUNTS, due, done.__contains__)
        return [self._move_weeks(connection, weeks) for weeks in runs]

    def _move_windows(self, connection: Connection, before: datetime, last_end: datetime) -> list[Move]:
        """The windows of a minute of weeks whose readings were moved: all of these were merged, and behind the border
        windows change no more. Of weeks whose readings were dropped nobody knows: writers wait for their move."""
        old = [week for week in _weeks_of(connection, "window_1m") if from_ms((week + 1) * WEEK_MS) <= before]
        done = {week for (week,) in connection.execute("SELECT week FROM telemetry.lake_week")}
        bare = {week for week in old if from_ms((week + 1) * WEEK_MS) <= last_end} - done
        bare -= _weeks_of(connection, "reading")
        due = sorted(week for week in old if week in done or week in bare)
        since_ms = _minutes_since_ms(connection)
        if not due or (due[-1] + 1) * WEEK_MS <= since_ms:
            return []  # what stays of weeks that were moved is looked at when another one is due
        if bare:
            # The cuts are of all weeks: one that was moved may be newer.
            self._raise_border(connection, from_ms((max(bare | done) + 1) * WEEK_MS))
            bare -= _weeks_of(connection, "reading")  # one may have come until then
            due = [week for week in due if week in done or week in bare]
        runs = _moved_at_once(connection, _WINDOW_COUNTS, due, lambda week: (week + 1) * WEEK_MS <= since_ms)
        return [self._move_windows_of(connection, weeks, bare) for weeks in runs]

    def _move_windows_of(self, connection: Connection, weeks: list[_Week], bare: set[int]) -> Move:
        self._forget_orphans(connection, WINDOWS, weeks)
        files = [self._write(connection, WINDOWS, _WINDOWS_OF, *span) for span in _spans(weeks)]
        bounds = (weeks[0].start, weeks[-1].end)
        sums = (
            f"SELECT {WINDOWS.sums} FROM telemetry.window_1m AS r JOIN telemetry.lake_cut AS k USING (connector_key) "  # noqa: S608  # our own names
            "WHERE r.bucket >= %s AND r.bucket < %s AND r.bucket < k.until"
        )
        with connection.transaction():
            if any(week.number in bare for week in weeks):
                connection.execute("SELECT telemetry.lock_windows()")
            found = connection.execute(sums.encode(), bounds).fetchone() or ()
            written = map(sum, zip(*(file.sums for file in files), strict=True))
            if files and [int(value) for value in found] != list(written):
                raise LakeMismatch("windows changed while they were moved; they are moved again later")
            _note_files(connection, files)
            for week in weeks:
                drop_week(connection, week.number, week.movable)
            self._progress(MoveStep.DROPPED, None)
        self._progress(MoveStep.COMMITTED, None)
        return _moved(weeks, WINDOWS, files)

    def _raise_border(self, connection: Connection, end: datetime) -> None:
        """What is before `end` and may be moved changes no more."""
        connection.execute(_RAISE, {"border": to_ms(end + _SLACK)})
        self._progress(MoveStep.BORDER_RAISED, None)
        with connection.transaction():
            connection.execute("DELETE FROM telemetry.lake_cut")
            connection.execute(_CUT.encode(), {"end": end, "settled": end - _SETTLED})
        self._progress(MoveStep.CUTS_NOTED, None)

    def _move_weeks(self, connection: Connection, weeks: list[_Week]) -> Move:
        """Move weeks between which no other has readings."""
        self._forget_orphans(connection, READINGS, weeks)
        for week in weeks:
            if not week.again:
                _check_ledger(connection, week)
        files = [self._write(connection, READINGS, _READINGS_OF, *span) for span in _spans(weeks)]
        with connection.transaction():
            _note_files(connection, files)
            if sum(file.rows for file in files) != sum(week.movable for week in weeks):
                raise LakeMismatch("the files do not have as many readings as were counted")
            for week in weeks:
                if week.movable:
                    connection.execute(
                        "SELECT telemetry.drop_moved('reading', 'ts', %s, %s)", (week.number, week.movable)
                    )
                connection.execute(_WEEK_MOVED, (week.number,))
            self._progress(MoveStep.DROPPED, None)
        self._progress(MoveStep.COMMITTED, None)
        return _moved(weeks, READINGS, files)

    def _write(
        self, connection: Connection, table: LakeTable, of: str, partition: int, since: datetime, until: datetime
    ) -> LakeFile:
        """The file of a time and partition, in its place and known to have the database's rows."""
        day = since.date()
        chosen = {"partition": partition, "since": since, "until": until}
        temporary = f"{TEMPORARY}/{table.kind}-{day}-{partition:04}.parquet"
        self._progress(MoveStep.FILE_BEGUN, None)
        written = Digest(table)
        connectors = _connectors(connection, partition)
        query = f"SELECT {table.selected} {of} ORDER BY r.connector_key, {table.order}"  # our own names
        with writing(self._folder, temporary, table.schema, table) as writer:
            for rows in copy_rows(connection, table, query, chosen):
                self._go_on()
                written.add(rows)
                writer.write_table(to_arrow(table, rows, connectors))
        self._progress(MoveStep.FILE_WRITTEN, None)
        self._verify(connection, table, temporary, written, f"SELECT {table.sums} {of}", chosen)
        self._progress(MoveStep.FILE_VERIFIED, None)
        place = f"{table.kind}/day={day}/partition={partition}/{written.content_hash.hex()[:16]}.parquet"
        size = self._folder.size(temporary)
        self._folder.rename(temporary, place)
        file = LakeFile(
            place, table.kind, day, partition, written.rows, size, written.content_hash, from_ms(written.first_ms),
            from_ms(written.last_ms), written.first_key, written.last_key, tuple(written.sums),
        )  # fmt: skip
        self._progress(MoveStep.FILE_PLACED, file)
        return file

    def _verify(
        self,
        connection: Connection,
        table: LakeTable,
        path: str,
        written: Digest,
        sums: str,
        chosen: dict[str, Any],
    ) -> None:
        found = Digest(table)
        for part in read_parts(self._folder, path, table.schema.names):
            found.add(from_arrow(table, part))
        if (found.rows, found.content_hash) != (written.rows, written.content_hash):
            raise LakeMismatch(f"{path} does not have the rows that were written to it")
        row = connection.execute(sums.encode(), chosen).fetchone()
        if row is None or [int(value) for value in row] != found.sums:
            raise LakeMismatch(f"{path} does not have the rows of the database")

    def _forget_orphans(self, connection: Connection, table: LakeTable, weeks: list[_Week]) -> None:
        """Remove what a move left that ended before its transaction."""
        dates = [(week.start + number * _DAY).date() for week in weeks for number in range(7)]
        query = "SELECT path FROM telemetry.lake_file WHERE kind = %s AND last_ts >= %s AND day = ANY(%s)"
        found = connection.execute(query, (table.kind, weeks[0].start, dates))
        known = {path for (path,) in found}
        for folder in (TEMPORARY, *(f"{table.kind}/day={day}" for day in dates)):
            for path in self._folder.paths(folder):
                if path not in known:
                    self._folder.remove(path)

    def _expire(self, connection: Connection, before: datetime) -> None:
        """Drop the files of readings, all of which are past the retention; those of windows have none."""
        query = "SELECT path FROM telemetry.lake_file WHERE kind = %s AND last_ts < %s ORDER BY path"
        for (path,) in connection.execute(query, (READINGS.kind, before)).fetchall():
            # A file that cannot be removed is noted on, and tried again: nobody else would find it.
            with connection.transaction():
                connection.execute("DELETE FROM telemetry.lake_file WHERE path = %s", (path,))
                self._folder.remove(path)


def _check_ledger(connection: Connection, week: _Week) -> None:
    """The readings of a day, of which none was moved before, are as many as were counted into its windows."""
    if to_ms(week.start) < _minutes_since_ms(connection):
        return
    found = connection.execute(_IN_WINDOWS, (week.start, week.end))
    counted = {(day, partition): readings for day, partition, readings in found}
    for day, partition, rows, _ in week.counts:
        in_windows = counted.get((day, partition), rows)
        if in_windows != rows:
            raise LakeMismatch(
                f"{day}, partition {partition}: {rows} readings are stored, the windows count {in_windows}"
            )


def _minutes_since_ms(connection: Connection) -> int:
    """Since when no window of a minute was dropped."""
    (since_ms,) = connection.execute(
        "SELECT since_ms FROM telemetry.window_retained WHERE width = '1m'"
    ).fetchone() or (0,)
    return int(since_ms)


def _weeks_of(connection: Connection, table: LiteralString) -> set[int]:
    """The weeks that have a piece of this table."""
    return {week for (week,) in connection.execute("SELECT telemetry.weeks_of(%s)", (table,))}


def _note_files(connection: Connection, files: list[LakeFile]) -> None:
    for file in files:
        connection.execute(
            _NOTE,
            (file.path, file.kind, file.day, file.partition, file.rows, file.file_bytes, file.content_hash,
             file.first_at, file.last_at, file.first_connector_key, file.last_connector_key),
        )  # fmt: skip


def _moved(weeks: list[_Week], table: LakeTable, files: list[LakeFile]) -> Move:
    kept = sum(week.rows - week.movable for week in weeks)
    moved = Move(weeks[0].start, weeks[-1].end, table.kind, files, kept)
    start, end = moved.start.date().isoformat(), moved.end.date().isoformat()
    _log.info("rows_moved", kind=table.kind, start=start, end=end, rows=moved.rows, kept=kept, files=len(files))
    return moved


def _connectors(connection: Connection, partition: int) -> dict[int, tuple[str, int]]:
    """(station_id, connector_id) by key."""
    query = "SELECT connector_key, station_id, connector_id FROM telemetry.connector WHERE partition = %s"
    return {key: (station, number) for key, station, number in connection.execute(query, (partition,))}
