"""Hypothesis: a reservation is three small rows (claim, reservation, event) in one transaction, after a lock of the
driver. The exclusion constraint costs a search of a GiST index; so a reservation takes three to five times as long as a
bare INSERT into a table with that constraint, and two cores make more than a thousand a second.

Measured: reservations of 2,000 connectors, an hour each, over two weeks, in random order, by the service as its route
calls it (in the open transaction, with the event in the outbox), on eight connections; a tenth of them is there before.
Every tenth is asked for again by another driver and must be refused, with the next free times. At the end there must be
one reservation, one claim and one event for each that was made, and no two claims of one connector may overlap. Limit:
bare INSERTs of the same claims into a table with the same constraint, one a transaction, on as many connections.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Final
from uuid import uuid4

import psycopg
from fastapi import FastAPI
from prometheus_client import CollectorRegistry

from api.reservations.components import ReservationsComponents
from api.reservations.declaration import SERVICE
from api.reservations.reserving.models import NewReservation
from api.reservations.reserving.responses import Taken
from benchmarks.consuming import spawn
from benchmarks.processes import TimeMeter, TimeSpent
from benchmarks.report import Result, phase
from benchmarks.run import BenchmarkRun
from kit.clock import ManualClock
from kit.database.postgres import Database, open_database
from kit.service import Context
from voltstream.settings import load_settings

RESERVATIONS, RESERVATIONS_QUICK = 10_000, 100
CONNECTORS: Final = 2_000
HOURS: Final = 168
AT_ONCE: Final = 8
TARGET: Final = 1_000.0
_REFUSED: Final = 10  # every tenth is asked for twice
_BEGUN: Final = 10  # a tenth is there before
_NOW: Final = datetime(2026, 3, 29, tzinfo=UTC)
_PLACES: Final = """
INSERT INTO reservations.station SELECT 'ST-' || n, 1, 'S-' || n / 10, false FROM generate_series(1, %s) AS n;
"""
_CONNECTORS: Final = """
INSERT INTO reservations.place (station_id, connector_id, registered, standard)
SELECT 'ST-' || n, 1, true, 'IEC_62196_T2_COMBO' FROM generate_series(1, %s) AS n
"""
_BARE_TABLE: Final = """
CREATE SCHEMA bare;
CREATE TABLE bare.claim (
    place_key bigint NOT NULL, during tstzrange NOT NULL, kind text NOT NULL, holder uuid NOT NULL,
    EXCLUDE USING gist (int8range(place_key, place_key, '[]') WITH &&, during WITH &&)
);
"""
_BARE: Final = "INSERT INTO bare.claim VALUES ($1, tstzrange($2, $3), 'reservation', $4)"
_CHECK: Final = """
SELECT (SELECT count(*) FROM reservations.reservation), (SELECT count(*) FROM reservations.claim),
       (SELECT count(*) FROM reservations.outbox),
       (SELECT count(*) FROM reservations.claim AS a JOIN reservations.claim AS b
        ON a.place_key = b.place_key AND a.during && b.during AND a.holder < b.holder)
