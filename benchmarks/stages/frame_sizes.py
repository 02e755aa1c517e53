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
from benchmarks.processes import CpuMeter, format_times, metric, running
from benchmarks.readings import FrameGenerator
from benchmarks.report import Result, phase
from benchmarks.rivals.by_hand import measure as measure_by_hand
from benchmarks.run import PARTITIONS, BenchmarkRun
from benchmarks.stages.worker import produce
from kit.clock import SystemClock

# Readings a frame: connectors, seconds. And the share of the rate that is wanted, of bare COPY for full frames, of the
# rate at full frames for the others.
SIZES: Final = {1_000: (10_000, 100), 100: (10_000, 100), 10: (10_000, 60), 1: (10_000, 30)}
SIZES_QUICK: Final = {1_000: (400, 10), 1: (400, 3)}
WANTED: Final = {1_000: 0.4, 100: 0.8, 10: 0.5, 1: 0.1}
BY_HAND_READINGS, BY_HAND_READINGS_QUICK = 1_000_000, 60_000
_BEFORE_S: Final = 60


def run(bench: BenchmarkRun) -> list[Result]:
    """The `frame_sizes` stage."""
    sizes = SIZES_QUICK if bench.quick else SIZES
    found: dict[int, tuple[float, str]] = {}
    bare = 0.0
    for readings, (connectors, seconds) in sizes.items():
        with bench.database() as url:
            found[readings] = _drain(bench, url, readings, connectors, seconds)
            if not bare:
                with phase(bench.console, "frame_sizes: bare COPY"):
                    bare = bare_copy(bench, url)
    with phase(bench.console, "frame_sizes: a loop written by hand"), bench.database() as url:
        count = bench.pick(BY_HAND_READINGS, BY_HAND_READINGS_QUICK)
        by_hand = measure_by_hand(bench.fresh_log(), url, count)
    full = found[1_000][0]
    return [
        Result(
            f"frames of {readings}: Kafka to committed",
            rate,
            "readings/s",
            WANTED[readings] * (bare if readings == 1_000 else full),
            note=note,
        )
        .compare("frames of 1,000", full)
        .compare("bare COPY of the same rows", bare)
        .compare("a loop written by hand, a JSON message a reading", by_hand)
        for readings, (rate, note) in found.items()
    ]


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
        flushes = metric(worker, "streams_flush_seconds_count", stage="commit")
    check_rows(url, connectors * (seconds + 1))
    frame_us = spent_s["worker"] / (connectors * seconds / readings) * 1e6
    return rate, (
        f"{frame_us:.0f} us of the worker a frame, {frame_us / readings:.1f} a reading; {flushes:.0f} flushes; "
        f"memory {memory_mb:.0f} MB; "
        f"processor seconds: {format_times(spent_s)}"
    )
