"""Starts processes of the product, measures their processor time and memory, and ends them by their id."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import IO, Any, Final, NamedTuple

import httpx
import psutil
from prometheus_client.parser import text_string_to_metric_families

_STOP_S: Final = 60  # a worker's last flush and a gateway's drain
_LOG_TAIL_BYTES: Final = 4_000


class RunningService:
    """A running `python -m …` that has printed its JSON line of readiness, `ready_line`."""

    def __init__(self, process: "subprocess.Popen[str]", ready_line: Mapping[str, Any]) -> None:
        self.pid = process.pid
        self.ready_line = ready_line
        self._started = process
        self._process = psutil.Process(process.pid)

    def stop(self) -> str:
        """Let it end, and return what it still said."""
        self._started.send_signal(signal.SIGTERM)
        said, _ = self._started.communicate(timeout=_STOP_S)
        return said

    def cpu_s(self) -> float:
        """Processor time of this process alone, all threads, so far."""
        times = self._process.cpu_times()
        return float(times.user + times.system)

    def rss_bytes(self) -> int:
        """Resident memory now."""
        return int(self._process.memory_info().rss)


@contextmanager
def running(*arguments: str, environment: Mapping[str, str]) -> Iterator[RunningService]:
    """`python -m *arguments` from when it is ready until the block ends. Raises RuntimeError with its log."""
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(  # noqa: S603  # our own module, no input from outside
            [sys.executable, "-m", *arguments],
            env=os.environ | dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
        if process.stdout is None:
            raise RuntimeError("the process has no stdout")
        try:
            line = process.stdout.readline()
            if not line:
                process.wait(_STOP_S)
                raise RuntimeError(f"{' '.join(arguments)} ended:\n{_tail(log)}")
            yield RunningService(process, json.loads(line))
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def load(url: str, token: str, *options: str, seconds: float) -> dict[str, float]:
    """Run simulator/load/load.py in a process of its own; its report. Raises RuntimeError."""
    command = ["-m", "voltstream", "simulate", "--load", "--json", "--for", f"{seconds}s", "--url", url, *options]
    done = subprocess.run(  # noqa: S603  # our own module, no input from outside
        [sys.executable, *command],
        env=os.environ | {"VOLTSTREAM_DEVICE_TOKEN": token},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(f"load ended with {done.returncode}:\n{done.stderr[-_LOG_TAIL_BYTES:]}{done.stdout}")
    report: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return report


class CpuMeter:
    """Processor time of process trees by name, for processes that share the cores."""

    def __init__(self, roots: Mapping[str, int]) -> None:
        self._roots = roots
        self._before = self._spent()

    def spent_s(self) -> dict[str, float]:
        """Seconds since it was created, by name, the largest first."""
        now = self._spent()
        spent = {name: now[name] - self._before.get(name, 0.0) for name in now}
        return dict(sorted(spent.items(), key=lambda item: -item[1]))

    def _spent(self) -> dict[str, float]:
        spent: dict[str, float] = {}
        for name, pid in self._roots.items():
            try:
                root = psutil.Process(pid)
                members = [root, *root.children(recursive=True)]
            except psutil.NoSuchProcess:
                continue
            for member in members:
                _add(spent, name, member)
        return spent


class TimeSpent(NamedTuple):
    """Time spent on a piece of work, in seconds."""

    own_s: float  # processor time of this process
    others_s: float  # processor time of the other processes
    elapsed_s: float


class TimeMeter:
    """Measures the time of a piece of work, in this process and in the servers it uses."""

    def __init__(self, others: Mapping[str, int]) -> None:
        """`others`: process ids of the servers by name; their children are included."""
        self._others = others
        self.begin()

    def begin(self) -> None:
        """Start (again)."""
        self._meter = CpuMeter(self._others)
        self._own_s, self._since_s = time.process_time(), time.perf_counter()

    def end(self) -> TimeSpent:
        """Seconds since `begin`."""
        own_s, elapsed_s = time.process_time() - self._own_s, time.perf_counter() - self._since_s
        return TimeSpent(own_s, sum(self._meter.spent_s().values()), elapsed_s)


def _add(spent: dict[str, float], root: str, member: psutil.Process) -> None:
    """Add a member of a tree; voltstream services count under their own name."""
    try:
        words, times = member.cmdline(), member.cpu_times()
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return
    at = words.index("voltstream") if "voltstream" in words else -1
    name = words[at + 1] if at > 0 and words[at - 1] == "-m" and len(words) > at + 1 else root
    name = root if name == "up" else name
    spent[name] = spent.get(name, 0.0) + times.user + times.system + times.children_user + times.children_system


def format_times(spent_s: Mapping[str, float]) -> str:
    """`worker 20.1, gateway 15.0`, for a note."""
    return ", ".join(f"{name} {seconds:.1f}" for name, seconds in spent_s.items() if seconds >= 0.05)


def _tail(log: IO[str]) -> str:
    log.seek(0)
    return log.read()[-_LOG_TAIL_BYTES:]


def metric(service: RunningService, name: str, **labels: str) -> float:
    """The sum of a Prometheus sample of the service over all its labels but these."""
    text = httpx.get(f"{service.ready_line['url']}/metrics", trust_env=False, timeout=30).text
    return sum(
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )
