"""Reserving over HTTP: what may be reserved, that no two overlap, who sees what, and what it costs to change one's
mind."""

import asyncio
import json
import random
from collections import Counter
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

import msgspec
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from api.reservations.parking import examples as parking_examples
from api.reservations.parking.models import StationParking, UnregisteredBayPage
from api.reservations.reserving import examples
from api.reservations.reserving.models import FreeTime, NewReservation, Reservation, ReservationDetails, ReservationPage
from api.reservations.waiting import examples as waiting_examples
from api.reservations.waiting.models import NewWaiting, Waiting, WaitingLine
from billing.invoicing.amounts import rate_reservation
from billing.invoicing.tariffs import parse_tariff
from kit.clock import format_rfc3339
from schemas.events import ReservationConfirmed
from tests.api.reservations_app import (
    CCS,
    NOW,
    PATH,
    TYPE2,
    Reservations,
    bay,
    connector,
    publish_tariff,
    running_reservations,
    station,
)
from tests.described import answers_as_described, asked_only_by, cases_of, described_are

BOTH = {"operator", "driver"}
OPERATIONS = {
    ("get", PATH): BOTH,
    ("post", PATH): BOTH,
    ("get", f"{PATH}/{{id}}"): BOTH,
    ("delete", f"{PATH}/{{id}}"): BOTH,
    ("post", f"{PATH}/{{id}}/confirm"): BOTH,
    ("get", f"{PATH}/parking"): {"operator"},
    ("get", f"{PATH}/parking/{{station_id}}"): BOTH,
    ("get", f"{PATH}/waiting"): BOTH,
    ("post", f"{PATH}/waiting"): BOTH,
    ("get", f"{PATH}/waiting/{{id}}"): BOTH,
    ("post", f"{PATH}/waiting/{{id}}/accept"): BOTH,
    ("post", f"{PATH}/waiting/{{id}}/skip"): BOTH,
    ("delete", f"{PATH}/waiting/{{id}}"): BOTH,
}
LATER = format_rfc3339(NOW + timedelta(hours=1))


@pytest.fixture
async def street(database_url: str) -> AsyncIterator[Reservations]:
    """The service, with a station of two connectors."""
    async with running_reservations(database_url) as running:
        await running.register()
        yield running
        running.check()


async def test_a_driver_reserves_sees_and_cancels(street: Reservations) -> None:
    made = await street.reserve("D1")
    Reservation.model_validate(made)
    assert made == {
        **examples.RESERVATION,
        "id": made["id"],
        "driver_id": "D1",
        "station_id": "ST-1",
        "starts_at": "2026-03-29T10:00:00Z",
        "ends_at": "2026-03-29T11:00:00Z",
        "cancel_free_until": "2026-03-29T09:30:00Z",
        "late_at": "2026-03-29T10:15:00Z",
        "created_at": "2026-03-29T09:00:00Z",
    }
    assert await street.ask("D1", "GET", f"/{made['id']}") == {**made, "idle_fee": None, "stay": None}
    for _ in range(2):
        cancelled = await street.ask("D1", "DELETE", f"/{made['id']}", params={"reason": "another day"})
        assert (cancelled["state"], cancelled["reason"], cancelled["charged"]) == ("cancelled", "another day", False)
    assert street.published() == [("created", "confirmed"), ("cancelled", "cancelled")]
    again = await street.reserve("D2")
    assert again["state"] == "confirmed"


async def test_sixty_four_clients_fight_for_one_slot_and_one_gets_it(street: Reservations) -> None:
    answers = await asyncio.gather(
        *(
            street.answer(
                f"D{number}",
                "POST",
                json={"station_id": "ST-1", "connector_id": 1, "starts_at": LATER, "duration_s": 3_600},
            )
            for number in range(64)
        )
    )
    assert Counter(answer.status_code for answer in answers) == {201: 1, 409: 63}
    for answer in answers:
        if answer.status_code == 409:
            assert answer.headers["content-type"] == "application/problem+json"
            free = answer.json()["next_free"]
            assert [(one["connector_id"], one["starts_at"]) for one in free] == [(1, "2026-03-29T11:10:00.000Z")]
    assert street.published() == [("created", "confirmed")]
    soonest = free[0]["starts_at"]
    assert (await street.reserve("D99", starts_at=soonest))["starts_at"] == "2026-03-29T11:10:00Z"


