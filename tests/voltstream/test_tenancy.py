"""A token of an organisation sees that organisation's stations, in every route of every service, and nothing of others.

Every route is in exactly one of the tables below: a new one fails until it is said how it is limited.
"""

import csv
import io
import json
import random
import re
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import uuid4

import httpx
import psycopg
import pytest
from fastapi.routing import iter_route_contexts

from kit.web.route_rules import rules_of
from tests.private_servers import fresh_database
from tests.voltstream.tenancy import HOUR, NORTH, NOW, SOUTH, STATIONS, UNREGISTERED, Tenancy, running
from voltstream.runtime.database import bring_up_to_date

Operation = tuple[str, str]
Item = Any
Owners = Mapping[str, str | None]
EXAMPLES: Final = 12  # random owners of the stations
FOREIGN_ID: Final = "00000000-0000-4000-8000-00000000dead"  # of nothing


def _at_station(item: Item) -> frozenset[str]:
    station_id = item["station_id"] if isinstance(item, dict) else item
    return frozenset() if station_id is None else frozenset((station_id,))


@dataclass(frozen=True)
class Listing:
    """A route that lists: what is asked, where the items stand, and of which stations each is."""

    member: str
    asked: Mapping[str, Any] = field(default_factory=dict)
    kind: str = ""  # of the things that the items are, by this field
    by: str = "id"
    at: Mapping[str, str] = field(default_factory=dict)  # in the path
    paged: bool = True

    def stations(self, tenancy: Tenancy, item: Item) -> frozenset[str]:
        """Those whose organisation sees the item."""
        return tenancy.stations_of(self.kind, item[self.by]) if self.kind else _at_station(item)

    def shown(self, item: Item, own: set[str]) -> Item:
        """As whoever has these stations sees the item."""
        if isinstance(item, dict) and item.get("moved_from") not in (None, *own):
            return {**item, "moved_from": None, "reason": None}
        return item


