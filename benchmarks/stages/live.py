"""Hypothesis: a reading is live after the linger (5 ms), two brokers (~20 ms), half a flush interval and a flush
(~100 ms): within 300 ms nearly always. Embedded: the linger and a commit or two.

Measured: 10,000 connectors each say something once a second, JSON batches of 100, 10,000 readings/s offered; every
reading's `ts` is the moment it leaves. One operator listens to all stations' server-sent events
(`/api/v1/telemetry/live/stream`): the time from `ts` until the reading is in the listener's hands, on the same clock.
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

from benchmarks.processes import CpuMeter, Service, load, running, told
from benchmarks.report import Result, phase
from benchmarks.session import Session
from benchmarks.stages.end_to_end import PARTITIONS, UP, check_ledger, embedded_pids, operator, wait_closed

SECONDS, SECONDS_QUICK = 20, 3
STATIONS, CONNECTORS = 5_000, 2
RATE, RATE_QUICK = 10_000, 1_000
WARM_UP_S, WARM_UP_S_QUICK = 3, 1  # sessions of all connectors open, and are left out
TARGET_MS: Final = 300.0
_DATA: Final = b"data: "


class _Document(msgspec.Struct):
    ts: datetime


class _Change(msgspec.Struct):
    connectors: list[_Document]


def run(session: Session) -> list[Result]:
    """The live stage."""
    session.fresh_log(PARTITIONS)
    with session.database(PARTITIONS) as url, phase(session.console, "live: distributed"):
        distributed = measure(
            session, session.environment(url, PARTITIONS), "distributed", ("postgres", "rabbitmq", "kafka", "redis")
        )
    with phase(session.console, "live: embedded"):
        embedded = measure(session, session.alone(), "embedded", ())
    return [*distributed, *embedded]


def measure(session: Session, environment: dict[str, str], name: str, servers: tuple[str, ...]) -> list[Result]:
    """p99 and p50 of one way to run."""
    seconds, warm_up_s = session.pick(SECONDS, SECONDS_QUICK), session.pick(WARM_UP_S, WARM_UP_S_QUICK)
    rate = session.pick(RATE, RATE_QUICK)
    stations = str(rate // CONNECTORS)
    options = ("--rate", str(rate), "--stations", stations, "--connectors", str(CONNECTORS), "--connections", "8")
    with running(*UP, environment=environment) as up, operator(up) as http:
        listener = Listener(up)
        others = session.pids(*servers) if servers else embedded_pids(environment)
        meter = CpuMeter({"gateway": up.pid, **others})
        report = load(up.said["api"], up.said["device_token"], *options, seconds=seconds + warm_up_s)
        sent = int(report["acknowledged"])
        wait_closed(http, sent)
        spent = told(meter.spent_s())
        check_ledger(http, sent)
        delays_ms = listener.stop(after=rate * warm_up_s)
    seen = len(delays_ms) / (report["acknowledged"] - rate * warm_up_s)
    p50, p99, most = (float(np.percentile(delays_ms, share)) for share in (50, 99, 100))
    note = (
        f"p50 {p50:.0f} ms, max {most:.0f} ms; {seen:.1%} of the readings were seen one by one, the others overtaken; "
        f"202 p99 {report['latency_ms_p99']:.0f} ms at {report['readings_per_s']:.0f} readings/s; "
        f"processor seconds: {spent}"
    )
    return [Result(f"live, {name}: POST to live view, p99", p99, "ms", TARGET_MS, higher_is_better=False, note=note)]


class Listener:
    """An operator's stream of changes, read in a thread of its own."""

    def __init__(self, up: Service) -> None:
        parts = urlsplit(up.said["api"])
        self._connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=60)
        headers = {"Authorization": f"Bearer {up.said['operator_token']}"}
        self._connection.request("GET", "/api/v1/telemetry/live/stream", headers=headers)
        self._response = self._connection.getresponse()
        assert self._response.status == http.client.OK
        self._delays_ms: list[float] = []
        self._stopped = False
        self._thread = threading.Thread(target=self._listen, name="listener")
        self._thread.start()

    def stop(self, after: int) -> "np.ndarray[Any, np.dtype[np.float64]]":
        """What it has heard, without the first `after` readings."""
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
        """The data of each event but the first, the snapshot. Heartbeats come each 15 s, so it ends by then."""
        first = True
        while not self._stopped:
            line = self._response.readline()
            if line.startswith(_DATA):
                if not first:
                    yield line[len(_DATA) :]
                first = False