"""

Slot = tuple[int, datetime]
Work = Callable[[int, Slot], Awaitable[None]]


def run(bench: BenchmarkRun) -> list[Result]:
    """The `reservations` stage."""
    count = bench.pick(RESERVATIONS, RESERVATIONS_QUICK)
    every = [(number, _NOW + timedelta(hours=2 * hour)) for number, hour in product(range(CONNECTORS), range(HOURS))]
    slots = random.Random(0).sample(every, count)
    with bench.database() as url:
        _prepare(url)
        with phase(bench.console, "reservations"):
            spent = asyncio.run(_reserve(bench, url, slots))
        _check(url, count)
        with phase(bench.console, "reservations: bare INSERTs"):
            bare = asyncio.run(_insert(bench, url, slots))
    made = count - count // _BEGUN
    asked = made + made // _REFUSED
    note = (
        f"{AT_ONCE} at once, of {asked} every {_REFUSED + 1}th refused with the next free times; processor time of a "
        f"request: service {spent.own_s / asked * 1e3:.2f} ms, PostgreSQL {spent.others_s / asked * 1e3:.2f} ms "
        f"(bare: {bare.own_s / count * 1e3:.2f} and {bare.others_s / count * 1e3:.2f})"
    )
    result = Result("reservations", made / spent.elapsed_s, "reservations/s", TARGET, note=note)
    return [result.compare("bare INSERTs under the same constraint", count / bare.elapsed_s)]


def _prepare(url: str) -> None:
    with psycopg.connect(url) as connection:
        connection.execute(_PLACES, (CONNECTORS,))
        connection.execute(_CONNECTORS, (CONNECTORS,))
        connection.execute(_BARE_TABLE)
    _analyze(url)


async def _reserve(bench: BenchmarkRun, url: str, slots: Sequence[Slot]) -> TimeSpent:
    database = await open_database(url, name="benchmarks", role=SERVICE.role, connections_max=AT_ONCE)
    settings = load_settings(reservation_horizon_days=30)
    clock = ManualClock(_NOW)
    context = Context(settings, clock, CollectorRegistry(), url, spawn, {}, FastAPI(), own_database=database)
    try:
        async with SERVICE.open(context) as reservations:

            async def work(number: int, slot: Slot) -> None:
                await _ask(reservations, f"D{number}", slot)
                if number % _REFUSED == 0:
                    await _be_refused(reservations, f"X{number}", slot)

            begun = len(slots) // _BEGUN
            for number, slot in enumerate(slots[:begun]):
                await work(number, slot)
            _analyze(url)
            return await _measured(bench, database, list(enumerate(slots))[begun:], work)
    finally:
        await database.close()


def _analyze(url: str) -> None:
    """As autovacuum does within a minute: plans made for empty tables read them whole."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("ANALYZE")


async def _ask(reservations: ReservationsComponents, driver: str, slot: Slot) -> None:
    number, starts_at = slot
    station, begin = f"ST-{number + 1}", starts_at.isoformat()
    new = NewReservation.model_validate(
        {"station_id": station, "connector_id": 1, "starts_at": begin, "duration_s": 3_600}
    )
    async with reservations.database.transaction() as connection:
        await reservations.service.reserve(connection, new, driver, "benchmarks")


async def _be_refused(reservations: ReservationsComponents, driver: str, slot: Slot) -> None:
    try:
        await _ask(reservations, driver, slot)
    except Taken as taken:
        if not taken.next_free:
            raise AssertionError("no free time is named") from None
        return
    raise AssertionError(f"{slot} was reserved twice")


async def _insert(bench: BenchmarkRun, url: str, slots: Sequence[Slot]) -> TimeSpent:
    database = await open_database(url, name="benchmarks", connections_max=AT_ONCE)

    async def work(_: int, slot: Slot) -> None:
        number, starts_at = slot
        await database.execute(_BARE, number, starts_at, starts_at + timedelta(minutes=70), uuid4())

    try:
        return await _measured(bench, database, list(enumerate(slots)), work)
    finally:
        await database.close()


async def _measured(
    bench: BenchmarkRun, database: Database, slots: Sequence[tuple[int, Slot]], work: Work
) -> TimeSpent:
    """The time that AT_ONCE workers take for these slots, which are numbered."""
    left = iter(slots)

    async def worker() -> None:
        for number, slot in left:
            await work(number, slot)

    await asyncio.gather(*(database.fetchval("SELECT pg_sleep(0.05)") for _ in range(AT_ONCE)))  # open connections
    meter = TimeMeter(bench.pids("postgres"))
    meter.begin()
    await asyncio.gather(*(worker() for _ in range(AT_ONCE)))
    return meter.end()


def _check(url: str, count: int) -> None:
    with psycopg.connect(url) as connection:
        found = connection.execute(_CHECK).fetchone()
    assert found == (count, count, count, 0), f"{count} reservations; rows, claims, events, overlaps: {found}"