async def test_any_of_a_plug_serves_as_many_as_there_are_connectors(street: Reservations) -> None:
    await street.register(station("ST-2", connectors=[connector(1), connector(2, TYPE2), connector(3, power_w=50_000)]))
    body = {"site": "Nord", "standard": CCS, "power_w_min": 100_000, "starts_at": LATER, "duration_s": 3_600}
    answers = await asyncio.gather(*(street.answer(f"D{number}", "POST", json=body) for number in range(16)))
    assert Counter(answer.status_code for answer in answers) == {201: 3, 409: 13}
    places = {(one["station_id"], one["connector_id"]) for a in answers if "id" in (one := a.json())}
    assert places == {("ST-1", 1), ("ST-1", 2), ("ST-2", 1)}
    refused = next(answer.json() for answer in answers if answer.status_code == 409)
    assert {one["starts_at"] for one in refused["next_free"]} == {"2026-03-29T11:10:00.000Z"}
    assert "no CHADEMO" in (await street.reserve(status=404, site="Nord", standard="CHADEMO"))["detail"]


async def test_the_buffers_are_kept_free_and_a_slot_beside_them_is_not_lost(street: Reservations) -> None:
    await street.reserve("D1")

    def at(minutes: int) -> str:
        return format_rfc3339(NOW + timedelta(minutes=minutes))

    for minutes, duration_s, status in ((0, 3_000, 201), (121, 3_600, 409), (129, 3_600, 409), (130, 3_600, 201)):
        await street.reserve("D2", status, starts_at=at(minutes), duration_s=duration_s)


async def test_a_bay_is_taken_with_its_connectors_and_a_connector_with_its_only_bay(street: Reservations) -> None:
    bays = [bay("B1", 1), bay("B2", 2), bay("B3", 2), bay("B4")]
    await street.register(station(revision=2, bays=bays))
    await street.reserve("D1", bay="B1")
    assert "connector 1" in (await street.reserve("D2", 409, connector_id=1))["detail"]
    await street.reserve("D2", connector_id=2)
    await street.reserve("D3", 409, bay="B2")  # its connector is taken, by a vehicle in whichever bay
    await street.reserve("D3", bay="B4")
    await street.reserve("D3", 409, bay="B4")
    await street.reserve("D3", 404, bay="B5")


async def test_what_is_held_is_given_back_unless_it_is_confirmed(street: Reservations) -> None:
    held = await street.reserve("D1", hold=True)
    assert (held["state"], held["held_until"]) == ("held", "2026-03-29T09:05:00Z")
    await street.reserve("D2", 409)
    await street.pass_time(minutes=4)
    assert (await street.ask("D1", "POST", f"/{held['id']}/confirm"))["state"] == "confirmed"
    assert (await street.ask("D1", "POST", f"/{held['id']}/confirm"))["revision"] == 2
    other = await street.reserve("D2", connector_id=2, hold=True)
    street.clock.advance(301)
    assert "not confirmed in time" in (await street.ask("D2", "POST", f"/{other['id']}/confirm", 409))["detail"]
    await street.pass_time(seconds=0)
    assert (await street.get(other["id"]))["state"] == "expired"
    assert "is expired" in (await street.ask("D2", "POST", f"/{other['id']}/confirm", 409))["detail"]
    assert "is expired" in (await street.ask("D2", "DELETE", f"/{other['id']}", 409))["detail"]
    assert street.published() == [
        ("created", "held"),
        ("created", "confirmed"),
        ("created", "held"),
        ("expired", "expired"),
    ]


