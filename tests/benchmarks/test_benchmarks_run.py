"""All benchmark stages run and pass their own checks. Their figures are not checked here."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.stages.storage import BOLITE
from tests.private_servers import PrivateServers

pytestmark = pytest.mark.usefixtures("processes")

FIGURES = {
    "kernels": 1,
    "cost": 1,
    "repricing": 2,
    "invoices": 3,
    "export": 4,
    "reservations": 1,
    "notifications": 2,
    "reports": 8,
    "gateway": 4,
    "connections": 2,
    "fairness": 2,
    "worker": 1,
    "frame_sizes": 2,
    "flush": 4,
    "search": 3,
    "end_to_end": 1,
    "embedded": 1,
    "live": 6,
    "idle": 2,
    "memory": 2,
    "storage": 4 if BOLITE.exists() else 2,
}


def test_every_stage_gives_its_figures(running_servers: PrivateServers, tmp_path: Path) -> None:
    """In a process of its own with servers of its own; `running_servers` skips if servers are not available."""
    written = tmp_path / "bench.json"
    command = [sys.executable, "-m", "benchmarks", "--quick", "--json", str(written)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    results = json.loads(written.read_text())
    assert len(results) == sum(FIGURES.values())
    for result in results:
        assert result.keys() >= {"stage", "value", "unit", "target", "beside"}
        silence = result["unit"] == "% of a core"  # in a second it may cost less than the clock can tell
        assert result["value"] > 0 or (silence and result["value"] == 0), result["stage"]
        assert all(side.keys() == {"name", "value", "ratio"} and side["value"] > 0 for side in result["beside"])
