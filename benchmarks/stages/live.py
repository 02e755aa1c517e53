"""Hypothesis: a reading is live after the linger (20 ms at most), two brokers (~20 ms), half a flush interval and a
flush (~100 ms): nearly always within 300 ms. Embedded: after the linger and one or two commits.

Measured: 10,000 connectors each send a reading per second in JSON batches of 100, 10,000 readings/s offered; a
reading's `ts` is the moment it is sent. One operator reads all stations' server-sent events
(`/api/v1/telemetry/live/stream`): the time from `ts` until the reading is received, on the same clock.
"""

import http.client
import threading
import time
from collections.abc import Iterator
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
STATIONS, CONNECTORS = 5_000, 2
RATE, RATE_QUICK = 10_000, 1_000
WARM_UP_S, WARM_UP_S_QUICK = 3, 1  # sessions of all connectors open; not measured
TARGET_MS: Final = 300.0
_DATA: Final = b"data: "


class _Document(msgspec.Struct):
    ts: datetime


class _Change(msgspec.Struct):
    connectors: list[_Document]


def run(bench: BenchmarkRun) -> list[Result]:
    """The `live` stage."""
    bench.fresh_log(PARTITIONS)
    with bench.database(PARTITIONS) as url, phase(bench.console, "live: distributed"):
        distributed = measure(
            bench, bench.environment(url, PARTITIONS), "distributed", ("postgres", "rabbitmq", "kafka", "redis")
        )
    with phase(bench.console, "live: embedded"):
        embedded = measure(bench, bench.alone(), "embedded", ())
    return [*distributed, *embedded]


def measure(bench: BenchmarkRun, environment: dict[str, str], name: str, servers: tuple[str, ...]) -> list[Result]:
    """p99 and p50 of one mode."""
    seconds, warm_up_s = bench.pick(SECONDS, SECONDS_QUICK), bench.pick(WARM_UP_S, WARM_UP_S_QUICK)
    rate = bench.pick(RATE, RATE_QUICK)
    stations = str(rate // CONNECTORS)
    options = ("--rate", str(rate), "--stations", stations, "--connectors", str(CONNECTORS), "--connections", "8")
    with running(*UP, environment=environment) as up, operator(up) as http:
        listener = Listener(up)
        others = bench.pids(*servers) if servers else embedded_pids(environment)
        meter = CpuMeter({"gateway": up.pid, **others})
        report = load(up.ready_line["api"], up.ready_line["device_token"], *options, seconds=seconds + warm_up_s)
        sent = int(report["acknowledged"])
        wait_closed(http, sent)
        spent = format_times(meter.spent_s())
        check_ledger(http, sent)
        delays_ms = listener.stop(after=rate * warm_up_s)
    seen = len(delays_ms) / (report["acknowledged"] - rate * warm_up_s)
    p50, p99, most = (float(np.percentile(delays_ms, share)) for share in (50, 99, 100))
    note = (
        f"p50 {p50:.0f} ms, max {most:.0f} ms; {seen:.1%} of the readings were received, the others superseded; "
        f"202 p99 {report['latency_ms_p99']:.0f} ms at {report['readings_per_s']:.0f} readings/s; "
        f"processor seconds: {spent}"
    )
    return [Result(f"live, {name}: POST to live view, p99", p99, "ms", TARGET_MS, higher_is_better=False, note=note)]


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
