"""`python -m benchmarks [STAGE …]`: run the stages, print the table, write build/bench.json."""

import argparse
import importlib
import sys
from pathlib import Path

from rich.console import Console

from benchmarks.report import Result, print_table, write_json

STAGES = ("kernels", "gateway", "worker", "end_to_end", "embedded", "live", "memory")


def main() -> int:
    """Exit status 0 whatever the figures are: a benchmark measures, it does not judge."""
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    parser.add_argument("stage", nargs="*", choices=[*STAGES, []], help="default: all")
    parser.add_argument("--json", type=Path, default=Path("build/bench.json"), help="where the list is written")
    arguments = parser.parse_args()
    console = Console(stderr=True)
    results: list[Result] = []
    for stage in arguments.stage or STAGES:
        results += importlib.import_module(f"benchmarks.{stage}").run(console)
    print_table(Console(), results)
    write_json(arguments.json, results)
    console.print(f"written: {arguments.json}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
