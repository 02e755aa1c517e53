"""The stage `day` in small: every reading of the day is stored, and its figures are there."""

import json
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.usefixtures("processes")
def test_every_reading_of_a_small_day_is_stored(tmp_path: Path) -> None:
    """In a process of its own: a run of the benchmarks removes the servers' folder of its process at its end."""
    written = tmp_path / "day.json"
    command = [sys.executable, "-m", "benchmarks", "day", "--quick", "--json", str(written)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    results = json.loads(written.read_text("utf-8"))
    assert len(results) == 6
    assert all(result["value"] > 0 for result in results[1:])  # the memory of so few may come from what was free
