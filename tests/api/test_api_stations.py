"""Stations and connectors over HTTP: what is registered is returned, and what cannot be is refused with the reason."""

import asyncio
from decimal import Decimal
from typing import Any
from urllib.parse import quote

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from api.stations.credentials import examples as credential_examples
from api.stations.credentials.models import Credentials, NewCredentials
from api.stations.declaration import SERVICE
from api.stations.exchange import examples as exchange_examples
from api.stations.exchange.models import ImportResult
from api.stations.registry import examples
from api.stations.registry import service as stations_service
from api.stations.registry.models import (
    Connector,
    ConnectorFacts,
    NewStation,
    Station,
    StationDocument,
    StationFacts,
    StationHistory,
    StationPage,
    StationSummary,
    from_udeg,
    to_udeg,
)
from api.stations.registry.service import StationCursor, ensure_stations
from api.stations.search import examples as search_examples
from api.stations.search.models import SearchPage
from api.stations.search.store import SearchCursor
from api.stations.status import examples as status_examples
from api.stations.status.models import StationStatus
from kit.clock import to_ms
from kit.database.postgres import open_database
from kit.web.paging import encode_cursor
from schemas.connector import AC_STANDARDS, DC_STANDARDS
from tests.api.stations_app import NOW, PATH, StationsApp
from tests.described import answers_as_described, asked_only_by, cases_of, described_are, takes_or_refuses

_MONDAY = {"weekday": 1, "period_begin": "08:00", "period_end": "24:00"}
CONNECTOR = f"{PATH}/{{station_id}}/connectors/{{connector_id}}"
OPERATIONS = {
    ("get", PATH): {"operator", "finance"},
    ("post", PATH): {"operator"},
    ("get", f"{PATH}/{{station_id}}"): {"operator", "finance", "driver"},
    ("get", f"{PATH}/search"): {"operator", "finance", "driver"},
    ("get", f"{PATH}/export"): {"operator", "finance"},
    ("post", f"{PATH}/import"): {"operator"},
    **{(method, f"{PATH}/{{station_id}}/credentials"): {"operator"} for method in ("get", "put", "delete")},
    ("get", f"{PATH}/{{station_id}}/history"): {"operator", "finance"},
    ("get", f"{PATH}/{{station_id}}/status"): {"operator", "finance", "driver"},
    ("put", f"{PATH}/{{station_id}}"): {"operator"},
    ("delete", f"{PATH}/{{station_id}}"): {"operator"},
    ("get", CONNECTOR): {"operator", "finance", "driver"},
    ("put", CONNECTOR): {"operator"},
    ("delete", CONNECTOR): {"operator"},
}


async def test_what_is_registered_is_returned_whole(stations: StationsApp) -> None:
    created = await stations.client.put(f"{PATH}/de*vlt*e1", json=examples.DOCUMENT)
    assert (created.status_code, created.headers["location"]) == (201, f"{PATH}/DE%2AVLT%2AE1")
    assert (await stations.client.get(created.headers["location"])).json() == created.json()
    (first,) = created.json()["connectors"]
    one = await stations.ask("PUT", "/DE*VLT*E1/connectors/2", 201, examples.CONNECTOR_FACTS)
    assert one == {**examples.CONNECTOR, "station_id": "DE*VLT*E1", "connector_id": 2}
    assert await stations.ask("GET", "/De*vlt*e1/connectors/2", 200) == one
    shown = await stations.ask("GET", "/DE*VLT*E1", 200)
    assert shown == {**examples.STATION, "station_id": "DE*VLT*E1", "revision": 2, "connectors": [first, one]}


@pytest.mark.parametrize("station", ["Ü-1", "\u53f0", "A" * 37, "ß"])
async def test_a_station_that_could_send_no_reading_is_not_registered(stations: StationsApp, station: str) -> None:
    for place in (f"/{station}", f"/{station}/connectors/1"):
        assert "1 to 36 printable ASCII characters" in (await stations.ask("PUT", place, 422, {}))["detail"]
    if len(station) <= 36:  # an earlier release may have registered it
        await stations.ask("GET", f"/{station}", 404)


