"""Hypothesis: a reading costs ~5 us in the gateway, ~2 us in two brokers and ~5 us in worker and database: on two cores
that also run all servers and the load, that is 150 k readings/s at best.

Measured: `voltstream up` with all four URLs: gateway, RabbitMQ, bridge, Kafka, Faust worker, PostgreSQL, Redis, relay;
one process of simulator/load/load.py sends as fast as it is answered: Arrow batches of 1,000, as a large operator's
concentrator would, and as a second figure JSON batches of 100. Readings per second from when the session of every
connector is open (opening 20,000 at once is not realistic; the note has its duration) until the last reading is
committed and the ledger has closed; then raw rows, windows and ledger must be exact to the reading, and
the live view must show every connector's newest reading. Limit: bare COPY of the same rows.
"""

import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import msgspec

from benchmarks.bare_copy import bare_copy
from benchmarks.committed import check_rows
from benchmarks.processes import CpuMeter, RunningService, format_times, load, running
from benchmarks.report import Result, phase
from benchmarks.run import BenchmarkRun, Deadline
from kit.database.embedded import running_url

SECONDS, SECONDS_QUICK = 60, 3
SECONDS_SECOND = 20  # of the second figure
# 20,000 connectors: more than the 12,000 readings in flight at once. With fewer, a connector's next reading could
# overtake its last one on another connection, which no device does, and sessions would be recomputed from stored rows.
STATIONS, STATIONS_QUICK = 10_000, 10_000
CONNECTORS = 2  # of each station
PARTITIONS = 2  # one per core: each frame, and each flush, has a fixed cost
POLL_S = 0.05
UP = ("voltstream", "up", "--json", "--no-simulator", "--port", "0")
SHAPES = {
    "Arrow batches of 1,000": ("--format", "arrow", "--batch", "1000", "--connections", "12", "--pipeline", "1"),
    "JSON batches of 100": ("--format", "json", "--batch", "100", "--connections", "32", "--pipeline", "1"),
}


@dataclass(frozen=True, slots=True)
class Run:
    """Figures of one run."""

    committed_per_s: float  # from when all sessions are open until all is committed
    opening_s: float  # from the start of the load until then
    accepted_per_s: float  # while the load lasted
    latency_ms_p99: float  # of the 202, opening included
    spent: str
    copy_per_s: float

    @property
    def note(self) -> str:
        """The note below the figure."""
        return (
            f"p99 {self.latency_ms_p99:.0f} ms; {self.opening_s:.1f} s of opening sessions before; "
            f"processor seconds: {self.spent}"
        )


def run(bench: BenchmarkRun) -> list[Result]:
    """The `end_to_end` stage."""
    results = []
    for number, shape in enumerate(list(SHAPES)[: bench.pick(2, 1)]):
        bench.fresh_log(PARTITIONS)
        with bench.database(PARTITIONS) as url, phase(bench.console, f"end to end: {shape}"):
            seconds = bench.pick(SECONDS if number == 0 else SECONDS_SECOND, SECONDS_QUICK)
            done = measure(bench, bench.environment(url, PARTITIONS), url, shape, seconds, bare=number == 0)
        target = 120e3 if number == 0 else None
        result = Result(f"end to end, distributed: {shape}", done.committed_per_s, "readings/s", target)
        result.note = f"202 {done.note}"
        result.compare("answered 202 meanwhile", done.accepted_per_s)
        if done.copy_per_s:
            result.compare("bare COPY of the same rows", done.copy_per_s)
        results.append(result)
    return results


