"""CO2: factors by country and year, in versions, and figures that are computed again when one is published or a
station's country changes. That every figure is right, in every grouping, is tested in test_figures.py."""

import asyncio
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.reporting.analytics.service import AnalyticsQuery
from api.reporting.co2 import examples
from api.reporting.co2.factors import UNKNOWN, Factors, co2e_mg
from api.reporting.co2.models import FactorTable, FactorVersions, NewFactors
from api.reporting.co2.shipped import rows_of, shipped
from api.reporting.co2.store import Co2Store
from api.reporting.rollups import service
from api.reporting.rollups.facets import Facet, Place
from kit.clock import format_rfc3339
from schemas import topics
from schemas.events import Event, EventMetadata, StationChanged
from tests.api.reporting.month import START, Month
from tests.api.reporting.recomputation import figures_of
from tests.api.reporting.running import Reporting, reporting, served
from tests.waiting import eventually

PATH = "/api/v1/analytics/co2-factors"
SPAN = {"from": "2026-03-27", "to": "2026-03-29"}
NEW: dict[str, Any] = {
    "source": "The agency, edition 7",
    "from_year": 2026,
    "fallback_name": "a guess",
    "fallback": [{"year": 2024, "co2e_g_per_kwh": 150}],
    "factors": [{"country": "deu", "year": 2025, "co2e_g_per_kwh": 300.125}],
}
_HOURS_WITH_ENERGY = """
SELECT DISTINCT c.station_id, h.hour FROM reporting.hour AS h
JOIN reporting.connector AS c ON c.connector_key = h.series_key WHERE h.facet = 0
"""
_WAITING = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
NEW_G_PER_KWH = {"DEU": Decimal("300.125"), "": Decimal(150)}


@given(
    st.dictionaries(st.integers(1990, 2999), st.integers(0, 10**7), min_size=1),
    st.dictionaries(st.integers(1990, 2999), st.integers(0, 10**7)),
    st.integers(2000, 2999),
)
def test_a_year_without_a_factor_takes_the_last_before_it_else_the_first_after(
    fallback: dict[int, int], own: dict[int, int], year: int
) -> None:
    factors = Factors(1, {UNKNOWN: fallback, "DEU": own})
    for country, table in (("DEU", own or fallback), ("FRA", fallback), (UNKNOWN, fallback)):
        found = factors.of(country, year)
        nearest = next((one for one in range(year, 1989, -1) if one in table), None)
        nearest = next(one for one in range(year, 3000) if one in table) if nearest is None else nearest
        assert found == table[nearest]


@given(st.integers(0, 10**13), st.integers(0, 10**7))
def test_of_an_hour_half_a_milligram_is_lost_at_the_most(energy_mwh: int, mg_per_kwh: int) -> None:
    assert abs(co2e_mg(energy_mwh, mg_per_kwh) - Fraction(energy_mwh * mg_per_kwh, 10**6)) <= Fraction(1, 2)


def test_the_factors_that_ship_say_where_they_are_from() -> None:
    table = shipped()
    assert "Ember" in table.source
    assert len(table.factors) == len({one.country for one in table.factors}) > 200
    assert {one.year for one in (*table.factors, *table.fallback)} <= {2022, 2023, 2024}
    assert all(one.co2e_g_per_kwh < 1_500 for one in table.factors)


def _expected(month: Month, own: Reporting, **g_per_kwh: Decimal) -> Any:
    month.g_per_kwh = g_per_kwh or month.g_per_kwh
    return figures_of(month, own.clock.now(), "co2", "day", "UTC", "station")


async def _found(own: Reporting, month: Month) -> Any:
    return await own.figures(
        1_000, metric="co2", by="day", time_zone="UTC", grouping="station", start=month.start, end=own.clock.now()
    )


async def _publish(own: Reporting, **change: Any) -> None:
    async with own.service.database.transaction() as connection:
        await own.service.co2.publish(connection, NewFactors.model_validate({**NEW, **change}), "test")


