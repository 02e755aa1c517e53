"""Runs services in processes of their own, and restarts those that die."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import httpx

AT_ONCE = {"VOLTSTREAM_INVOICE_SETTLE_S": "0"}
"""Settings of a platform whose charges are invoiced at once: its tests wait for no clock."""

_STOP_S = 60  # against hanging; a worker's last flush and a server's grace take seconds
_STARTS_MAX = 60  # a few kills, and between them a start every two seconds as long as a server is away
_LOG_TAIL_BYTES = 6_000


class SupervisedService:
    """`voltstream <arguments>` as a process that is restarted whenever it dies."""

    def __init__(self, name: str, arguments: Sequence[str], environment: Mapping[str, str], folder: Path) -> None:
        self.name = name
        self.url = ""  # of its HTTP server, once it was ready
        self.first_line: dict[str, str] = {}
        self.unexpected: list[str] = []  # exits after it was ready that the test did not cause, or with an error
        self.starts = 0
        self.port = int(arguments[arguments.index("--port") + 1]) if "--port" in arguments else 0
        self.log = folder / f"{name.replace(' ', '-')}.log"
        self._command = (sys.executable, "-m", "voltstream", *arguments)
        self._environment = os.environ | {"PYTHONFAULTHANDLER": "1"} | dict(environment)
        self._process: asyncio.subprocess.Process | None = None
        self._killed = self._terminated = self._stopping = False
        self.ready = asyncio.Event()

    @property
    def pid(self) -> int | None:
        """Of its process, if there is one."""
        return self._process.pid if self._process is not None else None

    def signal(self, number: signal.Signals) -> bool:
        """Send it a signal; False if there is no process."""
        if self._process is None or self._process.returncode is not None:
            return False
        self._killed |= number == signal.SIGKILL
        self._terminated |= number == signal.SIGTERM
        with suppress(ProcessLookupError):
            self._process.send_signal(number)
        return True

    async def keep(self) -> None:
        """Start it, and restart it whenever it dies, until `stop`."""
        while not self._stopping:
            with self.log.open("ab") as log:
                self._process = process = await asyncio.create_subprocess_exec(
                    *self._command,
                    stdin=asyncio.subprocess.PIPE,  # it ends when this closes, so that none outlives a killed test
                    stdout=asyncio.subprocess.PIPE,
                    stderr=log,
                    env=self._environment,
                )
            self.starts += 1
            self._killed = self._terminated = False
            if self._stopping:  # set during the start: `stop` did not see this process
                process.terminate()
            assert self.starts <= _STARTS_MAX, f"{self.name} does not start: {self.tail()}"
            try:
                await self._read_output(process)
                code = await process.wait()
            except asyncio.CancelledError:
                process.kill()
                await process.wait()
                raise
            told = self._stopping or (self._terminated and code == 0)
            if self.ready.is_set() and not self._killed and not told:
                self.unexpected.append(f"{self.name} ended by itself with {code}: {self.tail()}")
            self.ready.clear()

    async def stop(self) -> int | None:
        """Stop it with SIGTERM; its exit code."""
        self._stopping = True
        if (process := self._process) is None:
            return None
        self.signal(signal.SIGCONT)
        self.signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(_STOP_S):
                return await process.wait()
        except TimeoutError:
            self.signal(signal.SIGABRT)  # it hangs: this writes the stacks of its threads to its log
            return await process.wait()

    def tail(self) -> str:
        """The end of its log."""
        return self.log.read_text(errors="replace")[-_LOG_TAIL_BYTES:]

    async def _read_output(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        async for line in process.stdout:
            self.first_line = json.loads(line)
            self.url = self.first_line.get("url") or self.first_line.get("api", "")
            self.ready.set()


@asynccontextmanager
async def kept_alive(services: Sequence[SupervisedService]) -> AsyncIterator[None]:
    """Run and supervise these services within the block."""
    tasks = [asyncio.create_task(service.keep()) for service in services]
    try:
        yield
    finally:
        await asyncio.gather(*(service.stop() for service in services))
        await asyncio.gather(*tasks)


async def run_once(environment: Mapping[str, str], *arguments: str) -> dict[str, str]:
    """Run a command to its end; its JSON output."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "voltstream", *arguments, "--json",
        env=os.environ | dict(environment), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await process.communicate()
    assert process.returncode == 0, (out + err).decode()[-_LOG_TAIL_BYTES:]
    answer: dict[str, str] = json.loads(out.splitlines()[-1])
    return answer


async def is_ready(client: httpx.AsyncClient, service: SupervisedService) -> bool:
    """Whether it is up and says so."""
    if not service.ready.is_set():
        return False
    try:
        return (await client.get(f"{service.url}/ready")).status_code == httpx.codes.OK
    except httpx.TransportError:
        return False
