"""What every operation has in common: who may ask, what is described, and that no question breaks it."""

import asyncio
import random
import re
from datetime import UTC, datetime
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from api.sessions import examples as session_examples
from api.sessions.models import Session, SessionPage, SessionRequestAccepted, StopAccepted
from api.telemetry import examples
from api.telemetry.history.tables import READING_KINDS, REVISED_WINDOW_KINDS
from api.telemetry.models import (
    Energy,
    HistoryPage,
    Ledger,
    LiveFleet,
    LiveStation,
    QuarantinedItem,
    QuarantinePage,
    ReadingRow,
    Released,
    Uptime,
    WindowRow,
)
from tests.api.conftest import Api
from tests.api.rows import add_connector, add_readings, random_readings
from tests.described import answers_as_described, cases_of

START = datetime(2026, 3, 29, 8, 0, tzinfo=UTC)

OPERATIONS = (
    "/api/v1/telemetry/{station_id}",
    "/api/v1/telemetry/{station_id}/energy",
    "/api/v1/telemetry/{station_id}/live",
    "/api/v1/telemetry/{station_id}/live/stream",
    "/api/v1/telemetry/live",
    "/api/v1/telemetry/live/stream",
    "/api/v1/telemetry/ledger",
    "/api/v1/telemetry/unclaimed",
    "/api/v1/telemetry/{station_id}/status-intervals",
    "/api/v1/telemetry/{station_id}/uptime",
    "/api/v1/telemetry/quarantine",
    "/api/v1/telemetry/quarantine/{item_id}",
    "/api/v1/sessions",
    "/api/v1/sessions/{id}",
    "/api/v1/sessions/{id}/readings",
)
RELEASE = "/api/v1/telemetry/unclaimed/{station_id}/release"
POSTS = ("/api/v1/sessions", "/api/v1/sessions/{id}/stop", RELEASE)  # to be posted


@pytest.mark.parametrize("path", OPERATIONS)
async def test_no_device_may_ask(api: Api, path: str) -> None:
    address = re.sub(r"{.*?}", "X", path)
    for token, status in ((None, 401), ("vso_unknown", 401), (api.device_token, 403)):
        api.client.headers["authorization"] = f"Bearer {token}" if token else ""
        answer = await api.get(address, status)
        assert answer.headers["content-type"] == "application/problem+json"


async def test_every_operation_is_described_with_an_example_and_its_problems(api: Api) -> None:
    paths = (await api.get("/openapi.json")).json()["paths"]
    described = {(path, method) for path in paths if path.startswith("/api/") for method in paths[path]}
    expected = {*((path, "get") for path in OPERATIONS), *((path, "post") for path in POSTS)}
    assert described == expected
    for path, method in sorted(expected):
        operation = paths[path][method]
        assert operation["summary"], path
        assert operation["description"], path
        assert operation["security"], path
        content = operation["responses"]["200" if method == "get" else "202"]["content"]
        assert all("example" in of or "examples" in of for media, of in content.items() if "arrow" not in media), path
        assert {"401", "403", "422", "503"} <= set(operation["responses"]), path
        if "{" in path:
            assert "404" in operation["responses"], path


@pytest.mark.parametrize(
    ("model", "example"),
    [
        (HistoryPage, examples.READINGS),
        (HistoryPage, examples.WINDOWS),
        (Energy, examples.ENERGY),
        (LiveStation, examples.LIVE_STATION),
        (LiveFleet, examples.LIVE_FLEET),
        (Ledger, examples.LEDGER),
        (QuarantinePage, examples.QUARANTINE),
        (QuarantinedItem, examples.QUARANTINED),
        (Uptime, examples.UPTIME),
        (Released, examples.RELEASED),
        (Session, session_examples.SESSION),
        (Session, session_examples.WAITING),
        (SessionRequestAccepted, session_examples.REQUESTED),
        (StopAccepted, session_examples.STOPPED),
        (SessionPage, session_examples.PAGE),
    ],
)
def test_examples_are_what_the_models_say(model: type[BaseModel], example: dict[str, Any]) -> None:
    model.model_validate(example)


def test_wide_rows_have_the_columns_of_their_models() -> None:
    assert list(ReadingRow.model_fields) == list(READING_KINDS)
    assert list(WindowRow.model_fields) == list(REVISED_WINDOW_KINDS)
    assert list(examples.READINGS["rows"][0]) == list(READING_KINDS)
    assert list(examples.WINDOWS["rows"][0]) == list(REVISED_WINDOW_KINDS)
    assert examples.READINGS_CSV.split("\r\n")[0].split(",") == list(READING_KINDS)


@pytest.mark.parametrize("path", [*(path for path in OPERATIONS if not path.endswith("/stream")), *POSTS])
async def test_no_question_is_a_server_error_or_answered_otherwise_than_described(api: Api, path: str) -> None:
    """Streams are left out: they have no end. `known`: of a station that there is."""
    connector_key = add_connector(api.database_url, "ST-1", 1)
    add_readings(api.database_url, random_readings(random.Random(1), connector_key, START, 50))
    schema = schemathesis.openapi.from_dict((await api.get("/openapi.json")).json())
    headers = {"authorization": f"Bearer {api.operator_token}"}

    cases = cases_of(schema[path]["POST" if path in {*POSTS} - {*OPERATIONS} else "GET"])

    @settings(max_examples=60, suppress_health_check=list(HealthCheck), phases=[Phase.generate])
    @given(case=cases, known=st.booleans())
    def ask(case: schemathesis.Case[Any], known: bool) -> None:
        if known and "{station_id}" in path:
            case.path_parameters = {"station_id": "st-1"}
        answers_as_described(case, api.server.url, headers)

    await asyncio.to_thread(ask)
