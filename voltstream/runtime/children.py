"""Services as child processes: started, watched, started again when they die, stopped in good order.

A child prints one JSON line on stdout once it is ready, `{"service": …, "url": …}`, and logs on stderr, which is passed
on. It stops when its stdin closes, so that none outlives a supervisor that was killed.
"""

import asyncio
import contextlib
import json
import os
import sys
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Final, Self

from kit.clock import Clock
from kit.observability.logs import get_logger
from kit.settings import PREFIX, Settings
from voltstream.errors import ChildFailed
from voltstream.runtime.process import Lifespan

READY_S_MAX: Final = 120.0  # a child waits 30 s for each of its servers; starting Python on a busy machine takes 10 s
STOP_S_MAX: Final = 40.0  # a worker's last flush, a bridge's drain of 5 s, an HTTP server's grace of 12 s
_PAUSE_FIRST_S: Final = 0.5
_PAUSE_CEILING_S: Final = 15.0  # a child that cannot live costs a start of ~1 s of one core each 15 s
_HEALTHY_S: Final = 60.0  # a child that dies after having run this long is restarted after the first pause again
_WRONG_SETTINGS: Final = 2  # exit code: starting again changes nothing
_LAST_LINES_MAX: Final = 5  # lines of stderr kept for the error message
_LINE_BYTES_MAX: Final = 1 << 20  # of one log line; a deep traceback as JSON has 100 kB

_log = get_logger(__name__)


def environment_of(settings: Settings) -> dict[str, str]:
    """An environment in which a child's settings are exactly these. Not arguments: those, anyone can read. A secret
    that is from a file stays there, so that the child reads a new one too."""
    environment = {name: value for name, value in os.environ.items() if not name.upper().startswith(PREFIX)}
    files = settings.secret_files()
    for name, value in settings.model_dump(mode="json").items():
        if name in files:
            environment[f"{PREFIX}{name.upper()}_FILE"] = str(files[name])
        else:
            environment[f"{PREFIX}{name.upper()}"] = _text(value)
    return environment


def _text(value: object) -> str:
    """A value as a variable has it: structures as JSON."""
    return json.dumps(value) if isinstance(value, dict | list) else str(value)


class Child:
    """One service in a process of its own, restarted when it dies, until `stop`."""

    def __init__(self, name: str, arguments: Sequence[str], environment: Mapping[str, str], clock: Clock) -> None:
        """`arguments` follow `python -m voltstream`, --json and --supervised among them."""
        self.name = name
        self.url: str | None = None  # where its /ready and /metrics are, while it is ready
        self.restarts = 0
        self._command = (sys.executable, "-m", "voltstream", *arguments)
        self._environment = dict(environment)
        self._clock = clock
        self._process: asyncio.subprocess.Process | None = None
        self._starting = asyncio.Lock()  # while a process is being created
        self._ready = asyncio.Event()
        self._was_ready = False
        self._stopping = asyncio.Event()
        self._last_lines: deque[str] = deque(maxlen=_LAST_LINES_MAX)
        self._running: asyncio.Task[None] | None = None

    @contextlib.asynccontextmanager
    async def running(self, lifespan: Lifespan) -> AsyncIterator[Self]:
        """Run within the block as a vital part of `lifespan`. Does not wait until the child is ready."""
        self._running = lifespan.spawn(self.run(), self.name)
        try:
            yield self
        finally:
            await self.stop()
            await asyncio.wait((self._running,))

    async def run(self) -> None:
        """Run until `stop`. Raises ChildFailed where the child exits because its settings are wrong. Once it was ready
        they are right: what it refuses later is a secret's file that is being changed, or the other end of a URL."""
        pause_s = _PAUSE_FIRST_S
        while not self._stopping.is_set():
            began_s = self._clock.monotonic_s()
            code = await self._run_once()
            if self._stopping.is_set():
                return
            if code == _WRONG_SETTINGS and not self._was_ready:
                raise ChildFailed(f"{self.name}: {self.last_lines}")
            pause_s = _PAUSE_FIRST_S if self._clock.monotonic_s() - began_s >= _HEALTHY_S else pause_s
            self.restarts += 1
            _log.error("child_died", child=self.name, code=code, last_output=self.last_lines, again_in_s=pause_s)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), pause_s)
            pause_s = min(pause_s * 2, _PAUSE_CEILING_S)

    async def wait_ready(self) -> None:
        """Wait until the child is ready. Raises ChildFailed, with its last log lines, where it takes too long."""
        if self._running is None:
            raise RuntimeError("not started")
        ready = asyncio.create_task(self._ready.wait())
        try:
            await asyncio.wait((ready, self._running), timeout=READY_S_MAX, return_when=asyncio.FIRST_COMPLETED)
            if self._running.done():
                self._running.result()
            if not ready.done():
                raise ChildFailed(f"{self.name} is not ready after {READY_S_MAX:.0f} s: {self.last_lines}")
        finally:
            ready.cancel()

    async def stop(self) -> None:
        """Terminate the child in good order; kill it after STOP_S_MAX."""
        self._stopping.set()
        async with self._starting:  # else a process that is just being created would not be terminated
            process = self._process
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            await asyncio.wait_for(process.wait(), STOP_S_MAX)
        except TimeoutError:
            _log.error("child_killed", child=self.name, after_s=STOP_S_MAX)
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    @property
    def last_lines(self) -> str:
        """The last lines of its stderr."""
        return " / ".join(self._last_lines) or "no output"

    async def _run_once(self) -> int:
        """Run the process once; its exit code."""
        async with self._starting:
            self._process = process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env=self._environment,
                limit=_LINE_BYTES_MAX,
                start_new_session=True,  # Ctrl-C in a terminal is for the supervisor, which stops its children in order
            )
        try:
            await asyncio.gather(self._read_stdout(process), self._forward_stderr(process))
            return await process.wait()
        finally:
            self.url = None
            self._ready.clear()
            if process.returncode is None:  # we are cancelled: its stdin closes with us
                with contextlib.suppress(ProcessLookupError):
                    process.terminate()
            self._process = None

    async def _read_stdout(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None  # noqa: S101  # it was asked for
        async for line in process.stdout:
            try:
                self.url = json.loads(line)["url"]
                self._ready.set()
                self._was_ready = True
            except (ValueError, KeyError, TypeError):
                _log.warning("child_output", child=self.name, line=line.decode(errors="replace").rstrip())

    async def _forward_stderr(self, process: asyncio.subprocess.Process) -> None:
        assert process.stderr is not None  # noqa: S101  # it was asked for
        while True:
            try:
                raw = await process.stderr.readline()
            except ValueError:
                continue  # a line above the limit: asyncio has dropped it
            if not raw:
                return
            line = raw.decode(errors="replace").rstrip()
            self._last_lines.append(line)
            print(line, file=sys.stderr, flush=True)
