"""Stations and connectors over HTTP: what is registered is returned, and what cannot be is refused with the reason."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import httpx
import psycopg
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from pydantic import BaseModel, ValidationError

from api.stations import examples
from api.stations import service as stations_service
from api.stations.declaration import SERVICE
from api.stations.models import (
    Connector,
    ConnectorFacts,
    Station,
    StationFacts,
    StationPage,
    StationSummary,
    from_udeg,
    to_udeg,
)
from api.stations.service import ensure_stations
from kit.auth.authenticator import Authenticator
from kit.auth.token_store import TokenStore
from kit.clock import ManualClock
from kit.database.postgres import open_database
from kit.web.app import make_app
from kit.web.server import serve
from schemas.connector import AC_STANDARDS, DC_STANDARDS
from tests.api.test_api_pricing_operations import JSON, _places, _with
from tests.described import answers_as_described, asked_only_by, cases_of, described_are
from tests.serving import make_schemas, open_service

PATH = "/api/v1/stations"
NOW = datetime(2026, 3, 29, 9, 0, tzinfo=UTC)
CONNECTOR = f"{PATH}/{{station_id}}/connectors/{{connector_id}}"
OPERATIONS = {
    ("get", PATH): {"operator", "finance"},
    ("get", f"{PATH}/{{station_id}}"): {"operator", "finance"},
    ("put", f"{PATH}/{{station_id}}"): {"operator"},
    ("delete", f"{PATH}/{{station_id}}"): {"operator"},
    ("get", CONNECTOR): {"operator", "finance"},
    ("put", CONNECTOR): {"operator"},
    ("delete", CONNECTOR): {"operator"},
}


@dataclass
class Stations:
    """The service, served."""

    client: httpx.AsyncClient  # with an operator's token
    tokens: dict[str, str]
    clock: ManualClock
    url: str
    base_url: str

    async def ask(self, method: str, path: str, status: int, body: Any = None, **params: Any) -> Any:
        """The answer's JSON, after a look at its status."""
        answer = await self.client.request(method, PATH + path, json=body, params=params or None)
        assert answer.status_code == status, answer.text
        return answer.json() if answer.content else None

    def rows(self, query: str, *args: Any) -> list[tuple[Any, ...]]:
        """Of a query by the owner of the tables."""
        with psycopg.connect(self.url) as connection:
            return connection.execute(query.encode(), args).fetchall()


@asynccontextmanager
async def running_stations(url: str) -> AsyncIterator[Stations]:
    """The service, served from that empty database."""
    make_schemas(url, [SERVICE])
    clock = ManualClock(NOW)
    access = await open_database(url, name="access", connections_max=1)
    store = TokenStore(access)
    tokens = {
        kind: (await store.issue(kind, subject="driver-1" if kind == "driver" else None))[0]
        for kind in ("device", "operator", "finance", "driver")
    }
    app = make_app("stations", "0", registry=CollectorRegistry())
    app.state.authenticator = Authenticator(store, clock)
    bearer = {"Authorization": f"Bearer {tokens['operator']}"}
    try:
        async with (
            open_service(SERVICE, url, clock, app=app),
            serve(app, "127.0.0.1", 0) as server,
            httpx.AsyncClient(base_url=server.url, headers=bearer, timeout=30, trust_env=False) as client,
        ):
            yield Stations(client, tokens, clock, url, server.url)
    finally:
        await access.close()


@pytest.fixture
async def stations(database_url: str) -> AsyncIterator[Stations]:
    """Served, with no station."""
    async with running_stations(database_url) as running:
        yield running


async def test_what_is_registered_is_returned_whole(stations: Stations) -> None:
    created = await stations.client.put(f"{PATH}/de*vlt*e1", json=examples.STATION_FACTS)
    assert (created.status_code, created.headers["location"]) == (201, f"{PATH}/DE%2AVLT%2AE1")
    assert (await stations.client.get(created.headers["location"])).json() == created.json()
    one = await stations.ask("PUT", "/DE*VLT*E1/connectors/2", 201, examples.CONNECTOR_FACTS)
    assert one == {**examples.CONNECTOR, "station_id": "DE*VLT*E1", "connector_id": 2}
    assert await stations.ask("GET", "/De*vlt*e1/connectors/2", 200) == one
    shown = await stations.ask("GET", "/DE*VLT*E1", 200)
    assert shown == {**examples.SUMMARY, "station_id": "DE*VLT*E1", "connectors": [one]}


