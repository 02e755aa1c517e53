"""The wheel: what `pip install voltstream` gives, in an environment and a folder that have nothing of this checkout."""

import json
import os
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# A bound against hanging, never an expectation of speed.
ENOUGH_S = 240.0
# What pip and this checkout's editable installation leave beside the locked packages.
_NOT_DEPENDENCIES = ("__editable__", "__pycache__", "voltstream-", "distutils-precedence.pth")

pytestmark = pytest.mark.usefixtures("processes")


def _run(*command: str | Path, cwd: Path) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("VOLTSTREAM_", "PYTHON"))}
    done = subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=ENOUGH_S, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from the tracked files alone."""
    source, made = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    _run("git", "checkout-index", "--all", f"--prefix={source}/", cwd=ROOT)
    _run(*_pip("wheel", "--no-build-isolation", "--wheel-dir", made, source), cwd=source)
    (found,) = made.glob("*.whl")
    return found


@pytest.fixture
def environment(tmp_path: Path, wheel: Path) -> Path:
    """A virtual environment with the locked packages and the wheel; returns its folder of commands."""
    _run(sys.executable, "-m", "venv", "--without-pip", tmp_path / "environment", cwd=tmp_path)
    commands = tmp_path / "environment" / "bin"
    _run(*_pip("install", wheel, python=commands / "python"), cwd=tmp_path)
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    packages = Path(_run(commands / "python", "-c", code, cwd=tmp_path).strip())
    for package in Path(sysconfig.get_path("purelib")).iterdir():
        there = packages / package.name
        if not package.name.startswith(_NOT_DEPENDENCIES) and not there.exists():
            there.symlink_to(package)
    return commands


def _pip(*arguments: str | Path, python: Path | None = None) -> list[str | Path]:
    where: list[str | Path] = [] if python is None else ["--python", python]
    command, *rest = arguments
    return [sys.executable, "-m", "pip", "--quiet", *where, command, "--no-deps", "--no-index", *rest]


def test_the_wheel_has_every_file_of_its_packages(wheel: Path) -> None:
    packed = set(zipfile.ZipFile(wheel).namelist())
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text())
    rooms = {name.rstrip("*") for name in pyproject["tool"]["setuptools"]["packages"]["find"]["include"]}
    tracked = _run("git", "ls-files", cwd=ROOT).splitlines()
    own = {name for name in tracked if name.partition("/")[0] in rooms and not name.endswith(".md")}
    assert own - packed == set()
    strangers = {name for name in packed - own if ".dist-info/" not in name}
    assert strangers == set()


def test_an_installed_platform_runs_in_an_empty_folder(environment: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    where = _run(environment / "python", "-c", "import kit, voltstream; print(kit.__file__)", cwd=empty)
    assert where.startswith(str(environment.parent))
    lines = _run(environment / "voltstream", "up", "--json", "--port", "0", "--stations", "3", "--for", "5s", cwd=empty)
    assert json.loads(lines.splitlines()[0])["api"].startswith("http://127.0.0.1:")
    assert [path.name for path in empty.iterdir()] == [".data"]
