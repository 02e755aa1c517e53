"""Laws of supervision: a dead server is restarted, and one that cannot be kept alive is an error."""

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from structlog.testing import capture_logs

from kit.database.supervision import DEATHS_MAX, supervise
from kit.errors import DatabaseLost
from tests.waiting import eventually


class FakeServer:
    """Dies when told to; a restart takes until `allowed` is set."""

    def __init__(self) -> None:
        self.running = True
        self.disk_full = False
        self.hangs = False
        self.resumes = True  # where it is told to continue
        self.resumed = 0
        self.pid = 1
        self.dies_at_once = False
        self.failure: DatabaseLost | None = None
        self.allowed = threading.Event()
        self.allowed.set()

    def answers(self, within_s: float) -> bool:
        """See RestartableServer."""
        del within_s
        return not self.hangs

    def resume(self) -> None:
        """See RestartableServer."""
        self.resumed += 1
        self.hangs = self.hangs and not self.resumes

    def kill(self) -> None:
        """See RestartableServer."""
        self.running = False

    def restart(self) -> None:
        """See RestartableServer."""
        self.allowed.wait()
        self.hangs = False
        if self.disk_full:
            raise DatabaseLost("no space left on device")
        if self.failure is not None:
            raise self.failure
        self.pid += 1
        self.running = not self.dies_at_once


async def test_a_dead_server_is_restarted_every_time() -> None:
    server = FakeServer()
    supervision = asyncio.create_task(supervise(server, poll_s=0.001))
    for pid in range(2, 1 + DEATHS_MAX):
        server.running = False
        await eventually(lambda: server.running)
        assert server.pid == pid
    supervision.cancel()
    await asyncio.wait((supervision,))
    assert supervision.cancelled()


async def test_a_server_that_cannot_be_restarted_is_an_error() -> None:
    server = FakeServer()
    server.running, server.failure = False, DatabaseLost("no data")
    with pytest.raises(DatabaseLost, match="no data"):
        await supervise(server, poll_s=0.001)


async def test_a_server_that_dies_again_and_again_is_an_error() -> None:
    server = FakeServer()
    server.running, server.dies_at_once = False, True
    with pytest.raises(DatabaseLost, match=f"died {DEATHS_MAX} times"):
        await supervise(server, poll_s=0.001)
    assert server.pid == DEATHS_MAX


async def test_a_cancelled_supervision_waits_for_the_restart_under_way() -> None:
    """What its thread starts after that, nobody would stop."""
    server = FakeServer()
    server.allowed.clear()
    server.running = False
    supervision = asyncio.create_task(supervise(server, poll_s=0.0))
    await asyncio.wait((supervision,), timeout=0.05)
    supervision.cancel()
    await asyncio.wait((supervision,), timeout=0.05)
    assert not supervision.done()
    server.allowed.set()
    await asyncio.wait((supervision,))
    assert supervision.cancelled()
    assert server.running


@asynccontextmanager
async def supervised(server: FakeServer) -> AsyncIterator[None]:
    """Within the block; it does not end by itself."""
    supervision = asyncio.create_task(supervise(server, poll_s=0.001, look_s=0.001))
    yield
    assert not supervision.done()
    supervision.cancel()
    await asyncio.wait((supervision,))


async def test_a_server_that_was_stopped_is_told_to_continue_and_not_killed() -> None:
    server = FakeServer()
    async with supervised(server):
        server.hangs = True
        await eventually(lambda: not server.hangs)
    assert (server.pid, server.resumed, server.running) == (1, 1, True)


async def test_a_server_that_still_does_not_answer_is_killed_and_started_again() -> None:
    server = FakeServer()
    server.resumes = False
    async with supervised(server):
        for pid in (2, 3):
            server.hangs = True
            await eventually(lambda: server.pid == pid and server.running)  # noqa: B023  # it ends within the turn
    assert server.resumed == 2, "once for each time that it hung"


async def test_a_server_that_died_of_a_full_disk_is_started_once_there_is_room() -> None:
    server = FakeServer()
    server.disk_full, server.running = True, False
    with capture_logs() as logs:
        async with supervised(server):
            await eventually(lambda: sum(one["event"] == "database_waits_for_space" for one in logs) > DEATHS_MAX)
            server.disk_full = False
            await eventually(lambda: server.running)
