"""The SQL of analytics: sums of series, from hours and days."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Final, NamedTuple

from api.reporting.analytics.buckets import Segment
from api.reporting.analytics.metrics import Metric
from api.reporting.analytics.models import FactorsUsed
from api.reporting.rollups.facets import HOUR, SUMS, Facet
from kit.auth.station_filter import StationFilter, visible
from kit.database.postgres import Database
from kit.web.paging import Cursor, Int32, Micros

_SERIES: Final = f"""
SELECT s.series_key, s.name FROM reporting.series AS s
WHERE s.kind = $1 AND ($2::text[] IS NULL OR s.name = ANY ($2::text[]))
  AND ($3::int IS NULL OR s.name >= (SELECT f.name FROM reporting.series AS f WHERE f.series_key = $3))
  AND {visible("s.name", 5)}
ORDER BY s.name LIMIT $4
"""  # noqa: S608  # our own names
# $1, $2: from the first to the last; $3: bits of facets.
_STATE: Final = f"""
SELECT (SELECT id FROM reporting.progress) AS database_id, coalesce((
           SELECT max(mark) FROM reporting.changed WHERE day >= date_trunc('day', $1::timestamptz, 'UTC') AND day < $2
       ), 0) AS mark,
       count(*) AS pending, min(d.noted_at) AS oldest
FROM reporting.dirty_hour AS d WHERE d.hour >= $1 AND d.hour < $2 AND d.facets & $3 <> 0
  AND {visible("d.station_id", 4)}
"""  # noqa: S608  # our own names

# Stations whose hours with other factors of CO2 are not even noted yet: of each all hours of the time, up to now ($3).
_STALE: Final = f"""
SELECT coalesce(sum(
           extract(epoch FROM least(until, $2, $3) - greatest(since, $1)) / 3600
       ), 0)::bigint AS pending, min(noted_at) AS oldest
FROM reporting.co2_stale WHERE since < least($2, $3) AND until > $1 AND $1 < $3 AND {visible("station_id", 4)}
"""  # noqa: S608  # our own names
_FACTORS_USED: Final = """
SELECT v.version, v.source, v.fallback_name FROM reporting.co2_version AS v
WHERE EXISTS (
    SELECT FROM reporting.co2_used AS u WHERE u.version = v.version AND u.hours > 0
        AND u.day >= date_trunc('day', $1::timestamptz, 'UTC') AND u.day < $2
) ORDER BY v.version
"""


class SeriesCursor(Cursor, frozen=True, tag="rs"):
    """The series with which the next page begins, and the moment of its first bucket."""

    series_key: Int32
    start_us: Micros


class Series(NamedTuple):
    """A group of stations. One without a name is of those that are in no group."""

    series_key: int
    name: str


class SeriesWanted(NamedTuple):
    """Series of a kind: those of these names (None: all) and, of kind station, of these stations."""

    kind: str
    names: Sequence[str] | None
    only: StationFilter


class Sum(NamedTuple):
    """Sums of a series in a bucket, in the order of the metric's names."""

    series_key: int
    bucket: int
    currency: str
    sums: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class State:
    """Of a span of time: which figures it has, and hours that have changed and wait to be computed."""

    version: str  # of the figures: this database, and the mark of the last change
    pending: int
    oldest: datetime | None  # when the first of these was noted


class AnalyticsStore:
    """Every method raises Unavailable where the database does not answer."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def series(self, wanted: SeriesWanted, first: int | None, series_max: int) -> list[Series]:
        """These series by name, from the series with key `first` on."""
        chosen = (wanted.kind, wanted.names, first, series_max)
        rows = await self._database.fetch(_SERIES, *chosen, *wanted.only.values)
        return [Series(row["series_key"], row["name"]) for row in rows]

    async def state(self, metric: Metric, start: datetime, end: datetime, now: datetime, only: StationFilter) -> State:
        """How far the figures of this time are, of these stations."""
        row = await self._database.fetchrow(_STATE, start, end, metric.facet.bit, *only.values)
        if row is None:
            raise AssertionError("an aggregate has a row")
        state = State(f"{row['database_id']}/{row['mark']}", row["pending"], row["oldest"])
        if metric.facet is not Facet.CO2:
            return state
        stale = await self._database.fetchrow(_STALE, start, end, now, *only.values)
        if stale is None:
            raise AssertionError("an aggregate has a row")
        noted = [one for one in (state.oldest, stale["oldest"]) if one is not None]
        return State(state.version, state.pending + stale["pending"], min(noted, default=None))

    async def factors_used(self, start: datetime, end: datetime) -> list[FactorsUsed]:
        """The versions of factors of CO2e with which the UTC days of this time are computed."""
        rows = await self._database.fetch(_FACTORS_USED, start, end)
        return [FactorsUsed(**row) for row in rows]

    async def sums(self, metric: Metric, series: Sequence[Series], segments: Sequence[Segment]) -> list[Sum]:
        """By series and bucket, those that are not 0 throughout."""
        keys = [one.series_key for one in series]
        buckets, starts, ends, daily = zip(*segments, strict=True)
        if all(end - start == HOUR for _, start, end, _ in segments):
            rows = await self._database.fetch(_sums_of_hours(metric), keys, buckets, starts, min(starts), max(ends))
        else:
            rows = await self._database.fetch(_sums(metric), keys, buckets, starts, ends, daily)
        return [Sum(row["series_key"], row["bucket"], row["currency"], tuple(row["sums"])) for row in rows]


class _Parts(NamedTuple):
    """SQL of a metric's sums: of a row each of hours and of days, and how rows are merged."""

    of_hour: list[str]
    of_day: list[str]
    merge: str

    def merged(self, table: str) -> tuple[str, str]:
        """Of rows with columns s0, s1, …: their sums as an array, and whether any is not 0."""
        sums = [f"{self.merge}({table}.s{place})" for place in range(len(self.of_hour))]
        return ", ".join(f"{one}::bigint" for one in sums), " OR ".join(f"{one} <> 0" for one in sums)


