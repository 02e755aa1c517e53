"""What a token may fill the quarantine with: no more than its budget and what it may owe, which comes back."""

import json
from typing import Any

import httpx
import pytest

from kit.clock import ManualClock
from kit.live.view import InProcessLive
from kit.web.serving.server import serve
from tests.ingest import conftest
from tests.ingest.conftest import DEVICE, ControlledLog, make_gateway_app

PATH = "/api/v1/telemetry"


@pytest.mark.parametrize("query", ["", "?strict=false"])  # directly, and by the framework
async def test_beyond_the_budget_nothing_is_taken_until_some_of_it_is_back(
    query: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conftest, "SETTINGS", conftest.SETTINGS.model_copy(update={"quarantined_per_hour_max": 6}))
    log, clock = ControlledLog(), ManualClock()
    app, _ = make_gateway_app(log, InProcessLive(), clock)
    bearer = {"authorization": f"Bearer {DEVICE}", "content-type": "application/json"}
    async with serve(app, "127.0.0.1", 0) as server, httpx.AsyncClient(base_url=server.url, headers=bearer) as client:

        async def post(refused: int, *, accepted: bool) -> httpx.Response:
            good: list[Any] = [{"station_id": "A", "connector_id": 1, "ts": clock.now_ms()}] if accepted else []
            return await client.post(PATH + query, content=json.dumps([*good, *[{"station_id": "A"}] * refused]))

        assert (await post(8, accepted=False)).status_code == 202
        frames = len(log.frames)
        spent = await post(1, accepted=False)
        assert (spent.status_code, spent.json()["reason"]) == (429, "quarantine_limited")
        assert "connector_id is missing" in spent.json()["detail"]
        assert int(spent.headers["Retry-After"]) == 1_800  # three of six an hour
        assert len(log.frames) == frames
        assert (await post(0, accepted=True)).status_code == 202  # good ones are taken as ever
        mixed = await post(6, accepted=True)
        assert (mixed.status_code, len(mixed.json()["quarantined"])) == (202, 6)
        assert (await post(1, accepted=True)).status_code == 429
        clock.advance(3_600 * 2)
        assert (await post(1, accepted=False)).status_code == 202
