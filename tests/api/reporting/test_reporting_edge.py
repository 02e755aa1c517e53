"""What the operations of reporting have in common: who may ask, what is described, and that no question breaks them."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.api.reporting.reports_app import Reporting, running_reporting
from tests.described import answers_as_described, asked_only_by, cases_of, described_are

READERS = {"operator", "finance"}
OPERATIONS = {
    ("get", "/api/v1/analytics"): READERS,
    ("get", "/api/v1/analytics/co2-factors"): READERS,
    ("post", "/api/v1/analytics/co2-factors"): {"operator"},
    ("get", "/api/v1/analytics/co2-factors/{version}"): READERS,
    ("get", "/api/v1/analytics/{metric}"): READERS,
    ("get", "/api/v1/analytics/{metric}/heat-map"): READERS,
    ("get", "/api/v1/reports"): READERS,
    ("post", "/api/v1/reports"): READERS,
    ("get", "/api/v1/reports/{id}"): READERS,
    ("get", "/api/v1/uptime/exclusions"): READERS,
    ("post", "/api/v1/uptime/exclusions"): {"operator"},
    ("delete", "/api/v1/uptime/exclusions/{id}"): {"operator"},
}


@pytest.fixture
async def reporting(database_url: str) -> AsyncIterator[Reporting]:
    async with running_reporting(database_url) as running:
        yield running


async def test_operations_are_described_and_answer_only_whom_they_should(reporting: Reporting) -> None:
    await described_are(reporting.client, OPERATIONS)
    for (method, path), kinds in OPERATIONS.items():
        address = path.format(metric="sessions", version=1, id=uuid4())
        await asked_only_by(reporting.client, reporting.tokens, method, address, kinds)


async def test_no_question_is_a_server_error_or_answered_otherwise_than_described(
    reporting: Reporting, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`known`: of a report that is done, of an exclusion and a metric that there are."""
    monkeypatch.setattr("api.reporting.reports.service.WAITING_MAX", 10_000)
    made = await reporting.report(kind="uptime", **{"from": "2026-01-01", "to": "2026-02-01"})
    new = {"station_id": "ST-1", "from": "2026-01-05", "to": "2026-01-06", "reason": "vandalism", "note": "T"}
    exclusion = await reporting.ask("POST", "/api/v1/uptime/exclusions", 201, json=new)
    known_ids = {"/api/v1/reports/{id}": made["id"], "/api/v1/uptime/exclusions/{id}": exclusion["id"]}
    schema = schemathesis.openapi.from_dict((await reporting.client.get("/openapi.json")).json())
    headers = {"authorization": f"Bearer {reporting.tokens['operator']}"}

    def ask_all(method: str, path: str) -> None:
        @settings(max_examples=40, suppress_health_check=list(HealthCheck), phases=[Phase.generate])
        @given(case=cases_of(schema[path][method.upper()]), known=st.booleans())
        def ask(case: schemathesis.Case[Any], known: bool) -> None:
            if known and "{id}" in path:
                case.path_parameters = {"id": known_ids[path]}
            if known and "{metric}" in path:
                case.path_parameters = {"metric": "co2"}
            answers_as_described(case, reporting.base_url, headers)

        ask()

    for method, path in OPERATIONS:
        await asyncio.to_thread(ask_all, method, path)