async def test_with_an_idempotency_key_one_reservation_is_made(street: Reservations) -> None:
    body = {"station_id": "ST-1", "connector_id": 1, "starts_at": LATER, "duration_s": 3_600}
    headers = {"idempotency-key": "k1"}
    answers = await asyncio.gather(*(street.answer("D1", "POST", json=body, headers=headers) for _ in range(4)))
    assert {(answer.status_code, answer.text) for answer in answers} == {(201, answers[0].text)}
    assert answers[0].headers["location"] == f"{PATH}/{answers[0].json()['id']}"
    assert len(street.published()) == 1


async def test_drivers_see_their_own_and_operators_a_stations(street: Reservations) -> None:
    await street.register(station("ST-2"))
    own = await street.reserve("D1")
    others = await street.reserve("D2", connector_id=2)
    elsewhere = await street.reserve("D1", station_id="ST-2")
    for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/confirm")):
        await street.ask("D1", method, f"/{others['id']}{path}", 404)
        await street.ask("D1", method, f"/{uuid4()}{path}", 404)

    async def seen(who: str, **query: Any) -> set[str]:
        return {one["id"] for one in (await street.ask(who, "GET", params=query))["reservations"]}

    assert await seen("D1") == {own["id"], elsewhere["id"]}
    assert await seen("D1", station_id="st-2") == {elsewhere["id"]}
    assert await seen("", station_id="ST-1") == {own["id"], others["id"]}
    assert await seen("", driver_id="D2", state="confirmed") == {others["id"]}
    assert await seen("", **{"from": "2026-03-29T10:00:00.001Z"}) == set()
    await street.ask("D1", "GET", status=403, params={"driver_id": "D2"})
    await street.reserve("D1", 403, connector_id=2, driver_id="D2")
    assert "names the driver" in (await street.reserve("", 422))["detail"]
    assert (await street.reserve("", connector_id=2, station_id="ST-2", driver_id="D9"))["driver_id"] == "D9"


async def test_pages_together_are_all_reservations_once(street: Reservations) -> None:
    made = []
    for number in range(5):
        starts_at = format_rfc3339(NOW + timedelta(hours=2 * number + 1))
        made.append((await street.reserve("D1", starts_at=starts_at))["id"])
    seen: list[str] = []
    path: str | None = "?limit=2"
    while path:
        page = await street.ask("D1", "GET", path)
        ReservationPage.model_validate(page)
        seen += [one["id"] for one in page["reservations"]]
        path = page["next"] and page["next"].removeprefix(PATH)
    assert seen == made[::-1]
    assert "5 reservations" in (await street.reserve("D1", 409, connector_id=2))["detail"]


IMPOSSIBLE: list[tuple[dict[str, Any], int, str]] = [
    ({"starts_at": "2026-03-29T08:58:59Z"}, 422, "is past"),
    ({"starts_at": "2026-04-28T09:00:01Z"}, 422, "within 30 days"),
    ({"duration_s": 4 * 3_600 + 1}, 422, "14400 at most"),
    ({"duration_s": 299}, 422, "greater than or equal to 300"),
    ({"connector_id": 9}, 404, "connector 9 of station ST-1"),
    ({"station_id": "ST-9"}, 404, "station ST-9"),
    ({"bay": "B1", "connector_id": 1}, 422, "name one place"),
    ({"standard": CCS}, 422, "name one place"),
    ({"power_w_min": 1}, 422, "name one place"),
    ({"site": "Nord"}, 422, "name one place"),
    ({"starts_at": "tomorrow"}, 422, "is not an instant"),
    ({"duration": 300}, 422, "did you mean duration_s"),
]


async def test_what_cannot_be_reserved_is_refused_with_the_reason(street: Reservations) -> None:
    for new, status, says in IMPOSSIBLE:
        assert says in (await street.reserve("D1", status, **new))["detail"]
    assert street.published() == []


