"""Laws of supervision: a dead server is restarted, and one that cannot be kept alive is an error."""

import asyncio
import threading

import pytest

from kit.database.supervision import DEATHS_MAX, supervise
from kit.errors import DatabaseLost
from tests.waiting import eventually


class FakeServer:
    """Dies when told to; a restart takes until `allowed` is set."""

    def __init__(self) -> None:
        self.running = True
        self.pid = 1
        self.dies_at_once = False
        self.failure: DatabaseLost | None = None
        self.allowed = threading.Event()
        self.allowed.set()

    def restart(self) -> None:
        """See RestartableServer."""
        self.allowed.wait()
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
