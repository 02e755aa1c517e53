"""Readings that a clock made wrong, from the post to the quarantine, and by a replay into history; embedded."""

import json
import time
from pathlib import Path
from typing import Any

import pytest

from tests.voltstream.platform import ENOUGH_S, readings, up, voltstream
from tests.waiting import eventually

pytestmark = pytest.mark.usefixtures("processes")

_REPLAY = "/api/v1/telemetry/quarantine/replay"
_AHEAD_S = 63  # of the platform's clock, which takes 60


async def test_what_was_ahead_of_our_clock_is_in_history_after_a_replay_and_the_ledger_closes(data_dir: Path) -> None:
    def quarantine(*arguments: str) -> list[Any]:
        done = voltstream("quarantine", *arguments, "--data-dir", str(data_dir), "--json")
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    with up(data_dir, "--no-simulator", future_s_max="60") as platform:
        start_ms = int((time.time() + _AHEAD_S) * 1_000)
        refused = platform.post(readings("AHEAD-1", 5, start_ms)).json()
        assert (refused["accepted"], {one["reason"] for one in refused["quarantined"]}) == (0, {"ts_future"})
        await eventually(lambda: platform.ledger()["quarantined"] == 5, ENOUGH_S)
        items = quarantine("list", "--reason", "ts_future", "--station", "ahead-1")
        assert len(items) == 5

        def passed() -> bool:
            """Once the clock is there."""
            (sums, *_) = quarantine("replay", "--reason", "ts_future", "--dry-run")
            return bool(sums["replayed"] == 5)

        await eventually(passed, ENOUGH_S)
        assert platform.ledger()["accepted"] == 5, "a dry run takes nothing"
        body = {"reason": "ts_future", "station_id": "AHEAD-1"}
        answers = [platform.change(_REPLAY, body, **{"Idempotency-Key": "mended"}) for _ in range(2)]
        assert [(one.status_code, one.json()["replayed"]) for one in answers] == [(200, 5), (200, 5)], "the same answer"
        await eventually(lambda: platform.ledger()["closed"] and platform.ledger()["stored"] == 5, ENOUGH_S)
        ledger = platform.ledger()
        assert (ledger["accepted"], ledger["quarantined"], ledger["replayed"]) == (10, 5, 5)
        query = {"interval": "raw", "from": str(start_ms), "to": str(start_ms + 60_000)}

        def stored() -> list[int]:
            return [row["seq"] for row in platform.get("/api/v1/telemetry/AHEAD-1", **query)["rows"]]

        await eventually(lambda: stored() == [1, 2, 3, 4, 5], ENOUGH_S)
        assert quarantine("list") == []
        (shown,) = quarantine("show", str(items[0]["id"]))
        assert shown["replayed_at"]
        assert shown["replayed_by"].startswith("operator/")
        assert shown["replay_correlation_id"]
        (again,) = quarantine("replay", "--id", str(items[0]["id"]))
        assert (again["replayed"], again["not_waiting"]) == (0, [items[0]["id"]])
        said = voltstream("quarantine", "replay", "--data-dir", str(data_dir))
        assert (said.returncode, "say which" in said.stderr) == (2, True)
        assert platform.change(_REPLAY, {"ids": [0]}).status_code == 422