async def test_cancelling_late_is_charged_and_by_an_operator_it_is_not(street: Reservations) -> None:
    publish_tariff(street)
    mine, other = await street.reserve("D1"), await street.reserve("D2", connector_id=2)
    await street.pass_time(minutes=31)
    assert (await street.ask("D1", "DELETE", f"/{mine['id']}"))["charged"] is True
    assert (await street.ask("", "DELETE", f"/{other['id']}"))["charged"] is False
    (fee,) = [payload for type_, payload in street.events() if type_ == "reservation.confirmed.v1"]
    assert (fee["reservation_id"], fee["expired"]) == (mine["id"], True)
    assert (fee["starts_at"], fee["ends_at"]) == ("2026-03-29T10:00:00.000Z", "2026-03-29T10:00:00.000Z")
    assert (fee["driver_id"], fee["connector_id"], fee["time_zone"]) == ("D1", 1, "Europe/Berlin")
    payload = msgspec.convert(fee, ReservationConfirmed)
    _, amount = rate_reservation(parse_tariff(json.dumps(payload.tariff)), payload)
    assert amount.totals == ("EUR", 2_500_000, 2_500_000)  # as billing rates it


async def test_a_later_start_of_one_connector_is_free_while_the_other_one_is_out_of_order(
    street: Reservations,
) -> None:
    await street.status(1, "Faulted", 1)
    assert "out of order" in (await street.reserve("D1", 409, starts_at=None))["detail"]
    for_the_site = await street.reserve("D1", site="Nord", standard=CCS, starts_at=None)
    assert for_the_site["connector_id"] == 2
    tomorrow = format_rfc3339(NOW + timedelta(days=1))
    assert (await street.reserve("D1", starts_at=tomorrow))["connector_id"] == 1


async def test_whatever_is_asked_for_at_once_nothing_overlaps_and_what_is_refused_was_taken(
    street: Reservations, seed: int
) -> None:
    """A request that was refused is too close to one that was not; and the first free time that is named is free."""
    chance = random.Random(seed)
    gap = timedelta(minutes=10)  # both buffers
    for turn in range(4):
        bodies: list[dict[str, Any]] = [
            {
                "station_id": "ST-1",
                "connector_id": chance.randint(1, 2),
                "starts_at": format_rfc3339(NOW + timedelta(minutes=10 * chance.randint(0, 12))),
                "duration_s": 600 * chance.randint(1, 6),
            }
            for _ in range(10)
        ]
        answers = await asyncio.gather(
            *(street.answer(f"D{turn}.{number}", "POST", json=body) for number, body in enumerate(bodies))
        )
        street.check()
        confirmed = (await street.ask("", "GET", params={"state": "confirmed"}))["reservations"]
        for body, answer in zip(bodies, answers, strict=True):
            if answer.status_code == 201:
                continue
            assert answer.status_code == 409
            start = datetime.fromisoformat(body["starts_at"])
            end = start + timedelta(seconds=body["duration_s"])
            assert any(
                other["connector_id"] == body["connector_id"]
                and datetime.fromisoformat(other["starts_at"]) < end + gap
                and start < datetime.fromisoformat(other["ends_at"]) + gap
                for other in confirmed
            )
            again = await street.answer("X", "POST", json=body)
            first = again.json()["next_free"][0]
            later = {**body, "starts_at": chance.choice((first["starts_at"], first["latest_start"]))}
            assert (await street.ask("Y", "POST", "", 201, json=later))["driver_id"] == "Y"
            break
        for one in (await street.ask("", "GET", params={"state": "confirmed"}))["reservations"]:
            await street.ask("", "DELETE", f"/{one['id']}")


# -- What every operation has in common.


