"""Readings that were set apart because their station was not registered, from the post to the stored reading."""

import json
import time
from pathlib import Path

import pytest

from tests.voltstream.platform import ENOUGH_S, readings, up, voltstream
from tests.waiting import eventually

pytestmark = pytest.mark.usefixtures("processes")


async def test_what_a_station_said_before_it_was_registered_is_released_and_the_ledger_closes(data_dir: Path) -> None:
    sent = readings("LATER-1", 30, int(time.time() * 1_000) - 60_000)
    with up(data_dir, "--no-simulator", unclaimed="quarantine") as platform:
        assert platform.post(sent).json()["accepted"] == 30
        await eventually(lambda: platform.ledger()["quarantined"] == 30, ENOUGH_S)
        command = ("station", "release", "LATER-1", "--data-dir", str(data_dir), "--json")
        assert "register it first" in voltstream(*command).stderr
        assert voltstream("station", "set", "LATER-1", "--name", "Later", "--data-dir", str(data_dir)).returncode == 0

        def stored() -> bool:
            """Released again where the worker did not know the station yet."""
            answer = json.loads(voltstream(*command).stdout)
            assert answer["left"] == 0
            return bool(platform.ledger()["stored"] == 30)

        await eventually(stored, ENOUGH_S)
        await eventually(lambda: platform.ledger()["closed"], ENOUGH_S)
        ledger = platform.ledger()
        assert ledger["accepted"] == ledger["stored"] + ledger["duplicate"] + ledger["quarantined"]
        assert (ledger["stored"], ledger["duplicate"]) == (30, 0)
        assert ledger["quarantined"] % 30 == 0
