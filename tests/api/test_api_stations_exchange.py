"""Files of stations: what is exported is imported as it was, and an import says before what it would change."""

import csv
import io
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.stations.exchange import csv_file, examples, ocpi
from api.stations.exchange.evse_clashes import evse_clashes
from api.stations.registry.examples import CONNECTOR_FACTS, NEW_STATION, STATION_FACTS
from api.stations.registry.models import Connector, Station, StationDocument, StationFacts
from tests.api.stations_app import NOW, PATH, StationsApp

_TEXT = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1, max_size=12)
_MAYBE = {name: st.none() | _TEXT for name in ("name", "address", "city", "site", "organisation")}
_MONDAY = {"weekday": 1, "period_begin": "08:00", "period_end": "24:00"}


def _bay(one: Any) -> str:
    return str(one["bay"])


def _number(one: Any) -> int:
    return int(one["connector_id"])


_BAYS = st.lists(
    st.fixed_dictionaries(
        {
            "bay": _TEXT,
            "connectors": st.lists(st.integers(0, 3)),
            "restrictions": st.lists(st.just("EV_ONLY"), max_size=1),
        }
    ),
    max_size=2,
    unique_by=_bay,
)
_CONNECTORS = st.lists(
    st.fixed_dictionaries(
        {
            "connector_id": st.integers(1, 40),
            "standard": st.sampled_from([None, "CHADEMO", "IEC_62196_T2_COMBO"]),
            "format": st.sampled_from([None, "CABLE"]),
            "power_type": st.sampled_from([None, "DC"]),
            "rated_power_w": st.none() | st.integers(1, 10_000_000),
            "voltage_v_max": st.none() | st.integers(1, 2_000),
            "current_a_max": st.none() | st.integers(1, 500),
            "evse_id": st.sampled_from([None, "DE*VLT*E1", "DE*VLT*E2"]),
            "tariff_ids": st.lists(
                st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=5), max_size=2
            ),
        }
    ),
    max_size=4,
    unique_by=_number,
)
_FACTS = st.fixed_dictionaries(
    {
        **_MAYBE,
        "country": st.sampled_from([None, "DEU", "NLD"]),
        "postal_code": st.none() | st.from_regex("[0-9]{5}", fullmatch=True),
        "time_zone": st.just("Europe/Berlin"),
        "group": st.none() | st.from_regex("[a-z]{1,8}", fullmatch=True),
        "site_power_w_max": st.none() | st.integers(1, 10_000_000),
        "charging_when_closed": st.booleans(),
        "bays": _BAYS,
        "operator": st.none() | st.builds(lambda name: {"name": name}, _TEXT),
        "opening_hours": st.sampled_from(
            [None, {"twentyfourseven": True}, {"twentyfourseven": False, "regular_hours": [_MONDAY]}]
        ),
        "directions": st.lists(st.builds(lambda text: {"language": "de", "text": text}, _TEXT), max_size=2),
        "facilities": st.lists(st.just("CAFE"), max_size=1),
    }
)
_PLACES = st.none() | st.tuples(st.integers(-89_000_000, 89_000_000), st.integers(1, 180_000_000))


def _station(name: str, facts: dict[str, Any], place: Any, connectors: Any) -> Station:
    if place is not None:
        facts = {**facts, "latitude": f"{place[0] / 1e6:.6f}", "longitude": f"{place[1] / 1e6:.6f}"}
    known = {one["connector_id"] for one in connectors}
    bays = [
        {**one, "connectors": [number for number in one.get("connectors", []) if number in known]}
        for one in facts.get("bays", [])
    ]
    document = StationDocument.model_validate({**facts, "bays": bays, "connectors": connectors})
    plugs = sorted(document.connectors or [], key=lambda one: one.connector_id)
    return Station(
        **{name: getattr(document, name) for name in StationFacts.model_fields},
        station_id=name,
        revision=1,
        changed_at=datetime(2026, 3, 29, tzinfo=UTC),
        connectors=[Connector(**one.model_dump(), station_id=name, changed_at=NOW) for one in plugs],
    )


_STATIONS = st.lists(st.tuples(_FACTS, _PLACES, _CONNECTORS), max_size=4).map(
    lambda found: {f"ST-{number}": _station(f"ST-{number}", *one) for number, one in enumerate(found)}
)


