"""Hypothesis: chargers that say nothing cost nothing: no flush without frames or something due, no poll of the database
but a few a second, no document made anew.

Measured: 10,000 connectors each send one reading; once all is committed, windows and outbox included, nothing is sent
any more. Processor time over half a minute as a share of one core: of `voltstream up` with its embedded PostgreSQL;
of our own processes with RabbitMQ, Kafka, PostgreSQL and Redis. What the servers spend is in the note.
"""

import time
from typing import Final

from benchmarks.processes import CpuMeter, load, running
from benchmarks.report import Result, phase
from benchmarks.run import BenchmarkRun
from benchmarks.stages.end_to_end import PARTITIONS, UP, embedded_pids, operator, wait_closed

CONNECTORS, CONNECTORS_QUICK = 10_000, 200
SECONDS, SECONDS_QUICK = 30.0, 1.0
SETTLE_S, SETTLE_S_QUICK = 90.0, 0.0  # the last windows are emitted 15 s after their minute
_SERVERS: Final = ("postgres", "rabbitmq", "kafka", "redis")


def run(bench: BenchmarkRun) -> list[Result]:
    """The `idle` stage."""
    with phase(bench.console, "idle: embedded"):
        embedded = _measure(bench, bench.alone(), (), 1.0)
    bench.fresh_log(PARTITIONS)
    with bench.database(PARTITIONS) as url, phase(bench.console, "idle: distributed"):
        distributed = _measure(bench, bench.environment(url, PARTITIONS), _SERVERS, 3.0)
    return [embedded, distributed]


def _measure(bench: BenchmarkRun, environment: dict[str, str], servers: tuple[str, ...], target: float) -> Result:
    connectors = bench.pick(CONNECTORS, CONNECTORS_QUICK)
    settle_s, seconds = (SETTLE_S_QUICK, SECONDS_QUICK) if bench.quick else (SETTLE_S, SECONDS)
    options = ("--rate", str(connectors), "--stations", str(connectors), "--connectors", "1")
    with running(*UP, environment=environment) as up, operator(up) as http:
        report = load(up.ready_line["api"], up.ready_line["device_token"], *options, seconds=1)
        wait_closed(http, int(report["acknowledged"]))
        time.sleep(settle_s)
        others = bench.pids(*servers) if servers else embedded_pids(environment)
        meter = CpuMeter({"up": up.pid, **others})
        time.sleep(seconds)
        shares = {name: spent_s / seconds * 100 for name, spent_s in meter.spent_s().items()}
    ours = sum(share for name, share in shares.items() if name not in servers)
    mode = "distributed" if servers else "embedded"
    note = ", ".join(f"{name} {share:.1f} %" for name, share in shares.items())
    return Result(f"idle, {mode}", ours, "% of a core", target, higher_is_better=False, note=note)
