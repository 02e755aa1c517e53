"""Every metric, in every grouping and width, equals a recomputation written apart, whatever comes late, twice, in
whatever order. `REPORTING_MONTH=500x30` proves it on 500 stations and 30 days."""

import os
import random
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, get_args

import psycopg

from api.reporting.analytics.buckets import Width
from api.reporting.analytics.metrics import METRICS
from api.reporting.analytics.models import Group
from api.reporting.analytics.service import AnalyticsQuery
from api.reporting.components import ReportingComponents
from api.reporting.declaration import SERVICE
from api.reporting.rollups.facets import hour_of
from kit.clock import ManualClock
from kit.messaging.consumer import Delivered, EventContext
from schemas.events import Event
from tests.api.reporting.month import HOUR, START, Month, make_month
from tests.api.reporting.recomputation import METRICS as RECOMPUTED
from tests.api.reporting.recomputation import bucket_of, figures_of
from tests.api.rows import COARSER_WINDOWS_SQL
from tests.serving import Opened, make_schemas, open_service
from voltstream.services import all_services

STATIONS, DAYS = (int(one) for one in os.environ.get("REPORTING_MONTH", "4x4").split("x"))
ZONES = ("UTC", "Europe/Berlin", "America/Los_Angeles")
GROUPINGS: tuple[Any, ...] = (None, *get_args(Group))


class Reporting:
    """The service on a database in which others write."""

    def __init__(
        self, opened: Opened[ReportingComponents], clock: ManualClock, writer: psycopg.Connection[Any]
    ) -> None:
        self.service = opened.components
        self.clock = clock
        self.writer = writer
        self._consumes = {one.event_type: one for one in SERVICE.consumes}

    async def handle(self, events: Sequence[Event[Any]]) -> None:
        """Let the handlers have these, without a look at whether they had them before."""
        by_type = defaultdict(list)
        for event in events:
            by_type[event.metadata.type].append(Delivered(event, 0, EventContext("")))
        for event_type, batch in by_type.items():
            make = self._consumes[event_type].handle_batch
            assert make is not None
            async with self.service.database.transaction() as connection:
                await make(self.service)(connection, batch)

    async def compute(self) -> None:
        """Until nothing is dirty but the hour that goes on."""
        while True:
            await self.service.rollups.run()
            open_hour = self.clock.now().replace(minute=0, second=0, microsecond=0)
            query = """
                SELECT (SELECT count(*) FROM reporting.dirty_hour WHERE hour < $1)
                     + (SELECT count(*) FROM reporting.station WHERE grouped < revision)
                     + (SELECT count(*) FROM reporting.progress WHERE next < $1)
            """
            if not await self.service.database.fetchval(query, open_hour):
                return

    async def figures(self, limit: int, **asked: Any) -> dict[Any, Any]:
        """All pages: (group, bucket, currency) -> sums."""
        found: dict[Any, Any] = {}
        cursor = None
        while True:
            query = AnalyticsQuery(**asked, names=(), limit=limit, cursor=cursor)
            page, cursor = await self.service.analytics.figures(query)
            assert page.pending_hours == 0
            for one in page.figures:
                bucket = bucket_of(one.start, asked["by"], asked["time_zone"])
                assert bucket == bucket_of(one.end - timedelta(seconds=1), asked["by"], asked["time_zone"])
                key = (one.group, bucket, one.currency)
                assert key not in found
                found[key] = tuple(one.sums.values())
            if cursor is None:
                return found


@asynccontextmanager
async def reporting(url: str) -> AsyncIterator[Reporting]:
    """The service on that empty database."""
    make_schemas(url, [one for one in all_services() if one.migrations], prepared=COARSER_WINDOWS_SQL)
    clock = ManualClock(START)
    with psycopg.connect(url, autocommit=True) as writer:
        async with open_service(SERVICE, url, clock) as opened:
            yield Reporting(opened, clock, writer)


async def play(own: Reporting, month: Month, dice: random.Random) -> list[Event[Any]]:
    """Let all of it happen: events come late, some in another order, and figures are computed now and then between."""
    waiting: list[Event[Any]] = []
    published: list[Event[Any]] = []
    computed_at = month.start
    await own.compute()
    for change in month.changes:
        own.clock.set_wall(change.at)
        if change.at - computed_at > timedelta(hours=dice.randrange(1, 12)):
            dice.shuffle(waiting)
            some = len(waiting) * 3 // 4
            await own.handle(waiting[:some])
            waiting = waiting[some:]
            await own.compute()
            computed_at = change.at
        with own.writer.transaction(), own.writer.cursor() as cursor:
            change.write(cursor)
        waiting += change.events
        published += change.events
    own.clock.set_wall(max(month.end, hour_of(month.changes[-1].at)) + HOUR)
    await own.handle(waiting)
    await own.compute()
    return published


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
        await _sums_of_members(own)
        before = await _stored(own)
        again = [*published, *published]
        dice.shuffle(again)
        for first in range(0, len(again), 500):
            await own.handle(again[first : first + 500])
        await own.compute()
        assert await _stored(own) == before


async def _stored(own: Reporting) -> list[Any]:
    """All hours and days of series, but zeros, by name."""
    query = """
        SELECT s.kind, s.name, f.* FROM (
            SELECT facet, series_key, currency, hour AS at, 'hour' AS width, sums FROM reporting.hour
            UNION ALL SELECT facet, series_key, currency, day, 'day', sums FROM reporting.day
        ) AS f JOIN reporting.series AS s USING (series_key)
        WHERE f.sums <> array_fill(0::bigint, ARRAY[cardinality(f.sums)]) ORDER BY 1, 2, 3, 4, 5, 6, 7
    """
    return [tuple(row) for row in await own.service.database.fetch(query)]


async def _sums_of_members(own: Reporting) -> None:
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
    assert await own.service.database.fetchval(query) == 0
