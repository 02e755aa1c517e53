"""What each consumed event says to whom, in whatever order the events come."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from itertools import permutations
from typing import Any
from uuid import UUID, uuid5

import pytest

from api.notifications.declaration import SERVICE
from schemas.events import (
    EventFailed,
    Money,
    ParkingOverstayed,
    Pricing,
    SessionAssigned,
    SessionCompleted,
    SessionStarted,
    StationChanged,
    StationStatusChanged,
)
from schemas.topics import (
    EVENT_FAILED,
    PARKING_OVERSTAYED,
    RESERVATION_CANCELLED,
    RESERVATION_CREATED,
    RESERVATION_EXPIRED,
    RESERVATION_NO_SHOW,
    SESSION_ASSIGNED,
    SESSION_COMPLETED,
    SESSION_STARTED,
    STATION_CREATED,
    STATION_STATUS_CHANGED,
    STATION_UPDATED,
)
from tests.api.notifications_harness import (
    NAMESPACE,
    Harness,
    invoice_created,
    message,
    notifications_harness,
    reservation,
    status,
)
from tests.serving import make_schemas

NOW = datetime(2026, 3, 29, 9, 0, tzinfo=UTC)
WINDOW_S = 900
SESSION = uuid5(NAMESPACE, "a session")
PRICING = Pricing(
    version=NAMESPACE,
    time_zone="Europe/Berlin",
    tariff={},
    consumption=[],
    cost=Money(currency="EUR", excl_vat_micros=10_000_000, incl_vat_micros=11_900_000),
)


@pytest.fixture
async def harness(database_url: str) -> AsyncIterator[Harness]:
    """The service at work; a driver and the operators want everything by push and webhook."""
    make_schemas(database_url, [SERVICE])
    async with notifications_harness(database_url, NOW) as running:
        for subject in ("driver/D1", "driver/D2"):
            await running.prefer(subject, addresses={"push": f"phone-of-{subject}"})
        await running.prefer("team/operators", addresses={"chat": "ops"})
        yield running


def started(session_id: UUID = SESSION) -> Any:
    payload = SessionStarted(
        id=session_id, station_id="ST-1", connector_id=1, session_id=None, started_at="2026-03-29T09:05:00.000Z",
        revision=0,
    )  # fmt: skip
    return message(SESSION_STARTED, f"{session_id}", payload)


def completed(revision: int = 1, **more: Any) -> Any:
    given: dict[str, Any] = {
        "id": SESSION, "station_id": "ST-1", "connector_id": 1, "session_id": None,
        "started_at": "2026-03-29T09:05:00.000Z", "ended_at": "2026-03-29T09:45:00.000Z", "end_reason": "ended",
        "estimated": False, "energy_uj": 0, "energy_wh": 21_300.0, "readings": 1, "flagged": 0, "revision": revision,
        "pricing": PRICING, **more,
    }  # fmt: skip
    return message(SESSION_COMPLETED, f"{SESSION}/{revision}", SessionCompleted(**given))


def assigned(driver_id: str = "D1", revision: int = 1, *, withdrawn: bool = False) -> Any:
    payload = SessionAssigned(
        session_id=SESSION, request_id=NAMESPACE, driver_id=driver_id, reservation_id=None, revision=revision,
        withdrawn=withdrawn,
    )  # fmt: skip
    return message(SESSION_ASSIGNED, f"{SESSION}/{revision}", payload)


async def told(harness: Harness) -> list[tuple[str, str, str]]:
    """Kind, subject and title of what would be sent, in order."""
    rows = await harness.rows("WHERE d.state = 'queued'")
    return sorted((row["kind"], row["subject"], row["title"]) for row in rows)


async def test_a_receipt_is_the_driver_s_and_of_nobody_where_there_is_none(harness: Harness) -> None:
    await harness.prefer(addresses={"email": "d1@example.com"})
    await harness.deliver(invoice_created("1"), invoice_created("2", None), invoice_created("3", kind="credit_note"))
    assert await told(harness) == [
        ("credit_note", "driver/D1", "Credit note 2026-3"),
        ("invoice", "driver/D1", "Your receipt 2026-1"),
    ]


@pytest.mark.parametrize(
    ("event_type", "more", "kind"),
    [
        (RESERVATION_CREATED, {}, "reservation_created"),
        (RESERVATION_CREATED, {"moved_from": "ST-0", "reason": "ST-0 is faulted"}, "reservation_moved"),
        (RESERVATION_CANCELLED, {"status": "cancelled"}, "reservation_cancelled"),
        (RESERVATION_EXPIRED, {"status": "expired"}, "reservation_expired"),
        (RESERVATION_NO_SHOW, {"status": "no-show", "bay": "B1", "connector_id": None}, "reservation_no_show"),
    ],
)
async def test_a_reservation_s_driver_hears_of_its_changes(
    harness: Harness, event_type: str, more: dict[str, Any], kind: str
) -> None:
    await harness.deliver(message(event_type, "1", reservation(**more)))
    ((found, subject, _),) = await told(harness)
    assert (found, subject) == (kind, "driver/D1")
    (row,) = await harness.rows()
    assert "ST-1" in row["body"]
    if more.get("reason"):
        assert more["reason"] in row["body"]


async def test_a_reservation_that_begins_or_is_confirmed_is_not_told_again(harness: Harness) -> None:
    changes = [
        reservation(),
        reservation(revision=2, status="active"),
        reservation(revision=3, status="active", station_id="ST-2", moved_from="ST-1", reason="ST-1 is faulted"),
        reservation(revision=4, status="active", station_id="ST-2"),
    ]
    await harness.deliver(*(message(RESERVATION_CREATED, str(one.revision), one) for one in changes))
    assert [kind for kind, _, _ in await told(harness)] == ["reservation_created", "reservation_moved"]


@pytest.mark.parametrize("order", list(permutations(range(3))))
async def test_a_session_s_driver_hears_of_its_end_in_whatever_order_events_come(
    harness: Harness, order: tuple[int, ...]
) -> None:
    events = [started(), assigned(), completed()]
    await harness.deliver(*(events[place] for place in order), *events)
    rows = await told(harness)
    ends = [row for row in rows if row[0] == "session_completed"]
    assert ends == [("session_completed", "driver/D1", "Charged 21.3 kWh at ST-1")]
    begun = order.index(0) < order.index(2) and order.index(1) < order.index(2)  # else it is over already
    assert (len(rows) == 2) == begun


async def test_later_revisions_of_a_completion_are_not_told_again_and_void_ones_never(harness: Harness) -> None:
    await harness.deliver(assigned(), completed(1, void=True))
    assert await told(harness) == []
    await harness.deliver(completed(2), completed(3))
    assert len(await told(harness)) == 1


async def test_a_session_that_is_another_driver_s_after_all_is_told_that_one(harness: Harness) -> None:
    await harness.deliver(assigned("D1", 1, withdrawn=False), assigned("D1", 2, withdrawn=True), completed())
    assert await told(harness) == []
    await harness.deliver(assigned("D1", 1), assigned("D2", 3))
    assert [(kind, subject) for kind, subject, _ in await told(harness)] == [("session_completed", "driver/D2")]


async def test_a_session_of_nobody_is_told_nobody(harness: Harness) -> None:
    await harness.deliver(started(), completed())
    assert await harness.rows() == []


def overstay(name: str, driver_id: str | None = "D1", **more: Any) -> Any:
    payload = ParkingOverstayed(**{
        "station_id": "ST-1", "connector_id": None, "bay": "B1", "driver_id": driver_id, "session_id": None,
        "reason": "charging", "since": None, "idle_since": "2026-03-29T08:30:00.000Z",
        "overstay_from": "2026-03-29T08:40:00.000Z", "fee_per_hour": "6.005", "currency": "EUR", **more,
    })  # fmt: skip
    return message(PARKING_OVERSTAYED, name, payload)


async def test_an_overstay_is_told_its_driver_once_with_what_it_costs(harness: Harness) -> None:
    await harness.deliver(station(1, "North", "Market square"), overstay("1"), overstay("1"))
    assert await told(harness) == [
        ("parking_overstayed", "driver/D1", "Please move your vehicle at Market square"),
    ]  # fmt: skip
    (row,) = await harness.rows()
    assert "bay B1" in row["body"]
    await harness.deliver(
        overstay("2", reason="time_limit", fee_per_hour=None, currency=None, bay=None, connector_id=2)
    )
    assert len(await told(harness)) == 2


async def test_of_vehicles_that_nobody_knows_operators_get_one_alarm_of_a_site_then_a_digest(harness: Harness) -> None:
    await harness.deliver(station(1, "North"), overstay("1", None), overstay("2", None, bay="B2"), overstay("1", None))
    await harness.deliver(overstay("3", None, station_id="ST-9", reason="time_limit"))
    await harness.send_all()
    assert sorted(one.title for one in harness.sent("chat")) == [
        "North: a vehicle stands for too long", "ST-9: a vehicle stands for too long",
    ]  # fmt: skip
    harness.clock.advance(WINDOW_S)
    await harness.send_all()
    assert len(harness.sent("chat")) == 3


def changed(name: str, *changes: Any) -> Any:
    return message(STATION_STATUS_CHANGED, name, StationStatusChanged(changes=list(changes)))


def station(revision: int, site: str | None, name: str | None = None, station_id: str = "ST-1") -> Any:
    payload = StationChanged(
        station_id=station_id, revision=revision, name=name, site=site, group=None, organisation=None, time_zone=None,
        latitude_udeg=None, longitude_udeg=None, connectors=(), bays=(), changed_at="2026-03-29T08:00:00.000Z",
    )  # fmt: skip
    return message(STATION_UPDATED if revision > 1 else STATION_CREATED, f"{station_id}/{revision}", payload)


async def test_one_alarm_of_a_site_and_cause_then_a_digest(harness: Harness) -> None:
    await harness.deliver(station(1, "North", station_id="ST-1"), station(1, "North", station_id="ST-2"))
    await harness.deliver(changed("1", status("ST-1", 1), status("ST-1", 2), status("ST-2", 1), status("ST-3", 1)))
    await harness.send_all()
    assert sorted(one.title for one in harness.sent("chat")) == [
        "North: Faulted (GroundFailure)", "ST-3: Faulted (GroundFailure)",
    ]  # fmt: skip
    for minute in range(1, 10):
        harness.clock.advance(60)
        await harness.deliver(changed(f"minute {minute}", status("ST-2", 2, minute)))
    await harness.deliver(changed("silent", status("ST-2", 3, 1, status="Silent", error_code=None)))
    await harness.send_all()
    assert [one.title for one in harness.sent("chat")][2:] == ["North: Silent"]  # another cause
    harness.clock.advance(WINDOW_S)
    await harness.send_all()
    assert [one.title for one in harness.sent("chat")][3:] == ["9 notifications"]
    harness.clock.advance(2 * WINDOW_S)
    await harness.deliver(changed("again", status("ST-2", 2, 99)))
    await harness.send_all()
    assert [one.title for one in harness.sent("chat")][4:] == ["North: Faulted (GroundFailure)"]


async def test_old_revisions_and_repetitions_of_a_status_and_good_ones_raise_no_alarm(harness: Harness) -> None:
    good = status("ST-1", 1, 7, status="Available", error_code=None)
    await harness.deliver(changed("1", good), changed("2", status("ST-1", 1, 5)), changed("3", status("ST-1", 1, 5)))
    await harness.deliver(changed("4", status("ST-1", 1, 4)))
    assert len(await told(harness)) == 1


async def test_the_newest_word_of_a_station_says_its_site_and_name(harness: Harness) -> None:
    await harness.deliver(station(2, "North", "Market square"), station(1, "South", "Old name"))
    await harness.deliver(changed("1", status()), message(RESERVATION_CREATED, "1", reservation()))
    assert await told(harness) == [
        ("reservation_created", "driver/D1", "Reserved at Market square"),
        ("station_alarm", "team/operators", "North: Faulted (GroundFailure)"),
    ]


async def test_events_that_were_given_up_are_an_alarm_by_queue_and_type(harness: Harness) -> None:
    for number in range(3):
        failed = EventFailed(
            queue="billing_session_completed", event_id=NAMESPACE, event_type=SESSION_COMPLETED, attempts=8, error="no"
        )
        await harness.deliver(message(EVENT_FAILED, f"{number}", failed))
    rows = await harness.rows()
    assert [row["is_digest_item"] for row in rows] == [False, True, True]
    assert {row["kind"] for row in rows} == {"event_failed"}
