"""Whole runs, from opening the transport to the summary: what the command line starts, with a progress bar.

However a run ends (done, Ctrl-C, refused, platform unreachable), requests under way are given a moment, and the summary
counts what was acknowledged.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from itertools import chain
from typing import Any, Final

import httpx
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, Task, TextColumn, TimeElapsedColumn
from rich.text import Text

from kit.clock import Clock
from kit.errors import KitError
from kit.messaging.rabbit_bus import RabbitBus
from kit.retry import load_retry_policy
from simulator.encode import Format
from simulator.errors import Rejected, SimulatorError
from simulator.fleet.faults import FaultPlan, with_faults
from simulator.fleet.fleet import PAST_BURST_MS, Fleet
from simulator.fleet.readings import Stream
from simulator.fleet.run import back_fill, live
from simulator.fleet.spec import FleetSpec
from simulator.load.load import Load
from simulator.replay.files import count_rows
from simulator.replay.replay import Replay
from simulator.transports import BusTransport, Encoding, HttpTransport, Transport

CODE_REFUSED: Final = 1
CODE_FILE: Final = 2
CODE_INTERRUPTED: Final = 130  # 128 + SIGINT, as shells have it
_BROKER_TIMEOUT_S: Final = 30.0  # RabbitMQ's own start takes 5 to 15 s
_LOOK_S: Final = 0.2  # how often a load run's counter is read
_AMQP: Final = ("amqp://", "amqps://")
UNAUTHORIZED_HINT: Final = (
    "name one by --token or VOLTSTREAM_DEVICE_TOKEN: `voltstream up` prints one, "
    "`voltstream token issue --any-station` makes one"
)


@dataclass(frozen=True, slots=True)
class RunOutcome:
    """How a run ended."""

    summary: dict[str, Any]  # flat, for JSON
    error: str | None = None
    code: int = 0


@dataclass(frozen=True, slots=True)
class Destination:
    """Where readings go: http(s)://… as a device, amqp(s)://… as events."""

    url: str
    token: str
    clock: Clock
    encoding: Encoding
    connections: int

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Transport]:
        """The transport, closed afterwards. Raises ConfigError, Unavailable."""
        if self.url.startswith(_AMQP):
            bus = RabbitBus(self.url, load_retry_policy(), name="simulator")
            bus.start()
            try:
                await bus.wait_ready(_BROKER_TIMEOUT_S)
                yield BusTransport(bus, self.clock)
            finally:
                await bus.close()
            return
        if not self.url.startswith(("http://", "https://")):
            raise SimulatorError(f"{self.url}: a URL begins with http://, https:// or amqp://")
        transport = HttpTransport(
            self.url, self.token, self.clock, encoding=self.encoding, connections=self.connections
        )
        try:
            yield transport
        finally:
            await transport.close()


@dataclass(slots=True)
class _End:
    """What stopped a run, if anything did."""

    error: str | None = None
    code: int = 0
    interrupted: bool = False


@contextmanager
def _ending(code_interrupted: int) -> Iterator[_End]:
    """Turns Ctrl-C and expected errors into an end that can be reported."""
    end = _End()
    try:
        yield end
    except asyncio.CancelledError:  # Ctrl-C, by asyncio.Runner
        end.interrupted, end.code = True, code_interrupted
    except Rejected as error:
        hint = f"; {UNAUTHORIZED_HINT}" if error.status == httpx.codes.UNAUTHORIZED else ""
        end.error, end.code = f"{error}{hint}", CODE_REFUSED
    except KitError as error:
        end.error, end.code = str(error), CODE_REFUSED
    except SimulatorError as error:
        end.error, end.code = str(error), CODE_FILE


@dataclass(slots=True)
class SimulationRun:
    """A run that sends a fleet's past readings, its present ones, or both."""

    spec: FleetSpec
    faults: FaultPlan
    target: Destination
    form: Format
    batch: int
    past_until_ms: int | None  # back-fill up to here first
    live: bool  # then, or from the start, go on at the clock's pace
    duration_s: float | None  # of the live part; None: until Ctrl-C
    quiet: bool

    async def run(self) -> RunOutcome:
        """Never raises for a fault of the platform: the outcome names it."""
        fleet, clock = Fleet(self.spec), self.target.clock
        first_s = clock.monotonic_s()
        tally = None
        with _ending(code_interrupted=0) as end, _bar("simulate", self._total(), quiet=self.quiet) as progress:
            async with self.target.open() as transport:
                tally = transport.tally
                await self._send(fleet, transport, clock, progress)
        sent = _tallied(tally, clock.monotonic_s() - first_s)
        return RunOutcome(
            {**sent, "sessions_ended": len(fleet.truth), "interrupted": end.interrupted}, end.error, end.code
        )

    async def _send(self, fleet: Fleet, transport: Transport, clock: Clock, progress: "_Advance") -> None:
        past: Stream = iter(())
        if self.past_until_ms is not None:
            past = fleet.stream(self.past_until_ms, burst_ms=PAST_BURST_MS)
        form, batch, seed = self.form, self.batch, self.spec.seed
        in_flight = self.target.connections
        if not self.live:
            stream = with_faults(past, self.faults, seed)
            await back_fill(stream, transport, form, progress, batch=batch, in_flight=in_flight)
            return
        # One stream through one set of faults. What is past is due at once: `live` catches up, then keeps pace.
        until_ms = None
        if self.duration_s is not None:
            until_ms = clock.now_ms() + round(self.duration_s * 1_000)
        stream = with_faults(chain(past, fleet.stream(until_ms)), self.faults, seed)
        await live(stream, transport, form, progress, clock, batch=batch, in_flight=in_flight)

    def _total(self) -> int | None:
        if self.live and self.duration_s is None:
            return None
        end_ms = self.past_until_ms if self.past_until_ms is not None else self.spec.start_ms
        span_s = (end_ms - self.spec.start_ms) / 1_000 + (self.duration_s or 0) * self.live
        return round(span_s * self.spec.rate)


