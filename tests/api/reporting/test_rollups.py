"""Roll-ups where sources forget, where hours are dropped, and where several processes compute."""

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.reporting.exclusions.models import NewExclusion
from api.reporting.rollups import service, sources, store
from api.reporting.rollups.facets import BY_STATUS, HOUR, OF_PORTS, Facet, Facts, Place, bits_of
from api.reporting.rollups.sources import SOURCES, HoursQuery
from api.reporting.rollups.store import STATION_HOURS_MAX, UNGROUPED_MAX, DirtyHour, bounded
from api.reporting.uptime import repairs
from kit.config.runtime import RuntimeConfig
from schemas.reading import Status
from tests.api.reporting.month import START, Month
from tests.api.reporting.running import Reporting, reporting
from voltstream.settings import load_settings

_SUMS = """
SELECT s.kind, s.name, f.facet, f.currency, f.at, f.width, f.sums FROM (
    SELECT facet, series_key, currency, hour AS at, 'hour' AS width, sums FROM reporting.hour
    UNION ALL SELECT facet, series_key, currency, day, 'day', sums FROM reporting.day
) AS f JOIN reporting.series AS s USING (series_key)
WHERE f.sums <> array_fill(0::bigint, ARRAY[cardinality(f.sums)]) ORDER BY 1, 2, 3, 4, 5, 6
"""


async def _again(own: Reporting, month: Month) -> None:
    for change in month.changes:
        await own.handle(change.events)
    await own.compute()


async def _stored(own: Reporting) -> list[Any]:
    return [tuple(row) for row in await own.service.database.fetch(_SUMS)]


async def test_what_a_source_has_dropped_takes_nothing_from_figures(database_url: str) -> None:
    async with reporting(database_url) as own:
        month = await own.play(11)
        facets = (Facet.ENERGY, Facet.POWER, Facet.STATUS)
        before = [row for row in await _stored(own) if row[2] in facets]
        own.writer.execute("TRUNCATE telemetry.window_1m, telemetry.status_interval, telemetry.silence")
        await _again(own, month)
        assert [row for row in await _stored(own) if row[2] in facets] == before
        assert {row[2] for row in before} == set(facets)


