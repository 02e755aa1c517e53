"""Laws of the source of readings over HTTP: all pages, exact columns, and distinct errors."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from billing.errors import SourceFailed
from billing.rating import MeterBefore, StoredReading
from billing.readings_http import HttpReadingsSource
from kit.errors import Unavailable
from kit.web.errors import NotFound

START = datetime(2026, 3, 1, tzinfo=UTC)
COLUMNS = ("ts_ms", "boot", "seq", "energy_mwh", "power_mw", "current_ma", "status", "part", "flags")


class OperatorsApi:
    """The two operations, of the shape that telemetry has."""

    def __init__(self) -> None:
        self.app = FastAPI()
        self.sessions: dict[str, list[dict[str, Any]]] = {"completed": [], "held": [], "void": []}  # by state
        self.columns: dict[str, Any] = {}
        self.status = 200
        self.asked: list[dict[str, str]] = []
        self.app.add_api_route("/api/v1/sessions", self.many)
        self.app.add_api_route("/api/v1/sessions/{id}/readings", self.readings)

    async def many(self, request: Request) -> JSONResponse:
        self.asked.append(dict(request.query_params))
        at = int(request.query_params.get("cursor", "0"))
        state = request.query_params["state"]
        found = self.sessions[state]
        following = f"/api/v1/sessions?state={state}&cursor={at + 2}" if at + 2 < len(found) else None
        return JSONResponse({"sessions": found[at : at + 2], "next": following}, self.status)

    async def readings(self, id: UUID) -> JSONResponse:
        if not self.columns:
            return JSONResponse({"detail": f"no session {id}"}, 404)
        return JSONResponse(self.columns, self.status)


@pytest.fixture
def api() -> OperatorsApi:
    return OperatorsApi()


@pytest.fixture
async def source(api: OperatorsApi) -> AsyncIterator[HttpReadingsSource]:
    transport = httpx.ASGITransport(api.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://operators") as client:
        yield HttpReadingsSource(client)


async def test_readings_are_the_columns_exactly(api: OperatorsApi, source: HttpReadingsSource) -> None:
    most = 2**53 - 1
    api.columns = {
        "ts_ms": [1_000, 2_000],
        "boot": [None, 1],
        "seq": [None, most],
        "energy_mwh": [10**15, None],
        "power_mw": [-5, None],
        "current_ma": [None, 32_000],
        "status": [0, 3],
        "session_event": [0, 1],
        "part": [0, 1],
        "flags": [0, 65],
        "power_max_mw": 22_000_000,
        "register_before_mwh": most,
        "register_before_ms": 500,
        "series_mwh": None,
    }
    stored = await source.readings(uuid4())
    assert stored.readings == [
        StoredReading(1_000, None, 10**15, -5, None, 0),
        StoredReading(2_000, most, None, None, 32_000, 3, part=1, boot=1),
    ]
    assert stored.flags == [0, 65]
    assert stored.before == MeterBefore(22_000_000, most, 500, None)


async def test_a_connector_without_a_register_before_has_none(api: OperatorsApi, source: HttpReadingsSource) -> None:
    api.columns = {name: [] for name in COLUMNS} | {"power_max_mw": 1}
    assert (await source.readings(uuid4())).before == MeterBefore(1)


async def test_all_pages_of_sessions_are_read(api: OperatorsApi, source: HttpReadingsSource) -> None:
    ids = [uuid4() for _ in range(7)]
    api.sessions["completed"] = [
        {
            "id": str(id_),
            "station_id": "NL-1",
            "started_at": "2026-03-01T00:00:00Z",
            "energy_uj": 2**60 + 1,
            "energy_wh": 1.5,
            "revision": 2,
        }
        for id_ in ids[:5]
    ]
    api.sessions["held"] = [api.sessions["completed"][0] | {"id": str(ids[5])}]
    api.sessions["void"] = [api.sessions["completed"][0] | {"id": str(ids[6])}]
    found = [session async for session in source.completed_sessions(START, START + timedelta(days=1))]
    assert [session.id for session in found] == ids
    assert {session.energy_uj for session in found} == {2**60 + 1}
    assert (api.asked[0]["state"], api.asked[0]["from"]) == ("completed", "2026-03-01T00:00:00.000Z")


async def test_errors_are_distinguished(api: OperatorsApi, source: HttpReadingsSource) -> None:
    with pytest.raises(NotFound, match="no session"):
        await source.readings(uuid4())
    api.columns = {"ts_ms": [1]}
    with pytest.raises(SourceFailed, match="something else"):
        await source.readings(uuid4())
    api.columns = {name: [1] for name in COLUMNS} | {"flags": [], "power_max_mw": 1}
    with pytest.raises(SourceFailed, match="lengths"):
        await source.readings(uuid4())
    for status, error in ((503, Unavailable), (429, Unavailable), (403, SourceFailed), (500, SourceFailed)):
        api.status = status
        with pytest.raises(error):
            await source.readings(uuid4())


async def test_a_source_that_is_away_is_unavailable(unused_port: int) -> None:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{unused_port}", trust_env=False) as client:
        with pytest.raises(Unavailable):
            await HttpReadingsSource(client).readings(uuid4())