def _said(station: Station) -> dict[str, Any]:
    """What somebody said of it."""
    return station.model_dump(exclude={"station_id", "revision", "changed_at", "connectors"}) | {
        "connectors": [one.model_dump(exclude={"station_id", "changed_at"}) for one in station.connectors]
    }


def _again(document: StationDocument | None) -> dict[str, Any]:
    assert document is not None
    found = document.model_dump()
    return {**found, "connectors": sorted(found["connectors"], key=lambda one: one["connector_id"])}


@given(_STATIONS, st.booleans())
def test_csv_is_read_as_it_was_written(fleet: dict[str, Station], known: bool) -> None:
    read = csv_file.read(csv_file.write(fleet.values()), fleet if known else {})
    assert [one.reason for one in read] == [None] * len(fleet)
    assert {one.station_id: _again(one.document) for one in read} == {
        name: _said(station) for name, station in fleet.items()
    }


def test_no_text_of_a_station_is_a_formula_to_a_spreadsheet() -> None:
    name = "=HYPERLINK(1)"
    station = _station("ST-1", {"name": name, "site": "-1", "time_zone": "Europe/London"}, (-500_000, -100_000), [])
    written = csv_file.write([station])
    (row,) = csv.DictReader(io.StringIO(written))
    assert (row["name"], row["site"], row["latitude"]) == ("'" + name, "'-1", "-0.500000")
    (again,) = csv_file.read(written, {})
    assert again.document is not None
    assert (again.document.name, again.document.site) == (name, "-1")


@given(_STATIONS)
def test_locations_say_of_a_known_station_what_it_is(fleet: dict[str, Station]) -> None:
    written = [place for station in fleet.values() if (place := ocpi.location(station, {})) is not None]
    for one in ocpi.read(json.loads(json.dumps(written)), fleet):
        assert one.reason is None
        assert _again(one.document) == _said(fleet[one.station_id])


def test_a_location_has_all_that_ocpi_requires() -> None:
    facts = {**STATION_FACTS, "bays": [{"bay": "P1", "connectors": [1], "restrictions": ["DISABLED"]}]}
    place = (52_520_008, 13_404_954)
    plugs = [{**CONNECTOR_FACTS, "connector_id": 1}, {**CONNECTOR_FACTS, "connector_id": 2}, {"connector_id": 3}]
    station = _station(
        "A", {name: value for name, value in facts.items() if name not in ("latitude", "longitude")}, place, plugs
    )
    location = ocpi.location(station, {1: 1, 2: 3})
    assert location is not None
    required = {
        "country_code",
        "party_id",
        "id",
        "publish",
        "address",
        "city",
        "country",
        "coordinates",
        "time_zone",
        "last_updated",
    }
    assert required <= location.keys()
    assert (location["country_code"], location["party_id"]) == ("DE", "VLT")
    [evse] = location["evses"]
    assert {"uid", "status", "connectors", "last_updated"} <= evse.keys()
    assert (evse["status"], evse["parking_restrictions"]) == ("CHARGING", ["DISABLED"])
    assert [one["id"] for one in evse["connectors"]] == ["1", "2"]
    needed = {"id", "standard", "format", "power_type", "max_voltage", "max_amperage", "last_updated"}
    assert all(needed <= one.keys() for one in evse["connectors"])
    assert ocpi.location(_station("A", {"city": "Bonn", "time_zone": "UTC"}, place, plugs), {}) is None


_EVSE_SETS = st.dictionaries(st.sampled_from("ABCDE"), st.sets(st.integers(1, 5).map(str), max_size=3))


@given(_EVSE_SETS, st.dictionaries(st.integers(1, 5).map(str), st.sampled_from("ABCDEFG")))
def test_of_stations_without_a_clash_each_evse_is_at_one_station(
    wanted: dict[str, set[str]], holders: dict[str, str]
) -> None:
    refused = evse_clashes(wanted, holders)
    after: dict[str, set[str]] = {}
    for evse_id, holder in holders.items():
        if holder not in wanted or holder in refused:
            after.setdefault(evse_id, set()).add(holder)
    for name, evse_ids in wanted.items():
        for evse_id in evse_ids if name not in refused else ():
            after.setdefault(evse_id, set()).add(name)
    assert all(len(names) == 1 for names in after.values())
    alone = {name for name, ids in wanted.items() if all(holders.get(one, name) == name for one in ids)}
    others = {name: set().union(*(ids for other, ids in wanted.items() if other != name)) for name in wanted}
    assert not any(name in refused for name in alone if not wanted[name] & others[name])


