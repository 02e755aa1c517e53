"""What sessions, faults and the registry do to reservations, each event delivered twice, and in any order."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from api.reservations.parking.service import ParkingService
from api.reservations.sessions.events import SessionEvents
from kit.clock import format_rfc3339
from kit.messaging.bus import Bus, InProcessBus
from kit.messaging.rabbit_bus import RabbitBus
from schemas.events import BayOccupancyChanged
from schemas.topics import (
    BAY_OCCUPANCY_CHANGED,
    PARKING_OVERSTAYED,
    SESSION_ASSIGNED,
    SESSION_COMPLETED,
    SESSION_STARTED,
    STATION_REMOVED,
    STATION_STATUS_CHANGED,
)
from tests.api.reservations_app import (
    NOW,
    POLICY,
    TYPE2,
    Reservations,
    assignment,
    bay,
    completed,
    connector,
    message,
    occupancy,
    publish_tariff,
    running_reservations,
    started,
    station,
    status,
)
from tests.waiting import eventually


@pytest.fixture
async def street(database_url: str) -> AsyncIterator[Reservations]:
    """The service, with a station of two connectors and a tariff."""
    async with running_reservations(database_url) as running:
        await running.register()
        publish_tariff(running)
        yield running
        running.check()


def fees(street: Reservations) -> list[tuple[bool, str]]:
    """Whether expired, and the end, of what billing is to charge."""
    paid = [payload for type_, payload in street.events() if type_ == "reservation.confirmed.v1"]
    return [(payload["expired"], payload["ends_at"]) for payload in paid]


async def test_a_driver_comes_charges_and_the_connector_is_free_again(street: Reservations) -> None:
    made = await street.reserve("D1")
    await street.pass_time(minutes=62)
    assert (await street.get(made["id"]))["state"] == "active"
    request, reservation_id, refused = await street.start("D1")
    assert (reservation_id, refused) == (made["id"], None)
    street.clock.advance(60)
    session = await street.begin(name=str(request))
    used = await street.get(made["id"])
    assert (used["state"], used["session_id"], used["charged"]) == ("used", str(session), True)
    assert fees(street) == [(False, "2026-03-29T10:03:00.000Z")]
    await street.reserve("D2", 409, starts_at=None)  # until 11:00 it is the session's
    await street.end(session)
    assert (await street.reserve("D2", starts_at=None))["state"] == "confirmed"
    assert street.published() == [
        ("created", "confirmed"),
        ("created", "active"),
        ("confirmed", ""),
        ("created", "confirmed"),
    ]


@pytest.mark.parametrize("early_s", [240, 600])
async def test_a_driver_who_comes_early_uses_the_reservation_and_pays_no_time(
    street: Reservations, early_s: int
) -> None:
    made = await street.reserve("D1")
    await street.pass_time(seconds=3_600 - early_s)
    request, reservation_id, _ = await street.start("D1")
    assert reservation_id == made["id"]
    await street.begin(name=str(request))
    assert (await street.get(made["id"]))["state"] == "used"
    assert fees(street) == [(False, "2026-03-29T10:00:00.000Z")]


async def test_a_driver_who_does_not_come_is_a_no_show_and_late_events_change_nothing(street: Reservations) -> None:
    made = await street.reserve("D1")
    await street.pass_time(minutes=75)
    assert (await street.get(made["id"]))["state"] == "active"  # its session's event may be on its way
    await street.pass_time(minutes=1)
    assert (await street.get(made["id"]))["state"] == "no-show"
    assert fees(street) == [(True, "2026-03-29T10:15:00.000Z")]
    published = street.published()
    assert published[-1] == ("no_show", "no-show")
    await street.reserve("D2", starts_at=None)
    await street.deliver(SESSION_STARTED, started(uuid4(), "ST-1", 2, NOW + timedelta(minutes=61)))
    await street.pass_time(minutes=1)
    assert street.published() == [*published, ("created", "confirmed"), ("created", "active")]


async def test_while_the_station_is_asked_to_start_nobody_is_a_no_show(street: Reservations) -> None:
    made = await street.reserve("D1")
    await street.pass_time(minutes=74)
    request, _, _ = await street.start("D1")
    await street.pass_time(minutes=10)
    assert (await street.get(made["id"]))["state"] == "active"
    await street.begin(name=str(request))
    assert (await street.get(made["id"]))["state"] == "used"


async def test_a_start_at_a_connector_that_is_anothers_is_refused_with_the_reason(street: Reservations) -> None:
    made = await street.reserve("D1")
    _, reservation_id, refused = await street.start("D2")
    assert (reservation_id, refused) == (None, None)  # an hour before
    street.clock.advance(2_700)
    for named in (None, "R-of-another-system"):
        _, _, refused = await street.start("D2", reservation=named)
        assert refused == (
            "connector 1 of station ST-1 is reserved for another driver from 2026-03-29T10:00:00Z "
            "to 2026-03-29T11:00:00Z; choose another"
        )
    assert "no reservation" in (await street.start("D2", reservation=made["id"]))[2]
    assert (await street.start("D1", reservation="R-of-another-system"))[1:] == (
        None,
        "there is no reservation R-of-another-system of this driver, who has connector 1 of station ST-1 reserved as "
        f"{made['id']}: give that one, or none",
    )
    assert "is for connector 1" in (await street.start("D1", 2, reservation=made["id"].upper()))[2]
    assert (await street.start("D1", 2, reservation="R-1"))[1:] == ("R-1", None)
    await street.ask("D1", "DELETE", f"/{made['id']}")
    assert "is over: it is cancelled" in (await street.start("D1", reservation=made["id"]))[2]
    assert (await street.start("D2"))[2] is None


async def test_a_start_request_is_a_claim_and_a_connector_is_reserved_around_it(street: Reservations) -> None:
    await street.start("D2")
    await street.reserve("D1", 409, starts_at=None)
    soon = format_rfc3339(street.clock.now() + timedelta(minutes=20))
    await street.reserve("D1", starts_at=soon)
    await street.start("D3", 2)
    await street.start("D4", 2)  # the sessions service has made sure that the request before is over
    await street.pass_time(minutes=80)
    street.rows("SELECT count(*) FROM reservations.claim WHERE kind = 'start'")
    assert street.rows("SELECT count(*) FROM reservations.claim WHERE kind = 'start'") == [(0,)]


async def test_a_session_of_somebody_else_moves_the_reservation_to_a_sibling_or_releases_it(
    street: Reservations,
) -> None:
    await street.register(station("ST-2", connectors=[connector(1), connector(2, TYPE2)]))
    made = [await street.reserve(f"D{number}", connector_id=number) for number in (1, 2)]
    await street.pass_time(minutes=61)
    await street.begin(1)
    moved = await street.get(made[0]["id"])
    assert (moved["station_id"], moved["connector_id"], moved["moved_from"]) == ("ST-2", 1, "ST-1")
    assert "another vehicle is charging there; you have connector 1 of station ST-2" in moved["reason"]
    assert (moved["state"], moved["starts_at"], moved["revision"]) == ("active", made[0]["starts_at"], 3)
    told = [payload for _, payload in street.events() if payload["reservation_id"] == moved["id"]]
    assert [payload["moved_from"] for payload in told] == [None, None, "ST-1"], "only the change that moved it"
    await street.begin(2)
    released = await street.get(made[1]["id"])
    assert (released["state"], released["charged"]) == ("cancelled", False)
    assert released["reason"] == "connector 2 of station ST-1: another vehicle is charging there"
    assert street.published()[-2:] == [("created", "active"), ("cancelled", "cancelled")]


async def test_a_session_that_does_not_end_in_time_moves_the_next_reservation_when_it_begins(
    street: Reservations,
) -> None:
    session = await street.begin(1)
    later = format_rfc3339(NOW + timedelta(hours=2))
    made = await street.reserve("D1", starts_at=later)
    for _ in range(23):
        await street.pass_time(minutes=5)
        street.check()
    assert (await street.get(made["id"]))["connector_id"] == 1  # it may end still
    await street.pass_time(minutes=5)
    assert (await street.get(made["id"]))["connector_id"] == 2
    await street.end(session)
    claims = street.rows("SELECT kind FROM reservations.claim")
    assert claims == [("reservation",)]


async def test_a_session_keeps_its_connector_for_as_long_as_it_lasts(street: Reservations) -> None:
    session = await street.begin(1)
    for _ in range(20):
        await street.reserve("D1", 409, starts_at=None)
        await street.pass_time(minutes=9)
    await street.end(session)
    await street.reserve("D1", starts_at=None)


async def test_a_fault_moves_what_begins_soon_and_what_begins_later_only_if_it_lasts(street: Reservations) -> None:
    soon = await street.reserve("D1")
    tomorrow = format_rfc3339(NOW + timedelta(days=1))
    later = await street.reserve("D2", starts_at=tomorrow)
    await street.status(1, "Faulted", 1)
    assert (await street.get(soon["id"]))["connector_id"] == 2
    assert (await street.get(later["id"]))["connector_id"] == 1
    await street.status(1, "Available", 2)
    await street.status(1, "Faulted", 1)  # an older one
    await street.pass_time(hours=23, minutes=1)
    assert (await street.get(later["id"]))["connector_id"] == 1
    await street.status(2, "Unavailable", 1)
    await street.status(1, "Faulted", 3)
    assert (await street.get(later["id"]))["state"] == "cancelled"


async def test_a_fault_that_lasts_moves_a_reservation_an_hour_before_it_begins(street: Reservations) -> None:
    later = await street.reserve("D2", starts_at=format_rfc3339(NOW + timedelta(days=1)))
    await street.status(1, "Faulted", 1)
    await street.pass_time(hours=22, minutes=59)
    assert (await street.get(later["id"]))["connector_id"] == 1
    await street.pass_time(minutes=1)
    moved = await street.get(later["id"])
    assert (moved["connector_id"], moved["state"], moved["moved_from"]) == (2, "confirmed", "ST-1")


async def test_what_is_removed_or_gone_from_a_station_moves_its_reservations(street: Reservations) -> None:
    await street.register(station("ST-2", connectors=[connector(1)]))
    one, two = await street.reserve("D1"), await street.reserve("D2", connector_id=2)
    await street.register(station(revision=2, connectors=[connector(2)]))
    assert (await street.get(one["id"]))["station_id"] == "ST-2"
    await street.deliver(STATION_REMOVED, station(revision=3))
    await street.register(station(revision=2))  # late
    assert (await street.get(two["id"]))["state"] == "cancelled"
    assert "no longer there" in (await street.get(two["id"]))["reason"]
    await street.reserve("D3", 404, connector_id=2)


async def test_a_bay_is_used_by_charging_in_it_and_moved_to_one_of_its_kind(street: Reservations) -> None:
    bays = [bay("B1", 1), bay("B2", 2), bay("B3"), bay("B4", restrictions=["DISABLED"])]
    await street.register(station(revision=2, bays=bays))
    made = await street.reserve("D1", bay="B1")
    await street.pass_time(minutes=60)
    request, reservation_id, _ = await street.start("D1", 1)
    assert reservation_id == made["id"]
    await street.begin(1, name=str(request))
    assert (await street.get(made["id"]))["state"] == "used"
    only = await street.reserve("D2", bay="B4")
    other = await street.reserve("D3", bay="B3")
    await street.register(station(revision=3, bays=bays[:2]))
    assert (await street.get(only["id"]))["state"] == "cancelled"
    assert (await street.get(other["id"]))["bay"] == "B2"


async def test_a_bay_is_lost_when_all_its_connectors_fail_and_not_before(street: Reservations) -> None:
    connectors = [connector(number) for number in (1, 2, 3, 4)]
    bays = [bay("B1", 1, 2), bay("B2", 3), bay("B3"), bay("B4", 4)]
    await street.register(station(revision=2, connectors=connectors, bays=bays))
    made = await street.reserve("D1", bay="B1", starts_at=format_rfc3339(NOW + timedelta(minutes=50)))
    await street.status(1, "Faulted", 1)
    assert (await street.get(made["id"]))["bay"] == "B1"  # it can charge at the other one
    await street.status(3, "Unavailable", 1)
    await street.status(2, "Faulted", 1)
    moved = await street.get(made["id"])
    assert (moved["bay"], moved["state"], moved["moved_from"]) == ("B3", "confirmed", "ST-1")
    assert moved["reason"] == "bay B1 of station ST-1: it is out of order; you have bay B3 of station ST-1 instead"
    other = await street.reserve("D2", bay="B4", starts_at=format_rfc3339(NOW + timedelta(minutes=50)))
    refused = await street.reserve("D3", 409, bay="B2", starts_at=format_rfc3339(NOW + timedelta(minutes=50)))
    assert "is out of order" in refused["detail"]
    await street.status(4, "Faulted", 1)
    released = await street.get(other["id"])
    assert (released["state"], released["reason"]) == ("cancelled", "bay B4 of station ST-1: it is out of order")


async def test_a_bay_whose_connector_stays_out_of_order_is_moved_an_hour_before(street: Reservations) -> None:
    await street.register(station(revision=2, bays=[bay("B1", 1), bay("B2", 2)]))
    made = await street.reserve("D1", bay="B1", starts_at=format_rfc3339(NOW + timedelta(hours=3)))
    await street.status(1, "Faulted", 1)
    await street.pass_time(minutes=119)
    assert (await street.get(made["id"]))["bay"] == "B1"
    await street.pass_time(minutes=1)
    assert (await street.get(made["id"]))["bay"] == "B2"


async def test_a_vehicle_that_does_not_leave_in_time_moves_the_reservation_of_its_bay(street: Reservations) -> None:
    bays = [bay("B1", 1), bay("B2", 2), bay("B3"), bay("B4", restrictions=["DISABLED"])]
    await street.register(station(revision=2, bays=bays))
    await street.sense("B1", 1, occupied=True)
    await street.sense("B3", 1, occupied=True)
    made = await street.reserve("D1", bay="B1")
    await street.pass_time(minutes=59)
    assert (await street.get(made["id"]))["bay"] == "B1"  # the vehicle may still leave
    await street.pass_time(minutes=1)
    moved = await street.get(made["id"])
    assert (moved["bay"], moved["state"]) == ("B2", "active")  # not B3, where a vehicle stands too
    assert moved["reason"].startswith("bay B1 of station ST-1: another vehicle stands there")
    published = [payload for _, payload in street.events() if payload.get("moved_from")]
    assert [one["reservation_id"] for one in published] == [made["id"]]
    await street.pass_time(minutes=1)
    assert (await street.get(made["id"]))["revision"] == moved["revision"]


async def test_a_vehicle_of_somebody_else_that_is_told_late_moves_the_reservation_then(street: Reservations) -> None:
    await street.register(station(revision=2, bays=[bay("B1", 1), bay("B2", 2)]))
    early = await street.reserve("D1", bay="B1")
    plug = await street.reserve("D2", connector_id=2)
    await street.pass_time(minutes=61)
    came = street.clock.now() - timedelta(minutes=30)
    await street.sense("B2", 1, occupied=True, since=came)  # there a connector is reserved, which it blocks
    await street.sense("B1", 1, occupied=True, since=came)
    for one in (early, plug):
        found = await street.get(one["id"])
        assert (found["state"], "another vehicle stands there" in found["reason"]) == ("cancelled", True)


async def test_the_driver_may_stand_in_the_bay_and_is_not_moved(street: Reservations) -> None:
    await street.register(station(revision=2, bays=[bay("B1", 1), bay("B2", 2)]))
    made = await street.reserve("D1", bay="B1")
    now = await street.reserve("D2", bay="B2", starts_at=None)
    await street.sense("B2", 1, occupied=True, since=NOW - timedelta(minutes=9))  # reserved by who stood there
    await street.pass_time(minutes=56)
    await street.sense("B1", 1, occupied=True)
    await street.pass_time(minutes=5)
    assert (await street.get(made["id"]))["state"] == "active"
    assert (await street.get(now["id"]))["state"] == "no-show"  # nobody charged; not lost
    _, reservation_id, refused = await street.start("D1")
    assert (reservation_id, refused) == (made["id"], None)


async def test_a_bay_without_connectors_is_used_by_the_vehicle_that_comes(street: Reservations) -> None:
    await street.register(station(revision=2, bays=[bay("B3"), bay("B4")]))
    made = await street.reserve("D1", bay="B3")
    other = await street.reserve("D2", bay="B4")
    await street.pass_time(minutes=57)
    await street.sense("B3", 1, occupied=True)
    used = await street.get(made["id"])
    assert (used["state"], used["session_id"], used["stay"]["since"]) == ("used", None, "2026-03-29T09:57:00Z")
    assert fees(street) == [(False, "2026-03-29T10:00:00.000Z")]
    await street.reserve("D3", 409, bay="B3", starts_at=None)  # it is the driver's until its end
    await street.pass_time(minutes=30)
    assert (await street.get(other["id"]))["state"] == "no-show"
    await street.sense("B3", 2, occupied=False)
    await street.reserve("D3", bay="B3", starts_at=None)


async def test_events_in_any_order_end_the_same(street: Reservations) -> None:
    for number, order in enumerate(itertools.permutations(range(3)), 1):
        session = uuid4()
        events = [
            (SESSION_STARTED, started(session, "ST-1", number, NOW)),
            (SESSION_COMPLETED, completed(session, "ST-1", number, NOW + timedelta(minutes=5))),
            (SESSION_COMPLETED, completed(session, "ST-1", number, NOW + timedelta(minutes=6), revision=2)),
        ]
        for place in order:
            await street.deliver(*events[place])
    assert street.rows("SELECT kind FROM reservations.claim") == []
    ended = street.rows("SELECT DISTINCT started_at IS NOT NULL, revision, ended_at FROM reservations.session")
    assert ended == [(True, 2, NOW + timedelta(minutes=6))]


@pytest.fixture(params=["in-process", "rabbitmq"])
async def bus(request: pytest.FixtureRequest) -> Bus:
    """The bus, in this process or over RabbitMQ."""
    if request.param == "in-process":
        return InProcessBus(POLICY, sleep=lambda _: asyncio.sleep(0))
    rabbit = RabbitBus(request.getfixturevalue("rabbitmq_url"), POLICY, name="reservations")
    rabbit.start()
    await rabbit.wait_ready(30)
    return rabbit


async def test_over_either_bus_an_event_that_fails_midway_and_comes_twice_counts_once(
    database_url: str, bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The consumer dies after it has changed the reservation and before it commits."""
    handle, failures = SessionEvents.started, iter([True, True])

    async def dying(self: SessionEvents, connection: Any, event: Any) -> None:
        await handle(self, connection, event)
        if next(failures, False):
            raise RuntimeError("killed")

    monkeypatch.setattr(SessionEvents, "started", dying)
    async with running_reservations(database_url, bus) as street:
        publish_tariff(street)
        await street.register()
        await eventually(lambda: street.rows("SELECT 1 FROM reservations.place WHERE registered"), within_s=60)
        made = await street.reserve("D1", starts_at=None)
        request: UUID = (await street.start("D1"))[0]
        session = uuid4()
        began = message(SESSION_STARTED, started(session, "ST-1", 1, NOW, str(request)), "began")
        over = message(SESSION_COMPLETED, completed(session, "ST-1", 1, NOW), "over")
        fault = message(STATION_STATUS_CHANGED, status("ST-1", 1, "Faulted", 1), "fault")
        await asyncio.gather(*(bus.publish(one) for one in (began, over, fault) * 3))
        handled = "SELECT count(*) FROM reservations.events_processed WHERE right(queue, 7) <> 'created'"
        await eventually(lambda: street.rows(handled) == [(3,)], within_s=60)
        after = await street.get(made["id"])
        # The fault may have come first: then the reservation was moved away, and the session is nobody's.
        assert after["state"] == "used" or (after["connector_id"], after["state"]) == (2, "confirmed")
        assert fees(street) == ([(False, "2026-03-29T09:00:00.000Z")] if after["state"] == "used" else [])
        assert len(street.published()) == 2
        street.check()


