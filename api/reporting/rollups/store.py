"""The SQL of roll-ups. Every method but `has_work` works in an open transaction that has the lock of all roll-ups.

Rows of connectors are replaced by what is computed anew. What that changes is added to the rows of the series that they
are members of, in the same transaction, so that these are the sum of their members' at any time.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

from api.reporting.rollups import series_sql
from api.reporting.rollups.facets import HOUR, SUMS, Facet, Fact, FactKey, Facts, Place, day_of, hour_of
from kit.database.postgres import Database
from kit.messaging.outbox import Transaction

_LOCK: Final = 0x7265706F7274  # "report": any number that is unused in this database
# An hour that goes on changes with every minute of its connectors. Computing a place takes ~1 ms: 2 % of the time, and
# somewhat more of a large fleet's.
OPEN_PLACE_EVERY: Final = timedelta(milliseconds=60)
OPEN_HOUR_EVERY_MIN: Final = timedelta(seconds=15)
OPEN_HOUR_EVERY_MAX: Final = timedelta(minutes=5)
# Computed at once: stations times hours from the first to the last, as sources are read. ~10,000 connectors of one
# hour, ~1 s.
STATION_HOURS_MAX: Final = 5_000
UNGROUPED_MAX: Final = 100  # stations looked at for grouping at once
DROPPED_MAX: Final = 50_000  # rows at once, ~0.3 s

_DIRTY: Final = """
SELECT hour, station_id, facets, mark FROM reporting.dirty_hour
WHERE hour < $1 OR noted_at <= $2 ORDER BY hour, station_id LIMIT $3
"""
# No more than $2 are counted.
_PASSED: Final = "SELECT count(*) FROM (SELECT FROM reporting.dirty_hour WHERE hour < $1 LIMIT $2) AS d"
_OPEN: Final = "SELECT count(*) FROM reporting.dirty_hour WHERE hour >= $1"
# One row an hour that waits is looked at, at most: those that go on, of 10,000 stations ~1 ms. $1: the open hour; $2:
# noted before this one, it may be due.
_WORK: Final = """
SELECT EXISTS (SELECT FROM reporting.dirty_hour WHERE hour < $1 OR noted_at <= $2)
    OR EXISTS (SELECT FROM reporting.co2_stale) OR EXISTS (SELECT FROM reporting.station WHERE grouped < revision)
    OR EXISTS (SELECT FROM reporting.progress WHERE next IS NULL OR next < $1) AS work
"""
_CLEAN: Final = """
DELETE FROM reporting.dirty_hour AS d
USING unnest($1::timestamptz[], $2::text[], $3::bigint[]) AS done (hour, station_id, mark)
WHERE (d.hour, d.station_id, d.mark) = (done.hour, done.station_id, done.mark)
"""
_OLD: Final = """
SELECT c.station_id, c.connector_id, h.hour, h.currency, h.sums, h.ends_as, h.version
FROM unnest($2::text[], $3::timestamptz[]) AS asked (station_id, hour)
JOIN reporting.connector AS c ON c.station_id = asked.station_id COLLATE "C"
CROSS JOIN LATERAL (
    SELECT * FROM reporting.hour WHERE facet = $1 AND series_key = c.connector_key AND hour = asked.hour OFFSET 0
) AS h
"""  # OFFSET 0 keeps the planner to one index scan a row
_KEYS: Final = """
SELECT c.station_id, c.connector_id, c.connector_key
FROM unnest($1::text[], $2::smallint[]) AS asked (station_id, connector_id)
JOIN reporting.connector AS c
    ON c.station_id = asked.station_id COLLATE "C" AND c.connector_id = asked.connector_id