async def test_a_station_id_has_no_slash_and_reaches_no_other_stations_parts(stations: StationsApp) -> None:
    problem = await stations.ask("POST", "", 422, {"station_id": "A/C"})
    assert "has no slash" in problem["detail"]
    await stations.ask("PUT", "/NX-1", 201, {"connectors": [{"connector_id": 7}]})
    await stations.ask("PUT", "/NX-1/credentials", 200, {"certificate_subject": "NX-1.example"})
    before = await stations.ask("GET", "/NX-1", 200)
    for method, path in (
        *(("PUT", "/A%2FC"), ("PUT", "/NX-1%2Fconnectors%2F7"), ("PUT", "/NX-1%2fconnectors/7")),
        *(("DELETE", "/NX-1%2Fconnectors%2F7"), ("DELETE", "/NX-1%2Fcredentials"), ("GET", "/NX-1%2Fstatus")),
    ):
        answer = await stations.client.request(
            method, PATH + path, json={} if method == "PUT" else None, headers={"If-Match": "*"}
        )
        assert answer.status_code == 404
        assert "an id in a path cannot have a slash" in answer.json()["detail"]
    assert await stations.ask("GET", "/NX-1", 200) == before
    assert (await stations.client.get(f"{PATH}/NX-1/credentials")).status_code == 200


@pytest.mark.parametrize("name", ["rm-1 ", " rm-1", " "])
async def test_a_station_id_has_no_space_at_its_ends(stations: StationsApp, name: str) -> None:
    await stations.ask("POST", "", 201, {"station_id": "rm 1"})
    assert "no space at either end" in (await stations.ask("POST", "", 422, {"station_id": name}))["detail"]
    assert "no space at either end" in (await stations.ask("PUT", f"/{quote(name)}", 422, {}))["detail"]


async def test_a_second_put_replaces_all_facts_and_keeps_the_connectors(stations: StationsApp) -> None:
    await stations.ask("PUT", "/A", 201, examples.DOCUMENT)
    stations.clock.advance(60)
    replaced = await stations.ask("PUT", "/a", 200, {"city": "Bonn"}, match="*")
    assert (replaced["city"], replaced["address"], replaced["latitude"]) == ("Bonn", None, None)
    assert replaced["changed_at"] == "2026-03-29T09:01:00Z"
    assert [one["connector_id"] for one in replaced["connectors"]] == [1]
    connector = await stations.ask("PUT", "/A/connectors/1", 200, {"rated_power_w": 22_000}, match='"2"')
    assert (connector["rated_power_w"], connector["standard"]) == (22_000, None)
    assert await stations.ask("GET", "/A/connectors/1", 200) == connector


async def test_removing_a_station_removes_its_connectors_and_no_other(stations: StationsApp) -> None:
    for station in ("A", "B"):
        await stations.ask("PUT", f"/{station}", 201, {})
        for number in (1, 2):
            await stations.ask("PUT", f"/{station}/connectors/{number}", 201, {"rated_power_w": 11_000})
    await stations.ask("DELETE", "/A/connectors/1", 204, match="*")
    await stations.ask("DELETE", "/A/connectors/1", 404, match="*")
    assert [one["connector_id"] for one in (await stations.ask("GET", "/A", 200))["connectors"]] == [2]
    bays = {"bays": [{"bay": "P1", "connectors": [2]}]}
    await stations.ask("PUT", "/B", 200, bays, match="*")
    problem = await stations.ask("DELETE", "/B/connectors/2", 409, match="*")
    assert "bay P1 of station B names connector 2: take it out of the bay first" in problem["detail"]
    await stations.ask("DELETE", "/a", 204, match='"4"')
    for method, path in (("GET", "/A"), ("DELETE", "/A"), ("GET", "/A/connectors/2"), ("PUT", "/A/connectors/2")):
        problem = await stations.ask(method, path, 404, {} if method == "PUT" else None)
        assert "register it with PUT /api/v1/stations/A" in problem["detail"]
    assert len((await stations.ask("GET", "/B", 200))["connectors"]) == 2


async def test_pages_together_are_all_stations_once(stations: StationsApp) -> None:
    names = [f"S-{number:02d}" for number in range(7)] + ["Z" * 36]
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


