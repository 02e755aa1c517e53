"""Occupied without charging: what statuses say of connectors and bays, and the fee that is shown before it begins."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import hypothesis.strategies as st
import pytest
from hypothesis import given

from api.reservations.parking import store as parking_store
from api.reservations.parking.models import StationParking, UnregisteredBayPage
from api.reservations.parking.rule import CHARGING, IDLE, ConnectorStatus, Limits, Overstay, Sensor, parking_of
from api.reservations.parking.service import watch_of
from api.reservations.parking.stay import Stay
from api.reservations.parking.store import Watch
from api.reservations.places.store import UNKNOWN_BAYS_MAX
from api.reservations.reserving.models import ReservationDetails
from schemas.events import BayOccupancyChanged
from schemas.topics import BAY_OCCUPANCY_CHANGED, SESSION_STARTED, STATION_REMOVED
from tests.api.reservations_app import (
    Reservations,
    bay,
    occupancy,
    publish_tariff,
    running_reservations,
    started,
    station,
)

T0 = datetime(2026, 3, 29, 9, 0, tzinfo=UTC)
GRACE = timedelta(minutes=10)
STATUSES = st.one_of(
    st.builds(
        lambda status, minutes: ConnectorStatus(status, T0 - timedelta(minutes=minutes)),
        st.sampled_from(sorted(IDLE)),
        st.integers(0, 30),
    ),
    st.sampled_from([*sorted(CHARGING), "Available", "Faulted", None]).map(lambda one: ConnectorStatus(one, None)),
)


@given(st.lists(STATUSES, max_size=4))
def test_nobody_overstays_who_charges_and_everybody_does_who_has_stood_longer_than_the_grace(
    connectors: list[ConnectorStatus],
) -> None:
    found = parking_of(connectors, Limits(GRACE), T0)
    known = [one.status for one in connectors if one.status is not None]
    assert (found.occupied is None) == (not known)
    assert found.charging == any(one in CHARGING for one in known)
    idle = [one.idle_since for one in connectors if one.idle_since is not None]
    stands = bool(idle) and not found.charging
    assert found.idle_since == (max(idle) if stands else None)
    assert found.overstays == (stands and T0 - max(idle) >= GRACE)
    assert not found.overstays or found.occupied


@pytest.fixture
async def street(database_url: str) -> AsyncIterator[Reservations]:
    """The service, with a station of two connectors in two bays, and one that none reaches."""
    async with running_reservations(database_url) as running:
        await running.register(station(bays=[bay("B1", 1), bay("B2", 2), bay("B3")]))
        yield running


async def parking(street: Reservations, who: str = "D1") -> dict[Any, Any]:
    found = await street.ask(who, "GET", "/parking/st-1")
    StationParking.model_validate(found)
    return {one["bay"] or one["connector_id"]: one for one in found["places"]}


async def test_a_vehicle_that_stays_after_charging_overstays_after_the_grace(street: Reservations) -> None:
    places = await parking(street)
    assert list(places) == [1, 2, "B1", "B2", "B3"]
    assert {one["occupied"] for one in places.values()} == {None}
    await street.status(1, "Charging", 1)
    await street.status(2, "Available", 1)
    places = await parking(street)
    assert (places["B1"]["occupied"], places["B1"]["charging"], places["B2"]["occupied"]) == (True, True, False)
    await street.status(1, "SuspendedEV", 2)
    street.clock.advance(300)
    await street.status(1, "Finishing", 3)  # it stands since it stopped charging
    for place in (1, "B1"):
        one = (await parking(street))[place]
        assert (one["idle_since"], one["overstay_from"]) == ("2026-03-29T09:00:00Z", "2026-03-29T09:10:00Z")
        assert (one["charging"], one["overstays"]) == (False, False)
    street.clock.advance(300)
    assert (await parking(street))["B1"]["overstays"] is True
    await street.status(1, "Finishing", 2)  # an older one
    await street.status(1, "Available", 4)
    assert (await parking(street, ""))["B1"]["occupied"] is False
    await street.ask("", "GET", "/parking/ST-9", 404)


async def test_the_fee_for_standing_is_shown_before_it_begins(street: Reservations) -> None:
    assert (await street.ask("D1", "GET", "/parking/ST-1"))["idle_fee"] is None
    publish_tariff(street)
    await street.status(1, "Charging", 1)
    fee = (await street.ask("D1", "GET", "/parking/ST-1"))["idle_fee"]
    assert fee == {"price_per_hour": "6.00", "vat_percent": "19", "currency": "EUR", "depends": False}


MOMENTS = st.one_of(st.none(), st.integers(-90, 0).map(lambda minutes: T0 + timedelta(minutes=minutes)))
SENSORS = st.builds(Sensor, st.booleans(), MOMENTS.filter(lambda one: one is not None))
ANY_STATUS = st.builds(
    ConnectorStatus, st.sampled_from([*sorted(CHARGING | IDLE), "Available", "Silent", None]), MOMENTS, MOMENTS, MOMENTS
)
LIMITS = st.builds(
    Limits,
    st.just(GRACE),
    st.one_of(st.none(), st.integers(1, 60).map(lambda minutes: timedelta(minutes=minutes))),
    MOMENTS,
)


@given(st.lists(ANY_STATUS, max_size=3), SENSORS, LIMITS)
def test_a_vehicle_overstays_after_the_first_moment_at_which_it_should_have_left(
    connectors: list[ConnectorStatus], sensor: Sensor, limits: Limits
) -> None:
    found = parking_of(connectors, limits, T0, sensor)
    assert found.occupied == sensor.occupied
    if not sensor.occupied:
        assert (found.charging, found.overstay_from, found.overstays) == (False, None, False)
        return
    should_leave = [limits.reserved_until] if limits.reserved_until is not None else []
    should_leave += [sensor.since + limits.time_limit] if limits.time_limit is not None else []
    if connectors and found.idle_since is not None:
        assert not found.charging
        assert found.idle_since >= sensor.since
        should_leave.append(found.idle_since)
    assert found.overstay_from == (min(should_leave) + GRACE if should_leave else None)
    assert found.overstays == (found.overstay_from is not None and found.overstay_from <= T0)
    assert (found.reason is None) == (found.overstay_from is None)
    silent = any(one.status in (None, "Silent") for one in connectors)
    assert not (silent and found.reason is Overstay.CHARGING), "who may be charging is not idle"


@given(st.lists(st.integers(0, 60), min_size=1, max_size=8), st.integers(0, 20))
def test_of_one_stay_one_overstay_is_told_whenever_one_looks_and_whatever_moves(looks: list[int], moved: int) -> None:
    """`moved`: a late event moves the end of charging by a little, before or after the overstay was told."""
    watch, told = Watch(), []
    for number, minute in enumerate(sorted(looks)):
        now = T0 + timedelta(minutes=minute)
        idle_since = T0 - timedelta(minutes=5) + timedelta(seconds=moved * (number % 2))
        idle = ConnectorStatus("Finishing", idle_since, idle_since - timedelta(hours=1), idle_since)
        stay = Stay(None, True, parking_of([idle], Limits(GRACE), now), watched=True)  # type: ignore[arg-type]  # unused
        after = watch_of(stay, watch, now)
        if after.told_at != watch.told_at:
            told.append(now)
            assert stay.parking.overstays
        assert after.due_at is None or after.due_at > now
        watch = after
    late = [minute for number, minute in enumerate(sorted(looks)) if minute * 60 >= 300 + moved * (number % 2)]
    assert told == [T0 + timedelta(minutes=minute) for minute in late[:1]]


# -- sensors ----------------------------------------------------------------------------------------------------------


def overstays(street: Reservations) -> list[dict[str, Any]]:
    return [payload for type_, payload in street.events() if type_ == "parking.overstayed.v1"]


async def test_a_sensor_tells_of_a_bay_that_no_connector_reaches_and_of_one_that_nobody_registered(
    street: Reservations,
) -> None:
    await street.sense("B3", 1, occupied=True)
    await street.sense("X9", 2, occupied=True)
    await street.sense("B3", 0, occupied=False)  # an older one
    places = await parking(street)
    assert list(places) == [1, 2, "B1", "B2", "B3", "X9"]
    assert {name: (one["registered"], one["occupied"], one["overstays"]) for name, one in places.items()} == {
        **dict.fromkeys((1, 2, "B1", "B2"), (True, None, False)),
        "B3": (True, True, False),
        "X9": (False, True, False),
    }
    assert (places["B3"]["since"], places["B3"]["overstay_from"]) == ("2026-03-29T09:00:00Z", None)
    await street.register(station(revision=2, bays=[bay("B1", 1), bay("X9", time_limit_s=3_600)]))
    places = await parking(street)
    assert (places["X9"]["registered"], places["X9"]["overstay_from"]) == (True, "2026-03-29T10:10:00Z")
    assert (places["X9"]["reason"], places["B3"]["registered"]) == ("time_limit", False)  # it is still heard of
    await street.sense("B3", 3, occupied=False)
    assert (await parking(street))["B3"]["occupied"] is False
    await street.sense("Z1", 3, occupied=True)
    pages = [await street.ask("", "GET", "/parking?limit=1")]
    while pages[-1]["next"]:
        pages.append((await street.client.get(pages[-1]["next"], headers=street.operator())).json())
    found = [UnregisteredBayPage.model_validate(page).bays for page in pages]
    assert [(one.bay, one.occupied) for (one,) in found] == [("B3", False), ("Z1", True)]
    await street.sense("Y1", 1, occupied=True, station_id="ST-7")
    assert [one["bay"] for one in (await street.ask("", "GET", "/parking/ST-7"))["places"]] == ["Y1"]


async def test_a_device_cannot_name_any_number_of_bays(street: Reservations) -> None:
    changes = [occupancy(f"X{n}", 1, occupied=True, since=T0) for n in range(UNKNOWN_BAYS_MAX + 9)]
    await street.deliver(BAY_OCCUPANCY_CHANGED, BayOccupancyChanged(changes=changes))
    await street.sense("one more", 2, occupied=True)
    await street.sense("B3", 3, occupied=True)
    places = await parking(street)
    assert len(places) == 5 + UNKNOWN_BAYS_MAX
    assert places["B3"]["occupied"] is True


async def test_a_vehicle_in_a_bay_is_idle_since_it_came_or_stopped_charging(street: Reservations) -> None:
    await street.status(1, "Available", 1)
    street.clock.advance(600)
    await street.sense("B1", 1, occupied=True)
    one = (await parking(street))["B1"]
    assert (one["idle_since"], one["overstay_from"]) == ("2026-03-29T09:10:00Z", "2026-03-29T09:20:00Z")
    street.clock.advance(60)
    await street.status(1, "Charging", 2, since=street.clock.now())
    one = (await parking(street))["B1"]
    assert (one["charging"], one["idle_since"], one["overstay_from"]) == (True, None, None)
    street.clock.advance(1_800)
    await street.status(1, "Available", 3, since=street.clock.now())  # unplugged, and it stays
    one = (await parking(street))["B1"]
    assert (one["occupied"], one["charging"], one["idle_since"]) == (True, False, "2026-03-29T09:41:00Z")
    await street.status(1, "Silent", 4, since=street.clock.now())
    assert (await parking(street))["B1"]["idle_since"] is None  # nobody knows whether it charges
    await street.pass_time(minutes=30)
    assert overstays(street) == []
    await street.status(1, "Available", 5, since=street.clock.now())
    assert [one["idle_since"] for one in overstays(street)] == ["2026-03-29T09:41:00.000Z"]


# -- overstays --------------------------------------------------------------------------------------------------------


async def test_an_overstay_is_told_once_to_the_driver_of_the_session_with_the_fee(street: Reservations) -> None:
    publish_tariff(street)
    await street.status(1, "Charging", 1)
    session = await street.begin()
    await street.assign(session, "D1")
    await street.pass_time(minutes=30)
    await street.status(1, "Finishing", 2, since=street.clock.now())
    await street.pass_time(minutes=9)
    assert overstays(street) == []
    for _ in range(3):
        await street.pass_time(minutes=1)
    await street.status(1, "SuspendedEV", 3)  # a late change of what was told changes nothing
    await street.end(session)
    await street.pass_time(minutes=60)
    assert overstays(street) == [
        {
            "station_id": "ST-1",
            "connector_id": None,
            "bay": "B1",  # not of its connector, too
            "driver_id": "D1",
            "session_id": str(session),
            "reason": "charging",
            "since": "2026-03-29T09:00:00.000Z",
            "idle_since": "2026-03-29T09:30:00.000Z",
            "overstay_from": "2026-03-29T09:40:00.000Z",
            "fee_per_hour": "6.00",
            "currency": "EUR",
        }
    ]
    await street.status(1, "Charging", 4, since=street.clock.now())  # the vehicle, or the next one
    await street.status(1, "Finishing", 5, since=street.clock.now())
    await street.pass_time(minutes=10)
    assert len(overstays(street)) == 2
    assert overstays(street)[1]["driver_id"] == "D1"


async def test_of_a_vehicle_that_nobody_knows_an_overstay_has_no_driver(street: Reservations) -> None:
    await street.register(station(revision=2, bays=[bay("B1", 1), bay("B3", time_limit_s=600)]))
    await street.sense("B3", 1, occupied=True)
    await street.pass_time(minutes=19)
    assert overstays(street) == []
    await street.pass_time(minutes=1)
    (one,) = overstays(street)
    assert (one["bay"], one["driver_id"], one["reason"]) == ("B3", None, "time_limit")
    assert (one["fee_per_hour"], one["idle_since"]) == (None, "2026-03-29T09:00:00.000Z")
    await street.sense("B3", 2, occupied=False)
    street.clock.advance(1)
    await street.sense("B3", 3, occupied=True)  # another vehicle
    await street.pass_time(minutes=20)
    assert len(overstays(street)) == 2


async def test_who_stays_after_the_reservation_overstays_even_while_charging(street: Reservations) -> None:
    publish_tariff(street)
    made = await street.reserve("D1", starts_at=None, duration_s=1_800)
    assert (await street.get(made["id"]))["stay"] is None
    request, *_ = await street.start("D1")
    await street.status(1, "Charging", 1)
    session = await street.begin(name=str(request))
    details = await street.ask("D1", "GET", f"/{made['id']}")
    ReservationDetails.model_validate(details)
    assert details["idle_fee"] == {"price_per_hour": "6.00", "vat_percent": "19", "currency": "EUR", "depends": False}
    assert details["stay"] == {
        "since": "2026-03-29T09:00:00Z",
        "charging": True,
        "idle_since": None,
        "overstay_from": "2026-03-29T09:40:00Z",
        "reason": "reservation",
        "overstays": False,
    }
    await street.pass_time(minutes=40)
    (one,) = overstays(street)
    assert (one["driver_id"], one["session_id"], one["reason"]) == ("D1", str(session), "reservation")
    await street.status(1, "Finishing", 2, since=street.clock.now())
    await street.pass_time(minutes=60)
    assert len(overstays(street)) == 1  # of the same stay
    await street.status(1, "Available", 3, since=street.clock.now())
    assert (await street.get(made["id"]))["stay"] is None


@pytest.mark.parametrize("order", list(itertools.permutations(range(4)))[::5])
async def test_events_in_any_order_tell_of_the_same_overstay(street: Reservations, order: tuple[int, ...]) -> None:
    session = uuid4()

    async def assigned() -> None:
        await street.assign(session, "D1")

    async def began() -> None:
        await street.deliver(SESSION_STARTED, started(session, "ST-1", 1, T0))

    async def stood() -> None:
        await street.sense("B1", 1, occupied=True, since=T0)

    async def stopped() -> None:
        await street.status(1, "Finishing", 7, since=T0 + timedelta(minutes=20))

    street.clock.advance(1_200)
    for number in order:
        await (assigned, began, stood, stopped)[number]()
    await street.pass_time(minutes=11)
    (one,) = overstays(street)
    assert (one["bay"], one["driver_id"], one["overstay_from"]) == ("B1", "D1", "2026-03-29T09:30:00.000Z")


async def test_a_look_that_fails_midway_tells_nothing_and_the_next_one_does(
    street: Reservations, monkeypatch: pytest.MonkeyPatch
) -> None:
    await street.status(1, "Finishing", 1)
    put = parking_store.put_watches

    async def failing(*_: Any) -> None:
        raise RuntimeError("the process dies here")

    monkeypatch.setattr(parking_store, "put_watches", failing)
    street.clock.advance(1_200)
    with pytest.raises(RuntimeError):
        await street.service.components.parking.tell_overstays()
    assert overstays(street) == []
    monkeypatch.setattr(parking_store, "put_watches", put)
    service = street.service.components.parking
    await asyncio.gather(*(service.tell_overstays() for _ in range(4)))
    assert len(overstays(street)) == 1


async def test_at_a_station_that_is_removed_no_overstay_is_due_any_more(street: Reservations) -> None:
    await street.status(1, "Finishing", 1)
    due = "SELECT count(*) FROM reservations.stay WHERE due_at IS NOT NULL"
    assert street.rows(due) == [(1,)]
    await street.deliver(STATION_REMOVED, station(revision=3))
    await street.pass_time(minutes=30)
    assert street.rows(due) == [(0,)]
    assert overstays(street) == []