async def put(stations: StationsApp, body: str | list[Any], status: int = 200, **params: Any) -> Any:
    """An import."""
    format_ = "csv" if isinstance(body, str) else "ocpi"
    content = body if isinstance(body, str) else json.dumps(body)
    headers = {"content-type": "text/csv" if format_ == "csv" else "application/json"}
    asked = {"format": format_, **params}
    answer = await stations.client.post(f"{PATH}/import", content=content.encode(), params=asked, headers=headers)
    assert answer.status_code == status, answer.text
    return answer.json()


async def exported(stations: StationsApp, format_: str, limit: int = 500) -> list[str]:
    """The pages of an export."""
    pages = []
    address = f"{PATH}/export?format={format_}&limit={limit}"
    while address:
        answer = await stations.client.get(address)
        assert answer.status_code == 200, answer.text
        pages.append(answer.text)
        address = answer.links.get("next", {}).get("url", "")
    return pages


async def test_an_import_says_before_what_it_would_change_and_then_changes_that(stations: StationsApp) -> None:
    await stations.ask("PUT", "/B", 201, {"city": "Bonn", "name": "B", "connectors": [{"connector_id": 1}]})
    await stations.ask("PUT", "/C", 201, {"city": "Köln"})
    file = "station_id,city,connector_id,rated_power_w\na,Berlin,1,11000\na,,2,\nB,Bonn,1,22000\nb,,7,\nC,Köln,,\n"
    preview = await put(stations, file, dry_run=True)
    assert (preview["created"], preview["changed"], preview["unchanged"], preview["refused"]) == (1, 1, 1, 0)
    assert [(one["line"], one["station_id"], one["outcome"]) for one in preview["stations"]] == [
        (2, "A", "created"),
        (4, "B", "changed"),
    ]
    assert preview["stations"][1]["changes"] == ["connectors/1/rated_power_w", "connectors/7"]
    await stations.ask("GET", "/A", 404)
    assert len(stations.published()) == 2
    made = await put(stations, file)
    assert made == {**preview, "dry_run": False}
    shown = await stations.ask("GET", "/B", 200)
    assert (shown["name"], shown["revision"]) == ("B", 2)  # a column that is not there
    assert [one["connector_id"] for one in shown["connectors"]] == [1, 7]
    assert len(stations.published()) == 4
    fewer = await put(stations, "station_id,connector_id\nB,1\n", dry_run=True)
    assert fewer["stations"][0]["changes"] == ["connectors/7 removed"]
    again = await put(stations, file)
    assert (again["unchanged"], again["stations"]) == (3, [])
    assert len(stations.published()) == 4


async def test_an_import_is_all_or_nothing_unless_asked(stations: StationsApp) -> None:
    file = "station_id,country\nA,DEU\nB,DE\n"
    refused = await put(stations, file, 422)
    assert "Line 3, B: country: is no ISO 3166-1 alpha-3 code; for DE write DEU" in refused["detail"]
    assert [one["station_id"] for one in refused["refused"]] == ["B"]
    await stations.ask("GET", "/A", 404)
    preview = await put(stations, file, dry_run=True)
    assert (preview["written"], preview["refused"]) == (False, 1)
    assert (await put(stations, file, dry_run=True, partial=True))["written"] is True
    made = await put(stations, file, partial=True)
    assert (made["created"], made["refused"], made["written"]) == (1, 1, True)
    await stations.ask("GET", "/A", 200)
    twice = "station_id,connector_id,evse_id\nX,1,DE*VLT*E9\nY,1,DE*VLT*E9\n"
    says = "Line 3, Y: DE*VLT*E9 is an EVSE of station X: an EVSE is at one station"
    assert says in (await put(stations, twice, 422))["detail"]
    assert (await put(stations, twice, dry_run=True))["written"] is False
    await stations.ask("GET", "/X", 404)
    made = await put(stations, twice, partial=True)
    assert (made["created"], made["refused"]) == (1, 1)
    taken = await put(stations, "station_id,connector_id,evse_id\nZ,1,DE*VLT*E9\nW,1,DE*VLT*E8\n", partial=True)
    assert [(one["line"], one["outcome"]) for one in taken["stations"]] == [(2, "refused"), (3, "created")]
    moved = "station_id,connector_id,evse_id\nZ,1,DE*VLT*E9\nX,1,DE*VLT*E7\n"  # X gives it away
    assert (await put(stations, moved))["refused"] == 0


