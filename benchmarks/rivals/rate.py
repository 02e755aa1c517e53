"""The rate of a rival that says it itself, in a process of its own with our own interpreter."""

import json
import subprocess
import sys
from typing import Final

_LIMIT_S: Final = 300


def rate_of(module: str, *arguments: str) -> float:
    """Readings per second, which that module of this folder prints at last. Raises CalledProcessError."""
    command = [sys.executable, "-m", f"benchmarks.rivals.{module}", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=_LIMIT_S)  # noqa: S603  # our own command
    rate: float = json.loads(done.stdout.splitlines()[-1])["readings_per_s"]
    return rate