@dataclass(slots=True)
class LoadRun:
    """A load run."""

    load: Load
    quiet: bool

    async def run(self) -> RunOutcome:
        """Never raises for a fault of the platform: the outcome names it."""
        report = self.load.report
        with _ending(code_interrupted=0) as end, _bar("load", None, quiet=self.quiet) as progress:
            looking = asyncio.create_task(self._look(progress))
            try:
                await self.load.run()
            finally:
                looking.cancel()
        return RunOutcome({**report.summary(), "interrupted": end.interrupted}, end.error, end.code)

    async def _look(self, progress: "_Advance") -> None:
        seen = 0
        while True:
            await asyncio.sleep(_LOOK_S)
            progress(self.load.report.acknowledged - seen)
            seen = self.load.report.acknowledged


@dataclass(slots=True)
class ReplayRun:
    """A replay of a file."""

    replay: Replay
    target: Destination
    quiet: bool

    async def run(self) -> RunOutcome:
        """Never raises for a fault of the platform or the file: the outcome names it."""
        replay, clock = self.replay, self.target.clock
        spec, first_s = replay.spec, clock.monotonic_s()
        total = None if self.quiet else round(count_rows(spec.file) * (1 + spec.ordering.resend_pct / 100))
        tally = None
        already = replay.complete
        with _ending(code_interrupted=CODE_INTERRUPTED) as end, _bar("replay", total, quiet=self.quiet) as progress:
            progress(replay.resumed_from)
            if not already:
                async with self.target.open() as transport:
                    tally = transport.tally
                    await replay.run(transport, progress)
        summary = {
            "file": str(spec.file),
            "target": spec.target,
            **_tallied(tally, clock.monotonic_s() - first_s),
            "resumed_from": replay.resumed_from,
            "rows": replay.rows,
            "complete": replay.complete,
            "already_sent": already,  # whole, to this address, by an earlier run
            "interrupted": end.interrupted,
        }
        if already and not self.quiet:
            _stderr().print("the whole file was sent to this address before: nothing to do; --restart sends it again")
        if not replay.complete and not self.quiet:
            _stderr().print(f"stopped after {replay.rows:,} rows; the same command goes on from there")
        return RunOutcome(summary, end.error, end.code)


def _tallied(tally: Any, elapsed_s: float) -> dict[str, Any]:
    """A transport's tally for a summary; zeros where none was opened."""
    sent = tally.sent if tally else 0
    reasons = dict(tally.quarantined) if tally else {}
    return {
        "sent": sent,
        "accepted": tally.accepted if tally else 0,
        "quarantined": sum(reasons.values()),
        "quarantined_by_reason": reasons,
        "requests": tally.requests if tally else 0,
        "retried": tally.retried if tally else 0,
        "elapsed_s": round(elapsed_s, 3),
        "readings_per_s": round(sent / elapsed_s, 1) if elapsed_s else 0.0,
    }


class _Rate(TextColumn):
    """A column of the progress bar: readings per second."""

    def __init__(self) -> None:
        super().__init__("")

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed or 0:,.0f} readings/s")


class _Advance:
    """Advances the progress bar, if there is one."""

    def __init__(self, bar: Progress | None, task: Any) -> None:
        self._bar, self._task = bar, task

    def __call__(self, readings: int) -> None:
        if self._bar is not None:
            self._bar.advance(self._task, readings)


@contextmanager
def _bar(what: str, total: int | None, *, quiet: bool) -> Iterator[_Advance]:
    if quiet:
        yield _Advance(None, None)
        return
    columns = (SpinnerColumn(), TextColumn(what), BarColumn(), MofNCompleteColumn(), _Rate(), TimeElapsedColumn())
    with Progress(*columns, console=_stderr()) as bar:
        yield _Advance(bar, bar.add_task(what, total=total))


def _stderr() -> Console:
    return Console(stderr=True)
