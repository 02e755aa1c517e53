"""Hypothesis: a question about a year is read from rows that are merged already: of each group and UTC day one, and the
hours at the edges of a time zone's months. So a page costs what reading its rows costs, whatever the number of
connectors. Computing an hour of all connectors again costs the bare aggregate of its windows in SQL, and as much again
for writing what differs.

Measured: `AnalyticsService.figures` without a cache on a year of 5,000 stations with 10,000 connectors at 500 sites,
one question at a time, milliseconds at the 99th percentile, in UTC and Europe/Berlin: energy, occupancy and peak power
of all by month, day and hour; of sites by month; of organisations by week; a page of stations by month. Limit: the bare
sum of the same rows of days in SQL. Then `RollUpService.run` for an hour in which all of them sent readings, and once
more when a reading of each fiftieth station comes late. Limit: the bare aggregate of the hour's windows in SQL.
"""

import asyncio
import gc
import random
import statistics
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import psycopg

from api.reporting.analytics.cache import InProcessCache
from api.reporting.analytics.service import AnalyticsQuery, AnalyticsService
from api.reporting.analytics.store import AnalyticsStore
from api.reporting.co2.store import Co2Store
from api.reporting.declaration import SERVICE
from api.reporting.rollups.facets import BY_ENERGY, HOUR, Facet, Place, bits_of
from api.reporting.rollups.note_store import NoteStore
from api.reporting.rollups.service import RollUpService
from api.reporting.rollups.store import RollUpStore
from benchmarks.report import Result, phase
from benchmarks.run import BenchmarkRun
from kit.clock import ManualClock
from kit.database.postgres import Database, open_database
from kit.memory_tuning import reduce_gc_frequency

STATIONS, STATIONS_QUICK = 5_000, 40
DAYS, DAYS_QUICK = 365, 20
QUESTIONS, QUESTIONS_QUICK = 100, 3
TARGET_MS: Final = 200.0
_YEAR: Final = datetime(2025, 1, 1, tzinfo=UTC)
_SEED: Final = 7
_STATUSES_KEPT: Final = timedelta(days=3 * 365)  # the default
_LATE_OF: Final = 50  # of so many stations one has a late reading

_FLEET: Final = (
    """INSERT INTO reporting.series (kind, name)
       SELECT 'connector', 'ST-' || n || '/' || c FROM generate_series(1, %(stations)s) AS n, generate_series(1, 2) AS c
       UNION ALL SELECT 'station', 'ST-' || n FROM generate_series(1, %(stations)s) AS n
       UNION ALL SELECT 'site', 'Site ' || n FROM generate_series(0, %(stations)s / 10 - 1) AS n
       UNION ALL SELECT 'organisation', 'Organisation ' || n FROM generate_series(0, 49) AS n
       UNION ALL SELECT 'group', 'Group ' || n FROM generate_series(0, 19) AS n
       UNION ALL SELECT 'plug', 'Plug ' || n FROM generate_series(0, 3) AS n
       UNION ALL SELECT 'total', ''""",
    """INSERT INTO reporting.connector (connector_key, station_id, connector_id)
       SELECT series_key, split_part(name, '/', 1), split_part(name, '/', 2)::smallint FROM reporting.series
       WHERE kind = 'connector'""",
    """INSERT INTO reporting.member (connector_key, series_key)
       SELECT c.connector_key, s.series_key FROM (
           SELECT connector_key, connector_id, station_id, substr(station_id, 4)::int AS n FROM reporting.connector
       ) AS c CROSS JOIN LATERAL (VALUES
           ('station', station_id), ('site', 'Site ' || n %% (%(stations)s / 10)), ('group', 'Group ' || n %% 20),
           ('organisation', 'Organisation ' || n %% 50), ('plug', 'Plug ' || connector_id), ('total', '')
       ) AS m (kind, name) JOIN reporting.series AS s USING (kind, name)""",
    # Whole months of all series by day, their edges by hour; of all but stations every hour.
    """INSERT INTO reporting.day (facet, series_key, currency, day, sums)
       SELECT f.facet, s.series_key, '', %(year)s::timestamptz + d * interval '1 day', f.sums
       FROM reporting.series AS s, generate_series(-1, %(days)s) AS d, (VALUES
           (%(energy)s::smallint, ARRAY[40000000::bigint, 1000]), (%(power)s, ARRAY[90000000::bigint]),
           (%(status)s, ARRAY[172800000::bigint, 40000000, 30000000, 0, 0, 0])
       ) AS f (facet, sums) WHERE s.kind <> 'connector'""",
    """INSERT INTO reporting.hour (facet, series_key, currency, hour, sums)
       SELECT f.facet, s.series_key, '', h, f.sums
       FROM reporting.series AS s, (VALUES
           (%(energy)s::smallint, ARRAY[2000000::bigint, 10]),
           (%(power)s, ARRAY[90000000::bigint, 80000000, 70000000, 60000000])
       ) AS f (facet, sums), generate_series(
           %(year)s::timestamptz - interval '1 day', %(year)s::timestamptz + %(days)s * interval '1 day', '1 hour'
       ) AS h
       WHERE s.kind NOT IN ('connector', 'station')
          OR s.kind = 'station' AND (extract(day FROM h + interval '2 hours') = 1 AND extract(hour FROM h) >= 22)""",
    "VACUUM ANALYZE reporting.day, reporting.hour, reporting.series, reporting.member, reporting.connector",
)
# A minute of each connector has a window and each connector a few statuses.
_HOUR_OF_ALL: Final = (
    """INSERT INTO telemetry.connector (partition, station_id, connector_id)
       SELECT 0, station_id, connector_id FROM reporting.connector ORDER BY 1, 2, 3""",
    "SELECT telemetry.ensure_weeks(ARRAY[extract(epoch FROM %(hour)s::timestamptz)::bigint / 604800]::int[])",
    """INSERT INTO telemetry.window_1m (connector_key, bucket, readings, flagged, first_ts, last_ts, power_mw_n,
           power_mw_sum, in_session_mwh_sum)
       SELECT connector_key, %(hour)s::timestamptz + m * interval '1 minute', 6, 0, now(), now(), 6,
           connector_key * 1000, connector_key
       FROM telemetry.connector, generate_series(0, 59) AS m""",
    """INSERT INTO telemetry.status_interval (connector_key, since, place, status, revision)
       SELECT connector_key, %(hour)s::timestamptz + m * interval '13 minutes', 0, 1 + 2 * (m %% 2), 1
       FROM telemetry.connector, generate_series(-1, 2) AS m""",
    "VACUUM ANALYZE telemetry.window_1m, telemetry.status_interval, telemetry.connector",
)
_BARE_SUM: Final = """
SELECT d.series_key, date_trunc('month', d.day) AS month, sum(d.sums[1]), sum(d.sums[2]) FROM reporting.day AS d
WHERE d.facet = $1 AND d.series_key = ANY ($2::int[]) AND d.day >= $3 AND d.day < $4 GROUP BY 1, 2
"""
_BARE_AGGREGATE: Final = """
SELECT connector_key, sum(in_session_mwh_sum), sum(outside_mwh_sum), sum(power_mw_sum), sum(power_mw_n)
FROM telemetry.window_1m WHERE bucket >= $1 AND bucket < $1 + interval '1 hour' GROUP BY 1
"""