_HOURS: Final = {"from": (NOW - 49 * HOUR).isoformat(), "to": NOW.isoformat(), "by": "hour"}
LISTS: Final[dict[str, Sequence[Listing]]] = {
    "/api/v1/stations": [Listing("stations")],
    "/api/v1/stations/search": [
        Listing("stations", {"latitude": "52.5", "longitude": "13.4", "radius_m": "50000"}),
        Listing("stations", {"latitude": "52.5", "longitude": "13.4", "radius_m": "50000", "sort": "price"}),
        Listing("stations", {"text": "Halle", "latitude": "52.5", "longitude": "13.4", "radius_m": "50000"}),
    ],
    "/api/v1/telemetry/quarantine": [Listing("items"), Listing("items", {"reason": "malformed", "waiting": "true"})],
    "/api/v1/pricing/groups/{group}": [Listing("stations", at={"group": "city"})],
    "/api/v1/pricing/stations/without-tariff": [Listing("stations")],
    "/api/v1/reservations": [Listing("reservations"), Listing("reservations", {"state": "confirmed"})],
    "/api/v1/reservations/parking": [Listing("bays")],
    "/api/v1/sessions": [
        Listing("sessions"),
        Listing("sessions", {"state": "completed"}),
        Listing("sessions", {"state": "requested"}),
        Listing("sessions", {"driver_id": "driver-3"}),
    ],
    "/api/v1/uptime/exclusions": [Listing("exclusions")],
    "/api/v1/billing/charges": [Listing("charges"), Listing("charges", {"driver_id": "driver-1"})],
    "/api/v1/billing/invoices": [
        Listing("invoices", kind="invoice"),
        Listing("invoices", {"driver_id": "driver-1", "status": "open"}, kind="invoice"),
    ],
    "/api/v1/billing/export/left-out": [Listing("documents", kind="number", by="number")],
    "/api/v1/analytics/{metric}": [
        Listing(
            "figures", {**_HOURS, "group": "station"}, kind="station", by="group", at={"metric": "energy_delivered"}
        )
    ],
}
"""Routes with pages of items."""
WHOLE: Final = {
    "/api/v1/telemetry/live",
    "/api/v1/telemetry/live/stream",
    "/api/v1/stations/export",
    "/api/v1/billing/export",
    "/api/v1/analytics/{metric}/heat-map",
    "/api/v1/reports",
    "/api/v1/reports/{id}",
}
"""Routes about many stations that have a test of their own below."""
SINGLES: Final = {
    "/api/v1/sessions/{id}": ("session", "request"),
    "/api/v1/sessions/{id}/readings": ("session",),
    "/api/v1/reservations/{id}": ("reservation",),
    "/api/v1/telemetry/quarantine/{item_id}": ("quarantined",),
    "/api/v1/billing/charges/{id}": ("charge",),
    "/api/v1/billing/invoices/{id}": ("invoice",),
    "/api/v1/billing/invoices/{id}/explain": ("invoice",),
    "/api/v1/billing/invoices/{id}/pdf": ("invoice",),
    "/api/v1/billing/invoices/{id}/xml": ("invoice",),
}
"""Routes about one thing, by its id: the kinds of things that it may be."""
OF_NO_STATION: Final = {"/api/v1/analytics"}  # what is the same for everybody
REFUSED: Final = {
    ("get", path)
    for path in (
        "/api/v1/telemetry/ledger",
        "/api/v1/telemetry/unclaimed",
        "/api/v1/pricing/versions",
        "/api/v1/pricing/versions/{id}",
        "/api/v1/pricing/demand/groups/{group}",
        "/api/v1/pricing/demand/default",
        "/api/v1/config",
        "/api/v1/config/flags",
        "/api/v1/config/history",
        "/api/v1/config/{name}",
        "/api/v1/audit",
        "/api/v1/reservations/waiting",
        "/api/v1/reservations/waiting/{id}",
        "/api/v1/notifications",
        "/api/v1/notifications/deliveries",
        "/api/v1/notifications/preferences",
        "/api/v1/notifications/preferences/webhook-secret",
        "/api/v1/notifications/templates",
        "/api/v1/notifications/templates/{kind}/{channel}/{language}",
        "/api/v1/analytics/co2-factors",
        "/api/v1/analytics/co2-factors/{version}",
        "/api/v1/billing/balance",
        "/api/v1/billing/payments/{id}",
        "/api/v1/billing/customers",
        "/api/v1/billing/customers/{id}",
    )
} | {
    ("post", "/api/v1/stations"),
    ("post", "/api/v1/stations/import"),
    ("post", "/api/v1/pricing"),
    ("put", "/api/v1/pricing/demand/groups/{group}"),
    ("delete", "/api/v1/pricing/demand/groups/{group}"),
    ("put", "/api/v1/pricing/demand/default"),
    ("delete", "/api/v1/pricing/demand/default"),
    ("post", "/api/v1/config"),
    ("post", "/api/v1/config/flags"),
    ("delete", "/api/v1/config/{name}"),
    ("post", "/api/v1/reservations/waiting"),
    ("post", "/api/v1/reservations/waiting/{id}/accept"),
    ("post", "/api/v1/reservations/waiting/{id}/skip"),
    ("delete", "/api/v1/reservations/waiting/{id}"),
    ("post", "/api/v1/notifications"),
    ("put", "/api/v1/notifications/preferences"),
    ("put", "/api/v1/notifications/templates/{kind}/{channel}/{language}"),
    ("delete", "/api/v1/notifications/templates/{kind}/{channel}/{language}"),
    ("post", "/api/v1/notifications/templates/{kind}/{channel}/{language}/preview"),
    ("post", "/api/v1/analytics/co2-factors"),
    ("post", "/api/v1/billing/cancel"),
    ("post", "/api/v1/billing/charge"),
    ("post", "/api/v1/billing/invoices/{id}/credit"),
    ("post", "/api/v1/billing/payments/{id}/refund"),
    ("post", "/api/v1/billing/customers"),
    ("put", "/api/v1/billing/customers/{id}"),
    ("delete", "/api/v1/billing/customers/{id}"),
    ("post", "/api/v1/billing/statements"),
    ("post", "/api/v1/telemetry/quarantine/replay"),
}
"""What a token of some stations is refused: it is about all of them, or about none."""
_WHY: Final = {"why": "read on site"}
CHANGES: Final[dict[Operation, tuple[str, Any]]] = {
    ("post", "/api/v1/sessions/{id}/stop"): ("session", None),
    ("post", "/api/v1/reservations/{id}/confirm"): ("reservation", None),
    ("delete", "/api/v1/reservations/{id}"): ("reservation", None),
    ("post", "/api/v1/billing/charges/{id}/approve"): ("charge", _WHY),
    ("post", "/api/v1/billing/charges/{id}/correct"): ("charge", {**_WHY, "energy_wh": "1.000"}),
    ("post", "/api/v1/billing/charges/{id}/void"): ("charge", _WHY),
    ("delete", "/api/v1/uptime/exclusions/{id}"): ("exclusion", None),
}
"""Changes of one thing, by its id."""
_SPAN: Final = {"from": "2026-03-12T06:00:00Z", "to": "2026-03-12T14:30:00Z"}
AT_A_STATION: Final[dict[Operation, Any]] = {
    ("post", "/api/v1/sessions"): {"connector_id": 1, "driver_id": "D9"},
    ("post", "/api/v1/reservations"): {"connector_id": 1, "driver_id": "D9", "duration_s": 1_800},
    ("post", "/api/v1/uptime/exclusions"): {**_SPAN, "reason": "utility_interruption", "note": "so"},
}
"""Changes at the station that the body names."""
ASKING: Final = {("post", "/api/v1/reports")}  # makes what is asked for, of the token's stations


