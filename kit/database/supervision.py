"""Supervision of the embedded PostgreSQL: restarts a server that died, and raises DatabaseLost if it cannot."""

import asyncio
from collections import deque
from typing import Final, Protocol

from kit.errors import DatabaseLost
from kit.observability.logs import get_logger

POLL_S: Final = 0.2  # interval of checks whether the process lives, ~50 us each
# If a server dies more often, further restarts would only hide the cause.
DEATHS_MAX: Final = 4
DEATHS_WINDOW_S: Final = 60.0

_log = get_logger(__name__)


class RestartableServer(Protocol):
    """The part of EmbeddedPostgres that is supervised."""

    @property
    def pid(self) -> int:
        """Process id."""

    @property
    def running(self) -> bool:
        """Whether that process is alive."""

    def restart(self) -> None:
        """Start it again. Blocks. Raises DatabaseLost."""


async def supervise(server: RestartableServer, *, poll_s: float = POLL_S) -> None:
    """Restart `server` whenever it has died, until cancelled.

    Raises DatabaseLost if it cannot be started again, or if it died `DEATHS_MAX` times within `DEATHS_WINDOW_S`.
    A cancelled call returns only after a restart under way has ended. Stop the server after that, not before.
    """
    loop = asyncio.get_running_loop()
    deaths_s: deque[float] = deque(maxlen=DEATHS_MAX)
    while True:
        await asyncio.sleep(poll_s)
        if server.running:
            continue
        died_s = loop.time()
        deaths_s.append(died_s)
        _log.error("database_died", pid=server.pid)
        if len(deaths_s) == DEATHS_MAX and died_s - deaths_s[0] <= DEATHS_WINDOW_S:
            raise _lost(DatabaseLost(f"the embedded PostgreSQL died {DEATHS_MAX} times within {DEATHS_WINDOW_S:.0f} s"))
        restarting = asyncio.ensure_future(asyncio.to_thread(server.restart))
        try:
            await asyncio.shield(restarting)
        except DatabaseLost as error:
            raise _lost(error) from None
        finally:
            await asyncio.wait((restarting,))  # its thread continues after a cancellation
        _log.warning("database_restarted", pid=server.pid, after_s=round(loop.time() - died_s, 1))


def _lost(error: DatabaseLost) -> DatabaseLost:
    """Log the error at once, since closing everything else takes a while, and return it."""
    _log.error("database_lost", error=str(error))
    return error
