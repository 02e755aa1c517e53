"""Hypothesis: a worker holds ~120 MB of Python, Arrow, numpy and Faust, and ~1 kB of columns per connector (dedupe
bitmap, open and last sessions, running energy, live values), however much it has processed.

Measured: resident memory of `voltstream worker` (Faust, Kafka, PostgreSQL, Redis) after each of 10,000, and then of
100,000, connectors has sent ten readings and all is committed, 10,000 new connectors at a time; base and bytes per
connector follow from the two. Memory of a burst is included as far as the allocator keeps it.
"""

import asyncio
import time
from typing import Final

from benchmarks.committed import drain
from benchmarks.processes import RunningService, running
from benchmarks.readings import FrameGenerator
from benchmarks.report import Result, phase
from benchmarks.run import PARTITIONS, BenchmarkRun
from benchmarks.stages.worker import produce
from kit.clock import SystemClock
from kit.memory_tuning import TRIM_S

FEW, FEW_QUICK = 10_000, 400
MANY, MANY_QUICK = 100_000, 2_000
ROUNDS, ROUNDS_QUICK = 10, 2
MB: Final = 1e6
BASE_MB: Final = 200.0
CONNECTOR_MB: Final = 1e-3
_BEFORE_S: Final = 60  # the first reading's age
# The live view's documents of the last flush are built after its commit; freed memory is returned every TRIM_S.
_SETTLE_S: Final = TRIM_S + 2.0


def run(bench: BenchmarkRun) -> list[Result]:
    """The `memory` stage."""
    kafka = bench.fresh_log()
    few, many = bench.pick(FEW, FEW_QUICK), bench.pick(MANY, MANY_QUICK)
    rounds = bench.pick(ROUNDS, ROUNDS_QUICK)
    with (
        bench.database() as url,
        phase(bench.console, "memory"),
        running("voltstream", "worker", "--json", "--port", "0", environment=bench.environment(url)) as worker,
    ):
        few_mb = _after(kafka, url, worker, range(0, few, few), rounds)
        many_mb = _after(kafka, url, worker, range(few, many, few), rounds)
    connector_mb = (many_mb - few_mb) / (many - few)
    note = f"base {few_mb - few * connector_mb:.0f} MB, {connector_mb * 1e6:.0f} bytes a connector"
    return [
        Result(
            f"memory of a worker, {count:,} connectors", mb, "MB", BASE_MB + CONNECTOR_MB * count,
            higher_is_better=False, note=note,
        )
        for count, mb in ((few, few_mb), (many, many_mb))
    ]  # fmt: skip


def _after(kafka: str, url: str, worker: RunningService, connectors: range, rounds: int) -> float:
    """Resident MB after these connectors, `step` at a time, have sent readings and all are stored."""
    for first in connectors:
        start_ms = SystemClock().now_ms() - _BEFORE_S * 1_000
        generators = [
            FrameGenerator(
                connectors.step // PARTITIONS, p, f"{first:08x}{p:08x}", prefix=f"C{first}", start_ms=start_ms
            )
            for p in range(PARTITIONS)
        ]
        asyncio.run(produce(kafka, generators, rounds))
        drain(url, (first + connectors.step) * rounds)
    time.sleep(_SETTLE_S)
    return worker.rss_bytes() / MB
