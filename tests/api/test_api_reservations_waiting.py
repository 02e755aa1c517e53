"""Waiting lists: nobody is overtaken by somebody later, except by their own skip; and what drivers see of it."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import hypothesis.strategies as st
import pytest
from hypothesis import given

from api.reservations.life.rule import Place
from api.reservations.waiting.models import Waiting, WaitingLine
from api.reservations.waiting.rule import SiteConnector, WaitingDriver, estimated_waits, offers
from tests.api.reservations_app import CCS, TYPE2, Reservations, connector, running_reservations, station

T0 = datetime(2026, 3, 29, 9, 0, tzinfo=UTC)
OFFER, CHARGE, BUFFER = timedelta(minutes=5), timedelta(minutes=30), timedelta(minutes=5)


@dataclass
class Site:
    """A site of connectors on simulated time, with drivers who join, are offered, take, skip, ignore and leave."""

    connectors: int
    now: datetime = T0
    line: list[WaitingDriver] = field(default_factory=list)
    busy: dict[int, datetime] = field(default_factory=dict)  # by connector: free again at
    offered: dict[int, tuple[int, datetime]] = field(default_factory=dict)  # by driver: connector, lapses at
    served: list[int] = field(default_factory=list)  # drivers in the order in which they took a connector
    first_offers: list[int] = field(default_factory=list)
    skipped: set[int] = field(default_factory=set)
    joined: int = 0

    def join(self, standard: str = CCS) -> None:
        self.joined += 1
        self.line.append(WaitingDriver(uuid4(), self.joined, f"D{self.joined}", standard, 0, CHARGE))

    def pass_time(self, minutes: int) -> None:
        self.now += timedelta(minutes=minutes)
        self.busy = {number: until for number, until in self.busy.items() if until > self.now}
        for driver, (number, lapses) in list(self.offered.items()):
            if lapses <= self.now:
                self.end_offer(driver)
                self.busy.pop(number, None)
                self.line = [one for one in self.line if one.number != driver]

    def end_offer(self, driver: int) -> int:
        number, _ = self.offered.pop(driver)
        self.line = [replace(one, offered=False) if one.number == driver else one for one in self.line]
        return number

    def take(self, driver: int) -> None:
        number = self.end_offer(driver)
        self.busy[number] = self.now + CHARGE
        self.served.append(driver)
        self.line = [one for one in self.line if one.number != driver]

    def skip(self, driver: int) -> None:
        if driver in self.offered:
            self.busy.pop(self.end_offer(driver), None)
        self.skipped.add(driver)
        until = self.now + OFFER
        self.line = [replace(one, skipped_until=until) if one.number == driver else one for one in self.line]

    def offer(self) -> None:
        free = [
            SiteConnector(Place(number, "ST", number, None), CCS, 0, self.busy.get(number, T0), None)
            for number in range(1, self.connectors + 1)
        ]
        before = self.line
        for driver, one in offers(self.line, free, self.now, BUFFER):
            assert one.place.key not in self.busy
            assert driver.skipped_until is None or driver.skipped_until <= self.now, "others first: they skipped"
            self.offered[driver.number] = (one.place.key, self.now + OFFER)
            self.busy[one.place.key] = self.now + OFFER
            self.line = [replace(w, offered=True) if w.number == driver.number else w for w in self.line]
            if driver.number not in self.first_offers:
                self.first_offers.append(driver.number)
        latest = max((w.number for w in self.line if w.offered and w not in before), default=0)
        passed = [w for w in self.line if w.number < latest and w.is_next(self.now)]
        assert not passed, "somebody later was offered what they would have taken"


ACTIONS = st.lists(
    st.tuples(st.sampled_from(["join", "take", "skip", "leave", "pass", "pass"]), st.integers(0, 40)), max_size=60
)


@given(connectors=st.integers(1, 3), actions=ACTIONS)
def test_nobody_is_overtaken_by_somebody_later_except_by_their_own_skip(
    connectors: int, actions: list[tuple[str, int]]
) -> None:
    site = Site(connectors)
    for what, number in actions:
        numbers = [one.number for one in site.line]
        one = numbers[number % len(numbers)] if numbers else None
        if what == "join":
            site.join()
        elif what == "pass":
            site.pass_time(number)
        elif what == "take" and one in site.offered:
            assert one is not None
            site.take(one)
        elif what == "skip" and one is not None:
            site.skip(one)
        elif what == "leave" and one is not None:
            if one in site.offered:
                site.busy.pop(site.end_offer(one), None)
            site.line = [left for left in site.line if left.number != one]
        site.offer()
    patient = [number for number in site.first_offers if number not in site.skipped]
    assert patient == sorted(patient)


@given(connectors=st.integers(1, 3), drivers=st.integers(1, 8), skipper=st.integers(1, 8))
def test_everyone_who_stays_is_served_and_a_skipper_is_served_before_later_ones_of_the_next_round(
    connectors: int, drivers: int, skipper: int
) -> None:
    site = Site(connectors)
    for _ in range(drivers):
        site.join()
    if skipper <= drivers:
        site.skip(skipper)
    for _ in range(200):
        site.offer()
        for driver in list(site.offered):
            site.take(driver)
        site.pass_time(5)
    assert sorted(site.served) == list(range(1, drivers + 1))
    behind = [number for number in site.served if number > skipper]
    overtakers = site.served.index(skipper) - len([n for n in site.served if n < skipper]) if skipper <= drivers else 0
    assert overtakers <= connectors, "a skip lets one round of others pass"
    assert behind == sorted(behind)


STANDARDS = st.sampled_from([CCS, TYPE2])


@given(
    line=st.lists(st.tuples(STANDARDS, st.integers(0, 2), st.integers(5, 90), st.booleans()), max_size=10),
    connectors=st.lists(st.tuples(STANDARDS, st.integers(0, 2), st.integers(-30, 90)), max_size=6),
)
def test_waits_are_known_of_whom_something_suits_and_rise_along_the_line_of_one_plug(
    line: list[tuple[str, int, int, bool]], connectors: list[tuple[str, int, int]]
) -> None:
    drivers = [
        WaitingDriver(UUID(int=n), n, f"D{n}", standard, power, timedelta(minutes=minutes), offered)
        for n, (standard, power, minutes, offered) in enumerate(line)
    ]
    site = [
        SiteConnector(Place(n, "ST", n, None), standard, power, T0 + timedelta(minutes=minutes), None)
        for n, (standard, power, minutes) in enumerate(connectors)
    ]
    waits = estimated_waits(drivers, site, T0)
    for driver in drivers:
        wait = waits[driver.id]
        suits = any(one.suits(driver) for one in site)
        assert (wait is not None) == (suits or driver.offered)
        if wait is None or driver.offered:
            continue
        assert wait >= timedelta()
        earlier = [
            waits[other.id]
            for other in drivers
            if other.number < driver.number
            and not other.offered
            and (other.standard, other.power_w_min) == (driver.standard, driver.power_w_min)
        ]
        assert all(one is not None and one <= wait for one in earlier)


@given(lengths=st.lists(st.integers(5, 90), min_size=1, max_size=8), free_in=st.integers(0, 60))
def test_at_one_connector_a_driver_waits_for_all_before(lengths: list[int], free_in: int) -> None:
    drivers = [
        WaitingDriver(UUID(int=n), n, f"D{n}", CCS, 0, timedelta(minutes=minutes)) for n, minutes in enumerate(lengths)
    ]
    only = SiteConnector(Place(1, "ST", 1, None), CCS, 0, T0 + timedelta(minutes=free_in), None)
    waits = estimated_waits(drivers, [only], T0)
    expected = [timedelta(minutes=free_in + sum(lengths[:n])) for n in range(len(lengths))]
    assert [waits[driver.id] for driver in drivers] == expected


# -- Over HTTP.


@pytest.fixture
async def street(database_url: str) -> AsyncIterator[Reservations]:
    """The service, with a site of one fast connector and one slow."""
    async with running_reservations(database_url) as running:
        await running.register(station(connectors=[connector(1), connector(2, TYPE2)]))
        yield running
        running.check()


async def join(street: Reservations, who: str, status: int = 201, **more: Any) -> Any:
    body = {"site": "Nord", "standard": CCS, "duration_s": 1_800, **more}
    return await street.ask(who, "POST", "/waiting", status, json=body)


async def test_the_line_is_served_in_order_offers_lapse_and_a_skip_keeps_the_place(street: Reservations) -> None:
    session = await street.begin(1)
    line = [await join(street, f"D{number}") for number in range(1, 5)]
    for number, one in enumerate(line, 1):
        Waiting.model_validate(one)
        assert (one["state"], one["position"], one["offer"]) == ("waiting", number, None)
        assert one["estimated_wait_s"] == 2_700 + 1_800 * (number - 1)
    assert "waits at site Nord already" in (await join(street, "D1", 409))["detail"]
    await street.end(session)
    assert "4 drivers wait" in (await street.reserve("D9", 409, starts_at=None))["detail"]
    await street.pass_time(seconds=2)
    first = await street.ask("D1", "GET", f"/waiting/{line[0]['id']}")
    assert (first["state"], first["offer"]["state"], first["estimated_wait_s"]) == ("offered", "held", 0)
    skipped = await street.ask("D1", "POST", f"/waiting/{line[0]['id']}/skip")
    assert (skipped["state"], skipped["position"], skipped["skipped_until"]) == ("waiting", 1, "2026-03-29T09:05:02Z")
    await street.pass_time(seconds=2)
    second = await street.ask("D2", "GET", f"/waiting/{line[1]['id']}")
    assert second["state"] == "offered"
    await street.pass_time(seconds=301)  # it lapses, and the skipper is first again
    await street.pass_time(seconds=0)
    assert (await street.ask("D2", "GET", f"/waiting/{line[1]['id']}"))["state"] == "lapsed"
    taken = await street.ask("D1", "POST", f"/waiting/{line[0]['id']}/accept")
    assert (taken["state"], taken["offer"]["state"], taken["position"]) == ("accepted", "confirmed", None)
    assert (await street.ask("D1", "POST", f"/waiting/{line[0]['id']}/accept"))["state"] == "accepted"
    page = await street.ask("", "GET", "/waiting", params={"site": "Nord"})
    WaitingLine.model_validate(page)
    assert [one["driver_id"] for one in page["waiting"]] == ["D3", "D4"]
    for _ in range(2):
        assert (await street.ask("D3", "DELETE", f"/waiting/{line[2]['id']}"))["state"] == "left"
    await street.ask("D3", "POST", f"/waiting/{line[2]['id']}/skip", 409)
    await street.ask("D2", "DELETE", f"/waiting/{line[1]['id']}", 409)
    await street.ask("", "GET", "/waiting", 422)
    assert [one["state"] for one in (await street.ask("D4", "GET", "/waiting"))["waiting"]] == ["waiting"]
    await street.ask("D4", "POST", f"/waiting/{line[3]['id']}/accept", 409)
    await street.ask("D3", "GET", f"/waiting/{line[3]['id']}", 404)


async def test_what_is_free_is_offered_at_once_and_only_to_whom_it_suits(street: Reservations) -> None:
    offered = await join(street, "D1")
    assert (offered["state"], offered["offer"]["connector_id"]) == ("offered", 1)
    waits = await join(street, "D2")
    slow = await join(street, "D3", standard=TYPE2)
    assert (waits["state"], slow["state"], slow["offer"]["connector_id"]) == ("waiting", "offered", 2)
    await join(street, "D4", 404, standard="CHADEMO")
    await join(street, "D4", 404, power_w_min=200_000)
    assert street.published() == [("created", "held"), ("created", "held")]


async def test_an_offer_whose_connector_is_lost_leaves_the_driver_first(street: Reservations) -> None:
    offered = await join(street, "D1")
    later = await join(street, "D2")
    await street.status(1, "Faulted", 1)
    await street.status(1, "Available", 2)
    await street.pass_time(seconds=2)
    again = await street.ask("D1", "GET", f"/waiting/{offered['id']}")
    assert (again["state"], again["position"]) == ("offered", 1)
    assert again["offer"]["id"] != offered["offer"]["id"]
    assert (await street.ask("D2", "GET", f"/waiting/{later['id']}"))["state"] == "waiting"


async def test_of_drivers_who_join_and_jobs_that_run_at_once_one_connector_is_offered_once(
    street: Reservations,
) -> None:
    session = await street.begin(1)
    joined = await asyncio.gather(*(join(street, f"D{number}") for number in range(12)))
    assert sorted(one["position"] for one in joined) == list(range(1, 13))
    await street.end(session)
    await asyncio.gather(*(street.service.components.waiting.offer_all() for _ in range(4)))
    line = (await street.ask("", "GET", "/waiting", params={"site": "Nord"}))["waiting"]
    assert [one["state"] for one in line] == ["offered", *["waiting"] * 11]
    first = min(joined, key=lambda one: one["position"])
    assert line[0]["id"] == first["id"]
