"""Exclusions: entered once, listed with who and why, withdrawn and kept."""

from collections.abc import AsyncIterator
from datetime import timedelta
from uuid import uuid4

import pytest

from api.reporting.exclusions import examples
from api.reporting.exclusions.models import Exclusion, ExclusionPage, NewExclusion
from tests.api.reporting.reports_app import NOW, Reporting, running_reporting

PATH = "/api/v1/uptime/exclusions"
NEW = {"station_id": "st-1", "from": "2026-01-05", "to": "2026-01-06", "reason": "vandalism", "note": "Ticket 7"}


@pytest.fixture
async def reporting(database_url: str) -> AsyncIterator[Reporting]:
    async with running_reporting(database_url) as running:
        yield running


async def test_an_exclusion_is_entered_once_and_says_who_and_when(reporting: Reporting) -> None:
    key = {"Idempotency-Key": "k1"}
    first = await reporting.ask("POST", PATH, 201, json=NEW, headers=key)
    assert await reporting.ask("POST", PATH, 201, json=NEW, headers=key) == first
    assert first["station_id"] == "ST-1"
    assert first["made_by"].startswith("operator/")
    assert first["made_at"] == "2026-04-02T08:00:00Z"
    page = await reporting.ask("GET", PATH)
    assert page == {"exclusions": [first], "next": None}
    assert (await reporting.ask("GET", f"{PATH}?station_id=ST-2"))["exclusions"] == []
    assert (await reporting.ask("GET", f"{PATH}?from=2026-01-06"))["exclusions"] == []
    assert (await reporting.ask("GET", f"{PATH}?to=2026-01-05"))["exclusions"] == []


async def test_a_withdrawn_one_stays_listed_and_counts_no_more(reporting: Reporting) -> None:
    await reporting.register("ST-1", 1, at=NOW - timedelta(days=365))
    made = await reporting.ask("POST", PATH, 201, json=NEW)
    report = {"kind": "uptime", "from": "2026-01-01", "to": "2026-02-01"}
    before = await reporting.csv(await reporting.report(**report), "uptime")
    assert before[0]["month_excluded_min"] == "1440.000"
    reporting.clock.advance(60)
    withdrawn = await reporting.ask("DELETE", f"{PATH}/{made['id']}")
    assert withdrawn["withdrawn_at"] == "2026-04-02T08:01:00Z"
    reporting.clock.advance(60)
    assert await reporting.ask("DELETE", f"{PATH}/{made['id']}") == withdrawn
    assert (await reporting.ask("GET", PATH))["exclusions"] == [withdrawn]
    after = await reporting.csv(await reporting.report(**report), "uptime")
    assert after[0]["month_excluded_min"] == "0.000"
    await reporting.answer("DELETE", f"{PATH}/{uuid4()}", 404)


async def test_pages_of_exclusions_are_the_whole_list(reporting: Reporting) -> None:
    made = [(await reporting.ask("POST", PATH, 201, json={**NEW, "note": f"{n}"}))["id"] for n in range(5)]
    found: list[str] = []
    address = f"{PATH}?limit=2"
    while address:
        page = await reporting.ask("GET", address)
        found += [one["id"] for one in page["exclusions"]]
        address = page["next"]
    assert sorted(found) == sorted(made)


REFUSED: list[tuple[dict[str, object], str]] = [
    ({"to": "2026-01-05"}, "before to"),
    ({"to": "2027-02-05"}, "366 days at most"),
    ({"reason": "bad luck"}, "reason"),
    ({"note": " "}, "note"),
    ({"connector_id": -1}, "connector_id"),
]


async def test_what_is_no_exclusion_is_refused(reporting: Reporting) -> None:
    for change, why in REFUSED:
        assert why in (await reporting.answer("POST", PATH, 422, json={**NEW, **change})).text


async def test_only_operators_enter_and_withdraw(reporting: Reporting) -> None:
    await reporting.answer("GET", PATH, who="finance")
    await reporting.answer("POST", PATH, 403, who="finance", json=NEW)
    await reporting.answer("DELETE", f"{PATH}/{uuid4()}", 403, who="finance")
    await reporting.answer("GET", PATH, 403, who="device")


def test_examples_are_what_the_models_say() -> None:
    NewExclusion.model_validate(examples.NEW)
    Exclusion.model_validate(examples.EXCLUSION)
    ExclusionPage.model_validate(examples.PAGE)
