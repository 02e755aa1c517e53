"""The search finds what a plain-Python reference finds, in its order, on random fleets; its pages list each once."""

import math
import random
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import pytest

from api.stations.registry.models import StationDocument
from api.stations.registry.opening_hours import OpeningHours, is_open
from kit.auth.token_store import Principal
from kit.clock import format_rfc3339
from kit.messaging.bus import InProcessBus
from kit.retry import RetryPolicy
from schemas.events import PricingUpdated, StationStatusChanged, StatusChange
from schemas.topics import PRICING_UPDATED, RESERVATION_CREATED, STATION_STATUS_CHANGED
from tests.api.station_events import event, reservation_event
from tests.api.stations_app import NOW, PATH, StationsApp

OPERATOR = Principal("operator", UUID(int=1), None)
PLACES = [(52.52, 13.405), (52.37, 4.895), (-16.8, 179.999), (89.97, 10.0), (-33.87, 151.21), (0.0, 0.001)]
PLUGS = ["IEC_62196_T2", "IEC_62196_T2_COMBO", "CHADEMO"]
STATUSES = ["Available", "Available", "Charging", "Faulted", "Silent", "Finishing"]
BUSY = ("Preparing", "Charging", "SuspendedEVSE", "SuspendedEV", "Finishing")
WORDS = ["Kaufhaus Süd", "Rathaus", "Straße 5", "ÉCOLE", "Ostbahnhof", "haus"]
ZONES = ["Europe/Berlin", "Pacific/Fiji", "UTC"]


@dataclass
class Fleet:
    """What the search is asked about, apart from the service."""

    stations: dict[str, dict[str, Any]] = field(default_factory=dict)
    statuses: dict[tuple[str, int], str] = field(default_factory=dict)
    reserved: dict[tuple[str, int], list[tuple[datetime, datetime]]] = field(default_factory=dict)
    prices: dict[tuple[str, str], Decimal] = field(default_factory=dict)  # per kWh, without VAT


@pytest.fixture
async def bus(stations: StationsApp) -> AsyncIterator[InProcessBus]:
    """Where the service takes events."""
    bus = InProcessBus(RetryPolicy.model_validate({"default": {"first_s": 0.01, "attempts_max": 1}}))
    await stations.service.consume(bus)
    yield bus
    await bus.close()


def random_station(dice: random.Random) -> dict[str, Any]:
    latitude, longitude = dice.choice(PLACES)
    spread = dice.choice((0.002, 0.05, 1.0))
    latitude = max(-90.0, min(latitude + dice.uniform(-spread, spread), 90.0))
    longitude = (longitude + dice.uniform(-spread, spread) + 540) % 360 - 180
    hours: dict[str, Any] | None = None
    if dice.random() < 0.6:
        begin, end = sorted(dice.sample(range(24), 2))
        regular = [
            {"weekday": day, "period_begin": f"{begin:02d}:00", "period_end": f"{end:02d}:30"}
            for day in dice.sample(range(1, 8), dice.randint(0, 7))
        ]
        hours = {"twentyfourseven": False, "regular_hours": regular}
    shared = dice.random() < 0.5
    return {
        "name": dice.choice([None, *WORDS]),
        "address": dice.choice([None, *WORDS]),
        "operator": dice.choice([None, {"name": "Stadtwerke"}]),
        "latitude": f"{latitude:.6f}",
        "longitude": f"{longitude:.6f}",
        "time_zone": dice.choice(ZONES),
        "group": dice.choice([None, "a", "b"]),
        "opening_hours": hours,
        "connectors": [
            {
                "connector_id": number,
                "standard": dice.choice([None, *PLUGS]),
                "rated_power_w": dice.choice([None, 11_000, 50_000, 150_000]),
                "evse_id": f"DE*VLT*E{uuid4().hex[:8]}*X".upper() if not shared else None,
            }
            for number in range(dice.randint(0, 1), dice.randint(1, 4))
            if number > 0 or shared is None
        ],
    }