"""
_ADD_SERIES: Final = """
INSERT INTO reporting.series (kind, name) SELECT DISTINCT kind, name
FROM unnest($1::text[], $2::text[]) AS given (kind, name) ORDER BY kind, name ON CONFLICT DO NOTHING
"""
_ADD_CONNECTORS: Final = """
INSERT INTO reporting.connector (connector_key, station_id, connector_id)
SELECT s.series_key, given.station_id, given.connector_id
FROM unnest($1::text[], $2::text[], $3::smallint[]) AS given (name, station_id, connector_id)
JOIN reporting.series AS s ON s.kind = 'connector' AND s.name = given.name COLLATE "C"
ON CONFLICT DO NOTHING
"""
_ADD_MEMBERS: Final = """
INSERT INTO reporting.member (connector_key, series_key)
SELECT c.connector_key, s.series_key
FROM unnest($1::text[], $2::text[], $3::text[]) AS given (connector, kind, name)
JOIN reporting.series AS cs ON cs.kind = 'connector' AND cs.name = given.connector COLLATE "C"
JOIN reporting.connector AS c ON c.connector_key = cs.series_key
JOIN reporting.series AS s ON s.kind = given.kind COLLATE "C" AND s.name = given.name COLLATE "C"
ON CONFLICT DO NOTHING
"""
_REGISTERED: Final = """
SELECT station_id, revision, site, "group", organisation, connectors, plugs FROM reporting.station
WHERE station_id = ANY ($1::text[])
"""
_UNGROUPED: Final = """
SELECT s.station_id, EXISTS (SELECT FROM reporting.connector AS c WHERE c.station_id = s.station_id) AS is_grouped
FROM reporting.station AS s WHERE s.grouped < s.revision ORDER BY s.station_id LIMIT $1
"""
_GROUPED: Final = """
UPDATE reporting.station AS s SET grouped = given.revision
FROM unnest($1::text[], $2::int[]) AS given (station_id, revision) WHERE s.station_id = given.station_id COLLATE "C"
"""
_OF_STATION: Final = """
SELECT c.connector_id, c.connector_key, s.kind, s.name, s.series_key
FROM reporting.connector AS c
LEFT JOIN reporting.member AS m USING (connector_key) LEFT JOIN reporting.series AS s ON s.series_key = m.series_key
WHERE c.station_id = $1
"""
_SERIES_KEYS: Final = """
SELECT s.kind, s.name, s.series_key FROM unnest($1::text[], $2::text[]) AS given (kind, name)
JOIN reporting.series AS s ON s.kind = given.kind COLLATE "C" AND s.name = given.name COLLATE "C"
"""
_CHANGED: Final = """
INSERT INTO reporting.changed (day, mark)
SELECT day, nextval('reporting.mark') FROM unnest($1::timestamptz[]) AS given (day) ORDER BY day
ON CONFLICT (day) DO UPDATE SET mark = excluded.mark
"""
_CHANGED_OF: Final = """
SELECT DISTINCT date_trunc('day', hour, 'UTC') AS day FROM reporting.hour
WHERE facet = ANY ($1::smallint[]) AND series_key = ANY ($2::int[])
"""
_SESSIONS_DURING: Final = """
SELECT DISTINCT asked.station_id, date_trunc('hour', s.ended_at, 'UTC') AS hour
FROM unnest($1::text[], $2::timestamptz[]) AS asked (station_id, hour)
CROSS JOIN LATERAL (
    SELECT ended_at FROM telemetry.session_overview
    WHERE station_id = asked.station_id COLLATE "C"
      AND started_at < asked.hour + interval '1 hour' AND ended_at >= asked.hour OFFSET 0
) AS s
"""  # OFFSET 0 keeps the planner to an index scan a place
# An outage of an hour ends where the port is up next. `up_ms` (2) has what is excluded (3) in it.
_UP_NEXT: Final = """
SELECT DISTINCT asked.station_id, next.hour
FROM unnest($1::text[], $2::smallint[], $3::timestamptz[]) AS asked (station_id, connector_id, hour)
JOIN reporting.connector AS c
    ON c.station_id = asked.station_id COLLATE "C" AND c.connector_id = asked.connector_id
