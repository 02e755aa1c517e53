"""Hypothesis: chargers speak singly, so what a frame costs matters more than what a reading does. A frame of one
reading costs the worker a few attribute reads; decoding, the step and the commit are paid by the flush and the reading.

Measured: as in the `worker` stage, `voltstream worker` drains a prefilled topic, with frames of 1,000, 100, 10 and 1
readings, in records as the bridge makes them of what waits. Limits: bare COPY of the same rows; the rate at full
frames.
Rival: a loop written by hand (benchmarks/rivals/by_hand.py) over one JSON message a reading, raw rows and windows.
"""

import asyncio
from typing import Final

from benchmarks.bare_copy import bare_copy
from benchmarks.committed import check_rows, drain
from benchmarks.processes import CpuMeter, format_times, running
from benchmarks.readings import FrameGenerator
from benchmarks.report import Result, phase
from benchmarks.run import PARTITIONS, BenchmarkRun
from benchmarks.stages.worker import produce
from kit.clock import SystemClock

# Readings a frame: connectors, seconds, and the share of the rate at full frames that is wanted.
SIZES: Final = {1_000: (10_000, 200), 100: (10_000, 100), 10: (10_000, 40), 1: (10_000, 12)}
SIZES_QUICK: Final = {1_000: (400, 10), 1: (400, 3)}
WANTED: Final = {1_000: 0.4, 100: 0.8, 10: 0.5, 1: 0.1}  # of bare COPY; the others of the first
_BEFORE_S: Final = 60


def run(bench: BenchmarkRun) -> list[Result]:
    """The `frame_sizes` stage."""
    results: list[Result] = []
    full = bare = 0.0
    for readings, (connectors, seconds) in (SIZES_QUICK if bench.quick else SIZES).items():
        with bench.database() as url:
            rate, note = _drain(bench, url, readings, connectors, seconds)
            if not results:
                with phase(bench.console, "frame_sizes: bare COPY"):
                    full, bare = rate, bare_copy(bench, url)
        limit = bare if readings == 1_000 else full
        result = Result(
            f"frames of {readings}: Kafka to committed", rate, "readings/s", WANTED[readings] * limit, note=note
        ).compare("bare COPY of the same rows", bare)
        results.append(result if readings == 1_000 else result.compare("frames of 1,000", full))
    return results


def _drain(bench: BenchmarkRun, url: str, readings: int, connectors: int, seconds: int) -> tuple[float, str]:
    start_ms = SystemClock().now_ms() - (seconds + _BEFORE_S) * 1_000
    generators = [
        FrameGenerator(connectors // PARTITIONS, partition, start_ms=start_ms, frame_readings=readings)
        for partition in range(PARTITIONS)
    ]
    kafka, environment = bench.fresh_log(), bench.environment(url)
    asyncio.run(produce(kafka, generators, 1))
    with running("voltstream", "worker", "--json", "--port", "0", environment=environment):
        drain(url, connectors)
    with phase(bench.console, f"frame_sizes: filling Kafka with frames of {readings}"):
        asyncio.run(produce(kafka, generators, seconds))
    with (
        phase(bench.console, f"frame_sizes: draining frames of {readings}"),
        running("voltstream", "worker", "--json", "--port", "0", environment=environment) as worker,
    ):
        meter = CpuMeter({"worker": worker.pid, **bench.pids("postgres", "kafka", "redis")})
        rate = drain(url, connectors * (seconds + 1))
        spent_s = meter.spent_s()
        memory_mb = worker.rss_bytes() / 1e6
    check_rows(url, connectors * (seconds + 1))
    frame_us = spent_s["worker"] / (connectors * seconds / readings) * 1e6
    return rate, (
        f"{frame_us:.0f} us of the worker a frame, {frame_us / readings:.1f} a reading; memory {memory_mb:.0f} MB; "
        f"processor seconds: {format_times(spent_s)}"
    )