async def test_a_cursor_with_nul_is_refused_as_any_other(stations: StationsApp) -> None:
    nul = encode_cursor(StationCursor("A\0"))
    searched = encode_cursor(SearchCursor(to_ms(NOW), 0, 0, "A\0"))
    for path, params in (
        ("", {"cursor": nul}),
        ("/export", {"cursor": nul, "format": "csv"}),
        ("/search", {"cursor": searched, "latitude": "1", "longitude": "1"}),
    ):
        problem = await stations.ask("GET", path, 422, **params)
        assert "cursor is not one of this query" in problem["detail"]


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
        ({"opening_hours": {"twentyfourseven": True, "regular_hours": [_MONDAY]}}, "exclude each other"),
        ({"opening_hours": {"twentyfourseven": False, "regular_hours": [_MONDAY]}}, "time_zone"),
        ({"bays": [{"bay": "P1"}, {"bay": "P1"}]}, "the same name"),
        ({"connectors": [{"connector_id": 1}, {"connector_id": 1}]}, "the same connector_id"),
        (
            {"connectors": [{"connector_id": 1}], "bays": [{"bay": "P1", "connectors": [1, 7]}]},
            "bay P1 names connector 7, which the station does not have",
        ),
        ({"bays": [{"bay": "P1", "connectors": [1]}]}, "bay P1 names connector 1"),
        ({"connectors": [{"connector_id": 0, "standard": "CHADEMO"}]}, "main meter"),
        ({"group": "a b"}, "write 1 to 64 letters, digits"),
    ],
)
async def test_a_wrong_fact_of_a_station_is_refused_with_the_reason(
    stations: StationsApp, facts: dict[str, Any], says: str
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
    stations: StationsApp, facts: dict[str, Any], says: str
) -> None:
    await stations.ask("PUT", "/A", 201, {})
    assert says in (await stations.ask("PUT", "/A/connectors/1", 422, facts))["detail"]
    await stations.ask("GET", "/A/connectors/1", 404)


def test_no_standard_is_for_one_current_and_for_the_other() -> None:
    assert not AC_STANDARDS & DC_STANDARDS


async def test_the_main_meter_has_a_rated_power_and_no_plug(stations: StationsApp) -> None:
    await stations.ask("PUT", "/A", 201, {})
    await stations.ask("PUT", "/A/connectors/0", 201, {"rated_power_w": 500_000})
    refused = await stations.ask("PUT", "/A/connectors/0", 422, {"standard": "CHADEMO"})
    assert "main meter" in refused["detail"]
    await stations.ask("PUT", "/A/connectors/32768", 422, {})
    await stations.ask("PUT", "/A/connectors/-1", 422, {})


async def test_an_evse_is_at_one_station(stations: StationsApp) -> None:
    for station in ("A", "B"):
        await stations.ask("PUT", f"/{station}", 201, {})
    await stations.ask("PUT", "/A/connectors/1", 201, {"evse_id": "de*vlt*e1"})
    await stations.ask("PUT", "/A/connectors/2", 201, {"evse_id": "DE*VLT*E1"})
    refused = await stations.ask("PUT", "/B/connectors/1", 409, {"evse_id": "DE*VLT*E1"})
    assert "station A" in refused["detail"]
    await stations.ask("DELETE", "/A", 204, match="*")
    await stations.ask("PUT", "/B/connectors/1", 201, {"evse_id": "DE*VLT*E1"})


async def test_of_stations_that_take_one_evse_at_once_one_gets_it(stations: StationsApp) -> None:
    names = [f"S{number}" for number in range(6)]
    for name in names:
        await stations.ask("PUT", f"/{name}", 201, {})
    body = {"evse_id": "DE*VLT*E1"}
    answers = await asyncio.gather(*(stations.client.put(f"{PATH}/{name}/connectors/1", json=body) for name in names))
    assert sorted(answer.status_code for answer in answers) == [201, *[409] * 5]


async def test_a_station_has_a_bounded_number_of_connectors(
    stations: StationsApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stations_service, "CONNECTORS_MAX", 2)
    await stations.ask("PUT", "/A", 201, {})
    answers = await asyncio.gather(
        *(stations.client.put(f"{PATH}/A/connectors/{number}", json={}) for number in range(1, 6))
    )
    assert sorted(answer.status_code for answer in answers) == [201, 201, 409, 409, 409]
    kept = (await stations.ask("GET", "/A", 200))["connectors"]
    await stations.ask("PUT", f"/A/connectors/{kept[0]['connector_id']}", 200, {"rated_power_w": 1}, match="*")


async def test_rated_powers_are_those_registered_at_their_places(stations: StationsApp) -> None:
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