async def test_over_either_bus_a_bays_events_that_fail_midway_come_twice_and_late_tell_one_overstay(
    database_url: str, bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The consumer dies after it has noted who stands there and before it commits."""
    observe, failures = ParkingService.observe, iter([True, True, True])

    async def dying(self: ParkingService, connection: Any, station_ids: Any) -> None:
        await observe(self, connection, station_ids)
        if next(failures, False):
            raise RuntimeError("killed")

    monkeypatch.setattr(ParkingService, "observe", dying)
    async with running_reservations(database_url, bus) as street:
        await street.register(station(bays=[bay("B1", 1), bay("B3", time_limit_s=1_200)]))
        await eventually(lambda: street.rows("SELECT 1 FROM reservations.place WHERE registered"), within_s=60)
        session = uuid4()
        seen = [
            BayOccupancyChanged(
                changes=[occupancy(name, revision, occupied=occupied, since=NOW + timedelta(minutes=at))]
            )
            for name, revision, occupied, at in (("B3", 1, True, 0), ("B3", 2, False, 2), ("B3", 3, True, 5))
        ]
        events = [message(BAY_OCCUPANCY_CHANGED, one, f"seen {place}") for place, one in enumerate(seen)]
        events.append(message(SESSION_STARTED, started(session, "ST-1", 1, NOW), "began"))
        events.append(message(SESSION_ASSIGNED, assignment(session, "D1"), "assigned"))
        events.append(message(STATION_STATUS_CHANGED, status("ST-1", 1, "Finishing", 1), "stopped"))
        street.clock.advance(1_200)
        await asyncio.gather(*(bus.publish(one) for one in [*events, *events[::-1], *events]))
        handled = "SELECT count(*) FROM reservations.events_processed WHERE right(queue, 7) <> 'created'"
        await eventually(lambda: street.rows(handled) == [(6,)], within_s=60)
        await street.pass_time(minutes=14)
        assert [payload["bay"] for type_, payload in street.events() if type_ == PARKING_OVERSTAYED] == ["B1"]
        await street.pass_time(minutes=1)  # the vehicle in B3 has stood there since 9:05, not since 9:00
        told = [payload for type_, payload in street.events() if type_ == PARKING_OVERSTAYED]
        assert [(one["bay"], one["since"]) for one in told[1:]] == [("B3", "2026-03-29T09:05:00.000Z")]
        for _ in range(2):
            await asyncio.gather(*(street.service.run_jobs() for _ in range(2)))
        assert len([type_ for type_, _ in street.events() if type_ == PARKING_OVERSTAYED]) == 2
