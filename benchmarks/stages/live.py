"""Hypothesis: a reading is live after the linger (20 ms at most), two brokers (~20 ms), half a flush interval and a
flush (~100 ms): nearly always within 300 ms. Embedded: after the linger and one or two commits.

Measured: 10,000 connectors each send a reading per second in JSON batches of 100, 10,000 readings/s offered; a
reading's `ts` is the moment it is sent. One operator reads all stations' server-sent events
(`/api/v1/telemetry/live/stream`): the time from `ts` until the reading is received, on the same clock. And the
processor time a reading of all processes but the load and the viewers, with one viewer and with 100. Then 1,000
readings/s in single posts.
"""

import http.client
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec
import numpy as np

from benchmarks.processes import CpuMeter, RunningService, format_times, load, running
from benchmarks.report import Result, phase
from benchmarks.run import BenchmarkRun
from benchmarks.stages.end_to_end import PARTITIONS, UP, check_ledger, embedded_pids, operator, wait_closed

SECONDS, SECONDS_QUICK = 20, 3
CONNECTORS: Final = 2  # of a station
WARM_UP_S, WARM_UP_S_QUICK = 3, 1  # sessions of all connectors open; not measured
_DATA: Final = b"data: "


class _Document(msgspec.Struct):
    ts: datetime


class _Change(msgspec.Struct):
    connectors: list[_Document]


@dataclass(frozen=True)
class Case:
    """What is offered, who looks, and what is wanted."""

    name: str
    rate: int  # readings/s
    batch: int
    viewers: int
    p99_ms: float
    cpu_us: float | None  # a reading


CASES: Final = (
    Case("batches of 100, one viewer", 10_000, 100, 1, 300.0, 60.0),
    Case("batches of 100, 100 viewers", 10_000, 100, 100, 300.0, 90.0),
    Case("single posts", 1_000, 1, 1, 150.0, None),
)
CASES_QUICK: Final = tuple(replace(case, rate=min(case.rate, 1_000), viewers=min(case.viewers, 3)) for case in CASES)
_SERVERS: Final = ("postgres", "rabbitmq", "kafka", "redis")


def run(bench: BenchmarkRun) -> list[Result]:
    """The `live` stage."""
    results = []
    for case in CASES_QUICK if bench.quick else CASES:
        bench.fresh_log(PARTITIONS)
        with bench.database(PARTITIONS) as url, phase(bench.console, f"live: distributed, {case.name}"):
            results += measure(bench, bench.environment(url, PARTITIONS), "distributed", _SERVERS, case)
    with phase(bench.console, "live: embedded"):
        embedded = measure(bench, bench.alone(), "embedded", (), (CASES_QUICK if bench.quick else CASES)[0])
    return [*results, *embedded]


def measure(
    bench: BenchmarkRun, environment: dict[str, str], name: str, servers: tuple[str, ...], case: Case
) -> list[Result]:
    """p99 and p50 of one mode, and the processor time of a reading."""
    seconds, warm_up_s = bench.pick(SECONDS, SECONDS_QUICK), bench.pick(WARM_UP_S, WARM_UP_S_QUICK)
    options = {"rate": case.rate, "stations": case.rate // CONNECTORS, "connectors": CONNECTORS, "batch": case.batch,
               "connections": 8 if case.batch > 1 else 64}  # fmt: skip
    words = [word for option, value in options.items() for word in (f"--{option}", str(value))]
    with running(*UP, environment=environment) as up, operator(up) as http, _viewers(up, case.viewers - 1):
        listener = Listener(up)
        others = bench.pids(*servers) if servers else embedded_pids(environment)
        meter = CpuMeter({"gateway": up.pid, **others})
        report = load(up.ready_line["api"], up.ready_line["device_token"], *words, seconds=seconds + warm_up_s)
        sent = int(report["acknowledged"])
        wait_closed(http, sent)
        spent_s = meter.spent_s()
        check_ledger(http, sent)
        delays_ms = listener.stop(after=case.rate * warm_up_s)
    seen = len(delays_ms) / (report["acknowledged"] - case.rate * warm_up_s)
    p50, p99, most = (float(np.percentile(delays_ms, share)) for share in (50, 99, 100))
    cpu_us = sum(spent_s.values()) / sent * 1e6
    note = (
        f"p50 {p50:.0f} ms, max {most:.0f} ms; {seen:.1%} of the readings were received, the others superseded; "
        f"202 p99 {report['latency_ms_p99']:.0f} ms at {report['readings_per_s']:.0f} readings/s; "
        f"{cpu_us:.0f} us a reading; processor seconds: {format_times(spent_s)}"
    )
    title = f"live, {name}, {case.name}"
    results = [Result(f"{title}: POST to live view, p99", p99, "ms", case.p99_ms, higher_is_better=False, note=note)]
    if servers and case.cpu_us is not None:
        results.append(Result(f"{title}: processor time", cpu_us, "us/reading", case.cpu_us, higher_is_better=False))
    return results


@contextmanager
def _viewers(up: RunningService, count: int) -> Iterator[None]:
    """Others who look at all stations, in a process of their own."""
    if not count:
        yield
        return
    where = (up.ready_line["api"], up.ready_line["operator_token"])
    with running("benchmarks.clients.viewers", *where, str(count), environment={}):
        yield


class Listener:
    """Reads an operator's event stream in a thread of its own."""

    def __init__(self, up: RunningService) -> None:
        parts = urlsplit(up.ready_line["api"])
        self._connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=60)
        headers = {"Authorization": f"Bearer {up.ready_line['operator_token']}"}
        self._connection.request("GET", "/api/v1/telemetry/live/stream", headers=headers)
        self._response = self._connection.getresponse()
        assert self._response.status == http.client.OK
        self._delays_ms: list[float] = []
        self._stopped = False
        self._thread = threading.Thread(target=self._listen, name="listener")
        self._thread.start()

    def stop(self, after: int) -> "np.ndarray[Any, np.dtype[np.float64]]":
        """The delays of all readings received, without the first `after`."""
        self._stopped = True
        self._thread.join()
        return np.array(self._delays_ms[after:])

    def _listen(self) -> None:
        decode = msgspec.json.Decoder(_Change).decode
        for line in self._lines():
            now_s = time.time()
            self._delays_ms += [(now_s - document.ts.timestamp()) * 1_000 for document in decode(line).connectors]
        self._connection.close()

    def _lines(self) -> Iterator[bytes]:
        """The data of each event but the first, which is the snapshot. Ends with the next heartbeat, within 15 s."""
        first = True
        while not self._stopped:
            line = self._response.readline()
            if line.startswith(_DATA):
                if not first:
                    yield line[len(_DATA) :]
                first = False
