"""`python -m benchmarks [STAGE …]`: runs the stages, prints the table, writes build/bench.json."""

import argparse
import importlib
import signal
import sys
from pathlib import Path

from rich.console import Console

from benchmarks.report import Result, print_table, write_json
from benchmarks.run import BenchmarkRun
from deploy.servers import ServerError

MONEY = ("cost", "repricing", "invoices", "export")
GATEWAY = ("gateway", "connections", "fairness")
WORKER = ("worker", "frame_sizes", "flush")
SERVICES = ("search", "reservations", "notifications", "reports")
STAGES = (
    "kernels",
    *MONEY,
    *SERVICES,
    *GATEWAY,
    *WORKER,
    "end_to_end",
    "embedded",
    "live",
    "idle",
    "memory",
    "storage",
)
BY_NAME = ("rivals", "day")  # the one downloads, the other takes long: only if asked for


def main() -> int:
    """Exit status 0 whatever the figures are; 1 if a stage could not run."""
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    parser.add_argument(
        "stage", nargs="*", choices=[*STAGES, *BY_NAME, []], help=f"default: all but {', '.join(BY_NAME)}"
    )
    parser.add_argument("--json", type=Path, default=Path("build/bench.json"), help="where the results are written")
    parser.add_argument("--quick", action="store_true", help="as small as possible: the figures mean nothing")
    arguments = parser.parse_args()
    console = Console(stderr=True)
    results: list[Result] = []
    failed = 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # or the servers would outlive us
    with BenchmarkRun(console, quick=arguments.quick) as bench:
        for stage in arguments.stage or STAGES:
            try:
                results += importlib.import_module(f"benchmarks.stages.{stage}").run(bench)
                write_json(arguments.json, results)  # a later failure must not lose these figures
            except ServerError as error:
                failed = 1
                console.print(f"{stage}: {error}", markup=False)
    print_table(Console(width=None if sys.stdout.isatty() else 150), results)
    write_json(arguments.json, results)
    console.print(f"written: {arguments.json}")
    return failed


if __name__ == "__main__":
    sys.exit(main())
