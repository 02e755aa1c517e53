"""Hypothesis: on single JSON messages a loop written by hand is the limit of a Python program; a framework pays for
generality with a call or more per reading, and what a kill -9 leaves depends on whether its state, its output and its
offsets are one transaction.

Measured: each rival's small program (benchmarks/rivals/) counts readings and sums power by connector and minute, from a
prefilled topic: readings/s and processor time, of all readings less a run of a tenth of them, and memory. Then once
more, with kill -9 of all its processes midway and a new start: its last counts are compared with the truth, by window.
Limit: a loop written by hand, which also stores the raw rows. Our own worker's figures are in `frame_sizes`.

Downloads the rivals of benchmarks/rivals/requirements.txt; those that cannot be installed are named and left out.
"""

import asyncio
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple
from uuid import uuid4

from benchmarks.processes import CpuMeter, format_times
from benchmarks.report import Result, phase
from benchmarks.rivals.foreign_process import ForeignProcess
from benchmarks.rivals.installation import PYTHON, install, version
from benchmarks.rivals.messages import CONNECTORS, PARTITIONS, create_topics, fill, truth
from benchmarks.rivals.output import Key, Output, TableOutput, TopicOutput, decode_faust_change, decode_row
from benchmarks.rivals.stock_faust import changelog
from benchmarks.run import BenchmarkRun, Deadline

_SHORTEST_S: Final = 0.001
_KILLED_AT: Final = 0.5
_QUIET_S: Final = 15.0  # without output: it is done; snapshots and commits are at most 10 s apart
_BACK_S_MAX: Final = 120.0  # the same if readings are missing: a killed consumer's place is given away after 45 or 60 s


class Task(NamedTuple):
    """What a rival works on."""

    kafka: str
    database: str
    topic: str
    readings: int
    folder: str

    @property
    def output(self) -> str:
        """The topic for its windows."""
        return f"{self.topic}-windows"

    @property
    def messages(self) -> int:
        """All messages of the topic, with those that close windows."""
        return self.readings + CONNECTORS


@dataclass(frozen=True, slots=True)
class Rival:
    """A program that does the task."""

    name: str
    module: str
    distribution: str  # whose version is said
    readings: int
    readings_quick: int
    arguments: Callable[[Task], tuple[str, ...]]
    output: Callable[[Task], Output]
    output_topic: Callable[[Task], tuple[str, int]] | None  # to create, with its partitions
    python: str = PYTHON
    closed_only: bool = True  # it writes a window once, when it is closed
    servers: tuple[str, ...] = ("kafka",)  # that work for it


class Seen(NamedTuple):
    """What was seen of a run from outside. Times are from its start."""

    first_s: float  # until there was output, 0 if there was none
    last_s: float  # until the last output
    spent_s: dict[str, float]  # processor time until then, by process
    rss_bytes_max: int


class Figures(NamedTuple):
    """What a rival needed."""

    rate: float  # readings per second
    own_us: float  # processor time a reading, all its processes
    spent_s: dict[str, float]
    rss_mb: float
    verdict: str


def _topic_arguments(task: Task) -> tuple[str, ...]:
    return (task.kafka, task.topic, task.output, f"{task.folder}/state")


def _windows_topic(task: Task) -> tuple[str, int]:
    return task.output, 1  # one partition: a later value of a window comes after the earlier one


def _windows(task: Task) -> Output:
    return TopicOutput(task.kafka, *_windows_topic(task), decode_row)


