"""`voltstream up` whose embedded PostgreSQL is killed: it comes back by itself, or the process ends and says why."""

import os
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from kit.database.embedded import running_url
from kit.database.postmaster import signal_server
from tests.voltstream.platform import Up, readings, up
from tests.waiting import eventually

pytestmark = pytest.mark.usefixtures("processes")

_STATIONS = [f"DE*VLT*E{number}" for number in range(1, 5)]
_POST_READINGS = 10


def _postmaster(data_dir: Path) -> int:
    return int((data_dir / "postgres" / "postmaster.pid").read_text().split()[0])


def _kill_postmaster(data_dir: Path) -> None:
    os.kill(_postmaster(data_dir), signal.SIGKILL)


class Chargers:
    """Post until told to stop, each its own readings; a batch that is refused is sent again."""

    def __init__(self, platform: Up) -> None:
        self.acknowledged = dict.fromkeys(_STATIONS, 0)
        self._platform = platform
        self._start_ms = int((time.time() - 3_000) * 1_000)
        self._stopped = False
        self._threads = ThreadPoolExecutor(len(_STATIONS))
        self._posting = [self._threads.submit(self._post, station_id) for station_id in _STATIONS]

    def _post(self, station_id: str) -> None:
        while not self._stopped:
            sent = self.acknowledged[station_id]
            start_ms = self._start_ms + sent * 1_000
            batch = readings(station_id, _POST_READINGS, start_ms, first_seq=1 + sent)
            response = self._platform.post(batch)
            assert response.status_code in (202, 503), response.text
            if response.status_code == 202:
                self.acknowledged[station_id] += _POST_READINGS

    def progressed(self) -> Callable[[], bool]:
        """Whether every charger was answered 202 since this call."""
        before = dict(self.acknowledged)
        # Twice: the first may have been under way.
        return lambda: all(self.acknowledged[key] >= count + 2 * _POST_READINGS for key, count in before.items())

    def stop(self) -> None:
        """Raises what a charger raised."""
        self._stopped = True
        for posting in self._posting:
            posting.result()
        self._threads.shutdown()


def _stored(platform: Up, station_id: str) -> set[int]:
    since = (datetime.now(UTC) - timedelta(hours=1)).isoformat()
    query: dict[str, str] = {"interval": "raw", "from": since, "limit": "1000"}
    page = platform.get(f"/api/v1/telemetry/{station_id}", **query)
    rows: list[dict[str, Any]] = page["rows"]
    return {row["seq"] for row in rows}


async def test_what_was_acknowledged_survives_kills_of_the_database_and_the_ledger_closes(data_dir: Path) -> None:
    with up(data_dir, "--no-simulator") as platform:
        chargers = Chargers(platform)
        try:
            for _ in range(2):
                await eventually(chargers.progressed(), within_s=60)
                killed = _postmaster(data_dir)
                _kill_postmaster(data_dir)
                await eventually(chargers.progressed(), within_s=60)
                assert _postmaster(data_dir) != killed
        finally:
            chargers.stop()
        await eventually(lambda: platform.ledger()["closed"], within_s=60)
        for station_id, count in chargers.acknowledged.items():
            expected = set(range(1, min(count, 1_000) + 1))
            # Raw readings are listed once their first window is written.
            await eventually(lambda: _stored(platform, station_id) >= expected, within_s=60)  # noqa: B023  # it ends within the turn
        assert platform.get("/ready")["status"] == "ready"
        assert platform.stop() == (0, "")


async def test_a_database_that_was_stopped_continues_by_itself_and_ready_answers_meanwhile(data_dir: Path) -> None:
    with up(data_dir, "--no-simulator") as platform:
        chargers = Chargers(platform)
        try:
            await eventually(chargers.progressed(), within_s=60)
            pid = _postmaster(data_dir)
            signal_server(data_dir / "postgres", signal.SIGSTOP)

            def unready() -> bool:
                """Once the last success is old; whenever it is asked, it answers."""
                ready = httpx.get(f"{platform.api}/ready", timeout=10, trust_env=False)
                return ready.status_code == 503 and "no answer within 2 s" in ready.json()["checks"].get("database", "")

            await eventually(unready, within_s=60)
            await eventually(chargers.progressed(), within_s=60)
            assert _postmaster(data_dir) == pid, "it was told to continue, not killed"
        finally:
            chargers.stop()
        await eventually(lambda: platform.ledger()["closed"], within_s=60)
        assert platform.stop() == (0, "")


async def test_a_crash_of_one_backend_only_interrupts_the_platform(data_dir: Path) -> None:
    with up(data_dir, "--no-simulator") as platform:
        chargers = Chargers(platform)
        try:
            await eventually(chargers.progressed(), within_s=60)
            pid = _postmaster(data_dir)
            with psycopg.connect(running_url(data_dir) or "") as connection:
                os.kill(connection.info.backend_pid, signal.SIGKILL)  # the postmaster then restarts all of them
            await eventually(chargers.progressed(), within_s=60)
            assert _postmaster(data_dir) == pid
        finally:
            chargers.stop()
        await eventually(lambda: platform.ledger()["closed"], within_s=60)
        assert platform.stop() == (0, "")


async def test_a_stop_right_after_the_kill_is_in_good_order(data_dir: Path) -> None:
    with up(data_dir, "--no-simulator") as platform:
        sent = readings(_STATIONS[0], 50, int((time.time() - 60) * 1_000))
        assert platform.post(sent).status_code == 202
        _kill_postmaster(data_dir)
        assert platform.stop() == (0, ""), platform.log()
    with up(data_dir, "--no-simulator") as platform:
        await eventually(lambda: _stored(platform, _STATIONS[0]) == set(range(1, 51)), within_s=60)


def test_where_the_database_cannot_come_back_the_process_ends_and_says_why(data_dir: Path) -> None:
    with up(data_dir, "--no-simulator") as platform:
        (data_dir / "postgres" / "postgresql.conf").write_text("nonsense\n")
        _kill_postmaster(data_dir)
        response = platform.post(readings(_STATIONS[0], 1, int((time.time() - 60) * 1_000)))
        assert response.status_code == 503
        assert str(data_dir) not in response.text
        assert platform.wait() == (1, "")
    last_line = (data_dir.parent / f"{data_dir.name}.log").read_text().splitlines()[-1]
    assert "the embedded PostgreSQL died and cannot be started again: " in last_line
    assert 'postgresql.conf" contains errors' in last_line