@pytest.mark.parametrize("station", ["Ü-1", "\u53f0", "A" * 37, "ß"])
async def test_a_station_that_could_send_no_reading_is_not_registered(stations: Stations, station: str) -> None:
    for place in (f"/{station}", f"/{station}/connectors/1"):
        assert "1 to 36 printable ASCII characters" in (await stations.ask("PUT", place, 422, {}))["detail"]
    if len(station) <= 36:  # an earlier release may have registered it
        await stations.ask("GET", f"/{station}", 404)


async def test_a_second_put_replaces_all_facts_and_keeps_the_connectors(stations: Stations) -> None:
    await stations.ask("PUT", "/A", 201, examples.STATION_FACTS)
    await stations.ask("PUT", "/A/connectors/1", 201, examples.CONNECTOR_FACTS)
    stations.clock.advance(60)
    replaced = await stations.ask("PUT", "/a", 200, {"city": "Bonn"})
    assert (replaced["city"], replaced["address"], replaced["latitude"]) == ("Bonn", None, None)
    assert replaced["changed_at"] == "2026-03-29T09:01:00Z"
    assert [one["connector_id"] for one in replaced["connectors"]] == [1]
    connector = await stations.ask("PUT", "/A/connectors/1", 200, {"rated_power_w": 22_000})
    assert (connector["rated_power_w"], connector["standard"]) == (22_000, None)
    assert await stations.ask("GET", "/A/connectors/1", 200) == connector


async def test_removing_a_station_removes_its_connectors_and_no_other(stations: Stations) -> None:
    for station in ("A", "B"):
        await stations.ask("PUT", f"/{station}", 201, {})
        for number in (1, 2):
            await stations.ask("PUT", f"/{station}/connectors/{number}", 201, {"rated_power_w": 11_000})
    await stations.ask("DELETE", "/A/connectors/1", 204)
    await stations.ask("DELETE", "/A/connectors/1", 404)
    assert [one["connector_id"] for one in (await stations.ask("GET", "/A", 200))["connectors"]] == [2]
    await stations.ask("DELETE", "/a", 204)
    for method, path in (("GET", "/A"), ("DELETE", "/A"), ("GET", "/A/connectors/2"), ("PUT", "/A/connectors/2")):
        problem = await stations.ask(method, path, 404, {} if method == "PUT" else None)
        assert "register it with PUT /api/v1/stations/A" in problem["detail"]
    assert len((await stations.ask("GET", "/B", 200))["connectors"]) == 2


async def test_pages_together_are_all_stations_once(stations: Stations) -> None:
    names = [f"S-{number:02d}" for number in range(7)] + ["~" * 36]
    for name in reversed(names):
        await stations.ask("PUT", f"/{name}", 201, {"city": "X"})
    seen: list[str] = []
    address: str | None = f"{PATH}?limit=3"
    while address:
        page = (await stations.client.get(address)).json()
        seen += [one["station_id"] for one in page["stations"]]
        address = page["next"]
        await stations.client.put(f"{PATH}/A-NEW", json={})
    assert seen == names
    assert "cursor" in (await stations.ask("GET", "", 422, cursor="x"))["detail"]


@pytest.mark.parametrize(
    ("facts", "says"),
    [
        ({"country": "DE"}, "for DE write DEU"),
        ({"country": "XXX"}, "ISO 3166-1 alpha-3"),
        ({"latitude": 52.5}, "latitude and longitude, or neither"),
        ({"latitude": 91, "longitude": 0}, "beyond 90 degrees"),
        ({"latitude": 0, "longitude": "-180.1"}, "beyond 180 degrees"),
        ({"latitude": 0, "longitude": 0.0}, "in the ocean"),
        ({"latitude": "1e400000", "longitude": 1}, "degrees"),
        ({"latitude": True, "longitude": 1}, "degrees as a number"),
        ({"latitude": "NaN", "longitude": 1}, "degrees as a number"),
        ({"address": "x" * 46}, "45"),
        ({"address": "a\u2028b"}, "cannot be printed"),
        ({"address": " "}, "at least 1"),
        ({"time_zone": "Berlin"}, "IANA"),
        ({"adress": "x"}, "did you mean address"),
    ],
)
async def test_a_wrong_fact_of_a_station_is_refused_with_the_reason(
    stations: Stations, facts: dict[str, Any], says: str
) -> None:
    assert says in (await stations.ask("PUT", "/A", 422, facts))["detail"]
    await stations.ask("GET", "/A", 404)


