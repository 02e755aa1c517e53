"""The meters of the simulated fleet go on where they stood, whatever ended the platform: no session sees a leap."""

import signal
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.voltstream.platform import ENOUGH_S, Up, up
from tests.waiting import eventually

pytestmark = pytest.mark.usefixtures("processes")

FLEET = ("--stations", "3", "--rate", "60")


def _rows(platform: Up) -> list[dict[str, Any]]:
    since = (datetime.now(UTC) - timedelta(hours=1)).isoformat()
    query = {"interval": "raw", "connector_id": "1", "limit": "10000", "from": since}
    rows: list[dict[str, Any]] = platform.get("/api/v1/telemetry/SIM-000001", **query)["rows"]
    return sorted(rows, key=lambda row: (row["boot"], row["seq"]))


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL], ids=["stopped", "killed"])
async def test_a_fleet_that_starts_again_reads_on_from_its_last_stored_registers(
    data_dir: Path, how: signal.Signals
) -> None:
    with up(data_dir, *FLEET) as first:
        await eventually(lambda: len(_known(first)) > 30, ENOUGH_S)
        first.stop(how)
    with up(data_dir, *FLEET) as second:
        await eventually(lambda: len({row["boot"] for row in _known(second)}) == 2, ENOUGH_S)
        rows = _rows(second)
        before, after = sorted({row["boot"] for row in rows})
        last = [row["energy_wh"] for row in rows if row["boot"] == before][-1]
        assert next(row["energy_wh"] for row in rows if row["boot"] == after) == last


def _known(platform: Up) -> list[dict[str, Any]]:
    """Its readings; none before the first is stored."""
    live = platform.get("/api/v1/telemetry/live")["connectors"]
    return _rows(platform) if any(one["station_id"] == "SIM-000001" for one in live) else []