def measure(
    bench: BenchmarkRun, environment: dict[str, str], url: str, shape: str, seconds: float, *, bare: bool
) -> Run:
    """One run of `up` under load, checked to the last reading. `url` of its database; empty for the embedded one."""
    stations = bench.pick(STATIONS, STATIONS_QUICK)
    with running(*UP, environment=environment) as up, operator(up) as http:
        servers = bench.pids("postgres", "rabbitmq", "kafka", "redis") if url else embedded_pids(environment)
        fleet = ("--stations", str(stations), "--connectors", str(CONNECTORS))
        with ThreadPoolExecutor(1) as pool:
            began_s = time.perf_counter()
            options = (*SHAPES[shape], *fleet)
            loading = pool.submit(load, up.ready_line["api"], up.ready_line["device_token"], *options, seconds=seconds)
            before = wait_stored(http, bench.pick(stations * CONNECTORS, 1), loading)
            opened_s, meter = time.perf_counter(), CpuMeter({"gateway": up.pid, **servers})
            report = loading.result()
        sent = int(report["acknowledged"])
        wait_closed(http, sent)
        measured_s = time.perf_counter() - opened_s
        spent = format_times(meter.spent_s())
        assert report["unacknowledged"] == 0, "every request must be answered 202"
        check_ledger(http, sent)
        check_live(http, min(sent, stations * CONNECTORS))
        url = url or running_url(Path(environment["VOLTSTREAM_DATA_DIR"])) or ""
        check_rows(url, sent)
        copied = bare_copy(bench, url) if bare else 0.0
    return Run(
        committed_per_s=(sent - before) / measured_s,
        opening_s=opened_s - began_s,
        accepted_per_s=report["readings_per_s"],
        latency_ms_p99=report["latency_ms_p99"],
        spent=spent,
        copy_per_s=copied,
    )


def embedded_pids(environment: dict[str, str]) -> dict[str, int]:
    """The process id of the embedded server, which is not a child of the process that started it."""
    (file,) = Path(environment["VOLTSTREAM_DATA_DIR"]).rglob("postmaster.pid")
    return {"postgres": int(file.read_text().split()[0])}


def operator(up: RunningService) -> httpx.Client:
    """An HTTP client with an operator's token."""
    headers = {"Authorization": f"Bearer {up.ready_line['operator_token']}"}
    return httpx.Client(base_url=up.ready_line["api"], headers=headers, timeout=60, trust_env=False)


def ledger(http: httpx.Client) -> dict[str, Any]:
    """The ledger's totals."""
    total: dict[str, Any] = msgspec.json.decode(http.get("/api/v1/telemetry/ledger").content)["total"]
    return total


def wait_stored(http: httpx.Client, readings: int, loading: "Future[dict[str, float]]") -> int:
    """Wait until `readings` are stored; returns their number. Raises the load's error, or if it ended too early."""
    deadline = Deadline(f"{readings} readings stored")
    while (stored := int(ledger(http)["stored"])) < readings:
        deadline.check()
        assert not loading.done(), f"the load sent too little: {loading.result()}, {stored} of {readings} stored"
        time.sleep(POLL_S)
    return stored


def wait_closed(http: httpx.Client, sent: int) -> None:
    """Wait until nothing is in flight. A gateway reports what it accepted up to a tenth of a second later."""
    deadline = Deadline("the ledger to close")
    while not ((total := ledger(http))["closed"] and total["accepted"] >= sent):
        deadline.check()
        time.sleep(POLL_S)


def check_ledger(http: httpx.Client, sent: int) -> None:
    """Every reading answered with 202 is stored once."""
    total = ledger(http)
    expected = {"accepted": sent, "stored": sent, "duplicate": 0, "quarantined": 0, "in_flight": 0, "closed": True}
    assert {name: total[name] for name in expected} == expected, f"{sent} sent, the ledger says {total}"


def check_live(http: httpx.Client, connectors: int) -> None:
    """The live view shows every connector that sent a reading."""
    deadline = Deadline(f"{connectors} connectors in the live view", 60)
    while (shown := live_connectors(http)) < connectors:
        deadline.check()
        time.sleep(POLL_S)
    assert shown == connectors, f"{connectors} connectors sent readings, the live view shows {shown}"


def live_connectors(http: httpx.Client) -> int:
    """Number of connectors in the live view."""
    total = msgspec.json.decode(http.get("/api/v1/telemetry/live", params={"limit": 1}).content)["total"]
    return int(total["connectors"])
