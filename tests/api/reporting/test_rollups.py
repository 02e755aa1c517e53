"""Roll-ups where sources forget, where hours are dropped, and where several processes compute."""

import asyncio
from datetime import timedelta
from typing import Any

from api.reporting.rollups.facets import HOUR, Facet
from tests.api.reporting.month import Month, make_month
from tests.api.reporting.running import Reporting, reporting

_SUMS = """
SELECT s.kind, s.name, f.facet, f.currency, f.at, f.width, f.sums FROM (
    SELECT facet, series_key, currency, hour AS at, 'hour' AS width, sums FROM reporting.hour
    UNION ALL SELECT facet, series_key, currency, day, 'day', sums FROM reporting.day
) AS f JOIN reporting.series AS s USING (series_key)
WHERE f.sums <> array_fill(0::bigint, ARRAY[cardinality(f.sums)]) ORDER BY 1, 2, 3, 4, 5, 6
"""


async def _played(own: Reporting) -> Month:
    month = make_month(11, 2, 2)
    await own.compute()
    for change in month.changes:
        own.clock.set_wall(change.at)
        with own.writer.cursor() as cursor:
            change.write(cursor)
        await own.handle(change.events)
    own.clock.advance(2 * HOUR.total_seconds())
    await own.compute()
    return month


async def _again(own: Reporting, month: Month) -> None:
    for change in month.changes:
        await own.handle(change.events)
    await own.compute()


async def _stored(own: Reporting) -> list[Any]:
    return [tuple(row) for row in await own.service.database.fetch(_SUMS)]


async def test_what_a_source_has_dropped_takes_nothing_from_figures(database_url: str) -> None:
    async with reporting(database_url) as own:
        month = await _played(own)
        facets = (Facet.ENERGY, Facet.POWER, Facet.STATUS)
        before = [row for row in await _stored(own) if row[2] in facets]
        own.writer.execute("TRUNCATE telemetry.window_1m, telemetry.status_interval, telemetry.silence")
        await _again(own, month)
        assert [row for row in await _stored(own) if row[2] in facets] == before
        assert {row[2] for row in before} == set(facets)


async def test_hours_that_are_dropped_are_not_computed_again_and_days_stay(database_url: str) -> None:
    async with reporting(database_url) as own:
        month = await _played(own)
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
        month = await _played(own)
        before = await _stored(own)
        for change in month.changes:
            await own.handle(change.events)
        await asyncio.gather(*(own.service.rollups.run() for _ in range(4)))
        await own.compute()
        assert await _stored(own) == before
