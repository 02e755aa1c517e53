"""The SQL of sums, made for each facet: it has a parameter and a column for each of the facet's sums. Pure."""

from collections.abc import Mapping
from functools import cache
from typing import Final, Literal

from api.reporting.rollups.facets import SUMS, Facet

Level = Literal["hour", "day"]
# Each is a table and its column; here by the hour of a row {}.
_MOMENTS: Final[Mapping[Level, str]] = {"hour": "{}.hour", "day": "date_trunc('day', {}.hour, 'UTC')"}
_KEPT_FROM: Final = "(SELECT kept_from FROM reporting.progress)"


def levels(facet: Facet) -> tuple[Level, ...]:
    """Where differences are added to series: of a largest value a day has the largest of its hours instead."""
    return ("hour", "day") if SUMS[facet].over_time == "sum" else ("hour",)


def _given(facet: Facet, first: int) -> tuple[str, str]:
    """A parameter and a name for each sum."""
    count = len(SUMS[facet].names)
    parameters = ", ".join(f"${first + place}::bigint[]" for place in range(count))
    return parameters, ", ".join(f"s{place}" for place in range(count))


def _added(facet: Facet, row: str) -> str:
    """SQL: the sums of `row` and of what was to be inserted."""
    count = len(SUMS[facet].names)
    return "ARRAY[" + ", ".join(f"{row}.sums[{place + 1}] + excluded.sums[{place + 1}]" for place in range(count)) + "]"


def _total(facet: Facet, value: str) -> str:
    """SQL: an array of the sums of `value`, in which {} is the place from 0."""
    count = len(SUMS[facet].names)
    return "ARRAY[" + ", ".join(f"sum({value.format(place)})::bigint" for place in range(count)) + "]"


@cache
def replace(facet: Facet) -> str:
    """SQL: store rows of connectors: $1 keys, $2 hours, $3 currencies, $4 ends_as, $5 versions, then each sum."""
    parameters, names = _given(facet, 6)
    return f"""
INSERT INTO reporting.hour (facet, series_key, hour, currency, ends_as, version, sums)
SELECT {facet:d}, series_key, hour, currency, ends_as, version, ARRAY[{names}]
FROM unnest($1::int[], $2::timestamptz[], $3::text[], $4::smallint[], $5::smallint[], {parameters})
    AS given (series_key, hour, currency, ends_as, version, {names})
ON CONFLICT (facet, series_key, currency, hour) DO UPDATE SET
    (ends_as, version, sums) = (excluded.ends_as, excluded.version, excluded.sums)
"""  # noqa: S608  # our own names


@cache
def add(facet: Facet, level: Level) -> str:
    """SQL: add what differs of connectors' rows ($1 keys, $2 hours, $3 currencies, then each sum) to their series."""
    parameters, names = _given(facet, 4)
    moment = _MOMENTS[level].format("d")
    return f"""
INSERT INTO reporting.{level} AS h (facet, series_key, currency, {level}, sums)
SELECT {facet:d}, m.series_key, d.currency, {moment}, {_total(facet, "d.s{}")}
FROM unnest($1::int[], $2::timestamptz[], $3::text[], {parameters}) AS d (connector_key, hour, currency, {names})
JOIN reporting.member AS m USING (connector_key)
GROUP BY m.series_key, d.currency, {moment}
ORDER BY m.series_key, d.currency, {moment}
ON CONFLICT (facet, series_key, currency, {level}) DO UPDATE SET sums = {_added(facet, "h")}
"""  # noqa: S608  # our own names


@cache
def move(facet: Facet, level: Level) -> str:
    """SQL: add the rows of a connector ($1) to the series $2, or take them from them, by the signs $3."""
    moment = _MOMENTS[level].format("own")
    return f"""
INSERT INTO reporting.{level} AS h (facet, series_key, currency, {level}, sums)
SELECT {facet:d}, given.series_key, own.currency, {moment}, {_total(facet, "given.sign * own.sums[{} + 1]")}
FROM reporting.hour AS own CROSS JOIN unnest($2::int[], $3::int[]) AS given (series_key, sign)
WHERE own.facet = {facet:d} AND own.series_key = $1 AND own.hour >= {_KEPT_FROM}
GROUP BY given.series_key, own.currency, {moment}
ON CONFLICT (facet, series_key, currency, {level}) DO UPDATE SET sums = {_added(facet, "h")}
"""  # noqa: S608  # our own names


@cache
def largest(facet: Facet) -> str:
    """SQL: of the series that connectors ($1) are members of the largest sum of each of these days ($2)."""
    members = "SELECT DISTINCT series_key FROM reporting.member WHERE connector_key = ANY ($1::int[])"
    return _largest_of(facet, members, "SELECT unnest($2::timestamptz[]) AS day")


@cache
def largest_moved(facet: Facet) -> str:
    """SQL: the same of the series $2, of the days on which a connector ($1) has hours."""
    days = f"""SELECT DISTINCT date_trunc('day', hour, 'UTC') AS day FROM reporting.hour
    WHERE facet = {facet:d} AND series_key = $1 AND hour >= {_KEPT_FROM}"""  # noqa: S608  # our own names
    return _largest_of(facet, "SELECT unnest($2::int[]) AS series_key", days)


def _largest_of(facet: Facet, series: str, days: str) -> str:
    largest = ", ".join(f"h.sums[{place + 1}]" for place in range(len(SUMS[facet].names)))
    return f"""
INSERT INTO reporting.day (facet, series_key, currency, day, sums)
SELECT {facet:d}, m.series_key, '', given.day, ARRAY[found.largest]
FROM ({series}) AS m CROSS JOIN ({days}) AS given CROSS JOIN LATERAL (
    SELECT max(greatest({largest})) AS largest FROM reporting.hour AS h
    WHERE h.facet = {facet:d} AND h.series_key = m.series_key AND h.currency = ''
        AND h.hour >= given.day AND h.hour < given.day + interval '1 day'
) AS found WHERE found.largest IS NOT NULL
ON CONFLICT (facet, series_key, currency, day) DO UPDATE SET sums = excluded.sums
"""  # noqa: S608  # our own names