async def test_hours_that_are_dropped_are_not_computed_again_and_days_stay(database_url: str) -> None:
    async with reporting(database_url) as own:
        month = await own.play(11)
        before = await _stored(own)
        await own.service.rollups.drop_old(timedelta(days=1))
        kept_from = (own.clock.now() - timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
        kept = [row for row in before if row[5] == "day" or row[4] >= kept_from]
        assert len(kept) < len(before)
        assert await _stored(own) == kept
        await _again(own, month)
        assert await _stored(own) == kept


async def test_processes_that_compute_at_once_add_nothing_twice(database_url: str) -> None:
    async with reporting(database_url) as own:
        month = await own.play(11)
        before = await _stored(own)
        for change in month.changes:
            await own.handle(change.events)
        await asyncio.gather(*(own.service.rollups.run() for _ in range(4)))
        await own.compute()
        assert await _stored(own) == before


def _dirty(hour: int, station: int) -> DirtyHour:
    return DirtyHour(START + hour * HOUR, f"ST-{station:05d}", bits_of(BY_STATUS), 1)


@given(st.sets(st.tuples(st.integers(0, 20_000), st.integers(0, 60)), max_size=200))
def test_what_is_read_for_a_batch_is_bounded_and_all_of_it_has_its_turn(places: set[tuple[int, int]]) -> None:
    """Sources are read of all its stations from its first hour to its last."""
    waiting = [_dirty(*place) for place in sorted(places)]
    while waiting:
        batch = bounded(waiting)
        stations, hours = {one.station_id for one in batch}, (batch[-1].hour - batch[0].hour) // HOUR + 1
        assert len(stations) * hours <= STATION_HOURS_MAX or len(batch) == 1
        assert batch == waiting[: len(batch)]
        assert len(batch) >= 1
        waiting = waiting[len(batch) :]


@given(st.integers(1, STATION_HOURS_MAX - 1), st.integers(1, 600))
def test_an_hour_of_a_year_ago_shares_no_batch_with_one_of_many_stations(stations: int, old: int) -> None:
    year = 365 * 24
    waiting = [_dirty(0, one) for one in range(old)] + [_dirty(year, one) for one in range(stations)]
    assert bounded(waiting) == waiting[:old]
    assert bounded(waiting[old:]) == waiting[old:]


async def test_hours_are_kept_for_as_long_as_the_setting_says_now(database_url: str) -> None:
    config = RuntimeConfig(load_settings())
    async with reporting(database_url, config=config) as own:
        await own.play(11)
        before = await _stored(own)
        config.apply_folder({"reporting.retention": 32})
        own.clock.advance(33 * 86_400)
        await own.service.drop_old()
        assert await _stored(own) == [row for row in before if row[5] == "day"] != before


async def test_hours_are_dropped_batch_by_batch_until_none_is_left(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with reporting(database_url) as own:
        await own.play(11)
        before = await _stored(own)
        monkeypatch.setattr(store, "DROPPED_MAX", 100)
        monkeypatch.setattr(service, "DROPS_MAX", 3)
        await own.service.rollups.drop_old(timedelta())
        monkeypatch.setattr(service, "DROPS_MAX", 10_000)
        today = own.clock.now().replace(hour=0, minute=0, second=0, microsecond=0)
        old = "SELECT count(*) FROM reporting.hour WHERE hour < $1"
        assert await own.service.database.fetchval(old, today) > 0  # the run was bounded
        await own.service.rollups.drop_old(timedelta())
        assert await own.service.database.fetchval(old, today) == 0
        assert await _stored(own) == [row for row in before if row[5] == "day" or row[4] >= today]


async def test_stations_that_wait_to_be_grouped_do_not_hold_up_figures(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor the other way round: a batch of each in turn. Those that are new are grouped many at once."""
    monkeypatch.setattr(service, "ROUNDS_MAX", 1)
    imported = 2 * UNGROUPED_MAX
    async with reporting(database_url) as own:
        month = await own.play(11)
        with own.writer.cursor() as cursor:
            cursor.execute("UPDATE reporting.station SET revision = revision + 1, site = 'elsewhere'")
            cursor.execute(
                "INSERT INTO reporting.station "
                "SELECT 'NEW-' || n, 1, 0, 'S', '', '', '{0,1,2}', ARRAY['', '', ''] FROM generate_series(1, %s) AS n",
                (imported,),
            )
        waiting = "SELECT count(*) FROM reporting.station WHERE grouped < revision"
        dirty = "SELECT count(*) FROM reporting.dirty_hour"
        database, moved = own.service.database, len(month.registry)
        for left in (imported - UNGROUPED_MAX + moved, moved, moved - 1, 0):
            await own.handle(month.changes[-1].events)
            assert await database.fetchval(dirty) > 0
            await own.service.rollups.run()
            assert await database.fetchval(waiting) == left
            assert await database.fetchval(dirty) == 0
        members = """
            SELECT count(*) FROM reporting.member JOIN reporting.series USING (series_key)
            WHERE kind = 'site' AND name = $1
        """
        assert await database.fetchval(members, "S") == 2 * imported
        connectors = "SELECT count(*) FROM reporting.connector WHERE station_id = ANY ($1)"
        grouped = await database.fetchval(connectors, list(month.registry))
        assert await database.fetchval(members, "elsewhere") == grouped


async def test_availability_of_an_hour_is_the_same_whatever_is_read_with_it(database_url: str) -> None:
    """Of a station from before the service: connector 1 had its first status at 3:30, connector 2 never spoke."""
    async with reporting(database_url) as own:
        with own.writer.cursor() as cursor:
            cursor.execute("INSERT INTO reporting.registration VALUES ('ST-1', 0, NULL, '{1,2}')")
            cursor.execute(
                "INSERT INTO telemetry.connector (partition, station_id, connector_id) "
                "VALUES (0, 'ST-1', 1), (0, 'ST-1', 2) RETURNING connector_key"
            )
            key = next(cursor)[0]
            statuses = "INSERT INTO telemetry.status_interval VALUES (%s, %s, 0, %s, NULL, NULL, 1)"
            cursor.execute(statuses, (key, START + 3.5 * HOUR, 9))
            cursor.execute(statuses, (key, START + 5 * HOUR, 1))
        places = [Place("ST-1", START + number * HOUR) for number in range(8)]
        together = await _availability(own, places)
        assert together == {
            (1, 3): (1_800_000, 0, 0),
            (1, 4): (3_600_000, 0, 0),
            **{(1, hour): (3_600_000, 3_600_000, 0) for hour in range(5, 8)},
        }
        alone: dict[tuple[int, int], tuple[int, ...]] = {}
        for place in places:
            alone |= await _availability(own, [place])
        assert alone == together


# What is said of a port, by hour: it is out from 0:30 on, but for a quarter of an hour, until an hour begins
# days later.
REPAIRED = 3 * 24 + 5
SAID = ((0.0, Status.AVAILABLE), (0.5, Status.FAULTED), (float(REPAIRED), Status.AVAILABLE))
MEANWHILE = ((3.25, Status.AVAILABLE), (3.5, Status.FAULTED))  # in an hour that ends as it did


async def _say(own: Reporting, key: int, said: Sequence[tuple[float, Status]]) -> None:
    """Store these and note their hours, as an event does."""
    own.writer.cursor().executemany(
        "INSERT INTO telemetry.status_interval VALUES (%s, %s, 0, %s, NULL, NULL, 1) ON CONFLICT DO NOTHING",
        [(key, START + hour * HOUR, status) for hour, status in said],
    )
    noted = [(Place("ST-1", START + int(hour) * HOUR), bits_of(BY_STATUS)) for hour, _ in said]
    async with own.service.database.transaction() as connection:
        await own.service.note_store.note(connection, noted, own.clock.now())


async def _repairs(own: Reporting) -> dict[int, tuple[int, ...]]:
    """Hour of the end -> repairs, and their ms."""
    rows = await own.service.database.fetch(
        "SELECT hour, sums FROM reporting.hour JOIN reporting.series USING (series_key) "
        "WHERE facet = $1 AND kind = 'station' AND sums[1] > 0",
        Facet.REPAIRS,
    )
    return {(row["hour"] - START) // HOUR: tuple(row["sums"]) for row in rows}


async def _one_port(own: Reporting) -> int:
    """Registered at START; two hours after its repair it is."""
    own.writer.execute("INSERT INTO reporting.registration VALUES ('ST-1', 1, %s, '{1}')", (START,))
    key: Any = own.writer.execute(
        "INSERT INTO telemetry.connector (partition, station_id, connector_id) VALUES (0, 'ST-1', 1) "
        "RETURNING connector_key"
    ).fetchone()
    own.clock.set_wall(START + (REPAIRED + 2) * HOUR)
    return int(key[0])


def _exclusion(start: datetime, end: datetime) -> NewExclusion:
    given = {"station_id": "ST-1", "reason": "vandalism", "note": "n"}
    return NewExclusion.model_validate({**given, "from": start.isoformat(), "to": end.isoformat()})


@pytest.mark.parametrize(
    "said",
    [
        ((*SAID, *MEANWHILE),),
        (SAID, MEANWHILE),
        (SAID, MEANWHILE[:1], MEANWHILE[1:]),
        (SAID, MEANWHILE[1:], MEANWHILE[:1], SAID, MEANWHILE),
        (SAID[::-2], MEANWHILE, SAID[1:2]),
    ],
    ids=["at once", "late", "one by one", "last first, and twice", "the fault last"],
)
async def test_a_repair_counts_in_the_hour_of_its_end_whenever_what_was_said_becomes_known(
    database_url: str, said: Sequence[Sequence[tuple[float, Status]]]
) -> None:
    async with reporting(database_url) as own:
        key = await _one_port(own)
        for some in said:
            await _say(own, key, some)
            await own.compute()
        hour_ms = 3_600_000
        assert await _repairs(own) == {
            3: (1, 2.75 * hour_ms),
            REPAIRED: (1, (REPAIRED - 3.5) * hour_ms),
        }
        day = _exclusion(START + 24 * HOUR, START + 48 * HOUR)
        async with own.service.database.transaction() as connection:
            made = await own.service.exclusions.add(connection, day, "test")
        await own.compute()
        assert (await _repairs(own))[REPAIRED] == (1, (REPAIRED - 3.5 - 24) * hour_ms)
        throughout = _exclusion(START, START + (REPAIRED + 1) * HOUR)
        async with own.service.database.transaction() as connection:
            await own.service.exclusions.withdraw(connection, made.id, "test")
            await own.service.exclusions.add(connection, throughout, "test")
        await own.compute()
        assert await _repairs(own) == {}  # none of the operator's


async def test_of_an_outage_longer_than_is_looked_back_that_much_counts(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And no more than statuses are kept: the time before would be taken for outage."""
    longest_ms = 2 * 86_400_000
    monkeypatch.setattr(repairs, "LONGEST_MS", longest_ms)
    monkeypatch.setattr(sources, "LOOK_BACKS_MS", (1, 86_400_000, longest_ms))
    async with reporting(database_url) as own:
        await _say(own, await _one_port(own), SAID)
        await own.compute()
        assert await _repairs(own) == {REPAIRED: (1, longest_ms)}
        places = [Place("ST-1", START + REPAIRED * HOUR)]
        async with own.service.database.transaction() as connection:
            query = HoursQuery(places, places[0].hour + HOUR, places[0].hour - 30 * HOUR)
            found = (await SOURCES[OF_PORTS](connection, query))[Facet.REPAIRS]
        assert [fact.sums for fact in found.values()] == [(1, 30 * 3_600_000)]


async def _availability(own: Reporting, places: list[Place]) -> dict[tuple[int, int], tuple[int, ...]]:
    """Connector and hour -> ms in service, up and excluded."""
    async with own.service.database.transaction() as connection:
        read = await SOURCES[OF_PORTS](connection, HoursQuery(places, places[-1].hour + HOUR))
    found: Facts = read[Facet.AVAILABILITY]
    return {(key.connector_id, (key.hour - START) // HOUR): fact.sums for key, fact in found.items()}