async def test_figures_are_computed_with_what_ships_until_others_are_published(database_url: str) -> None:
    async with served(database_url) as (own, client, tokens):
        client.headers["Authorization"] = f"Bearer {tokens['operator']}"

        async def answer(path: str = "co2") -> Any:
            return (await client.get(f"/api/v1/analytics/{path}", params=SPAN)).json()

        month = await own.play(11)
        assert await _found(own, month) == _expected(month, own) != {}
        before = await answer()
        assert [one["version"] for one in before["factors"]] == [1]
        assert shipped().source in before["source"]
        assert before["figures"][0]["value"] == before["figures"][0]["sums"]["co2e_mg"] / 1_000_000
        await _publish(own)
        assert (await answer())["pending_hours"] > 0
        await own.compute()
        assert await _found(own, month) == _expected(month, own, **NEW_G_PER_KWH)
        after = await answer()
        assert after["pending_hours"] == 0
        assert after["factors"] == [{"version": 2, "source": NEW["source"], "fallback_name": "a guess"}]
        assert "version 2: The agency" in (await answer("co2/heat-map"))["source"]
        assert (await answer("energy_delivered"))["factors"] is None


async def test_days_whose_hours_are_dropped_keep_their_version(database_url: str) -> None:
    async with reporting(database_url) as own:
        month = await own.play(11)
        before = await _found(own, month)
        await own.service.rollups.drop_old(timedelta(days=1))
        await _publish(own)
        await own.compute()
        after, expected = await _found(own, month), _expected(month, own, **NEW_G_PER_KWH)
        first, last = month.start.timetuple()[:3], (month.start + timedelta(days=1)).timetuple()[:3]
        assert {key: sums for key, sums in after.items() if key[1] == first} == {
            key: sums for key, sums in before.items() if key[1] == first
        }
        assert {key: sums for key, sums in after.items() if key[1] == last} == {
            key: sums for key, sums in expected.items() if key[1] == last
        }
        assert first in {key[1] for key in after}
        used = await own.service.database.fetch("SELECT version, sum(hours) FROM reporting.co2_used GROUP BY 1")
        assert {row[0] for row in used if row[1]} == {1, 2}


async def test_factors_of_another_year_change_nothing(database_url: str) -> None:
    async with reporting(database_url) as own:
        month = await own.play(11)
        await _publish(own, from_year=2000, to_year=2025)
        await _publish(own, from_year=2027)
        await own.compute()
        assert await _found(own, month) == _expected(month, own)


async def test_the_source_names_the_newest_versions_and_says_how_many_more_there_are(database_url: str) -> None:
    async with reporting(database_url) as own:
        month = await own.play(11)
        for version in range(2, 7):
            await _publish(own, source=f"edition {version}")
        own.writer.execute("INSERT INTO reporting.co2_used SELECT %s, n, 1 FROM generate_series(2, 6) AS n", (START,))
        query = AnalyticsQuery("co2", month.start, own.clock.now(), "day", "UTC", None, (), 10, None)
        page, _ = await own.service.analytics.figures(query)
        assert [one.version for one in page.factors or ()] == [1, 2, 3, 4, 5, 6]
        assert "(version 6: edition 6; fallback: a guess; version 5:" in page.source
        assert page.source.endswith("version 4: edition 4; fallback: a guess; and 3 older versions)")


async def test_hours_to_come_do_not_wait_to_be_computed(database_url: str) -> None:
    async with reporting(database_url) as own:
        month = await own.play(11)
        await _publish(own)
        for start, waits in ((month.start, True), (month.start + timedelta(days=5), False)):
            query = AnalyticsQuery("co2", start, start + timedelta(days=1), "hour", "UTC", None, (), 10, None)
            page, _ = await own.service.analytics.figures(query)
            assert (page.pending_hours > 0, page.pending_hours == 0) == (waits, not waits)


