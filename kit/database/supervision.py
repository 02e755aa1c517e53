"""Supervision of the embedded PostgreSQL: restarts a server that died or hangs, and raises DatabaseLost if it cannot.

A server that hangs is first told to continue, as if someone had stopped it (SIGSTOP, a debugger); if it still does not
answer it is killed and started again. Where it died because the disk is full, it is started once there is room.
"""

import asyncio
from collections import deque
from typing import Final, Protocol

from kit.errors import DatabaseLost
from kit.observability.logs import get_logger

POLL_S: Final = 0.2  # interval of checks whether the process lives, ~50 us each
# If a server dies more often, further restarts would only hide the cause.
DEATHS_MAX: Final = 4
DEATHS_WINDOW_S: Final = 60.0
# A new connection takes ~5 ms, and on the busiest machine less than a second. Told to continue after one silent look,
# within 5 s; killed after four, within 20 s.
LOOK_S: Final = 2.0  # between two looks whether it answers
ANSWER_S_MAX: Final = 3.0
SILENT_LOOKS_MAX: Final = 4
SPACE_POLL_S: Final = 2.0  # between two attempts to start it while the disk is full

_log = get_logger(__name__)


class RestartableServer(Protocol):
    """The part of EmbeddedPostgres that is supervised."""

    @property
    def pid(self) -> int:
        """Process id."""

    @property
    def running(self) -> bool:
        """Whether that process is alive."""

    @property
    def disk_full(self) -> bool:
        """Whether there is too little room for it to start."""

    def answers(self, within_s: float) -> bool:
        """Whether it accepts a connection, or refuses one, in that time. Blocks."""

    def resume(self) -> None:
        """Let it continue where it was stopped."""

    def kill(self) -> None:
        """End its main process at once."""

    def restart(self) -> None:
        """Start it again. Blocks. Raises DatabaseLost."""


async def supervise(server: RestartableServer, *, poll_s: float = POLL_S, look_s: float = LOOK_S) -> None:
    """Restart `server` whenever it has died or hangs, until cancelled.

    Raises DatabaseLost if it cannot be started again though there is room, or if it died `DEATHS_MAX` times within
    `DEATHS_WINDOW_S`. A cancelled call returns only after a restart under way has ended. Stop the server after that,
    not before.
    """
    loop = asyncio.get_running_loop()
    deaths_s: deque[float] = deque(maxlen=DEATHS_MAX)
    watching = asyncio.create_task(_end_hangs(server, look_s), name="database answers")
    try:
        while True:
            await asyncio.sleep(poll_s)
            if watching.done():
                watching.result()
            if server.running:
                continue
            died_s = loop.time()
            deaths_s.append(died_s)
            _log.error("database_died", pid=server.pid)
            if len(deaths_s) == DEATHS_MAX and died_s - deaths_s[0] <= DEATHS_WINDOW_S and not server.disk_full:
                words = f"the embedded PostgreSQL died {DEATHS_MAX} times within {DEATHS_WINDOW_S:.0f} s"
                raise _lost(DatabaseLost(words))
            await _restarted(server, poll_s)
            _log.warning("database_restarted", pid=server.pid, after_s=round(loop.time() - died_s, 1))
    finally:
        watching.cancel()
        await asyncio.wait((watching,))


async def _restarted(server: RestartableServer, poll_s: float) -> None:
    """Start it again, once there is room."""
    while True:
        restarting = asyncio.ensure_future(asyncio.to_thread(server.restart))
        try:
            await asyncio.shield(restarting)
            return
        except DatabaseLost as error:
            if not server.disk_full:
                raise _lost(error) from None
            _log.error("database_waits_for_space", error=str(error))
        finally:
            await asyncio.wait((restarting,))  # its thread continues after a cancellation
        await asyncio.sleep(min(SPACE_POLL_S, poll_s * 10))


async def _end_hangs(server: RestartableServer, look_s: float) -> None:
    """Resume the server, or else kill it, where it does not answer; `supervise` then starts it again."""
    silent = 0
    resumed = False
    while True:
        await asyncio.sleep(look_s)
        if not server.running:
            silent, resumed = 0, False  # it is being restarted
            continue
        if await asyncio.to_thread(server.answers, ANSWER_S_MAX):
            if resumed:
                _log.warning("database_resumed", pid=server.pid)
            silent, resumed = 0, False
            continue
        silent += 1
        if not server.running:
            continue
        if not resumed:
            _log.error("database_hangs", pid=server.pid, looks=silent)
            server.resume()
            resumed = True
        elif silent >= SILENT_LOOKS_MAX:
            _log.error("database_killed", pid=server.pid, looks=silent)
            server.kill()
            silent, resumed = 0, False


def _lost(error: DatabaseLost) -> DatabaseLost:
    """Log the error at once, since closing everything else takes a while, and return it."""
    _log.error("database_lost", error=str(error))
    return error