@pytest.fixture(scope="module")
def template(postgres_url: str) -> Iterator[str]:
    """A database that is up to date, to be cloned."""
    with fresh_database(postgres_url) as url:
        bring_up_to_date(url, 2)
        yield url.rpartition("/")[2]


@pytest.fixture
async def tenancy(postgres_url: str, template: str) -> AsyncIterator[Tenancy]:
    """All services, seeded; nobody has a station yet."""
    name = f"test_{uuid4().hex}"
    with psycopg.connect(postgres_url, autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name} TEMPLATE {template}".encode())
        async with running(f"{postgres_url.rpartition('/')[0]}/{name}") as opened:
            yield opened
        admin.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


def _operations(tenancy: Tenancy) -> set[Operation]:
    found = set()
    for route in iter_route_contexts(tenancy.app.routes):
        if str(route.path).startswith("/api/") and rules_of(route).scope is not None:
            found |= {(method.lower(), str(route.path)) for method in route.methods or ()}
    return found


def _about_a_station(operations: set[Operation]) -> set[Operation]:
    return {(method, path) for method, path in operations if "{station_id}" in path}


def _filled(path: str, **values: str) -> str:
    return re.sub(r"{(\w+)}", lambda name: values.get(name[1], "1"), path)


def _own(owners: Owners, organisation: str) -> set[str]:
    return {station_id for station_id, owner in owners.items() if owner == organisation}


async def test_every_route_says_how_it_is_limited(tenancy: Tenancy) -> None:
    operations = _operations(tenancy)
    gets = {("get", path) for path in (*LISTS, *WHOLE, *SINGLES, *OF_NO_STATION)}
    tables = [gets, _about_a_station(operations), REFUSED, set(CHANGES), set(AT_A_STATION), ASKING]
    classified = [operation for table in tables for operation in table]
    assert len(classified) == len(set(classified)), "in two tables"
    assert set(classified) - operations == set(), "these are no routes"
    assert operations - set(classified) == set(), "how are these limited?"


async def test_lists_have_the_own_and_nothing_else_whoever_has_which_station(tenancy: Tenancy, seed: int) -> None:
    """Items, their order, pages and their number: as of a platform that has nothing but the own stations."""
    rng = random.Random(seed)
    for _ in range(EXAMPLES):
        owners = {station_id: rng.choice([NORTH, SOUTH, None]) for station_id in STATIONS}
        tenancy.own(owners)
        for path, listings in LISTS.items():
            for listing in listings:
                whole = await _items(tenancy, path, listing, "", 100)
                assert whole or listing.asked.get("driver_id"), f"{path}: nothing to be seen"
                for organisation in (NORTH, SOUTH):
                    own = _own(owners, organisation)
                    visible = [
                        listing.shown(item, own)
                        for item in whole
                        if (of := listing.stations(tenancy, item)) and of <= own
                    ]
                    found = await _items(tenancy, path, listing, organisation, rng.choice([1, 2, 3, 100]))
                    assert _same(found) == _same(visible), (path, organisation, owners)


