"""Hypothesis: for a batch of 100 readings, most of the gateway's time is decoding JSON and building columns; HTTP, the
frame and the broker's confirm are paid once per batch or frame. A single reading costs what HTTP costs: about as much
again for its decoding, columns and share of a frame as a bare ASGI function costs by its task and its awaits.

Measured: `voltstream gateway` in a process of its own, private RabbitMQ (quorum queues, confirms), PostgreSQL for the
tokens, Redis for the ledger; load in another process, of batches from simulator/load/load.py, of single readings by wrk
(64 kept-alive connections; `clients/single_posts.py`). Readings (or requests) per second of the gateway's own
processor time, because broker and load share the two cores. Limits: admission and msgspec alone on the same bodies; the
least that a server can be (`benchmarks/bare_http.py`), measured in turns with the gateway.
"""

import statistics
import time
from collections.abc import Callable, Sequence
from itertools import islice
from typing import NamedTuple

import msgspec

from benchmarks.clients.single_posts import post_singles
from benchmarks.gateway_alone import TOKEN
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
    with (
        running("benchmarks.gateway_alone", environment={}) as alone,
        running("benchmarks.bare_http", "asgi", environment={}) as asgi,
        running("benchmarks.bare_http", "protocol", environment={}) as protocol,
        bench.database() as url,
    ):
        bench.fresh_log()
        token, environment = issue_token(url, "device"), bench.environment(url)
        with running("voltstream", "gateway", "--json", "--port", "0", environment=environment) as gateway:
            with phase(bench.console, "gateway: batches, RabbitMQ behind"):
                batches = measure(bench, gateway, token, BATCH, "--connections", "32", "--pipeline", "1")
            bench.drop_queues()
            with phase(bench.console, "gateway: single readings"):
                servers = ((gateway, token), (alone, TOKEN), (asgi, TOKEN), (protocol, TOKEN))
                singles, singles_alone, bare_asgi, bare_protocol = measure_singles(bench, servers)
        bench.drop_queues()
        with phase(bench.console, "gateway: no broker"):
            inside = measure(bench, alone, TOKEN, BATCH, "--connections", "32", "--pipeline", "1")
    with phase(bench.console, "gateway: decoding"):
        admission, typed = decoding(bench)
    return [
        Result("gateway: JSON batches of 100", batches.per_core, "readings/s/core", 150e3, note=_latency(batches))
        .compare("decoding alone (msgspec, typed)", typed)
        .compare("admission alone", admission)
        .compare("the same on the in-process log", inside.per_core)
        .compare("by the wall clock, load and broker on the same cores", batches.wall),
        Result("gateway: single readings", singles.per_core, "requests/s/core", None, note=_latency(singles))
        .compare("the same on the in-process log", singles_alone.per_core)
        .compare("by the wall clock, load and broker on the same cores", singles.wall),
        _beside("a bare ASGI function under the same uvicorn", singles, singles_alone, bare_asgi, target=1 / 2),
        _beside("a bare httptools protocol", singles, singles_alone, bare_protocol, target=1 / 10),
    ]


def _beside(limit: str, singles: Throughput, alone: Throughput, bare: Throughput, target: float) -> Result:
    """Single readings as a share of what the bare server does."""
    result = Result(f"gateway: single readings, of {limit}", singles.per_core / bare.per_core, "of it", target)
    return result.compare("the same on the in-process log", alone.per_core / bare.per_core)


def measure_singles(bench: BenchmarkRun, servers: Sequence[tuple[RunningService, str]]) -> list[Throughput]:
    """Median of several runs for each server and its token, in turns, after one warm-up turn."""
    runs: list[list[Throughput]] = []
    warm_up = bench.pick(1, 0)
    for _ in range(bench.pick(REPEATS, REPEATS_QUICK) + warm_up):
        turn = []
        for server, token in servers:
            before_s = server.cpu_s()
            posted = post_singles(server.ready_line["url"], token, bench.pick(SECONDS, SECONDS_QUICK))
            spent_s = server.cpu_s() - before_s
            turn.append(
                Throughput(
                    posted.requests / spent_s, posted.requests_per_s, posted.latency_ms_p50, posted.latency_ms_p99
                )
            )
        runs.append(turn)
    return [
        Throughput(*map(statistics.median, zip(*of_server, strict=True)))
        for of_server in zip(*runs[warm_up:], strict=True)
    ]


def measure(bench: BenchmarkRun, server: RunningService, token: str, batch: int, *options: str) -> Throughput:
    """Median of several load runs, after one warm-up run."""
    seconds = bench.pick(SECONDS, SECONDS_QUICK)
    runs = []
    warm_up = bench.pick(1, 0)
    for turn in range(bench.pick(REPEATS, REPEATS_QUICK) + warm_up):
        options_all = ("--batch", str(batch), "--prefix", f"B{batch}T{turn}", *options)
        before_s = server.cpu_s()
        report = load(server.ready_line["url"], token, *options_all, seconds=seconds)
        spent_s = server.cpu_s() - before_s
        assert report["unacknowledged"] == 0, "every request must be answered 202"
        assert report["quarantined"] == 0, "every reading must pass"
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
