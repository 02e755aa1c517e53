"""Real data: 720 charging sessions of the Bolite set over HTTP, against the energies that the owner reported.

`seq` begins at 0 with every session, so that every session after a pile's first is a reboot.
"""

import csv
import gzip
from collections import defaultdict
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.private_servers import PrivateServers
from tests.proof.bolite import DATA, PERIOD, READINGS, READINGS_FILE, SESSIONS, STATION
from tests.proof.cluster import clear_brokers, server_urls
from tests.proof.platform_process import Platform, running_platform
from tests.waiting import eventually

MAPPING = (*STATION, "--map", "ts=ts_ms")

pytestmark = pytest.mark.skipif(not READINGS_FILE.exists(), reason="the Bolite data is not beside the checkout")


@pytest.fixture(params=["embedded", "distributed"])
async def platform(request: pytest.FixtureRequest, data_dir: Path) -> AsyncIterator[Platform]:
    environment = {}
    if request.param == "distributed":
        servers: PrivateServers = request.getfixturevalue("running_servers")
        await clear_brokers(servers)
        environment = server_urls(servers, request.getfixturevalue("database_url"))
    with running_platform(data_dir, environment) as running:
        yield running


async def replay(platform: Platform, folder: Path, *options: str) -> dict[str, Any]:
    """Replay the file and wait until nothing is in flight; the ledger's totals."""
    before = platform.ledger()["accepted"]
    sent = platform.voltstream("replay", str(READINGS_FILE), *MAPPING, *options, data_dir=folder)
    assert sent["error"] is None

    def closed() -> dict[str, Any] | None:
        """A gateway reports what it accepted up to a tenth of a second later, so the ledger could close too early."""
        ledger = platform.ledger()
        return ledger if ledger["closed"] and ledger["accepted"] >= before + sent["accepted"] else None

    ledger = await eventually(closed, within_s=180)
    assert ledger is not None
    return ledger


def figures_of(platform: Platform) -> dict[str, Any]:
    """Every figure that must not change: sessions by the device's id, windows by station."""
    sessions = {
        s["session_id"]: {k: s[k] for k in ("station_id", "started_at", "last_at", "energy_uj", "readings", "flagged")}
        for s in platform.pages("/api/v1/sessions", "sessions", **PERIOD, limit=1_000)
    }
    windows = {
        station: [
            {k: v for k, v in w.items() if k not in ("revision", "flagged")}
            for w in platform.pages(f"/api/v1/telemetry/{station}", "rows", **PERIOD, interval="1m", limit=10_000)
        ]
        for station in sorted({s["station_id"] for s in sessions.values()})
    }
    return {"sessions": sessions, "windows": windows}


def expected_energy_uj() -> dict[str, int]:
    """Energy by left rectangles over the rows in file order, in integers: mW x ms."""
    total: dict[str, int] = defaultdict(int)
    before: dict[str, tuple[int, int]] = {}
    with gzip.open(READINGS_FILE, "rt") as file:
        for row in csv.DictReader(file):
            name, ts_ms = row["session_id"], int(row["ts_ms"])
            if name in before:
                since_ms, power_mw = before[name]
                total[name] += power_mw * (ts_ms - since_ms)
            before[name] = ts_ms, round(float(row["power_w"]) * 1_000)
    return total


async def test_real_sessions_have_the_energy_their_owner_reported(platform: Platform, tmp_path: Path) -> None:
    ledger = await replay(platform, tmp_path / "first")
    assert ledger == {
        "accepted": READINGS,
        "stored": READINGS,
        "duplicate": 0,
        "quarantined": 0,
        "replayed": 0,
        "in_windows": READINGS,
        "in_flight": 0,
        "closed": True,
    }
    first = await settled(platform)
    expected = expected_energy_uj()
    with (DATA / "bolite_sessions.csv").open() as file:
        reported = {row["session_id"]: row for row in csv.DictReader(file)}
    assert len(first["sessions"]) == len(reported) == SESSIONS
    for name, session in first["sessions"].items():
        assert session["energy_uj"] == expected[name]
        assert session["energy_uj"] / 3.6e9 == pytest.approx(float(reported[name]["energy_wh_reported"]), rel=1e-6)
        assert session["readings"] == int(reported[name]["n_points"])
    assert sum(w["readings"] for station in first["windows"].values() for w in station) == READINGS

    again = await replay(platform, tmp_path / "second")
    assert (again["stored"], again["duplicate"], again["quarantined"]) == (READINGS, READINGS, 0)
    assert figures_of(platform) == first, "a second delivery changed a figure"


async def test_shuffled_and_resent_gives_the_same_figures(platform: Platform, tmp_path: Path, seed: int) -> None:
    options = ("--shuffle-s", "60", "--resend-pct", "5", "--seed", str(seed % 2**31))
    ledger = await replay(platform, tmp_path / "shuffled", *options)
    assert ledger["stored"] == READINGS
    assert ledger["quarantined"] == 0
    assert ledger["duplicate"] == ledger["accepted"] - READINGS > 0
    figures = await settled(platform)
    expected = expected_energy_uj()
    assert {name: s["energy_uj"] for name, s in figures["sessions"].items()} == expected
    assert sum(w["readings"] for station in figures["windows"].values() for w in station) == READINGS


async def settled(platform: Platform) -> dict[str, Any]:
    """The figures once the rows of running sessions have been written (they may wait for a later step)."""

    def written() -> dict[str, Any] | None:
        figures = figures_of(platform)
        complete = sum(s["readings"] for s in figures["sessions"].values()) == READINGS
        return figures if complete else None

    found = await eventually(written, within_s=60)
    assert found is not None
    return found
