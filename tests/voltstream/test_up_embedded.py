"""`voltstream up` without any URL: everything in one process."""

import json
import signal
import socket
import stat
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.voltstream.platform import Up, readings, up, voltstream
from tests.waiting import eventually

pytestmark = pytest.mark.usefixtures("processes")


def _a_minute_ago_ms() -> int:
    return int((time.time() - 60) * 1_000)


def _history(platform: Up, station_id: str) -> list[dict[str, Any]]:
    since = (datetime.now(UTC) - timedelta(hours=1)).isoformat()
    page = platform.get(f"/api/v1/telemetry/{station_id}", interval="raw", **{"from": since})
    rows: list[dict[str, Any]] = page["rows"]
    return rows


def test_what_was_acknowledged_survives_a_stop_and_the_printed_tokens_stay_valid(data_dir: Path) -> None:
    sent = readings("DE*VLT*E1", 50, _a_minute_ago_ms())
    with up(data_dir, "--no-simulator") as first:
        assert set(first.first_line) == {"api", "device_token", "operator_token"}
        assert first.post(sent).json() == {"accepted": 50, "quarantined": []}
        assert first.post(sent).json()["accepted"] == 50
        live = first.get("/api/v1/telemetry/DE*VLT*E1/live")["connectors"]
        assert [connector["session"]["readings"] for connector in live] == [50]
        ledger = first.ledger()
        assert (ledger["accepted"], ledger["stored"], ledger["duplicate"]) == (100, 50, 50)
        assert ledger["closed"]
        assert len(_history(first, "DE*VLT*E1")) == 50
        assert first.stop() == (0, "")
    with up(data_dir, "--no-simulator") as second:
        assert second.first_line["device_token"] == first.first_line["device_token"]
        assert second.first_line["operator_token"] == first.first_line["operator_token"]
        assert len(_history(second, "de*vlt*e1")) == 50
        assert second.post(sent).status_code == 202
        ledger = second.ledger()
        assert (ledger["stored"], ledger["duplicate"], ledger["closed"]) == (50, 100, True)
        assert second.stop(signal.SIGINT) == (0, "")


def test_tokens_are_kept_for_their_owner_alone(data_dir: Path) -> None:
    with up(data_dir, "--no-simulator") as platform:
        kept = data_dir / "tokens.json"
        assert stat.S_IMODE(kept.stat().st_mode) == 0o600
        assert platform.first_line["device_token"] in kept.read_text()
        assert platform.post([], token=platform.first_line["operator_token"]).status_code == 403
        assert platform.post([], token="vsd_" + "x" * 43).status_code == 401


async def test_a_bays_event_reaches_reservations_and_a_late_one_of_it_counts(data_dir: Path) -> None:
    """From the post of an event to who stands there, with the stream and the bus between."""
    with up(data_dir, "--no-simulator") as platform:
        now_ms = int(time.time() * 1_000)

        def event(bay: str, minutes_ago: int, *, occupied: bool) -> dict[str, Any]:
            return {"station_id": "BAYS-1", "ts": now_ms - minutes_ago * 60_000, "bay": bay, "occupied": occupied}

        def shown() -> dict[str, Any]:
            try:
                page = platform.get("/api/v1/reservations/parking/BAYS-1")
            except AssertionError:  # 404: nothing is known of it yet
                return {}
            return {one["bay"]: (one["occupied"], one["registered"]) for one in page["places"]}

        sent = [event("P1", 9, occupied=False), event("P1", 5, occupied=True), event("P2", 5, occupied=True)]
        assert platform.post(sent).json() == {"accepted": 3, "quarantined": []}
        await eventually(lambda: shown() == {"P1": (True, False), "P2": (True, False)}, within_s=60)
        late = [
            event("P1", 7, occupied=True),
            event("P2", 3, occupied=False),
            {**event("P2", 1, occupied=True), "bay": ""},
        ]
        answer = platform.post([*late, *sent]).json()
        assert (answer["accepted"], [one["reason"] for one in answer["quarantined"]]) == (5, ["bay_invalid"])
        await eventually(lambda: shown() == {"P1": (True, False), "P2": (False, False)}, within_s=60)
        ledger = platform.ledger()
        assert (ledger["stored"], ledger["duplicate"], ledger["quarantined"], ledger["closed"]) == (5, 3, 1, True)
        assert len(_history(platform, "BAYS-1")) == 5


