"""Hypothesis: ten thousand connections cost memory, not time: a post costs what it costs on 64, and its 202 comes after
the linger (20 ms at most) and a broker's confirm. Of what follows, a frame's fixed costs are shared by few readings.

Measured: `voltstream up` with all four URLs; 10,000 kept-alive connections (`clients/many_connections.py`, a process
of its own) post one reading each every 10 s, and in a second run every second. The p99 of the 202, from when a post was
due; and the processor time of all processes but the load's, a reading, from when all sessions are open until the last
reading is committed. Limit: none of ours; compare `live`, the same readings in batches of 100.
"""

import json
import os
import subprocess
import sys

from benchmarks.processes import CpuMeter, format_times, running
from benchmarks.report import Result, phase
from benchmarks.run import BenchmarkRun
from benchmarks.stages.end_to_end import PARTITIONS, UP, check_ledger, ledger, operator, wait_closed

CONNECTIONS, CONNECTIONS_QUICK = 10_000, 100
PERIODS_S, PERIOD_S_QUICK = (10, 1), 1
PERIODS_MEASURED, PERIODS_MEASURED_QUICK = 20, 3
SECONDS_MAX = 40  # of a run
WARM_UP_S, WARM_UP_S_QUICK = 10, 1  # at least one period: sessions of all connectors open; not measured


def run(bench: BenchmarkRun) -> list[Result]:
    """The `connections` stage."""
    results = []
    for period_s in PERIODS_S if not bench.quick else (PERIOD_S_QUICK,):
        bench.fresh_log(PARTITIONS)
        with bench.database(PARTITIONS) as url, phase(bench.console, f"connections: a reading every {period_s} s"):
            results += measure(bench, bench.environment(url, PARTITIONS), period_s)
    return results


def measure(bench: BenchmarkRun, environment: dict[str, str], period_s: int) -> list[Result]:
    """p99 of the 202, and processor time a reading."""
    connections, warm_up_s = bench.pick(CONNECTIONS, CONNECTIONS_QUICK), bench.pick(WARM_UP_S, WARM_UP_S_QUICK)
    seconds = min(bench.pick(PERIODS_MEASURED, PERIODS_MEASURED_QUICK) * period_s, SECONDS_MAX)
    with running(*UP, environment=environment) as up, operator(up) as http:
        meter = CpuMeter({"gateway": up.pid, **bench.pids("postgres", "rabbitmq", "kafka", "redis")})
        arguments = (up.ready_line["api"], connections, period_s, max(warm_up_s, period_s), seconds)
        process = subprocess.Popen(  # noqa: S603  # our own module, no input from outside
            [sys.executable, "-m", "benchmarks.clients.many_connections", *map(str, arguments)],
            env=os.environ | {"VOLTSTREAM_DEVICE_TOKEN": up.ready_line["device_token"]},
            stdout=subprocess.PIPE,
            text=True,
        )
        with process, process.stdout as lines:  # type: ignore[union-attr]  # a pipe
            lines.readline()  # the warm-up is over
            stored, before_s = int(ledger(http)["stored"]), meter.spent_s()
            last = lines.readline()
        if not last:
            raise RuntimeError(f"the load ended with {process.returncode}")
        report = json.loads(last)
        sent = int(report["posted"])
        wait_closed(http, sent)
        spent_s = {name: spent - before_s.get(name, 0.0) for name, spent in meter.spent_s().items()}
        if not report["repeated"]:
            check_ledger(http, sent)
        rss_mb = up.rss_bytes() / 1e6
    readings = sent - stored
    name = f"{connections:,} connections, a reading every {period_s} s"
    note = (
        f"{connections / period_s:,.0f} readings/s offered for {seconds} s, answered {report['drain_s']:.1f} s after "
        f"the last; {report['repeated']} sent again; p50 {report['latency_ms_p50']:.0f} ms, max "
        f"{report['latency_ms_max']:.0f} ms; the gateway's process has {rss_mb:.0f} MB"
    )
    times = f"processor seconds for {readings:,} readings: {format_times(spent_s)}"
    return [
        Result(f"{name}: 202, p99", report["latency_ms_p99"], "ms", None, higher_is_better=False, note=note),
        Result(
            f"{name}: processor time", sum(spent_s.values()) / readings * 1e6, "us a reading", None,
            higher_is_better=False, note=times,
        ),
    ]  # fmt: skip