def _same(items: Sequence[Item]) -> list[Item]:
    """Without whose a station is, which is what changes."""
    return [
        {name: value for name, value in item.items() if name != "organisation"} if isinstance(item, dict) else item
        for item in items
    ]


async def _items(tenancy: Tenancy, path: str, listing: Listing, who: str, limit: int) -> list[Item]:
    """All pages. An empty group is not found."""
    answer = await tenancy.ask("GET", _filled(path, **listing.at), who, params={**listing.asked, "limit": limit})
    found: list[Item] = []
    while True:
        if answer.status_code == 404 and listing.at and not found:
            return []
        assert answer.status_code == 200, answer.text
        page = answer.json()
        assert len(page[listing.member]) <= limit
        found += page[listing.member]
        if page["next"] is None:
            return found
        assert page[listing.member] or "figures" in page, "a page without anything"
        answer = await tenancy.ask("GET", page["next"], who)


async def test_one_thing_of_another_is_as_one_that_there_is_not(tenancy: Tenancy) -> None:
    tenancy.own({"ST-1": NORTH, "ST-2": SOUTH})
    for path, kinds in SINGLES.items():
        for kind in kinds:
            own, foreign, nobodys = (tenancy.of(kind, station) for station in ("ST-1", "ST-2", "ST-3"))
            unknown = "999999" if kind == "quarantined" else FOREIGN_ID
            name = re.findall(r"{(\w+)}", path)[0]

            async def ask(thing: str, who: str = NORTH, path: str = path, name: str = name) -> httpx.Response:
                return await tenancy.ask("GET", _filled(path, **{name: thing}), who)

            assert (await ask(own)).status_code == (await ask(own, "")).status_code != 404, path
            refused = await ask(unknown)
            assert refused.status_code == 404, (path, refused.text)
            for other in (foreign, nobodys):
                answer = await ask(other)
                assert answer.status_code == 404, (path, answer.text)
                assert _masked(answer, other) == _masked(refused, unknown)
    assert (await tenancy.ask("GET", "/api/v1/sessions/S", NORTH)).json()["station_id"] == "ST-1", "by a device's id"
    assert (await tenancy.ask("GET", "/api/v1/sessions/S")).status_code == 409, "of six stations"


def _masked(answer: httpx.Response, thing: str) -> dict[str, Any]:
    document = json.loads(answer.text.replace(thing, "…"))
    return {name: value for name, value in document.items() if name not in ("correlation_id", "instance")}


async def test_routes_about_a_station_are_for_its_organisation(tenancy: Tenancy) -> None:
    tenancy.own({"ST-1": NORTH, "ST-2": SOUTH})
    operations = _about_a_station(_operations(tenancy))
    for method, path in sorted(operations):
        for station_id in ("ST-2", "ST-3", UNREGISTERED, "ST-NONE"):
            place = _filled(path, station_id=station_id)
            async with tenancy.client.stream(
                method, place, headers={"Authorization": f"Bearer {tenancy.issued[NORTH]}"}
            ) as answer:
                assert answer.status_code == 404, (method, place)
                assert json.loads(await answer.aread())["detail"] == f"there is no station {station_id}"
        if method == "get" and not path.endswith("/stream"):
            place = _filled(path, station_id="st-1")
            own, any_ones = [await tenancy.ask("GET", place, who) for who in (NORTH, "")]
            assert own.status_code == any_ones.status_code, (place, own.text)
    changed = await tenancy.ask("GET", "/api/v1/stations/ST-2")
    assert changed.json()["revision"] == 1, "nothing was changed"


async def test_what_is_not_limited_is_refused(tenancy: Tenancy) -> None:
    tenancy.own({"ST-1": NORTH})
    for method, path in sorted(REFUSED):
        answer = await tenancy.ask(method.upper(), _filled(path), NORTH)
        assert answer.status_code == 403, (method, path, answer.text)
        assert f"those of {NORTH} only" in answer.json()["detail"]
    for path in OF_NO_STATION:
        assert (await tenancy.ask("GET", path, NORTH)).json() == (await tenancy.ask("GET", path)).json()