async def test_only_those_may_ask_who_should(street: Reservations) -> None:
    await street.answer("D1", "GET")
    tokens = {"operator": street.tokens[""], "driver": street.tokens["D1"]}
    tokens |= {kind: street.tokens[kind] for kind in ("device", "finance")}
    for (method, path), kinds in OPERATIONS.items():
        address = path.format(id=uuid4(), station_id="ST-1")
        await asked_only_by(street.client, tokens, method, address, kinds)


async def test_every_operation_is_described_with_an_example_and_its_problems(street: Reservations) -> None:
    await described_are(street.client, OPERATIONS)


@pytest.mark.parametrize(
    ("model", "example"),
    [
        (NewReservation, examples.NEW),
        (NewReservation, examples.NEW_OF_PLUG),
        (NewReservation, examples.NEW_BAY),
        (Reservation, examples.RESERVATION),
        (Reservation, examples.CANCELLED),
        (ReservationDetails, examples.DETAILS),
        (ReservationPage, examples.PAGE),
        (FreeTime, examples.FREE_TIME),
        (NewWaiting, waiting_examples.NEW_WAITING),
        (Waiting, waiting_examples.WAITING),
        (Waiting, waiting_examples.ACCEPTED),
        (Waiting, waiting_examples.LEFT),
        (WaitingLine, waiting_examples.LINE),
        (StationParking, parking_examples.PARKING),
        (UnregisteredBayPage, parking_examples.UNREGISTERED),
    ],
)
def test_examples_are_what_the_models_say(model: type[BaseModel], example: dict[str, Any]) -> None:
    model.model_validate(example)


async def test_no_question_is_a_server_error_or_answered_otherwise_than_described(street: Reservations) -> None:
    body = {"site": "Nord", "standard": CCS, "duration_s": 600}
    waiting = await street.ask("D1", "POST", "/waiting", 201, json=body)
    made = await street.reserve("D1")
    schema = schemathesis.openapi.from_dict((await street.client.get("/openapi.json")).json())
    headers = {"authorization": f"Bearer {street.tokens['']}"}

    def ask_all(method: str, path: str) -> None:
        @settings(max_examples=30, suppress_health_check=list(HealthCheck), phases=[Phase.generate])
        @given(case=cases_of(schema[path][method.upper()]), known=st.booleans())
        def ask(case: schemathesis.Case[Any], known: bool) -> None:
            if known and "{" in path:
                id_ = (waiting if "waiting" in path else made)["id"]
                case.path_parameters = {"station_id": "ST-1"} if "{station_id}" in path else {"id": id_}
            answers_as_described(case, street.base_url, headers)

        ask()

    for method, path in OPERATIONS:
        await asyncio.to_thread(ask_all, method, path)


async def test_a_token_for_some_stations_reserves_there_and_nowhere_else(street: Reservations) -> None:
    """Whoever's it is; what is a driver's own is theirs at every station."""
    await street.register(station("ST-2"))
    street.tokens["bound"] = (await street.store.issue("operator", stations=["ST-1"]))[0]
    street.tokens["B1"] = (await street.store.issue("driver", "", ["ST-1"], "B1"))[0]
    for who, named in (("bound", {"driver_id": "D9"}), ("B1", {})):
        there = {"duration_s": 1_800, **named}
        elsewhere = {**there, "station_id": "ST-2", "connector_id": 1}
        assert "not for station ST-2" in (await street.ask(who, "POST", "", 403, json=elsewhere))["detail"]
        line = {"site": "Nord", "standard": CCS, "duration_s": 1_800, **named}
        await street.ask(who, "POST", "/waiting", 403, json=line)
        made = await street.ask(who, "POST", "", 201, json={**there, "site": "Nord", "standard": CCS})
        assert made["station_id"] == "ST-1", "of a site those that the token is for"
    await street.ask("bound", "POST", "", 409, json={**line, "driver_id": "D8"})
    assert {one["station_id"] for one in (await street.ask("bound", "GET"))["reservations"]} == {"ST-1"}
    own = (await street.ask("B1", "GET"))["reservations"]
    assert [one["station_id"] for one in own] == ["ST-1"]
