"""The SQL of factors of CO2e, of stations' countries, and of what is to be computed again when either changes."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

import asyncpg

from api.reporting.co2.factors import UNKNOWN, YEAR_MAX, YEAR_MIN, Factors
from api.reporting.co2.models import FactorSource
from kit.database.postgres import Database
from kit.messaging.outbox import Transaction

STATIONS_AT_ONCE: Final = 100  # of one turn, none of which may have any energy

_COLUMNS: Final = "version, source, from_year, to_year, fallback_name, published_at, published_by"
_ADD: Final = f"""
INSERT INTO reporting.co2_version ({_COLUMNS}) VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING
RETURNING version
"""  # noqa: S608 - constants
_ADD_ROWS: Final = """
INSERT INTO reporting.co2_factor (version, country, year, mg_per_kwh)
SELECT $1, country, year, mg_per_kwh
FROM unnest($2::text[], $3::int[], $4::int[]) AS given (country, year, mg_per_kwh)
"""
_VERSIONS: Final = f"SELECT {_COLUMNS} FROM reporting.co2_version ORDER BY version DESC"  # noqa: S608  # our own names
_VERSION: Final = f"SELECT {_COLUMNS} FROM reporting.co2_version WHERE version = $1"  # noqa: S608  # our own names
_ROWS: Final = """
SELECT country, year, mg_per_kwh FROM reporting.co2_factor WHERE version = $1 ORDER BY country, year
"""
_IN_FORCE: Final = """
SELECT asked.year, (
    SELECT max(version) FROM reporting.co2_version
    WHERE from_year <= asked.year AND (to_year IS NULL OR to_year >= asked.year)
) AS version FROM unnest($1::int[]) AS asked (year)
"""
_FACTORS: Final = """
SELECT version, country, year, mg_per_kwh FROM reporting.co2_factor
WHERE version = ANY ($1::smallint[]) AND country = ANY ($2::text[])
"""
# A country is stored when figures are first computed with it: so a change shows, and a removed station keeps its own.
_COUNTRIES: Final = """
WITH known AS (SELECT station_id, country FROM reporting.station_country WHERE station_id = ANY ($1::text[]))
, added AS (
    INSERT INTO reporting.station_country (station_id, country)
    SELECT o.station_id, coalesce(o.country, '') FROM stations.station_overview AS o
    WHERE o.station_id = ANY ($1::text[]) AND NOT EXISTS (SELECT FROM known AS k WHERE k.station_id = o.station_id)
    ORDER BY o.station_id ON CONFLICT DO NOTHING RETURNING station_id, country
)
SELECT station_id, country FROM known UNION ALL SELECT station_id, country FROM added
"""
_STALE: Final = """
INSERT INTO reporting.co2_stale AS s (station_id, since, until, noted_at)
SELECT station_id, $2, $3, $4 FROM ({stations}) AS changed ORDER BY station_id
ON CONFLICT (station_id) DO UPDATE SET since = least(s.since, excluded.since), until = greatest(s.until, excluded.until)
"""
_PUT_COUNTRIES: Final = f"""
WITH put AS (
    INSERT INTO reporting.station_country AS k (station_id, country)
    SELECT station_id, coalesce(country, '') FROM stations.station_overview WHERE station_id = ANY ($1::text[])
    ORDER BY station_id
    ON CONFLICT (station_id) DO UPDATE SET country = excluded.country WHERE k.country <> excluded.country
    RETURNING station_id
) {_STALE.format(stations="SELECT station_id FROM put")}"""  # noqa: S608  # our own names
_ALL_STALE: Final = _STALE.format(stations="SELECT DISTINCT station_id FROM reporting.connector WHERE station_id <> $1")
# Those that an event locks are skipped: it takes them in another order.
_NEXT_STALE: Final = """
SELECT station_id, since, until FROM reporting.co2_stale ORDER BY noted_at, station_id LIMIT $1 FOR UPDATE SKIP LOCKED
"""
# $4: the facet of energy.
_HOURS: Final = """
SELECT DISTINCT h.hour FROM reporting.connector AS c
JOIN reporting.hour AS h ON h.series_key = c.connector_key AND h.facet = $4
WHERE c.station_id = $1 AND h.hour >= $2 AND h.hour < $3 ORDER BY h.hour LIMIT $5
"""
_BEGUN: Final = "UPDATE reporting.co2_stale SET since = $2 WHERE station_id = $1"
_USED: Final = """
INSERT INTO reporting.co2_used AS u (day, version, hours)
SELECT day, version, hours FROM unnest($1::timestamptz[], $2::smallint[], $3::int[]) AS given (day, version, hours)
ORDER BY day, version ON CONFLICT (day, version) DO UPDATE SET hours = u.hours + excluded.hours
"""


def years(from_year: int, to_year: int | None) -> tuple[datetime, datetime]:
    """From when to when hours are of these years."""
    return datetime(from_year, 1, 1, tzinfo=UTC), datetime((to_year or YEAR_MAX) + 1, 1, 1, tzinfo=UTC)


ALWAYS: Final = years(YEAR_MIN, None)


class FactorRow(NamedTuple):
    """A factor; of UNKNOWN the fallback's."""

    country: str
    year: int
    mg_per_kwh: int