class _NoCache(InProcessCache):
    """Every answer is computed."""

    async def get(self, key: str) -> bytes | None:
        """Nothing."""
        return None


def run(bench: BenchmarkRun) -> list[Result]:
    """The `reports` stage."""
    stations, days = bench.pick(STATIONS, STATIONS_QUICK), bench.pick(DAYS, DAYS_QUICK)
    with bench.database() as url:
        with phase(bench.console, "reports: making a year"):
            _execute(url, _FLEET, stations, days)
        with phase(bench.console, "reports: asking"), _gc_of_a_process():
            results = asyncio.run(_ask(url, days, bench.pick(QUESTIONS, QUESTIONS_QUICK)))
        with phase(bench.console, "reports: an hour of readings"):
            _execute(url, _HOUR_OF_ALL, stations, days)
        with phase(bench.console, "reports: rolling it up"):
            results += asyncio.run(_roll_up(url, days, stations))
    return results


@contextmanager
def _gc_of_a_process() -> Iterator[None]:
    """Python's garbage collector as every process of the product has it, until the end of the block."""
    thresholds = gc.get_threshold()
    reduce_gc_frequency()
    try:
        yield
    finally:
        gc.set_threshold(*thresholds)
        gc.unfreeze()


def _hour(days: int) -> datetime:
    """An hour without figures, after the year."""
    return _YEAR + timedelta(days=days + 40, hours=10)


def _execute(url: str, statements: tuple[str, ...], stations: int, days: int) -> None:
    named = {
        "stations": stations, "days": days, "year": _YEAR, "hour": _hour(days), "energy": int(Facet.ENERGY),
        "power": int(Facet.POWER), "status": int(Facet.STATUS),
    }  # fmt: skip
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement.encode(), named if "%(" in statement else None)