async def test_the_simulated_fleet_fills_the_live_view_over_http(data_dir: Path) -> None:
    with up(data_dir, "--stations", "3", "--rate", "30", received_events="true") as platform:
        measured = "simulated_reading_stored_after_seconds_count"
        await eventually(lambda: f"{measured} 0.0" not in platform.text("/metrics"), within_s=60)
        assert measured in platform.text("/metrics")
        await eventually(lambda: platform.get("/api/v1/telemetry/live")["total"]["connectors"] == 6, within_s=60)
        metrics = platform.text("/metrics")
        assert "ingest_readings_accepted_total" in metrics
        assert "streams_flush_seconds" in metrics
        assert "events_published_total" in metrics
        assert json.loads(platform.text("/ready")) == {"status": "ready", "checks": {"database": "ok", "disk": "ok"}}
        assert "/api/v1/telemetry/ledger" in platform.text("/openapi.json")
        assert platform.stop()[0] == 0


async def test_the_fleet_of_a_second_start_is_new_and_no_duplicate(data_dir: Path) -> None:
    for _ in range(2):
        with up(data_dir, "--stations", "2", "--rate", "40") as platform:
            before = platform.ledger()["stored"]
            await eventually(lambda: platform.ledger()["stored"] > before + 20, within_s=60)  # noqa: B023  # it ends within the turn
            assert platform.ledger()["duplicate"] == 0
            assert platform.stop() == (0, "")


def test_what_cannot_be_started_is_one_clear_line(data_dir: Path) -> None:
    with up(data_dir, "--no-simulator") as platform:
        second = voltstream("up", "--json", "--port", "0", "--data-dir", str(data_dir))
        assert (second.returncode, second.stdout) == (2, "")
        assert second.stderr.count("\n") == 1
        assert f"pid {platform.process.pid}" in second.stderr
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        refused = voltstream("up", "--json", "--port", str(port), "--data-dir", str(data_dir), log_level="error")
        assert (refused.returncode, refused.stdout) == (2, "")
        assert refused.stderr.splitlines() == [
            f"VOLTSTREAM_PORT={port}: another program listens there; choose another port, or 0 for any"
        ]
    refused = voltstream("up", "--json", "--data-dir", str(data_dir), partitions="8", port="0")
    assert refused.returncode == 2
    assert "set VOLTSTREAM_PARTITIONS=2" in refused.stderr
    # Nothing of that has hindered it.
    ended = voltstream("up", "--json", "--port", "0", "--for", "10ms", "--data-dir", str(data_dir))
    assert ended.returncode == 0
    assert set(json.loads(ended.stdout)) == {"api", "device_token", "operator_token"}


def test_a_data_folder_keeps_the_number_of_partitions_it_was_made_with(data_dir: Path) -> None:
    made = voltstream("up", "--json", "--for", "10ms", "--data-dir", str(data_dir), partitions="3", port="0")
    assert made.returncode == 0, made.stderr
    with up(data_dir, "--no-simulator") as platform:
        assert len(platform.get("/api/v1/telemetry/ledger")["partitions"]) == 3


def test_tools_beside_it_use_its_database(data_dir: Path) -> None:
    folder = str(data_dir)
    with up(data_dir, "--no-simulator") as platform:
        issued = voltstream("token", "issue", "--station", "de*vlt*e2", "--json", "--data-dir", folder)
        token = json.loads(issued.stdout)
        assert token["stations"] == ["DE*VLT*E2"]
        sent = readings("DE*VLT*E2", 5, _a_minute_ago_ms())
        assert platform.post(sent, token["token"]).status_code == 202
        assert platform.post(readings("DE*VLT*E3", 1, _a_minute_ago_ms()), token["token"]).status_code == 403
        shown = voltstream("ledger", "--json", "--url", platform.api, "--data-dir", folder)
        assert json.loads(shown.stdout)["total"]["stored"] == 5
        assert json.loads(voltstream("migrate", "--json", "--data-dir", folder).stdout)["applied"] == []
        examined = voltstream("doctor", "--json", "--data-dir", folder)
        assert (examined.returncode, json.loads(examined.stdout)["ok"]) == (0, True), examined.stdout
        revoked = voltstream("token", "revoke", token["id"], "--json", "--data-dir", folder)
        assert json.loads(revoked.stdout) == {"revoked": token["id"]}
        listed = voltstream("token", "list", "--json", "--data-dir", folder)
        assert [json.loads(line)["revoked_at"] is None for line in listed.stdout.splitlines()] == [True, True, False]


def test_a_killed_one_leaves_nothing_that_hinders_the_next(data_dir: Path) -> None:
    sent = readings("DE*VLT*E1", 20, _a_minute_ago_ms())
    with up(data_dir, "--no-simulator") as first:
        assert first.post(sent).status_code == 202
        first.process.send_signal(signal.SIGKILL)
        first.wait()
    with up(data_dir, "--no-simulator") as second:
        assert second.ledger()["stored"] == 20
        assert second.post(sent).status_code == 202
        assert second.ledger()["duplicate"] == 20