async def test_what_is_exported_changes_nothing_and_makes_the_same_again(stations: StationsApp) -> None:
    await stations.ask("POST", "", 201, NEW_STATION)
    await stations.ask("PUT", "/B", 201, {"site": "x", "connectors": [{"connector_id": 0, "rated_power_w": 1}]})
    await stations.ask("PUT", "/C", 201, {})
    pages = await exported(stations, "csv", 2)
    assert len(pages) == 2
    assert [row["station_id"] for page in pages for row in csv.DictReader(io.StringIO(page))] == [
        "B",
        "C",
        "DE-VS-0001",
    ]
    before = [await stations.ask("GET", f"/{name}", 200) for name in ("B", "C", "DE-VS-0001")]
    for format_ in ("csv", "ocpi"):
        for page in await exported(stations, format_):
            result = await put(stations, page if format_ == "csv" else json.loads(page))
            assert result["stations"] == []
    for one in before:
        await stations.ask("DELETE", f"/{one['station_id']}", 204, match="*")
    for page in pages:
        await put(stations, page)
    same = {"revision", "changed_at", "connectors"}
    for one in before:
        after = await stations.ask("GET", f"/{one['station_id']}", 200)
        assert {name: after[name] for name in after.keys() - same} == {name: one[name] for name in one.keys() - same}
        assert after["revision"] == one["revision"] + 2


async def test_the_examples_can_be_imported(stations: StationsApp) -> None:
    assert (await put(stations, examples.CSV))["created"] == 1
    assert (await put(stations, examples.LOCATIONS))["changed"] == 1
    [said] = (await put(stations, [{**examples.LOCATIONS[0], "fancy": {"x": True}}]))["stations"]
    assert (said["outcome"], said["not_taken"]) == ("unchanged", ["fancy"])
    envelope = {"data": examples.LOCATIONS, "status_code": 1000}
    answer = await stations.client.post(f"{PATH}/import?format=ocpi", json=envelope)
    assert answer.json()["unchanged"] == 1


async def test_what_others_say_of_energy_visibility_and_entrances_is_kept(stations: StationsApp) -> None:
    more = {
        "energy_mix": {
            "is_green_energy": False,
            "energy_sources": [{"source": "WIND", "percentage": 82.5}, {"source": "GAS", "percentage": 17.5}],
            "environ_impact": [{"category": "CARBON_DIOXIDE", "amount": 92.1}],
            "supplier_name": "Nordstrom",
            "energy_product_name": "Nord 80",
        },
        "publish_allowed_to": [{"visual_number": "12345-67", "issuer": "NewMotion"}, {"uid": "012A", "type": "RFID"}],
        "related_locations": [
            {"latitude": "52.520100", "longitude": "13.404900", "name": {"language": "en", "text": "Entrance"}}
        ],
    }
    assert (await put(stations, [{**examples.LOCATIONS[0], **more}]))["created"] == 1
    [page] = await exported(stations, "ocpi")
    [location] = json.loads(page)
    assert {name: location[name] for name in more} == more
    for format_ in ("csv", "ocpi"):
        for page in await exported(stations, format_):
            assert (await put(stations, page if format_ == "csv" else json.loads(page)))["stations"] == []


