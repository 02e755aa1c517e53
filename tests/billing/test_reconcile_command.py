"""`voltstream billing reconcile`, with the operators' API on the loopback and a database of its own."""

import asyncio
import json
import random
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest
from fastapi import FastAPI
from fastapi.responses import JSONResponse
from typer.testing import CliRunner

from billing.currency import format_micros
from billing.readings_source import ReadingsSource
from billing.readings_store import ReadingsStore
from kit.clock import format_rfc3339
from kit.errors import ConfigError
from kit.web.errors import NotFound
from kit.web.serving.server import serve
from tests.billing.making import session
from tests.billing.running import open_running
from tests.billing.sessions import completed, readings
from voltstream.cli.main import app as command_line
from voltstream.errors import PlatformFailed

pytestmark = pytest.mark.usefixtures("processes")

DAY = (datetime(2026, 3, 28, tzinfo=UTC), datetime(2026, 3, 29, tzinfo=UTC))
RANGE = ("--from", "2026-03-28T00:00:00Z", "--to", "2026-03-29T00:00:00Z")


def operators_api(source: ReadingsSource) -> FastAPI:
    """The operators' API over these sessions."""
    app = FastAPI()

    @app.get("/api/v1/sessions")
    async def many(state: str) -> JSONResponse:
        if state != "completed":
            return JSONResponse({"sessions": [], "next": None})
        rows = [
            {
                "id": str(one.id),
                "station_id": one.station_id,
                "started_at": format_rfc3339(one.started_at),
                "energy_uj": one.energy_uj,
                "revision": one.revision,
            }
            async for one in source.completed_sessions(*DAY)
        ]
        return JSONResponse({"sessions": rows, "next": None})

    @app.get("/api/v1/sessions/{id}/readings")
    async def of_one(id: UUID) -> JSONResponse:
        try:
            stored = await source.readings(id)
        except NotFound as error:
            return JSONResponse({"detail": str(error)}, 404)
        names = ("ts_ms", "seq", "energy_mwh", "power_mw", "current_ma", "status", "part", "boot")
        columns = {name: [getattr(reading, name) for reading in stored.readings] for name in names}
        before = stored.before
        judged = {
            "power_max_mw": before.power_max_mw,
            "register_before_mwh": before.register_mwh,
            "register_before_ms": before.register_ms,
            "series_mwh": before.series_mwh,
        }
        return JSONResponse({**columns, "flags": list(stored.flags), **judged})

    return app


def run(*arguments: str) -> Any:
    return CliRunner().invoke(command_line, ["billing", "reconcile", *RANGE, *arguments])


async def test_no_drift_is_exit_code_0_and_drift_is_1(
    billing_url: str, seed: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("VOLTSTREAM_DATABASE_URL", billing_url)
    file = tmp_path / "voltstream.prom"
    async with (
        open_running(billing_url) as billing,
        serve(operators_api(ReadingsStore(billing.database)), "127.0.0.1", 0) as server,
    ):
        rng = random.Random(seed)
        await billing.deliver(*(completed(billing.telemetry, readings(rng)) for _ in range(5)))
        asked = ("--url", server.url, "--token", "vso_x")
        shown = await asyncio.to_thread(run, *asked, "--json", "--metrics-file", str(file))
        assert shown.exit_code == 0, shown.output
        assert {"billing_reconcile_charges 5.0", "billing_reconcile_drifts 0.0"} <= set(file.read_text().splitlines())
        document = json.loads(shown.stdout)
        assert (document["charges"], document["outcomes"]["agrees"], document["drifts"]) == (5, 5, [])
        totals = document["totals"]["EUR"]
        assert totals["booked_incl_vat"] == totals["computed_incl_vat"]

        with psycopg.connect(billing_url) as connection:
            connection.execute("UPDATE billing.invoice SET total_excl_micros = 0 WHERE sequence = 1")
        shown = await asyncio.to_thread(run, *asked, "--metrics-file", str(file))
        assert shown.exit_code == 1
        assert "all documents together" in shown.stdout
        assert "billing_reconcile_drifts 1.0" in file.read_text().splitlines()
        unwritten = await asyncio.to_thread(run, *asked, "--metrics-file", str(tmp_path / "not-there" / "file"))
        assert isinstance(unwritten.exception, ConfigError)
        assert unwritten.stdout == shown.stdout
        assert "5 charges: 4 agrees, 1 drift" in shown.stdout


async def test_what_is_not_invoiced_is_listed_with_both_figures(
    billing_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VOLTSTREAM_DATABASE_URL", billing_url)
    drift, review = session(excl_off_micros=1), session(energy_mwh=10_000_000_000, time_ms=10 * 3_600_000)
    unpriced = session(tariff=None, used=[])
    async with (
        open_running(billing_url) as billing,
        serve(operators_api(ReadingsStore(billing.database)), "127.0.0.1", 0) as server,
    ):
        await billing.deliver(session(), drift, review, unpriced)
        (of_drift,) = billing.cdrs(drift.id)
        asked = ("--url", server.url, "--token", "vso_x")
        document = json.loads((await asyncio.to_thread(run, *asked, "--json")).stdout)
        shown = (await asyncio.to_thread(run, *asked)).stdout
    listed = {one["session_id"]: one for one in document["held"]}
    assert {id_: one["status"] for id_, one in listed.items()} == {
        str(drift.id): "drift",
        str(review.id): "held",
        str(unpriced.id): "unpriced",
    }
    of_listed = listed[str(drift.id)]
    assert of_listed["station_id"] == "NL-1"
    assert of_listed["total_excl_vat"] == format_micros(of_drift["total_excl_micros"])
    assert of_listed["stream_excl_vat"] == format_micros(of_drift["total_excl_micros"] + 1)
    assert listed[str(unpriced.id)]["total_excl_vat"] is None
    for id_, one in listed.items():
        assert f"{one['status']}: session {id_} at NL-1" in shown
    assert of_listed["total_excl_vat"] in shown
    assert of_listed["stream_excl_vat"] in shown


def test_an_api_that_does_not_answer_is_named_and_how_to_name_another(
    billing_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VOLTSTREAM_DATABASE_URL", billing_url)
    refused = run("--url", "http://127.0.0.1:1", "--token", "vso_x").exception
    assert isinstance(refused, PlatformFailed)
    assert "http://127.0.0.1:1 does not answer" in str(refused)
    assert "--url" in str(refused)


def test_a_database_without_tables_and_a_wrong_range_are_reported(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VOLTSTREAM_DATABASE_URL", database_url)
    asked = ("--url", "http://127.0.0.1:1", "--token", "vso_x")
    assert "voltstream migrate" in str(run(*asked).exception)
    backwards = CliRunner().invoke(
        command_line, ["billing", "reconcile", "--from", "2026-03-02T00:00:00Z", "--to", "2026-03-01T00:00:00Z", *asked]
    )
    assert "is not before" in str(backwards.exception)
    assert "is not an instant" in str(
        CliRunner().invoke(command_line, ["billing", "reconcile", "--from", "soon", "--to", "1", *asked]).exception
    )
