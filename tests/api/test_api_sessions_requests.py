"""Starting, stopping and reading over HTTP, as drivers and operators do; no driver sees or stops another's session."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
import jwt
import psycopg
import pytest
from prometheus_client import CollectorRegistry

from api.sessions.declaration import SERVICE
from api.sessions.models import Session, SessionRequestAccepted, StopAccepted
from api.sessions.request_store import EXPIRY
from api.sessions.settings import REMOTE_START
from kit.auth.authenticator import Authenticator
from kit.auth.key_file import FileKey
from kit.auth.signed_tokens import SignedTokens
from kit.clock import format_rfc3339
from kit.config.values import ConfigSnapshot
from kit.web.app import make_app, serve
from schemas.session import EndReason
from schemas.topics import SESSION_REQUESTED, SESSION_STOP_REQUESTED
from tests.api.conftest import NOW, Api
from tests.api.rows import add_connector
from tests.api.sessions_harness import DeviceSession, SessionsHarness, sessions_harness
from tests.api.test_api_sessions import PATH, add_session
from tests.serving import open_service

PLACE: dict[str, Any] = {"station_id": "st-1", "connector_id": 1}


@dataclass
class Street:
    """Two drivers, an operator, a station with two connectors, and the sessions that streams stores and publishes."""

    api: Api
    at: SessionsHarness
    tokens: dict[str, str]  # by driver; "" of the operator
    keys: dict[int, int]  # connector_key by connector

    async def ask(self, who: str, method: str, path: str = "", status: int = 200, **more: Any) -> Any:
        """The JSON of the answer, after a look at its status."""
        headers = {"Authorization": f"Bearer {self.tokens[who]}", **more.pop("headers", {})}
        answer = await self.api.client.request(method, f"{PATH}{path}", headers=headers, **more)
        assert answer.status_code == status, answer.text
        return answer.json()

    async def start(self, who: str, connector_id: int = 1, status: int = 202, **more: Any) -> Any:
        """Ask to charge."""
        return await self.ask(who, "POST", "", status, json={**PLACE, "connector_id": connector_id, **more})

    async def charge(self, connector_id: int = 1, **more: Any) -> DeviceSession:
        """The station starts a session; streams stores and publishes it."""
        began = DeviceSession(uuid4(), self.at.clock.now(), connector_id=connector_id, **more)
        add_session(
            self.api.database_url,
            self.keys[connector_id],
            began.name,
            started_at=began.started_at,
            own_id=began.id,
        )
        await self.at.deliver(began.started())
        return began

    async def finish(self, began: DeviceSession) -> None:
        """The station ends it; streams stores and publishes that."""
        with psycopg.connect(self.api.database_url) as connection:
            connection.execute(
                "UPDATE telemetry.session SET end_reason = 1, ended_at = last_at, revision = 1 WHERE id = %s",
                (began.id,),
            )
        await self.at.deliver(began.completed())


@pytest.fixture
async def street(api: Api) -> AsyncIterator[Street]:
    """Everything there, nothing requested."""
    keys = {number: add_connector(api.database_url, "ST-1", number) for number in (1, 2)}
    tokens = {"": api.operator_token, **{name: await api.token("driver", name) for name in ("D1", "D2")}}
    async with sessions_harness(api.database_url, NOW) as at:
        at.clock = api.clock
        yield Street(api, at, tokens, keys)


async def test_a_driver_charges_from_the_request_to_the_end(street: Street) -> None:
    accepted = await street.start("D1", reservation_id="R-1")
    SessionRequestAccepted.model_validate(accepted)
    assert accepted == {
        "request_id": accepted["request_id"],
        "state": "requested",
        "station_id": "ST-1",
        "connector_id": 1,
        "driver_id": "D1",
        "reservation_id": "R-1",
        "requested_at": "2026-03-29T09:00:00Z",
        "expires_at": "2026-03-29T09:15:00Z",
    }
    own = f"/{accepted['request_id']}"
    waiting = await street.ask("D1", "GET", own)
    Session.model_validate(waiting)
    assert (waiting["id"], waiting["state"], waiting["driver_id"]) == (None, "requested", "D1")
    began = await street.charge(name="TX-1")
    for name in (own, f"/{began.id}", "/TX-1"):
        running = await street.ask("D1", "GET", name)
        assert (running["id"], running["request_id"]) == (str(began.id), accepted["request_id"])
        assert (running["state"], running["driver_id"], running["reservation_id"]) == ("open", "D1", "R-1")
        assert running == await street.ask("", "GET", name)
    stopped = await street.ask("D1", "POST", f"{own}/stop", 202)
    StopAccepted.model_validate(stopped)
    assert stopped == {
        "id": str(began.id),
        "request_id": accepted["request_id"],
        "state": "open",
        "stop_requested_at": "2026-03-29T09:00:00Z",
    }
    street.api.clock.advance(60)
    assert stopped == await street.ask("D1", "POST", f"/{began.id}/stop", 202)
    await street.finish(began)
    ended = await street.ask("D1", "GET", own)
    assert (ended["state"], ended["end_reason"]) == ("completed", "ended")
    published = await street.at.published()
    assert [type_ for type_, _ in published if "requested" in type_] == [SESSION_REQUESTED, SESSION_STOP_REQUESTED]
    assert published[0][1] == {
        "request_id": accepted["request_id"],
        "station_id": "ST-1",
        "connector_id": 1,
        "driver_id": "D1",
        "reservation_id": "R-1",
        "requested_at": "2026-03-29T09:00:00.000Z",
    }


async def test_a_request_is_where_its_answer_says(street: Street) -> None:
    headers = {"Authorization": f"Bearer {street.tokens['D1']}"}
    answer = await street.api.client.post(PATH, json=PLACE, headers=headers)
    assert answer.headers["location"] == f"{PATH}/{answer.json()['request_id']}"
    assert (await street.api.client.get(answer.headers["location"], headers=headers)).status_code == 200


async def test_a_driver_has_one_session_at_a_time_and_so_has_a_connector(street: Street) -> None:
    async def refused(who: str, connector_id: int) -> str:
        return str((await street.start(who, connector_id, 409))["detail"])

    accepted = await street.start("D1")
    assert accepted["request_id"] in await refused("D1", 2)
    theirs = await refused("D2", 1)
    assert accepted["request_id"] not in theirs
    assert "D1" not in theirs
    began = await street.charge()
    assert str(began.id) in await refused("D1", 2)
    assert "in use" in await refused("D2", 1)
    await street.finish(began)
    await street.start("D2", 1)
    await street.start("D1", 2)


async def test_a_connector_with_a_session_that_nobody_asked_for_is_in_use(street: Street) -> None:
    add_session(street.api.database_url, street.keys[1])
    assert "in use" in (await street.start("D1", status=409))["detail"]
    await street.start("D1", 2)


async def test_a_session_that_streams_knows_to_be_over_is_in_nobodys_way(street: Street) -> None:
    """The event of its completion is late, or a dead letter."""
    await street.start("D1")
    began = await street.charge()
    with psycopg.connect(street.api.database_url) as connection:
        connection.execute("UPDATE telemetry.session SET end_reason = 1 WHERE id = %s", (began.id,))
    assert (await street.ask("D1", "GET", f"/{began.id}"))["state"] == "completed"
    await street.start("D1")


async def test_a_request_expires_and_gives_driver_and_connector_free(street: Street) -> None:
    accepted = await street.start("D1")
    street.api.clock.advance(EXPIRY.total_seconds() - 0.001)
    await street.start("D2", status=409)
    street.api.clock.advance(0.001)
    assert (await street.ask("D1", "GET", f"/{accepted['request_id']}"))["state"] == "expired"
    await street.start("D2")
    await street.start("D1", 2)


async def test_of_many_requests_at_once_one_is_accepted(street: Street) -> None:
    drivers = {f"M{n}": await street.api.token("driver", f"M{n}") for n in range(6)}
    headers = [{"Authorization": f"Bearer {token}"} for token in drivers.values()]
    posts = (street.api.client.post(PATH, json=PLACE, headers=one) for one in headers)
    assert sorted(answer.status_code for answer in await asyncio.gather(*posts)) == [202, *[409] * 5]
    one = {"Authorization": f"Bearer {street.tokens['D1']}"}
    places = [{"station_id": f"OTHER-{n}", "connector_id": 1} for n in range(6)]
    posts = (street.api.client.post(PATH, json=place, headers=one) for place in places)
    assert sorted(answer.status_code for answer in await asyncio.gather(*posts)) == [202, *[409] * 5]


async def test_a_repeated_request_with_its_key_is_one_request_and_another_needs_another_key(street: Street) -> None:
    key = {"Idempotency-Key": "abc"}
    accepted = await street.ask("D1", "POST", "", 202, json=PLACE, headers=key)
    again = await street.ask("D1", "POST", "", 202, json=PLACE, headers=key)
    assert again == accepted
    await street.ask("D1", "POST", "", 409, json={**PLACE, "connector_id": 2}, headers=key)
    assert len(await street.at.events()) == 1
    await street.ask("D2", "POST", "", 202, json={**PLACE, "connector_id": 2}, headers=key)  # a key of their own
    stops = [await street.ask("D1", "POST", f"/{accepted['request_id']}/stop", 202) for _ in range(3)]
    assert stops[0] == stops[1] == stops[2]
    assert [type_ for type_, _ in await street.at.published()].count(SESSION_STOP_REQUESTED) == 1


async def test_a_flag_says_who_may_start_where(street: Street) -> None:
    """By role, station, and both; a running session is stopped as ever."""

    def switch(revision: int, **rule: Any) -> None:
        flags = {REMOTE_START: {"rule": {"enabled": True, **rule}, "version": revision}}
        street.api.config.apply_snapshot(ConfigSnapshot(revision, flags))

    accepted = await street.start("D1")
    switch(1, percentage=0, targets={"roles": ["operator"]})
    refused = await street.start("D2", 2, 403)
    assert refused["detail"] == "drivers cannot start at ST-1 now: operators switched it off (sessions.remote_start)"
    await street.ask("D1", "POST", f"/{accepted['request_id']}/stop", 202)
    switch(2, excepted={"stations": ["st-1"]})
    await street.start("", 2, 403, driver_id="D2")
    switch(3, excepted={"roles": ["operator"]})
    await street.start("", 2, 403, driver_id="D2")
    await street.start("D2", 2)


async def test_an_operator_names_the_driver_and_a_driver_is_only_themself(street: Street) -> None:
    assert "driver_id" in (await street.start("", status=422))["detail"]
    await street.start("D1", status=403, driver_id="D2")
    assert (await street.start("", driver_id="D2"))["driver_id"] == "D2"
    assert (await street.start("D1", 2, driver_id="D1"))["driver_id"] == "D1"


@pytest.mark.parametrize(
    "wrong",
    [
        {"connector_id": 0},
        {"connector_id": 32_768},
        {"connector_id": "x"},
        {"connector_id": "1"},
        {"connector_id": 1.0},
        {"connector_id": True},
        {"station_id": ""},
        {"station_id": "x" * 37},
        {"station_id": "a\x00"},
        {"driver_id": " D"},
        {"driver_id": "x" * 65},
        {"driver_id": "a\u2028"},
        {"reservation_id": "x" * 65},
        {"reservation_id": "a\n"},
        {"unknown": 1},
    ],
)
async def test_a_request_that_makes_no_sense_is_refused_with_the_mend(street: Street, wrong: dict[str, Any]) -> None:
    problem = await street.ask("", "POST", "", 422, json={**PLACE, "driver_id": "D1", **wrong})
    assert next(iter(wrong)) in problem["detail"]
    assert not await street.at.events()


async def test_nobody_elses_session_is_there_for_a_driver(street: Street) -> None:
    """404 in the same words as for an unknown id, by whichever id it is asked for; and it is not stopped."""
    accepted = await street.start("D1")
    began = await street.charge(name="TX-1")
    unasked = add_session(street.api.database_url, street.keys[2], "TX-2", end_reason=EndReason.ENDED)
    before = len(await street.at.events())
    for name in (accepted["request_id"], str(began.id), "TX-1", unasked, "TX-2"):
        for method, path in (("GET", f"/{name}"), ("POST", f"/{name}/stop")):
            refused = await street.ask("D2", method, path, 404)
            nothing = await street.ask("D2", method, path.replace(name, "NIL"), 404)
            assert refused["detail"].replace(name, "NIL") == nothing["detail"]
            await street.ask("D2", method, path, 404, params={"station_id": "ST-1"})
    assert (await street.ask("D2", "GET"))["sessions"] == []
    await street.ask("D2", "GET", "", 403, params={"driver_id": "D1"})
    assert len(await street.at.events()) == before
    for name in (accepted["request_id"], str(began.id), "TX-1"):
        assert (await street.ask("D1", "GET", f"/{name}"))["driver_id"] == "D1"


async def test_the_same_name_of_two_sessions_is_ambiguous_only_among_ones_own(street: Street) -> None:
    for who in ("D1", "D2", "D1"):
        await street.start(who)
        await street.finish(await street.charge(name="17"))
        street.api.clock.advance(3_600)
    assert (await street.ask("D2", "GET", "/17"))["driver_id"] == "D2"
    mine = await street.ask("D1", "GET", "/17", 409)
    assert len(mine["candidates"]) == 2
    assert len((await street.ask("", "GET", "/17", 409))["candidates"]) == 3
    assert {one["station_id"] for one in mine["candidates"]} == {"ST-1"}


async def test_an_operator_stops_whatever_runs_once(street: Street) -> None:
    unasked = add_session(street.api.database_url, street.keys[2], "TX-2")
    first = await street.ask("", "POST", f"/{unasked}/stop", 202)
    street.api.clock.advance(60)
    assert first == await street.ask("", "POST", "/TX-2/stop", 202)
    assert (first["id"], first["request_id"], first["state"]) == (unasked, None, "open")
    accepted = await street.start("D1")
    await street.charge()
    await street.ask("", "POST", f"/{accepted['request_id']}/stop", 202)
    stops = [payload for type_, payload in await street.at.published() if type_ == SESSION_STOP_REQUESTED]
    assert [payload["driver_id"] for payload in stops] == [None, None]
    assert [payload["request_id"] for payload in stops] == [None, accepted["request_id"]]


async def test_what_is_over_is_not_stopped_again(street: Street) -> None:
    accepted = await street.start("D1")
    began = await street.charge()
    await street.finish(began)
    street.api.clock.advance(3_600)
    gone = await street.start("D1")
    street.api.clock.advance(3_600)
    over = add_session(street.api.database_url, street.keys[2], end_reason=EndReason.ENDED)
    before = len(await street.at.events())
    for who, name, state in (("D1", accepted["request_id"], "completed"), ("D1", gone["request_id"], "expired")):
        stopped = await street.ask(who, "POST", f"/{name}/stop", 202)
        assert (stopped["state"], stopped["stop_requested_at"]) == (state, None)
    assert (await street.ask("", "POST", f"/{over}/stop", 202))["state"] == "completed"
    assert len(await street.at.events()) == before


async def test_the_cost_to_date_is_exact_and_absent_without_a_tariff(street: Street) -> None:
    await street.start("D1")
    began = await street.charge()
    assert (await street.ask("D1", "GET", f"/{began.id}"))["cost_incl_vat"] is None
    version = str(uuid4())
    with psycopg.connect(street.api.database_url) as connection:
        connection.execute(
            "UPDATE telemetry.session SET tariff_version = %s, currency = 'EUR', cost_excl_micros = %s, "
            "cost_incl_micros = %s, cost_energy_micros = 0, cost_time_micros = 5, cost_parking_micros = 10, "
            "cost_flat_micros = 9007199254740993 WHERE id = %s",
            (version, 9_007_199_254_740_993, 12_340_000, began.id),
        )
    for who, path in (("D1", f"/{began.id}"), ("", f"/{began.id}"), ("D1", ""), ("", "")):
        answer = await street.ask(who, "GET", path)
        priced = answer["sessions"][0] if path == "" else answer
        assert priced["currency"] == "EUR"
        assert priced["cost_excl_vat"] == "9007199254.740993"
        parts = {"energy": "0.000000", "time": "0.000005", "parking": "0.000010", "flat": "9007199254.740993"}
        assert priced["cost_parts"] == parts
        assert priced["cost_incl_vat"] == "12.340000"
        assert priced["tariff_version"] == version


async def test_pages_of_a_drivers_sessions_put_together_are_the_list(street: Street) -> None:
    for number in range(13):
        await street.start("D1", 1 + number % 2)
        if number % 3:
            began = await street.charge(1 + number % 2)
            if number % 3 == 1 or number < 12:
                await street.finish(began)
        street.api.clock.advance(1_000)
    await street.start("D1", 2)
    for who, params in (("D1", {}), ("", {"driver_id": "D1"})):
        whole = (await street.ask(who, "GET", "", params={**params, "limit": 1_000}))["sessions"]
        assert len(whole) == 14
        assert [one["requested_at"] for one in whole] == sorted((one["requested_at"] for one in whole), reverse=True)
        assert {one["state"] for one in whole} == {"requested", "completed", "expired"}
        questions: list[dict[str, Any]] = [
            {},
            *({"state": state} for state in ("requested", "open", "completed", "expired")),
            {"from": format_rfc3339(NOW + timedelta(seconds=5_000))},
            {"to": format_rfc3339(NOW + timedelta(seconds=5_000))},
            {"station_id": "ST-2"},
        ]
        for question in questions:
            parts, answer = [], await street.ask(who, "GET", "", params={**params, **question, "limit": 3})
            while True:
                parts += answer["sessions"]
                if answer["next"] is None:
                    break
                answer = await street.ask(who, "GET", answer["next"].removeprefix(PATH))
            assert parts == [
                one
                for one in whole
                if one["state"] == question.get("state", one["state"])
                and question.get("from", "") <= one["requested_at"] < question.get("to", "9")
                and one["station_id"] == question.get("station_id", "ST-1")
            ]


async def test_an_operators_list_has_every_session_and_whose_it_is(street: Street) -> None:
    accepted = await street.start("D1")
    began = await street.charge()
    unasked = add_session(street.api.database_url, street.keys[2], started_at=NOW - timedelta(hours=1))
    await street.start("D2", 2, status=409)
    listed = (await street.ask("", "GET"))["sessions"]
    assert [(one["id"], one["request_id"], one["driver_id"]) for one in listed] == [
        (str(began.id), accepted["request_id"], "D1"),
        (unasked, None, None),
    ]
    assert (await street.ask("", "GET", "", params={"state": "requested"}))["sessions"] == []
    page = await street.ask("", "GET", "", params={"limit": 1})
    cursor = httpx.URL(page["next"]).params["cursor"]
    await street.ask("D1", "GET", "", 422, params={"cursor": cursor})  # of another list


async def test_the_role_of_the_service_sees_its_schema_and_no_other(street: Street) -> None:
    for table in ("telemetry.session", "access.token"):
        with pytest.raises(Exception, match="permission denied"):
            await street.at.database.fetch(f"SELECT * FROM {table}")


async def test_forgetting_keeps_what_somebody_may_ask_for(street: Street) -> None:
    accepted = await street.start("D1")
    mine = await street.charge()
    other = DeviceSession(uuid4(), NOW, connector_id=2)
    runs = DeviceSession(uuid4(), NOW, connector_id=2)
    await street.finish(mine)
    await street.at.deliver(other.started(), other.completed(), runs.started())
    with psycopg.connect(street.api.database_url) as connection:
        connection.execute("UPDATE sessions.session SET observed_at = now() - interval '31 days'")
    await street.at.service.run_jobs()
    kept = {row[0] for row in await street.at.database.fetch("SELECT id FROM sessions.session")}
    assert kept == {mine.id, runs.id}
    assert (await street.at.request(UUID(accepted["request_id"]))).session_id == mine.id


async def test_a_driver_signed_for_elsewhere_is_the_same_driver(street: Street, tmp_path: Any) -> None:
    secret = b"0123456789abcdef0123456789abcdef"
    (tmp_path / "key").write_bytes(secret)
    api = street.api
    app = make_app("sessions", "0", registry=CollectorRegistry())
    app.state.authenticator = Authenticator(api.tokens, api.clock, SignedTokens(FileKey(tmp_path / "key"), api.clock))
    claims = {"sub": "D1", "roles": ["driver"], "exp": int(NOW.timestamp()) + 300, "stations": ["ST-1"]}
    headers = {"Authorization": f"Bearer {jwt.encode(claims, secret, 'HS256')}"}
    accepted = await street.start("D1")
    async with (
        open_service(SERVICE, api.database_url, api.clock, app=app),
        serve(app, "127.0.0.1", 0) as server,
        httpx.AsyncClient(base_url=server.url, headers=headers) as client,
    ):
        assert (await client.get(f"{PATH}/{accepted['request_id']}")).json()["driver_id"] == "D1"
        assert (await client.post(PATH, json=PLACE)).status_code == 409
        elsewhere = await client.post(PATH, json={**PLACE, "station_id": "ST-2"})
        assert (elsewhere.status_code, "ST-2" in elsewhere.json()["detail"]) == (403, True)


async def test_a_start_at_a_connector_that_another_driver_reserved_is_refused_and_at_ones_own_uses_it(
    street: Street,
) -> None:
    reserved = uuid4()
    with psycopg.connect(street.api.database_url) as connection:
        connection.execute(
            "INSERT INTO reservations.place (station_id, connector_id, registered) VALUES ('ST-1', 1, true)"
        )
        connection.execute(
            "INSERT INTO reservations.reservation (id, driver_id, place_key, station_id, connector_id, starts_at, "
            "ends_at, state, revision, created_at, created_by, due_at) SELECT %s, 'D1', place_key, station_id, "
            "connector_id, %s, %s, 'confirmed', 1, now(), 'test', now() FROM reservations.place",
            (reserved, NOW, NOW + timedelta(hours=1)),
        )
        connection.execute(
            "INSERT INTO reservations.claim SELECT place_key, tstzrange(starts_at, ends_at), 'reservation', id "
            "FROM reservations.reservation"
        )
    refused = await street.start("D2", status=409)
    assert "is reserved for another driver from 2026-03-29T09:00:00Z to 2026-03-29T10:00:00Z" in refused["detail"]
    assert await street.at.published() == []
    await street.start("D2", 2)
    own = await street.start("D1")
    assert own["reservation_id"] == str(reserved)
    assert (await street.at.published())[-1][1]["reservation_id"] == str(reserved)