@pytest.mark.parametrize(
    ("file", "says"),
    [
        ([{"id": "A", "publish_allowed_to": [{"type": "RFID"}]}], "names nobody: give uid, visual_number or group_id"),
        ("", "empty"),
        ("name\nx\n", "station_id"),
        ("station_id,nmae\nA,x\n", "did you mean name"),
        ("station_id,station_id\nA,A\n", "twice"),
        ("station_id,evse_id\nA,x\n", "connector_id"),
        ('station_id,name\nA,"x\n', "no CSV"),
        ("station_id,name\nA,x,y\n", "has 3 cells"),
        ("station_id,name\n,x\n", "printable ASCII characters"),
        ("station_id,name\nA,x\nA,y\n", "another than in the station's first line"),
        ("station_id,connector_id\nA,1\nB,1\nA,1\n", "A: line 4: connector 1 is there already, in line 2"),
        ("station_id,connector_id,rated_power_w\nA,1,1\nA,2,0\n", "A: line 3: rated_power_w: "),
        ("station_id,latitude\nA,9\n", "A: give latitude and longitude"),
        ("station_id,charging_when_closed\nA,True\n", "no JSON"),
        ("station_id,connector_id\nA,x\n", "no number"),
        ("station_id,connector_id\nA,1.5\n", "integer"),
        ("station_id,connector_id\nA,\nA,1\n", "connector_id is empty"),
        ("station_id,bays\nA,[{\n", "no JSON"),
        ('station_id,bays\nA,"[{""bay"":""P1"",""connectors"":[3]}]"\n', "A: bay P1 names connector 3, which the"),
        (
            'station_id,connector_id,bays\nA,1,"[{""bay"":""P1"",""connectors"":[1,3]}]"\n',
            "A: bay P1 names connector 3, which the",
        ),
        ("station_id,latitude\nA,91\n", "beyond 90"),
        ("station_id,site_power_w_max\nA,NaN\n", "integer"),
        ("station_id,name\nA,\x00\n", "NUL"),
        ([{"id": "A", "coordinates": 1}], "A: coordinates: write a JSON object"),
        ([{"id": "A", "coordinates": {"latitude": "1"}}], "give latitude and longitude"),
        ([{"id": "A", "publish": False}], "A: publish: is false, and all stations here are published"),
        ([{"id": "A", "publish": "no"}], "A: publish: write true"),
        ([{"id": "A", "evses": 7}], "A: evses: write a list"),
        ([{"id": "A", "evses": ["x"]}], "A: evses/0: write a JSON object"),
        ([{"id": "A", "evses": [{"connectors": {}}]}], "A: evses/0/connectors: write a list"),
        ([{"id": "A", "evses": [{"connectors": [{}]}]}], "A: evses/0/connectors/0/id: write the connector's id"),
        ([{"id": "A", "opening_times": 1}], "A: opening_times: write a JSON object"),
        ([{"id": "A", "opening_times": {"regular_hours": [1]}}], "A: opening_times/regular_hours/0: write a JSON"),
        ([{"id": "A"}, {"id": "a"}], "twice"),
        ([{"id": "\ud800"}], "printable"),
        ([{"id": "A", "name": "\ud800"}], "valid string"),
        ([7], "printable"),
    ],
)
async def test_a_wrong_file_is_refused_with_the_reason(stations: StationsApp, file: Any, says: str) -> None:
    assert says in (await put(stations, file, 422))["detail"]
    assert stations.published() == []


@pytest.mark.parametrize("format_", ["csv", "ocpi"])
@pytest.mark.parametrize(
    ("name", "says"),
    [
        *((name, "1 to 36 printable ASCII characters") for name in ("Ä1", "ß", "ſ1", "A" * 37)),
        ("A/C", "has no slash"),
    ],
)
async def test_an_import_takes_the_ids_that_can_be_registered(
    stations: StationsApp, format_: str, name: str, says: str
) -> None:
    others = ("SS", "S1", "A" * 36)
    file: Any = [{"id": one} for one in (name, *others)]
    if format_ == "csv":
        file = "".join(f"{one}\n" for one in ("station_id", name, *others))
    refused = await put(stations, file, 422)
    assert says in refused["detail"]
    assert [one["station_id"] for one in refused["refused"]] == [name[:36]]
    result = await put(stations, file, partial=True)
    assert (result["created"], result["refused"]) == (3, 1)


async def test_an_ocpi_id_with_a_space_at_its_end_is_refused(stations: StationsApp) -> None:
    assert "no space at either end" in (await put(stations, [{"id": "RM-1 "}], 422))["detail"]


@pytest.mark.parametrize("separator", [",", ";", "\t"])
async def test_files_of_spreadsheets_are_taken(stations: StationsApp, separator: str) -> None:
    rows = [
        ("station_id", '"name"', "charging_when_closed", "directions"),
        ("A", '"Kai; 1, links"', "FALSE", ""),
        ("B", "x", "TRUE", '"[{""language"":""de"",""text"":""a,b;c""}]"'),
    ]
    file = "\ufeff" + "\r\n".join(separator.join(row) for row in rows)
    assert (await put(stations, file))["created"] == 2
    shown = await stations.ask("GET", "/A", 200)
    assert (shown["name"], shown["charging_when_closed"]) == ("Kai; 1, links", False)
    shown = await stations.ask("GET", "/B", 200)
    assert (shown["charging_when_closed"], shown["directions"][0]["text"]) == (True, "a,b;c")


