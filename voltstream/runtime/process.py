"""One process: its loop, its signals, its logs and traces, and an end in good order."""

import asyncio
import os
import signal
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final

import uvloop

from kit.memory_tuning import reduce_gc_frequency
from kit.observability.logs import get_logger, setup_logging
from kit.observability.tracing import setup_tracing
from kit.settings import Settings

_STDIN: Final = 0
_THREADS_S_MAX: Final = 5.0  # for threads to end after everything has been closed; they have nothing left to do


class Lifespan:
    """The lifespan of a process: it ends when it is asked to stop, or when a vital part fails."""

    def __init__(self) -> None:
        self._stopping = asyncio.Event()
        self._vital: set[asyncio.Task[Any]] = set()
        self._cause: BaseException | None = None
        self._reactions: list[Callable[[BaseException], None]] = []
        self._up = False

    def spawn(self, work: Coroutine[Any, Any, Any], name: str) -> "asyncio.Task[Any]":
        """Run a vital part: if it raises, everything stops and `wait` raises the same."""
        task = asyncio.create_task(work, name=name)
        self._vital.add(task)
        task.add_done_callback(self._ended)
        return task

    def on_failure(self, react: Callable[[BaseException], None]) -> None:
        """Call `react` with the error of the first vital part that fails, before anything is closed."""
        self._reactions.append(react)

    def stop(self) -> None:
        """Begin to stop."""
        self._stopping.set()

    async def wait(self) -> None:
        """Once everything is up: wait for the stop. Raises the error of a vital part that failed."""
        self._up = True
        reduce_gc_frequency()
        await self._stopping.wait()
        if self._cause is not None:
            raise self._cause

    def stop_with_stdin(self) -> None:
        """Stop when stdin is closed: a pipe of the supervisor, which the system closes even where it is killed."""

        def readable() -> None:
            if not os.read(_STDIN, 1_024):
                asyncio.get_running_loop().remove_reader(_STDIN)
                self.stop()

        asyncio.get_running_loop().add_reader(_STDIN, readable)

    def signalled(self, main: "asyncio.Task[None]") -> None:
        """The first signal stops in good order; during the start, or a second time, it cancels."""
        if self._stopping.is_set() or not self._up:
            main.cancel()
        self.stop()

    @property
    def stopping(self) -> bool:
        """Whether a stop was asked for."""
        return self._stopping.is_set()

    def _ended(self, task: "asyncio.Task[Any]") -> None:
        self._vital.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            if self._cause is None:
                self._cause = error
                for react in self._reactions:
                    react(error)
            self.stop()


def run(service: str, settings: Settings, main: Callable[[Lifespan], Awaitable[None]]) -> None:
    """Run `main` until it returns; SIGINT and SIGTERM stop its Lifespan. Raises what `main` raises."""
    setup_logging(service, settings.log_level)
    tracing = setup_tracing(service, settings.otlp_endpoint, ca_file=settings.tls_ca_file)
    code = 1
    try:
        uvloop.run(_until_stopped(main))
        code = 0
    finally:
        tracing.shutdown()
        _leave_hung_threads(code)


def _leave_hung_threads(code: int) -> None:
    """Exit at once where a thread hangs: Python would wait for it for ever. All other work is done by now. Faust's
    consumer thread was seen to hang after Kafka had removed its worker from the group."""
    deadline_s = time.monotonic() + _THREADS_S_MAX
    others = [thread for thread in threading.enumerate() if thread is not threading.main_thread() and not thread.daemon]
    for thread in others:
        thread.join(max(0.0, deadline_s - time.monotonic()))
    hung = [thread.name for thread in others if thread.is_alive()]
    if hung:
        get_logger(__name__).error("threads_left_behind", threads=hung)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


async def _until_stopped(main: Callable[[Lifespan], Awaitable[None]]) -> None:
    lifespan = Lifespan()
    task = asyncio.ensure_future(_as_coroutine(main, lifespan))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, lifespan.signalled, task)
    try:
        await task
    except asyncio.CancelledError:
        if not lifespan.stopping:
            raise
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
        sys.stdout.flush()


async def _as_coroutine(main: Callable[[Lifespan], Awaitable[None]], lifespan: Lifespan) -> None:
    await main(lifespan)