async def test_stations_may_be_expected_to_speak_at_an_interval_of_their_own(stations: StationsApp) -> None:
    await stations.ask("PUT", "/A", 201, {"silent_after_s": 86_400})
    await stations.ask("PUT", "/B", 201, {"silent_after_s": 0})
    await stations.ask("PUT", "/C", 201, {})
    assert (await stations.ask("GET", "/A", 200))["silent_after_s"] == 86_400
    query = "SELECT station_id, silent_after_s FROM stations.silence_overview ORDER BY station_id"
    assert stations.rows(query) == [("A", 86_400), ("B", 0)]
    await stations.ask("PUT", "/A", 200, {}, match="*")
    assert stations.rows(query) == [("B", 0)]
    await stations.ask("PUT", "/A", 422, {"silent_after_s": -1}, match="*")


async def test_stations_that_are_there_are_not_registered_again(stations: StationsApp, database_url: str) -> None:
    await stations.ask("PUT", "/A", 201, {"city": "Bonn"})
    facts, plug = StationFacts(city="Köln"), ConnectorFacts(rated_power_w=1, evse_id="DE*VLT*E1")
    await stations.ask("PUT", "/X", 201, {"connectors": [{"connector_id": 1, "evse_id": "DE*VLT*E1"}]})
    database = await open_database(database_url, name="test", role=SERVICE.role)
    try:
        for _ in range(2):
            await ensure_stations(database, stations.clock, {"A": (facts, {1: plug}), "B": (facts, {1: plug})})
    finally:
        await database.close()
    kept = await stations.ask("GET", "/A", 200)
    assert (kept["city"], kept["revision"], kept["connectors"]) == ("Bonn", 1, [])
    [made] = (await stations.ask("GET", "/B", 200))["connectors"]
    assert (made["rated_power_w"], made["evse_id"]) == (1, None)  # another station has that EVSE


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
async def test_only_those_may_ask_who_should(
    stations: StationsApp, operation: tuple[str, str], kinds: set[str]
) -> None:
    method, path = operation
    await asked_only_by(stations.client, stations.tokens, method, path.format(station_id="X", connector_id=1), kinds)


async def test_every_operation_is_described_with_an_example_and_its_problems(stations: StationsApp) -> None:
    await described_are(stations.client, OPERATIONS)


@pytest.mark.parametrize(
    ("model", "example"),
    [
        (StationFacts, examples.STATION_FACTS),
        (StationDocument, examples.DOCUMENT),
        (ConnectorFacts, examples.CONNECTOR_FACTS),
        (Connector, examples.CONNECTOR),
        (StationSummary, examples.SUMMARY),
        (Station, examples.STATION),
        (StationPage, examples.PAGE),
        (NewStation, examples.NEW_STATION),
        (StationHistory, examples.HISTORY),
        (SearchPage, search_examples.FOUND),
        (ImportResult, exchange_examples.RESULT),
        (NewCredentials, credential_examples.NEW_CREDENTIALS),
        (Credentials, credential_examples.CREDENTIALS),
        (StationStatus, status_examples.STATUS),
    ],
)
def test_examples_are_what_the_models_say(model: type[BaseModel], example: dict[str, Any]) -> None:
    model.model_validate(example)


@pytest.mark.parametrize(("method", "path"), OPERATIONS)
async def test_no_question_is_a_server_error_or_answered_otherwise_than_described(
    stations: StationsApp, method: str, path: str
) -> None:
    await stations.ask("PUT", "/ST-1", 201, examples.DOCUMENT)
    schema = schemathesis.openapi.from_dict((await stations.client.get("/openapi.json")).json())
    headers = {"authorization": f"Bearer {stations.tokens['operator']}", "if-match": "*"}
    cases = cases_of(schema[path][method.upper()])

    @settings(max_examples=60, suppress_health_check=list(HealthCheck), phases=[Phase.generate])
    @given(case=cases, known=st.booleans())
    def ask(case: schemathesis.Case[Any], known: bool) -> None:
        if known and "{station_id}" in path:
            case.path_parameters = {**(case.path_parameters or {}), "station_id": "st-1"}
        answers_as_described(case, stations.base_url, headers)

    await asyncio.to_thread(ask)


@pytest.mark.parametrize(
    ("path", "good"),
    [
        ("/A", examples.NEW_STATION),
        ("/A/connectors/1", examples.CONNECTOR_FACTS),
    ],
)
async def test_anything_anywhere_in_a_body_is_taken_or_refused(
    stations: StationsApp, path: str, good: dict[str, Any]
) -> None:
    good = {name: value for name, value in good.items() if name != "station_id"}
    await stations.ask("PUT", "/A", 201, {"connectors": [{"connector_id": 1}]})
    await takes_or_refuses(stations.client, "PUT", PATH + path, good, headers={"if-match": "*"})
