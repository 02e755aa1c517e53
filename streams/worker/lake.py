"""Moving readings to the lake while a worker runs: in a thread of its own, retried while the lake does not answer."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Final

from kit.clock import Clock
from kit.errors import KitError, Unavailable
from kit.observability.logs import get_logger
from streams.settings import WorkerSettings
from streams.storage.connections import Connections
from streams.storage.lake_move import LakeMover

MOVE_EVERY_S: Final = 3_600.0  # a few queries of small tables while no week is due
RETRY_AFTER_S: Final = 60.0  # after a failure

_log = get_logger(__name__)


class LakeRunner:
    """Runs the moves of a process."""

    def __init__(
        self, mover: LakeMover, connections: Connections, clock: Clock, settings: Callable[[], WorkerSettings]
    ) -> None:
        """`connections`: the mover's, closed at the end; `settings`: as they are now."""
        self._mover = mover
        self._connections = connections
        self._clock = clock
        self._settings = settings
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="lake")
        self._fault = ""
        self._running: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin."""
        self._running = asyncio.create_task(self._run(), name="lake")

    async def stop(self) -> None:
        """Stop; a move that is under way ends at its next step."""
        self._mover.stop()
        if self._running is not None:
            self._running.cancel()
            with suppress(asyncio.CancelledError):
                await self._running
        await asyncio.to_thread(self._executor.shutdown)
        self._connections.close()

    async def check(self) -> None:
        """For /ready. Raises Unavailable while the last move has failed."""
        if self._fault:
            raise Unavailable(self._fault)

    async def move_once(self) -> None:
        """Move what is due; a failure is logged, and shown by `check` until a move succeeds."""
        settings = self._settings()
        move = partial(
            self._mover.move,
            self._clock.now(),
            settings.lake_after_days,
            settings.raw_retention_days,
            settings.window_1m_retention_days,
        )
        try:
            await asyncio.get_running_loop().run_in_executor(self._executor, move)
            self._fault = ""
        except KitError as error:
            self._fault = str(error)
            _log.warning("lake_move_failed", error=str(error))
        except Exception as error:
            self._fault = f"the move to the lake failed: {type(error).__name__}"
            _log.exception("lake_move_failed")  # it must never end the worker

    async def _run(self) -> None:
        while True:
            await self.move_once()
            await asyncio.sleep(RETRY_AFTER_S if self._fault else MOVE_EVERY_S)
