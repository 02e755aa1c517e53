"""Tools that check what is deployed."""

import shutil
import subprocess
from pathlib import Path
from typing import Final

import pytest

ENOUGH_S: Final = 120.0  # a bound against hanging, never an expectation of speed


def run_tool(name: str, *arguments: str | Path) -> str:
    """Its output. Fails where it does; skips the test where it is not installed."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed: python -m deploy.servers install")
    done = subprocess.run([found, *arguments], capture_output=True, text=True, timeout=ENOUGH_S, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