async def random_fleet(stations: StationsApp, bus: InProcessBus, dice: random.Random, count: int) -> Fleet:
    """A fleet, registered and heard of."""
    fleet = Fleet()
    for number in range(count):
        name = f"ST-{number:03d}"
        fleet.stations[name] = station = random_station(dice)
        if dice.random() < 0.5:  # all connectors are of one EVSE
            evse = f"DE*VLT*E{number}"
            station["connectors"] = [{**one, "evse_id": evse} for one in station["connectors"]]
    documents = {name: StationDocument.model_validate(one) for name, one in fleet.stations.items()}
    async with stations.service.database.transaction() as connection:
        await stations.service.components.registry.change_many(connection, documents, OPERATOR)
    for name, station in fleet.stations.items():
        for plug in station["connectors"]:
            key = (name, plug["connector_id"])
            if dice.random() < 0.8:
                fleet.statuses[key] = dice.choice(STATUSES)
            if dice.random() < 0.3:
                begin = NOW + timedelta(minutes=dice.randint(-90, 60))
                fleet.reserved.setdefault(key, []).append((begin, begin + timedelta(minutes=60)))
    await bus.publish(status_event("fleet", 1, fleet.statuses))
    for number, (key, slots) in enumerate(fleet.reserved.items()):
        for begin, end in slots:
            await bus.publish(
                reservation_event(RESERVATION_CREATED, f"R{number}", 1, key[1], begin, end, station_id=key[0])
            )
    targets = [("default", "")] * dice.randint(0, 1) + [("group", "a")]
    targets += [("station", name) for name in dice.sample(sorted(fleet.stations), count // 4)]
    for target in targets:
        fleet.prices[target] = Decimal(dice.randint(20, 70)) / 100
        await bus.publish(price_event(*target, fleet.prices[target]))
    return fleet


def status_event(name: str, revision: int, statuses: Mapping[tuple[str, int], str]) -> Any:
    """station.status_changed.v1"""
    changes = [
        StatusChange(
            station_id=station,
            connector_id=connector,
            status=status,
            previous=None,
            error_code=None,
            since=format_rfc3339(NOW),
            revision=revision,
        )
        for (station, connector), status in statuses.items()
    ]
    return event(STATION_STATUS_CHANGED, f"{name}/{revision}", StationStatusChanged(changes=changes))


def price_event(kind: str, target: str, price: Decimal) -> Any:
    """pricing.updated.v1 of a tariff with one ENERGY price."""
    component = {"type": "ENERGY", "price": float(price), "vat": 20, "step_size": 1}
    payload = PricingUpdated(
        version=uuid4(),
        target_kind=kind,
        target=target,
        effective_from=format_rfc3339(NOW),
        time_zone="UTC",
        tariff={"currency": "EUR", "elements": [{"price_components": [component]}]},
        reason="operator",
    )
    return event(PRICING_UPDATED, str(payload.version), payload)


# -- The reference. ---------------------------------------------------------------------------------------------------


def distance_dm(a: tuple[float, float], b: tuple[float, float]) -> int:
    """By the chord between the two points on the unit sphere."""

    def vector(place: tuple[float, float]) -> tuple[float, float, float]:
        latitude, longitude = map(math.radians, place)
        return math.cos(latitude) * math.cos(longitude), math.cos(latitude) * math.sin(longitude), math.sin(latitude)

    chord = math.dist(vector(a), vector(b))
    return round(2 * 6_371_008.8 * math.asin(min(1.0, chord / 2)) * 10)


def is_free(fleet: Fleet, name: str, plug: dict[str, Any]) -> bool:
    key = (name, plug["connector_id"])
    siblings = [
        one
        for one in fleet.stations[name]["connectors"]
        if one is not plug and one["evse_id"] is not None and one["evse_id"] == plug["evse_id"]
    ]
    return (
        fleet.statuses.get(key) == "Available"
        and not any(begin <= NOW < end for begin, end in fleet.reserved.get(key, ()))
        and not any(fleet.statuses.get((name, one["connector_id"])) in BUSY for one in siblings)
    )


def expected(fleet: Fleet, asked: dict[str, Any]) -> list[dict[str, Any]]:
    """The stations found, in order."""
    found = []
    for name, station in fleet.stations.items():
        here = (float(station["latitude"]), float(station["longitude"]))
        if "box" in asked:
            south, west, north, east = map(float, asked["box"].split(","))
            across = west <= here[1] <= east if west <= east else here[1] >= west or here[1] <= east
            if not (south <= here[0] <= north and across):
                continue
        fitting = [
            one
            for one in station["connectors"]
            if ("plug" not in asked or one["standard"] in asked["plug"])
            and ("power_w_min" not in asked or (one["rated_power_w"] or 0) >= asked["power_w_min"])
        ]
        free = sum(is_free(fleet, name, one) for one in fitting)
        hours = station["opening_hours"]
        opened = hours is None or is_open(OpeningHours.model_validate(hours), station["time_zone"], NOW)
        operator = (station["operator"] or {}).get("name")
        text = " ".join(one for one in (station["name"], station["address"], operator) if one)
        plain = text.casefold().replace("ü", "u").replace("é", "e").split()
        by_name = asked.get("plain") and "plug" not in asked and "power_w_min" not in asked
        if not (fitting or by_name) or (asked.get("free") and not free) or (asked.get("open") and not opened):
            continue
        if not all(any(word.startswith(wanted) for word in plain) for wanted in asked.get("plain", ())):
            continue
        away = distance_dm((asked["latitude"], asked["longitude"]), here)
        if "radius_m" in asked and away > asked["radius_m"] * 10:
            continue
        targets = (("station", name), ("group", station["group"] or ""), ("default", ""))
        price = next((fleet.prices[target] * 12 for target in targets if target in fleet.prices), None)
        found.append(
            {"station_id": name, "away": away, "price": price, "free": free, "connectors": len(fitting), "open": opened}
        )
    by_price = asked.get("sort") == "price"

    def order(one: dict[str, Any]) -> tuple[Any, ...]:
        price = (one["price"] is None, one["price"] or 0) if by_price else ()
        return (price, one["away"], one["station_id"])

    return sorted(found, key=order)


def random_question(dice: random.Random) -> dict[str, Any]:
    latitude, longitude = dice.choice(PLACES)
    latitude = min(90.0, round(latitude + dice.uniform(-0.02, 0.02), 6))
    longitude = round((longitude + dice.uniform(-0.02, 0.02) + 540) % 360 - 180, 6)
    asked: dict[str, Any] = {"latitude": latitude, "longitude": longitude}
    kind = dice.random()
    if kind < 0.6:
        asked["radius_m"] = dice.choice([300, 3_000, 60_000, 200_000])
    elif kind < 0.8:
        south, north = sorted(dice.uniform(-90, 90) for _ in range(2))
        west, east = dice.uniform(-180, 180), dice.uniform(-180, 180)
        asked["box"] = ",".join(f"{edge:.6f}" for edge in (south, west, north, east))
    else:
        asked["box"] = "-90,-180,90,180"
    if dice.random() < 0.5:
        asked["plug"] = dice.sample(PLUGS, dice.randint(1, 2))
    if dice.random() < 0.4:
        asked["power_w_min"] = dice.choice([11_000, 50_000, 50_001])
    for name in ("free", "open"):
        if dice.random() < 0.4:
            asked[name] = True
    if dice.random() < 0.3:
        asked["text"], asked["plain"] = dice.choice(
            [
                ("haus", ["haus"]),
                ("SÜD kauf", ["sud", "kauf"]),
                ("strasse", ["strasse"]),
                ("stadt ecole", ["stadt", "ecole"]),
            ]
        )
    if dice.random() < 0.4:
        asked["sort"] = "price"
    return asked


async def test_the_search_is_what_a_reference_finds(stations: StationsApp, bus: InProcessBus, seed: int) -> None:
    dice = random.Random(seed)
    fleet = await random_fleet(stations, bus, dice, 150)
    some = 0
    for _ in range(80):
        asked = random_question(dice)
        wanted = expected(fleet, asked)
        some += bool(wanted)
        limit = dice.choice([1, 3, 20, 100])
        params = {name: value for name, value in asked.items() if name != "plain"} | {"limit": limit}
        found: list[dict[str, Any]] = []
        answer = await stations.client.get(f"{PATH}/search", params=params)
        while True:
            assert answer.status_code == 200, answer.text
            page = answer.json()
            assert len(page["stations"]) <= limit
            found += page["stations"]
            if page["next"] is None or len(found) > 200:
                break
            answer = await stations.client.get(page["next"])
        shown = [
            (one["station_id"], round(one["distance_m"] * 10), one["free"], one["connectors"], one["open"])
            for one in found
        ]
        assert shown == [
            (one["station_id"], one["away"], one["free"], one["connectors"], one["open"]) for one in wanted
        ], asked
        for one, reference in zip(found, wanted, strict=True):
            price = one["price_10_kwh"]
            assert (None if price is None else Decimal(price["amount"])) == reference["price"]
    assert some > 20


async def test_a_search_follows_what_changes(stations: StationsApp, bus: InProcessBus) -> None:
    plug = {"connector_id": 1, "standard": "CHADEMO", "rated_power_w": 50_000}
    here: dict[str, Any] = {"latitude": 52.5, "longitude": 13.4}

    async def found(**more: Any) -> list[str]:
        return [one["station_id"] for one in (await stations.ask("GET", "/search", 200, **here, **more))["stations"]]

    await stations.ask("PUT", "/A", 201, {**here, "connectors": [plug]})
    assert (await found(), await found(free=True)) == (["A"], [])  # nothing was heard of it
    await bus.publish(status_event("a", 1, {("A", 1): "Available"}))
    assert await found(free=True) == ["A"]
    await bus.publish(status_event("a", 2, {("A", 1): "Silent"}))
    assert await found(free=True) == []
    await bus.publish(status_event("a", 3, {("A", 1): "Available"}))
    await bus.publish(status_event("a", 2, {("A", 1): "Silent"}))
    assert await found(free=True) == ["A"]
    begin = NOW + timedelta(minutes=10)
    await bus.publish(
        reservation_event(RESERVATION_CREATED, "R", 1, 1, begin, begin + timedelta(hours=1), station_id="A")
    )
    assert await found(free=True) == ["A"]
    stations.clock.advance(600)
    assert await found(free=True) == []
    stations.clock.advance(3_600)
    assert await found(free=True) == ["A"]
    await stations.ask("PUT", "/A", 200, {**here, "latitude": 48.0}, match="*")
    assert await found() == []
    await stations.ask("PUT", "/A", 200, here, match="*")
    assert await found(plug="CHADEMO") == ["A"]
    await stations.ask("DELETE", "/A", 204, match="*")
    assert await found() == []
    await stations.ask("PUT", "/A", 201, here)
    assert await found() == []  # without a connector
    await stations.ask("PUT", "/A", 200, {**here, "name": "Harbour"}, match="*")
    assert (await found(text="harb"), await found(text="harb", free=True), await found(text="other")) == (["A"], [], [])
    assert await found(text="harb", plug="CHADEMO") == []
    await stations.ask("PUT", "/A/connectors/1", 201, {})
    assert await found(free=True) == ["A"]  # it is as free as it was


@pytest.mark.parametrize(
    ("params", "says"),
    [
        ({}, "say where"),
        ({"latitude": 1}, "or neither"),
        ({"latitude": 91, "longitude": 0}, "beyond 90"),
        ({"box": "1,2,3"}, "south,west,north,east"),
        ({"box": "3,2,1,4"}, "north is south"),
        ({"box": "1,2,3,x"}, "degrees"),
        ({"box": "1,2,3,4", "radius_m": 5}, "give them too"),
        ({"latitude": 1, "longitude": 1, "radius_m": 200_001}, "200000"),
        ({"latitude": 1, "longitude": 1, "text": "a b c d e f g h i"}, "8 words"),
        ({"latitude": 1, "longitude": 1, "text": "?!_"}, "text has no word: write letters or digits"),
        ({"latitude": 1, "longitude": 1, "cursor": "x"}, "cursor"),
        ({"latitude": 1, "longitude": 1, "plug": "CCS"}, "IEC_62196_T2_COMBO"),
        ({"latitude": 1, "longitude": 1, "sort": "name"}, "price"),
    ],
)
async def test_a_question_that_has_no_answer_is_refused_with_the_reason(
    stations: StationsApp, params: dict[str, Any], says: str
) -> None:
    assert says in (await stations.ask("GET", "/search", 422, **params))["detail"]


async def test_what_is_computed_ahead_goes_on(stations: StationsApp, bus: InProcessBus) -> None:
    """Opening hours and prices are of the moment, weeks after the station was changed."""
    hours = {
        "twentyfourseven": False,
        "regular_hours": [{"weekday": 3, "period_begin": "08:00", "period_end": "24:00"}],
    }
    facts = {"latitude": 52.5, "longitude": 13.4, "time_zone": "UTC", "opening_hours": hours}
    await stations.ask("PUT", "/A", 201, {**facts, "connectors": [{"connector_id": 1}]})
    await bus.publish(price_event("default", "", Decimal("0.30")))
    for day in range(40):
        await stations.service.run_jobs()
        one = (await stations.ask("GET", "/search", 200, latitude=52.5, longitude=13.4))["stations"][0]
        assert one["open"] == ((NOW + timedelta(days=day)).isoweekday() == 3)
        assert Decimal(one["price_10_kwh"]["amount"]) == Decimal("3.6")
        stations.clock.advance(24 * 3_600)


async def test_stations_that_were_registered_before_are_found(stations: StationsApp) -> None:
    place = "(station_id, latitude_udeg, longitude_udeg, changed_at) VALUES ('A', 1, 1, now())"
    async with stations.service.database.transaction() as connection:
        await connection.execute(f"INSERT INTO stations.station {place}")
        await connection.execute("INSERT INTO stations.connector VALUES ('A', 1, NULL, NULL, NULL, NULL, NULL, now())")
    await stations.service.run_jobs()
    found = await stations.ask("GET", "/search", 200, latitude=0, longitude=0.1, radius_m=20_000)
    assert [one["station_id"] for one in found["stations"]] == ["A"]
