"""The doctor finds which servers work, and says how to fix those that do not."""

from datetime import timedelta
from pathlib import Path

import pytest

from kit.clock import ManualClock, SystemClock
from tests.mongodb_sockets import leaves_a_socket, sockets_left  # noqa: F401  # a fixture
from voltstream.cli import doctor_server_checks as checks
from voltstream.cli.doctor_server_checks import check_clock, check_disk, run_server_checks
from voltstream.settings import load_settings


async def test_servers_that_are_there_pass(
    database_url: str, rabbitmq_url: str, kafka_url: str, redis_url: str, mongodb_url: str
) -> None:
    urls = {"rabbitmq_url": rabbitmq_url, "kafka_url": kafka_url, "redis_url": redis_url, "mongodb_url": mongodb_url}
    settings = load_settings(database_url=database_url, **urls)
    found = await run_server_checks(settings, SystemClock())
    assert [check.name for check in found] == ["postgresql", "clock", "rabbitmq", "kafka", "redis", "mongodb"]
    assert [check for check in found if not check.ok] == []


@leaves_a_socket
@pytest.mark.usefixtures("sockets_left")
async def test_servers_that_are_not_there_fail_with_the_fix_and_without_a_password(unused_port: int) -> None:
    settings = load_settings(
        database_url=f"postgresql://u:hush@127.0.0.1:{unused_port}/d",
        rabbitmq_url=f"amqp://u:hush@127.0.0.1:{unused_port}",
        kafka_url=f"127.0.0.1:{unused_port}",
        redis_url=f"redis://:hush@127.0.0.1:{unused_port}",
        mongodb_url=f"mongodb://u:hush@127.0.0.1:{unused_port}",
    )
    found = await run_server_checks(settings, SystemClock())
    assert [check.name for check in found] == ["postgresql", "clock", "rabbitmq", "kafka", "redis", "mongodb"]
    for check in found:
        assert not check.ok
        assert check.detail
        assert check.mend
        assert "hush" not in check.detail + check.mend
    assert "refused" in found[2].detail


async def test_the_embedded_run_is_checked_for_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (check,) = await run_server_checks(load_settings(data_dir=tmp_path / "not" / "yet"), SystemClock())
    assert check.name == "disk"
    monkeypatch.setattr(checks, "_FREE_BYTES_MIN", 2**62)
    assert "VOLTSTREAM_DATA_DIR" in (await check_disk(tmp_path)).mend


async def test_a_clock_that_is_wrong_is_found(database_url: str) -> None:
    right = SystemClock()
    assert (await check_clock(database_url, right)).ok
    wrong = await check_clock(database_url, ManualClock(right.now() - timedelta(minutes=1)))
    assert not wrong.ok
    assert "NTP" in wrong.mend
