"""Hypothesis: a search near a place reads the stations around it by one index, 2 to 3 connectors of each by another,
and sorts them: a few dozen times a bare indexed SELECT, and as much whatever the size of the fleet. Statuses that
change meanwhile touch no index (HOT), so they cost the search nothing but processor time.

Measured: `SearchService.search` on 40,000 stations with 100,000 connectors, most of them in 300 cities, one question at
a time, while a thread of its own takes 1,000 status changes a second as the service consumes them: milliseconds at the
99th percentile. `near`: within 2 to 25 km, a plug, a least power, free, open now, by distance; `cheapest`: the same
within 10 km, by price; `anywhere`: free fast chargers in a box of the whole country, by distance from a place.
Every page is in order. Limit: a bare SELECT of a station by its key.
"""

import asyncio
import random
import statistics
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final
from uuid import uuid4

import psycopg
from prometheus_client import CollectorRegistry

from api.stations.declaration import SERVICE
from api.stations.search.models import Search
from api.stations.search.service import SearchService
from api.stations.status.metrics import StatusMetrics
from api.stations.status.service import StatusService
from api.stations.status.store import StatusStore
from benchmarks.report import Result, phase
from benchmarks.run import BenchmarkRun
from kit.auth.station_filter import EVERY_STATION
from kit.clock import SystemClock, format_rfc3339
from kit.database.postgres import Database, open_database
from kit.messaging.consumer import Delivered, EventContext
from schemas.connector import ConnectorStandard
from schemas.events import Event, EventMetadata, StationStatusChanged, StatusChange
from schemas.topics import STATION_STATUS_CHANGED

STATIONS, STATIONS_QUICK = 40_000, 500
QUESTIONS, QUESTIONS_QUICK = 2_000, 20
TARGET_MS: Final = 25.0
CHANGES_AT_ONCE: Final = 100  # ten times a second
_EVERY_S: Final = 0.1
_CITIES: Final = 300
_SEED: Final = 7
_STATUSES: Final = ("Available", "Preparing", "Charging", "Finishing", "Available", "Faulted", "Silent")

# Two or three connectors a station; four of five stations are near a city, whose sizes differ as cities' do.
_FLEET: Final = (
    """CREATE TABLE city AS
       SELECT n, 47.5 + random() * 7.4 AS latitude, 6.0 + random() * 9.0 AS longitude
       FROM generate_series(1, %(cities)s) AS n""",
    """INSERT INTO stations.station
           (station_id, name, address, city, country, latitude_udeg, longitude_udeg, time_zone, "group", changed_at)
       SELECT 'DE-' || lpad(i::text, 6, '0'), 'Station ' || i, 'Street ' || i %% 500, 'City ' || c.n, 'DEU',
              round((c.latitude + (CASE WHEN i %% 5 = 0 THEN 1.5 ELSE 0.06 END) * (random() + random() - 1)) * 1e6),
              round((c.longitude + (CASE WHEN i %% 5 = 0 THEN 1.5 ELSE 0.09 END) * (random() + random() - 1)) * 1e6),
              'Europe/Berlin', 'g' || i %% 20, now()
       FROM generate_series(1, %(stations)s) AS i
       JOIN city AS c
           ON c.n = 1 + floor(power((hashint4(i)::bigint & 65535) / 65536.0, 2) * (%(cities)s - 1))::int""",
    """INSERT INTO stations.connector_state
           (station_id, connector_id, registered, plug, rated_power_w, evse, status, since, revision)
       SELECT station_id, n, true, CASE WHEN fast THEN %(combo)s ELSE %(type2)s END,
              CASE WHEN fast THEN 150000 ELSE 22000 END, n,
              CASE WHEN random() < 0.6 THEN 1 ELSE 3 END, now(), 1
       FROM stations.station AS s, LATERAL (SELECT right(station_id, 3)::int %% 3 = 0 AS fast) AS f,
            generate_series(1, 2 + right(station_id, 1)::int %% 2) AS n""",
    """INSERT INTO stations.place
           (station_id, location, x, y, z, latitude_udeg, longitude_udeg, words, plugs, power_w_max, "group",
            open_hours, open_hours_to)
       SELECT station_id, point(longitude_udeg / 1e6, latitude_udeg / 1e6),
              cosd(latitude_udeg / 1e6) * cosd(longitude_udeg / 1e6),
              cosd(latitude_udeg / 1e6) * sind(longitude_udeg / 1e6), sind(latitude_udeg / 1e6), latitude_udeg,
              longitude_udeg, lower(' ' || name || ' ' || city), 1::bigint << c.plug, c.power, "group",
              CASE WHEN right(station_id, 1)::int < 7 THEN NULL ELSE hours.h END, now() + interval '16 days'
       FROM stations.station AS s
       CROSS JOIN LATERAL (
           SELECT max(plug) AS plug, max(rated_power_w) AS power FROM stations.connector_state AS c
           WHERE c.station_id = s.station_id
       ) AS c
       CROSS JOIN (
           SELECT range_agg(tstzrange(day + interval '6 hours', day + interval '22 hours')) AS h
           FROM generate_series(date_trunc('day', now()) - interval '1 day', now() + interval '16 days', '1 day') AS day
       ) AS hours""",
    """INSERT INTO stations.price (target_kind, target, starts_at, ends_at, micros, currency)
       SELECT 'group', 'g' || n, began + k * interval '1 hour',
              began + (k + 1) * interval '1 hour', 4000000 + n * 50000 + k * 1000, 'EUR'
       FROM generate_series(0, 14) AS n, generate_series(0, 70) AS k, (SELECT now() - interval '1 day') AS b (began)
       UNION ALL SELECT 'default', '', now() - interval '1 day', now() + interval '2 days', 5000000, 'EUR'""",
    "DROP TABLE city",
    "VACUUM ANALYZE",
)


