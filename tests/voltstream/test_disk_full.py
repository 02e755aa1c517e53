"""`voltstream up` on a disk that fills up: it says so, loses nothing, and comes back once there is room."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.proof.recoveries import Station, filled, is_back, is_ready, small_disk
from tests.voltstream.platform import up
from tests.waiting import eventually

pytestmark = pytest.mark.usefixtures("processes")


@pytest.fixture
def disk() -> Iterator[Path]:
    """A small disk."""
    try:
        with small_disk() as folder:
            yield folder
    except OSError as error:
        pytest.skip(str(error))


async def test_a_full_disk_is_not_ready_and_everything_is_back_when_there_is_room(disk: Path) -> None:
    with up(disk / "data", "--no-simulator", free_space_mb_min="1000") as platform:
        station = Station(platform)
        await eventually(lambda: is_back(platform, station), within_s=60)
        ready = json.loads(platform.text("/ready"))
        assert (ready["status"], "VOLTSTREAM_FREE_SPACE_MB_MIN=1000" in ready["checks"]["disk"]) == ("degraded", True)
        with filled(disk):
            await eventually(lambda: not is_ready(platform), within_s=60)
            status = station.posts()
            assert status in (202, 503), "a reading is durable, or refused for now"
        await eventually(lambda: is_back(platform, station), within_s=120)
        assert platform.stop() == (0, ""), platform.log()
