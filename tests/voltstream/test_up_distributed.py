"""`voltstream up` around real servers."""

import json
import os
import signal
import time
from pathlib import Path

import psutil
import pytest

from tests.voltstream.platform import Up, readings, up
from tests.waiting import eventually

pytestmark = pytest.mark.usefixtures("processes")

_CHILDREN = ("relay", "worker", "bridge")


def _child(platform: Up, service: str) -> psutil.Process | None:
    for process in psutil.Process(platform.process.pid).children():
        if service in process.cmdline():
            return process
    return None


def _now_ms() -> int:
    return int(time.time() * 1_000)


async def _stored(platform: Up, station_id: str, count: int) -> None:
    """All of these readings are in the live view's session, and the ledger is closed."""

    def all_there() -> bool:
        connectors = platform.get("/api/v1/telemetry/live", station_id=station_id)["connectors"]
        return bool(connectors) and connectors[0]["session"]["readings"] == count

    await eventually(all_there, within_s=90)
    await eventually(lambda: platform.ledger()["closed"], within_s=90)


async def test_everything_by_url(
    data_dir: Path, database_url: str, rabbitmq_url: str, kafka_url: str, redis_url: str
) -> None:
    servers = {
        "database_url": database_url,
        "rabbitmq_url": rabbitmq_url,
        "kafka_url": kafka_url,
        "redis_url": redis_url,
    }
    station = f"UP-{os.urandom(4).hex()}".upper()
    start_ms = _now_ms() - 120_000
    with up(data_dir, "--no-simulator", received_events="true", **servers) as platform:
        assert all(_child(platform, service) for service in _CHILDREN)
        assert set(json.loads(platform.text("/ready"))["checks"]) == {"database", "live view", "log", "bus"}
        assert platform.post(readings(station, 40, start_ms)).json()["accepted"] == 40
        await _stored(platform, station, 40)
        worker = _child(platform, "worker")
        assert worker is not None
        worker.send_signal(signal.SIGKILL)
        assert platform.post(readings(station, 20, start_ms + 40_000, first_seq=41)).status_code == 202
        await _stored(platform, station, 60)
        again = _child(platform, "worker")
        assert again is not None
        assert again.pid != worker.pid
        await eventually(
            lambda: platform.get(f"/api/v1/stations/{station}/status")["received"]["readings"] == 60, within_s=60
        )
        children = psutil.Process(platform.process.pid).children(recursive=True)
        assert platform.post(readings(station, 10, start_ms + 60_000, first_seq=61)).status_code == 202
        assert platform.stop() == (0, "")
        assert not [child for child in children if child.is_running()]
    with up(data_dir, "--no-simulator", **servers) as second:
        assert second.first_line["device_token"] == platform.first_line["device_token"]
        await _stored(second, station, 70)
        assert second.stop(signal.SIGINT) == (0, "")


async def test_children_of_a_killed_supervisor_end_by_themselves(
    data_dir: Path, database_url: str, rabbitmq_url: str, kafka_url: str, redis_url: str
) -> None:
    with up(
        data_dir,
        "--no-simulator",
        database_url=database_url,
        rabbitmq_url=rabbitmq_url,
        kafka_url=kafka_url,
        redis_url=redis_url,
    ) as platform:
        children = psutil.Process(platform.process.pid).children()
        assert len(children) == len(_CHILDREN)
        platform.process.kill()
        await eventually(lambda: not [child for child in children if child.is_running()], within_s=60)


async def test_only_the_brokers_by_url(data_dir: Path, rabbitmq_url: str, kafka_url: str) -> None:
    """The live view is in the process, so the worker is too; the children use the embedded database."""
    station = f"UP-{os.urandom(4).hex()}".upper()
    with up(data_dir, "--no-simulator", rabbitmq_url=rabbitmq_url, kafka_url=kafka_url) as platform:
        assert [service for service in _CHILDREN if _child(platform, service)] == ["relay", "bridge"]
        assert platform.post(readings(station, 30, _now_ms() - 60_000)).status_code == 202
        await _stored(platform, station, 30)
        assert "streams_flush_seconds" in platform.text("/metrics")
        assert platform.stop() == (0, "")


async def test_only_redis_by_url(data_dir: Path, redis_url: str) -> None:
    station = f"UP-{os.urandom(4).hex()}".upper()
    with up(data_dir, "--no-simulator", redis_url=redis_url) as platform:
        assert platform.post(readings(station, 30, _now_ms() - 60_000)).status_code == 202
        await _stored(platform, station, 30)
        assert platform.stop() == (0, "")


async def test_only_the_database_by_url(data_dir: Path, database_url: str) -> None:
    with up(data_dir, "--no-simulator", database_url=database_url) as platform:
        assert platform.post(readings("UP-1", 30, _now_ms() - 60_000)).status_code == 202
        await _stored(platform, "UP-1", 30)
        assert platform.stop() == (0, "")
