"""Hypothesis: without brokers a reading costs the door's ~5 us and the worker's and database's ~5 us, but door and
worker share one process and so one interpreter lock: 80 k to 150 k readings/s.

Measured: `voltstream up` with nothing set: one process with gateway, in-process log, worker, live view and queries, and
the embedded PostgreSQL; a 202 is a commit. Load and checks as in end_to_end.
"""

from benchmarks.report import Result, phase
from benchmarks.session import Session
from benchmarks.stages.end_to_end import SECONDS_QUICK, SECONDS_SECOND, SHAPES, measure

SECONDS = 30


def run(session: Session) -> list[Result]:
    """The embedded stage."""
    results = []
    for number, shape in enumerate(list(SHAPES)[: session.pick(2, 1)]):
        with phase(session.console, f"embedded: {shape}"):
            seconds = session.pick(SECONDS if number == 0 else SECONDS_SECOND, SECONDS_QUICK)
            done = measure(session, session.alone(), "", shape, seconds, bare=False)
        result = Result(f"end to end, embedded: {shape}", done.committed_per_s, "readings/s", None if number else 80e3)
        result.note = f"202 (committed) {done.note}"
        results.append(result)
    return results