def run(bench: BenchmarkRun) -> list[Result]:
    """The `search` stage."""
    stations, questions = bench.pick(STATIONS, STATIONS_QUICK), bench.pick(QUESTIONS, QUESTIONS_QUICK)
    with bench.database() as url:
        with phase(bench.console, "search: making a fleet"):
            cities, connectors = _make_fleet(url, stations)
        taking = _StatusChanges(url, connectors)
        taking.start()
        try:
            with phase(bench.console, "search: asking"):
                results = asyncio.run(_measure(url, cities, questions))
        finally:
            taken, took_s = taking.stop()
    for result in results:
        result.note += f"; {len(connectors):,} connectors, {taken / took_s:,.0f} status changes a second meanwhile"
    return results


def _make_fleet(url: str, stations: int) -> tuple[list[tuple[float, float]], list[tuple[str, int]]]:
    """The places to ask about, and the connectors."""
    plugs = list(ConnectorStandard)
    named = {
        "stations": stations,
        "cities": _CITIES,
        "combo": plugs.index(ConnectorStandard.IEC_62196_T2_COMBO),
        "type2": plugs.index(ConnectorStandard.IEC_62196_T2),
    }
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SELECT setseed(0.5)")
        for statement in _FLEET:
            connection.execute(statement.encode(), named if "%(" in statement else None)
        places = "SELECT latitude_udeg / 1e6, longitude_udeg / 1e6 FROM stations.station ORDER BY station_id LIMIT 5000"
        cities = [(float(row[0]), float(row[1])) for row in connection.execute(places)]
        rows = connection.execute("SELECT station_id, connector_id FROM stations.connector_state ORDER BY 1, 2")
        return cities, [(row[0], row[1]) for row in rows]


