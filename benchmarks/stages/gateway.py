"""Hypothesis: for a batch of 100 readings, most of the gateway's time is decoding JSON and building columns; HTTP, the
frame and the broker's confirm are paid once per batch or frame. A single reading costs little more than its request.

Measured: `voltstream gateway` in a process of its own, private RabbitMQ (quorum queues, confirms), PostgreSQL for the
tokens, Redis for the ledger; load from simulator/load/load.py in another process. Readings (or requests) per
second of the gateway's own processor time, because broker and load share the two cores. Limits: admission and msgspec
alone on the same bodies; the same server answering 202 without reading.
"""

import statistics
import time
from collections.abc import Callable
from itertools import islice
from typing import NamedTuple

import msgspec

from benchmarks.partial_gateway import TOKEN
from benchmarks.processes import RunningService, load, running
from benchmarks.report import Result, phase
from benchmarks.run import BenchmarkRun, issue_token
from ingest.admission import AdmissionRules, WireReading, admit_json
from kit.clock import SystemClock
from simulator.load.bodies import LoadSpec, bodies

BATCH = 100
SECONDS, SECONDS_QUICK = 6, 1
REPEATS, REPEATS_QUICK = 5, 1
BODIES, BODIES_QUICK = 2_000, 100
_YEAR_MS = 366 * 86_400_000


class Throughput(NamedTuple):
    """Items per second of the server's own processor time and by the wall clock, and the latency of a 202."""

    per_core: float
    wall: float
    latency_ms_p50: float
    latency_ms_p99: float


def run(bench: BenchmarkRun) -> list[Result]:
    """The `gateway` stage."""
    with bench.database() as url:
        bench.fresh_log()
        token, environment = issue_token(url, "device"), bench.environment(url)
        with running("voltstream", "gateway", "--json", "--port", "0", environment=environment) as gateway:
            with phase(bench.console, "gateway: batches, RabbitMQ behind"):
                batches = measure(bench, gateway, token, BATCH, "--connections", "32", "--pipeline", "1")
            bench.drop_queues()
            with phase(bench.console, "gateway: single readings, RabbitMQ behind"):
                singles = measure(bench, gateway, token, 1, "--connections", "64", "--pipeline", "1")
        bench.drop_queues()
    with (
        running("benchmarks.partial_gateway", "log", environment={}) as gateway,
        phase(bench.console, "gateway: no broker"),
    ):
        inside = measure(bench, gateway, TOKEN, BATCH, "--connections", "32", "--pipeline", "1")
        singles_inside = measure(bench, gateway, TOKEN, 1, "--connections", "64", "--pipeline", "1")
    with (
        running("benchmarks.partial_gateway", "nothing", environment={}) as server,
        phase(bench.console, "gateway: nothing"),
    ):
        nothing = measure(bench, server, TOKEN, 1, "--connections", "64", "--pipeline", "1", checked=False)
    with phase(bench.console, "gateway: decoding"):
        admission, typed = decoding(bench)
    return [
        Result("gateway: JSON batches of 100", batches.per_core, "readings/s/core", 150e3, note=_latency(batches))
        .compare("decoding alone (msgspec, typed)", typed)
        .compare("admission alone", admission)
        .compare("the same on the in-process log", inside.per_core)
        .compare("by the wall clock, load and broker on the same cores", batches.wall),
        Result("gateway: single readings", singles.per_core, "requests/s/core", 3e3, note=_latency(singles))
        .compare("the same server answering 202 to nothing", nothing.per_core)
        .compare("the same on the in-process log", singles_inside.per_core)
        .compare("by the wall clock, load and broker on the same cores", singles.wall),
    ]


def measure(
    bench: BenchmarkRun, server: RunningService, token: str, batch: int, *options: str, checked: bool = True
) -> Throughput:
    """Median of several load runs, after one warm-up run."""
    seconds = bench.pick(SECONDS, SECONDS_QUICK)
    runs = []
    warm_up = bench.pick(1, 0)
    for turn in range(bench.pick(REPEATS, REPEATS_QUICK) + warm_up):
        options_all = ("--batch", str(batch), "--prefix", f"B{batch}T{turn}", *options)
        before_s = server.cpu_s()
        report = load(server.ready_line["url"], token, *options_all, seconds=seconds)
        spent_s = server.cpu_s() - before_s
        assert not checked or report["unacknowledged"] == 0, "every request must be answered 202"
        assert not checked or report["quarantined"] == 0, "every reading must pass"
        done = report["acknowledged"]
        latencies_ms = report["latency_ms_p50"], report["latency_ms_p99"]
        runs.append(Throughput(done / spent_s, report["readings_per_s"], *latencies_ms))
    return Throughput(*map(statistics.median, zip(*runs[warm_up:], strict=True)))


def decoding(bench: BenchmarkRun) -> tuple[float, float]:
    """Readings per second of processor time: admission, and msgspec into the same typed structs."""
    clock = SystemClock()
    spec = LoadSpec("http://127.0.0.1", "", 1, batch=BATCH)
    made = list(islice(bodies(spec, clock), bench.pick(BODIES, BODIES_QUICK)))
    rules = AdmissionRules(clock.now_ms(), _YEAR_MS, _YEAR_MS, BATCH)
    decoder = msgspec.json.Decoder(list[WireReading])
    assert sum(admit_json(body, rules).accepted for body in made) == BATCH * len(made), "every reading must pass"
    return _rate(made, lambda body: admit_json(body, rules)), _rate(made, decoder.decode)


def _rate(made: list[bytes], work: Callable[[bytes], object]) -> float:
    rates = []
    for _ in range(5):
        began_s = time.process_time()
        for body in made:
            work(body)
        rates.append(len(made) * BATCH / (time.process_time() - began_s))
    return statistics.median(rates)


def _latency(throughput: Throughput) -> str:
    return f"latency p50 {throughput.latency_ms_p50:.0f} ms, p99 {throughput.latency_ms_p99:.0f} ms at that load"
