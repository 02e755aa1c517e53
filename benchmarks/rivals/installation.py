"""The virtual environment of the rivals that the product does not depend on: build/rivals-venv, kept between runs."""

import subprocess
import sys
from pathlib import Path
from typing import Final

REQUIREMENTS: Final = Path(__file__).with_name("requirements.txt")
VENV: Final = Path(__file__).resolve().parents[2] / "build" / "rivals-venv"
PYTHON: Final = str(VENV / "bin" / "python")
_LIMIT_S: Final = 1_800  # Pathway alone downloads 300 MB
_TAIL_BYTES: Final = 300
_VERSION: Final = "import importlib.metadata, sys; print(importlib.metadata.version(sys.argv[1]))"


def install() -> dict[str, str]:
    """Install each line of requirements.txt by itself; what failed, with the reason."""
    failed: dict[str, str] = {}
    if not Path(PYTHON).exists():
        _run(sys.executable, "-m", "venv", str(VENV))
    for line in REQUIREMENTS.read_text().splitlines():
        requirement = line.partition("#")[0].strip()
        if requirement and (reason := _install(requirement)):
            failed[requirement] = reason
    return failed


def version(python: str, distribution: str) -> str | None:
    """The installed version, or None."""
    if not Path(python).exists():
        return None
    done = _run(python, "-c", _VERSION, distribution)
    return done.stdout.strip() if done.returncode == 0 else None


def _install(requirement: str) -> str:
    """The reason if it failed, else nothing."""
    name, _, wanted = requirement.partition("==")
    if version(PYTHON, name.partition("[")[0]) == wanted:
        return ""
    try:
        done = _run(PYTHON, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", requirement)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return "" if done.returncode == 0 else done.stderr.strip()[-_TAIL_BYTES:]


def _run(*command: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=_LIMIT_S)  # noqa: S603  # our own commands
