"""Every metric, in every grouping and width, equals a recomputation written apart, whatever comes late, twice, in
whatever order. `REPORTING_MONTH=500x30` proves it on 500 stations and 30 days."""

import os
import random
from datetime import timedelta
from decimal import Decimal
from typing import Any, get_args

from api.reporting.analytics.buckets import Width
from api.reporting.analytics.metrics import METRICS
from api.reporting.analytics.models import Group
from api.reporting.co2.models import NewFactors
from api.reporting.exclusions.models import NewExclusion
from api.reporting.rollups.facets import hour_of
from schemas.events import Event
from tests.api.reporting.month import HOUR, Change, Month
from tests.api.reporting.month_maker import make_month
from tests.api.reporting.recomputation import METRICS as RECOMPUTED
from tests.api.reporting.recomputation import figures_of
from tests.api.reporting.running import Reporting, reporting

STATIONS, DAYS = (int(one) for one in os.environ.get("REPORTING_MONTH", "4x4").split("x"))
ZONES = ("UTC", "Europe/Berlin", "America/Los_Angeles")
GROUPINGS: tuple[Any, ...] = (None, *get_args(Group))


async def play(own: Reporting, month: Month, dice: random.Random) -> list[Event[Any]]:
    """Let all of it happen: events come late, some in another order, and figures are computed now and then between."""
    waiting: list[Event[Any]] = []
    published: list[Event[Any]] = []
    unwritten: list[Change] = []
    computed_at = month.start
    await own.compute()
    for change in month.changes:
        own.clock.set_wall(change.at)
        if change.at - computed_at > timedelta(hours=dice.randrange(1, 12)):
            _write(own, unwritten)
            dice.shuffle(waiting)
            some = len(waiting) * 3 // 4
            await own.handle(waiting[:some])
            waiting = waiting[some:]
            await own.compute()
            computed_at = change.at
        unwritten.append(change)
        waiting += change.events
        published += change.events
    _write(own, unwritten)
    own.clock.set_wall(max(month.end, hour_of(month.changes[-1].at)) + HOUR)
    await own.handle(waiting)
    await own.compute()
    await exclude(own, month, dice)
    await publish_factors(own, month)
    await own.compute()
    return published


async def publish_factors(own: Reporting, month: Month) -> None:
    """Operators publish others: some for the year, and some for the next one only."""
    for from_year, germany, elsewhere in ((2026, 300.125, 150), (2027, 1, 2)):
        new = NewFactors.model_validate(
            {
                "source": "a test",
                "from_year": from_year,
                "fallback_name": "a guess",
                "fallback": [{"year": 2024, "co2e_g_per_kwh": elsewhere}],
                "factors": [{"country": "DEU", "year": 2025, "co2e_g_per_kwh": germany}],
            }
        )
        async with own.service.database.transaction() as connection:
            await own.service.co2.publish(connection, new, "test")
        if from_year == 2026:
            month.g_per_kwh = {"DEU": Decimal("300.125"), "": Decimal(150)}


def _write(own: Reporting, changes: list[Change]) -> None:
    """Commit them in their order: nobody looks between them."""
    with own.writer.transaction(), own.writer.pipeline(), own.writer.cursor() as cursor:
        for change in changes:
            change.write(cursor)
    changes.clear()


async def exclude(own: Reporting, month: Month, dice: random.Random) -> None:
    """Operators say what outage does not count; of one they think better."""
    for number, (station, facts) in enumerate(month.registry.items()):
        since = month.start + timedelta(minutes=dice.randrange(3 * 1440))
        until = since + timedelta(minutes=dice.randrange(1, 1440))
        connector = dice.choice((None, *facts["plugs"]))
        new = NewExclusion.model_validate(
            {
                "station_id": station,
                "connector_id": connector,
                "from": since.isoformat(),
                "to": until.isoformat(),
                "reason": "vandalism",
                "note": "a note",
            }
        )
        async with own.service.database.transaction() as connection:
            made = await own.service.exclusions.add(connection, new, "test")
        if number == 1:
            await own.compute()
            async with own.service.database.transaction() as connection:
                await own.service.exclusions.withdraw(connection, made.id, "test")
        else:
            month.exclusions.append((station, connector, since, until))


async def check(own: Reporting, month: Month, dice: random.Random) -> int:
    """How many figures were compared."""
    compared = 0
    for metric in METRICS:
        for grouping in GROUPINGS:
            for by in get_args(Width):
                zone = dice.choice(ZONES)
                found = await own.figures(
                    dice.choice((3, 50, 1_000)) if STATIONS < 50 and by != "hour" else 5_000, metric=metric, by=by,
                    time_zone=zone, grouping=grouping, start=month.start, end=own.clock.now(),
                )  # fmt: skip
                expected = figures_of(month, own.clock.now(), metric, by, zone, grouping)
                assert found == expected, (metric, grouping, by, zone)
                compared += len(found)
    return compared


async def test_figures_equal_a_recomputation_whatever_comes_late_twice_or_in_another_order(
    database_url: str, seed: int
) -> None:
    dice = random.Random(seed)
    month = make_month(seed, STATIONS, DAYS)
    assert set(METRICS) == set(RECOMPUTED)
    async with reporting(database_url) as own:
        published = await play(own, month, dice)
        assert await check(own, month, dice) > 1_000
        _sums_of_members(own)
        before = _stored(own)
        again = [*published, *published]
        dice.shuffle(again)
        for first in range(0, len(again), 500):
            await own.handle(again[first : first + 500])
        await own.compute()
        assert _stored(own) == before


def _stored(own: Reporting) -> list[Any]:
    """All hours and days of series, but zeros, by name."""
    query = """
        SELECT s.kind, s.name, f.* FROM (
            SELECT facet, series_key, currency, hour AS at, 'hour' AS width, sums FROM reporting.hour
            UNION ALL SELECT facet, series_key, currency, day, 'day', sums FROM reporting.day
        ) AS f JOIN reporting.series AS s USING (series_key)
        WHERE f.sums <> array_fill(0::bigint, ARRAY[cardinality(f.sums)]) ORDER BY 1, 2, 3, 4, 5, 6, 7
    """
    return [tuple(row) for row in own.writer.execute(query)]  # whose queries may take as long as a large month needs


def _sums_of_members(own: Reporting) -> None:
    """A series has, of each hour, the sum of its members' rows."""
    query = """
        WITH wanted AS (
            SELECT m.series_key, h.facet, h.hour, h.currency, u.place, sum(u.one) AS total
            FROM reporting.member AS m JOIN reporting.hour AS h ON h.series_key = m.connector_key
            CROSS JOIN unnest(h.sums) WITH ORDINALITY AS u (one, place) GROUP BY 1, 2, 3, 4, 5
        ), found AS (
            SELECT h.series_key, h.facet, h.hour, h.currency, u.place, u.one AS total
            FROM reporting.hour AS h JOIN reporting.series AS s USING (series_key)
            CROSS JOIN unnest(h.sums) WITH ORDINALITY AS u (one, place) WHERE s.kind <> 'connector'
        )
        SELECT count(*) FROM wanted AS w FULL JOIN found AS f USING (series_key, facet, hour, currency, place)
        WHERE coalesce(w.total, 0) <> coalesce(f.total, 0)
    """
    assert own.writer.execute(query).fetchone() == (0,)