async def test_a_byte_order_mark_before_json_is_taken(stations: StationsApp) -> None:
    content = "\ufeff" + json.dumps(examples.LOCATIONS)
    answer = await stations.client.post(f"{PATH}/import?format=ocpi", content=content.encode())
    assert answer.status_code == 200, answer.text


async def test_a_file_that_is_no_file_is_refused(stations: StationsApp) -> None:
    for format_, content in (("csv", b"\xff"), ("ocpi", b"{}"), ("ocpi", b"[" * 100_000), ("ocpi", b"x")):
        answer = await stations.client.post(f"{PATH}/import?format={format_}", content=content)
        assert answer.status_code == 422, answer.text


def test_numbers_of_connectors_are_those_of_the_file_where_they_are_the_stations_own() -> None:
    def evse(*numbers: str) -> dict[str, Any]:
        return {"connectors": [{"id": number} for number in numbers]}

    def read(*evses: dict[str, Any]) -> list[int]:
        document = ocpi.read([{"id": "A", "evses": list(evses)}], {})[0].document
        assert document is not None
        return [one.connector_id for one in document.connectors or []]

    assert read(evse("7"), evse("3")) == [7, 3]
    assert read(evse("1"), evse("1", "2")) == [1, 2, 3]
    assert read(evse("a")) == [1]
    assert read({**evse("1"), "status": "REMOVED"}, evse("2")) == [2]


def _evses(*named: tuple[str, Sequence[str]]) -> list[dict[str, Any]]:
    return [{"evse_id": f"DE*VLT*E{name}", "connectors": [{"id": one} for one in ids]} for name, ids in named]


def _numbered(evses: list[dict[str, Any]], known: Station | None = None) -> Station:
    """The station that a Location with these EVSEs makes of the known one."""
    [wanted] = ocpi.read([{"id": "A", "evses": evses}], {} if known is None else {"A": known})
    assert wanted.document is not None, wanted.reason
    facts = wanted.document.model_dump()
    return _station("A", {"time_zone": None}, None, facts["connectors"])


_EVSES = st.dictionaries(
    st.sampled_from("1234"), st.lists(st.sampled_from(["1", "2", "3", "7", "a"]), min_size=1, max_size=3, unique=True)
)


@given(_EVSES, _EVSES, st.data())
def test_a_known_evse_keeps_its_numbers_in_whatever_order_the_file_has_it(
    first: dict[str, list[str]], others: dict[str, list[str]], data: st.DataObject
) -> None:
    known = _numbered(_evses(*first.items()))
    again = data.draw(st.permutations([(name, data.draw(st.permutations(ids))) for name, ids in first.items()]))
    assert _said(_numbered(_evses(*again), known)) == _said(known)
    new = [(name, ids) for name, ids in others.items() if name not in first]
    more = _numbered(_evses(*data.draw(st.permutations([*again, *new]))), known)
    kept = [one for one in more.connectors if one.evse_id in {plug.evse_id for plug in known.connectors}]
    assert kept == known.connectors
    assert len(more.connectors) == sum(len(ids) for _, ids in (*again, *new))


def test_evses_in_another_order_and_new_ones_do_not_move_connectors() -> None:
    def shown(station: Station) -> dict[int, str | None]:
        return {one.connector_id: one.evse_id for one in station.connectors}

    known = _numbered(_evses(("A", "1"), ("B", "1")))
    assert shown(known) == {1: "DE*VLT*EA", 2: "DE*VLT*EB"}
    assert shown(_numbered(_evses(("B", "1"), ("A", "1")), known)) == shown(known)
    assert shown(_numbered(_evses(("B", "1")), known))[2] == "DE*VLT*EB"
    assert shown(_numbered(_evses(("C", "1"), ("B", "1"), ("A", "1")), known)) == {**shown(known), 3: "DE*VLT*EC"}
    by_uid = [{"uid": one["evse_id"], "connectors": one["connectors"]} for one in _evses(("B", "1"), ("A", "1"))]
    assert shown(_numbered(by_uid, known)) == shown(known)
    unnamed = [{"uid": "x", "connectors": [{"id": "1"}]}, {"uid": "y", "connectors": [{"id": "1"}]}]
    assert shown(_numbered(unnamed, _numbered(unnamed))) == {1: None, 2: None}
