"""Groups of stations, and the tariff that everybody has who was given none."""

import asyncio
from decimal import Decimal

import psycopg

from api.pricing.service import ensure_default
from schemas.tariff import Tariff
from tests.api.pricing_app import STATION, PricingApp
from tests.waiting import eventually


async def test_a_station_is_in_one_group(pricing: PricingApp) -> None:
    assert await pricing.send("PUT", "/groups/a", {"stations": ["st-1", "ST-2", "st-1"]}, 200) == {
        "group": "a",
        "stations": ["ST-1", "ST-2"],
        "moved": [],
    }
    moved = (await pricing.send("PUT", "/groups/b", {"stations": ["ST-2", "ST-3"]}, 200))["moved"]
    assert moved == [{"station_id": "ST-2", "group": "a"}]
    assert await pricing.get("/groups/a") == {"group": "a", "stations": ["ST-1"]}
    await pricing.publish({"group": "b"})
    await pricing.get("/ST-1", 404)
    await pricing.get("/ST-2")
    await pricing.send("PUT", "/groups/b", {"stations": ["ST-3"]}, 200)
    await pricing.get("/ST-2", 404)
    await pricing.send("PUT", "/groups/b", {"stations": []}, 200)
    await pricing.get("/groups/b", 404)


async def test_of_groups_set_at_once_each_is_what_somebody_said(pricing: PricingApp) -> None:
    """Never a mixture of two: here one waits in the middle of its work while another comes."""
    with psycopg.connect(pricing.url) as other:
        other.execute("INSERT INTO pricing.station_group VALUES ('ST-1', 'b')")
        one = asyncio.create_task(pricing.send("PUT", "/groups/a", {"stations": ["ST-1", "ST-2"]}, 200))
        await eventually(lambda: pricing.waiting() == 1)
        two = asyncio.create_task(pricing.send("PUT", "/groups/a", {"stations": ["ST-3"]}, 200))
        await eventually(lambda: two.done() or pricing.waiting() == 2)
    await asyncio.gather(one, two)
    assert (await pricing.get("/groups/a"))["stations"] in (["ST-1", "ST-2"], ["ST-3"])


async def test_groups_that_exchange_stations_at_once_end_with_each_station_in_one(pricing: PricingApp) -> None:
    stations = [f"ST-{number}" for number in range(50)]
    puts = [("a", stations), ("b", stations[::-1]), ("c", stations[10:])] * 4
    await asyncio.gather(
        *(pricing.send("PUT", f"/groups/{name}", {"stations": members}, 200) for name, members in puts)
    )
    rows = pricing.rows("SELECT station_id FROM pricing.station_group")
    assert sorted(row[0] for row in rows) == sorted(stations)


async def test_the_first_tariff_is_made_once_and_only_where_there_is_none(pricing: PricingApp) -> None:
    made = await asyncio.gather(*(ensure_default(pricing.service.database, pricing.clock) for _ in range(4)))
    assert sorted(made) == [False, False, False, True]
    answer = await pricing.get("/ANY", at="2016-01-01T00:00:00Z")
    assert answer["version"]["target"] == "default"
    prices = {
        (component.type, component.price)
        for element in Tariff.model_validate(answer["version"]["tariff"]).elements
        for component in element.price_components
    }
    assert prices == {
        ("ENERGY", Decimal("0.39")),
        ("ENERGY", Decimal("0.29")),
        ("PARKING_TIME", Decimal("6.00")),
    }


async def test_it_is_not_made_where_there_is_any_other(pricing: PricingApp) -> None:
    await pricing.publish(STATION)
    assert not await ensure_default(pricing.service.database, pricing.clock)
    await pricing.get("/ST-2", 404)
