"""Groups of stations, and the tariff that everybody has who was given none."""

import asyncio
import random
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import pytest

from api.pricing.service import ensure_default
from kit.messaging.bus import InProcessBus
from kit.retry import RetryPolicy
from schemas.tariff import Tariff
from schemas.topics import STATION_CREATED, STATION_REMOVED, STATION_UPDATED
from tests.api.pricing_app import STATION, PricingApp
from tests.api.station_events import station_event


@pytest.fixture
async def bus(pricing: PricingApp) -> AsyncIterator[InProcessBus]:
    """Where pricing takes events."""
    bus = InProcessBus(RetryPolicy.model_validate({"default": {"first_s": 0.01, "attempts_max": 1}}))
    await pricing.service.consume(bus)
    yield bus
    await bus.close()


async def test_a_station_is_in_the_group_that_its_events_say(pricing: PricingApp, bus: InProcessBus) -> None:
    for station in ("ST-1", "ST-2", "ST-3"):
        await bus.publish(station_event(STATION_CREATED, station, group="a"))
    first = await pricing.get("/groups/a", limit=2)
    assert first["stations"] == ["ST-1", "ST-2"]
    rest = await pricing.client.get(first["next"])
    assert (rest.json()["stations"], rest.json()["next"]) == (["ST-3"], None)
    await pricing.publish({"group": "b"})
    await pricing.get("/ST-2", 404)
    await bus.publish(station_event(STATION_UPDATED, "ST-2", 2, group="b"))
    await pricing.get("/ST-2")
    await bus.publish(station_event(STATION_REMOVED, "ST-2", 3, group="b"))
    await pricing.get("/ST-2", 404)
    assert "PUT /api/v1/stations" in (await pricing.get("/groups/b", 404))["detail"]


async def test_in_whatever_order_and_however_often_events_come_the_last_change_counts(
    pricing: PricingApp, bus: InProcessBus, seed: int
) -> None:
    order = random.Random(seed)
    stations = {f"ST-{number}": order.choices(("a", "b", None), k=order.randint(1, 5)) for number in range(30)}
    events = []
    for station, groups in stations.items():
        for revision, group in enumerate(groups, 1):
            event_type = order.choice((STATION_CREATED, STATION_UPDATED, STATION_REMOVED))
            events.append(station_event(event_type, station, revision, group=group))
            if revision == len(groups):
                groups[-1] = None if event_type == STATION_REMOVED else group
    order.shuffle(events)
    await asyncio.gather(*(bus.publish(one) for one in (*events, *events[::2])))
    rows = pricing.rows("SELECT station_id, group_name, revision FROM pricing.station_group")
    assert {row[0]: row[1:] for row in rows} == {name: (groups[-1], len(groups)) for name, groups in stations.items()}


async def test_a_new_station_without_a_tariff_is_listed_until_it_has_one(
    pricing: PricingApp, bus: InProcessBus
) -> None:
    async def without(**params: Any) -> Any:
        return (await pricing.get("/stations/without-tariff", **params))["stations"]

    await pricing.publish({"group": "g"})
    await pricing.publish({"station_id": "OWN"})
    for station, group in {"OWN": None, "G-1": "g", "BARE-1": "bare", "BARE-2": None, "GONE": None}.items():
        await bus.publish(station_event(STATION_CREATED, station, group=group))
    await bus.publish(station_event(STATION_REMOVED, "GONE", 2))
    assert await without() == ["BARE-1", "BARE-2"]
    assert await without(limit=1) == ["BARE-1"]
    assert pricing.registry.get_sample_value("pricing_stations_without_tariff_total") == 3  # GONE too
    await bus.publish(station_event(STATION_UPDATED, "BARE-2", 2, group="g"))
    assert await without() == ["BARE-1"]
    await pricing.publish("default")
    assert await without() == []


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