async def _measure(url: str, cities: Sequence[tuple[float, float]], questions: int) -> list[Result]:
    dice = random.Random(_SEED)
    database = await open_database(url, name="benchmarks", role=SERVICE.role, connections_max=2)
    service = SearchService(database, SystemClock())

    async def ask(**asked: Any) -> None:
        latitude, longitude = dice.choice(cities)
        here = {"latitude": Decimal(f"{latitude:.6f}"), "longitude": Decimal(f"{longitude + dice.gauss(0, 0.01):.6f}")}
        page, _ = await service.search(Search.model_validate({**here, **asked}), EVERY_STATION)
        key = [
            (one.price_10_kwh.amount if one.price_10_kwh else Decimal(10**9)) if asked.get("sort") else one.distance_m
            for one in page.stations
        ]
        assert key == sorted(key)

    async def near() -> None:
        fast = dice.random() < 0.5
        plug, power_w_min = ("IEC_62196_T2_COMBO", 100_000) if fast else ("IEC_62196_T2", 11_000)
        radius_m = dice.choice([2_000, 5_000, 10_000, 25_000])
        await ask(radius_m=radius_m, plug=[plug], power_w_min=power_w_min, free=True, open=True)

    async def cheapest() -> None:
        await ask(radius_m=10_000, plug=["IEC_62196_T2"], free=True, open=True, sort="price")

    async def anywhere() -> None:
        await ask(box="47,5,55,16", plug=["IEC_62196_T2_COMBO"], power_w_min=100_000, free=True)

    async def bare() -> None:
        station = f"DE-{dice.randrange(1, len(cities)):06d}"
        await database.fetchrow("SELECT * FROM stations.station WHERE station_id = $1", station)

    try:
        bare_ms = await _p99_ms(bare, questions)
        results = []
        for name, work in {"near": near, "cheapest": cheapest, "anywhere": anywhere}.items():
            p99_ms, p50_ms = await _p99_ms(work, questions)
            note = f"p50 {p50_ms:.1f} ms (bare {bare_ms[1]:.2f})"
            one = Result(f"search: {name}, p99", p99_ms, "ms", TARGET_MS, higher_is_better=False, note=note)
            results.append(one.compare("bare SELECT of a station by its key, p99", bare_ms[0]))
        return results
    finally:
        await database.close()


async def _p99_ms(work: Callable[[], Awaitable[None]], count: int) -> tuple[float, float]:
    """99th percentile and median, after a warm-up."""
    took_ms = []
    for number in range(count + count // 10):
        began_s = time.perf_counter()
        await work()
        if number >= count // 10:
            took_ms.append((time.perf_counter() - began_s) * 1_000)
    return statistics.quantiles(took_ms, n=100)[98], statistics.median(took_ms)


class _StatusChanges(threading.Thread):
    """Takes changes of connectors' statuses as the service consumes them."""

    def __init__(self, url: str, connectors: Sequence[tuple[str, int]]) -> None:
        super().__init__(name="status changes", daemon=True)
        self._url, self._connectors = url, connectors
        self._stopped = threading.Event()
        self._taken, self._took_s = 0, 0.0

    def stop(self) -> tuple[int, float]:
        """Changes taken, and in how many seconds."""
        self._stopped.set()
        self.join()
        return self._taken, self._took_s

    def run(self) -> None:
        """See Thread."""
        asyncio.run(self._take())

    async def _take(self) -> None:
        database = await open_database(self._url, name="benchmarks", role=SERVICE.role, connections_max=1)
        service = StatusService(StatusStore(database), SystemClock(), StatusMetrics(CollectorRegistry()))
        dice = random.Random(_SEED)
        began_s = time.monotonic()
        revision = 1
        while not self._stopped.is_set():
            revision += 1
            await self._batch(database, service, dice, revision)
            due_s = began_s + (revision - 1) * _EVERY_S
            await asyncio.sleep(max(0.0, due_s - time.monotonic()))
        self._took_s = time.monotonic() - began_s
        await database.close()

    async def _batch(self, database: Database, service: StatusService, dice: random.Random, revision: int) -> None:
        now = format_rfc3339(datetime.now(UTC))
        changes = [
            StatusChange(
                station_id=station,
                connector_id=connector,
                status=dice.choice(_STATUSES),
                previous="Available",
                error_code=None,
                since=now,
                revision=revision,
            )
            for station, connector in dice.sample(self._connectors, CHANGES_AT_ONCE)
        ]
        event_id = uuid4()
        metadata = EventMetadata(event_id, now, "benchmarks", str(event_id), STATION_STATUS_CHANGED, 1)
        event = Event(metadata, StationStatusChanged(changes=changes))
        async with database.transaction() as connection:
            await service.handle(connection, [Delivered(event, event_id, EventContext(""))])
        self._taken += len(changes)