RIVALS: Final = (
    Rival(
        "a loop written by hand", "by_hand", "aiokafka", 1_000_000, 60_000,
        lambda task: (task.kafka, task.database, str(task.messages), task.topic),
        lambda task: TableOutput(task.database), None,
        python=sys.executable, closed_only=False, servers=("postgres", "kafka"),
    ),
    Rival("Bytewax", "bytewax_flow", "bytewax", 1_000_000, 60_000, _topic_arguments, _windows, _windows_topic),
    Rival(
        "Pathway", "pathway_flow", "pathway", 600_000, 60_000, _topic_arguments, _windows, _windows_topic,
        closed_only=False,
    ),
    Rival(
        "Pathway, enable.auto.commit=false", "pathway_flow", "pathway", 600_000, 60_000,
        lambda task: (*_topic_arguments(task), "enable.auto.commit=false"), _windows, _windows_topic,
        closed_only=False,
    ),
    Rival("Quix Streams", "quix_streams", "quixstreams", 300_000, 60_000, _topic_arguments, _windows, _windows_topic),
    Rival(
        "stock Faust", "stock_faust", "faust-streaming", 30_000, 3_000,
        lambda task: (task.kafka, str(task.messages), task.topic),
        lambda task: TopicOutput(task.kafka, changelog(task.topic), PARTITIONS, decode_faust_change),
        lambda task: (changelog(task.topic), PARTITIONS),
        python=sys.executable, closed_only=False,
    ),
)  # fmt: skip


def run(bench: BenchmarkRun) -> list[Result]:
    """The `rivals` stage. The loop written by hand comes first: the others are compared with it."""
    with phase(bench.console, "rivals: installing"):
        failed = install()
    for requirement, reason in failed.items():
        bench.console.print(f"rivals: {requirement} could not be installed: {reason}", markup=False)
    results: list[Result] = []
    by_hand: float | None = None
    for rival in RIVALS:
        found = version(rival.python, rival.distribution)
        if found is None:
            bench.console.print(
                f"rivals: {rival.name} is left out: {rival.distribution} is not installed", markup=False
            )
            continue
        try:
            result = _measure(bench, rival, found)
        except (RuntimeError, TimeoutError) as error:
            bench.console.print(f"rivals: {rival.name} {found} failed: {error}", markup=False)
            continue
        if rival is RIVALS[0]:
            by_hand = result.value
        results.append(result if by_hand is None else result.compare(RIVALS[0].name, by_hand))
    return results


def _measure(bench: BenchmarkRun, rival: Rival, found: str) -> Result:
    with phase(bench.console, f"rivals: {rival.name}"):
        figures = _figures(bench, rival)
    readings = bench.pick(rival.readings, rival.readings_quick)
    with phase(bench.console, f"rivals: {rival.name}, kill -9"), _task(bench, readings, rival) as task:
        outcome = asyncio.run(_killed(rival, task))
    return Result(
        f"rivals: {rival.name} ({rival.distribution} {found})",
        figures.rate,
        "readings/s",
        None,
        note=f"{figures.own_us:.1f} us of its processes a reading; memory {figures.rss_mb:.0f} MB; "
        f"processor seconds: {format_times(figures.spent_s)}; counts {figures.verdict}; with kill -9: {outcome}",
    )


@contextmanager
def _task(bench: BenchmarkRun, readings: int, rival: Rival) -> Iterator[Task]:
    """A prefilled topic and everything else new."""
    kafka = bench.server("kafka").url
    with bench.database() as database, tempfile.TemporaryDirectory() as folder:
        task = Task(kafka, database, f"rivals-{uuid4().hex[:8]}", readings, folder)
        asyncio.run(fill(kafka, task.topic, readings, closing=True))
        if rival.output_topic is not None:
            topic, partitions = rival.output_topic(task)
            asyncio.run(create_topics(kafka, topic, partitions=partitions))
        yield task


def _running(rival: Rival, task: Task) -> AbstractContextManager[ForeignProcess]:
    command = [rival.python, "-m", f"benchmarks.rivals.{rival.module}", *rival.arguments(task)]
    return ForeignProcess(command, Path(task.folder))


