"""What a token of an organisation sees of many stations at once: live, exports, figures, reports."""

import csv
import io
import json
import random
from typing import Any

import pytest

from tests.voltstream.tenancy import HOUR, NORTH, NOW, SOUTH, STATIONS, Tenancy, owned_by
from tests.voltstream.tenancy_routes import HOURS


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
            own = owned_by(owners, organisation)
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
                if format_ != "ocpi":
                    assert totals["documents"] == len(documents), (format_, totals)
                    continue
                # No station has an address: of collective invoices both charges are left out, each by itself.
                charges = sum(2 if number in tenancy.collective else 1 for number in documents)
                assert (totals["documents"], (totals.get("left_out") or {"documents": 0})["documents"]) == (0, charges)


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
        asked = HOURS if group is None else {**HOURS, "group": group}
        for more in ({}, {"name": [SOUTH, NORTH]}):
            page = (await tenancy.ask("GET", place, NORTH, params={**asked, **more})).json()
            assert [(one["group"], one["value"]) for one in page["figures"]] == [(name, 1.0)]
            assert page["pending_hours"] == 2, "of the own stations"
    foreign = await tenancy.ask("GET", place, NORTH, params={**HOURS, "group": "organisation", "name": SOUTH})
    assert foreign.json()["figures"] == []
    for group in ("site", "group", "plug"):
        refused = await tenancy.ask("GET", place, NORTH, params={**HOURS, "group": group})
        assert (refused.status_code, "group=station" in refused.text) == (403, True)
    heat = {"from": HOURS["from"], "to": HOURS["to"]}
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
        by_station = {**HOURS, "group": "station"}
        figures = await tenancy.ask("GET", "/api/v1/analytics/energy_delivered", "both", params=by_station)
        assert [one["group"] for one in figures.json()["figures"]] == seen
        in_all = await tenancy.ask("GET", "/api/v1/analytics/energy_delivered", "both", params=HOURS)
        assert in_all.status_code == 403