async def _ask(url: str, days: int, questions: int) -> list[Result]:
    dice = random.Random(_SEED)
    database = await open_database(url, name="benchmarks", role=SERVICE.role, connections_max=2)
    end = _YEAR + timedelta(days=days)
    service = AnalyticsService(AnalyticsStore(database), _NoCache(), ManualClock(end))

    def asking(by: Any, grouping: Any, limit: int, metrics: tuple[str, ...]) -> Callable[[], Awaitable[int]]:
        async def ask() -> int:
            zone = dice.choice(("UTC", "Europe/Berlin"))
            query = AnalyticsQuery(dice.choice(metrics), _YEAR, end, by, zone, grouping, (), limit, None)
            page, _ = await service.figures(query)
            assert page.figures
            return len(page.figures)

        return ask

    every = ("energy_delivered", "occupancy", "peak_power")
    hourly = ("energy_delivered", "peak_power")
    asked = {
        "all by month": asking("month", None, 1_000, every),
        "all by day": asking("day", None, 1_000, hourly),
        "all by hour, a page of 5,000": asking("hour", None, 5_000, hourly),
        "500 sites by month, a page of 1,000": asking("month", "site", 1_000, hourly),
        "organisations by week, a page of 1,000": asking("week", "organisation", 1_000, hourly),
        "stations by month, a page of 1,000": asking("month", "station", 1_000, hourly),
    }
    try:
        keys = [
            row[0]
            for row in await database.fetch("SELECT series_key FROM reporting.series WHERE kind = 'site' LIMIT 83")
        ]

        async def bare() -> int:
            return len(await database.fetch(_BARE_SUM, int(Facet.ENERGY), keys, _YEAR, end))

        bare_ms = await _p99_ms(bare, questions)
        results = []
        for name, work in asked.items():
            p99_ms, p50_ms, figures = await _p99_ms(work, questions)
            one = Result(
                f"reports: {name}, p99", p99_ms, "ms", TARGET_MS, higher_is_better=False,
                note=f"p50 {p50_ms:.1f} ms, {figures:,} figures",
            )  # fmt: skip
            results.append(one.compare("bare SUM of 83 sites' days by month, p99", bare_ms[0]))
        return results
    finally:
        await database.close()


async def _p99_ms(work: Callable[[], Awaitable[int]], count: int) -> tuple[float, float, int]:
    """99th percentile and median after a warm-up, and what it last returned."""
    took_ms, found = [], 0
    for number in range(count + count // 10 + 1):
        began_s = time.perf_counter()
        found = await work()
        if number > count // 10:
            took_ms.append((time.perf_counter() - began_s) * 1_000)
    return statistics.quantiles(took_ms, n=100)[98], statistics.median(took_ms), found


async def _roll_up(url: str, days: int, stations: int) -> list[Result]:
    hour = _hour(days)
    database = await open_database(url, name="benchmarks", role=SERVICE.role, connections_max=2)
    owner = await open_database(url, name="benchmarks", connections_max=1)
    notes = NoteStore()
    clock = ManualClock(hour + 2 * HOUR)
    service = RollUpService(database, RollUpStore(), notes, Co2Store(), clock, lambda: _STATUSES_KEPT)
    bits = bits_of((*BY_ENERGY, Facet.POWER, Facet.STATUS))
    names = [f"ST-{number}" for number in range(1, stations + 1)]
    try:
        bare_s = min([await _timed(owner.fetch(_BARE_AGGREGATE, hour)) for _ in range(3)])
        whole_s = await _rolled_up(database, notes, service, [Place(name, hour) for name in names], bits)
        late = names[::_LATE_OF]
        await owner.execute(
            "UPDATE telemetry.window_1m AS w SET in_session_mwh_sum = in_session_mwh_sum + 1 "
            "FROM telemetry.connector AS c WHERE c.connector_key = w.connector_key AND bucket = $1 "
            "AND c.station_id = ANY ($2::text[])",
            *(hour, late),
        )
        late_s = await _rolled_up(database, notes, service, [Place(name, hour) for name in late], bits)
        found = await database.fetchval(
            "SELECT h.sums[1] FROM reporting.hour AS h JOIN reporting.series AS s USING (series_key) "
            "WHERE s.kind = 'total' AND h.facet = 0 AND h.hour = $1",
            hour,
        )
        expected = await owner.fetchval("SELECT sum(in_session_mwh_sum)::bigint FROM telemetry.window_1m")
        assert found == expected, (found, expected)
    finally:
        await owner.close()
        await database.close()
    return [
        Result(
            f"reports: an hour of {connectors:,} connectors rolled up", took_s * 1_000, "ms", None,
            higher_is_better=False, note=note,
        ).compare("bare aggregate of the hour's windows of all", bare_s * 1_000)
        for connectors, took_s, note in (
            (2 * stations, whole_s, "energy, CO2, power, statuses; connectors, groups and days"),
            (2 * len(late), late_s, "after late readings, in an hour that is computed already"),
        )
    ]  # fmt: skip


async def _rolled_up(
    database: Database, notes: NoteStore, service: RollUpService, places: list[Place], facets: int
) -> float:
    """Seconds."""
    async with database.transaction() as connection:
        await notes.note(connection, [(place, facets) for place in places], _YEAR)
    return await _timed(service.run())


async def _timed(work: Awaitable[Any]) -> float:
    began_s = time.perf_counter()
    await work
    return time.perf_counter() - began_s