async def test_nobody_changes_what_is_anothers(tenancy: Tenancy) -> None:
    tenancy.own({"ST-1": NORTH, "ST-2": SOUTH})
    for (method, path), (kind, body) in CHANGES.items():
        for station_id in ("ST-2", "ST-3"):
            before = await _everything(tenancy)
            answer = await tenancy.ask(method.upper(), _filled(path, id=tenancy.of(kind, station_id)), NORTH, json=body)
            assert answer.status_code == 404, (path, answer.text)
            assert await _everything(tenancy) == before
    for (method, path), body in AT_A_STATION.items():
        for station_id in ("ST-2", "ST-3", "ST-NONE"):
            before = await _everything(tenancy)
            answer = await tenancy.ask(method.upper(), path, NORTH, json={**body, "station_id": station_id})
            assert answer.status_code == 404, (path, answer.text)
            assert answer.json()["detail"] == f"there is no station {station_id}"
            assert await _everything(tenancy) == before
    for (method, path), (kind, body) in CHANGES.items():
        if kind != "charge":
            answer = await tenancy.ask(method.upper(), _filled(path, id=tenancy.of(kind, "ST-1")), NORTH, json=body)
            assert answer.is_success, (path, answer.text)
    own = await tenancy.ask(
        "POST",
        "/api/v1/uptime/exclusions",
        NORTH,
        json={**AT_A_STATION["post", "/api/v1/uptime/exclusions"], "station_id": "ST-1"},
    )
    assert own.status_code == 201, own.text


async def _everything(tenancy: Tenancy) -> list[Any]:
    return [
        await _items(tenancy, path, listing, "", 100)
        for path, listings in LISTS.items()
        for listing in listings
        if "search" not in path
    ]


async def test_a_station_is_changed_by_its_organisation_and_stays_its_own(tenancy: Tenancy) -> None:
    tenancy.own({"ST-1": NORTH, "ST-2": SOUTH})
    place, version = "/api/v1/stations/ST-1", {"If-Match": '"1"'}
    for organisation in (SOUTH, None):
        body = {"name": "Halle", "organisation": organisation}
        given_away = await tenancy.ask("PUT", place, NORTH, json=body, headers=version)
        assert (given_away.status_code, "stay its own" in given_away.text) == (403, True)
    changed = await tenancy.ask("PUT", place, NORTH, json={"name": "Neu", "organisation": NORTH}, headers=version)
    assert (changed.status_code, changed.json()["name"]) == (200, "Neu"), changed.text
    evse = {"standard": "IEC_62196_T2", "evse_id": "DE*VLT*E1"}
    taken = await tenancy.ask("PUT", "/api/v1/stations/ST-2/connectors/2", json=evse, headers={"If-Match": '"1"'})
    assert taken.status_code == 201, taken.text
    clash = await tenancy.ask("PUT", f"{place}/connectors/2", NORTH, json=evse, headers={"If-Match": '"2"'})
    assert (clash.status_code, "ST-2" in clash.text) == (409, False)
    moved = await tenancy.ask("GET", f"{place}/history", NORTH)
    tenancy.own({"ST-1": SOUTH})
    assert (await tenancy.ask("GET", f"{place}/history", NORTH)).status_code == 404
    assert (await tenancy.ask("GET", f"{place}/history", SOUTH)).json() == moved.json(), "its past goes with it"


async def test_the_live_view_and_its_sums_are_of_the_own_stations(tenancy: Tenancy) -> None:
    tenancy.own({"ST-1": NORTH, "ST-2": SOUTH, "ST-4": NORTH})
    live = "/api/v1/telemetry/live"
    seen = (await tenancy.ask("GET", live, NORTH)).json()
    assert [one["station_id"] for one in seen["connectors"]] == ["ST-1", "ST-4"]
    assert (seen["total"]["stations"], seen["total"]["connectors"], seen["total"]["power_w"]) == (2, 2, 9_000.0)
    asked = {"station_id": ["ST-2", "ST-4", "ST-NONE"]}
    some = (await tenancy.ask("GET", live, NORTH, params=asked)).json()
    assert ([one["station_id"] for one in some["connectors"]], some["silent"]) == (["ST-4"], ["ST-2", "ST-NONE"])
    none = (await tenancy.ask("GET", live, NORTH, params={"station_id": "ST-2"})).json()
    assert (none["connectors"], none["total"]["connectors"]) == ([], 0)
    tenancy.own(dict.fromkeys(STATIONS))
    assert (await tenancy.ask("GET", live, NORTH)).json()["total"]["stations"] == 0, "of no station is not of all"


