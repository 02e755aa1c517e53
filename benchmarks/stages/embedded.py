"""Hypothesis: without brokers a reading costs ~5 us in the gateway and ~5 us in worker and database, but gateway and
worker share one process and so one interpreter lock: 80 k to 150 k readings/s.

Measured: `voltstream up` without any URL: one process with gateway, in-process log, worker, live view and queries, and
the embedded PostgreSQL; a 202 is a commit. Load and checks as in end_to_end.
"""

from benchmarks.report import Result, phase
from benchmarks.run import BenchmarkRun
from benchmarks.stages.end_to_end import SECONDS_QUICK, SECONDS_SECOND, SHAPES, measure

SECONDS = 30


def run(bench: BenchmarkRun) -> list[Result]:
    """The `embedded` stage."""
    results = []
    for number, shape in enumerate(list(SHAPES)[: bench.pick(2, 1)]):
        with phase(bench.console, f"embedded: {shape}"):
            seconds = bench.pick(SECONDS if number == 0 else SECONDS_SECOND, SECONDS_QUICK)
            done = measure(bench, bench.alone(), "", shape, seconds, bare=False)
        result = Result(f"end to end, embedded: {shape}", done.committed_per_s, "readings/s", None if number else 80e3)
        result.note = f"202 (committed) {done.note}"
        results.append(result)
    return results