def _parts(metric: Metric) -> _Parts:
    facet, names = SUMS[metric.facet], metric.sum_names
    if metric.is_peak:
        largest = ", ".join(f"r.sums[{place + 1}]" for place in range(len(facet.names)))
        return _Parts([f"greatest({largest})"], ["r.sums[1]"], "max")
    sums = [f"r.sums[{facet.place(name) + 1}]" for name in names]
    return _Parts(sums, sums, "sum")


@cache
def _sums_of_hours(metric: Metric) -> str:
    """SQL, where each segment is an hour: one scan from $4 to before $5. $1: series, $2: buckets, $3: their hours."""
    parts = _parts(metric)
    merged, some = parts.merged("p")
    columns = ", ".join(f"{one} AS s{place}" for place, one in enumerate(parts.of_hour))
    currency = "r.currency" if metric.in_currencies else "''::text"
    return f"""
SELECT p.series_key, p.bucket, p.currency, ARRAY[{merged}] AS sums FROM (
    SELECT r.series_key, s.bucket, {currency} AS currency, {columns}
    FROM reporting.hour AS r JOIN unnest($2::int[], $3::timestamptz[]) AS s (bucket, hour) ON s.hour = r.hour
    WHERE r.facet = {metric.facet:d} AND r.series_key = ANY ($1::int[]) AND r.hour >= $4 AND r.hour < $5
) AS p GROUP BY 1, 2, 3 HAVING {some}
"""  # noqa: S608  # our own names


@cache
def _sums(metric: Metric) -> str:
    """SQL. $1: series; segments are (bucket, start, end, daily): $2 to $5.

    An aggregate for each series and segment keeps the planner to one index scan each.
    """
    parts = _parts(metric)
    merged, some = parts.merged("p")
    of_hours, of_days = ([f"{parts.merge}({one})" for one in sums] for sums in (parts.of_hour, parts.of_day))
    return f"""
WITH segment AS MATERIALIZED (
    SELECT * FROM unnest($2::int[], $3::timestamptz[], $4::timestamptz[], $5::boolean[])
        AS s (bucket, start, until, daily)
), part AS ({_part(metric, "hour", of_hours)} WHERE NOT s.daily
    UNION ALL {_part(metric, "day", of_days)} WHERE s.daily
)
SELECT p.series_key, p.bucket, p.currency, ARRAY[{merged}] AS sums FROM part AS p GROUP BY 1, 2, 3 HAVING {some}
"""  # noqa: S608  # our own names


def _part(metric: Metric, table: str, sums: Sequence[str]) -> str:
    """SQL: the sums of each series and segment, from hours or from days."""
    named = ", ".join(f"{one} AS s{place}" for place, one in enumerate(sums))
    bounds = (
        f"r.facet = {metric.facet:d} AND r.series_key = g.series_key AND r.{table} >= s.start AND r.{table} < s.until"
    )
    currency, grouped = ("r.currency", "GROUP BY r.currency") if metric.in_currencies else ("''::text", "")
    return f"""
    SELECT g.series_key, s.bucket, found.* FROM unnest($1::int[]) AS g (series_key) CROSS JOIN segment AS s
    CROSS JOIN LATERAL (
        SELECT {currency} AS currency, {named} FROM reporting.{table} AS r WHERE {bounds} {grouped}
    ) AS found"""  # noqa: S608  # our own names
