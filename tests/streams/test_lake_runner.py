"""The worker's moves to the lake: retried while they fail, seen by /ready, and ended with the worker."""

import asyncio
import threading
from typing import Any, cast

import pytest

from ingest.settings import IngestSettings
from kit.clock import ManualClock, from_ms
from kit.errors import Unavailable
from kit.lake.folder import LakeUnavailable
from streams.settings import WorkerSettings
from streams.storage.connections import Connections
from streams.storage.lake_move import LakeMover
from streams.worker.lake import MOVE_EVERY_S, RETRY_AFTER_S, LakeRunner

_SETTINGS = WorkerSettings(lake_url="/lake", lake_after_days=30, raw_retention_days=400, window_1m_retention_days=60)


class Mover:
    """Records its calls. `failures`: raised by the next ones."""

    def __init__(self, *failures: Exception | None) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.stopped = False
        self.threads: set[threading.Thread] = set()
        self._failures = list(failures)

    def move(self, *arguments: Any) -> list[Any]:
        self.calls.append(arguments)
        self.threads.add(threading.current_thread())
        failure = self._failures.pop(0) if self._failures else None
        if failure is not None:
            raise failure
        return []

    def stop(self) -> None:
        self.stopped = True


def runner(mover: Mover) -> LakeRunner:
    connections = Connections(lambda: pytest.fail("nothing asks the database"), 1)
    return LakeRunner(cast(LakeMover, mover), connections, ManualClock(from_ms(0)), lambda: _SETTINGS)


async def test_a_failure_is_shown_until_a_move_succeeds() -> None:
    mover = Mover(LakeUnavailable("the lake is away"), ValueError("unforeseen"), None)
    one = runner(mover)
    await one.check()
    for words in ("the lake is away", "ValueError"):
        await one.move_once()
        with pytest.raises(Unavailable, match=words):
            await one.check()
    await one.move_once()
    await one.check()
    assert mover.calls == [(from_ms(0), 30, 400, 60)] * 3
    assert threading.current_thread() not in mover.threads
    await one.stop()
    assert mover.stopped


async def test_after_a_failure_it_is_tried_again_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    done = asyncio.Event()

    async def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 3:
            done.set()
            await asyncio.Event().wait()

    monkeypatch.setattr("streams.worker.lake.asyncio.sleep", pause)
    one = runner(Mover(Unavailable("down"), None, None))
    one.start()
    await done.wait()
    await one.stop()
    assert pauses == [RETRY_AFTER_S, MOVE_EVERY_S, MOVE_EVERY_S]


@pytest.mark.parametrize(
    ("given", "days"),
    [
        ({}, 1_830),
        ({"lake_after_days": 30}, 1_830),  # there is no lake
        ({"lake_url": "/lake"}, 90),
        ({"lake_url": "/lake", "lake_after_days": 30, "raw_retention_days": 400}, 30),
        ({"lake_url": "/lake", "raw_retention_days": 20}, 20),
        ({"lake_url": "/lake", "age_days_max": 10}, 10),
    ],
)
def test_the_gateway_takes_nothing_that_is_older_than_what_was_moved(given: dict[str, Any], days: int) -> None:
    assert IngestSettings.model_validate(given).age_days_effective == days
