"""Good and hostile clients on one platform: `python -m tests.proof.soak --seconds 600 --seed 1`.

Prints what the platform used and how long good clients waited, by thirds of the time, and how each attack was answered;
the exit code is 1 where something was lost, answered with an error of ours, or where the last third is not as the
second was (`FLAT`).
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

from tests.proof.soak.running import soak


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="voltstream-soak-") as folder:
        found = soak(arguments.seconds, arguments.seed, Path(folder))
    wrong = [*found.violations, *found.not_flat()]
    if arguments.json:
        print(json.dumps({**vars(found), "not_flat": found.not_flat()}))
    else:
        print(found.table(), *wrong, sep="\n")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