CROSS JOIN LATERAL (
    SELECT hour FROM reporting.hour
    WHERE facet = $4 AND series_key = c.connector_key AND hour > asked.hour AND sums[2] > sums[3]
    ORDER BY hour LIMIT 1
) AS next
"""
# By the primary key, series by series: an index of hours alone would cost each write more than this costs.
_DROP: Final = """
DELETE FROM reporting.hour WHERE ctid = ANY(ARRAY(
    SELECT h.ctid FROM reporting.series AS s CROSS JOIN unnest($3::smallint[]) AS f (facet)
    CROSS JOIN LATERAL (
        SELECT ctid FROM reporting.hour WHERE facet = f.facet AND series_key = s.series_key AND hour < $1 LIMIT $2
    ) AS h LIMIT $2
))
"""


class DirtyHour(NamedTuple):
    """An hour of a station that has changed."""

    hour: datetime
    station_id: str
    facets: int
    mark: int

    @property
    def place(self) -> Place:
        """Without its facets."""
        return Place(self.station_id, self.hour)


class SeriesName(NamedTuple):
    """A series by its name."""

    kind: str
    name: str


def connector_name(station_id: str, connector_id: int) -> str:
    """The name of a connector's series."""
    return f"{station_id}/{connector_id}"


def bounded(found: list[DirtyHour]) -> list[DirtyHour]:
    """As many of the first of these, which are in order, as sources are read for at once; one at least."""
    stations: set[str] = set()
    for count, one in enumerate(found):
        stations.add(one.station_id)
        if len(stations) * ((one.hour - found[0].hour) // HOUR + 1) > STATION_HOURS_MAX:
            return found[:count]
    return found


class RollUpStore:
    """See the module."""

    async def lock(self, connection: Transaction) -> None:
        """Wait until no other transaction changes roll-ups, until the end of this one: a batch, ~1 s."""
        await connection.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)

    async def try_lock(self, connection: Transaction) -> bool:
        """Whether no other transaction changes roll-ups until the end of this one."""
        locked: bool = await connection.fetchval("SELECT pg_try_advisory_xact_lock($1)", _LOCK)
        return locked

    async def has_work(self, database: Database, now: datetime) -> bool:
        """Whether anything may be to be grouped or computed: the one method that needs no transaction."""
        row = await database.fetchrow(_WORK, hour_of(now), now - OPEN_HOUR_EVERY_MIN)
        return row is not None and bool(row["work"])

    async def dirty(self, connection: Transaction, open_hour: datetime, now: datetime) -> list[DirtyHour]:
        """Hours to compute next, the oldest first: as many as are computed at once."""
        places: int = await connection.fetchval(_OPEN, open_hour)
        every = min(max(OPEN_HOUR_EVERY_MIN, places * OPEN_PLACE_EVERY), OPEN_HOUR_EVERY_MAX)
        rows = await connection.fetch(_DIRTY, open_hour, now - every, STATION_HOURS_MAX)
        return bounded([DirtyHour(*row) for row in rows])

    async def has_many(self, connection: Transaction, open_hour: datetime) -> bool:
        """Whether more hours that have passed are dirty than are computed at once."""
        count: int = await connection.fetchval(_PASSED, open_hour, STATION_HOURS_MAX)
        return count == STATION_HOURS_MAX

    async def clean(self, connection: Transaction, done: Sequence[DirtyHour]) -> None:
        """These were computed. One that was noted since stays."""
        columns = zip(*((one.hour, one.station_id, one.mark) for one in done), strict=True)
        await connection.execute(_CLEAN, *map(list, columns))

    async def old(self, connection: Transaction, facet: Facet, places: Sequence[Place]) -> Facts:
        """The stored rows of the connectors of these hours."""
        stations, hours = zip(*places, strict=True)
        return {
            FactKey(row["station_id"], row["connector_id"], row["hour"], row["currency"]): Fact(
                tuple(row["sums"]), row["ends_as"], row["version"]
            )
            for row in await connection.fetch(_OLD, facet, stations, hours)
        }

    async def connector_keys(
        self, connection: Transaction, connectors: Sequence[tuple[str, int]]
    ) -> dict[tuple[str, int], int]:
        """The keys of these connectors, those that are known."""
        if not connectors:
            return {}
        rows = await connection.fetch(_KEYS, *map(list, zip(*connectors, strict=True)))
        return {(row["station_id"], row["connector_id"]): row["connector_key"] for row in rows}

    async def add_connectors(
        self, connection: Transaction, connectors: Mapping[tuple[str, int], Iterable[SeriesName]]
    ) -> None:
        """New connectors, and the series that they are members of."""
        named = [(connector_name(*one), *one) for one in connectors]
        members = [
            (connector_name(*one), series.kind, series.name) for one, all_ in connectors.items() for series in all_
        ]
        await self.add_series(connection, [SeriesName("connector", name) for name, _, _ in named])
        await self.add_series(connection, [SeriesName(kind, name) for _, kind, name in members])
        await connection.execute(_ADD_CONNECTORS, *map(list, zip(*named, strict=True)))
        await connection.execute(_ADD_MEMBERS, *map(list, zip(*members, strict=True)))

    async def add_series(self, connection: Transaction, series: Iterable[SeriesName]) -> None:
        """Those that are new."""
        wanted = sorted(set(series))
        if wanted:
            await connection.execute(_ADD_SERIES, *map(list, zip(*wanted, strict=True)))

    async def series_keys(self, connection: Transaction, series: Iterable[SeriesName]) -> dict[SeriesName, int]:
        """The keys of these series."""
        wanted = sorted(set(series))
        if not wanted:
            return {}
        rows = await connection.fetch(_SERIES_KEYS, *map(list, zip(*wanted, strict=True)))
        return {SeriesName(row["kind"], row["name"]): row["series_key"] for row in rows}

    async def registered(self, connection: Transaction, stations: Sequence[str]) -> dict[str, Any]:
        """What the registry says of these stations, by station."""
        rows = await connection.fetch(_REGISTERED, list(stations))
        return {row["station_id"]: row for row in rows}

    async def ungrouped(self, connection: Transaction) -> list[str]:
        """Stations to group next: some that are not grouped at all, or one that is by an older revision: it takes its
        past along."""
        rows = await connection.fetch(_UNGROUPED, UNGROUPED_MAX)
        new = [row["station_id"] for row in rows if not row["is_grouped"]]
        return new or [row["station_id"] for row in rows[:1]]

    async def grouped(self, connection: Transaction, revisions: Mapping[str, int]) -> None:
        """The figures of these stations are grouped by these revisions."""
        await connection.execute(_GROUPED, list(revisions), list(revisions.values()))

    async def memberships(self, connection: Transaction, station_id: str) -> dict[int, dict[SeriesName, int]]:
        """Of each of the station's connectors the series that it is a member of, with their keys."""
        found: dict[int, dict[SeriesName, int]] = {}
        for row in await connection.fetch(_OF_STATION, station_id):
            of_connector = found.setdefault(row["connector_id"], {})
            if row["kind"] is not None:
                of_connector[SeriesName(row["kind"], row["name"])] = row["series_key"]
        return found

    async def replace(
        self, connection: Transaction, facet: Facet, rows: Sequence[tuple[int, datetime, str, Fact]]
    ) -> None:
        """Store these rows of connectors: (connector_key, hour, currency, fact)."""
        columns = list(zip(*((*place, fact.ends_as, fact.version) for *place, fact in rows), strict=True))
        sums = zip(*(fact.sums for *_, fact in rows), strict=True)
        await connection.execute(series_sql.replace(facet), *columns, *sums)

    async def add_to_groups(
        self, connection: Transaction, facet: Facet, deltas: Sequence[tuple[int, datetime, str, tuple[int, ...]]]
    ) -> None:
        """Add these differences of connectors' rows to the series that they are members of."""
        columns = list(zip(*((key, hour, currency) for key, hour, currency, _ in deltas), strict=True))
        sums = list(zip(*(delta for *_, delta in deltas), strict=True))
        for level in series_sql.levels(facet):
            await connection.execute(series_sql.add(facet, level), *columns, *sums)
        if SUMS[facet].over_time != "sum":
            keys, days = {key for key, *_ in deltas}, {day_of(hour) for _, hour, *_ in deltas}
            await connection.execute(series_sql.largest(facet), sorted(keys), sorted(days))

    async def move(
        self, connection: Transaction, connector_key: int, leaves: Sequence[int], joins: Sequence[int]
    ) -> list[datetime]:
        """Take the connector's rows from the series that it leaves and add them to those that it joins. The days."""
        signed = [*((key, -1) for key in leaves), *((key, 1) for key in joins)]
        keys, signs = ([one[place] for one in signed] for place in (0, 1))
        for facet, sums in SUMS.items():
            for level in series_sql.levels(facet):
                await connection.execute(series_sql.move(facet, level), connector_key, keys, signs)
            if sums.over_time != "sum":
                await connection.execute(series_sql.largest_moved(facet), connector_key, keys)
        await connection.execute(
            "DELETE FROM reporting.member WHERE connector_key = $1 AND series_key = ANY ($2::int[])",
            connector_key, list(leaves),
        )  # fmt: skip
        await connection.execute(
            "INSERT INTO reporting.member (connector_key, series_key) SELECT $1, unnest($2::int[]) "
            "ON CONFLICT DO NOTHING",
            connector_key, list(joins),
        )  # fmt: skip
        rows = await connection.fetch(_CHANGED_OF, [int(facet) for facet in SUMS], [connector_key])
        return [row["day"] for row in rows]

    async def changed(self, connection: Transaction, days: Iterable[datetime]) -> None:
        """Figures of these days have changed: answers that are kept of them no longer count."""
        await connection.execute(_CHANGED, sorted(set(days)))

    async def progress(self, connection: Transaction) -> tuple[datetime | None, datetime]:
        """The first hour that is not noted yet for having ended, and the first that is kept."""
        row = await connection.fetchrow("SELECT next, kept_from FROM reporting.progress")
        if row is None:
            raise AssertionError("the migration inserts it")
        return row["next"], row["kept_from"]

    async def noted_up_to(self, connection: Transaction, hour: datetime) -> None:
        """Hours before this one have been noted for having ended."""
        await connection.execute("UPDATE reporting.progress SET next = $1", hour)

    async def sessions_during(self, connection: Transaction, places: Sequence[Place]) -> list[Place]:
        """The hours in which sessions ended that lasted in these hours."""
        if not places:
            return []
        stations, hours = zip(*places, strict=True)
        rows = await connection.fetch(_SESSIONS_DURING, stations, hours)
        return [Place(row["station_id"], row["hour"]) for row in rows]

    async def up_next(self, connection: Transaction, hours: Iterable[FactKey]) -> list[Place]:
        """The next hours in which these connectors were up, as far as they are computed."""
        asked = [(key.station_id, key.connector_id, key.hour) for key in hours]
        if not asked:
            return []
        rows = await connection.fetch(_UP_NEXT, *map(list, zip(*asked, strict=True)), Facet.AVAILABILITY)
        return [Place(row["station_id"], row["hour"]) for row in rows]

    async def drop_before(self, connection: Transaction, hour: datetime) -> bool:
        """Drop hours, which are not computed again. Whether there may be more of them."""
        await connection.execute("UPDATE reporting.progress SET kept_from = $1 WHERE kept_from < $1", hour)
        await connection.execute("DELETE FROM reporting.dirty_hour WHERE hour < $1", hour)
        dropped = await connection.execute(_DROP, hour, DROPPED_MAX, [int(facet) for facet in SUMS])
        return int(dropped.split()[1]) == DROPPED_MAX