async def test_noting_stale_hours_and_an_event_wait_for_each_other_in_one_order(database_url: str) -> None:
    """By hour and then by station, so that they never wait in a circle."""
    async with reporting(database_url) as own:
        month = await own.play(11)
        await _publish(own)
        first, last = sorted(month.registry)
        rows = await own.service.database.fetch(_HOURS_WITH_ENERGY)
        hours = {station: {row["hour"] for row in rows if row["station_id"] == station} for station in (first, last)}
        early, late = min(hours[last]), max(hours[first])
        assert early < late
        async with own.service.database.transaction() as event:
            await own.service.note_store.note(event, [(Place(last, early), Facet.ENERGY.bit)], own.clock.now())
            job = asyncio.create_task(own.service.rollups.run())
            await eventually(lambda: own.writer.execute(_WAITING).fetchone() == (1,))
            await own.service.note_store.note(event, [(Place(first, late), Facet.ENERGY.bit)], own.clock.now())
        await job
        await own.compute()
        assert await _found(own, month) == _expected(month, own, **NEW_G_PER_KWH)


async def test_a_stale_station_that_an_event_has_locked_is_left_for_later(database_url: str) -> None:
    async with reporting(database_url) as own:
        month = await own.play(11)
        await _publish(own)
        locked, other = month.registry
        stale = "SELECT station_id FROM reporting.co2_stale"
        assert {row[0] for row in await own.service.database.fetch(stale)} == {locked, other}
        async with own.service.database.transaction() as event:
            await event.execute("UPDATE reporting.co2_stale SET until = until WHERE station_id = $1", locked)
            await own.service.rollups.run()
            assert [row[0] for row in await own.service.database.fetch(stale)] == [locked]
        await own.compute()
        assert await _found(own, month) == _expected(month, own, **NEW_G_PER_KWH)


async def test_a_version_that_is_there_stays_as_it_is_its_rows_too(database_url: str) -> None:
    other = NewFactors.model_validate(NEW)
    async with reporting(database_url) as own, own.service.database.transaction() as connection:
        before = await own.service.co2.table(connection, 1)
        await Co2Store().add(connection, 1, other, rows_of(other), (own.clock.now(), "test"))
        assert await own.service.co2.table(connection, 1) == before


async def test_what_is_published_needs_no_windows(database_url: str) -> None:
    async with reporting(database_url) as own:
        month = await own.play(11)
        own.writer.execute("TRUNCATE telemetry.window_1m")
        await _publish(own)
        await own.compute()
        assert await _found(own, month) == _expected(month, own, **NEW_G_PER_KWH)


