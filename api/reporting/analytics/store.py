"""The SQL of analytics: sums of series, from hours and days."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Final, NamedTuple

from api.reporting.analytics.buckets import Segment
from api.reporting.analytics.metrics import Metric
from api.reporting.rollups.facets import SUMS
from kit.database.postgres import Database
from kit.web.paging import Cursor, Int32, Micros

_SERIES: Final = """
SELECT s.series_key, s.name FROM reporting.series AS s
WHERE s.kind = $1 AND ($2::text[] IS NULL OR s.name = ANY ($2::text[]))
  AND ($3::int IS NULL OR s.name >= (SELECT f.name FROM reporting.series AS f WHERE f.series_key = $3))
ORDER BY s.name LIMIT $4
"""
# $1, $2: from the first to the last; $3: bits of facets.
_STATE: Final = """
SELECT (SELECT id FROM reporting.progress) AS database_id, coalesce((
           SELECT max(mark) FROM reporting.changed WHERE day >= date_trunc('day', $1::timestamptz, 'UTC') AND day < $2
       ), 0) AS mark,
       count(*) AS pending, min(d.noted_at) AS oldest
FROM reporting.dirty_hour AS d WHERE d.hour >= $1 AND d.hour < $2 AND d.facets & $3 <> 0
"""


class SeriesCursor(Cursor, frozen=True, tag="rs"):
    """The series with which the next page begins, and the moment of its first bucket."""

    series_key: Int32
    start_us: Micros


class Series(NamedTuple):
    """A group of stations. One without a name is of those that are in no group."""

    series_key: int
    name: str


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

    async def series(self, kind: str, names: Sequence[str] | None, first: int | None, series_max: int) -> list[Series]:
        """Series of a kind by name, from the series with key `first` on."""
        rows = await self._database.fetch(_SERIES, kind, names, first, series_max)
        return [Series(row["series_key"], row["name"]) for row in rows]

    async def state(self, metric: Metric, start: datetime, end: datetime) -> State:
        """How far the figures of this time are."""
        row = await self._database.fetchrow(_STATE, start, end, metric.facet.bit)
        if row is None:
            raise AssertionError("an aggregate has a row")
        return State(f"{row['database_id']}/{row['mark']}", row["pending"], row["oldest"])

    async def sums(self, metric: Metric, series: Sequence[Series], segments: Sequence[Segment]) -> list[Sum]:
        """By series and bucket, those that are not 0 throughout."""
        keys = [one.series_key for one in series]
        columns = list(zip(*segments, strict=True))
        rows = await self._database.fetch(_sums(metric), keys, *columns)
        return [Sum(row["series_key"], row["bucket"], row["currency"], tuple(row["sums"])) for row in rows]


class _Expressions(NamedTuple):
    """SQL: the sums that a metric shows, of a row `r` of hours or days, and merged from those of rows `p`."""

    of_hours: str
    of_days: str
    merged: str

    @classmethod
    def of(cls, metric: Metric) -> "_Expressions":
        facet, names = SUMS[metric.facet], metric.sum_names
        if metric.is_peak:
            largest = ", ".join(f"r.sums[{place + 1}]" for place in range(len(facet.names)))
            return cls(f"ARRAY[greatest({largest})]", "r.sums", "ARRAY[max(p.sums[1])]")
        chosen = "ARRAY[" + ", ".join(f"r.sums[{facet.place(name) + 1}]" for name in names) + "]"
        total = ", ".join(f"sum(p.sums[{place + 1}])::bigint" for place in range(len(names)))
        return cls(chosen, chosen, f"ARRAY[{total}]")


@cache
def _sums(metric: Metric) -> str:
    """SQL. Segments are (bucket, start, end, daily): $2 to $5."""
    names = metric.sum_names
    of_hours, of_days, merged = _Expressions.of(metric)
    some = " OR ".join(f"m.sums[{place + 1}] <> 0" for place in range(len(names)))
    in_currency = "" if metric.in_currencies else "AND r.currency = ''"
    part = f"""
    SELECT g.series_key, s.bucket, r.currency, {{sums}} AS sums
    FROM unnest($1::int[]) AS g (series_key) CROSS JOIN segment AS s
    JOIN reporting.{{table}} AS r ON r.facet = {metric.facet:d} AND r.series_key = g.series_key {in_currency}
        AND r.{{table}} >= s.start AND r.{{table}} < s.until
    WHERE {{daily}}"""  # noqa: S608  # our own names
    return f"""
WITH segment AS (
    SELECT * FROM unnest($2::int[], $3::timestamptz[], $4::timestamptz[], $5::boolean[])
        AS s (bucket, start, until, daily)
), part AS ({part.format(sums=of_hours, table="hour", daily="NOT s.daily")}
    UNION ALL {part.format(sums=of_days, table="day", daily="s.daily")}
)
SELECT * FROM (
    SELECT p.series_key, p.bucket, p.currency, {merged} AS sums FROM part AS p GROUP BY 1, 2, 3
) AS m
WHERE {some}
"""  # noqa: S608  # our own names