class StaleStation(NamedTuple):
    """A station whose hours of a time are to be computed again."""

    station_id: str
    since: datetime
    until: datetime


class Co2Store:
    """Every method works in the given open transaction."""

    async def versions(self, connection: Transaction | Database) -> list[asyncpg.Record]:
        """All of them, newest first."""
        return await connection.fetch(_VERSIONS)

    async def version(
        self, connection: Transaction | Database, version: int
    ) -> tuple[asyncpg.Record | None, list[asyncpg.Record]]:
        """One of them, and its rows."""
        return await connection.fetchrow(_VERSION, version), await connection.fetch(_ROWS, version)

    async def add(
        self, connection: Transaction, version: int, new: FactorSource, rows: Iterable[FactorRow], made: tuple[Any, str]
    ) -> None:
        """Store a version, made (when, by whom); one that is there stays as it is, its rows too."""
        about = (new.source, new.from_year, new.to_year, new.fallback_name)
        if await connection.fetchval(_ADD, version, *about, *made) is not None:
            await connection.execute(_ADD_ROWS, version, *map(list, zip(*rows, strict=True)))

    async def in_force(
        self, connection: Transaction, asked: Sequence[int], countries: Iterable[str]
    ) -> dict[int, Factors]:
        """Of each of these years the newest version that is for it, with these countries and the fallback; years
        without one are left out."""
        of_year = {
            row["year"]: row["version"]
            for row in await connection.fetch(_IN_FORCE, list(asked))
            if row["version"] is not None
        }
        tables: dict[int, dict[str, dict[int, int]]] = {version: {} for version in of_year.values()}
        for row in await connection.fetch(_FACTORS, list(tables), sorted({UNKNOWN, *countries})):
            tables[row["version"]].setdefault(row["country"], {})[row["year"]] = row["mg_per_kwh"]
        return {year: Factors(version, tables[version]) for year, version in of_year.items()}

    async def countries(self, connection: Transaction, stations: Sequence[str]) -> dict[str, str]:
        """The countries of these stations, those that are known; UNKNOWN: the registry has none."""
        rows = await connection.fetch(_COUNTRIES, list(stations))
        return {row["station_id"]: row["country"] for row in rows}

    async def put_countries(self, connection: Transaction, stations: Sequence[str], now: datetime) -> None:
        """Store the countries that the registry has of these stations; of those that differ, hours are stale."""
        await connection.execute(_PUT_COUNTRIES, sorted(set(stations)), *ALWAYS, now)

    async def note_all_stale(self, connection: Transaction, span: tuple[datetime, datetime], now: datetime) -> None:
        """All stations are, in that time."""
        await connection.execute(_ALL_STALE, "", *span, now)

    async def stale(self, connection: Transaction) -> list[StaleStation]:
        """Some of those that are and that nothing else has locked, the first noted first, locked."""
        return [StaleStation(*row) for row in await connection.fetch(_NEXT_STALE, STATIONS_AT_ONCE)]

    async def hours_with_energy(
        self, connection: Transaction, stale: StaleStation, energy: int, hours_max: int
    ) -> list[datetime]:
        """Its first hours that have any; `energy`: the facet."""
        rows = await connection.fetch(_HOURS, *stale, energy, hours_max)
        return [row["hour"] for row in rows]

    async def noted(self, connection: Transaction, station_id: str, up_to: datetime | None) -> None:
        """Its hours before that moment are noted to be computed again; None: all of them."""
        if up_to is None:
            await connection.execute("DELETE FROM reporting.co2_stale WHERE station_id = $1", station_id)
        else:
            await connection.execute(_BEGUN, station_id, up_to)

    async def count_used(self, connection: Transaction, counts: Iterable[tuple[datetime, int, int]]) -> None:
        """Add (day, version, hours) of connectors to what figures are computed with."""
        rows = [one for one in counts if one[2]]
        if rows:
            await connection.execute(_USED, *map(list, zip(*rows, strict=True)))
