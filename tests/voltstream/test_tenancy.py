"""A token of an organisation sees that organisation's stations, in every route of every service, and nothing of others.

Every route is in one of the tables of `tenancy_routes`: a new one fails until it is said how it is limited.
"""

import json
import random
import re
from collections.abc import Sequence
from typing import Any, Final

import httpx
from fastapi.routing import iter_route_contexts

from kit.web.route_rules import rules_of
from tests.voltstream.tenancy import NORTH, SOUTH, STATIONS, UNREGISTERED, Tenancy, owned_by
from tests.voltstream.tenancy_routes import (
    ASKING,
    AT_A_STATION,
    CHANGES,
    LISTS,
    OF_NO_STATION,
    REFUSED,
    SINGLES,
    WHOLE,
    Item,
    Listing,
    Operation,
)

EXAMPLES: Final = 12  # random owners of the stations
FOREIGN_ID: Final = "00000000-0000-4000-8000-00000000dead"  # of nothing


def _operations(tenancy: Tenancy) -> set[Operation]:
    found = set()
    for route in iter_route_contexts(tenancy.app.routes):
        if str(route.path).startswith("/api/") and rules_of(route).scope is not None:
            found |= {(method.lower(), str(route.path)) for method in route.methods or ()}
    return found


def _about_a_station(operations: set[Operation]) -> set[Operation]:
    return {(method, path) for method, path in operations if "{station_id}" in path}


def _filled(path: str, **values: str) -> str:
    return re.sub(r"{(\w+)(?::path)?}", lambda name: values.get(name[1], "1"), path)


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
                    own = owned_by(owners, organisation)
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
        body = {"json": {"reason": "ts_future"}} if method == "post" else {}
        answer = await tenancy.ask(method.upper(), _filled(path), NORTH, **body)
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