@pytest.mark.parametrize(
    ("facts", "says"),
    [
        ({"rated_power_w": 0}, "greater than or equal to 1"),
        ({"rated_power_w": 10_000_001}, "10000000"),
        ({"rated_power_w": "22000"}, "integer"),
        ({"rated_power_w": 22.5}, "integer"),
        ({"standard": "CCS"}, "IEC_62196_T2_COMBO"),
        ({"standard": "CHADEMO", "power_type": "AC_3_PHASE"}, "does not carry"),
        ({"standard": "DOMESTIC_F", "power_type": "DC"}, "does not carry"),
        ({"evse_id": "1"}, "ISO 15118"),
        ({"evse_id": "DE*VLT*E1\n"}, "ISO 15118"),
    ],
)
async def test_a_wrong_fact_of_a_connector_is_refused_with_the_reason(
    stations: Stations, facts: dict[str, Any], says: str
) -> None:
    await stations.ask("PUT", "/A", 201, {})
    assert says in (await stations.ask("PUT", "/A/connectors/1", 422, facts))["detail"]
    await stations.ask("GET", "/A/connectors/1", 404)


def test_no_standard_is_for_one_current_and_for_the_other() -> None:
    assert not AC_STANDARDS & DC_STANDARDS


async def test_the_main_meter_has_a_rated_power_and_no_plug(stations: Stations) -> None:
    await stations.ask("PUT", "/A", 201, {})
    await stations.ask("PUT", "/A/connectors/0", 201, {"rated_power_w": 500_000})
    refused = await stations.ask("PUT", "/A/connectors/0", 422, {"standard": "CHADEMO"})
    assert "main meter" in refused["detail"]
    await stations.ask("PUT", "/A/connectors/32768", 422, {})
    await stations.ask("PUT", "/A/connectors/-1", 422, {})


async def test_an_evse_is_at_one_station(stations: Stations) -> None:
    for station in ("A", "B"):
        await stations.ask("PUT", f"/{station}", 201, {})
    await stations.ask("PUT", "/A/connectors/1", 201, {"evse_id": "de*vlt*e1"})
    await stations.ask("PUT", "/A/connectors/2", 201, {"evse_id": "DE*VLT*E1"})
    refused = await stations.ask("PUT", "/B/connectors/1", 409, {"evse_id": "DE*VLT*E1"})
    assert "station A" in refused["detail"]
    await stations.ask("DELETE", "/A", 204)
    await stations.ask("PUT", "/B/connectors/1", 201, {"evse_id": "DE*VLT*E1"})


async def test_of_stations_that_take_one_evse_at_once_one_gets_it(stations: Stations) -> None:
    names = [f"S{number}" for number in range(6)]
    for name in names:
        await stations.ask("PUT", f"/{name}", 201, {})
    body = {"evse_id": "DE*VLT*E1"}
    answers = await asyncio.gather(*(stations.client.put(f"{PATH}/{name}/connectors/1", json=body) for name in names))
    assert sorted(answer.status_code for answer in answers) == [201, *[409] * 5]


async def test_a_station_has_a_bounded_number_of_connectors(
    stations: Stations, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stations_service, "CONNECTORS_MAX", 2)
    await stations.ask("PUT", "/A", 201, {})
    answers = await asyncio.gather(
        *(stations.client.put(f"{PATH}/A/connectors/{number}", json={}) for number in range(1, 6))
    )
    assert sorted(answer.status_code for answer in answers) == [201, 201, 409, 409, 409]
    kept = (await stations.ask("GET", "/A", 200))["connectors"]
    await stations.ask("PUT", f"/A/connectors/{kept[0]['connector_id']}", 200, {"rated_power_w": 1})


async def test_rated_powers_are_those_registered_at_their_places(stations: Stations) -> None:
    for station in ("A", "B"):
        await stations.ask("PUT", f"/{station}", 201, {})
    await stations.ask("PUT", "/A/connectors/1", 201, {"rated_power_w": 22_000})
    await stations.ask("PUT", "/A/connectors/2", 201, {"standard": "CHADEMO"})
    await stations.ask("PUT", "/B/connectors/0", 201, {"rated_power_w": 10_000_000})
    asked = [("X", 1), ("A", 1), ("A", 2), ("B", 0), ("a", 1), ("A", 1)]
    query = "SELECT place, rated_power_mw FROM stations.rated_powers(%s::text[], %s::smallint[]) ORDER BY place"
    found = stations.rows(query, [station for station, _ in asked], [number for _, number in asked])
    assert found == [(1, 22_000_000), (3, 10_000_000_000), (5, 22_000_000)]
    assert stations.rows(query, [], []) == []