async def test_hours_are_noted_a_few_at_a_time_and_all_of_them_in_the_end(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with reporting(database_url) as own:
        month = await own.play(11)
        await _publish(own)
        monkeypatch.setattr(service, "STATION_HOURS_MAX", 3)
        monkeypatch.setattr(service, "ROUNDS_MAX", 1)
        hours = "SELECT count(*) FROM reporting.hour WHERE facet = 9 AND version = 2"
        await own.service.rollups.run()
        at_once = await own.service.database.fetchval(hours)
        assert 0 < at_once <= 3 * 3  # of three connectors at most
        await own.compute()
        assert await own.service.database.fetchval(hours) > at_once
        assert await _found(own, month) == _expected(month, own, **NEW_G_PER_KWH)


def _changed(station_id: str, revision: int, event_type: str) -> Event[StationChanged]:
    at = format_rfc3339(START + timedelta(days=3))
    unknown = dict.fromkeys(("name", "site", "group", "organisation", "time_zone", "latitude_udeg", "longitude_udeg"))
    payload = StationChanged(**unknown, station_id=station_id, revision=revision, connectors=(), bays=(), changed_at=at)
    return Event(EventMetadata(UUID(int=10**9 + revision), at, "test", "", event_type, 1), payload)


async def test_a_station_that_moves_to_another_country_takes_its_past_along_and_a_removed_one_keeps_it(
    database_url: str,
) -> None:
    async with reporting(database_url) as own:
        month = await own.play(11)
        for number, country in enumerate(("NOR", "DEU", None, "NOR")):
            for revision, (station, facts) in enumerate(month.registry.items(), 10 * (number + 1)):
                facts["country"] = country
                own.writer.execute("UPDATE stations.station SET country = %s WHERE station_id = %s", (country, station))
                event = _changed(station, revision, topics.STATION_UPDATED)
                await own.handle([event, event])
            await own.compute()
            assert await _found(own, month) == _expected(month, own)
        own.writer.execute("DELETE FROM stations.station")
        await own.handle([_changed(one, 100, topics.STATION_REMOVED) for one in month.registry])
        await _publish(own)
        await own.compute()
        assert await _found(own, month) == _expected(month, own, **NEW_G_PER_KWH)


async def test_a_version_is_published_once_and_says_who_and_when_and_old_ones_stay(database_url: str) -> None:
    async with served(database_url) as (own, client, tokens):
        headers = {"Authorization": f"Bearer {tokens['operator']}", "Idempotency-Key": "k"}
        listed = (await client.get(PATH, headers=headers)).json()["versions"]
        assert [(one["version"], one["published_by"]) for one in listed] == [(1, "voltstream")]
        first = await client.post(PATH, json=NEW, headers=headers)
        assert first.status_code == 201
        assert first.headers["Location"] == f"{PATH}/2"
        assert (await client.post(PATH, json=NEW, headers=headers)).json() == first.json()
        made = first.json()
        assert made["published_by"].startswith("operator/")
        assert datetime.fromisoformat(made["published_at"]) == own.clock.now().astimezone(UTC)
        assert made["factors"] == [{"year": 2025, "co2e_g_per_kwh": 300.125, "country": "DEU"}]
        assert (await client.get(f"{PATH}/2", headers=headers)).json() == made
        versions = (await client.get(PATH, headers=headers)).json()["versions"]
        assert [one["version"] for one in versions] == [2, 1]
        table = (await client.get(f"{PATH}/1", headers=headers)).json()
        given = {name: table[name] for name in NewFactors.model_fields}
        assert NewFactors.model_validate(given) == shipped()
        assert (await client.get(f"{PATH}/3", headers=headers)).status_code == 404


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"source": " "}, "source"),
    ({"from_year": 1999}, "from_year"),
    ({"to_year": 2025}, "before from_year"),
    ({"fallback": []}, "fallback"),
    ({"factors": NEW["factors"] * 2}, "DEU has 2025 twice"),
    ({"factors": [{"country": "DE", "year": 2025, "co2e_g_per_kwh": 1}]}, "alpha-3"),
    ({"factors": [{"country": "DEU", "year": 2025, "co2e_g_per_kwh": -1}]}, "co2e_g_per_kwh"),
    ({"factors": [{"country": "DEU", "year": 2025, "co2e_g_per_kwh": 1.0005}]}, "3 digits"),
    ({"factors": [{"country": "DEU", "year": 2025, "co2e_g_per_kwh": 10_001}]}, "co2e_g_per_kwh"),
    ({"factors": [{"country": "DEU", "year": "2025", "co2e_g_per_kwh": 1}]}, "year"),
    ({"more": 1}, "more"),
]


async def test_what_is_no_table_is_refused_and_only_operators_publish(database_url: str) -> None:
    async with served(database_url) as (_, client, tokens):
        operator, finance, driver = (
            {"Authorization": f"Bearer {tokens[kind]}"} for kind in ("operator", "finance", "driver")
        )
        for change, why in REFUSED:
            refused = await client.post(PATH, json={**NEW, **change}, headers=operator)
            assert (refused.status_code, why in refused.text) == (422, True), (change, refused.text)
        assert (await client.post(PATH, json=NEW, headers=finance)).status_code == 403
        assert (await client.get(PATH, headers=finance)).status_code == 200
        assert (await client.get(PATH, headers=driver)).status_code == 403
        assert (await client.get(f"{PATH}/1", headers=driver)).status_code == 403
        assert len((await client.get(PATH, headers=operator)).json()["versions"]) == 1


def test_examples_are_what_the_models_say() -> None:
    NewFactors.model_validate(examples.NEW)
    FactorTable.model_validate(examples.TABLE)
    FactorVersions.model_validate(examples.VERSIONS)