def _figures(bench: BenchmarkRun, rival: Rival) -> Figures:
    """Of a run of all readings less one of a tenth: so the start does not count, however late the first window is
    written. Raises RuntimeError, TimeoutError.
    """
    readings = bench.pick(rival.readings, rival.readings_quick)
    fewer = readings // 10
    with _task(bench, fewer, rival) as task:
        short, _ = asyncio.run(_uninterrupted(bench, rival, task))
    with _task(bench, readings, rival) as task:
        long, said = asyncio.run(_uninterrupted(bench, rival, task))
    spent_s = {name: seconds - short.spent_s.get(name, 0.0) for name, seconds in long.spent_s.items()}
    return Figures(
        (readings - fewer) / max(long.last_s - short.last_s, _SHORTEST_S),
        spent_s["rival"] / (readings - fewer) * 1e6,
        spent_s,
        long.rss_bytes_max / 1e6,
        said,
    )


async def _uninterrupted(bench: BenchmarkRun, rival: Rival, task: Task) -> tuple[Seen, str]:
    """A run without a kill, and whether its counts are right."""
    right = truth(task.readings)
    async with rival.output(task) as output:
        with _running(rival, task) as running:
            meter = CpuMeter({"rival": running.pid, **bench.pids(*rival.servers)})
            seen = await _settle(output, running, right, Deadline(f"{task.readings} readings"), meter)
        return seen, verdict(output.counts, right)


async def _killed(rival: Rival, task: Task) -> str:
    """What is left after a kill -9 midway and a new start. Raises RuntimeError, TimeoutError."""
    right = truth(task.readings)
    deadline = Deadline(f"{task.readings} readings, with kill -9")
    async with rival.output(task) as output:
        with _running(rival, task) as running:
            while _counted(output, right) < _KILLED_AT * task.readings and not running.ended():
                deadline.check()
                await output.poll()
        while await output.poll():  # what it had sent
            pass
        killed_at = _counted(output, right)
        with _running(rival, task) as running:
            seen = await _settle(output, running, right, deadline, CpuMeter({"rival": running.pid}))
    said = [
        f"killed at {killed_at / task.readings:.0%}",
        f"output again after {seen.first_s:.0f} s" if seen.first_s else "no output afterwards",
        verdict(output.counts, right),
    ]
    if rival.closed_only and (again := output.written - len(output.counts)):
        said.append(f"{again} of {len(right)} windows written twice")
    return ", ".join(said)


async def _settle(
    output: Output, running: ForeignProcess, right: dict[Key, int], deadline: Deadline, meter: CpuMeter
) -> Seen:
    """Read on until all is counted and nothing more comes, or until it has ended."""
    began_s = changed_s = time.perf_counter()
    seen = Seen(0.0, 0.0, meter.spent_s(), 0)
    wanted = sum(right.values())
    while not running.ended():
        deadline.check()
        changed = await output.poll()
        spent_s, now_s = meter.spent_s(), time.perf_counter()
        if changed and "rival" in spent_s:
            changed_s = now_s
            rss_bytes = max(seen.rss_bytes_max, running.rss_bytes())
            seen = Seen(seen.first_s or now_s - began_s, now_s - began_s, spent_s, rss_bytes)
        if now_s - changed_s > (_QUIET_S if _counted(output, right) >= wanted else _BACK_S_MAX):
            break
    while await output.poll():
        pass
    return seen


def _counted(output: Output, right: dict[Key, int]) -> int:
    """The readings counted so far, without those that close windows."""
    return sum(output.counts.get(key, 0) for key in right)


def verdict(counts: dict[Key, int], right: dict[Key, int]) -> str:
    """What is lost and what is counted twice, window by window: so the two do not cancel out."""
    differences = [counts.get(key, 0) - count for key, count in right.items()]
    lost, twice = -sum(d for d in differences if d < 0), sum(d for d in differences if d > 0)
    said = [f"{lost} readings lost"] * bool(lost) + [f"{twice} readings counted twice"] * bool(twice)
    return " and ".join(said) or "exact"