async def test_stations_that_are_there_are_not_registered_again(stations: Stations, database_url: str) -> None:
    await stations.ask("PUT", "/A", 201, {"city": "Bonn"})
    facts, plug = StationFacts(city="Köln"), ConnectorFacts(rated_power_w=1)
    database = await open_database(database_url, name="test", role=SERVICE.role)
    try:
        for _ in range(2):
            await ensure_stations(database, stations.clock, {"A": (facts, {1: plug}), "B": (facts, {1: plug})})
    finally:
        await database.close()
    assert await stations.ask("GET", "/A", 200) == {
        **dict.fromkeys(StationFacts.model_fields),
        "city": "Bonn",
        "station_id": "A",
        "changed_at": "2026-03-29T09:00:00Z",
        "connectors": [],
    }
    assert [one["rated_power_w"] for one in (await stations.ask("GET", "/B", 200))["connectors"]] == [1]


@given(st.decimals(-90, 90, allow_nan=False, allow_infinity=False, places=9))
def test_degrees_are_kept_to_the_millionth(degrees: Decimal) -> None:
    facts = StationFacts(latitude=degrees, longitude=Decimal(1))
    assert facts.latitude is not None
    assert abs(facts.latitude - degrees) <= Decimal("0.0000005")
    assert from_udeg(to_udeg(facts.latitude)) == facts.latitude
    assert str(facts.latitude).lstrip("-").partition(".")[2].isdigit()
    assert len(str(facts.latitude)) <= 10


@given(st.text(max_size=60))
def test_every_address_that_is_taken_is_a_string_of_ocpi(text: str) -> None:
    try:
        facts = StationFacts(address=text)
    except ValidationError:
        return
    assert facts.address is not None
    assert facts.address.isprintable()
    assert 1 <= len(facts.address) <= 45


@pytest.mark.parametrize(("operation", "kinds"), OPERATIONS.items())
async def test_only_those_may_ask_who_should(stations: Stations, operation: tuple[str, str], kinds: set[str]) -> None:
    method, path = operation
    await asked_only_by(stations.client, stations.tokens, method, path.format(station_id="X", connector_id=1), kinds)


async def test_every_operation_is_described_with_an_example_and_its_problems(stations: Stations) -> None:
    await described_are(stations.client, OPERATIONS)


@pytest.mark.parametrize(
    ("model", "example"),
    [
        (StationFacts, examples.STATION_FACTS),
        (ConnectorFacts, examples.CONNECTOR_FACTS),
        (Connector, examples.CONNECTOR),
        (StationSummary, examples.SUMMARY),
        (Station, examples.STATION),
        (StationPage, examples.PAGE),
    ],
)
def test_examples_are_what_the_models_say(model: type[BaseModel], example: dict[str, Any]) -> None:
    model.model_validate(example)


@pytest.mark.parametrize(("method", "path"), OPERATIONS)
async def test_no_question_is_a_server_error_or_answered_otherwise_than_described(
    stations: Stations, method: str, path: str
) -> None:
    await stations.ask("PUT", "/ST-1", 201, examples.STATION_FACTS)
    await stations.ask("PUT", "/ST-1/connectors/1", 201, examples.CONNECTOR_FACTS)
    schema = schemathesis.openapi.from_dict((await stations.client.get("/openapi.json")).json())
    headers = {"authorization": f"Bearer {stations.tokens['operator']}"}
    cases = cases_of(schema[path][method.upper()])

    @settings(max_examples=60, suppress_health_check=list(HealthCheck), phases=[Phase.generate])
    @given(case=cases, known=st.booleans())
    def ask(case: schemathesis.Case[Any], known: bool) -> None:
        if known and "{station_id}" in path:
            case.path_parameters = {**(case.path_parameters or {}), "station_id": "st-1"}
        answers_as_described(case, stations.base_url, headers)

    await asyncio.to_thread(ask)


@pytest.mark.parametrize(
    ("path", "good"), [("/A", examples.STATION_FACTS), ("/A/connectors/1", examples.CONNECTOR_FACTS)]
)
async def test_anything_anywhere_in_a_body_is_taken_or_refused(
    stations: Stations, path: str, good: dict[str, Any]
) -> None:
    await stations.ask("PUT", "/A", 201, {})
    loop = asyncio.get_running_loop()

    @settings(max_examples=200, suppress_health_check=list(HealthCheck), phases=[Phase.generate])
    @given(at=st.sampled_from(_places(good)), value=JSON)
    def send(at: tuple[Any, ...], value: Any) -> None:
        body = json.dumps(_with(good, at, value)).encode()
        sent = stations.client.put(PATH + path, content=body, headers={"content-type": "application/json"})
        answer = asyncio.run_coroutine_threadsafe(sent, loop).result()
        assert answer.is_success or answer.status_code in (400, 422), answer.text

    await asyncio.to_thread(send)