@pytest.mark.parametrize("asked", [{}, {"station_id": ["ST-1", "ST-2"]}])
async def test_a_live_stream_has_the_own_stations(tenancy: Tenancy, asked: dict[str, Any]) -> None:
    tenancy.own({"ST-1": NORTH, "ST-2": SOUTH})
    headers = {"Authorization": f"Bearer {tenancy.issued[NORTH]}"}
    async with tenancy.client.stream("GET", "/api/v1/telemetry/live/stream", headers=headers, params=asked) as answer:
        assert answer.status_code == 200
        text = ""
        async for piece in answer.aiter_text():
            text += piece
            if "\n\n" in text:
                break
    (data,) = [line for line in text.splitlines() if line.startswith("data: ")]
    assert [one["station_id"] for one in json.loads(data.removeprefix("data: "))["connectors"]] == ["ST-1"]


async def test_exports_have_the_own_and_their_totals(tenancy: Tenancy, seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(3):
        owners = {station_id: rng.choice([NORTH, SOUTH, None]) for station_id in STATIONS}
        tenancy.own(owners)
        for organisation in (NORTH, SOUTH):
            own = _own(owners, organisation)
            for format_, read in (("csv", _stations_of_csv), ("ocpi", _stations_of_ocpi)):
                found, place = set(), f"/api/v1/stations/export?format={format_}&limit=1"
                while place:
                    answer = await tenancy.ask("GET", place, organisation)
                    assert answer.status_code == 200, answer.text
                    found |= read(answer.text)
                    place = answer.links.get("next", {}).get("url", "")
                assert found == (own if format_ == "csv" else set())
            documents = {one.id for one in tenancy.things["number"] if one.stations <= own}
            for format_ in ("jsonl", "csv", "parquet", "ocpi"):
                export = await tenancy.ask("GET", f"/api/v1/billing/export?format={format_}", organisation)
                assert export.status_code == 200, export.text
                foreign = {one.id for one in tenancy.things["number"]} - documents
                assert not [number for number in foreign if number.encode() in export.content], format_
                if format_ == "jsonl":
                    rows = [json.loads(line) for line in export.text.splitlines()]
                    assert {row["number"] for row in rows} == documents
                totals = json.loads(export.headers["Voltstream-Totals"])
                left_out = (totals.get("left_out") or {"documents": 0})["documents"]
                assert totals["documents"] + left_out == len(documents), (format_, totals)


def _stations_of_csv(text: str) -> set[str]:
    return {row["station_id"] for row in csv.DictReader(io.StringIO(text))}


def _stations_of_ocpi(text: str) -> set[str]:
    return {one["id"] for one in json.loads(text)}


async def test_figures_are_the_organisations_and_sums_over_others_are_refused(tenancy: Tenancy) -> None:
    tenancy.own({"ST-1": NORTH, "ST-2": NORTH, "ST-3": SOUTH})
    for number, organisation in enumerate((NORTH, SOUTH), 1):
        (key,) = tenancy.execute(
            "INSERT INTO reporting.series (kind, name) VALUES ('organisation', %s) RETURNING series_key", organisation
        )
        tenancy.execute(
            "INSERT INTO reporting.hour (hour, series_key, facet, currency, sums) "
            "VALUES (%s, %s, 0, '', ARRAY[%s::bigint, 0])",
            *(NOW - 48 * HOUR, key, number * 1_000),
        )
    place = "/api/v1/analytics/energy_delivered"
    for group, name in ((None, None), ("organisation", NORTH)):
        asked = _HOURS if group is None else {**_HOURS, "group": group}
        for more in ({}, {"name": [SOUTH, NORTH]}):
            page = (await tenancy.ask("GET", place, NORTH, params={**asked, **more})).json()
            assert [(one["group"], one["value"]) for one in page["figures"]] == [(name, 1.0)]
            assert page["pending_hours"] == 2, "of the own stations"
    foreign = await tenancy.ask("GET", place, NORTH, params={**_HOURS, "group": "organisation", "name": SOUTH})
    assert foreign.json()["figures"] == []
    for group in ("site", "group", "plug"):
        refused = await tenancy.ask("GET", place, NORTH, params={**_HOURS, "group": group})
        assert (refused.status_code, "group=station" in refused.text) == (403, True)
    heat = {"from": _HOURS["from"], "to": _HOURS["to"]}
    for shape, status in (("week", 200), ("sites", 403)):
        answer = await tenancy.ask("GET", f"{place}/heat-map", NORTH, params={**heat, "shape": shape})
        assert answer.status_code == status, answer.text
        if status == 200:
            assert sum(value or 0 for row in answer.json()["values"] for value in row) == 0.001, "kWh"


@pytest.mark.parametrize("kind", ["operations", "revenue", "uptime", "quarterly"])
async def test_reports_are_of_the_own_stations_and_seen_by_their_organisation(tenancy: Tenancy, kind: str) -> None:
    tenancy.own({"ST-1": NORTH, "ST-2": SOUTH})
    for station_id in STATIONS:
        tenancy.execute(
            "INSERT INTO reporting.registration VALUES (%s, 1, '2026-01-01T00:00:00Z', ARRAY[1]::smallint[])",
            station_id,
        )
    asked = {"kind": kind, "from": "2025-10-01", "to": "2026-01-01"} if kind == "quarterly" else {
        "kind": kind, "from": "2026-02-01", "to": "2026-03-01"
    }  # fmt: skip
    ids = {}
    for who in (NORTH, SOUTH, ""):
        made = await tenancy.ask("POST", "/api/v1/reports", who, json=asked)
        assert made.status_code == 202, made.text
        ids[who] = made.json()["id"]
    await tenancy.components["reporting"].report_worker.make_waiting()
    for who in (NORTH, SOUTH):
        other = ids[SOUTH if who == NORTH else NORTH]
        listed = (await tenancy.ask("GET", "/api/v1/reports", who)).json()
        assert [one["id"] for one in listed["reports"]] == [ids[who]]
        for foreign in (other, ids[""]):
            assert (await tenancy.ask("GET", f"/api/v1/reports/{foreign}", who)).status_code == 404
            assert (await tenancy.ask("GET", f"/api/v1/reports/{foreign}?format=csv", who)).status_code == 404
        report = (await tenancy.ask("GET", f"/api/v1/reports/{ids[who]}", who)).json()
        assert report["state"] == "done", report
        mine = "ST-1" if who == NORTH else "ST-2"
        for table in report["tables"]:
            file = await tenancy.ask("GET", f"/api/v1/reports/{ids[who]}?format=csv&table={table['name']}", who)
            assert not [one for one in STATIONS if one != mine and one in file.text], file.text
    assert len((await tenancy.ask("GET", "/api/v1/reports")).json()["reports"]) == 3
    if kind in ("operations", "revenue"):
        refused = await tenancy.ask("POST", "/api/v1/reports", NORTH, json={**asked, "group": "site"})
        assert refused.status_code == 403


async def test_stations_that_a_token_names_and_an_organisation_are_both_bounds(tenancy: Tenancy) -> None:
    tenancy.own({"ST-1": NORTH, "ST-2": SOUTH, "ST-3": NORTH})
    for organisation, seen in ((None, ["ST-1", "ST-2"]), (NORTH, ["ST-1"])):
        tenancy.issued["both"], _ = await tenancy.tokens.issue(
            "operator", stations=["st-1", "st-2"], organisation=organisation
        )
        listed = (await tenancy.ask("GET", "/api/v1/stations", "both")).json()["stations"]
        assert [one["station_id"] for one in listed] == seen
        live = (await tenancy.ask("GET", "/api/v1/telemetry/live", "both")).json()["connectors"]
        assert [one["station_id"] for one in live] == seen
        assert (await tenancy.ask("GET", "/api/v1/stations/ST-3", "both")).status_code == 403
        by_station = {**_HOURS, "group": "station"}
        figures = await tenancy.ask("GET", "/api/v1/analytics/energy_delivered", "both", params=by_station)
        assert [one["group"] for one in figures.json()["figures"]] == seen
        in_all = await tenancy.ask("GET", "/api/v1/analytics/energy_delivered", "both", params=_HOURS)
        assert in_all.status_code == 403
